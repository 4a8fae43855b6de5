"""Which folders are the identities: one set of rules for folders and archives, on names alone."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from grafiqs.disk.names import extension, in_order, shown
from grafiqs.errors import RequestError

log = logging.getLogger(__name__)

_SYSTEM = frozenset(
    ("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "@tmp", "lost+found", "__MACOSX",
     "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder", "TheFindByContentFolder")
)  # fmt: skip
_WINDOWS = frozenset(("$RECYCLE.BIN", "RECYCLER", "SYSTEM VOLUME INFORMATION", "FOUND.000"))
"""Folders that storage boxes, Unix and macOS keep on a disk or in an archive; and those of Windows, in any case."""

_ANY_SYSTEM, _ANY_WINDOWS = ("|".join(map(re.escape, sorted(names))) for names in (_SYSTEM, _WINDOWS))
_ASIDE = re.compile(rf"(?:^|/)(?:\.|((?:{_ANY_SYSTEM})|(?i:{_ANY_WINDOWS}))(?:/|$))")
"""What begins a hidden part of a path, or is a folder of a system, which is its group."""

_SPLIT = re.compile(
    r"(?:train(?:ing)?|val(?:id(?:ation)?)?|dev(?:el(?:opment)?)?|test(?:ing)?|eval(?:uation)?|gallery|probe|query|"
    r"enrol(?:l|ment|lment)?|hold[-_ ]?out)(?:[-_ ]?(?:set|split|data|images?))?[-_ ]?\d*",
    re.IGNORECASE,
)
"""The names of splits."""

_LOOKED_AT = 100
"""Identities that are looked into, at most, for whether they hold folders alone."""


class Listing(NamedTuple):
    """What a folder holds directly: how many images, and the names of its folders, without those of systems."""

    images: int
    folders: tuple[str, ...]


class Tree(Protocol):
    """Folders in folders. A folder is its POSIX path with a slash at the end; the top is the empty text."""

    def listed(self, folder: str) -> Listing:
        """What lies directly in a folder, the folders in order."""
        ...

    def images(self, folder: str) -> Iterable[str]:
        """The images at any depth below a folder: POSIX paths inside it."""
        ...


@dataclass(frozen=True)
class Arrangement:
    """The identities of a tree: the folders in `parents`, all of which lie in `top`, or the one unnamed identity ("").

    Locations are relative to `top`. A name that occurs in several parents is one identity, whose samples' paths inside
    it begin with the parent, if more than one of these folders has samples. `ignored` counts images that lie above the
    identities, and `said` states how they were told where that could have been otherwise.
    """

    tree: Tree
    identities: tuple[str, ...]
    top: str = ""
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The parents of each identity, relative to the top, if there are several parents."""
    ignored: int = 0
    said: str = ""
    _located: dict[str, dict[str, str]] = field(default_factory=dict)

    def samples(self, identity: str) -> tuple[str, ...]:
        """The samples of one identity: POSIX paths inside it, in order."""
        if not identity:
            return in_order(self.tree.images(self.top))
        parents = self.parents.get(identity, ("",))
        if len(parents) == 1:
            return in_order(self.tree.images(f"{self.top}{parents[0]}{identity}/"))
        every = {parent: list(self.tree.images(f"{self.top}{parent}{identity}/")) for parent in parents}
        apart = sum(map(bool, every.values())) > 1
        located = {
            (parent if apart else "") + path: f"{parent}{identity}/{path}"
            for parent, paths in every.items()
            for path in paths
        }
        self._located[identity] = located
        return in_order(located)

    def location(self, identity: str, path: str) -> str:
        """Where a sample lies, relative to the top."""
        if not identity or not self.parents:
            return f"{identity}/{path}" if identity else path
        parents = self.parents[identity]
        if len(parents) == 1:
            return f"{parents[0]}{identity}/{path}"
        if identity not in self._located:
            self.samples(identity)
        return self._located[identity][path]


def is_system(folder: str) -> bool:
    """Whether a folder of this name is a system's, and no identity."""
    return folder in _SYSTEM or folder.upper() in _WINDOWS


