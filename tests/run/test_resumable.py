"""Folders that a command fills, of every kind: killed and resumed, held by one, full, and no way to files elsewhere.

Each test runs over all kinds: a run, a run without gradient files and one in two shards, an alignment, a drawing.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest

from grafiqs.cli import main
from grafiqs.demo.plan import FACES
from grafiqs.disk import inside
from grafiqs.workers import processors
from support.killing import begun, ended, events_of, exit_code, lines_of, said_by, wait_for_lines
from support.making import fill_disk_at, make_faces, tree, without_progress

pytestmark = pytest.mark.usefixtures("one_thread", "one_helper")

Capture = pytest.CaptureFixture[str]

TABLE = "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"
TEMPLATE = "38.3,51.7,73.5,51.5,56.0,71.7,41.5,92.4,70.7,92.2"


Commands = dict[str, Callable[[Path], list[str]]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of six samples, one of which cannot be read, with landmarks beside it; read only."""
    root = make_faces(tmp_path_factory.mktemp("images") / "faces", {"ann": 3, "bob": 2})
    (root / "bob" / "9.png").write_bytes(b"no image")
    rows = [f"{path.relative_to(root).as_posix()},{TEMPLATE}\n" for path in sorted(root.rglob("*.png"))]
    (root.parent / "landmarks.csv").write_text(TABLE + "".join(rows))
    return root


@pytest.fixture(scope="module")
def commands(images: Path, weights: Path) -> Commands:
    """The commands that fill a folder."""
    run = ["extract", "--image-path", images, "--weights", weights, "--layers", "block3,block4", "--device", "cpu"]
    run += ["--quiet", "--batch-size", "2"]
    align = ["align", images]
    table = ["--landmarks", images.parent / "landmarks.csv", "--quiet"]
    draw = ["--identities", "3", "--samples-per-identity", "3", "--quiet"]
    return {
        "run": lambda folder: [*map(str, run), "--output-dir", str(folder)],
        "scores": lambda folder: [*map(str, run), "--no-dump-gradients", "--output-dir", str(folder)],
        "shards": lambda folder: [*map(str, run), "--no-dump-gradients", "--shard-size=4", "--output-dir", str(folder)],
        "alignment": lambda folder: [*map(str, align), str(folder), *map(str, table)],
        "drawing": lambda folder: ["draw-faces", str(folder), *draw],
    }


KINDS = {"run": 1, "scores": 1, "shards": 1, "alignment": 1, "drawing": 0}
"""The kinds of folders, and the exit code of the command that fills them."""

MANIFEST = {**dict.fromkeys(("run", "scores", "shards"), "manifest.json"), "alignment": "align.json", "drawing": FACES}
FOLDERS = {"run": ("block4", "block4/ann"), "alignment": ("ann",), "drawing": ("person_0001",)}
JOURNALS = {
    "run": ("progress.jsonl", *(f"progress/{name}" for name in ("beginning.done", "00000.0", "00000.1", "00000.done"))),
    "alignment": ("progress.jsonl",),
    "drawing": (),
}
LAST = {"run": "block4/bob/1_grad.npy", "alignment": "bob/1.png", "drawing": "person_0002/0002.png"}


