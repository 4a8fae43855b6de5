"""`extract --part`: many processes do a run, in whatever order, and its bytes are those of one process."""

from __future__ import annotations

import errno
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grafiqs.cli import main
from grafiqs.run import claims, ending
from grafiqs.run import folder as run_folder
from grafiqs.run.folder import RunFolder
from grafiqs.run.holder import Holder
from grafiqs.run.shard_journals import ShardJournals
from support.commands import Capture, extracting, refused
from support.killing import begun, ended, events_of, exit_code, said_by, started, wait_for_lines, wait_until_stopped
from support.making import fill_disk_at, tree, without_progress

pytestmark = pytest.mark.usefixtures("one_thread")

Part = Callable[..., list[str]]

FAILED = "bob/9.png"
"""The image that cannot be read: the twelfth of 20, in the third shard of five."""


@pytest.fixture(scope="module")
def run(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Part:
    """The command of a run of 20 samples in five shards."""
    root = tmp_path_factory.mktemp("flawed") / "faces"
    shutil.copytree(faces, root)
    (root / FAILED).write_bytes(b"no image")

    def command(folder: Path, part: str | None = None, *more: object) -> list[str]:
        sizes = ("--layers", "block4", "--batch-size", 2, "--shard-size", 4)
        return extracting(root, weights, folder, *sizes, *more, *(["--part", part] if part else []))

    return command


@pytest.fixture(scope="module")
def whole(run: Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run by one process; read only."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert ended(run(folder), folder) == 1
    return folder


# -- one after the other ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["1234", "4321", "31244213"])
def test_parts_in_any_order_are_the_run_of_one_process(
    order: str, run: Part, whole: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The third of four, which has the image that cannot be read, says so; the last one speaks of all."""
    folder = tmp_path / "run"
    last = max(order.index(number) for number in "1234")
    for place, number in enumerate(order):
        assert main(run(folder, f"{number}/4", "--quiet")) == (number == "3" or place >= last), place
        said = capsys.readouterr()
        assert ("1 images have no score" in said.err) == (place >= last)
        assert main(["verify", str(folder), "--quiet"]) == (1 if place < last else 0)
    assert tree(folder) == tree(whole)


def test_a_part_says_what_it_does(run: Part, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "run"
    assert main(run(folder, "2/3")) == 0
    said = capsys.readouterr().out
    assert "Part 2 of 3: 2 of 5 shards, 8 images\n" in said
    assert f"This part is done, and others have work left: 'grafiqs status {folder}' says which" in said
    assert "images have scores" not in said
    assert main(run(folder, "2/3")) == 0
    assert "Processed" not in capsys.readouterr().out
    assert main(run(folder)) == 1
    assert "19 of 20 images have scores" in capsys.readouterr().out


def test_the_size_of_shards_is_said_if_it_is_another_than_asked_for(run: Part, tmp_path: Path, capsys: Capture) -> None:
    """Whole batches, and so again when the run is resumed."""
    said = "Shards of 6 images: --shard-size 5 in whole batches of 2\n"
    for part in ("1/3", "3/3"):
        assert main(run(tmp_path / "run", part, "--shard-size", 5)) == 0
        assert said in capsys.readouterr().out
    assert main(run(tmp_path / "run", "2/3", "--shard-size", 6)) == 1
    assert "Shards of" not in capsys.readouterr().out


def test_a_shard_that_is_not_to_be_had_is_not_asked_for_again_at_once(
    run: Part, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may show late who has it."""
    take, asked, rests = ShardJournals.take, list[int](), list[float]()

    def late(journals: ShardJournals, number: int, *given: Any, **words: Any) -> Any:
        if number == 2 and len(asked) < 3:
            asked.append(len(rests))
            return None
        return take(journals, number, *given, **words)

    monkeypatch.setattr(ShardJournals, "take", late)
    monkeypatch.setattr(run_folder, "rest", rests.append)
    assert main(run(tmp_path / "run", "1/1", "--quiet")) == 1
    assert asked == [0, 0, 1]
    assert tree(tmp_path / "run") == tree(whole)


def test_more_parts_than_shards(run: Part, whole: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "run"
    for number in (7, 6, 5, 4, 3, 2, 1):
        assert main(run(folder, f"{number}/7")) == (number in (3, 1))
        said = capsys.readouterr().out
        shards, images = (0, 0) if number > 5 else (1, 4)
        more = "; 5 parts are enough" * (not shards)
        assert f"Part {number} of 7: {shards} of 5 shards, {images} images{more}\n" in said
    assert tree(folder) == tree(whole)


def test_a_part_that_never_came_is_done_by_a_plain_run(run: Part, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for part in ("1/3", "3/3"):
        main(run(folder, part, "--quiet"))
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}
    assert len(kept) == 11
    assert main(run(folder, None, "--quiet")) == 1
    assert tree(folder) == tree(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_run_that_was_stopped_is_gone_on_with_by_parts(run: Part, whole: Path, tmp_path: Path) -> None:
    """And with another number of them each time."""
    folder = tmp_path / "run"
    assert ended(run(folder), folder, "append 5") == -signal.SIGKILL
    for part in ("2/2", "1/3", "2/3", "3/3"):
        main(run(folder, part, "--quiet"))
    assert tree(folder) == tree(whole)


def test_a_part_of_a_finished_run_changes_nothing(run: Part, whole: Path, tmp_path: Path, capsys: Capture) -> None:
    """It says that it leaves failures as they are, and refuses to pass over what is gone."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    assert main(run(folder, "1/4")) == 1
    said = capsys.readouterr().out
    assert "19 of 20 images have scores" in said
    assert "The same command without --part tries again what failed" in said
    (folder / "block4" / "ann" / "0_grad.npy").unlink()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    said = refused(capsys, *run(folder, "1/4"))
    assert "lacks gradients or tables: the same command without --part makes them" in said
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before} == before
    assert len(tree(folder)) == len(before)
    assert main(run(folder, None, "--quiet")) == 1
    assert tree(folder) == tree(whole)


def test_a_part_says_what_failed(run: Part, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "run"
    assert main(run(folder, "3/5", "--quiet")) == 1
    status = f"'grafiqs status {folder}'"
    assert f"1 images of this part have no score; {status} says why" in capsys.readouterr().err


GONE: dict[str, Callable[[Path], object]] = {
    "gone": lambda folder: (folder / "block4/ann/0_grad.npy").unlink(),
    "cut short": lambda folder: os.truncate(folder / "block4/ann/0_grad.npy", 100),
    "all of an identity": lambda folder: shutil.rmtree(folder / "block4/ann"),
    "a torn journal": lambda folder: os.truncate(folder / "progress/00000.done", 700),
    "an empty journal": lambda folder: os.truncate(folder / "progress/00000.done", 0),
    "no journal": lambda folder: (folder / "progress/00000.done").write_bytes(b"no journal"),
}


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("part", [None, "1/2"])
def test_what_is_gone_of_a_shard_that_was_done_is_done_again(
    gone: str, part: str | None, run: Part, whole: Path, tmp_path: Path, capsys: Capture
) -> None:
    """As after a power failure: before the tables are written, what others did is looked at."""
    folder = tmp_path / "run"
    for each in ("1/2", "2/2") if part is None else ("1/2",):
        wanted = "1/3" if part is None and each == "2/2" else each
        main(run(folder, wanted, "--quiet"))
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("block4/*/*_grad.npy")}
    GONE[gone](folder)
    capsys.readouterr()
    # A part does so with what is of others, too: they may have ended.
    assert main(run(folder, part and "2/2", "--quiet")) == 1
    assert "done again" in capsys.readouterr().err
    assert tree(folder) == tree(whole)
    again = [path for path, stamp in kept.items() if path.stat().st_mtime_ns != stamp]
    assert len(again) <= 4  # of one shard


def test_a_part_that_is_too_large_a_number_is_refused_like_any_other(
    run: Part, tmp_path: Path, capsys: Capture
) -> None:
    said = refused(capsys, *run(tmp_path / "run", f"1/{'9' * 5000}"))
    assert "it takes K/N" in said
    assert len(said) < 300


def test_a_file_system_without_links(run: Part, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    for part in ("2/2", "1/2"):
        main(run(tmp_path / "run", part, "--quiet"))
    assert tree(tmp_path / "run") == tree(whole)


# -- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "section"),
    [
        (("--shard-size", 8), "shard_size: 4 in the folder, 8 asked for"),
        (("--layers", "block3"), "layers.block3"),
        (("--random-seed", 1), "options.random_seed: 42 in the folder, 1 asked for"),
        (("--no-dump-gradients",), "options.dump_gradients: true in the folder, false asked for"),
    ],
)
def test_a_part_of_another_run_is_refused(
    others: tuple[object, ...], section: str, run: Part, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "run"
    assert main(run(folder, "1/4", "--quiet")) == 0
    before = tree(folder)
    capsys.readouterr()
    assert main(run(folder, "2/4", *others)) == 2
    said = capsys.readouterr().err
    assert f"{folder} holds another run, and nothing is mixed" in said
    assert f"\n  - {section}" in said.replace("True", "true").replace("False", "false")
    assert tree(folder) == before


@pytest.mark.parametrize("part", ["5/4", "0/4", "x", "1", "1/", "/4", "1/0", "-1/4", "1/4/4", "1.0/4", "", "\u00b2/4"])
def test_a_part_that_is_none_is_refused(part: str, run: Part, tmp_path: Path, capsys: Capture) -> None:
    said = refused(capsys, *run(tmp_path / "run"), f"--part={part}")
    assert "it takes K/N, part K of N from 1 to N, such as 3/16" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", ["--overwrite", "--dry-run"])
def test_a_part_does_not_go_with_what_is_for_the_whole(other: str, run: Part, tmp_path: Path, capsys: Capture) -> None:
    said = refused(capsys, *run(tmp_path / "run", "1/4"), other)
    assert "--part" in said
    assert other in said
    assert not (tmp_path / "run").exists()


def test_a_part_that_cannot_begin_leaves_nothing(
    run: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert "make room" in refused(capsys, *run(tmp_path / "deep" / "run", "1/4", "--quiet"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [None, "1/4"])
@pytest.mark.parametrize("name", ["manifest.json", "subset.csv.gz"])
def test_a_disk_that_is_full_before_the_manifest_is_written(
    part: str | None,
    name: str,
    run: Part,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        fill_disk_at(folder / name, patch)
        assert "No space left on device" in refused(capsys, *run(folder, part, "--quiet"))
    assert not folder.exists()
    for number in range(1, 5):
        main(run(folder, f"{number}/4", "--quiet"))
    assert tree(folder) == tree(whole)


# -- at once -----------------------------------------------------------------------------------------------------


def codes_of(folder: Path, *commands: list[str]) -> list[int | None]:
    """The exit codes of commands that work at once."""
    processes = [started(command, folder.with_name(f"{number}.said")) for number, command in enumerate(commands)]
    return [exit_code(process) for process in processes]


@pytest.mark.parametrize("parts", [("1/3", "2/3", "3/3"), ("1/1", "1/1", "1/1"), ("1/2", "1/2", "2/2", "2/2")])
def test_parts_at_once_that_begin_in_an_empty_folder(
    parts: tuple[str, ...], run: Part, whole: Path, tmp_path: Path
) -> None:
    """Some of them twice: every shard is done once, and the tables are written once."""
    folder = tmp_path / "run"
    codes = codes_of(folder, *(run(folder, part) for part in parts))
    assert set(codes) <= {0, 1}, [(tmp_path / f"{number}.said").read_text() for number in range(len(parts))]
    assert tree(folder) == tree(whole)
    said = [(tmp_path / f"{number}.said").read_text() for number in range(len(parts))]
    assert all("Traceback" not in text for text in said)
    assert sum("19 of 20 images have scores" in text for text in said) >= 1


@pytest.mark.parametrize(
    "moment", ["grafiqs.extract.prove", "grafiqs.run.claims.Claims.take", "grafiqs.run.folder.RunFolder.done"]
)
def test_a_part_whose_run_others_finish_at_any_moment(
    moment: str, run: Part, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Before it begins, as it would write the tables, and as it says what it did: nothing is made anew."""
    folder = tmp_path / "run"
    assert ended(run(folder, "1/2"), folder, "append 17") == -signal.SIGKILL
    if moment != "grafiqs.extract.prove":
        assert main(run(folder, "2/2", "--quiet")) == 0
    usual, met = pkgutil.resolve_name(moment), list[str]()

    def meanwhile(*given: Any, **named: Any) -> Any:
        if (moment.endswith("take") and given[1] != "tables") or met:
            return usual(*given, **named)
        met.append(moment)
        assert codes_of(folder, run(folder)) == [1]
        return usual(*given, **named)

    if moment.endswith("done"):  # which is asked by those that others did not wait for
        monkeypatch.setattr(RunFolder, "finish", lambda _run, _reference: None)
    monkeypatch.setattr(moment, meanwhile)
    assert main(run(folder, "1/2")) == 1
    assert met
    assert tree(folder) == tree(whole)
    assert "19 of 20 images have scores" in capsys.readouterr().out


def test_parts_that_are_killed_again_and_again(run: Part, whole: Path, tmp_path: Path) -> None:
    """At the beginning, between the lines of their shards, and at the end of these; what is done is not done again."""
    folder, stamps = tmp_path / "run", dict[Path, int]()
    stops = {
        "1/2": [
            "after link progress/beginning.0",
            "append 1",
            "appended 3",
            "rename progress/00000.done.2.part",
            "append 9",
            "appended 10",
            "append 17",
        ],
        "2/2": ["append 4", "append 6", "after rename progress/00001.done.2.part", "append 14"],
    }
    kills = 0
    for part, events in stops.items():
        for event in events:
            code = ended(run(folder, part), folder, event)
            assert code == -signal.SIGKILL, event
            kills += 1
            for path in folder.rglob("*_grad.npy"):
                stamps.setdefault(path, path.stat().st_mtime_ns)
    assert kills == 11
    assert main(run(folder, "2/2", "--quiet")) == 0
    assert main(run(folder, "1/2", "--quiet")) == 1
    assert tree(folder) == tree(whole)
    again = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert len(again) <= 2 * kills  # no more than a batch each


def test_parts_at_once_that_are_killed_at_random(run: Part, whole: Path, tmp_path: Path) -> None:
    """Two that do all of it, ten kills; nothing half-written has its final name at any time."""
    folder, reference, dice, under_way = tmp_path / "run", tree(whole), random.Random(3), 0
    running = [started(run(folder, "1/1"), tmp_path / "0.said", pause=0.12) for _ in range(2)]
    for _ in range(10):
        time.sleep(dice.uniform(0.1, 0.4))
        process = running.pop(0)
        process.kill()
        process.join()
        under_way += not (folder / "SHA256SUMS").exists()
        for path, data in without_progress(folder).items() if folder.exists() else ():
            assert path.endswith(".part") or data == reference[path], path
        running.append(started(run(folder, "1/1"), tmp_path / "0.said", pause=0.12))
    assert under_way >= 8
    assert {exit_code(process) for process in running} == {1}
    assert tree(folder) == reference


def test_a_part_whose_tables_were_being_written_is_finished_by_any_other(
    run: Part, whole: Path, tmp_path: Path
) -> None:
    events = [
        event for event in events_of(whole) if "SHA256SUMS" in event or "tables" in event or "progress.part" in event
    ]
    assert main(run(tmp_path / "begun", "1/2", "--quiet")) == 1
    for number, event in enumerate([*events[::8], events[-1]]):
        folder = Path(shutil.copytree(tmp_path / "begun", tmp_path / str(number)))
        assert ended(run(folder, "2/2"), folder, event) == -signal.SIGKILL, event
        assert main(run(folder, "1/2", "--quiet")) == 1, event
        assert tree(folder) == tree(whole), event


def test_a_plain_run_waits_for_a_part_beside_it(run: Part, whole: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "run", tmp_path / "plain.said"
    part = begun(run(folder, "2/2"), folder, "append 5", signal.SIGSTOP)
    wait_until_stopped(part)
    plain = started(run(folder), said)
    try:
        ends = time.monotonic() + 30
        while not said.exists() or "Waiting" not in said.read_text():
            assert plain.is_alive()
            assert time.monotonic() < ends
            time.sleep(0.02)
        assert re.search(rf"Waiting for [12] shards: process {part.pid} of ", said.read_text())
        wait_for_lines(folder, 13, plain.is_alive)
    finally:
        assert part.pid
        os.kill(part.pid, signal.SIGCONT)
        codes = exit_code(part), exit_code(plain)
    assert codes in ((0, 1), (1, 1))
    assert tree(folder) == tree(whole)
    assert "Traceback" not in said.read_text() + said_by(folder)


def test_nothing_is_overwritten_beside_a_part_at_work(run: Part, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "run"
    part = begun(run(folder, "1/1"), folder, "append 5", signal.SIGSTOP)
    wait_until_stopped(part)
    try:
        before = tree(folder)
        assert f"(process {part.pid} of " in refused(capsys, *run(folder, None, "--overwrite", "--quiet"))
        assert tree(folder) == before
    finally:
        part.kill()
        part.join()
    assert main(run(folder, None, "--overwrite", "--quiet")) == 1


# -- another machine ---------------------------------------------------------------------------------------------


def of_another_machine(folder: Path, run: Part) -> Path:
    """A run whose second shard another machine holds, with two samples done; returns the journal of that."""
    assert ended(run(folder, "2/5"), folder, "append 6") == -signal.SIGKILL
    journal = folder / "progress" / "00001.0"
    holder, lines = journal.read_bytes().split(b"\n", 1)
    document: dict[str, Any] = json.loads(holder)
    journal.write_bytes(json.dumps({**document, "host": "elsewhere", "boot": "of it"}).encode() + b"\n" + lines)
    return journal


@pytest.mark.parametrize("part", [None, "2/5"])
def test_what_another_machine_holds_is_waited_for_and_taken_over(
    part: str | None, run: Part, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """As long as its file grows it is at work; what it did is kept."""
    monkeypatch.setattr(claims, "STALE", 1.0)
    folder = tmp_path / "run"
    journal = of_another_machine(folder, run)
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("block4/*/*_grad.npy")}
    grown: list[float] = []

    def beats() -> None:
        for _ in range(8):
            time.sleep(0.2)
            with journal.open("ab") as file:
                file.write(b"\n")
            grown.append(time.monotonic())

    beating = threading.Thread(target=beats)
    beating.start()
    try:
        code = main(run(folder, part))
    finally:
        beating.join()
    assert code == (part is None)
    assert time.monotonic() - grown[-1] >= 1.0
    said = capsys.readouterr().out
    assert re.search(r"Waiting for 1 shards: process \d+ of elsewhere\n", said)
    if part is not None:
        main(run(folder, None, "--quiet"))
    assert tree(folder) == tree(whole)
    done = [path for path in kept if path.parent.name == "ann"]
    assert len(done) == 2
    assert all(path.stat().st_mtime_ns == kept[path] for path in done)


@pytest.mark.parametrize("known", [True, False])
def test_tables_that_another_machine_no_longer_writes_are_written_by_a_part(
    known: bool, run: Part, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """It waits for a sign of who claimed them: or no part would ever write them."""
    monkeypatch.setattr(claims, "STALE", 1.0)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda _run, _reference: None)
        main(run(folder, "1/1", "--quiet"))
    holder = replace(Holder.here(False, {}), host="elsewhere", boot="of it")
    (folder / "progress" / "tables.0").write_text(json.dumps(vars(holder)) + "\n" if known else "")
    started_at = time.monotonic()
    assert main(run(folder, "1/1")) == 1
    assert time.monotonic() - started_at >= 1.0
    who = "process .* of elsewhere" if known else "their holder is not known"
    assert re.search(f"Waiting for the tables: {who}\n", capsys.readouterr().out)
    assert tree(folder) == tree(whole)


def test_a_part_leaves_tables_to_who_is_seen_to_write_them(
    run: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda _run, _reference: None)
        main(run(folder, "1/1", "--quiet"))
    held = folder / "progress" / "tables.0"
    held.write_text(json.dumps(vars(Holder.here(False, {}))) + "\n")
    assert main(run(folder, "2/2", "--quiet")) == 0
    elsewhere = replace(Holder.here(False, {}), host="elsewhere", boot="of it")
    held.write_text(json.dumps(vars(elsewhere)) + "\n")

    def beat(_most: float) -> None:
        held.write_bytes(held.read_bytes() + b"\n")

    monkeypatch.setattr(ending, "rest", beat)
    assert main(run(folder, "2/2", "--quiet")) == 0
    assert not (folder / "SHA256SUMS").exists()


def test_a_part_that_begins_as_the_folder_of_the_journals_goes_leaves_a_finished_run(
    run: Part, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    assert main(run(folder, "1/2", "--quiet")) == 1
    make = ShardJournals.make

    def late(journals: ShardJournals) -> None:
        monkeypatch.undo()
        assert codes_of(folder, run(folder)) == [1]
        make(journals)

    monkeypatch.setattr(ShardJournals, "make", late)
    assert main(run(folder, "2/2", "--quiet")) == 1
    assert tree(folder) == tree(whole)
    assert not (folder / "progress").exists()


def test_a_shard_that_another_machine_ends_is_not_done_again(
    run: Part, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "STALE", 30.0)
    done = tmp_path / "done"
    assert main(run(done, "2/5", "--quiet")) == 0
    folder = tmp_path / "run"
    of_another_machine(folder, run)

    def ends() -> None:
        time.sleep(1)
        for path in done.rglob("*_grad.npy"):
            shutil.copy(path, folder / path.relative_to(done))
        for path in folder.rglob("*_grad.npy.part"):  # what it was writing
            path.unlink()
        shutil.copy(done / "progress" / "00001.done", folder / "progress" / "00001.done")

    ends_it = threading.Thread(target=ends)
    ends_it.start()
    code = main(run(folder, None, "--quiet"))
    ends_it.join()
    assert code == 1
    assert tree(folder) == tree(whole)


# -- no room -----------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_in_the_middle_of_a_part(run: Part, whole: Path, tmp_path: Path) -> None:
    """A limit on the size of files makes the system write a part of a line, as it does on a full disk."""
    folder, scores = tmp_path / "run", ["--no-dump-gradients", "--quiet"]
    assert ended(run(folder, "1/2", *scores), folder, "append 2") == -signal.SIGKILL
    head, *lines = (folder / "progress" / "00000.0").read_bytes().splitlines(keepends=True)
    limit = len(head) + len(b"".join(lines)) * 3 // 4
    assert exit_code(begun(run(folder, "1/2", *scores), folder, file_limit=limit)) == 3
    assert "images are done and kept: fix that, and the same command resumes" in said_by(folder)
    assert "Traceback" not in said_by(folder)
    for part in ("2/2", "1/2"):
        main(run(folder, part, *scores))
    assert main(run(tmp_path / "whole", None, *scores)) == 1
    assert tree(folder) == tree(tmp_path / "whole")
