"""Where compiled programs are kept: a folder that nobody but the user can write to, since what lies in it is run."""

from __future__ import annotations

import errno
import getpass
import glob
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from grafiqs.disk import files
from grafiqs.disk.names import shown

ROOM = 64 * 2**20
"""Bytes that must be free for compiling, for the program and the files that the compiler needs on the way."""

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""PyTorch's own variable for the place where its compiler keeps files."""

_VARIABLES = (_CACHE, "TRITON_CACHE_DIR", "TMPDIR")
"""What tells the compiler, Triton's and the C++ compiler where to keep files."""

_COMPLETE = "complete"
"""A file among the kernels of a program that says that they are all there."""

_WORKSHOP = "compiling-"
"""How the folders begin in which programs are being compiled."""

_LINKS = 40
"""The most links that a path may lead through, as the system has it."""

_DIGITS = 32
"""Digits of a checksum that stand in a file's name."""


class NoFolderError(Exception):
    """There is no folder that programs can be kept in safely; the message is the reason, and the way out."""


def folder(make: bool = True) -> Path:
    """The folder of the programs of this PyTorch, processor and number of threads, made if it is missing.

    It lies in the user's cache folder, `$XDG_CACHE_HOME/grafiqs` or `$HOME/.cache/grafiqs`, or in the place that
    PyTorch's own variable names. PyTorch's default is not safe: it lies in /tmp, where others can make it first.
    Programs are made for a number of threads and for one processor's instructions.
    Raises NoFolderError when that folder is not the user's alone, cannot be made or, not to be made, is missing.
    """
    root = _root()
    processor = hashlib.sha256(repr(sorted(torch.cpu.get_capabilities().items())).encode()).hexdigest()[:8]
    place = root / f"torch-{torch.__version__}-{torch.get_num_threads()}-threads-{processor}"
    try:
        reason = _unsafe_above(root)
        for own in (root, place):
            if reason is None and make:
                for missing in [above for above in (*reversed(own.parents), own) if not os.path.lexists(above)]:
                    missing.mkdir(mode=0o700, exist_ok=True)
            reason = reason or _unsafe(own)
    except OSError as error:
        reason = f"{shown(error.filename or place)} cannot be used: {error.strerror or error}"
    if reason:
        raise NoFolderError(f"{reason}; XDG_CACHE_HOME can name another folder of yours")
    return place


def need_room(place: Path) -> None:
    """Raise NoFolderError when the disk has no room for compiling."""
    if shutil.disk_usage(place).free < ROOM:
        raise NoFolderError(f"the disk of {shown(place)} is full; XDG_CACHE_HOME can name another folder of yours")


@contextmanager
def compiler_keeps_files_in(place: Path) -> Iterator[None]:
    """Let the compiler keep its files there, and nowhere else; everything that says so is as before after the block.

    Some of them, headers among them, it puts into the folder for temporary files whatever its variable says.
    """
    before, temporary = {name: os.environ.get(name) for name in _VARIABLES}, tempfile.tempdir
    os.environ.update(dict.fromkeys(_VARIABLES, str(place)))
    tempfile.tempdir = str(place)
    try:
        yield
    finally:
        tempfile.tempdir = temporary
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _root() -> Path:
    """The folder of all programs. Raises NoFolderError when nothing says where it is to be."""
    given = os.environ.get(_CACHE)
    if given and not _is_default(given):
        return Path(os.path.abspath(given))
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(caches):  # others are to be ignored, as the standard says
        return Path(caches, "grafiqs")
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        raise NoFolderError("HOME is not set to a folder, so that there is no cache; XDG_CACHE_HOME can name one")
    return Path(home, ".cache", "grafiqs")


def _is_default(given: str) -> bool:
    """Whether this is PyTorch's own place, which it writes into its variable when its compiler is first imported."""
    try:
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
    except (KeyError, ModuleNotFoundError, OSError):  # a user without a name
        user = f"uid_{os.getuid()}"
    return os.path.abspath(given) == os.path.abspath(os.path.join(tempfile.gettempdir(), f"torchinductor_{user}"))


def _unsafe(own: Path) -> str | None:
    """Why somebody else could lay something into a folder of programs, or has, in words; None if nobody can."""
    found = os.lstat(own)
    if stat.S_ISLNK(found.st_mode):
        return f"{shown(own)} is a link"
    if not stat.S_ISDIR(found.st_mode):
        return f"{shown(own)} is not a folder"
    if found.st_uid != os.geteuid():
        return f"{shown(own)} belongs to another user"
    if found.st_mode & 0o022:
        return f"others may write to {shown(own)}, and may have: remove it with all that lies in it"
    return None if os.access(own, os.W_OK | os.X_OK) else f"{shown(own)} cannot be written to"


def _unsafe_above(own: Path) -> str | None:
    """Why somebody else could put another folder in the place of one, in words; None if nobody can."""
    for above, found in _way_to(own.parent):
        if found.st_uid not in (0, os.geteuid()):
            return f"{shown(above)} belongs to another user"
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX and not stat.S_ISLNK(found.st_mode):
            return f"others may write to {shown(above)}"
    return None


def _way_to(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every folder and every link that a path leads through, as far as they exist."""
    here, names, links = Path("/"), list(reversed(place.parts[1:])), 0
    yield here, os.lstat(here)
    while names:
        name = names.pop()
        if name == "..":
            here = here.parent
            continue
        here /= name
        try:
            found = os.lstat(here)
        except FileNotFoundError:
            return
        yield here, found
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(place))
            target = Path(os.readlink(here))
            here = Path("/") if target.is_absolute() else here.parent
            names += reversed(target.parts[target.is_absolute() :])


# -- what lies in it ---------------------------------------------------------------------------------------


def is_known(place: Path, name: str) -> bool:
    """Whether the program of that name was compiled before."""
    return any(place.glob(f"{name}-*.so")) or (place / name / _COMPLETE).exists()


def library(place: Path, name: str) -> Path | None:
    """The library that a program is on a CPU, its bytes those that were compiled; None if there is none.

    Raises ValueError when they are not: what is loaded must not be damaged, since it is run.
    """
    for path in place.glob(f"{name}-*.so"):
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
                raise ValueError("it is not a file of yours alone")
            if hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS] != path.stem.rpartition("-")[2]:
                raise ValueError("its bytes were changed")
        return path
    return None


def keep(made: Path, place: Path, name: str) -> Path:
    """Keep a library under its name and the checksum of its bytes."""
    made.chmod(0o700)
    path = place / f"{name}-{files.sha256(made)[:_DIGITS]}.so"
    os.replace(made, path)
    return path


def kernels(place: Path, name: str) -> Path:
    """The folder in which the compiler keeps what a program is on a GPU."""
    path = place / name
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def complete(kernels: Path) -> None:
    """Note that a program is complete there."""
    (kernels / _COMPLETE).touch()


def forget(place: Path, name: str) -> None:
    """Remove what is kept of a program."""
    for path in (*place.glob(f"{name}-*.so"), place / name):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def workshop(place: Path) -> Iterator[Path]:
    """A folder for the compiler's files, gone after the block; those that a killed process left are removed, too."""
    here = f"{_WORKSHOP}{os.uname().nodename}-"
    for left in place.glob(f"{glob.escape(here)}*"):
        number = left.name.removeprefix(here).partition("-")[0]
        if number.isdigit() and not _is_alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{here}{os.getpid()}-", dir=place, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
