"""Runs of earlier versions, finished or stopped: read, verified, and resumed to the same bytes."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from grafiqs import RequestError, open_run, verify_run
from grafiqs.cli import main
from support.commands import Capture, extracting, refused
from support.killing import ended, events_of
from support.making import tree, without_progress
from support.older import as_earlier, stopped_earlier, with_bytes

pytestmark = pytest.mark.usefixtures("one_thread")

FORMATS = (6, 7, 8)

FAILED = "bob/9.png"
"""The image that cannot be read: the twelfth of 20."""

Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def run(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    root = tmp_path_factory.mktemp("flawed") / "faces"
    shutil.copytree(faces, root)
    (root / FAILED).write_bytes(b"no image")

    def command(folder: Path, *more: object) -> list[str]:
        return extracting(root, weights, folder, "--layers", "block4", "--batch-size", 4, "--quiet", *more)

    return command


@pytest.fixture(scope="module")
def new(run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of this version; read only."""
    folder = tmp_path_factory.mktemp("new") / "run"
    assert main(run(folder)) == 1
    return folder


@pytest.fixture(params=FORMATS)
def old(request: pytest.FixtureRequest, new: Path, tmp_path: Path) -> Path:
    """The same run as each version left it."""
    return as_earlier(Path(shutil.copytree(new, tmp_path / "old")), request.param)


def test_a_finished_run_is_read_and_verified(old: Path, new: Path) -> None:
    assert json.loads((old / "manifest.json").read_bytes())["format"] in FORMATS
    assert verify_run(old, quiet=True) == []
    opened, other = open_run(old), open_run(new)
    assert opened.scores.tolist() == other.scores.tolist()
    assert opened.failures == other.failures
    assert opened.directions == other.directions
    assert (opened.gradients("block4")["dee/5.png"] == other.gradients("block4")["dee/5.png"]).all()
    assert opened.manifest.subset == other.manifest.subset
    assert opened.manifest.shards == other.manifest.shards


def test_a_finished_run_of_which_nothing_is_missing_is_left_as_it_is(old: Path, run: Command, tmp_path: Path) -> None:
    """Unless there is one that failed: that is tried again."""
    for path in (old / "block4").rglob("*.npy"):
        os.utime(path, (1, 1))
    assert main(run(old)) == 1
    assert {path.stat().st_mtime for path in (old / "block4").rglob("*.npy")} == {1}


def test_a_finished_run_is_mended_to_the_bytes_of_this_version(old: Path, new: Path, run: Command) -> None:
    (old / "block4" / "ann" / "2_grad.npy").unlink()
    assert main(run(old)) == 1
    assert tree(old) == tree(new)
    assert verify_run(old, quiet=True) == []


@pytest.mark.parametrize("done", [0, 1, 7, 20])
@pytest.mark.parametrize("format", FORMATS)
def test_a_run_that_was_stopped_is_resumed(
    format: int, done: int, new: Path, run: Command, tmp_path: Path, capsys: Capture
) -> None:
    """Its journal is one file; what it says is done is not done again, but for what failed or is gone."""
    folder = as_earlier(Path(shutil.copytree(new, tmp_path / "run")), format)
    stopped_earlier(folder, done)
    for path in (folder / "block4").rglob("*.npy"):
        os.utime(path, (1, 1))
    assert main(["verify", str(folder), "--quiet"]) == 1
    assert "the run is not finished" in capsys.readouterr().err
    if done == 20:
        (folder / "block4" / "ann" / "3_grad.npy").unlink()
    assert main([word for word in run(folder) if word != "--quiet"]) == 1
    kept = done - (done > 11) - (done == 20)
    assert (f"Resuming: {kept} of 20 images are done already" in capsys.readouterr().out) == bool(kept)
    assert tree(folder) == tree(new)
    assert sum(path.stat().st_mtime == 1 for path in (folder / "block4").rglob("*.npy")) == kept


def test_a_run_of_which_the_manifest_alone_stands(old: Path, new: Path, run: Command) -> None:
    stopped_earlier(old, 0).unlink()
    assert main(run(old)) == 1
    assert tree(old) == tree(new)


def test_a_run_that_lacks_nothing_but_its_tables_is_finished(old: Path, new: Path, run: Command) -> None:
    """Every sample is done, if without a score: then only the failed one is tried again."""
    stopped_earlier(old, 20)
    assert main(run(old)) == 1
    assert tree(old) == tree(new)


def test_parts_do_not_resume_it(old: Path, new: Path, run: Command, capsys: Capture) -> None:
    """Several at once would all have to make it one of this version."""
    assert main(run(old, "--part", "2/3")) == 1  # it is finished
    stopped_earlier(old, 7)
    before = tree(old)
    said = refused(capsys, *run(old, "--part", "2/3"))
    assert "was begun by an earlier version of grafiqs, which knew no parts: the same command without --part" in said
    assert tree(old) == before
    assert main(run(old)) == 1
    assert tree(old) == tree(new)