@pytest.fixture(scope="module")
def finished(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each command makes, in a process whose events are written down; read only."""
    root = tmp_path_factory.mktemp("finished")
    for kind, command in commands.items():
        assert ended(command(root / kind), root / kind) == KINDS[kind]
    return {kind: root / kind for kind in commands}


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder; of the journal that an alignment keeps, the lines of what was done."""
    files = tree(folder)
    if "progress.jsonl" in files:
        files["progress.jsonl"] = b"".join(sorted(files["progress.jsonl"].splitlines(keepends=True)))
    return files


# -- killed, and resumed -----------------------------------------------------------------------------------


def stops(kind: str, events: list[str]) -> list[tuple[str, bool]]:
    """The events to stop at, and whether in the middle of the writing: every kind of write, first, last and between."""
    found: list[tuple[str, bool]] = []
    if (
        kind == "shards"
    ):  # what happens to claims and journals, and the moments between: of one shard all, of others some
        named = ("link", "after link", "rename", "after rename", "mkdir", "rmdir", "appended 3", "appended 5")
        own = [event for event in events if "progress" in event or "subset.csv.gz" in event or "appended" in event]
        found += [(event, False) for event in own if event.startswith(named) or "progress/00000" in event][::2]
        found += [(event, False) for event in own if event.startswith("remove progress.part/")][::4]
    events = [event for event in events if not event.startswith("after")]
    for sort in ("mkdir", f"{MANIFEST[kind]}.part", "progress.jsonl", ".npy.part", ".png.part", ".csv.part", "SUMS",
                 "append "):  # fmt: skip
        own = [event for event in events if sort in event]
        for event in dict.fromkeys([*own[:1], *own[len(own) // 2 :][:2], *own[-2:]]):
            found.append((event, False))
            if event.startswith(("rename", "appended")) and event.endswith((".part", *"0123456789")):
                found.append((event, True))
    return list(dict.fromkeys(found))


def tear(folder: Path, event: str) -> None:
    """Turn a kill at `event` into one in the middle of the writing that this event ends."""
    what, _, path = event.partition(" ")
    journals = [folder / "progress.jsonl", *(folder / "progress").glob("*.[0-9]*")]
    torn = (
        folder / path if what == "rename" else max(filter(Path.exists, journals), key=lambda path: path.stat().st_size)
    )
    os.truncate(torn, torn.stat().st_size // 2 if what == "rename" else torn.stat().st_size - 20)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "scores"])  # nor has the run in shards gradients
def test_what_is_killed_at_any_write_ends_byte_identical(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing is half-written under its final name, and what is there is not written again."""
    reference, events = content(finished[kind]), events_of(finished[kind])
    written = {path for path in reference if path not in (".lock", "progress.jsonl") and not path.endswith(".png")}
    assert {f"{what} {path}.part" for path in written for what in ("open", "rename")} <= set(events)
    for number, (event, middle) in enumerate(stops(kind, events)):
        folder, why = tmp_path / str(number), f"a kill at {event!r}, in the middle: {middle}"
        assert ended(commands[kind](folder), folder, event) == -signal.SIGKILL, why
        if middle:
            tear(folder, event)
        for path, data in without_progress(folder).items():
            assert path.endswith(".part") or path in (".lock", "progress.jsonl") or data == reference[path], (
                f"{path}: {why}"
            )
        kept = [path for path in folder.rglob("*") if path.suffix in (".npy", ".png")]
        stamps = {path: path.stat().st_mtime_ns for path in kept}
        assert main(commands[kind](folder)) == KINDS[kind], why
        assert content(folder) == reference, why
        again = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
        # Of the samples whose line was not yet written: a batch of two, or the pictures that are on their way.
        assert len(again) <= (4 * processors.usable() if kind == "alignment" else 2 * 2), why


def test_what_is_killed_four_times_ends_byte_identical(
    commands: Commands, finished: dict[str, Path], tmp_path: Path
) -> None:
    for event in ("append 1", "rename block4/ann/2_grad.npy.part", "append 4", "rename SHA256SUMS.part"):
        assert ended(commands["run"](tmp_path / "run"), tmp_path / "run", event) == -signal.SIGKILL
    assert main(commands["run"](tmp_path / "run")) == 1
    assert content(tmp_path / "run") == content(finished["run"])


@pytest.mark.parametrize("kind", ["run", "alignment"])
def test_an_overwriting_that_is_killed_can_be_done_again(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path
) -> None:
    """Foreign files stay; without a manifest, they would make the folder untouchable."""
    foreign = {"notes.txt": b"mine", f"{Path(LAST[kind]).parent}/mine.txt": b"mine too"}
    other = {"run": ["--gradient-dtype", "float16"], "alignment": ["--input-size", "64x64"]}[kind]
    arguments = {name: [*commands[kind](tmp_path / name), *other, "--overwrite"] for name in ("fresh", "whole")}
    assert main(arguments["fresh"]) == 1
    expected = content(tmp_path / "fresh") | foreign

    def with_foreign(name: str) -> tuple[Path, list[str]]:
        folder = Path(shutil.copytree(finished[kind], tmp_path / name))
        for path, data in foreign.items():
            (folder / path).write_bytes(data)
        return folder, [*commands[kind](folder), *other, "--overwrite"]

    folder, command = with_foreign("whole")
    assert ended(command, folder) == 1
    assert content(folder) == expected
    events = events_of(folder)
    removals = [event for event in events if event.startswith(("remove", "rmdir"))]
    for number, event in enumerate([*removals[::9], *(event for event in events if MANIFEST[kind] in event)]):
        folder, command = with_foreign(str(number))
        assert ended(command, folder, event) == -signal.SIGKILL, event
        assert main(command) == 1, event
        assert content(folder) == expected, event


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["run", "shards", "alignment"])
def test_a_signal_ends_it_cleanly(
    kind: str, number: signal.Signals, commands: Commands, finished: dict[str, Path], tmp_path: Path
) -> None:
    events = events_of(finished[kind])
    between = ["appended 1", "append 4", "open failures.csv.part", "rename SHA256SUMS.part"]
    first = ["mkdir .", "open .lock", f"rename {MANIFEST[kind]}.part"]
    assert {*first, *between} <= set(events)
    for place, event in enumerate([*first, *between]):
        folder = tmp_path / str(place)
        assert ended(commands[kind](folder), folder, event, number) == 128 + number, event
        said = said_by(folder)
        assert "Traceback" not in said
        assert "Exception" not in said
        if event in first:
            assert not folder.exists() or tree(folder) == {}, event
        else:
            sentence = r"grafiqs: stopped\. (\d+) of 6 images are done and kept: the same command resumes\n"
            found = re.search(sentence, said)
            assert found, said
            lines = lines_of(folder)
            assert int(found[1]) in (lines - 2, lines - 1, lines)  # a failure is a line, and is tried again
            assert not [path for path in tree(folder) if path.endswith(".part")]
            held = [path for path in (folder / "progress").glob("*.[0-9]*") if path.stat().st_size]
            assert all(path.read_bytes().endswith(b"\ngiven back\n") for path in held)
        assert main(commands[kind](folder)) == KINDS[kind]
        assert content(folder) == content(finished[kind])


# -- held by one command -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["run", "alignment"])
def test_a_second_command_is_refused_while_the_first_is_at_work(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / kind
    first = begun(commands[kind](folder), folder, "append 3", signal.SIGSTOP)
    try:
        wait_for_lines(folder, 3, first.is_alive)
        for more in overwrites(kind):
            assert main([*commands[kind](folder), *more]) == 2
            assert f"another {kind} is at work in {folder}" in capsys.readouterr().err
        assert first.is_alive()
    finally:
        assert first.pid
        os.kill(first.pid, signal.SIGCONT)
        code = exit_code(first)
    assert code == KINDS[kind]
    assert content(folder) == content(finished[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_command_leaves_the_lock_of_the_one_at_work(kind: str, commands: Commands, tmp_path: Path) -> None:
    """Even before that one has written its manifest: without the file, a third could lock the folder."""
    folder = tmp_path / kind
    folder.mkdir()
    with filelock.FileLock(folder / ".lock"):
        for _ in range(2):
            assert main(commands[kind](folder)) == 2
            assert list(tree(folder)) == [".lock"]
    assert main(commands[kind](folder)) == KINDS[kind]


@pytest.mark.parametrize("kind", ["run", "scores", "shards", "alignment"])
def test_a_disk_that_fills_up_stops_it_and_room_lets_it_go_on(
    kind: str,
    commands: Commands,
    finished: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    names = (
        ["progress/00001.done.0"] if kind == "shards" else [LAST.get(kind, "scores.csv"), "failures.csv", "SHA256SUMS"]
    )
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            fill_disk_at(folder / name, patch)
            assert main(commands[kind](folder)) == 3, name
        assert re.fullmatch(
            rf"grafiqs: cannot write to {folder}: {os.strerror(errno.ENOSPC)}\. \d of 6 images are done and kept: "
            "fix that, and the same command resumes",
            capsys.readouterr().err.splitlines()[-1],
        )
        assert main(commands[kind](folder)) == KINDS[kind]
        assert content(folder) == content(finished[kind])


# -- no way to files elsewhere -----------------------------------------------------------------------------


def overwrites(kind: str) -> list[list[str]]:
    return [[], ["--overwrite"]] if kind != "drawing" else [[]]


@pytest.mark.parametrize("kind", FOLDERS)
def test_no_link_to_a_folder_is_followed(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    """Nothing is written, removed or read where it leads, though it holds what the folder would."""
    for number, path in enumerate(FOLDERS[kind]):
        for more in overwrites(kind):
            folder, elsewhere = tmp_path / f"{number}{len(more)}", tmp_path / f"elsewhere{number}{len(more)}"
            shutil.copytree(finished[kind], folder)
            shutil.move(folder / path, elsewhere)
            (folder / path).symlink_to(elsewhere)
            removed = next(file for file in sorted(elsewhere.rglob("*")) if file.is_file())
            removed.unlink()
            before = tree(elsewhere)
            assert main([*commands[kind](folder), *more]) == (3 if kind == "drawing" else 2), path
            said = capsys.readouterr().err
            assert f"{Path(path).name} is a link, which is not followed there" in said
            assert "Traceback" not in said
            assert tree(elsewhere) == before
            (folder / path).unlink()
            shutil.move(elsewhere, folder / path)
            assert main([*commands[kind](folder), *more]) == KINDS[kind]
            assert content(folder) == content(finished[kind])


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_link_in_the_place_of_a_file_is_replaced(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path
) -> None:
    """Whole or not, the file that it leads to is not touched."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    for name in (LAST[kind], f"{LAST[kind]}.part"):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(finished[kind], folder)
        (folder / LAST[kind]).unlink()
        (folder / name).symlink_to(mine)
        assert main(commands[kind](folder)) == KINDS[kind]
        assert mine.read_bytes() == b"mine"
        assert not (folder / LAST[kind]).is_symlink()
        assert content(folder) == content(finished[kind])


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "mine")


def hard_link(path: Path) -> None:
    path.hardlink_to(path.parent.parent / "mine")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.fixture(scope="module")
def stopped(commands: Commands, finished: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each command leaves when it is killed on the way; read only."""
    root = tmp_path_factory.mktemp("stopped")
    for kind, event in {"run": "append 3", "alignment": "append 3", "drawing": f"rename {FACES}.part"}.items():
        assert ended(commands[kind](root / kind), root / kind, event) == -signal.SIGKILL
    return {kind: root / kind for kind in FOLDERS}


@pytest.mark.parametrize("state", ["finished", "stopped"])
@pytest.mark.parametrize("make", [link, hard_link, pipe, unix_socket])
@pytest.mark.parametrize("kind", FOLDERS)
def test_whatever_is_planted_nothing_elsewhere_is_touched_and_nothing_hangs(
    kind: str,
    make: Callable[[Path], None],
    state: str,
    commands: Commands,
    finished: dict[str, Path],
    stopped: dict[str, Path],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """At every name that is written: each file beside the samples, all samples, all that is unfinished, each folder."""
    written = {*tree(finished[kind]), *JOURNALS[kind], ".lock"}
    beside = sorted(path for path in written if "/" not in path)
    samples = sorted(path for path in written if "/" in path)
    inner = sorted({str(above) for path in samples for above in Path(path).parents} - {"."})
    trials = [*([name] for name in beside), samples, [f"{path}.part" for path in (*samples, *beside)]]
    trials += [[name] for name in inner]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_bytes(b"mine")
    for number, names in enumerate(trials):
        place = Path(shutil.copytree({"finished": finished, "stopped": stopped}[state][kind], tmp_path / str(number)))
        for name in names:
            path = place / name
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if make is link:
                path.symlink_to(mine if name in inner else mine / "file")
            elif make is hard_link:
                path.hardlink_to(mine / "file")
            else:
                make(path)
        with ended_in(30):
            assert main(commands[kind](place)) in (0, 1, 2, 3), names
        assert tree(mine) == {"file": b"mine"}, names
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        shutil.rmtree(place)


@contextmanager
def ended_in(seconds: int) -> Iterator[None]:
    """Raise TimeoutError when the block lasts longer."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("make", [link, pipe, unix_socket, folder])
@pytest.mark.parametrize("kind", FOLDERS)
def test_what_is_no_plain_file_is_refused(
    kind: str,
    make: Callable[[Path], None],
    commands: Commands,
    finished: dict[str, Path],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """As manifest, lock, journal or table; nothing waits for a pipe, and nothing is written through a link."""
    names = {
        "run": ("manifest.json", ".lock", "progress.jsonl", "progress", "scores.csv", "SHA256SUMS.images"),
        "alignment": ("align.json", ".lock", "progress.jsonl"),
        "drawing": (FACES, ".lock"),
    }[kind]
    (tmp_path / "mine").write_bytes(b"mine")
    for name in names:
        if name == "progress" and make is folder:
            continue  # an empty one, in which nothing is done yet
        place = tmp_path / f"{kind}-{name}"
        shutil.copytree(finished[kind], place)
        (place / name).unlink(missing_ok=True)
        make(place / name)
        assert main(commands[kind](place)) == 2, name
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.startswith("grafiqs: ")
        assert (tmp_path / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["manifest.json", "scores.csv", "failures.csv", "SHA256SUMS", "SHA256SUMS.images"])
def test_a_pipe_in_a_finished_run_ends_verify(name: str, finished: dict[str, Path], tmp_path: Path) -> None:
    place = Path(shutil.copytree(finished["run"], tmp_path / "run"))
    (place / name).unlink()
    os.mkfifo(place / name)
    assert main(["verify", str(place), "--quiet"]) == (2 if name == "manifest.json" else 1)


@pytest.mark.parametrize("name", ["align.json", "align.csv", "failures.csv", "SHA256SUMS", "ann/0.png"])
def test_a_pipe_in_a_finished_alignment_ends_verify(name: str, finished: dict[str, Path], tmp_path: Path) -> None:
    place = Path(shutil.copytree(finished["alignment"], tmp_path / "crops"))
    (place / name).unlink()
    os.mkfifo(place / name)
    assert main(["verify", str(place), "--quiet"]) == (2 if name == "align.json" else 1)


SECTIONS = ("format", "options", "faces", "crop", "data_set", "environments", "subset")


@pytest.mark.parametrize("wrong", [None, 5, "text", [], {}, [None], {"form": None}])
def test_an_align_json_that_is_none_is_refused(
    wrong: object, commands: Commands, finished: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    """Every section of it null, or something else; and none of it there."""
    place = Path(shutil.copytree(finished["alignment"], tmp_path / "crops"))
    whole = json.loads((place / "align.json").read_text())
    documents = [{**whole, section: wrong} for section in SECTIONS]
    documents += [{key: value for key, value in whole.items() if key != section} for section in SECTIONS]
    for document in [*documents, wrong]:
        (place / "align.json").write_text(json.dumps(document))
        assert main(commands["alignment"](place)) == 2, document
        said = capsys.readouterr().err
        assert "align.json is damaged" in said or "holds another alignment" in said
        assert main(["verify", str(place)]) in (1, 2), document
        assert "align.json" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["run", "alignment"])
def test_an_overwriting_that_cannot_be_leaves_all_that_is_there(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    """Exit code 2 promises it: a folder stands where a file is to be removed."""
    for name in ("progress.jsonl", f"{MANIFEST[kind]}.part", "SHA256SUMS.part"):
        place = Path(shutil.copytree(finished[kind], tmp_path / name))
        (place / name).unlink(missing_ok=True)
        (place / name / "mine").mkdir(parents=True)
        before = tree(place)
        assert main([*commands[kind](place), "--overwrite"]) == 2, name
        assert name in capsys.readouterr().err
        assert tree(place) == before


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no precision": lambda document: document["computation"].pop("precision"),
    "a precision that is none": lambda document: document["computation"].update(precision="float8"),
    "huge batches": lambda document: document["computation"].update(batch_size=1_000_000),
    "batches of more than any option": lambda document: document["computation"].update(batch_size=1025),
    "a path that cannot be written": lambda document: document["data_set"].update(path_prefix="\ud800"),
    "huge layers": lambda document: document["layers"]["block4"].__setitem__(1, 2**31 - 1),
    "an empty layer": lambda document: document["layers"]["block4"].__setitem__(0, 0),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_manifest_is_refused(
    forgery: str,
    commands: Commands,
    finished: dict[str, Path],
    stopped: dict[str, Path],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    for folder in (finished["run"], stopped["run"]):
        place = Path(shutil.copytree(folder, tmp_path / folder.parent.name))
        document = json.loads((place / "manifest.json").read_text())
        FORGED[forgery](document)
        (place / "manifest.json").write_text(json.dumps(document))
        for arguments in (commands["run"](place), ["verify", str(place)]):
            assert main(arguments) == 2
            assert "manifest.json is damaged" in capsys.readouterr().err


def test_the_demo_follows_no_link(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "demo").mkdir()
    for name in ("faces", "run"):
        (tmp_path / "demo" / name).symlink_to(tmp_path / "elsewhere")
        assert main(["demo", "--output-dir", str(tmp_path / "demo")]) == 2
        assert "is a link, which is not followed there" in capsys.readouterr().err
        assert tree(tmp_path / "elsewhere") == {}
        (tmp_path / "demo" / name).unlink()


def test_what_a_user_calls_part_is_not_touched(images: Path, tmp_path: Path) -> None:
    """Beside a file that a command writes anywhere else than into a folder of its own."""
    (tmp_path / "a.csv.part").write_bytes(b"mine")
    assert main(["select", "--image-path", str(images), "--output", str(tmp_path / "a.csv"), "--quiet"]) == 0
    assert (tmp_path / "a.csv.part").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.csv.part"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with inside.whole(tmp_path, "a/b/file") as file:
        file.write(b"one")
        assert not (tmp_path / "a" / "b" / "file").exists()
    with pytest.raises(TypeError), inside.whole(tmp_path, "a/b/file") as file:
        file.writelines([b"two", None])  # type: ignore[list-item]
    assert tree(tmp_path) == {"a/b/file": b"one"}


def test_folders_that_hold_something_else_stay(tmp_path: Path) -> None:
    for path in ("a/b/mine", "a/c/gone"):
        with inside.whole(tmp_path, path) as file:
            file.write(b"")
    inside.remove(tmp_path, "a/c/gone")
    inside.remove_folders(tmp_path, ["a/b/gone", "a/c/gone"])
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["a", "a/b", "a/b/mine"]
