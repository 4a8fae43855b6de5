"""The members of a .zip, and their bytes."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from grafiqs.datasets.dataset import MAX_BYTES, too_large
from grafiqs.datasets.members import named
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.errors import UnreadableSampleError

_RATIO, _UNPACKED = 20, 2**24
"""A member that unpacks to more than so many times its size, and to more than so many bytes, is refused: images are
packed already."""

_HEADER = struct.Struct("<26xHH")
"""What stands before a member: at its end, the lengths of the name and of the extra field that follow."""

_METHODS = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA", 9: "Deflate64", 93: "Zstandard", 95: "xz"}
"""Ways of packing that are not read, by their numbers."""


_WINDOWS = frozenset((0, 10, 11, 14))
"""Where a member was packed, if by DOS or Windows: FAT, NTFS (10 in the specification, 11 in Info-ZIP) and VFAT."""


class ZipFile:
    """A .zip that is listed when opened: `members` by path, and `folders`, with a slash at the end.

    Raises RequestError when it cannot be listed.
    """

    form = "zip"

    def __init__(self, place: Path) -> None:
        self.place = place
        self.members: dict[str, zipfile.ZipInfo] = {}
        self.folders = named(place, self.form, self._listed(), self.members)

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """The bytes of a member. Raises UnreadableSampleError, with the reason; OSError when the disk fails.

        Without zipfile, whose lock a forked process would find locked for ever by a thread that it does not have.
        """
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

    def refusal(self, images: list[zipfile.ZipInfo]) -> str:
        """Why most of these could not be read, and what to do; nothing if most can be."""
        locked = sum(image.flag_bits & 1 for image in images)
        others = Counter(image.compress_type for image in images if not image.flag_bits & 1)
        odd = sum(others.values()) - others[zipfile.ZIP_STORED] - others[zipfile.ZIP_DEFLATED]
        if 2 * (locked + odd) <= len(images):
            return ""
        if locked >= odd:
            return f"{locked} of its {len(images)} images are encrypted: unpack it with its password"
        names = {
            _METHODS.get(kind, f"method {kind}") for kind in others.keys() - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        }
        return (
            f"{odd} of its {len(images)} images are packed by {' and '.join(sorted(names))}, and only stored and "
            "deflated ones are read in place: unpack it, or pack it again (zip -0)"
        )

    def _listed(self) -> Iterator[tuple[str, zipfile.ZipInfo | None]]:
        """Every member by its name; folders as None. Raises whatever zipfile does."""
        self._file = SharedFile(self.place)
        for member in zipfile.ZipFile(self._file).infolist():
            name = _name(member)
            yield name, None if name.endswith("/") else member


def _name(member: zipfile.ZipInfo) -> str:
    """The path of a member, as unpacking it gives.

    A name that is not marked as UTF-8 is in cp437 when DOS or Windows packed it, and the bytes that it had on the disk
    when anything else did: `zip` and macOS mark none. Windows PowerShell separates folders with backslashes. Other
    packers on Windows that do so call themselves what they like: `members.named` sees to those.
    """
    name = member.orig_filename
    from_windows = member.create_system in _WINDOWS
    if not (member.flag_bits & 0x800 or from_windows):
        name = name.encode("cp437").decode("utf-8", "surrogateescape")
    return name.replace("\\", "/") if from_windows else name