def aside(path: str) -> re.Match[str] | None:
    """What hides a POSIX path: its first part that is hidden, or, as group 1, a folder of a system."""
    return _ASIDE.search(path)


def is_sample(path: str, extensions: frozenset[str]) -> bool:
    """Whether a POSIX path names an image by its extension, and leads through nothing hidden and no system's folder."""
    return extension(path) in extensions and aside(path) is None


def arranged(tree: Tree, place: Path, flat: bool = False, depth: int | None = None) -> Arrangement:
    """Tell which folders of a tree are identities; there are none if it holds no image.

    The folders at level `depth` below the top if that is given, 1 for those directly in it. Otherwise the folders
    directly in it, as a rule; but while all images lie in one folder, and that is no identity itself, as it has more
    folders of images than images, those in this folder; and if all are splits (train, val, ...), those in the splits.
    With `flat`, or if no folder holds an image, all is one unnamed identity.
    Raises RequestError when no folder of images is at that level.
    """
    return _Rules(tree, place).arranged(flat, depth)


class _Rules:
    """The rules at work on one tree; what was looked at is kept while they are."""

    def __init__(self, tree: Tree, place: Path) -> None:
        self.tree, self.place = tree, place
        self.listed = cache(tree.listed)
        self.holds = cache(self._holds)

    def arranged(self, flat: bool, depth: int | None) -> Arrangement:
        if not self.holds(""):
            return Arrangement(self.tree, ())
        if depth is not None:
            return self._at(depth)
        top = self._packed()
        if flat:
            return Arrangement(self.tree, ("",), top)
        if next(self._of_images(top), None) is None:
            empty = f"no folder in {self._shown(top)} holds an image: its images are one unnamed identity"
            return Arrangement(self.tree, ("",), top, said=empty if self.listed(top).folders else "")
        splits = self._splits(top)
        parents = self._inside(splits) if splits else [top]
        level = parents[0].count("/") + 1
        self._warn_of_folders(parents, level)
        said = ""
        if splits:
            names = _enumerated(shown(parent.removeprefix(top)[:-1]) for parent in parents)
            said = (
                f"the identities are the folders in {names}, splits of {self._shown(top)} (--identity-depth {level}); "
                f"--identity-depth {top.count('/') + 1} takes the splits as identities"
            )
        elif top:
            said = (
                f"the identities are the folders in {self._shown(top)} (--identity-depth {level}); "
                f"--identity-depth 1 takes {shown(top.partition('/')[0])} as one"
            )
        return self._in([top, *splits, *parents], parents, said)

    def _holds(self, folder: str) -> bool:
        """Whether a folder holds an image, at any depth; it does as a rule in its first folder at the latest."""
        images, folders = self.listed(folder)
        if images or (folders and self.listed(f"{folder}{folders[0]}/").images):
            return True
        return next(iter(self.tree.images(folder)), None) is not None

    def _packed(self, top: str = "") -> str:
        """The deepest folder that holds all images of one, and is no identity itself."""
        while not self.listed(top).images:
            inside = list(islice(self._of_images(top), 2))
            if len(inside) != 1 or not self._is_parent(inside[0]):
                break
            top = inside[0]
        return top

    def _of_images(self, folder: str) -> Iterator[str]:
        """The folders directly in one that hold images, at any depth."""
        every = (f"{folder}{name}/" for name in self.listed(folder).folders)
        return (inside for inside in every if self.holds(inside))

    def _is_parent(self, folder: str) -> bool:
        """Whether a folder holds identities rather than being one: more folders of images than images."""
        images, folders = self.listed(folder)
        return len(folders) > images and len(list(islice(self._of_images(folder), images + 1))) > images

    def _splits(self, top: str) -> list[str]:
        """The splits in a folder, if all its folders are splits of identities; a warning if it may be otherwise."""
        folders = self.listed(top).folders
        level = top.count("/") + 1
        place = self._shown(top)
        named = [f"{top}{name}/" for name in folders if _SPLIT.fullmatch(name)]
        if named and not any(self.holds(f"{top}{name}/") for name in folders if f"{top}{name}/" not in named):
            filled = [split for split in named if self.holds(split)]
            parents = [split for split in filled if self._is_parent(split)]
            if len(parents) == len(filled) > 1:
                return filled
            if parents:
                log.warning(
                    "warning: the folders in %s have the names of splits, and count as identities, as %s has images of "
                    "its own: give %s, or --identity-depth %d, which takes the folders in each; --identity-depth %d "
                    "confirms",
                    *(place, shown(next(split for split in filled if split not in parents)[:-1])),
                    *(self._shown(parents[0]), level + 1, level),
                )
            else:
                log.warning(
                    "warning: what counts as an identity in %s has the name of a split: %s. If those hold images of "
                    "many, give --flat-structure, which takes all as one unnamed identity; --identity-depth %d "
                    "confirms that they are identities",
                    *(place, _enumerated(shown(split.removeprefix(top)[:-1]) for split in filled), level),
                )
        return []

    def _inside(self, splits: list[str]) -> list[str]:
        """Where the identities of splits lie: in these, or in folders of one level in them (`train/images/ann`)."""
        inside = [self._packed(split) for split in splits]
        return inside if len({folder.count("/") for folder in inside}) == 1 else splits

    def _warn_of_folders(self, parents: list[str], level: int) -> None:
        """Warn if the identities seem to hold folders alone."""
        every = (f"{parent}{name}/" for parent in parents for name in self.listed(parent).folders)
        if any(self.listed(folder).images for folder in islice(every, _LOOKED_AT)):
            return
        some = f"the first {_LOOKED_AT} of " if next(every, None) is not None else ""
        log.warning(
            "warning: %sthe folders in %s, which count as identities, hold folders and no images of their own: if "
            "those are the identities, give --identity-depth %d; --identity-depth %d confirms",
            *(some, _enumerated(map(self._shown, parents)), level + 1, level),
        )

    def _at(self, depth: int) -> Arrangement:
        """The identities at a level that was asked for."""
        levels = [[""]]
        for _ in range(depth - 1):
            levels.append([f"{above}{name}/" for above in levels[-1] for name in self.listed(above).folders])
        parents = [folder for folder in levels[-1] if next(self._of_images(folder), None) is not None]
        if not parents:
            raise RequestError(
                f"--identity-depth {depth}: no folder at level {depth} below {shown(self.place)} holds an image; "
                "1 stands for the folders directly in it"
            )
        return self._in([folder for level in levels for folder in level], parents)

    def _in(self, above: list[str], parents: list[str], said: str = "") -> Arrangement:
        """The folders in these parents as identities; `above` are all folders above those."""
        ignored = sum(self.listed(folder).images for folder in set(above))
        if len(parents) == 1:
            return Arrangement(self.tree, in_order(self.listed(parents[0]).folders), parents[0], {}, ignored, said)
        top = _common(parents)
        found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
        for parent in parents:
            for name in self.listed(parent).folders:
                found[name] += (parent.removeprefix(top),)
        several = [name for name in in_order(found) if len(found[name]) > 1]
        if several:
            where = _enumerated(shown(parent[:-1]) for parent in found[several[0]])
            both = (
                f"names in several of these folders: {len(several)} ({shown(several[0])} in {where}), each of which is "
                "one identity"
            )
            said = f"{said}; {both}" if said else both
        return Arrangement(self.tree, in_order(found), top, dict(found), ignored, said)

    def _shown(self, folder: str) -> str:
        return shown(self.place / folder)


def _common(parents: list[str]) -> str:
    """The deepest folder that all of several folders of one level lie in."""
    first, last = (folder.split("/")[:-1] for folder in (min(parents), max(parents)))
    parts = []
    for one, other in zip(first[:-1], last[:-1], strict=True):
        if one != other:
            break
        parts.append(f"{one}/")
    return "".join(parts)


def _enumerated(names: Iterable[str]) -> str:
    """'train, val and test'; of many, the first."""
    every = list(names)
    if len(every) > 5:
        return f"{', '.join(every[:4])} and {len(every) - 4} more"
    return " and ".join([", ".join(every[:-1]), every[-1]] if len(every) > 1 else every)
