"""Where compiled programs are kept: in the user's own folder, in the environment of a user, and nowhere else."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from grafiqs.compute import programs
from grafiqs.compute.programs import NoFolderError

VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_VEC_ISA_OK", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")


def as_user(
    home: Path, temporary: Path, *arguments: object, program: Sequence[object] = ("-m", "grafiqs"), **others: str
) -> subprocess.CompletedProcess[str]:
    """The command in the environment of a user, who sets none of the variables."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", **others}
    command = [sys.executable, *map(str, program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


@pytest.fixture(scope="module")
def command(faces: Path, weights: Path) -> list[object]:
    """A run of block4 alone, whose program is small."""
    small = ("--layers", "block4", "--num-identities", "1", "--samples-per-identity", "2", "--batch-size", "2")
    return ["extract", "--image-path", faces, "--weights", weights, *small, "--compile", "on"]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache folder of a user who sets no variable."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".cache" / "grafiqs"


FACTORY = """
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        for number in range(1, 5):
            parts = nn.Conv2d(3 if number == 1 else 4, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ELU()
            self.add_module(f"layer{number}", nn.Sequential(*parts))

    def forward(self, x):
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))

def small():
    return Network().eval()
"""

AND_LOOK = """
import os, sys
from grafiqs.cli import main

before = dict(os.environ)
code = main()
print("changed:", {name for name, _ in set(before.items()) ^ set(os.environ.items())})
sys.exit(code)
"""


Homes = tuple[Path, Path, Path]


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    """The folders of a user: home, for temporary files, and of code, with a program that runs the command and looks."""
    home, temporary, code = tmp_path / "home", tmp_path / "tmp", tmp_path / "code"
    for folder in (home, temporary, code):
        folder.mkdir(mode=0o700)
    (code / "own.py").write_text(FACTORY)
    (code / "look.py").write_text(AND_LOOK)
    return home, temporary, code


def test_programs_go_to_the_users_cache_and_none_is_loaded_from_a_folder_prepared_by_others(
    homes: Homes, faces: Path, tmp_path: Path
) -> None:
    """That of a network of the user's own, which is compiled and traced for its name: no variable is left set."""
    home, temporary, code = homes
    trap = temporary / f"torchinductor_{getpass.getuser()}"
    trap.mkdir()
    trap.chmod(0o777)
    network = ("--backbone", "own:small", "--blocks", "layer1,layer2,layer3,layer4", "--compile", "on")
    few = ("--layers", "block3", "--num-identities", "1", "--samples-per-identity", "2", "--batch-size", "2")
    command = ("extract", "--image-path", faces, *network, *few, "--device", "cpu", "--output-dir")
    said = []
    for run in ("run", "again"):
        done = as_user(home, temporary, *command, tmp_path / run, program=(code / "look.py",))
        assert done.returncode == 0, done.stderr
        assert "compiled in float32, agrees with the reference" in done.stdout
        assert done.stdout.splitlines()[-1] == "changed: set()"
        assert [path for path in temporary.rglob("*") if path != trap] == []
        assert list(home.iterdir()) == [home / ".cache"]
        said.append(done.stdout)
        kept = home / ".cache" / "grafiqs"
        assert len([path for path in kept.rglob("*") if path.is_file()]) == 1
        assert all(path.stat().st_mode & 0o077 == 0 for path in (kept, *kept.iterdir()))
    assert ["Compiling the computation" in text for text in said] == [True, False]


def test_without_a_compiler_no_variable_is_left_set_and_no_file_anywhere(
    homes: Homes, command: list[object], tmp_path: Path
) -> None:
    """A known network is not traced for its name: the compiler is loaded when it is to compile."""
    home, temporary, code = homes
    output = ("--output-dir", tmp_path / "run")
    done = as_user(home, temporary, *command, *output, program=(code / "look.py",), CXX="/bin/false")
    assert done.returncode == 2, done.stderr
    assert "Compiling the computation" in done.stdout
    assert "the computation cannot be compiled here" in done.stderr
    assert done.stdout.splitlines()[-1] == "changed: set()"
    assert list(temporary.iterdir()) == []
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert list(home.iterdir()) == [home / ".cache"]
    assert not (tmp_path / "run").exists()


def linked(place: Path) -> None:
    place.parent.mkdir()
    (place.parent / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.parent / "elsewhere")


def linked_inside(place: Path) -> None:
    elsewhere = place.parents[1] / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    own = programs.folder()
    own.rmdir()
    own.symlink_to(elsewhere)


def writable(place: Path) -> None:
    place.mkdir(parents=True)
    place.chmod(0o777)


def writable_by_the_group(place: Path) -> None:
    programs.folder().chmod(0o770)


def writable_above(place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o777)


def of_another(place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    os.chown(place, 12345, -1)


def above_of_another(place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    os.chown(place.parent, 12345, -1)


def link_of_another_above(place: Path) -> None:
    """The user's cache is a link to a link of somebody else's to a folder of the user's."""
    (place.parents[1] / "own").mkdir(mode=0o700)
    theirs = place.parents[1] / "theirs"
    theirs.symlink_to(place.parents[1] / "own")
    os.lchown(theirs, 12345, -1)
    place.parent.symlink_to(theirs)


def file(place: Path) -> None:
    place.parent.mkdir()
    place.touch()


def no_home(_place: Path) -> None:
    os.environ["HOME"] = ""  # as the fixture's patch found it, afterwards


UNSAFE = {
    linked: "is a link",
    linked_inside: "is a link",
    writable: "others may write to",
    writable_by_the_group: "others may write to",
    writable_above: "others may write to",
    of_another: "belongs to another user",
    above_of_another: "belongs to another user",
    link_of_another_above: "belongs to another user",
    file: "is not a folder",
    no_home: "HOME is not set to a folder",
}


@pytest.mark.parametrize("prepare", UNSAFE, ids=lambda prepare: prepare.__name__)
def test_a_folder_that_is_not_the_users_alone_is_refused(place: Path, prepare: object) -> None:
    if prepare in (of_another, above_of_another, link_of_another_above) and os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    prepare(place)  # type: ignore[operator]
    with pytest.raises(NoFolderError, match=UNSAFE[prepare]) as refused:  # type: ignore[index]
        programs.folder()
    assert "XDG_CACHE_HOME" in str(refused.value)


UNUSABLE = {
    "writable by others": "others may write to",
    "without HOME": "HOME is not set to a folder",
    "unwritable": "cannot be used",
    "full": "is full",
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A home on a disk of one megabyte."""
    home = tmp_path / "home"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(home)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield home
    subprocess.run(["umount", str(home)], check=True)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_run_with_such_a_folder_is_computed_without_compiling_and_says_so(
    kind: str, command: list[object], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    if kind == "full":
        request.getfixturevalue("small_disk")
    else:
        home.mkdir(mode=0o700)
    temporary.mkdir()
    if kind == "writable by others":
        writable(home / ".cache" / "grafiqs")
    if kind == "unwritable":
        home = Path("/proc")  # nobody, not even root, makes a folder there
    others = {"HOME": ""} if kind == "without HOME" else {}
    done = as_user(home, temporary, *command, "--output-dir", tmp_path / "run", **others)
    assert done.returncode == 0, done.stderr
    assert f"{UNUSABLE[kind]}" in done.stderr
    assert "the computation is not compiled (" in done.stderr
    assert "it runs as it is" in done.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(tmp_path / "run")]
    assert left == list(temporary.iterdir()) == []


def test_nothing_is_compiled_on_a_full_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(place.parents[1])
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=programs.ROOM - 1))
    with pytest.raises(NoFolderError, match="is full"):
        programs.need_room(programs.folder())


def test_folders_are_the_users_alone_whatever_the_mask_and_made_when_they_are_needed(place: Path) -> None:
    with pytest.raises(NoFolderError):
        programs.folder(make=False)
    assert not place.parent.exists()
    before = os.umask(0o002)
    try:
        made = programs.folder()
    finally:
        os.umask(before)
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in (made, place, place.parent))
    assert programs.folder(make=False) == made


def test_nothing_is_made_in_the_home_of_another(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    os.chown(place.parents[1], 12345, -1)
    with pytest.raises(NoFolderError, match="belongs to another user"):
        programs.folder()
    assert list(place.parents[1].iterdir()) == []
    os.chown(place.parents[1], os.geteuid(), -1)


@pytest.mark.parametrize("kind", ["of another", "writable", "a link", "a pipe", "a folder"])
def test_a_library_that_is_not_the_users_alone_is_not_loaded(place: Path, kind: str) -> None:
    """Whoever lays it there knows the checksum that its name is to have."""
    folder = programs.folder()
    made = folder / "made.so"
    made.write_bytes(b"library")
    path = programs.keep(made, folder, "name")
    assert programs.library(folder, "name") == path
    if kind == "of another":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(path, 12345, -1)
    elif kind == "writable":
        path.chmod(0o722)
    else:
        path.rename(folder / "elsewhere")
        if kind == "a link":
            path.symlink_to("elsewhere")
        elif kind == "a pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
    with pytest.raises((ValueError, OSError)):
        programs.library(folder, "name")
    programs.forget(folder, "name")
    assert programs.library(folder, "name") is None


def test_a_folder_that_cannot_be_written_to_is_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(NoFolderError, match="Permission denied"):
        programs.folder()


def test_pytorchs_own_default_is_not_taken_for_the_users_choice(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    for user in (getpass.getuser(), "a/b"):
        monkeypatch.setattr(getpass, "getuser", lambda user=user: user)
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())
        assert programs.folder().is_relative_to(place)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    named_alike = tmp_path / "torchinductor_of_mine"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(named_alike))
    assert programs.folder().is_relative_to(named_alike)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "chosen"))
    assert programs.folder().is_relative_to(tmp_path / "chosen")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert programs.folder().is_relative_to(tmp_path / "caches" / "grafiqs")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert programs.folder().is_relative_to(place)


def test_the_compilers_variables_are_what_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "before")
    temporary = tempfile.gettempdir()
    with programs.compiler_keeps_files_in(tmp_path):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
        assert os.environ["TRITON_CACHE_DIR"] == os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert os.environ["TRITON_CACHE_DIR"] == "before"
    assert tempfile.gettempdir() == temporary
