"""Which sample a path in a table means: as it stands, or with other folders before it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from grafiqs.disk.names import key, shown, without_extension
from grafiqs.errors import RequestError

_LOOKED_AT = 1000
"""Paths that are looked at to see which folders stand before the others."""


class Names:
    """The samples of an evaluation by path, and by path without extension where that is one sample's alone.

    A table may name them with folders before that stand in every one of its paths, or without those that stand in every
    path here. A basename is not enough: two identities can both have 0001.jpg.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths: list[str] = []
        self._places: dict[str, int] = {}
        self._bare: dict[str, int | None] = {}
        self._root: tuple[str, ...] = ()
        """The folders that a table named before samples without any."""
        self._before: tuple[str, ...] = ()
        """The folders that stand before all of them."""
        for name in map(plain, paths):
            self._add(name)
        self._before = _common(self._places)

    def __len__(self) -> int:
        return len(self.paths)

    def places(self, paths: Sequence[str], what: str) -> NDArray[np.int64]:
        """The places (N,) of the samples that the paths of a table mean; those that are not here are added.

        Raises RequestError, with `what` the paths are of, when none is here, or two of them mean one sample.
        """
        every = list(dict.fromkeys(paths))
        names = dict(zip(every, map(plain, every), strict=True))
        change = self._change(list(names.values()), what)
        found: dict[str, int] = {}
        whose: dict[int, str] = {}
        for path, name in names.items():
            own = _changed(name, *change)
            known = self._place(own)
            place = self._add(own) if known is None else known
            other = whose.setdefault(place, own)
            if other != own and without_extension(own) not in (own, other):
                raise RequestError(
                    f"{what} names {shown(path)} and {shown(whose[place])}, and there is one such sample: "
                    f"{shown(self.paths[place])}"
                )
            found[path] = place
        return np.fromiter(map(found.__getitem__, paths), np.int64, len(paths))

    def below(self, places: Sequence[int]) -> list[str]:
        """The names of samples without extension, and without the folders that stand before all of these."""
        names = [self.paths[place] for place in places]
        out = len(_common(names))
        return [without_extension(_changed(name, out, "")) for name in names]

    def _add(self, name: str) -> int:
        place = self._places.setdefault(name, len(self.paths))
        if place == len(self.paths):
            self.paths.append(name)
            bare = without_extension(name)
            self._bare[bare] = None if bare in self._bare else place
        return place

    def _place(self, name: str) -> int | None:
        found = self._places.get(name)
        return found if found is not None else self._bare.get(without_extension(name))

    def _change(self, names: Sequence[str], what: str) -> tuple[int, str]:
        """How many folders are left out before the names of a table, and what stands there instead."""
        before = _common(names)
        some = names[:: max(1, len(names) // _LOOKED_AT)]
        best, most = (0, ""), 0
        ways = [(out, 0) for out in range(len(before) + 1)] + [(0, put) for put in range(1, len(self._before) + 1)]
        for out, put in ways:  # not both: another identity's folder is no other place of the same
            change = out, "".join(f"{folder}/" for folder in self._before[:put])
            known = sum(self._place(_changed(name, *change)) is not None for name in some)
            if known > most:
                best, most = change, known
        if not most:
            raise RequestError(
                f"{what} names none of the samples that are known: it names "
                f"{shown(names[0]) if names else 'nothing'}, and they are such as {shown(self.paths[0])}; folders may "
                "stand before the paths of one of them, if they are the same before all"
            )
        dropped = before[: best[0]]
        if dropped and not any("/" in name for name in self._places):
            self._root = self._root or dropped
            if self._root != dropped:
                raise RequestError(
                    f"{what} names samples in {shown('/'.join(dropped))}, and another table those in "
                    f"{shown('/'.join(self._root))}, and the samples have no folders: which are meant cannot be told"
                )
        return best


def _common(names: Iterable[str]) -> tuple[str, ...]:
    """The folders that stand before all names."""
    folders = {posixpath.dirname(name) for name in names}
    split = [folder.split("/") if folder else [] for folder in folders]
    return tuple(same[0] for same in takewhile(lambda level: len(set(level)) == 1, zip(*split, strict=False)))


def _changed(name: str, out: int, put: str) -> str:
    return put + (name.split("/", out)[out] if out else name)


def plain(path: str) -> str:
    """A path as those of tables are compared."""
    return posixpath.normpath(key(path.strip()).replace("\\", "/"))
