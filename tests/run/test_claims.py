"""Claims on a file system that several machines share."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafiqs.errors import StoppedError
from grafiqs.run import claims as module
from grafiqs.run.claims import Claim, Claims
from support.claiming import die, dying
from support.commands import stopped_by_permissions

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _dying() -> Iterator[None]:
    with dying():
        yield


def taken(claims: Claims, work: str, **words: Any) -> Claim:
    """A claim that is to be had."""
    claim = claims.take(work, **words)
    assert claim is not None
    return claim


def in_time(done: Callable[[], Any], seconds: float = 20) -> Any:
    """What is asked for again and again until there is something."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def done(folder: Path, work: str) -> bytes:
    """What stands in the file of a work that is done, behind the line of its holder."""
    return (folder / f"{work}.done").read_bytes().partition(b"\n")[2]


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, this process is on another machine."""
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)


@pytest.fixture(params=["links", "no links"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, on a file system where files can have several names, or cannot."""
    if request.param == "no links":
        no_links(monkeypatch)
    return tmp_path


# -- taking, finishing, giving back ----------------------------------------------------------------------------


def take_all(folder: Path, works: list[str], seen: Any) -> None:
    claims = Claims(folder)
    for work in random.Random(os.getpid()).sample(works, len(works)):
        if (claim := claims.take(work)) is not None:
            seen.put((work, os.getpid()))
            claims.finish(claim, [b"%d\n" % os.getpid()])


def test_each_work_is_done_once_however_many_want_it(folder: Path) -> None:
    works = [f"w{number:03}" for number in range(150)]
    seen = FORK.Queue()
    processes = [FORK.Process(target=take_all, args=(folder, works, seen)) for _ in range(4)]
    for process in processes:
        process.start()
    taken = [seen.get(timeout=30) for _ in works]
    for process in processes:
        process.join()
    assert Counter(work for work, _ in taken) == Counter(works)
    assert {work: int(done(folder, work)) for work in works} == dict(taken)
    left = set(os.listdir(folder)) - {f"{work}.{state}" for work in works for state in ("0", "done")}
    assert left <= {f"{work}.1" for work in works}  # of who saw a holder that was gone, and then that it had finished


def test_what_is_held_or_done_is_not_to_be_had(folder: Path) -> None:
    claims = Claims(folder)
    claim = taken(claims, "one", part="3/16")
    assert (claim.name, claim.work, claim.turn) == ("one.0", "one", 0)
    assert claims.take("one") is None
    assert Claims(folder).take("one") is None
    holder = claims.holder("one.0")
    assert holder is not None
    assert (holder.host, holder.process, holder.words) == (socket.gethostname(), os.getpid(), {"part": "3/16"})
    assert abs(holder.since - time.time()) < 60
    assert claims.newest() == {"one": "one.0"}
    claim.file.write(b"a line\n")
    assert (folder / "one.0").read_bytes().endswith(b"}\na line\n")
    claims.finish(claim, [b"two ", b"pieces\n"])
    assert done(folder, "one") == b"two pieces\n"
    assert claims.holder("one.done") == holder
    assert (folder / "one.0").read_bytes() == b""
    assert claims.newest() == {"one": "one.done"}
    assert claims.take("one") is None
    assert Claims(folder, is_alone=True).take("one") is None
    claims.close()


def test_what_is_given_back_can_be_taken_at_once(folder: Path) -> None:
    claims = Claims(folder)
    claim = taken(claims, "one")
    claim.file.write(b"half a li")
    claims.release(claim)
    again = taken(Claims(folder), "one")
    assert again.name == "one.1"
    assert (folder / "one.0").read_bytes().endswith(b"half a li\ngiven back\n")


def test_closing_gives_everything_back(folder: Path) -> None:
    claims = Claims(folder)
    names = [taken(claims, work).name for work in ("one", "two", "three")]
    claims.close()
    assert all(claims.is_given_back(name) for name in names)
    claim = taken(claims, "one")
    claims.close()
    assert claim.file.closed


