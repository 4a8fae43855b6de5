"""What a data set holds, by names alone: no image is opened, and only what is asked for is listed."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grafiqs.errors import RequestError
from grafiqs.names import key, shown

log = logging.getLogger(__name__)

IMAGE_EXTENSIONS = frozenset(
    ("avif", "bmp", "gif", "jp2", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp")
)
"""The file extensions that make a file a sample, in lower case; files are matched in either case."""


@dataclass(frozen=True)
class Dataset:
    """A folder of identities.

    `identities` are the directories under `root` in code-point order of their NFC names, or the one unnamed
    identity ("",) when the data set is flat. `ignored` counts images that lie beside the identities.
    """

    root: Path
    extensions: frozenset[str]
    identities: tuple[str, ...]
    ignored: int = 0

    def samples(self, identity: str) -> tuple[str, ...]:
        """The image files of one identity: POSIX paths inside it, at any depth, in code-point order (NFC).

        Hidden files and folders are left out. Links to folders are followed, but not back to a folder that
        they lie in, nor to one that was entered already.
        Raises RequestError when a folder cannot be listed.
        """
        return tuple(sorted(self._walk(identity), key=_order))

    def _walk(self, identity: str) -> Iterator[str]:
        top = os.path.join(self.root, identity)
        entered = {os.path.realpath(top)}
        waiting: deque[tuple[str, str, tuple[str, ...]]] = deque([(top, "", tuple(entered))])
        while waiting:
            folder, inside, above = waiting.popleft()
            folders: list[os.DirEntry[str]] = []
            for entry in _entries(folder):
                if _is_folder(entry):
                    folders.append(entry)
                elif _extension(entry.name) in self.extensions:
                    yield inside + entry.name
            for entry in sorted(folders, key=lambda entry: (entry.is_symlink(), *_order(entry.name))):
                link = entry.is_symlink()
                real = os.path.realpath(entry.path) if link else os.path.join(above[-1], entry.name)
                if real in entered or (link and _leads_back(real, above)):
                    _log_link(entry.path)
                    continue
                entered.add(real)
                waiting.append((entry.path, f"{inside}{entry.name}/", (*above, real) if link else (*above[:-1], real)))


def scan(root: Path, extensions: tuple[str, ...] = (), flat: bool = False) -> Dataset:
    """List the identities of the data set at `root`; their samples are listed when asked for.

    `extensions` limits the samples to these file extensions (without the dot; none: IMAGE_EXTENSIONS).
    `flat` makes the whole folder one unnamed identity, as does a root with images and no directories.
    Raises RequestError when `root` is no folder that can be listed, or holds nothing.
    """
    if not os.path.exists(root):
        raise RequestError(f"the data set {shown(root)} does not exist or cannot be reached: check --image-path")
    if not os.path.isdir(root):
        raise RequestError(f"the data set {shown(root)} is a file: --image-path takes the folder of identities")
    wanted = frozenset(extensions or IMAGE_EXTENSIONS)
    identities: list[str] = []
    images = 0
    for entry in _entries(str(root)):
        if _is_folder(entry):
            if entry.is_symlink() and _leads_back(os.path.realpath(entry.path), (os.path.realpath(root),)):
                _log_link(entry.path)
            else:
                identities.append(entry.name)
        elif _extension(entry.name) in wanted:
            images += 1
    if not identities and not images:
        kinds = shown(", ".join(sorted(wanted)))
        raise RequestError(
            f"the data set {shown(root)} holds no identity folder and no image ({kinds}): check --image-path"
        )
    if flat or not identities:
        return Dataset(root, wanted, ("",))
    return Dataset(root, wanted, tuple(sorted(identities, key=_order)), ignored=images)


def _order(name: str) -> tuple[str, str]:
    return key(name), name


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder that are not hidden, in whatever order the file system has them."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry
    except OSError as error:
        raise RequestError(f"cannot list {shown(folder)}: {error.strerror}; mend that, or move it away") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: no folder, and no image that could be read either
        return False


def _extension(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()


def _leads_back(target: str, above: tuple[str, ...]) -> bool:
    """Whether a link to `target` leads to one of the folders that it was reached through, or around one of them."""
    return any(os.path.commonpath((target, folder)) == target for folder in above)


def _log_link(link: str) -> None:
    log.warning("not following %s: it leads back to a folder that is listed already", shown(link))
