"""Commands in processes of their own that stop at a chosen point of what they write to their folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from grafiqs.cli import main
from grafiqs.run import claims
from grafiqs.run.journal import Journal, Outcome
from grafiqs.run.shard_journals import ShardJournals
from grafiqs.run.shard_work import Open

PROCESSES = multiprocessing.get_context("forkserver")
"""Processes of their own that need not load torch again: one that has loaded it, and little else, is forked."""
PROCESSES.set_forkserver_preload(["grafiqs.extract", "safetensors.torch", "pytest"])


def _settle() -> None:
    """What a process of its own does as this one does, or does faster."""
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own lock is one between processes, of which a kill leaves a trace
    claims._LOOKS = 0.1


def watched_run(arguments: list[str], folder: Path, stop: str, number: int, file_limit: int) -> None:
    """Run the command in this process, which sends itself the signal `number` just before the event `stop`.

    Every change to a file or folder below `folder` is an event, named by what is done and to what, and so are
    the start and the end of each line of a journal, and the moment after a name is given. What is random in names is
    left out. What the process says goes to FOLDER.said, the events go to FOLDER.events. No file can grow beyond
    `file_limit` bytes.
    """
    said = os.open(f"{folder}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    _settle()
    happened: dict[str, None] = {}

    def happens(event: str) -> None:
        if event not in happened:
            happened[event] = None
            if event == stop:
                os.kill(os.getpid(), number)
                if number in (signal.SIGKILL, signal.SIGSTOP):
                    time.sleep(0.2)  # a signal to the whole process may come a moment after

    def seen(name: str, path: str) -> None:
        if path == str(folder) or path.startswith(f"{folder}/"):
            happens(f"{name} {re.sub('[.][0-9a-f]{16}[.]part$', '.part', os.path.relpath(path, folder))}")

    def audit(name: str, details: tuple[Any, ...]) -> None:
        if name == "open" and details[2] & (os.O_WRONLY | os.O_RDWR):
            seen(name, os.fsdecode(details[0]) if not isinstance(details[0], int) else "")

    def watched(name: str, change: Callable[..., Any], below: str = "dir_fd") -> Callable[..., Any]:
        """A change of names, made in an open folder or not; a link is called by its new one."""

        def changes(path: Any, *arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[0] & (os.O_WRONLY | os.O_RDWR):
                return change(path, *arguments, **named)
            place = os.fsdecode(arguments[0] if name == "link" else path)
            if isinstance(named.get(below), int):
                place = os.path.join(os.readlink(f"/proc/self/fd/{named[below]}"), place)
            seen(name, place)
            changed = change(path, *arguments, **named)
            if name in ("link", "rename"):
                seen(f"after {name}", place)
            return changed

        return changes

    for name, below in {
        "open": "dir_fd",
        "rename": "src_dir_fd",
        "link": "dst_dir_fd",
        "mkdir": "dir_fd",
        "rmdir": "dir_fd",
    }.items():
        setattr(os, name, watched(name, getattr(os, name), below))
    os.unlink = watched("remove", os.unlink)

    def watch_appending(journals: type[Journal[Any] | ShardJournals]) -> None:
        append: Callable[..., Any] = journals.append

        def watched_append(journal: Any, outcome: Any) -> Any:
            happens(f"append {outcome.index}")
            done = append(journal, outcome)
            happens(f"appended {outcome.index}")
            return done

        journals.append = watched_append  # type: ignore[assignment, method-assign]

    watch_appending(Journal)
    watch_appending(ShardJournals)
    sys.addaudithook(audit)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    code = main(arguments)
    Path(f"{folder}.events").write_text(json.dumps(list(happened)))
    sys.exit(code)


def plain_run(arguments: list[str], said: Path, pause: float) -> None:
    """Run the command in this process; what it says goes to the file `said`, and it rests at each line of a journal."""
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    _settle()
    append = ShardJournals.append

    def slow_append(journals: ShardJournals, outcome: Outcome) -> Open:
        time.sleep(pause)
        return append(journals, outcome)

    ShardJournals.append = slow_append  # type: ignore[assignment, method-assign]
    sys.exit(main(arguments))


def started(arguments: list[str], said: Path, pause: float = 0) -> ForkServerProcess:
    """A process at work on the command, beside others in the same folder; `pause` are seconds a sample."""
    process = PROCESSES.Process(target=plain_run, args=(arguments, said, pause))
    process.start()
    return process


def begun(
    arguments: list[str],
    folder: Path,
    stop: str = "",
    number: int = signal.SIGKILL,
    file_limit: int = resource.RLIM_INFINITY,
) -> ForkServerProcess:
    """A process at work on the command, to be stopped by the signal `number` just before the event `stop`."""
    process = PROCESSES.Process(target=watched_run, args=(arguments, folder, stop, int(number), file_limit))
    process.start()
    return process


def ended(arguments: list[str], folder: Path, stop: str = "", number: int = signal.SIGKILL) -> int | None:
    """The exit code of such a process; the number of the signal, negative, where that ended it."""
    return exit_code(begun(arguments, folder, stop, number))


def exit_code(process: ForkServerProcess) -> int | None:
    process.join(60)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    return code


def events_of(folder: Path) -> list[str]:
    """The events of a watched run that came to its end."""
    events: list[str] = json.loads(Path(f"{folder}.events").read_text())
    return events


def said_by(folder: Path) -> str:
    """What a watched run printed."""
    return Path(f"{folder}.said").read_text()


def wait_until_stopped(process: ForkServerProcess) -> None:
    """Wait until all threads of a process stand still, by SIGSTOP."""
    tasks = Path(f"/proc/{process.pid}/task")

    def state(task: Path) -> bytes:
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            return (task / "stat").read_bytes().rpartition(b")")[2].split()[0]
        return b"T"

    while {state(task) for task in tasks.iterdir()} != {b"T"}:
        assert process.is_alive()
        time.sleep(0.01)


def wait_for_lines(folder: Path, count: int, alive: Callable[[], bool]) -> None:
    """Wait until the command that fills a folder has recorded so many samples."""
    while lines_of(folder) < count:
        assert alive()
        time.sleep(0.002)


def lines_of(folder: Path) -> int:
    """How many outcomes are recorded in the journals of a folder."""
    return len(set(recorded(folder)))


def recorded(folder: Path) -> list[bytes]:
    """The whole lines of the journals of a folder that state an outcome: those of a run, or that of an alignment."""
    journals = [folder / "progress.jsonl", *sorted((folder / "progress").glob("*"))]
    lines = [line for path in journals if path.suffix != ".part" for line in _lines(path)]
    return [line for line in lines if re.match(rb"[0-9a-f]{8} .*\n", line)]


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []
