"""A folder of identity folders, or of images: only what is asked for is listed, and no image is opened."""

from __future__ import annotations

import logging
import os
import stat
import unicodedata
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grafiqs.datasets.dataset import APPLE, IMAGE_EXTENSIONS, MAX_BYTES, Dataset, Readable, too_large
from grafiqs.disk.names import in_order, order, shown
from grafiqs.errors import RequestError, UnreadableSampleError

log = logging.getLogger(__name__)

_COMMON = "png jpg"
"""The extensions that nearly all images have: they are looked for first."""


class Folders(Dataset):
    """The directories under `place` as identities, the image files in them, at any depth, as samples.

    A folder with images and no directories is one unnamed identity, and so is any folder when `flat`. Hidden files
    and folders are not samples. `extensions` limits the samples to these file extensions. A folder that holds nothing
    has no identity. Raises RequestError when the folder cannot be listed.
    """

    form = "folders"

    def __init__(self, place: Path, extensions: frozenset[str] = IMAGE_EXTENSIONS, flat: bool = False) -> None:
        self.place = place
        self._endings = tuple(f".{extension}" for extension in sorted(extensions, key=_COMMON.find, reverse=True))
        files, folders = listed(str(place))
        images = len(self._images(files))
        identities = []
        for folder in folders:
            if folder.is_symlink() and _leads_back(os.path.realpath(folder.path), (os.path.realpath(place),)):
                _log_link(folder.path)
            elif folder.name != APPLE:
                identities.append(folder.name)
        self.identities = in_order(identities) if identities and not flat else ("",) if images or folders else ()
        self.ignored = images if identities and not flat else 0

    def samples(self, identity: str) -> tuple[str, ...]:
        """The image files of one identity: POSIX paths inside it, at any depth, in code-point order (NFC).

        Links to folders are followed, but not back to a folder that they lie in, nor to one that was entered already.
        Raises RequestError when a folder cannot be listed.
        """
        top = os.path.join(self.place, identity)
        files, folders = listed(top)
        paths = self._images(files)
        if folders:
            paths += self._below(top, folders)
        return in_order(paths)

    def _images(self, files: list[os.DirEntry[str]]) -> list[str]:
        """The names of the images among the files of a folder, in the quickest way: a scan is little else."""
        endings = self._endings
        return [name for file in files if (name := file.name)[0] != "." and name.lower().endswith(endings)]

    def _below(self, top: str, folders: list[os.DirEntry[str]]) -> Iterator[str]:
        """The images in the folders of one identity, each folder entered once."""
        real_top = os.path.realpath(top)
        entered = {real_top}
        waiting: deque[tuple[list[os.DirEntry[str]], str, tuple[str, ...]]] = deque([(folders, "", (real_top,))])
        while waiting:
            folders, inside, above = waiting.popleft()
            for entry in sorted(folders, key=lambda entry: (entry.is_symlink(), *order(entry.name))):
                link = entry.is_symlink()
                real = os.path.realpath(entry.path) if link else os.path.join(above[-1], entry.name)
                if real in entered or (link and _leads_back(real, above)):
                    _log_link(entry.path)
                    continue
                entered.add(real)
                within = f"{inside}{entry.name}/"
                files, deeper = listed(entry.path)
                yield from (within + name for name in self._images(files))
                waiting.append((deeper, within, (*above, real) if link else (*above[:-1], real)))

    def read(self, location: str) -> bytes:
        """The bytes of a sample's file. Raises UnreadableSampleError, with the reason."""
        return read_file(self.place / location)

    def reading(self) -> Files:
        """The folder without the names of its identities."""
        return Files(self.place)


@dataclass(frozen=True)
class Files(Readable):
    """The files below a folder, whatever their names."""

    root: Path

    def read(self, location: str) -> bytes:
        """The bytes of a file. Raises UnreadableSampleError, with the reason."""
        return read_file(self.root / location)


def listed(folder: str) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """What lies in a folder, in no order: its files, and its folders that are not hidden.

    Raises RequestError when the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise RequestError(f"cannot list {shown(folder)}: {error.strerror}; fix that, or move it away") from error
    try:
        folders = [entry for entry in entries if entry.is_dir()]
    except OSError:
        folders = [entry for entry in entries if _is_folder(entry)]
    if not folders:  # as in most folders of a large data set: nothing is looked at twice
        return entries, folders
    files = [entry for entry in entries if not _is_folder(entry)]
    return files, [entry for entry in folders if entry.name[0] != "."]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: no folder, and no image that could be read either
        return False


def read_file(path: Path) -> bytes:
    """The bytes of a regular file. Raises UnreadableSampleError for anything else, with the reason."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableSampleError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableSampleError(too_large(status.st_size))
        return path.read_bytes()
    except OSError as error:
        raise UnreadableSampleError(f"cannot be opened: {error.strerror}") from error


def forms_of(path: str) -> Iterator[str]:
    """A listed path, and what else it may stand for: the other Unicode normal forms of its names."""
    yield path
    if not path.isascii():
        yield from (other for form in ("NFC", "NFD") if (other := unicodedata.normalize(form, path)) != path)


def is_there(root: Path, path: str, turned: bool = True) -> bool:
    """Whether a listed path is a file below `root`, as it stands or, if `turned`, with its backslashes as slashes."""
    ways = (path, path.replace("\\", "/")) if turned and "\\" in path else (path,)
    return any(os.path.isfile(os.path.join(root, form)) for way in ways for form in forms_of(way))


def _leads_back(target: str, above: tuple[str, ...]) -> bool:
    """Whether a link to `target` leads to one of the folders that it was reached through, or around one of them."""
    return any(os.path.commonpath((target, folder)) == target for folder in above)


def _log_link(link: str) -> None:
    log.warning("not following %s: it leads back to a folder that is listed already", shown(link))