def test_a_claim_that_is_withdrawn_leaves_nothing(folder: Path) -> None:
    place = folder / "progress"
    place.mkdir()
    for _ in range(2):
        claims = Claims(place)
        claims.release(taken(claims, "one"))
    claims.withdraw(taken(claims, "one"))
    assert not place.exists()
    assert claims.take("one") is None


def test_a_disk_that_is_full_keeps_the_claim(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(folder)
    claim = taken(claims, "one")

    def pieces() -> Any:
        yield b"one "
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        claims.finish(claim, pieces())
    assert os.listdir(folder) == ["one.0"]
    claims.close()
    assert claims.is_given_back("one.0")


# -- taking over -----------------------------------------------------------------------------------------------


def test_a_claim_of_another_machine_is_taken_over_when_it_no_longer_grows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Claims(folder, beat=0.05)
    taken(first, "one")
    elsewhere(monkeypatch)
    other = Claims(folder, stale=0.4)
    for _ in range(12):  # thrice as long as it takes
        time.sleep(0.1)
        assert other.take("one") is None
    assert (folder / "one.0").read_bytes().endswith(b"\n\n\n")
    die(first)
    over = in_time(lambda: other.take("one"))
    assert over.name == "one.1"
    assert Claims(folder, stale=0.4).take("one") is None


def test_one_look_takes_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However old its file is: it has to be watched for as long."""
    taken(Claims(tmp_path), "one")
    os.utime(tmp_path / "one.0", (1, 1))
    elsewhere(monkeypatch)
    assert Claims(tmp_path, stale=0.2).take("one") is None
    other = Claims(tmp_path, stale=0.2)
    assert other.take("one") is None
    time.sleep(0.25)
    assert other.take("one") is not None
    other.close()


def test_clocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(Claims(tmp_path), "one")
    elsewhere(monkeypatch)
    other = Claims(tmp_path, stale=60)
    assert other.take("one") is None
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
        os.utime(tmp_path / "one.0", (1.8e9 + jump, 1.8e9 + jump))
        assert other.take("one") is None
    late = Claims(tmp_path, stale=0.1)
    assert late.take("one") is None
    time.sleep(0.15)
    assert late.take("one") is not None
    late.close()


def die_with(folder: Path, work: str) -> None:
    taken(Claims(folder), work)
    os._exit(0)


def test_a_claim_of_a_process_that_is_gone_is_taken_over_at_once(folder: Path) -> None:
    process = FORK.Process(target=die_with, args=(folder, "one"))
    process.start()
    process.join()
    claim = taken(Claims(folder), "one")
    assert claim.name == "one.1"


def test_a_zombie_is_gone(tmp_path: Path) -> None:
    """A process that ended, and that nobody has waited for."""
    child = os.fork()
    if child == 0:
        die_with(tmp_path, "one")
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        claim = taken(Claims(tmp_path), "one")
    finally:
        os.waitpid(child, 0)
    assert claim.name == "one.1"


@pytest.mark.parametrize("changed", ["started", "boot", "host"])
def test_another_process_of_the_same_number_is_not_the_holder(changed: str, folder: Path) -> None:
    """One that was started at another time is another one; on another machine or start of it, nobody can say."""
    claims = Claims(folder)
    claims.release(taken(claims, "one"))
    document = json.loads((folder / "one.0").read_bytes().partition(b"\n")[0])
    (folder / "one.0").write_text(json.dumps({**document, changed: "another"}) + "\n")
    claim = claims.take("one")
    assert (claim is None) == (changed != "started")
    claims.close()


def test_whoever_holds_the_folder_takes_over_from_who_held_it(folder: Path) -> None:
    """By the lock, which is gone with its process, even on another machine; not from those without it."""
    locked, part = Claims(folder, is_alone=True), Claims(folder)
    taken(locked, "one")
    taken(part, "two")
    later = Claims(folder, is_alone=True)
    assert taken(later, "one").name == "one.1"
    assert later.take("two") is None
    assert part.take("one") is None
    later.close()


def test_a_process_that_is_known_to_be_gone_gives_back(folder: Path) -> None:
    claims = Claims(folder)
    held = [taken(claims, "one"), taken(claims, "two")]
    claims.finish(held[1])
    other = Claims(folder)
    other.give_back(socket.gethostname(), os.getpid() + 1)
    other.give_back("elsewhere", os.getpid())
    assert other.take("one") is None
    other.give_back(socket.gethostname(), os.getpid())
    assert taken(other, "one").name == "one.1"
    assert done(folder, "two") == b""
    other.close()


HOLDER = {"host": "", "process": 5, "boot": "", "started": "", "since": 1.0, "alone": False, "words": {}}
FORGED = [("host", 5), ("process", "5"), ("process", -1), ("process", 2**70), ("process", True), ("boot", None)]
FORGED += [("started", []), ("since", "now"), ("alone", 1), ("words", [])]


@pytest.mark.parametrize(
    "torn",
    [b"", b"{", b'{"host": "x"}', b"[]\n", b"\xff\xfe", b"null\n", b"[" * 50_000, b" " * 2**21 + b"{}\n"]
    + [json.dumps({**HOLDER, name: value}).encode() + b"\n" for name, value in FORGED],
)
def test_a_torn_claim_is_held_until_it_is_stale(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "one.0").write_bytes(torn)
    claims = Claims(tmp_path, stale=0.1)
    assert claims.take("one") is None
    assert claims.holder("one.0") is None
    time.sleep(0.1)
    assert taken(claims, "one").name == "one.1"
    claims.close()


# -- a holder that stood still ---------------------------------------------------------------------------------


def test_a_holder_that_beats_need_not_claim_anew(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=0.4, beat=0.02)
    claim = taken(claims, "one")
    time.sleep(0.5)
    claims.hold(claim)
    assert claim.name == "one.0"
    claims.close()


def test_a_holder_that_stood_still_claims_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept, say; nobody took the work meanwhile."""
    claims = Claims(folder, stale=10, beat=60)
    claim = taken(claims, "one", part="1/2")
    claim.file.write(b"before\n")
    now = module._now
    monkeypatch.setattr(module, "_now", lambda: now() + 5.1)
    claims.hold(claim)
    assert claim.name == "one.1"
    holder = claims.holder("one.1")
    assert holder is not None
    assert holder.words == {"part": "1/2"}
    claim.file.write(b"after\n")
    claims.hold(claim)
    assert sorted(os.listdir(folder)) == ["one.0", "one.1"]
    claims.finish(claim, [b"all\n"])
    assert done(folder, "one") == b"all\n"
    claims.close()


def test_a_holder_whose_work_was_taken_over_stops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Claims(folder, stale=10, beat=60)
    claim = taken(stopped, "one")
    elsewhere(monkeypatch)
    other = Claims(folder, stale=0.1)
    assert other.take("one") is None
    over = in_time(lambda: other.take("one"))
    now = module._now
    monkeypatch.setattr(module, "_now", lambda: now() + 6)
    for _ in range(2):
        with pytest.raises(StoppedError, match="another process has taken over what this one was doing"):
            stopped.hold(claim)
    stopped.close()
    monkeypatch.setattr(module, "_now", now)
    assert other.take("one") is None
    assert not other.is_abandoned(over.name)
    other.finish(over, [b"done\n"])
    assert done(folder, "one") == b"done\n"
    assert Claims(folder).take("one") is None


def test_a_holder_that_beats_again_notices_that_it_was_late(folder: Path) -> None:
    """Its next beat sees the claim of the other one, and it writes nothing more."""
    stopped = Claims(folder, beat=0.05)
    claim = taken(stopped, "one")
    (folder / "one.1").touch()
    in_time(lambda: claim.is_lost)
    size = (folder / "one.0").stat().st_size
    time.sleep(0.15)
    assert (folder / "one.0").stat().st_size == size
    with pytest.raises(StoppedError):
        stopped.hold(claim)
    stopped.close()


# -- folders that are not as they should be --------------------------------------------------------------------


def test_in_a_folder_that_is_gone_nothing_is_to_be_had(folder: Path) -> None:
    claims = Claims(folder / "progress")
    assert claims.take("one") is None
    assert claims.newest() == {}
    (folder / "progress").mkdir()
    claim = taken(claims, "one")
    shutil.rmtree(folder / "progress")
    assert claims.take("two") is None
    assert claims.holder("one.0") is None
    assert not claims.is_given_back("one.0")
    with pytest.raises(OSError, match="No such file"):
        claims.finish(claim)
    claims.close()
    assert list(folder.iterdir()) == []


HOSTILE = (
    "notes.txt",
    ".nfs000",
    "one.",
    "one.0.part",
    "One.0",
    "one.-1",
    "one.x",
    "../one.0",
    "one.done.part",
    "\n.0",
)


def test_other_files_are_no_claims(folder: Path) -> None:
    for name in HOSTILE:
        if "/" not in name:
            (folder / name).write_text("mine")
    (folder / "two.1").mkdir()
    before = {name: (folder / name).read_text() for name in HOSTILE if "/" not in name}
    claims = Claims(folder)
    assert {work: name for work, name in claims.newest().items() if work != "two"} == {}
    claim = taken(claims, "one")
    assert claim.name == "one.0"
    claims.finish(claim)
    assert {name: (folder / name).read_text() for name in before} == before


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    """Nothing hangs, nothing elsewhere is written, and nobody asks for ever."""
    (tmp_path / "mine").write_text("mine")
    place = tmp_path / "progress"
    place.mkdir()
    path = place / "one.0"
    if kind == "link":
        path.symlink_to(tmp_path / "mine")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    why = "one.0 is a link" if kind == "link" else "progress/one.0: not a regular file|not a regular file"
    with pytest.raises(OSError, match=why):
        Claims(place).take("one")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_that_takes_no_files_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with stopped_by_permissions(), pytest.raises(PermissionError):
        Claims(tmp_path).take("one")


# -- kills -------------------------------------------------------------------------------------------------------


def work_until_killed(folder: Path, works: list[str], seed: int) -> None:
    dice = random.Random(seed)
    claims = Claims(folder, stale=0.3, beat=0.02)
    while True:
        time.sleep(0.005)  # when all is done, until it is killed
        for work in dice.sample(works, len(works)):
            if (claim := claims.take(work, by=seed)) is not None:
                for line in range(5):
                    claims.hold(claim)
                    claim.file.write(b"%d %d\n" % (seed, line))
                    time.sleep(0.001 * dice.random())
                claims.finish(claim, [b"%d\n" % seed])


def test_kills_at_any_moment_lose_no_work(folder: Path) -> None:
    """Of three at once, one is killed after the other, until forty are gone; what is done is never done again."""
    works = [f"w{number:03}" for number in range(120)]
    dice, seen = random.Random(7), dict[str, bytes]()

    def begun(seed: int) -> multiprocessing.process.BaseProcess:
        process = FORK.Process(target=work_until_killed, args=(folder, works, seed))
        process.start()
        return process

    running = [begun(seed) for seed in range(3)]
    for seed in range(3, 43):
        time.sleep(dice.uniform(0, 0.03))
        killed = running.pop(dice.randrange(3))
        assert killed.pid
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        for work in works:
            if (folder / f"{work}.done").exists():
                assert done(folder, work) == seen.setdefault(work, done(folder, work))
        running.append(begun(seed))
    in_time(lambda: all((folder / f"{work}.done").exists() for work in works))
    for process in running:
        process.kill()
        process.join()
    for work in works:
        assert done(folder, work) == seen.get(work, done(folder, work))
        assert done(folder, work) in {b"%d\n" % seed for seed in range(43)}
    assert Claims(folder).newest() == {work: f"{work}.done" for work in works}
