"""Ctrl-C and SIGTERM: at any moment a command ends by them, says no more than a sentence, and loses nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from grafiqs import signals
from grafiqs.cli import main
from grafiqs.errors import RequestError, StoppedError
from grafiqs.run.journal import Outcome
from grafiqs.run.shard_journals import Open, ShardJournals
from support.making import tree

INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(scope="module")
def finished(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A run that nothing disturbed; read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(command(faces, weights, folder)) == 0
    return folder


def command(faces: Path, weights: Path, output: Path) -> list[str]:
    options = ("--layers", "block4", "--batch-size", "4", "--device", "cpu", "--quiet")
    return ["extract", "--image-path", str(faces), "--weights", str(weights), "--output-dir", str(output), *options]


def assert_goes_on(arguments: list[str], folder: Path, finished: Path) -> None:
    """The same command ends as if nothing had stopped it."""
    assert main(arguments) == 0
    assert tree(folder) == tree(finished)


# -- until a verb is at work ---------------------------------------------------------------------------------

COMMAND = """
import atexit, os, signal, sys

{before}
from grafiqs.cli import main
sys.exit(main())
"""

AT_IMPORT = """
def audit(event, details):
    if event == "import" and details[0] == {module!r}:
        os.kill(os.getpid(), {number})

sys.addaudithook(audit)
"""


def grafiqs(before: str, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """The command as a program, in a process that does something else `before`."""
    program = COMMAND.format(before=before)
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, **settings)


@pytest.mark.parametrize("number", [INT, TERM])
@pytest.mark.parametrize(
    "module", ["argparse", "grafiqs.options", "pathlib", "numpy", "grafiqs.run.tables", "tqdm", "torch", "torch.nn"]
)
def test_a_signal_while_modules_are_loaded_ends_the_command(module: str, number: int, tmp_path: Path) -> None:
    verbs = {"tqdm": "inspect", "numpy": "verify", "grafiqs.run.tables": "verify"}
    verb = "extract" if module.startswith("torch") else verbs.get(module, "select")
    arguments = [verb, "."] if module in verbs else [verb, "--image-path", "."]
    more = ["--weights", "none"] if verb == "extract" else []
    done = grafiqs(AT_IMPORT.format(module=module, number=int(number)), *arguments, *more, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_signal_while_python_ends_shows_no_traceback(number: int, faces: Path) -> None:
    late = f"atexit.register(lambda: os.kill(os.getpid(), {int(number)}))"
    done = grafiqs(late, "select", "--image-path", str(faces), "--quiet", "--output", os.devnull)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


def test_what_is_ignored_from_the_start_stays_so(faces: Path, tmp_path: Path) -> None:
    """As under nohup, or in a shell's background."""
    ignore = "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
    for module, number in (("argparse", INT), ("numpy", TERM)):
        before = ignore + AT_IMPORT.format(module=module, number=int(number))
        done = grafiqs(before, "select", "--image-path", str(faces), "--quiet", "--output", str(tmp_path / "subset"))
        assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "subset").read_text().splitlines()) == 20


def test_signals_at_any_moment(faces: Path, weights: Path, finished: Path, tmp_path: Path) -> None:
    """From the first line of the command on; before that, Python itself answers."""
    rng = random.Random(5)
    begin = "from grafiqs import cli\nbegin = cli._begin\ncli._begin = lambda: (begin(), print(flush=True))"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for moment in range(8):
        number = (INT, TERM)[moment % 2]
        arguments = command(faces, weights, tmp_path / "run")
        program = [sys.executable, "-c", COMMAND.format(before=begin), *arguments]
        with subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 2)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        assert process.returncode in (-number, 128 + number, 0)
        assert said.count("\n") == (process.returncode == 128 + number), said
        assert "Traceback" not in said
    assert_goes_on(arguments, tmp_path / "run", finished)


# -- while it is at work -------------------------------------------------------------------------------------


def heard(number: int = INT) -> None:
    """Send this process a signal; what that raises is raised here."""
    os.kill(os.getpid(), number)
    for _ in range(100):
        time.sleep(0.001)


class Fragile:
    """What is heard while one of these goes away cannot be raised there."""

    def __del__(self) -> None:
        heard(TERM)


def swallow() -> None:
    with suppress(BaseException):  # as a library may do
        heard(TERM)


def drop() -> None:
    Fragile()


