"""The journals of a run at work, shard by shard."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from grafiqs.run.claims import Claim
from grafiqs.run.former import Former
from grafiqs.run.journal import Failed, Outcome, Scored, line
from grafiqs.run.shard_journals import ShardJournals, paths
from grafiqs.run.shard_work import Done
from grafiqs.shards import Shards
from support.claiming import dying
from support.making import checked

SHARDS = Shards(10, 4)
HERE: list[dict[str, Any]] = [{"torch": "2.7", "device": "cpu", "self_check": {"loss": 0.1}}]
SHA256 = "0" * 64


@pytest.fixture(autouse=True)
def _dying() -> Iterator[None]:
    with dying():
        yield


def scored(index: int, score: float = 1.5) -> Scored:
    return Scored(index, SHA256, [score], [SHA256], [], "")


def outcome(index: int) -> Outcome:
    """What each sample of the run comes to: every third one fails."""
    return Failed(index, f"no image {index}") if index % 3 == 2 else scored(index, float(index))


def opened(root: Path, **others: Any) -> ShardJournals:
    journals = ShardJournals(root, SHARDS, lambda scored: len(scored.scores) == 1, **others)
    journals.make()
    return journals


def fill(journals: ShardJournals, number: int, environments: list[dict[str, Any]] = HERE) -> None:
    """Do what is left of a shard."""
    shard = journals.take(number, environments)
    assert shard is not None
    for index in SHARDS.samples(number):
        if not journals.is_done(index):
            journals.append(outcome(index))
    journals.close_shard(shard, [])


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[ShardJournals]:
    found = opened(tmp_path)
    yield found
    found.close()


def test_what_is_done_is_found_again_in_the_order_of_the_samples(journals: ShardJournals, tmp_path: Path) -> None:
    for number in (2, 0):
        fill(journals, number)
    shard = journals.take(1, HERE)
    assert shard is not None
    for index in (6, 4, 5):  # 5 fails
        journals.append(outcome(index))
    journals.close()
    found = opened(tmp_path)
    assert found.pending().tolist() == [5, 7]  # what failed is tried again
    assert found.pending([1, 2]).tolist() == [5, 7]
    assert found.pending([0, 2]).tolist() == found.pending([]).tolist() == []
    assert found.count() == 8
    assert list(found.outcomes()) == [outcome(index) for index in (0, 1, 2, 3, 4, 6, 8, 9)]
    assert list(found.outcomes([1, 8])) == [outcome(1), outcome(8)]
    assert (found.lines.done(0).scored, found.lines.done(0).failed) == (3, 1)
    assert [found.is_closed(number) for number in range(3)] == [True, False, True]
    fill(found, 1)
    assert list(found.outcomes()) == list(map(outcome, range(10)))
    assert found.pending().tolist() == []
    assert found.environments() == HERE


def test_what_is_no_longer_there_is_done_again(journals: ShardJournals, tmp_path: Path) -> None:
    """As the gradients of a sample: only the store of shards at work is asked."""
    fill(journals, 0)
    journals.take(1, HERE)
    for index in (4, 6, 7):
        journals.append(outcome(index))
    journals.close()
    store = Mock(seen=Mock(side_effect=lambda known: {*known} - {6}))
    looked = opened(tmp_path, store=store)
    assert looked.pending().tolist() == [5, 6, 8, 9]
    assert [{*call.args[0]} for call in store.seen.call_args_list] == [{4, 6, 7}]
    store = Mock(
        seen=set, begin_shard=lambda number, turn, known: {*known} - {7} if (number, turn) == (1, 1) else set()
    )
    found = opened(tmp_path, store=store)
    shard = found.take(1, HERE)
    assert shard is not None
    assert found.pending([1]).tolist() == [5, 7]
    assert sorted(shard.lines) == sorted(shard.checksums) == [4, 6]
    assert found.known(4) == outcome(4)
    assert found.known(7) is None
    found.close()


def test_another_holder_goes_on_with_all_that_was_done_before(journals: ShardJournals, tmp_path: Path) -> None:
    """By the last line of a sample, and in all environments that have done something."""
    environments = [[{"device": device, "self_check": device}] for device in ("cpu", "cuda", "mps", "cpu")]
    for turn, (done, environment) in enumerate(zip(([0, 1], [1, 3], [], []), environments, strict=True)):
        holder = opened(tmp_path)
        shard = holder.take(0, environment)
        assert shard is not None
        assert shard.claim.turn == turn
        for index in done:
            holder.append(scored(index, float(10 * turn + index)))
        holder.close()
    last = opened(tmp_path)
    shard = last.take(0, [{"device": "tpu"}])
    assert shard is not None
    last.append(Failed(2, "no image"))
    last.close_shard(shard, [("a" * 64, "block4/00000.safetensors")])
    assert [each.scores[0] for each in last.outcomes() if isinstance(each, Scored)] == [0.0, 11.0, 13.0]
    assert [each["device"] for each in last.lines.done(0).environments] == ["cpu", "cuda", "tpu"]
    assert last.lines.done(0).files == [["a" * 64, "block4/00000.safetensors"]]
    assert (last.lines.done(0).scored, last.lines.done(0).failed) == (3, 1)
    for name in ("00000.0", "00000.1", "00000.2"):
        assert (tmp_path / "progress" / name).read_bytes()  # what others may still append to is left alone


def test_a_shard_is_held_by_one(journals: ShardJournals, tmp_path: Path) -> None:
    other = opened(tmp_path)
    assert journals.take(0, HERE) is not None
    assert journals.is_held(0)
    assert not other.is_held(0)
    assert not other.is_free(0)
    assert other.take(0, HERE) is None
    assert f"process {os.getpid()} of " in other.whose("00000")
    assert other.anybody() == other.whose("00000")
    assert other.is_free(1)
    journals.release(0)
    assert other.is_free(0)
    assert other.anybody() is None
    assert not journals.held()
    tables = journals.claims.take("tables")
    assert tables is not None
    assert f"process {os.getpid()} of " in str(other.anybody())
    journals.claims.finish(tables)
    assert other.anybody() is None
    fill(other, 0)
    assert journals.is_closed(0)
    assert journals.take(0, HERE) is None
    journals.doubt(0)
    assert journals.pending([0]).tolist() == []
    journals.doubt(1)
    assert journals.pending([1]).tolist() == [4, 5, 6, 7]


def test_a_disk_that_is_full_leaves_whole_lines(
    journals: ShardJournals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = journals.take(0, HERE)
    assert shard is not None
    journals.append(outcome(0))
    place = tmp_path / "progress" / "00000.0"
    before, file = place.read_bytes(), shard.claim.file

    class Full:
        """A file that takes ten bytes more."""

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, text: bytes) -> int:
            return file.write(text[:10])

    monkeypatch.setattr(shard.claim, "file", Full())
    with pytest.raises(OSError, match="No space") as error:
        journals.append(outcome(1))
    assert error.value.errno == errno.ENOSPC
    assert place.read_bytes() == before
    assert not journals.is_done(1)
    monkeypatch.setattr(shard.claim, "file", file)
    journals.append(outcome(1))
    assert place.read_bytes() == before + line(outcome(1))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "a line less": lambda data: b"".join(data.splitlines(keepends=True)[:-1]),
    "a torn line": lambda data: data[:-20],
    "no holder": lambda data: data.partition(b"\n")[2],
    "a line of another shard": lambda data: data + line(outcome(9)),
    "zeros": lambda data: bytes(len(data)),
    "a flipped bit": lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_shard_whose_file_is_damaged_is_never_taken_for_whole(
    damage: str, journals: ShardJournals, tmp_path: Path
) -> None:
    fill(journals, 0)
    path = tmp_path / "progress" / "00000.done"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    found = opened(tmp_path)
    if damage in ("no holder", "a line of another shard"):
        assert list(found.outcomes()) == list(map(outcome, range(4)))
    else:
        with pytest.raises(OSError, match=r"progress/00000\.done is damaged"):
            list(found.outcomes())


WRONG: list[Any] = [None, 5, [], {}, {"environments": 5}, [5], "[" * 50_000]
VALUES: dict[str, list[Any]] = {
    "environments": [5, {}, [5], None],
    "scored": ["one", None, -1, 1.5],
    "failed": [[]],
    "seconds": ["long"],
    "files": [5, [5], [["a"]], [["a", "b", "c"]], [[1, 2]]],
}


def test_what_no_shard_came_to_is_said_to_be_damaged(journals: ShardJournals, tmp_path: Path) -> None:
    fill(journals, 0)
    path = tmp_path / "progress" / "00000.done"
    holder, stated, lines = path.read_bytes().split(b"\n", 2)
    good = dict(zip([field.name for field in fields(Done)], json.loads(stated.partition(b" ")[2]), strict=True))
    forged = [[*{**good, name: value}.values()] for name, values in VALUES.items() for value in values]
    for wrong in [*WRONG, *forged]:
        text = wrong if isinstance(wrong, str) else json.dumps(wrong)
        path.write_bytes(holder + b"\n" + checked(text.encode()) + lines)
        with pytest.raises(OSError, match="is damaged"):
            journals.lines.done(0)
    path.write_bytes(b"\n".join([holder, stated[:-2] + bytes([stated[-2] ^ 1]) + stated[-1:], lines]))
    with pytest.raises(OSError, match="is damaged"):
        journals.lines.done(0)
    path.write_bytes(b"\n".join([holder, stated, lines]))
    assert vars(journals.lines.done(0)) == good


@pytest.mark.parametrize("name", ["000000.done", "0.done", "00003.done", "99999999999999999999.done", "00001.0"])
def test_files_that_are_of_no_shard_say_nothing(name: str, journals: ShardJournals, tmp_path: Path) -> None:
    (tmp_path / "progress" / name).write_bytes(b"".join(line(scored(index)) for index in (0, 9)))
    journals.look()
    assert journals.pending().tolist() == list(range(10))
    assert not any(map(journals.is_closed, range(3)))
    assert list(journals.outcomes()) == []


def test_something_else_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "progress").symlink_to("elsewhere")
    with pytest.raises(OSError, match="progress is a link, which is not followed there, or not a folder"):
        opened(tmp_path)
    (tmp_path / "progress").unlink()
    (tmp_path / "progress").touch()
    with pytest.raises(OSError, match="exists"):
        opened(tmp_path)


def test_the_folder_is_made_anew_of_outcomes(tmp_path: Path) -> None:
    """Of a finished run that lacks something, say; a kill on the way leaves what is removed."""
    journals = ShardJournals(tmp_path, SHARDS, lambda _scored: True)
    (tmp_path / "progress.part").mkdir()
    (tmp_path / "progress.part" / "00000.done").write_bytes(b"half of it")
    whole_files = [(f"{number}" * 64, f"block4/{number}") for number in range(3)]
    Former(lambda: map(outcome, range(10)), np.array([5, 9]), whole_files).write(journals, HERE)
    assert paths(tmp_path) == [f"progress/{name}" for name in ("00000.0", "00000.done", "00001.0", "00002.0")]
    assert journals.pending().tolist() == [5, 8, 9]  # what failed is tried again
    found = opened(tmp_path)
    assert found.is_free(1)
    assert found.pending().tolist() == [5, 8, 9]
    assert found.lines.done(0).files == [["0" * 64, "block4/0"]]
    for number in (1, 2):
        fill(found, number)
    assert list(found.outcomes()) == list(map(outcome, range(10)))


def test_what_is_claimed_is_never_to_be_had_while_the_folder_is_removed(
    journals: ShardJournals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes the tables gives them back only when the folder is gone, or another one would write them again."""
    assert journals.claims.take("tables") is not None
    other, had = opened(tmp_path).claims, []
    rename, release = os.rename, journals.claims.release

    def looked(*given: Any) -> None:
        had.append(other.take("tables"))
        rename(*given)
        had.append(other.take("tables"))

    def released(claim: Claim) -> None:
        release(claim)
        had.append(other.take("tables"))

    monkeypatch.setattr(os, "rename", looked)
    monkeypatch.setattr(journals.claims, "release", released)
    journals.remove()
    assert had == [None] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_shard_whose_file_is_gone_is_not_said_to_be_damaged(journals: ShardJournals, tmp_path: Path) -> None:
    for number in range(3):
        fill(journals, number)
    other = opened(tmp_path)
    journals.remove()
    with pytest.raises(FileNotFoundError):
        list(other.outcomes())
    with pytest.raises(FileNotFoundError):
        other.environments()


def test_removing_takes_its_own_files_alone(journals: ShardJournals, tmp_path: Path) -> None:
    fill(journals, 0)
    journals.take(1, HERE)
    (tmp_path / "progress" / "mine.txt").write_text("mine")
    journals.remove()
    assert [path.name for path in tmp_path.rglob("*")] == ["progress.part", "mine.txt"]
    (tmp_path / "progress.part" / "mine.txt").unlink()
    journals.tidy()
    assert list(tmp_path.iterdir()) == []
