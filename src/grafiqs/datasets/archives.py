"""A .zip or .tar of identity folders, read in place."""

from __future__ import annotations

import logging
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from grafiqs.datasets.dataset import APPLE, IMAGE_EXTENSIONS, MAX_BYTES, MAX_PATH, Dataset, is_sample, too_large
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.disk.names import in_order, shown
from grafiqs.errors import RequestError, UnreadableSampleError

log = logging.getLogger(__name__)

Member = TypeVar("Member")

_RATIO, _UNPACKED = 20, 2**24
"""A member of a .zip that unpacks to more than so many times its size, and to more than so many bytes, is refused:
images are packed already."""

_HEADER = struct.Struct("<26xHH")
"""What stands before a member of a .zip: at its end, the lengths of the name and of the extra field that follow."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""How files of gzip, bzip2, xz and zstd begin."""


class _Archive(Dataset, Generic[Member]):
    """The rules that hold for folders, on the names in an archive.

    If all its images lie in one folder that has folders of images, as when a whole data set was packed, the
    identities are in that, however deep it lies. Members that lead out of the archive are left out, with a warning.
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
                if path == ".." or path.startswith(("/", "../")) or "\0" in path or len(path) > MAX_PATH:
                    outside += 1
                elif path.partition("/")[0] == APPLE:
                    continue
                elif member is None:
                    folders.append(f"{path}/")
                else:
                    self._members[path] = member
        except RequestError:
            raise
        except OSError as error:
            raise RequestError(f"cannot read {shown(place)}: {error.strerror or error}") from error
        except Exception as error:  # hostile data make these readers fail in every way there is
            reason = shown(" ".join(str(error).split())[:200]) or type(error).__name__
            raise RequestError(
                f"{shown(place)} is not a whole {self.form} archive ({reason}): get the file again"
            ) from error
        if outside:
            log.warning("%d members of %s lead out of it, or have no possible name: left out", outside, shown(place))
        images = [path for path in self._members if is_sample(path, extensions)]
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
        try:
            return self._unpacked(member)
        except OSError as error:
            raise UnreadableSampleError(f"cannot be read: {error.strerror}") from error

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
        for member in zipfile.ZipFile(self._file).infolist():
            name = _name(member)
            yield name, None if name.endswith("/") else member

    def _unpacked(self, member: zipfile.ZipInfo) -> bytes:
        """Without ZipFile, whose lock a forked process would find locked for ever by a thread that it does not have."""
        size = max(member.file_size, member.compress_size)
        if size > MAX_BYTES:
            raise UnreadableSampleError(too_large(size))
        if member.file_size > max(_UNPACKED, _RATIO * member.compress_size):
            raise UnreadableSampleError(f"it would unpack to more than {_RATIO} times its size")
        if member.flag_bits & 1:
            raise UnreadableSampleError("it is encrypted in the archive")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableSampleError("it is packed in another way than stored or deflated")
        header = self._file.read_at(member.header_offset, _HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
            raise UnreadableSampleError("cannot be unpacked: it does not begin where the archive says")
        start = member.header_offset + _HEADER.size + sum(_HEADER.unpack(header))
        data = self._file.read_at(start, member.compress_size)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.file_size + 1)
            except zlib.error as error:
                raise UnreadableSampleError(f"cannot be unpacked: {error}") from error
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise UnreadableSampleError("cannot be unpacked: its size or its checksum is not as the archive says")
        return data


class TarArchive(_Archive[tuple[int, int]]):
    """An uncompressed .tar of identity folders; its members are kept as offset and size."""

    form = "tar"

    def _listed(self) -> Iterator[tuple[str, tuple[int, int] | None]]:
        if self._file.read_at(0, 8).startswith(_COMPRESSED):
            raise RequestError(f"{shown(self.place)} is compressed: unpack it, or pack it again as plain .tar")
        links = offset = 0
        with tarfile.open(fileobj=self._file, mode="r:", encoding="utf-8") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # a million of them would take a gigabyte
                archive.pax_headers.clear()  # type: ignore[attr-defined]  # else every member gets all of them
                if archive.offset <= offset:
                    raise tarfile.ReadError(f"the member at byte {offset} has a negative size")
                offset = archive.offset
                if member.isdir():
                    yield member.name, None
                elif member.isreg() and not member.issparse():
                    yield member.name, (member.offset_data, member.size)
                elif member.islnk() and (target := self._members.get(posixpath.normpath(member.linkname))):
                    yield member.name, target
                else:
                    links += 1
            offset = archive.offset
        if offset == self._file.size:
            log.warning("%s has no mark at its end: it may be cut off", shown(self.place))
        while rest := self._file.read_at(offset, 2**20):
            if rest.strip(b"\0"):
                raise tarfile.ReadError(f"no member begins at byte {offset}, and the archive goes on")
            offset += len(rest)
        if links:
            log.warning("%d links and other members of %s are not files, and are left out", links, shown(self.place))

    def _unpacked(self, member: tuple[int, int]) -> bytes:
        offset, size = member
        if size > MAX_BYTES:
            raise UnreadableSampleError(too_large(size))
        data = self._file.read_at(offset, size)
        if len(data) < size:
            raise UnreadableSampleError("the archive has become shorter")
        return data


def _name(member: zipfile.ZipInfo) -> str:
    """The path of a member of a .zip, as unpacking it gives.

    A name that is not marked as UTF-8 is in cp437 when DOS or Windows packed it, and the bytes that it had on the disk
    when anything else did: `zip` and macOS mark none. Windows PowerShell separates folders with backslashes.
    """
    name = member.orig_filename
    from_windows = member.create_system == 0
    if not (member.flag_bits & 0x800 or from_windows):
        name = name.encode("cp437").decode("utf-8", "surrogateescape")
    return name.replace("\\", "/") if from_windows else name


def _top(paths: list[str]) -> str:
    """The deepest folder, with a slash, in which all paths lie, some of them in its folders, or nothing."""
    if not paths:
        return ""
    common = posixpath.commonpath([posixpath.dirname(path) for path in (min(paths), max(paths))])
    folders = common.split("/")[: max(0, max(path.count("/") for path in paths) - 1)]
    return "".join(f"{folder}/" for folder in folders if folder)


def _by_identity(images: list[str], everything: list[str], flat: bool) -> tuple[dict[str, list[str]], int]:
    """The images by identity, and how many belong to none: those that lie beside the identities' folders."""
    parts = (path.partition("/") for path in ([] if flat else everything))
    found: dict[str, list[str]] = {folder: [] for folder, slash, _ in parts if slash and not folder.startswith(".")}
    if not found:  # then no image lies in a folder, but in a flat data set
        return ({"": images} if images else {}), 0
    loose = 0
    for folder, slash, inside in (path.partition("/") for path in images):
        if slash:
            found[folder].append(inside)
        else:
            loose += 1
    return found, loose
