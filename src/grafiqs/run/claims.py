"""Who does what on a file system that several machines share: claims by exclusive creation, with a heartbeat.

A claim is a file that its maker alone could create, which NFS guarantees since its version 3, and flock does not. Its
holder lets it grow, a byte a beat; who sees one that does not grow for `STALE` seconds of its own clock takes the work
over, by the next file in the row. No two clocks are ever compared. That a work is done is said by a file that appears
whole, by a rename. A holder that was taken for dead and was not does its work twice at worst: what it writes is the
same, whoever says last that it is done.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafiqs.disk import files, inside

STALE = 300.0
"""Seconds without a beat after which a claim counts as abandoned; NFS may show sizes a minute late."""

BEAT = 30.0
"""Seconds between beats."""

_DONE = "done"
_NAME = re.compile(r"(?P<work>[a-z0-9]+)\.(?P<turn>[0-9]+|done)")


@dataclass(frozen=True)
class Holder:
    """Who holds a claim: host, process, and what it said of itself; `since` is in seconds of its own clock."""

    host: str
    process: int
    boot: str
    since: float
    words: dict[str, Any]

    @staticmethod
    def here(**words: Any) -> Holder:
        """The process that asks."""
        return Holder(socket.gethostname(), os.getpid(), _boot(), time.time(), words)

    def is_gone(self) -> bool:
        """Whether it was a process of this machine, and is no more; of others that cannot be seen."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot()):
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Claims:
    """The claims in a folder, which is made if it is missing.

    `stale` and `beat` are seconds. Raises OSError when the file system does not take files.
    """

    def __init__(self, folder: Path, stale: float = STALE, beat: float = BEAT) -> None:
        self.folder = folder
        self.stale = stale
        self.beat = beat
        self._seen: dict[str, tuple[int, float]] = {}
        """The size of each claim when it was last seen to grow, and when that was, by this process's clock."""
        folder.mkdir(parents=True, exist_ok=True)

    def states(self) -> dict[str, str]:
        """The newest file of each work that was ever claimed: `work.done`, or `work.turn`."""
        newest: dict[str, str] = {}
        for name in os.listdir(self.folder):
            match = _NAME.fullmatch(name)
            if match is not None and _turn(name) >= _turn(newest.get(match["work"], f"{match['work']}.-1")):
                newest[match["work"]] = name
        return newest

    def done(self) -> dict[str, Holder]:
        """Who did each work that is done."""
        return {work: self._holder(name) for work, name in self.states().items() if name.endswith(f".{_DONE}")}

    def held(self) -> dict[str, Holder]:
        """Who holds each work that is not done; what is known of it."""
        return {work: self._holder(name) for work, name in self.states().items() if not name.endswith(f".{_DONE}")}

    def take(self, work: str, **words: Any) -> str | None:
        """Claim a work, unless it is done or held; returns the name of the claim, None if it is not to be had."""
        name = self.states().get(work)
        if name is None:
            return self._create(f"{work}.0", words)
        if name.endswith(f".{_DONE}") or not self._is_abandoned(name):
            return None
        return self._create(f"{work}.{_turn(name) + 1}", words)

    def finish(self, claim: str) -> None:
        """Say that the work of a claim is done, and by whom; the claim stays, so that nobody makes it anew."""
        with inside.whole(self.folder, f"{claim.rpartition('.')[0]}.{_DONE}", f"{claim}{inside.PART}") as file:
            file.write(files.read(self.folder / claim))

    def release(self, claim: str) -> None:
        """Give a claim back, whose work is not done, so that anybody may take it at once."""
        inside.remove(self.folder, claim)

    @contextmanager
    def beating(self, claim: str) -> Iterator[None]:
        """Let a claim grow while the block is at work."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.beat):
                try:
                    with inside.opened(self.folder, claim, append=True) as file:
                        file.write(b"\n")
                except OSError:
                    continue  # taken away, or a file system that comes back; others decide by what they see

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _create(self, name: str, words: dict[str, Any]) -> str | None:
        """Create a claim; None if somebody else did."""
        try:
            handle = os.open(self.folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return None
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(vars(Holder.here(**words))).encode() + b"\n")
        return name

    def _holder(self, name: str) -> Holder:
        """Who made a claim; nobody that is known if it was not written to its end, or is gone."""
        try:
            with inside.opened(self.folder, name) as file:
                return Holder(**json.loads(file.readline()))
        except (FileNotFoundError, ValueError, TypeError):
            return Holder("", 0, "", 0.0, {})

    def _is_abandoned(self, name: str) -> bool:
        if self._holder(name).is_gone():
            return True
        size = inside.size(self.folder, name)
        if size is None:
            return False  # it was given back, or its work is done: the next look says
        now = time.monotonic()
        known, since = self._seen.setdefault(name, (size, now))
        if known != size:
            self._seen[name] = (size, now)
            return False
        return now - since >= self.stale


def _turn(name: str) -> float:
    """The place of a claim in its row; what is done comes last."""
    turn = name.rpartition(".")[2]
    return float("inf") if turn == _DONE else int(turn)


def _boot() -> str:
    """What tells this start of the machine, and the processes seen here, from others, if the system says."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
