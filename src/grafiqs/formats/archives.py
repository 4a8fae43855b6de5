"""A .zip or .tar of identity folders, read in place."""

from __future__ import annotations

import logging
import posixpath
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.formats.dataset import IMAGE_EXTENSIONS, MAX_BYTES, Dataset, is_sample, too_large
from grafiqs.formats.shared_file import SharedFile
from grafiqs.names import in_order, shown

log = logging.getLogger(__name__)

Member = TypeVar("Member")

_APPLE = "__MACOSX"
"""A folder that macOS puts into every .zip, beside what was packed."""


class _Archive(Dataset, Generic[Member]):
    """The rules that hold for folders, on the names in an archive.

    Where all its images lie in folders of one folder, as when a whole data set was packed, the identities are in that.
    Members that lead out of the archive are left out, with a warning.
    """

    def __init__(self, place: Path, extensions: frozenset[str] = IMAGE_EXTENSIONS, flat: bool = False) -> None:
        self.place = place
        self._settings = (place, extensions, flat)
        self._members: dict[str, Member] = {}
        folders: list[str] = []
        outside = 0
        try:
            self._file = SharedFile(place)
            for name, member in self._listed():
                path = posixpath.normpath(name)
                if path.startswith(("/", "..")) or "\0" in path:
                    outside += 1
                elif member is None:
                    folders.append(f"{path}/")
                else:
                    self._members[path] = member
        except OSError as error:
            raise RequestError(f"cannot read {shown(place)}: {error.strerror or error}") from error
        except Exception as error:  # hostile data make these readers fail in every way there is
            reason = shown(" ".join(str(error).split())[:200]) or type(error).__name__
            raise RequestError(
                f"{shown(place)} is no whole {self.form} archive ({reason}): get the file again"
            ) from error
        if outside:
            log.warning("%d members of %s lead out of it, and are left out", outside, shown(place))
        images = [path for path in self._members if is_sample(path, extensions) and not path.startswith(_APPLE)]
        self._top = _top(images)
        inside, everything = (
            [path.removeprefix(self._top) for path in paths if path.startswith(self._top)]
            for paths in (images, [*self._members, *folders])
        )
        self._samples, self.ignored = _by_identity(inside, everything, flat)
        if not self._samples:
            kinds = shown(", ".join(sorted(extensions)))
            raise RequestError(f"{shown(place)} holds no image ({kinds}): check --image-path")
        self.identities = in_order(self._samples)

    def samples(self, identity: str) -> tuple[str, ...]:
        """The images of one identity: POSIX paths inside it."""
        return in_order(self._samples[identity])

    def read(self, location: str) -> bytes:
        """The bytes of an image. Raises UnreadableSampleError, with the reason."""
        member = self._members.get(self._top + location)
        if member is None:
            raise UnreadableSampleError("is not in the archive")
        return self._unpacked(member)

    def _listed(self) -> Iterator[tuple[str, Member | None]]:
        """Every member by its name; folders as None. Raises whatever the archive's reader does."""
        raise NotImplementedError

    def _unpacked(self, member: Member) -> bytes:
        """The bytes of a member. Raises UnreadableSampleError, with the reason."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[type[_Archive[Member]], tuple[Path, frozenset[str], bool]]:
        return type(self), self._settings


class ZipArchive(_Archive[zipfile.ZipInfo]):
    """A .zip of identity folders, its members stored or deflated."""

    form = "zip"

    def _listed(self) -> Iterator[tuple[str, zipfile.ZipInfo | None]]:
        self._zip = zipfile.ZipFile(self._file)
        for member in self._zip.infolist():
            yield member.filename, None if member.is_dir() else member

    def _unpacked(self, member: zipfile.ZipInfo) -> bytes:
        if member.file_size > MAX_BYTES:
            raise UnreadableSampleError(too_large(member.file_size))
        if member.flag_bits & 1:
            raise UnreadableSampleError("it is encrypted in the archive")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others know no limit
            raise UnreadableSampleError("it is packed in another way than stored or deflated")
        try:
            with self._zip.open(member) as file:
                data = file.read(member.file_size)  # without a size, it would unpack whatever there is
        except Exception as error:
            raise UnreadableSampleError(f"cannot be unpacked: {' '.join(str(error).split())[:200]}") from error
        if len(data) < member.file_size:
            raise UnreadableSampleError("cannot be unpacked: it ends early")
        return data


class TarArchive(_Archive[tuple[int, int]]):
    """An uncompressed .tar of identity folders; its members are kept as offset and size."""

    form = "tar"

    def _listed(self) -> Iterator[tuple[str, tuple[int, int] | None]]:
        links = 0
        found: dict[str, tuple[int, int]] = {}
        with tarfile.open(fileobj=self._file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # a million of them would take a gigabyte
                target = posixpath.normpath(member.linkname)
                if member.isdir():
                    yield member.name, None
                elif member.isreg() and not member.issparse():
                    found[posixpath.normpath(member.name)] = place = (member.offset_data, member.size)
                    yield member.name, place
                elif member.islnk() and target in found:
                    yield member.name, found[target]
                else:
                    links += 1
            rest = self._file.read_at(archive.offset, tarfile.BLOCKSIZE)
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"no member begins at byte {archive.offset}, and the archive goes on")
        if not rest:
            log.warning("%s has no mark at its end: it may be cut off", shown(self.place))
        if links:
            log.warning("%d links and other members of %s are no files, and are left out", links, shown(self.place))

    def _unpacked(self, member: tuple[int, int]) -> bytes:
        offset, size = member
        if size > MAX_BYTES:
            raise UnreadableSampleError(too_large(size))
        return self._file.read_at(offset, size)


def _top(paths: list[str]) -> str:
    """The folder, with a slash, in whose folders all the paths lie; nothing where there is none."""
    tops = {path.partition("/")[0] for path in paths}
    return f"{tops.pop()}/" if len(tops) == 1 and all(path.count("/") > 1 for path in paths) else ""


def _by_identity(images: list[str], everything: list[str], flat: bool) -> tuple[dict[str, list[str]], int]:
    """The images by identity, and how many belong to none: those that lie beside the identities' folders."""
    if flat:
        return ({"": images} if images else {}), 0
    found: dict[str, list[str]] = {}
    for path in everything:
        folder, slash, _ = path.partition("/")
        if slash and not folder.startswith(".") and folder != _APPLE:
            found.setdefault(folder, [])
    loose = []
    for path in images:
        folder, slash, inside = path.partition("/")
        if slash:
            found[folder].append(inside)
        else:
            loose.append(path)
    if found:
        return found, len(loose)
    return ({"": loose} if loose else {}), 0
