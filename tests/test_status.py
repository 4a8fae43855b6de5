"""`grafiqs status`: what is done, in flight and by whom, failed, and left."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from grafiqs.cli import main
from grafiqs.run import claims
from grafiqs.run.folder import RunFolder
from grafiqs.run.holder import Holder
from grafiqs.run.shard_work import Done
from support.commands import Capture, extracting
from support.making import checked

pytestmark = pytest.mark.usefixtures("one_thread")


def command(faces: Path, weights: Path, output: Path, *more: str) -> list[str]:
    sizes = ("--layers", "block4", "--batch-size", 2, "--shard-size", 4)
    return extracting(faces, weights, output, *sizes, "--quiet", *more)


@pytest.fixture(scope="module")
def flawed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces, the first of which cannot be read: 19 in 5 shards."""
    root = Path(shutil.copytree(faces, tmp_path_factory.mktemp("flawed") / "faces"))
    (root / "ann" / "0.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def made(flawed: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which the first of two parts is done: shards 0, 2 and 4; read only."""
    folder = tmp_path_factory.mktemp("made") / "run"
    main(command(flawed, weights, folder, "--part", "1/2"))
    return folder


@pytest.fixture
def half(made: Path, tmp_path: Path) -> Path:
    """A copy of that, to be disturbed."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def said(capsys: Capture, folder: Path, code: int, *more: str) -> str:
    capsys.readouterr()
    assert main(["status", str(folder), *more]) == code
    found = capsys.readouterr()
    assert "Traceback" not in found.out + found.err
    return found.out + found.err


def stated(capsys: Capture, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, folder, 1, "--json"))
    return found


def held(folder: Path, host: str, ago: float) -> Path:
    """Shard 1, claimed by another machine, which was heard of so many seconds ago."""
    holder = Holder.here(False, {"part": "2/2"})
    path = folder / "progress" / "00001.0"
    path.write_text(json.dumps(vars(replace(holder, host=host, since=time.time() - ago))) + "\n")
    os.utime(path, (time.time() - ago, time.time() - ago))
    return path


def test_a_part_that_is_done(half: Path, capsys: Capture) -> None:
    lines = said(capsys, half, 1).splitlines()
    assert lines[0] == "At work: 11 of 19 images are done (57.9%), 10 with scores, 1 failed"
    assert lines[1] == "Shards: 3 of 5 are done"
    assert lines[2] == "Not begun: shards 1, 3"
    assert lines[3] == "Nobody is at work: the command that began the run does all that is left, without --part"
    assert lines[4].startswith("Failed: 1 x ")
    assert stated(capsys, half)["left"] == [[1, 1], [3, 3]]


def test_a_shard_in_flight_elsewhere(half: Path, capsys: Capture) -> None:
    held(half, "node7", 2)
    text = said(capsys, half, 1)
    assert "In flight: 1 shards" in text
    assert "of node7" in text
    assert "2/2" in text
    assert "Time left: about " in text


def test_who_has_not_been_heard_of_for_long_is_not_at_work(half: Path, capsys: Capture) -> None:
    held(half, "node7", 2 * claims.STALE)
    text = said(capsys, half, 1)
    assert "No sign of the one at shard " in text
    assert "for 10 min 0 s: the next command takes it over" in text
    assert "Nobody is known to be at work" in text
    assert stated(capsys, half)["seconds_left"] is None


def test_who_stands_still_and_holds_the_folder_is_to_be_ended(half: Path, capsys: Capture) -> None:
    """No command takes over from a process that is there and holds the lock."""
    path = held(half, "node7", 2 * claims.STALE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "alone": True}) + "\n")
    os.utime(path, (time.time() - 2 * claims.STALE,) * 2)
    assert "if it stands still, end it: it holds the folder" in said(capsys, half, 1)


def test_a_holder_that_is_not_known_counts_as_one(half: Path, capsys: Capture) -> None:
    (half / "progress" / "00001.0").write_bytes(b"torn")
    text = said(capsys, half, 1)
    assert "In flight: 1 shards" in text
    assert "Time left: about " in text


def test_a_finished_run(half: Path, flawed: Path, weights: Path, capsys: Capture) -> None:
    assert main(command(flawed, weights, half)) == 1
    lines = said(capsys, half, 0).splitlines()
    assert lines[0] == "Finished: 19 of 19 images are done (100.0%), 18 with scores, 1 failed"


@pytest.mark.parametrize("since", ["Infinity", "NaN", "1e300", "-1", '"now"'])
def test_a_forged_holder_is_nobody_that_is_known(since: str, half: Path, capsys: Capture) -> None:
    path = held(half, "node7", 2)
    holder = json.loads(path.read_text())
    path.write_text(json.dumps({**holder, "since": "HERE"}).replace('"HERE"', since) + "\n")
    assert "not known" in said(capsys, half, 1)
    stated(capsys, half)


@pytest.mark.parametrize(
    ("name", "forged"),
    [("scored", 1000000), ("scored", 10**400), ("seconds", -1.0), ("seconds", math.nan), ("seconds", math.inf)],
)
def test_a_forged_count_is_told(name: str, forged: float, half: Path, capsys: Capture) -> None:
    """The other shards are still counted, and the next command does this one again."""
    path, place = half / "progress" / "00002.done", [field.name for field in fields(Done)].index(name)
    first, second, rest = path.read_bytes().split(b"\n", 2)
    values = json.loads(second.partition(b" ")[2])
    values[place] = forged
    before = stated(capsys, half)
    path.write_bytes(first + b"\n" + checked(json.dumps(values).encode()) + rest)
    assert "Damaged: what says that shards are done (2): " in said(capsys, half, 1)
    after = stated(capsys, half)
    assert after["damaged"] == [2]
    assert after["shards_done"] == before["shards_done"] - 1


def test_who_writes_the_tables(half: Path, flawed: Path, weights: Path, capsys: Capture) -> None:
    """Or that nobody does, and that whoever did gives no sign."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda _run, _reference: None)
        main(command(flawed, weights, half, "--part", "2/2"))
    assert "the tables are still to be written: the same command does that" in said(capsys, half, 1)
    assert stated(capsys, half)["tables"] is None
    holder = replace(Holder.here(False, {}), host="node7", boot="of it")
    (half / "progress" / "tables.0").write_text(json.dumps(vars(holder)) + "\n")
    text = said(capsys, half, 1)
    assert f"the tables are being written by process {os.getpid()} of node7, since 2" in text
    assert stated(capsys, half)["tables"]["holder"]["host"] == "node7"
    os.utime(half / "progress" / "tables.0", (1.8e9 - 1e9,) * 2)
    assert "of whom there was no sign for" in said(capsys, half, 1)
    (half / "progress" / "tables.0").write_text("")
    assert "the tables are being written by somebody who is not known" in said(capsys, half, 1)


def test_a_manifest_of_two_billion_shards_takes_no_memory(half: Path, capsys: Capture) -> None:
    document = json.loads((half / "manifest.json").read_text())
    document["shard_size"] = 1
    document["subset"]["count"] = 2**31 - 1
    (half / "manifest.json").write_text(json.dumps(document))
    assert "Not begun: shards " in said(capsys, half, 1)


def test_what_is_no_run(tmp_path: Path, capsys: Capture) -> None:
    assert "is not a run folder" in said(capsys, tmp_path, 2)
    assert "does not exist" in said(capsys, tmp_path / "none", 2)
