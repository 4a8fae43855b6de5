"""Lists of checksums in the format of GNU sha256sum, which `sha256sum -c` checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from grafiqs.disk import files
from grafiqs.disk.names import encoded

# Two spaces stand before the path, and a backslash before the checksum if the path is escaped.
_LINE = re.compile(rb"\\?[0-9a-f]{64}  [^\n]+\n")
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def line(checksum: str, path: str) -> bytes:
    """A line of a list."""
    escaped = path.translate(_ESCAPES)
    return encoded(f"{'' if escaped == path else chr(92)}{checksum}  {escaped}\n")


def read(path: Path) -> Iterator[tuple[str, str]]:
    """The (checksum, path) of every line of a list. Raises OSError when it cannot be read."""
    with files.opened(path) as lines:
        yield from map(parsed, lines)


def is_line(text: bytes) -> bool:
    """Whether a line is one of a list, whole."""
    return _LINE.fullmatch(text) is not None


def parsed(text: bytes) -> tuple[str, str]:
    """The (checksum, path) of a line."""
    stated = text.decode("utf-8", "surrogateescape").removesuffix("\n")
    checksum, _, path = stated.removeprefix("\\").partition("  ")
    if stated.startswith("\\"):
        path = path.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
    return checksum, path


def next_of(lines: IO[bytes], path: str) -> str:
    """The checksum in the next line of a list. Raises ValueError when that is not of this path."""
    checksum, found = parsed(lines.readline())
    if found != path:
        raise ValueError(f"{Path(lines.name).name} does not list the samples in their order")
    return checksum
