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

from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, MAX_BYTES, Dataset, Readable, too_large
from grafiqs.datasets.layout import Listing, arranged, is_system
from grafiqs.datasets.left_out import LeftOut
from grafiqs.disk.names import extension, in_order, order, shown
from grafiqs.errors import RequestError, UnreadableSampleError

log = logging.getLogger(__name__)

_COMMON = "png jpg"
"""The extensions that nearly all images have: they are looked for first."""


class Folders(Dataset):
    """The identities that `layout.arranged` tells among the folders in `place`; the images in them, at any depth.

    A folder with images and no folders of images is one unnamed identity, and so is any folder when `flat`. Hidden
    files and folders are not samples, nor what lies in folders of systems. `extensions` limits the samples to these
    file extensions. A folder that holds no image has no identity. Raises RequestError when a folder cannot be listed.
    """

    form = "folders"

    def __init__(
        self,
        place: Path,
        extensions: frozenset[str] = IMAGE_EXTENSIONS,
        flat: bool = False,
        depth: int | None = None,
    ) -> None:
        self.place = place
        self._top = str(place)
        self._extensions = extensions
        self._endings = tuple(f".{extension}" for extension in sorted(extensions, key=_COMMON.find, reverse=True))
        self._left_out = LeftOut()
        self._told: set[str] = set()
        """The folders whose other files are counted, and the links that were told of."""
        self._arranged = arranged(self, place, flat, depth)
        self.identities, self.ignored = self._arranged.identities, self._arranged.ignored
        self.said = self._arranged.said

    @property
    def left_out(self) -> LeftOut:
        """What lay beside samples in the folders that were listed so far."""
        return self._left_out

    def samples(self, identity: str) -> tuple[str, ...]:
        """The image files of one identity: POSIX paths inside it, at any depth, in code-point order (NFC).

        Links to folders are followed, but not back to a folder that they lie in, nor to one that was entered already.
        Raises RequestError when a folder cannot be listed.
        """
        return self._arranged.samples(identity)

    def location(self, identity: str, path: str) -> str:
        """Where a sample lies, relative to `place`, however deep the identities lie in it."""
        return self._arranged.top + self._arranged.location(identity, path)

    def listed(self, folder: str) -> Listing:
        """What lies directly in a folder, as `layout.Tree` has it; links to folders that it lies in are left out."""
        images, folders = self._inside(self._path(folder))
        names = []
        for entry in folders:
            if entry.is_symlink() and _leads_back(os.path.realpath(entry.path), self._above(folder)):
                self._tell_of(entry.path)
            else:
                names.append(entry.name)
        return Listing(len(images), in_order(names))

    def images(self, folder: str) -> Iterator[str]:
        """The images at any depth below a folder: POSIX paths inside it, each folder entered once."""
        top = self._path(folder)
        images, folders = self._inside(top)
        yield from images
        if folders:
            yield from self._below(top, folders)

    def _inside(self, folder: str) -> tuple[list[str], list[os.DirEntry[str]]]:
        """The names of the images and the folders in a folder; what is left out of it is counted, once."""
        files, folders = listed(folder)
        images = self._images(files)
        systems = [entry for entry in folders if is_system(entry.name)] if folders else []
        if systems:
            folders = [entry for entry in folders if not is_system(entry.name)]
        if (systems or len(images) != len(files)) and folder not in self._told:
            self._told.add(folder)
            self._left_out.folders.update(entry.name for entry in systems)
            taken = set(images)
            self._left_out.add(entry.name for entry in files if entry.name not in taken)
        return images, folders

    def _path(self, folder: str) -> str:
        """Where a folder of the tree is, without a slash at the end."""
        return os.path.join(self._top, folder[:-1]) if folder else self._top

    def _above(self, folder: str) -> tuple[str, ...]:
        """Where a folder and all that it lies in really are."""
        parts = folder.split("/")[:-1]
        return tuple(os.path.realpath(os.path.join(self._top, *parts[:end])) for end in range(len(parts) + 1))

    def _images(self, files: list[os.DirEntry[str]]) -> list[str]:
        """The names of the images among the files of a folder, in the quickest way: a scan is little else."""
        endings = self._endings
        found = [name for file in files if (name := file.name)[0] != "." and name.lower().endswith(endings)]
        if "" in self._extensions and len(found) != len(files):
            found = [name for file in files if (name := file.name)[0] != "." and extension(name) in self._extensions]
        return found

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
                    self._tell_of(entry.path)
                    continue
                entered.add(real)
                within = f"{inside}{entry.name}/"
                images, deeper = self._inside(entry.path)
                yield from (within + name for name in images)
                waiting.append((deeper, within, (*above, real) if link else (*above[:-1], real)))

    def _tell_of(self, link: str) -> None:
        """Say, once, that a link is not followed."""
        if link not in self._told:
            self._told.add(link)
            log.warning("not following %s: it leads back to a folder that is listed already", shown(link))

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