def test_another_command_is_refused(old: Path, run: Command, capsys: Capture) -> None:
    stopped_earlier(old, 7)
    before = tree(old)
    assert main(run(old, "--shard-size", 8)) == 2
    said = capsys.readouterr().err
    assert "holds another run, and nothing is mixed" in said
    assert "\n  - shard_size: 64 in the folder, 8 asked for" in said
    assert tree(old) == before


def test_a_kill_while_it_becomes_one_of_this_version_loses_nothing(new: Path, run: Command, tmp_path: Path) -> None:
    def stopped(name: str) -> Path:
        folder = as_earlier(Path(shutil.copytree(new, tmp_path / name)))
        stopped_earlier(folder, 7)
        return folder

    folder = stopped("whole")
    assert ended(run(folder), folder) == 1
    events = events_of(folder)
    begun = events[: events.index("append 7")]
    named = ("manifest.json", "subset.csv.gz", "progress.jsonl", "rename progress", "00000.done", "00000.0")
    chosen = [event for event in begun if any(name in event for name in named)]
    assert {"rename manifest.json.part", "rename progress.part", "remove progress.jsonl"} <= set(chosen)
    for number, event in enumerate(chosen[::3]):
        folder = stopped(str(number))
        for path in (folder / "block4").rglob("*.npy"):
            os.utime(path, (1, 1))
        assert ended(run(folder), folder, event) == -signal.SIGKILL, event
        assert main(run(folder)) == 1, event
        assert tree(folder) == tree(new), event
        assert sum(path.stat().st_mtime == 1 for path in (folder / "block4").rglob("*.npy")) == 7, event


# -- the table of the subset -----------------------------------------------------------------------------------


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: os.truncate(path, path.stat().st_size // 2),
    "no gzip": lambda path: path.write_bytes(b"identity,sample,path\n"),
    "another table": lambda path: path.write_bytes(gzip.compress(b"identity,sample,path\nann,0,../../0.png\n")),
    "a bomb": lambda path: path.write_bytes(gzip.compress(bytes(2**26))),
    "a bomb in rows": lambda path: path.write_bytes(gzip.compress(b"identity,sample,path\n" + b"a,b,c\n" * 2**21)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_of_the_subset(damage: str, new: Path, run: Command, tmp_path: Path, capsys: Capture) -> None:
    """Refused where the run is finished; of one that was stopped, it is known what stood there."""
    folder = Path(shutil.copytree(new, tmp_path / "run"))
    DAMAGES[damage](folder / "subset.csv.gz")
    before = tree(folder)
    for command in (["verify", str(folder)], ["report", str(folder)]):
        assert re.search(r"subset\.csv\.gz|\.\./\.\./0\.png", refused(capsys, *command))
    with pytest.raises(RequestError, match=r"subset\.csv\.gz|\.\./\.\./0\.png"):
        open_run(folder)
    assert "subset.csv.gz" in refused(capsys, *run(folder))
    assert tree(folder) == before

    stopped = tmp_path / "stopped"
    assert ended(run(stopped), stopped, "append 7") == -signal.SIGKILL
    kept = {path: data for path, data in without_progress(stopped).items() if not path.endswith(".part")}
    DAMAGES[damage](stopped / "subset.csv.gz")
    assert "subset.csv.gz cannot be used (" in refused(capsys, *run(stopped, "--num-identities", 2))
    assert main(run(stopped)) == 1
    assert "warning: subset.csv.gz was damaged or gone, and is written anew" in capsys.readouterr().err
    assert tree(stopped) == tree(new)
    assert kept.items() <= tree(stopped).items()


def test_a_forged_table_that_fits_its_manifest_makes_another_run(
    new: Path, run: Command, tmp_path: Path, capsys: Capture
) -> None:
    folder = Path(shutil.copytree(new, tmp_path / "run"))
    table = gzip.decompress((folder / "subset.csv.gz").read_bytes()).replace(b"ann,0,ann/0.png", b"ann,0,bob/0.png")
    with_bytes(folder, table)
    before = tree(folder)
    assert main(run(folder)) == 2
    assert "bob/0.png is new in it" in (said := capsys.readouterr().err) or "bob/0.png is no longer in it" in said
    assert tree(folder) == before
    assert main(["verify", str(folder), "--quiet"]) == 1


def test_the_table_has_the_same_bytes_whenever_and_wherever_it_is_written(
    new: Path, run: Command, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert main(run(tmp_path / "elsewhere" / "other", "--no-dump-gradients")) == 1
    table = (new / "subset.csv.gz").read_bytes()
    assert (tmp_path / "elsewhere" / "other" / "subset.csv.gz").read_bytes() == table
    rows = gzip.decompress(table).decode().splitlines()
    assert rows[:2] == ["identity,sample,path", "ann,0,ann/0.png"]
    assert len(rows) == 21
