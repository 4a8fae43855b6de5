"""Who does what on a file system that several machines share: claims by exclusive creation, with a heartbeat.

A claim is a file that its maker alone could create, which NFS guarantees since its version 3, and flock does not. Its
holder lets it grow, by what it writes there and by a byte a beat; who sees one that does not grow for `STALE` seconds
of its own clock takes the work over, by the next file in the row. No two clocks are ever compared. That a work is done
is said by a file that appears whole, by a rename.

A holder that was taken for dead and was not finds out before it writes again: one that could not beat for half that
time has to claim the work anew.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any

from grafiqs.disk import files, inside
from grafiqs.disk.inside import NO_LINKS, PART
from grafiqs.disk.names import shown
from grafiqs.errors import StoppedError
from grafiqs.run.holder import Holder
from grafiqs.signals import check

STALE = 300.0
"""Seconds without a beat after which a claim counts as abandoned; NFS may show sizes a minute late."""

BEAT = 30.0
"""Seconds between beats."""

LATE = 90.0
"""Seconds after which a network's file system shows at the latest that a file was made on another machine."""

_SOON = 0.5
"""Seconds between two looks for such a file."""

_LOOKS = 10.0
"""Seconds between two looks at what others do, at most."""

_DONE = "done"
_NAME = re.compile(r"(?P<work>[a-z0-9]+)\.(?P<turn>[0-9]+|done)")
_LONGEST = 2**20
"""Bytes that the line of a holder takes at most."""
_GIVEN_BACK = b"\ngiven back\n"


class Claim:
    """A work that this process holds: its file takes what is appended."""

    def __init__(self, name: str, file: FileIO, words: dict[str, Any]) -> None:
        self.name = name
        self.file = file
        self.words = words
        self.beaten = _now()
        self.is_lost = False

    @property
    def work(self) -> str:
        """The work that is claimed."""
        return self.name.rpartition(".")[0]

    @property
    def turn(self) -> int:
        """How often the work was claimed before."""
        return int(self.name.rpartition(".")[2])


