"""One name in three forms: as it is compared and hashed, as it is stored, as it is shown."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterable

GRADIENT = "_grad.npy"
"""What the file of a gradient has behind the name of its sample."""


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
    """The path without the extension of its last part: 'a/b.c.jpg' -> 'a/b.c'.

    The whole of GRADIENT counts as one, so that the gradients of a data set are copies of its samples.
    """
    return path.removesuffix(GRADIENT) if path.endswith(GRADIENT) else posixpath.splitext(path)[0]


def shown(name: object) -> str:
    """A name as one printable line: control characters, line breaks and stray bytes as backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(name))
