"""Who holds a claim: a process, as far as others can tell it, and whether it still is there."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Holder:
    """Who holds a claim: host, process, and what it said of itself; `since` is in seconds of its own clock."""

    host: str
    process: int
    boot: str
    started: str
    since: float
    alone: bool
    """Whether it held the whole folder by a lock, as far as that holds."""
    words: dict[str, Any]

    @staticmethod
    def here(alone: bool, words: dict[str, Any]) -> Holder:
        """The process that asks."""
        process = os.getpid()
        return Holder(socket.gethostname(), process, _boot(), _started(process) or "", time.time(), alone, words)

    def is_one(self) -> bool:
        """Whether it can have been one: what is read may be damaged, or written by somebody else."""
        texts, kinds = (self.host, self.boot, self.started), (float, bool, dict)
        return (
            all(isinstance(text, str) for text in texts)
            and (type(self.since), type(self.alone), type(self.words)) == kinds
            and 0 <= self.since < 2**36  # which a calendar has, and neither an infinite number nor none is
            and type(self.process) is int
            and 0 < self.process < 2**31
        )

    def is_gone(self) -> bool:
        """Whether it was a process of this machine, and is no more; of others that cannot be seen."""
        return self._is_of_this_machine() and not self._is_running()

    def is_here(self) -> bool:
        """Whether it is a process of this machine, and still there."""
        return self._is_of_this_machine() and self._is_running()

    def _is_of_this_machine(self) -> bool:
        return self.boot != "" and (self.host, self.boot) == (socket.gethostname(), _boot())

    def _is_running(self) -> bool:
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        started = _started(self.process)
        return started in (None, self.started)


def _boot() -> str:
    """What tells this start of the machine, and the processes seen here, from others, if the system says."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """When a process of this machine was started, in words of the system, or that it ended; None if that is hidden."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return "ended" if state in (b"Z", b"X") else fields[18].decode()
