"""Commands in processes of their own that stop at a chosen point of what they write to their folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from grafiqs.cli import main
from grafiqs.run.journal import Journal, Outcome, Scored

PROCESSES = multiprocessing.get_context("forkserver")
"""Processes of their own that need not load torch again: one that has loaded it, and little else, is forked."""
PROCESSES.set_forkserver_preload(["grafiqs.extract", "safetensors.torch", "pytest"])


def watched_run(arguments: list[str], folder: Path, stop: str, number: int, file_limit: int) -> None:
    """Run the command in this process, which sends itself the signal `number` just before the event `stop`.

    Every change to a file or folder below `folder` is an event, named by what is done and to what, and so are
    the start and the end of each line of the journal. What the process says goes to FOLDER.said, the events go
    to FOLDER.events. No file can grow beyond `file_limit` bytes.
    """
    said = os.open(f"{folder}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own lock is one between processes, of which a kill leaves a trace
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
            happens(f"{name} {os.path.relpath(path, folder)}")

    def audit(name: str, details: tuple[Any, ...]) -> None:
        if name == "os.mkdir" or (name == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)):
            seen(name.removeprefix("os."), os.fsdecode(details[0]) if not isinstance(details[0], int) else "")

    def watched(name: str, change: Callable[..., Any], below: str = "dir_fd") -> Callable[..., Any]:
        """A change that is made by its name in an open folder, which no audit tells."""

        def changes(path: Any, *arguments: Any, **named: Any) -> Any:
            writes = name != "open" or arguments[0] & (os.O_WRONLY | os.O_RDWR)
            if writes and isinstance(named.get(below), int):
                seen(name, os.path.join(os.readlink(f"/proc/self/fd/{named[below]}"), os.fsdecode(path)))
            return change(path, *arguments, **named)

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

    append = Journal.append

    def watched_append(journal: Journal[Scored], outcome: Outcome) -> None:
        happens(f"append {outcome.index}")
        append(journal, outcome)
        happens(f"appended {outcome.index}")

    Journal.append = watched_append  # type: ignore[assignment, method-assign]
    sys.addaudithook(audit)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    code = main(arguments)
    Path(f"{folder}.events").write_text(json.dumps(list(happened)))
    sys.exit(code)


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


def wait_for_lines(journal: Path, count: int, alive: Callable[[], bool]) -> None:
    """Wait until a run at work has recorded so many samples."""
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert alive()
        time.sleep(0.002)
