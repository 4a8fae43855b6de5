"""The names in an archive: which are possible, and the tree that they make."""

from __future__ import annotations

import logging
import posixpath
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from grafiqs.datasets.dataset import MAX_PATH
from grafiqs.datasets.layout import Listing, aside
from grafiqs.datasets.left_out import LeftOut
from grafiqs.disk.names import extension, in_order, shown
from grafiqs.errors import RequestError

log = logging.getLogger(__name__)

Member = TypeVar("Member")


def named(
    place: Path, form: str, listed: Iterator[tuple[str, Member | None]], members: dict[str, Member]
) -> dict[str, None]:
    """Put the files of an archive into `members` by their paths, and return its folders, which `listed` gives as None.

    Members that lead out of the archive are left out, with a warning. If there are backslashes in its names, and no
    slashes between folders, the backslashes stand there, and it is said.
    Raises RequestError, whatever its reader does; or if nothing is left, as all members lead out.
    """
    found = _Named(members)
    try:
        if place.stat().st_size == 0:
            raise ValueError("it has 0 bytes")
        for name, member in listed:
            found.add(name, member)
    except RequestError:
        raise
    except Exception as error:  # hostile data make these readers fail in every way there is
        if isinstance(error, OSError) and error.strerror:  # the disk's; that of a place before the file has none
            raise RequestError(f"cannot read {shown(place)}: {error.strerror}") from error
        reason = shown(" ".join(str(error).split())[:200]) or type(error).__name__
        raise RequestError(f"{shown(place)} is not a whole {form} archive ({reason}): get the file again") from error
    if found.backslashes and not found.slashes:
        log.info("%s: the backslashes in its names stand between folders, as on Windows", shown(place))
        found.turn()
    if found.absolute and not members:
        raise RequestError(
            f"all files in {shown(place)} have absolute paths (as by tar -P), and none is read from another place: "
            "unpack it, which puts them below a folder, and give that as --image-path"
        )
    outside = found.absolute + found.outside
    if outside:
        log.warning("%d members of %s lead out of it, or have no possible name: left out", outside, shown(place))
    return found.folders


class _Named:
    """Members by their names, as these are met: what became of them is counted."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members
        self.folders: dict[str, None] = {}
        self.absolute = self.outside = 0
        self.backslashes = self.slashes = False

    def add(self, name: str, member: object) -> None:
        """Keep a member, or, if it is None, a folder, under its path."""
        path = posixpath.normpath(name)
        self.backslashes = self.backslashes or "\\" in path
        self.slashes = self.slashes or "/" in path
        if path.startswith("/"):
            self.absolute += member is not None
        elif path == ".." or path.startswith("../") or "\0" in path or len(path) > MAX_PATH:
            self.outside += 1
        elif member is not None:
            self.members[path] = member
        elif path != ".":
            self.folders[f"{path}/"] = None

    def turn(self) -> None:
        """Name all again with slashes for backslashes."""
        every: list[tuple[str, Any]] = [*self.members.items(), *self.folders.items()]
        self.members.clear()
        self.folders.clear()
        for name, member in every:
            self.add(name.replace("\\", "/"), None if name.endswith("\\") else member)


class Members:
    """The tree (`layout.Tree`) of the files in an archive, and of its folders, which end with a slash.

    All are looked up in sorted lists, as members of endless paths would have more folders than memory takes. Without
    `extensions`, all files are images: those of a list, which names what it means.
    """

    def __init__(self, files: Iterable[str], folders: Iterable[str], extensions: frozenset[str] | None) -> None:
        self.left_out = LeftOut()
        self._images: list[str] = []
        everything: list[str] = []
        systems: dict[str, str] = {}
        for path in chain(files, folders):
            hidden = None if extensions is None else aside(path)
            if hidden is not None:
                everything.append(f"{path[: hidden.start()]}/")  # the folder that it lies in is there
                if hidden.group(1):
                    systems[path[: hidden.end()]] = hidden.group(1)
            else:
                everything.append(path)
                if (extensions is None or extension(path) in extensions) and not path.endswith("/"):
                    self._images.append(path)
                elif not path.endswith("/"):
                    self.left_out.add((path,))
        self._images.sort()
        self._everything = sorted(everything)
        self.left_out.folders.update(systems.values())

    def listed(self, folder: str) -> Listing:
        """What lies directly in a folder."""
        images = sum(not name.endswith("/") for name in _directly(self._images, folder))
        return Listing(
            images, in_order(name[:-1] for name in _directly(self._everything, folder) if name.endswith("/"))
        )

    def images(self, folder: str) -> Iterator[str]:
        """The images at any depth below a folder: paths inside it."""
        start, end = _range(self._images, folder)
        return (self._images[place][len(folder) :] for place in range(start, end))


def _range(paths: list[str], folder: str) -> tuple[int, int]:
    """Where the paths below a folder stand among sorted ones."""
    if not folder:
        return 0, len(paths)
    start = bisect_left(paths, folder)
    return start, bisect_left(paths, f"{folder[:-1]}0", start)  # 0 comes after the slash


def _directly(paths: list[str], folder: str) -> Iterator[str]:
    """The names that stand directly in a folder, those of folders with a slash, once each."""
    place, end = _range(paths, folder)
    while place < end:
        name, slash, _ = paths[place][len(folder) :].partition("/")
        if name:
            yield name + slash
        place = bisect_left(paths, f"{folder}{name}0", place, end) if slash else place + 1
