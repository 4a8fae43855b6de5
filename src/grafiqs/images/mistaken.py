"""What a file is that was taken for an image and is none that can be read, by how it begins; and what to do."""

from __future__ import annotations

from grafiqs.disk.unfetched import is_page, pointer

_HEIF = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"))
"""The brands of HEIF files whose pictures are HEVC: those of phones."""

_BEGINNINGS = {
    b"\xff\x0a": "JPEG XL, which is not read here: convert it",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL, which is not read here: convert it",
    b"8BPS": "Photoshop's, which is not read here: convert it",
    b"%PDF": "a PDF, not an image",
    b"PK\3\4": "a .zip, not an image",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"\x93NUMPY": "a NumPy array, not an image",
    b"\x89HDF": "HDF5, not an image",
}


def taken_for_image(data: bytes) -> str:
    """What it is, with what to do; empty if that is not known."""
    if data[4:8] == b"ftyp" and not _HEIF.isdisjoint(data[place : place + 4] for place in (8, *range(16, 64, 4))):
        return "HEIC, which is not read here: convert it"
    if is_page(data):
        return "a web page instead of the image: download it again"
    known = (what for beginning, what in _BEGINNINGS.items() if data.startswith(beginning))
    return pointer(data) or next(known, "")
