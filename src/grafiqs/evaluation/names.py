"""Which sample a path in a table means: as it stands, or without the folders that stand before it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from grafiqs.disk.names import key, shown, without_extension
from grafiqs.errors import RequestError

_LOOKED_AT = 1000
"""Paths that are looked at to see how many folders stand before."""


class Names:
    """The samples of an evaluation by path, and by path without extension where that is one sample's alone.

    Paths are relative to the data set. A basename is not enough: two identities can both have 0001.jpg.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self._places = {plain(path): place for place, path in enumerate(paths)}
        self._bare: dict[str, int | None] = {}
        for path, place in self._places.items():
            bare = without_extension(path)
            self._bare[bare] = None if bare in self._bare else place

    def __len__(self) -> int:
        return len(self.paths)

    def place(self, path: str, before: int = 0) -> int | None:
        """The place of the sample that a path means, `before` folders left out; None if there is none."""
        name = plain(path)
        if before:
            parts = name.split("/")
            name = "/".join(parts[before + (parts[0] == "") :])
        found = self._places.get(name)
        return found if found is not None else self._bare.get(without_extension(name))

    def before(self, paths: Iterable[str], what: str) -> int:
        """How many folders stand before the paths of a table: those with which most of them are known.

        Raises RequestError when none of them is, with `what` they are of.
        """
        some = list(paths)[:_LOOKED_AT]
        deepest = max((plain(path).count("/") for path in some), default=0)
        counts = [sum(self.place(path, before) is not None for path in some) for before in range(deepest + 1)]
        most = max(counts, default=0)
        if not most:
            first = shown(some[0]) if some else "nothing"
            raise RequestError(
                f"{what} names none of the samples that have scores: it names {first}, and they are such as "
                f"{shown(self.paths[0])}; paths are those of scores.csv, or end like them"
            )
        return counts.index(most)


def plain(path: str) -> str:
    """A path as those of tables are compared."""
    return posixpath.normpath(key(path.strip()).replace("\\", "/"))
