"""One name in three forms: as it is compared and hashed, as it is stored, as it is shown."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterable

GRADIENT = "_grad.npy"
"""What the file of a gradient has behind the name of its sample."""

EXTENSIONS = frozenset(
    ("apng", "arw", "avif", "bmp", "cr2", "cr3", "dib", "dng", "gif", "heic", "heif", "j2c", "j2k", "jfif", "jif",
     "jp2", "jpc", "jpe", "jpeg", "jpf", "jpg", "jpx", "jxl", "mpo", "nef", "npy", "orf", "pbm", "pcx", "pgm",
     "png", "pnm", "ppm", "raf", "ras", "rw2", "tga", "tif", "tiff", "webp")
)  # fmt: skip
"""The file extensions that are not part of a sample's name: those of images, whether they can be read here or not, and
of arrays. Of a file with any other the whole name counts, so that `subject01.happy` and `subject01.sad` are two names,
even if --image-extension takes them. Every draw rests on this list: what is added to it changes published subsets.
"""


def key(name: str) -> str:
    """The form in which names are compared and hashed: NFC, so that copies on other file systems agree."""
    return unicodedata.normalize("NFC", name)


def order(name: str) -> tuple[str, str]:
    """What names are sorted by: the code points of their NFC form; those of one form by themselves.

    GRADIENT sorts like any other extension, so that the gradients of a data set stand in the order of its samples.
    """
    plain = f"{name.removesuffix(GRADIENT)}.npy" if name.endswith(GRADIENT) else name
    return key(plain), name


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names, sorted by `order`."""
    listed = list(names)
    together = "\0".join(listed)
    plain = together.isascii() and GRADIENT not in together  # ASCII is its own NFC form
    listed.sort(key=None if plain else order)
    return tuple(listed)


def encoded(text: str) -> bytes:
    """UTF-8 in which the bytes of names that are not UTF-8 stand as they do on disk."""
    return text.encode("utf-8", "surrogateescape")


def extension(name: str) -> str:
    """The file extension in lower case, without its dot: 'a/b.c.JPG' -> 'jpg', 'a/.jpg' -> ''."""
    return posixpath.splitext(name)[1][1:].lower()


def without_extension(path: str) -> str:
    """The path without the extension of its last part, if that is one of EXTENSIONS: 'a/b.c.JPG' -> 'a/b.c'.

    The whole of GRADIENT counts as one, so that the gradients of a data set are copies of its samples.
    """
    if path.endswith(GRADIENT):
        return path.removesuffix(GRADIENT)
    plain, ending = posixpath.splitext(path)
    return plain if ending[1:].lower() in EXTENSIONS else path


def shown(name: object) -> str:
    """A name as one printable line: control characters, line breaks and stray bytes as backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(name))
