"""Claims on a file system that several machines share."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from grafiqs.run.claims import Claims

FORK = multiprocessing.get_context("fork")


def take_all(folder: Path, works: list[str], seen: Any) -> None:
    claims = Claims(folder)
    for work in works:
        if (claim := claims.take(work)) is not None:
            seen.put((work, os.getpid()))
            claims.finish(claim)


def elsewhere(monkeypatch: pytest.MonkeyPatch, host: str = "elsewhere") -> None:
    """From now on, this process is on another machine."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)


def test_each_work_is_done_once_however_many_want_it(tmp_path: Path) -> None:
    works = [f"w{number:03}" for number in range(200)]
    seen = FORK.Queue()
    processes = [FORK.Process(target=take_all, args=(tmp_path, works, seen)) for _ in range(4)]
    for process in processes:
        process.start()
    taken = [seen.get(timeout=30) for _ in works]
    for process in processes:
        process.join()
    assert Counter(work for work, _ in taken) == Counter(works)
    assert {work: holder.process for work, holder in Claims(tmp_path).done().items()} == dict(taken)


def test_what_is_held_or_done_is_not_to_be_had(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert claims.take("one", part="3/16") == "one.0"
    assert claims.take("one") is None
    assert Claims(tmp_path).take("one") is None
    holder = claims.held()["one"]
    assert (holder.process, holder.words) == (os.getpid(), {"part": "3/16"})
    claims.finish("one.0")
    assert {work: holder.words for work, holder in claims.done().items()} == {"one": {"part": "3/16"}}
    assert claims.held() == {}
    assert claims.take("one") is None


def test_what_is_given_back_can_be_taken_at_once(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claim = claims.take("one")
    assert claim is not None
    claims.release(claim)
    assert Claims(tmp_path).take("one") == "one.0"


def test_a_claim_of_another_machine_is_taken_over_when_it_no_longer_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claims(tmp_path).take("one")
    assert claim is not None
    elsewhere(monkeypatch)
    other = Claims(tmp_path, stale=0.4)
    assert other.take("one") is None  # it has to be watched first
    with Claims(tmp_path, beat=0.1).beating(claim):
        for _ in range(8):
            time.sleep(0.1)
            assert other.take("one") is None
    deadline = time.monotonic() + 10
    while (taken := other.take("one")) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert taken == "one.1"
    assert Claims(tmp_path, stale=0.4).take("one") is None


def test_clocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claims(tmp_path).take("one")
    elsewhere(monkeypatch)
    other = Claims(tmp_path, stale=60)
    assert other.take("one") is None
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
        os.utime(tmp_path / str(claim), (1.8e9 + jump, 1.8e9 + jump))
        assert other.take("one") is None


def test_a_claim_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path: Path) -> None:
    process = FORK.Process(target=lambda: Claims(tmp_path).take("one"))
    process.start()
    process.join()
    assert Claims(tmp_path).take("one") == "one.1"


def test_a_holder_that_is_stopped_and_goes_on_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Claims(tmp_path)
    assert stopped.take("one", journal="first") == "one.0"
    elsewhere(monkeypatch)
    other = Claims(tmp_path, stale=0.05)
    other.take("one")
    time.sleep(0.1)
    assert other.take("one", journal="second") == "one.1"
    for claims, claim in ((stopped, "one.0"), (other, "one.1")):
        claims.finish(claim)
        assert Claims(tmp_path).done()["one"].words["journal"] in ("first", "second")
        assert Claims(tmp_path).take("one") is None
    assert sorted(os.listdir(tmp_path)) == ["one.0", "one.1", "one.done"]


@pytest.mark.parametrize("torn", [b"", b"{", b'{"host": "x"}', b"[]", b"\xff\xfe", b"null"])
def test_a_torn_claim_is_held_until_it_is_stale(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "one.0").write_bytes(torn)
    claims = Claims(tmp_path, stale=0.1)
    assert claims.take("one") is None
    assert list(claims.held()) == ["one"]
    time.sleep(0.15)
    assert claims.take("one") == "one.1"


def test_other_files_are_no_claims(tmp_path: Path) -> None:
    for name in ("notes.txt", ".nfs000", "one.", "one.0.part", "One.0"):
        (tmp_path / name).write_text("mine")
    assert Claims(tmp_path).states() == {}


def test_kills_at_any_moment_lose_no_work(tmp_path: Path) -> None:
    works = [f"w{number:02}" for number in range(40)]

    def work(seed: int) -> None:
        claims = Claims(tmp_path)
        for name in works:
            claim = claims.take(name, by=seed)
            if claim is not None:
                time.sleep(0.002 * (seed % 3))
                claims.finish(claim)

    for seed in range(30):
        process = FORK.Process(target=work, args=(seed,))
        process.start()
        time.sleep(0.003 * (seed % 7))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    last = Claims(tmp_path, stale=0.2)  # those that were killed as they wrote a claim have left half of it
    deadline = time.monotonic() + 20
    while len(last.done()) < len(works) and time.monotonic() < deadline:
        for name in works:
            if (claim := last.take(name, by=30)) is not None:
                last.finish(claim)
        time.sleep(0.05)
    done = last.done()
    assert sorted(done) == works
    assert all(holder.words["by"] in range(31) for holder in done.values())