class Claims:
    """The claims in a folder.

    `is_alone` says that nobody else who says so of himself can be at work, as the whole folder is locked. `stale` and
    `beat` are seconds. Raises OSError when the file system does not take files; in a folder that is gone, nothing is
    to be had.
    """

    def __init__(
        self, folder: Path, is_alone: bool = False, stale: float | None = None, beat: float | None = None
    ) -> None:
        self.folder = folder
        self.is_alone = is_alone
        self.stale = STALE if stale is None else stale
        self.beat = BEAT if beat is None else beat
        self._grown: set[str] = set()
        """The claims that grew while this process looked."""
        self._seen: dict[str, tuple[int, float]] = {}
        """The size of each claim when it was last seen to grow, and when that was, by this process's clock."""
        self._held: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    # -- looking ---------------------------------------------------------------------------------------------

    def newest(self, anew: bool = False) -> dict[str, str]:
        """The newest file of each work that was ever claimed, by one look: `work.done`, or `work.turn`.

        With `anew`, the folder is changed first, for a moment: then a network's file system cannot answer by what it
        remembers, which may be a minute old.
        """
        newest: dict[str, str] = {}
        with suppress(FileNotFoundError):
            if anew:
                self._changed()
            for name in os.listdir(self.folder):
                match = _NAME.fullmatch(name)
                if match is not None and _turn(name) >= _turn(newest.get(match["work"], f"{match['work']}.-1")):
                    newest[match["work"]] = name
        return newest

    def is_done(self, work: str) -> bool:
        """Whether a work is done."""
        return inside.size(self.folder, f"{work}.{_DONE}") is not None

    def turns(self, work: str) -> list[str]:
        """The files of a work that is not done, in the order in which it was claimed."""
        found: list[str] = []
        while inside.size(self.folder, name := f"{work}.{len(found)}") is not None:
            found.append(name)
        return found

    def opened(self, name: str) -> IO[bytes]:
        """A file that is there, to be read: one that only a look at the folder shows is waited for.

        Raises OSError when it cannot be read.
        """
        for _ in range(int(LATE / _SOON)):
            with suppress(FileNotFoundError):
                return self._opened(name)
            if name not in os.listdir(self.folder):
                break
            time.sleep(_SOON)
        return self._opened(name)

    def holder(self, name: str) -> Holder | None:
        """Who made a claim, or said that the work is done; None if that is not known: it was not written to its end."""
        try:
            with self._opened(name) as file:
                found = Holder(**json.loads(file.readline(_LONGEST)))
        except (FileNotFoundError, ValueError, TypeError, RecursionError):
            return None
        return found if found.is_one() else None

    def is_given_back(self, name: str) -> bool:
        """Whether its holder gave a claim back."""
        with suppress(FileNotFoundError), self._opened(name) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - len(_GIVEN_BACK)))
            return file.read() == _GIVEN_BACK
        return False

    def is_abandoned(self, name: str) -> bool:
        """Whether the newest claim of a work can be taken over: asked again and again, this tells if it beats."""
        holder = self.holder(name)
        if holder is not None and ((holder.alone and self.is_alone) or holder.is_gone()):
            return True
        size = inside.size(self.folder, name)
        if size is None:
            return False  # its work is done, or all is: the next look says
        if self.is_given_back(name):
            return True
        now = time.monotonic()
        known, since = self._seen.setdefault(name, (size, now))
        if known != size:
            self._seen[name] = (size, now)
            self._grown.add(name)
            return False
        return now - since >= self.stale

    def is_at_work(self, work: str) -> bool:
        """Whether a work that was not to be had is being done, as far as this process has seen.

        Its holder is a process of this machine, or was seen to beat.
        """
        turns = self.turns(work)
        holder = self.holder(turns[-1]) if turns else None
        return bool(turns) and (turns[-1] in self._grown or (holder is not None and holder.is_here()))

    # -- taking ----------------------------------------------------------------------------------------------

    def take(self, work: str, **words: Any) -> Claim | None:
        """Claim a work, unless it is done or held; None if it is not to be had."""
        if self.is_done(work):
            return None
        turns = self.turns(work)
        if turns and not self.is_abandoned(turns[-1]):
            return None
        return self._take(f"{work}.{len(turns)}", words)

    def hold(self, claim: Claim) -> None:
        """Make sure of a claim before anything is written; one that could not beat for long is claimed anew.

        Raises StoppedError when somebody else has taken the work over.
        """
        if not claim.is_lost and _now() - claim.beaten < self.stale / 2:
            return
        with self._lock:
            anew = None if claim.is_lost else self._create(f"{claim.work}.{claim.turn + 1}", claim.words)
            if anew is None:
                claim.is_lost = True
                raise StoppedError(
                    f"another process has taken over what this one was doing in {shown(self.folder)}: this one stood "
                    "still, could not write there for long, or began beside it where locks do not hold. The same "
                    "command goes on with what is left"
                )
            claim.file.close()
            claim.name, claim.file, claim.beaten = anew.name, anew.file, anew.beaten

    def finish(self, claim: Claim, pieces: Iterable[bytes] = ()) -> None:
        """Say that the work of a claim is done, by whom, and what it came to; the claim stays, and is emptied.

        So nobody who looks late makes it anew.
        """
        done = f"{claim.work}.{_DONE}"
        with inside.whole(self.folder, done, f".{claim.turn}{PART}") as file:
            file.write(files.read(self.folder / claim.name).partition(b"\n")[0] + b"\n")
            file.writelines(pieces)
        self._let_go(claim)
        claim.file.truncate(0)
        claim.file.close()

    def release(self, claim: Claim) -> None:
        """Give a claim back, whose work is not done, so that anybody may take it at once."""
        self._let_go(claim)
        with suppress(OSError):
            claim.file.write(_GIVEN_BACK)
        claim.file.close()

    def reopen(self, work: str, lines: Iterable[bytes], **words: Any) -> None:
        """Say that a work is not done after all: with these lines as its newest claim, which is given back."""
        claim = self._create(f"{work}.{len(self.turns(work))}", words)
        if claim is not None:
            claim.file.write(b"".join(lines))
            inside.remove(self.folder, f"{work}.{_DONE}")
            self.release(claim)

    def withdraw(self, claim: Claim) -> None:
        """Undo a claim, and those before it, as if nobody had ever claimed the work; the folder goes if it is empty."""
        self._let_go(claim)
        claim.file.close()
        for turn in range(claim.turn, -1, -1):  # the first one last: so nobody can have made one of these meanwhile
            inside.remove(self.folder, f"{claim.work}.{turn}")
        with suppress(OSError):
            self.folder.rmdir()

    def give_back(self, host: str, process: int) -> None:
        """Give back what a process held that is known to be no more."""
        for name in self.newest().values():
            holder = None if name.endswith(f".{_DONE}") else self.holder(name)
            if holder is not None and (holder.host, holder.process) == (host, process):
                with suppress(OSError), self._appended(name) as file:
                    file.write(_GIVEN_BACK)

    def close(self) -> None:
        """Give everything back that is held."""
        for claim in list(self._held.values()):
            self.release(claim)
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _take(self, name: str, words: dict[str, Any]) -> Claim | None:
        claim = self._create(name, words)
        if claim is None:
            return None
        if self.is_done(claim.work):  # while this one looked
            claim.file.close()
            return None
        with self._lock:
            self._held[claim.work] = claim
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()
        return claim

    def _let_go(self, claim: Claim) -> None:
        with self._lock:
            self._held.pop(claim.work, None)

    def _create(self, name: str, words: dict[str, Any]) -> Claim | None:
        """Create a claim; None if somebody else did.

        It appears with its first line, by a link; where there are no links, empty.
        """
        first = json.dumps(vars(Holder.here(self.is_alone, words))).encode() + b"\n"
        own = f"{name}.{secrets.token_hex(8)}{PART}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self.folder / own, flags, 0o666), "wb") as file:
                file.write(first)
            try:
                os.link(self.folder / own, self.folder / name)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                with os.fdopen(os.open(self.folder / name, flags, 0o666), "wb") as file:
                    file.write(first)
        except OSError as error:
            if error.errno == errno.EEXIST:
                with suppress(FileNotFoundError):
                    self._opened(name).close()  # raises if something else is there
                return None
            if error.errno in (errno.ENOENT, errno.ESTALE):  # without the folder, all is done
                return None
            raise
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self.folder / own)
        claimed = self._appended(name)
        claimed.seek(0)
        if claimed.readline() != first:
            claimed.close()
            raise OSError(errno.EIO, f"{shown(name)} is not what was written to it", name)
        return Claim(name, claimed, words)

    def _appended(self, name: str) -> FileIO:
        """A file of the folder, to be read and appended to.

        Whether it has another name elsewhere cannot be asked: it had one a moment ago, and a network's file system may
        still say so.
        """
        handle = os.open(self.folder / name, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return FileIO(handle, "a+")

    def _opened(self, name: str) -> IO[bytes]:
        """A file of the folder, by the path that messages are to name; nor may the folder be a link."""
        return inside.opened(self.folder.parent, f"{self.folder.name}/{name}")

    def _changed(self) -> None:
        """Change the folder, and change it back."""
        place = self.folder / f"look.0.{secrets.token_hex(8)}{PART}"
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        os.unlink(place)

    def _beat(self) -> None:
        while not self._ended.wait(self.beat):
            with self._lock:
                for claim in self._held.values():
                    if claim.is_lost or _now() - claim.beaten >= self.stale / 2:
                        continue  # somebody else may have it by now: `hold` makes sure
                    with suppress(OSError):  # a file system that comes back; others decide by what they see
                        if inside.size(self.folder, f"{claim.work}.{claim.turn + 1}") is not None:
                            claim.is_lost = True
                            continue
                        claim.file.write(b"\n")
                        claim.beaten = _now()


def rest(most: float) -> None:
    """Wait a while for other processes, and for no longer than that many seconds."""
    time.sleep(min(_LOOKS, most / 30))
    check()


def is_own(name: str) -> bool:
    """Whether a file has a name as claims have it, finished or not."""
    return _NAME.match(name) is not None and (name.endswith(PART) or _NAME.fullmatch(name) is not None)


def _turn(name: str) -> float:
    """The place of a claim in its row; what is done comes last."""
    turn = name.rpartition(".")[2]
    return float("inf") if turn == _DONE else int(turn)


def _now() -> float:
    """Seconds, those counted that a machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
