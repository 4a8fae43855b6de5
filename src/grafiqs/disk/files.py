"""Plain files: written whole or not at all, and read without waiting for what is not a file."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path
from typing import IO

from grafiqs.disk import inside
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError


def whole(path: Path) -> AbstractContextManager[IO[bytes]]:
    """A file to write to, which appears under its name only when the block ends well; nothing else is touched."""
    return inside.whole(path.parent, path.name, f".{secrets.token_hex(8)}{inside.PART}")


def opened(path: Path) -> BufferedReader:
    """A regular file, to be read. Raises OSError for anything else, which might never end."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read(path: Path) -> bytes:
    """The bytes of a regular file. Raises OSError for anything else."""
    with opened(path) as file:
        return file.read()


def sha256(path: Path) -> str:
    """SHA-256 of the bytes of a regular file. Raises OSError for anything else."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: Exception) -> str:
    """Why a file could not be read, in words: with its name, if the system said it."""
    if isinstance(error, OSError) and error.strerror:
        name = shown(Path(error.filename).name) if error.filename else ""
        return error.strerror if name in error.strerror else f"{name}: {error.strerror}"
    return shown(error)


def exists(path: Path) -> bool:
    """Whether there is such a file. Raises RequestError when that cannot be seen."""
    try:
        return path.exists()
    except OSError as error:
        raise RequestError(f"cannot read {shown(path)}: {error.strerror}") from error


def strangers(folder: Path, own: AbstractSet[str]) -> Iterator[str]:
    """What lies in a folder, links included, beside its `own` files, in words."""
    for place, folders, names in os.walk(folder):
        within = Path(place).relative_to(folder).as_posix()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in names + links:
            path = name if within == "." else f"{within}/{name}"
            if path not in own:
                yield f"{shown(path)} is not of this run"
