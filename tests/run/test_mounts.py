"""Parts of a run on two mounts of one folder, between which flock does not hold, and which see each other late."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from grafiqs.cli import main
from support.commands import extracting
from support.making import tree


def mounted(folder: Path, place: Path, stack: ExitStack) -> None:
    """Mount a folder once more, by FUSE, with a cache that is two seconds behind."""
    place.mkdir()
    late = "attr_timeout=2,entry_timeout=2,negative_timeout=2"
    made = subprocess.run(["bindfs", "-o", late, folder, place], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"bindfs cannot mount here: {made.stderr.strip()}")
    stack.callback(lambda: subprocess.run(["umount", "-l", place], check=True))


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[list[Path]]:
    if shutil.which("bindfs") is None or os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("needs bindfs (Debian: apt-get install bindfs), /dev/fuse, and to be root")
    (tmp_path / "under").mkdir()
    with ExitStack() as stack:
        places = [tmp_path / name for name in ("one", "other")]
        for place in places:
            mounted(tmp_path / "under", place, stack)
        yield places


@pytest.mark.parametrize("parts", [("1/2", "2/2"), ("1/1", "1/1")])
def test_parts_on_two_mounts_make_one_run(
    parts: tuple[str, str], mounts: list[Path], faces: Path, weights: Path, tmp_path: Path
) -> None:
    sizes = ("--layers", "block4", "--batch-size", 2, "--shard-size", 2, "--quiet")
    assert main(extracting(faces, weights, tmp_path / "alone", *sizes)) == 0
    commands = [
        extracting(faces, weights, place / "run", *sizes, "--part", part)
        for place, part in zip(mounts, parts, strict=True)
    ]
    processes = [
        subprocess.Popen([sys.executable, "-m", "grafiqs", *each], env={**os.environ, "OMP_NUM_THREADS": "1"})
        for each in commands
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert tree(tmp_path / "under" / "run") == tree(tmp_path / "alone")
