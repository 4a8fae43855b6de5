"""One name in three forms: as it is compared and hashed, as it is stored, as it is shown."""

from __future__ import annotations

import posixpath
import unicodedata


def key(name: str) -> str:
    """The form in which names are compared and hashed: NFC, so that copies on other file systems agree."""
    return unicodedata.normalize("NFC", name)


def encoded(text: str) -> bytes:
    """UTF-8 in which the bytes of names that are not UTF-8 stand as they do on disk."""
    return text.encode("utf-8", "surrogateescape")


def without_extension(path: str) -> str:
    """The path without the extension of its last part: 'a/b.c.jpg' -> 'a/b.c'."""
    return posixpath.splitext(path)[0]


def shown(name: object) -> str:
    """A name as one printable line: control characters, line breaks and stray bytes as backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(name))