@pytest.mark.parametrize("lose", [swallow, drop])
def test_a_signal_whose_exception_is_lost_stops_the_run_at_the_next_image(
    lose: Any,
    faces: Path,
    weights: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    append = ShardJournals.append

    def losing(journals: ShardJournals, outcome: Outcome) -> Open:
        shard = append(journals, outcome)
        if outcome.index == 6:
            lose()
        return shard

    arguments = command(faces, weights, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(ShardJournals, "append", losing)
        assert main(arguments) == 128 + TERM
    said = capsys.readouterr().err
    assert said == "grafiqs: stopped. 7 of 19 images are done and kept: the same command resumes\n"
    assert_goes_on(arguments, tmp_path / "run", finished)


def test_a_signal_that_is_lost_at_the_end_is_told_by_the_exit_code(
    faces: Path,
    weights: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    remove = ShardJournals.remove

    def losing(journals: ShardJournals) -> None:
        remove(journals)
        swallow()

    arguments = command(faces, weights, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(ShardJournals, "remove", losing)
        assert main(arguments) == 128 + TERM
    assert capsys.readouterr().err == "grafiqs: stopped; the same command starts again, or resumes\n"
    assert tree(tmp_path / "run") == tree(finished)


def test_a_signal_that_a_library_makes_an_error_of_is_told_by_the_exit_code(
    faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_: object) -> None:
        swallow()
        raise StoppedError("what came of it")

    monkeypatch.setattr("grafiqs.select.select_subset", failing)
    assert main(["select", "--image-path", str(faces)]) == 128 + TERM
    assert capsys.readouterr().err == "grafiqs: what came of it\n"


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_signal_while_an_error_is_told_shows_no_traceback(
    number: int, faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class SlowError(RequestError):
        def __str__(self) -> str:
            heard(number)
            return "too late"

    def failing(_: object) -> None:
        raise SlowError

    monkeypatch.setattr("grafiqs.select.select_subset", failing)
    assert main(["select", "--image-path", str(faces)]) == 128 + number
    assert capsys.readouterr().err == "grafiqs: stopped; the same command starts again, or resumes\n"


def test_a_second_signal_leaves_the_cleaning_up_alone(
    faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`timeout`, for one, sends SIGTERM to the command and then to its group."""
    cleaned = []

    def stopping(_: object) -> None:
        try:
            heard(TERM)
        finally:
            heard(TERM)
            heard(INT)
            cleaned.append(True)

    monkeypatch.setattr("grafiqs.select.select_subset", stopping)
    assert main(["select", "--image-path", str(faces)]) == 128 + TERM
    assert capsys.readouterr().err == "grafiqs: stopped; the same command starts again, or resumes\n"
    assert cleaned == [True]


def test_a_later_signal_ends_a_cleaning_up_that_does_not_end(faces: Path) -> None:
    before = f"""
import time
from grafiqs import select, signals

def stuck(_):
    try:
        os.kill(os.getpid(), {int(INT)})
        time.sleep(60)
    finally:
        os.kill(os.getpid(), {int(INT)})
        time.sleep(60)

select.select_subset, signals._ECHO = stuck, 0
"""
    done = grafiqs(before, "select", "--image-path", str(faces), timeout=40)
    assert (done.returncode, done.stdout, done.stderr) == (-INT, "", "")


@pytest.mark.parametrize("arguments", [["select", "--image-path", "/nowhere"], ["--help"], ["verify", "/nowhere"]])
def test_a_call_in_somebodys_process_leaves_its_signals_alone(arguments: list[str]) -> None:
    def own(*_: object) -> None:
        raise AssertionError

    hook = sys.unraisablehook
    before = {number: signal.signal(number, own) for number in (INT, TERM)}
    try:
        with suppress(SystemExit):
            main(arguments)
        assert [signal.getsignal(number) for number in before] == [own, own]
        assert sys.unraisablehook is hook
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_thread_may_call_the_command(faces: Path, tmp_path: Path) -> None:
    """It hears no signals."""
    arguments = ["select", "--image-path", str(faces), "--output", str(tmp_path / "subset.csv")]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, arguments).result() == 0


def test_what_is_not_a_signal_is_still_shown_where_it_cannot_be_raised() -> None:
    shown: list[object] = []
    hook = sys.unraisablehook
    listening = signals.Signals()
    try:
        sys.unraisablehook = lambda unraisable: shown.append(unraisable.exc_value)
        listening = signals.Signals()
        listening.listen()

        class Faulty:
            def __del__(self) -> None:
                raise ValueError("shown")

        Faulty()
    finally:
        listening.restore()
        sys.unraisablehook = hook
    assert [str(value) for value in shown] == ["shown"]
