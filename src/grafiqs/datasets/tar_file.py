"""The members of a .tar, and where in it they lie."""

from __future__ import annotations

import logging
import posixpath
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path

from grafiqs.datasets.dataset import MAX_BYTES, too_large
from grafiqs.datasets.members import named
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError

log = logging.getLogger(__name__)

_PACKERS = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
"""What unpacks a compressed file, by how that begins."""

Extent = tuple[int, int]
"""Where a member lies: offset and size."""


class TarFile:
    """An uncompressed .tar that is listed when opened: `members` by path, and `folders`, with a slash at the end.

    Raises RequestError when it cannot be listed to its end.
    """

    form = "tar"

    def __init__(self, place: Path) -> None:
        self.place = place
        self.members: dict[str, Extent] = {}
        self.folders = named(place, self.form, self._listed(), self.members)

    def read(self, member: Extent) -> bytes:
        """The bytes of a member. Raises UnreadableSampleError, with the reason; OSError when the disk fails."""
        return read_extent(self._file, member)

    def refusal(self, images: list[Extent]) -> str:
        """Why none of these could be read: never so."""
        del images
        return ""

    def close(self) -> None:
        """Close the file, which keeps its list."""
        self._file.close()

    def _listed(self) -> Iterator[tuple[str, Extent | None]]:
        """Every member by its name; folders as None. Raises whatever tarfile does."""
        self._file = SharedFile(self.place)
        beginning = self._file.read_at(0, 8)
        for magic, packer in _PACKERS.items():
            if beginning.startswith(magic):
                plain = self.place.with_name("plain.tar")
                raise RequestError(
                    f"{shown(self.place)} is compressed, and would be unpacked again for every image: unpack it once, "
                    f"by `{packer} -c < {shlex.quote(shown(self.place))} > {shlex.quote(shown(plain))}`, and give "
                    f"{shown(plain)} as --image-path"
                )
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
                elif member.islnk() and (target := self.members.get(posixpath.normpath(member.linkname))):
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


def read_extent(file: SharedFile, extent: Extent) -> bytes:
    """The bytes of a member. Raises UnreadableSampleError, with the reason; OSError when the disk fails."""
    offset, size = extent
    if size > MAX_BYTES:
        raise UnreadableSampleError(too_large(size))
    data = file.read_at(offset, size)
    if len(data) < size:
        raise UnreadableSampleError("the archive has become shorter")
    return data
