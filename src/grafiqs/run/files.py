"""Whole files or none: everything in a run folder is written under `.part` and then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from grafiqs.errors import RequestError
from grafiqs.names import shown

PART = ".part"


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which appears under its name only when the block ends well."""
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def strangers(folder: Path, own: AbstractSet[str]) -> Iterator[str]:
    """What lies in a folder, links among it, and is none of its `own` files, in words."""
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in names + links:
            path = name if inside == "." else f"{inside}/{name}"
            if path not in own:
                yield f"{shown(path)} is not of this run"


def exists(path: Path) -> bool:
    """Whether there is such a file. Raises RequestError when that cannot be seen."""
    try:
        return path.exists()
    except OSError as error:
        raise RequestError(f"cannot read {shown(path)}: {error.strerror}") from error


def read(path: Path) -> bytes:
    """The bytes of a file. Raises OSError, also for what is no regular file and might never end."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder, the system says it
        raise OSError(errno.EINVAL, "not a regular file")
    return path.read_bytes()


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError, also for what is no regular file and might never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
