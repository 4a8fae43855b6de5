"""What lies inside a folder that a command fills: no link is followed there, and nothing but plain files is opened.

Whoever may write to the folder could else lead a command to files elsewhere. Paths are POSIX paths relative to `root`,
which itself may be a link. Files appear whole or not at all: they are written under `.part`, and then renamed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO

from grafiqs.disk.names import shown

PART = ".part"
"""What the name of a file ends with until it is whole."""

NAME_ERRORS = frozenset((errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL))
"""What the file system says when one name is the trouble and others will do."""

NO_LINKS = frozenset((errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS))
"""What the file system says if a file cannot have another name."""

_BELOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def whole(root: Path, path: str, part: str = PART) -> Iterator[IO[bytes]]:
    """A file to write to, which appears under its name only when the block ends well; its folders are made.

    Until then its name ends with `part`; what has that name is removed.
    """
    with _folder(root, path, make=True) as (folder, name):
        part = name + part
        _unlink(part, folder)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
        try:
            with open(descriptor, "wb") as file:
                yield file
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _unlink(part, folder)
            raise


def opened(root: Path, path: str, append: bool = False) -> IO[bytes]:
    """A plain file, to be read, or read and appended to, unbuffered, and made if there is none.

    Raises OSError for anything else, without waiting for it.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if append else os.O_RDONLY
    with _folder(root, path) as (folder, name), _named(path, name, folder):
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or (append and found.st_nlink > 1):
        os.close(descriptor)
        why = "it has another name elsewhere, too" if stat.S_ISREG(found.st_mode) else "not a regular file"
        raise OSError(errno.EINVAL, f"{shown(path)}: {why}", path)
    return open(descriptor, "a+b" if append else "rb", buffering=0 if append else -1)


def made(root: Path, path: str) -> FileIO:
    """A new file, to be read and written at any place, unbuffered; its folders are made.

    What has its name is removed, and may be open elsewhere: nothing that is written there gets into this one.
    """
    with _folder(root, path, make=True) as (folder, name):
        _unlink(name, folder)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    return FileIO(descriptor, "r+b")


def rename(root: Path, path: str, name: str) -> None:
    """Give a file another name in its folder, where one that has it is replaced."""
    with _folder(root, path) as (folder, old):
        os.rename(old, name, src_dir_fd=folder, dst_dir_fd=folder)


def listed(root: Path, path: str) -> list[str]:
    """The names in a folder, in order; none if there is no such folder. Raises OSError for a link on the way."""
    try:
        with _folder(root, f"{path}/.") as (folder, _):
            return sorted(os.listdir(folder))
    except OSError as error:
        if error.errno in (errno.ENOENT, *NAME_ERRORS):
            return []
        raise


def size(root: Path, path: str) -> int | None:
    """The size of a plain file in bytes; None if there is none, and nothing else either.

    Raises OSError for a link on the way.
    """
    folder, _, name = path.rpartition("/")
    return sizes(root, folder, [name])[0]


def sizes(root: Path, folder: str, names: Sequence[str]) -> list[int | None]:
    """The same of several files of one folder, or of `root` itself if it is ""; the folder is looked for once."""
    try:
        with _folder(root, f"{folder}/." if folder else ".") as (here, _):
            return [_size(here, name) for name in names]
    except OSError as error:
        if error.errno in (errno.ENOENT, *NAME_ERRORS):
            return [None] * len(names)
        raise


def _size(folder: int, name: str) -> int | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, *NAME_ERRORS):
            return None
        raise
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def link(there: Path, root: Path, path: str) -> None:
    """Give a plain file of the folder `there` the same path in `root`, where one that has it is replaced.

    It is the same file, by a hard link; a copy of it if the file system has none.
    """
    with _folder(there, path) as (source, name), _folder(root, path, make=True) as (folder, _):
        if not stat.S_ISREG(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
            raise OSError(errno.EINVAL, f"{shown(path)}: not a regular file", path)
        _unlink(name, folder)
        try:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        else:
            return
    with opened(there, path) as original, whole(root, path) as copy:
        shutil.copyfileobj(original, copy, 2**20)


def has_links(root: Path, one: str, other: str) -> bool:
    """Whether a file in a folder can have two names: seen by two files of these names, which are removed again."""
    with _folder(root, one) as (folder, _):
        try:
            for name in (one, other):
                _unlink(name, folder)
            os.close(os.open(one, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder))
            os.link(one, other, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return False
        finally:
            for name in (one, other):
                _unlink(name, folder)
    return True


def need_removable(root: Path, path: str) -> None:
    """Raise OSError for a link on the way to a file, and for a folder in the place of one that stands in `root` itself.

    Deeper, what somebody else has put into the place of a file is left alone.
    """
    size(root, path)
    for place in (root / path, root / (path + PART)) if "/" not in path else ():
        if place.is_dir() and not place.is_symlink():
            raise OSError(errno.EISDIR, f"{shown(place.name)} is a folder, in the place of a file", path)


def remove(root: Path, path: str) -> None:
    """Remove a file, and its unfinished form, if they are there; under a name that no file can have, there is none."""
    try:
        with _folder(root, path) as (folder, name):
            for each in (name, name + PART):
                _unlink(each, folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, *NAME_ERRORS):
            raise


def remove_folders(root: Path, paths: Iterable[str]) -> None:
    """Remove the folders in which these files lay, and theirs, as far as nothing else lies in them."""
    folders = {
        "/".join(parts[:depth]) for path in paths if (parts := path.split("/")) for depth in range(1, len(parts))
    }
    for path in sorted(folders, key=lambda path: -path.count("/")):
        with suppress(OSError), _folder(root, path) as (folder, name):
            os.rmdir(name, dir_fd=folder)


def remove_empty(root: Path) -> None:
    """Remove a folder, and those in it, as far as nothing lies in them; no link is followed."""
    for place, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):
            os.rmdir(place)


@contextmanager
def _folder(root: Path, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
    """The folder that a file lies in, open, and the file's name there. Raises OSError for a link on the way."""
    *folders, name = path.split("/")
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            with _named(path, folder, here):
                below = _entered(here, folder, make)
            os.close(here)
            here = below
        yield here, name
    finally:
        os.close(here)


def _entered(here: int, folder: str, make: bool) -> int:
    try:
        return os.open(folder, _BELOW, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):  # another thread was faster
            os.mkdir(folder, dir_fd=here)
        return os.open(folder, _BELOW, dir_fd=here)


@contextmanager
def _named(path: str, name: str, folder: int) -> Iterator[None]:
    """Say of a link that it is one: systems call that by several other names."""
    try:
        yield
    except OSError as error:
        if _is_link(name, folder):
            raise OSError(errno.ELOOP, f"{shown(name)} is a link, which is not followed there", path) from error
        raise


def _is_link(name: str, folder: int) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def _unlink(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
