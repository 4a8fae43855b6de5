"""The shard store: what it writes, what it takes over from earlier holders of a shard, and what it refuses to read."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import resource
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from grafiqs.datasets.dataset import Sample
from grafiqs.disk.files import sha256
from grafiqs.errors import UnreadableSampleError
from grafiqs.run.shard_file import ShardFile
from grafiqs.run.shard_store import ShardStore
from grafiqs.shards import Shards

SHAPES = {"image": (3, 5, 5), "block4": (4, 2, 3)}
SAMPLES = [Sample(f"id{number // 3}", f"{number}", f"id{number // 3}/{number}.png") for number in range(10)]
SHARDS = Shards(len(SAMPLES), 4)

Gradients = dict[str, NDArray[Any]]


def store_in(root: Path, dtype: str = "float32") -> ShardStore:
    root.mkdir(exist_ok=True)
    return ShardStore(root, SHAPES, dtype, SAMPLES, SHARDS)


def gradients_of(index: int, dtype: str = "float32") -> Gradients:
    draw = np.random.default_rng(index)
    return {layer: draw.standard_normal(shape).astype(dtype) for layer, shape in SHAPES.items()}


def fill(store: ShardStore, number: int, failed: tuple[int, ...] = (), turn: int = 0) -> list[tuple[str, str]]:
    """Do a shard from its beginning to its end."""
    store.begin_shard(number, turn, {})
    scored = {
        index: store.write(index, gradients_of(index, store.dtype))
        for index in SHARDS.samples(number)
        if index not in failed
    }
    return store.close_shard(number, scored)


def begun(store: ShardStore, number: int, turn: int, upto: int) -> dict[int, list[str]]:
    """Do some samples of a shard, and let it go."""
    store.begin_shard(number, turn, {})
    done = {index: store.write(index, gradients_of(index)) for index in list(SHARDS.samples(number))[:upto]}
    store.let_go(number)
    return done


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def bytes_of(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in names(root)}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_shard_is_safetensors_files_that_others_read(tmp_path: Path, dtype: str) -> None:
    store = store_in(tmp_path, dtype)
    stated = fill(store, 1, failed=(5,))
    assert stated == [(sha256(tmp_path / path), path) for path in store.paths([4])]
    assert names(tmp_path) == ["block4/00001.safetensors", "image/00001.safetensors"]
    for layer, shape in SHAPES.items():
        path = tmp_path / layer / "00001.safetensors"
        [array] = load_file(path).values()
        assert (str(array.dtype), array.shape) == (dtype, (3, *shape))
        rows = [gradients_of(index, dtype)[layer] for index in (4, 6, 7)]
        assert np.array_equal(array, np.stack(rows))
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
            assert list(file.keys()) == ["gradients"]
        digests = [hashlib.sha256(row.tobytes()) for row in rows]
        assert metadata == {
            "format": "grafiqs gradients 1",
            "layer": layer,
            "shard": "1",
            "first": "4",
            "samples": json.dumps([["id1", "4"], ["id2", "6"], ["id2", "7"]], separators=(",", ":")),
            "sha256": json.dumps([digest.hexdigest() for digest in digests], separators=(",", ":")),
            "rows_sha256": hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest(),
        }
        [length] = struct.unpack("<Q", path.read_bytes()[:8])
        assert (8 + length) % 4096 == 0
        assert path.stat().st_size == 8 + length + array.nbytes


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradients_are_read_back(tmp_path: Path, dtype: str) -> None:
    store = store_in(tmp_path, dtype)
    assert store.sizes == {layer: array.nbytes for layer, array in gradients_of(0, dtype).items()}
    for number in range(len(SHARDS)):
        fill(store, number, failed=(5,))
    for index in (*range(5), *range(6, 10)):
        assert store.is_whole(index)
        for (layer, expected), checksum in zip(gradients_of(index, dtype).items(), store.checksums(index), strict=True):
            assert checksum == hashlib.sha256(expected.tobytes()).hexdigest()
            for found in (store.gradient(layer, index), store.verified(layer, index, checksum)):
                assert found.dtype == dtype
                assert np.array_equal(found, expected)
                assert not found.flags.writeable
            assert isinstance(store.gradient(layer, index), np.memmap)
    assert not store.is_whole(5)
    for read in (store.checksums, lambda index: store.gradient("image", index)):
        with pytest.raises(UnreadableSampleError, match=r"image/00001\.safetensors: it has no gradient of id1/5\.png"):
            read(5)
    assert store.bytes_there() == sum(map(len, bytes_of(tmp_path).values()))
    assert sorted(store.files()) == names(tmp_path)
    assert store.paths([9, 0, 1]) == [f"{layer}/0000{number}.safetensors" for number in (2, 0) for layer in SHAPES]


def test_a_shard_whose_samples_all_failed_has_no_rows(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fill(store, 0, failed=(0, 1, 2, 3))
    assert load_file(tmp_path / "image" / "00000.safetensors")["gradients"].shape == (0, 3, 5, 5)
    assert not store.is_whole(0)
    with pytest.raises(UnreadableSampleError, match=r"has no gradient of id0/0\.png"):
        store.gradient("image", 0)


def test_the_bytes_do_not_depend_on_the_order_or_on_what_failed_first(tmp_path: Path) -> None:
    fill(store_in(tmp_path / "one"), 0, failed=(1,))
    store = store_in(tmp_path / "other")
    store.begin_shard(0, 3, {})
    store.write(1, gradients_of(1))
    store.remove(1)
    with ThreadPoolExecutor(3) as threads:
        scored = dict(zip((3, 0, 2), threads.map(lambda i: store.write(i, gradients_of(i)), (3, 0, 2)), strict=True))
    store.close_shard(0, scored)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")


def test_arrays_in_another_order_of_bytes_or_memory_are_written_the_same(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.begin_shard(0, 0, {})
    plain = gradients_of(0)
    strange = {layer: np.asfortranarray(array).astype(">f4", order="K") for layer, array in plain.items()}
    assert store.write(0, strange) == store.write(0, plain)
    with pytest.raises(ValueError, match=r"float16 .* instead of float32"):
        store.write(1, gradients_of(1, "float16"))
    with pytest.raises(ValueError, match=r"\(5, 5, 3\) instead of float32 \(3, 5, 5\) at image"):
        store.write(1, {layer: array.T for layer, array in plain.items()})
    store.let_go(0)


def test_what_is_to_be_in_a_shard_and_was_not_written_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for lie in ({0: ["0" * 64] * 2}, {1: ["0" * 64] * 2}):
        store.begin_shard(0, 0, {})
        store.write(0, gradients_of(0))
        with pytest.raises(ValueError, match="shard 0 lacks rows"):
            store.close_shard(0, lie)
    assert names(tmp_path) == ["block4/00000.0.part", "image/00000.0.part"]


def test_the_page_of_the_format_says_what_is_written(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
    samples = [Sample(*name, "x") for name in (("ann", "0"), ("ann", "1"), ("bob", "0"))]
    store = ShardStore(tmp_path, {"block4": (1, 2, 2)}, "float32", samples, Shards(3, 3))
    store.begin_shard(0, 0, {})
    rows = {index: np.arange(10 * index, 10 * index + 4, dtype="f4").reshape(1, 2, 2) for index in (0, 2)}
    store.close_shard(0, {index: store.write(index, {"block4": row}) for index, row in rows.items()})
    path = tmp_path / "block4" / "00000.safetensors"
    data = path.read_bytes()
    shown = re.findall(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ){16})", page, re.MULTILINE)
    assert len(shown) == 4
    for place, line in shown:
        assert data[int(place, 16) :].startswith(bytes.fromhex(line))
    [header] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert data[8:4096].decode().rstrip() == header.replace("\n", "")
    [reader] = re.findall(r"```python\n(import json.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(reader, names)
    found, whose = names["read_shard"](path)
    assert np.array_equal(found, np.stack([*rows.values()]))
    assert whose == [("ann", "0"), ("bob", "0")]
    fill(store_in(tmp_path / "none"), 0, failed=(0, 1, 2, 3))
    assert names["read_shard"](tmp_path / "none" / "image" / "00000.safetensors")[0].shape == (0, 3, 5, 5)


# -- holders of a shard, one after the other ---------------------------------------------------------------------


def test_rows_are_taken_over_from_an_earlier_holder(tmp_path: Path) -> None:
    fill(store_in(tmp_path / "straight"), 0)
    root = tmp_path / "run"
    known = begun(store_in(root), 0, 0, 3)
    store = store_in(root)
    assert store.begin_shard(0, 1, known) == {0, 1, 2}
    assert names(root) == ["block4/00000.1.part", "image/00000.1.part"]
    assert not store.is_whole(0)  # not before the shard is done
    store.close_shard(0, {**known, 3: store.write(3, gradients_of(3))})
    assert bytes_of(root) == bytes_of(tmp_path / "straight")


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "link", "folder"])
def test_a_row_that_is_not_right_is_not_taken_over(tmp_path: Path, damage: str) -> None:
    known = begun(store_in(tmp_path), 0, 0, 3)
    path = tmp_path / "block4" / "00000.0.part"
    data = bytearray(path.read_bytes())
    match damage:
        case "flip":
            data[-store_in(tmp_path).sizes["block4"] - 1] ^= 1
            path.write_bytes(data)
        case "cut":
            path.write_bytes(data[:-1])
        case "gone":
            path.unlink()
        case "link":
            (tmp_path / "elsewhere").write_bytes(data)
            path.unlink()
            path.symlink_to(tmp_path / "elsewhere")
        case "folder":
            path.unlink()
            path.mkdir()
    store = store_in(tmp_path)
    taken = store.begin_shard(0, 1, known) if damage != "folder" else set()
    assert taken == {"flip": {0, 2}, "cut": {0, 1}}.get(damage, set())
    assert (tmp_path / "elsewhere").exists() == (damage == "link")
    store.let_go(0)


def test_the_newest_files_that_have_a_row_give_it(tmp_path: Path) -> None:
    known = begun(store_in(tmp_path), 0, 0, 3)
    second = store_in(tmp_path)
    assert second.begin_shard(0, 1, {0: known[0]}) == {0}
    known[3] = second.write(3, gradients_of(3))
    second.let_go(0)
    kept = bytes_of(tmp_path)  # as if the second had been killed before it took the others over
    begun(store_in(tmp_path), 0, 0, 3)
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    store = store_in(tmp_path)
    assert store.begin_shard(0, 2, known) == {0, 1, 2, 3}
    store.let_go(0)
    assert names(tmp_path) == ["block4/00000.2.part", "image/00000.2.part"]


def test_a_former_holder_that_writes_on_does_no_harm(tmp_path: Path) -> None:
    former, store = store_in(tmp_path), store_in(tmp_path)
    former.begin_shard(0, 0, {})
    known = {0: former.write(0, gradients_of(0))}
    store.begin_shard(0, 1, known)
    scored = {**known, **{index: store.write(index, gradients_of(index)) for index in (1, 2, 3)}}
    late = {index: former.write(index, gradients_of(99)) for index in range(4)}
    with pytest.raises(FileNotFoundError):
        former.close_shard(0, late)
    store.close_shard(0, scored)
    assert np.array_equal(store.gradient("image", 0), gradients_of(0)["image"])
    assert [store.verified("block4", index, scored[index][1]).shape for index in range(4)] == [(4, 2, 3)] * 4


def test_a_holder_that_is_killed_as_it_finishes_leaves_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any write while rows are closed up, and between the names of two layers."""
    fill(store_in(tmp_path / "straight"), 0, failed=(0, 2))
    monkeypatch.setattr(ThreadPoolExecutor, "map", lambda _pool, function, *given: [*map(function, *given)])
    for killed_at in range(12):
        root = tmp_path / str(killed_at)
        store = store_in(root)
        store.begin_shard(0, 0, {})
        scored = {index: store.write(index, gradients_of(index)) for index in (1, 3)}
        left = iter(range(killed_at))
        with monkeypatch.context() as patched:
            for name in ("pwrite", "rename", "fsync"):
                patched.setattr(os, name, dying(getattr(os, name), left))
            try:
                store.close_shard(0, scored)
            except InterruptedError:
                pass
            else:
                assert killed_at > 6
        again = store_in(root)
        assert again.begin_shard(0, 1, scored) == {1, 3}, killed_at
        again.close_shard(0, scored)
        assert bytes_of(root) == bytes_of(tmp_path / "straight")


def dying(call: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        if next(left, None) is None:
            raise InterruptedError
        return call(*arguments, **named)

    return called


def test_a_finished_shard_is_begun_anew_for_what_it_lacks(tmp_path: Path) -> None:
    fill(store_in(tmp_path / "straight"), 1)
    root = tmp_path / "run"
    fill(store_in(root), 1, failed=(4, 6))
    store = store_in(root)
    known = {index: store.checksums(index) for index in (5, 7)}
    assert store.begin_shard(1, 0, known) == {5, 7}
    store.close_shard(1, {**known, **{index: store.write(index, gradients_of(index)) for index in (4, 6)}})
    assert bytes_of(root) == bytes_of(tmp_path / "straight")
    assert np.array_equal(store.gradient("image", 5), gradients_of(5)["image"])


def test_unfinished_files_are_tidied_away_and_nothing_else(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fill(store, 0)
    begun(store, 1, 7, 1)
    strangers = ["image/notes.txt", "image/00099.safetensors", "image/0.safetensors", "00000.safetensors", "x/1.0.part"]
    for name in strangers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    own = [f"{layer}/{name}" for layer in SHAPES for name in ("00000.safetensors", "00001.7.part")]
    assert sorted(store.files()) == sorted(own)
    store.tidy()
    assert names(tmp_path) == sorted([*strangers, *(name for name in own if not name.endswith(".part"))])


# -- what is not as it should be -----------------------------------------------------------------------------------


def test_a_disk_that_fills_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    usual, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = store_in(tmp_path)
    size, start = store.sizes["image"], 4096
    store.begin_shard(0, 0, {})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (start + 2 * size + 10, usual[1]))
        known = {index: store.write(index, gradients_of(index)) for index in (0, 1)}
        with pytest.raises(OSError, match="File too large"):
            store.write(2, gradients_of(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, ignored)
    store.let_go(0)
    assert store.begin_shard(0, 1, known) == {0, 1}
    store.let_go(0)


def test_a_sample_that_could_not_be_written_anew_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    store.begin_shard(0, 0, {})
    scored = {0: store.write(0, gradients_of(0))}
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with pytest.raises(OSError, match="No space left"):
        store.write(0, gradients_of(1))
    with pytest.raises(ValueError, match="lacks rows"):
        store.close_shard(0, scored)


def test_a_disk_that_says_it_is_full_at_the_end_finishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    store = store_in(tmp_path)
    store.begin_shard(0, 0, {})
    scored = {0: store.write(0, gradients_of(0))}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.close_shard(0, scored)
    assert all(name.endswith(".part") for name in names(tmp_path))
    assert not store.is_whole(0)


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the header of a file, at its length if that can be."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    changed = change(header)
    text = json.dumps(header if changed is None else changed, separators=(",", ":")).encode().ljust(length)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def metadata(**changes: str) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["__metadata__"].update(changes)


HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": metadata(format="grafiqs gradients 2"),
    "another layer": metadata(layer="block4"),
    "another shard": metadata(shard="1"),
    "another place": metadata(first="4"),
    "strange names": metadata(samples='[["id0","0"],["id0","9"],["id0","2"],["id1","3"]]'),
    "a name twice": metadata(samples='[["id0","0"],["id0","0"],["id0","2"],["id1","3"]]'),
    "names in another order": metadata(samples='[["id0","1"],["id0","0"],["id0","2"],["id1","3"]]'),
    "fewer names": metadata(samples='[["id0","0"]]'),
    "names of any shape": metadata(samples='[["id0","0"],[["id0"],{}],1,null]'),
    "names that are no JSON": metadata(samples="["),
    "deep names": metadata(samples="[" * 3000),
    "checksums that are none": metadata(sha256=json.dumps(["x" * 64] * 4)),
    "numbers as checksums": metadata(sha256="[1,2,3,4]"),
    "another checksum": metadata(rows_sha256="0" * 64),
    "one entry more": metadata(more="x"),
    "no names": lambda header: header["__metadata__"].pop("samples") and None,
    "no metadata": lambda header: header.pop("__metadata__") and None,
    "metadata that are a list": lambda header: header.update(__metadata__=["samples"]),
    "a list": lambda header: [header],
    "null": lambda _: "null",
    "another tensor": lambda header: header.update(more=header["gradients"]),
    "more rows": lambda header: header["gradients"].update(shape=[5, 3, 5, 5]),
    "another shape": lambda header: header["gradients"].update(shape=[4, 5, 5, 3]),
    "another type": lambda header: header["gradients"].update(dtype="F64"),
    "offsets behind the end": lambda header: header["gradients"].update(data_offsets=[4096, 5296]),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_is_not_this_shards_is_refused(tmp_path: Path, what: str) -> None:
    store = store_in(tmp_path)
    fill(store, 0)
    assert store.is_whole(0)
    rewritten(tmp_path / "image" / "00000.safetensors", HEADERS[what])
    refuses(store_in(tmp_path), "its header is not the one of shard 0 of this run")


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "its header is not the one"),
    "text": (lambda _: b"safetensors" * 1000, "its header is not the one"),
    "no header": (lambda data: struct.pack("<Q", 0) + data[8:], "its header is not the one"),
    "a longer header": (lambda data: struct.pack("<Q", 2**63) + data[8:], "its header is not the one"),
    "bytes that are no text": (lambda data: data[:8] + b"\xff" + data[9:], "its header is not the one"),
    "cut": (lambda data: data[:-1], r"it has \d+ bytes instead of 5296"),
    "longer": (lambda data: data + b"\0", "it has 5297 bytes instead of 5296"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_not_the_shard_is_refused(tmp_path: Path, what: str) -> None:
    fill(store_in(tmp_path), 0)
    path = tmp_path / "image" / "00000.safetensors"
    change, why = FILES[what]
    path.write_bytes(change(path.read_bytes()))
    refuses(store_in(tmp_path), why)


@pytest.mark.parametrize("what", ["gone", "link", "pipe", "folder", "linked folder"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, what: str) -> None:
    root = tmp_path / "run"
    fill(store_in(root), 0)
    path = root / "image" / "00000.safetensors"
    moved = path.rename(tmp_path / "elsewhere")
    why = {"gone": "No such file", "pipe": "not a regular file", "folder": "not a regular file"}.get(what, "is a link")
    match what:
        case "link":
            path.symlink_to(moved)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "linked folder":
            moved.rename(tmp_path / path.name)
            path.parent.rmdir()
            path.parent.symlink_to(tmp_path)
            with pytest.raises(OSError, match="image is a link, which is not followed there"):
                store_in(root).need_folders()
            with pytest.raises(OSError, match="image is a link, which is not followed there"):
                store_in(root).begin_shard(0, 1, {})
    refuses(store_in(root), why)


def refuses(store: ShardStore, why: str) -> None:
    """The file of shard 0 of the first layer is refused, by name and with the reason, whatever is asked of it."""
    assert not store.is_whole(0)
    for ask in (
        store.checksums,
        lambda index: store.gradient("image", index),
        lambda index: store.verified("image", index, "0" * 64),
    ):
        with pytest.raises(UnreadableSampleError, match=r"^image/00000\.safetensors: .*" + why):
            ask(0)


def test_a_changed_row_does_not_pass_as_verified(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fill(store, 0)
    path = tmp_path / "block4" / "00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert store.is_whole(3)  # its size is right
    store.verified("block4", 2, store.checksums(2)[1])
    with pytest.raises(UnreadableSampleError, match=r"^block4/00000\.safetensors: the gradient of id1/3\.png does not"):
        store.verified("block4", 3, store.checksums(3)[1])


def test_a_file_that_is_cut_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fill(store, 0)
    assert store.is_whole(3)
    os.truncate(tmp_path / "image" / "00000.safetensors", 4096)
    with pytest.raises(UnreadableSampleError, match=r"^image/00000\.safetensors: "):
        store.gradient("image", 3)
    with pytest.raises(UnreadableSampleError, match="does not have its checksum"):
        store.verified("image", 3, store.checksums(3)[0])


# -- large and odd ---------------------------------------------------------------------------------------------


NAME = st.text(min_size=1, max_size=20)  # of any characters, lone surrogates too
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(NAME, NAME), min_size=1, max_size=20, unique=True), st.data())
@settings(max_examples=60, deadline=None)
def test_any_names_and_rows_come_back_from_a_header(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    file = ShardFile("block1", 3, 60, [Sample(*pair, "x") for pair in pairs], (2, 3, 3), "float16")
    places = sorted(data.draw(st.sets(st.integers(0, len(pairs) - 1))))
    rows = {place: hashlib.sha256(bytes([place])).hexdigest() for place in places}
    header = file.header(rows)
    assert len(header) == file.start
    assert file.start % 4096 == 0
    assert file.rows(header) == rows
    assert json.loads(json.loads(header[8:])["__metadata__"]["samples"]) == [list(pairs[place]) for place in places]


@pytest.mark.parametrize("checksum", ["AB" * 32, "ab" * 31, "ab " * 32, ""])
def test_a_checksum_is_written_in_one_way(checksum: str) -> None:
    file = ShardFile("block1", 3, 60, [Sample("a", "b", "x")], (2, 3, 3), "float16")
    with pytest.raises(ValueError, match="its header is not the one of shard 3"):
        file.rows(file.header({0: checksum}))


@given(ANY_JSON, st.binary(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_other_header_is_a_value_error(document: Any, tail: bytes) -> None:
    file = ShardFile("block1", 3, 60, [Sample("a", "b", "x")], (2, 3, 3), "float16")
    for written in (
        json.dumps(document),
        json.dumps({"__metadata__": document}),
        json.dumps({"__metadata__": {"samples": document, "sha256": json.dumps(document)}}),
        json.dumps({"__metadata__": {"samples": json.dumps(document), "sha256": json.dumps(document)}}),
    ):
        with pytest.raises(ValueError, match="its header is not the one of shard 3"):
            file.rows(struct.pack("<Q", file.start - 8) + (written.encode() + tail).ljust(file.start - 8))


def test_names_that_are_not_utf8_are_in_the_header_and_safetensors_reads_it(tmp_path: Path) -> None:
    samples = [Sample(os.fsdecode(b"\xff\xfe"), 'a"\\\n', "x"), Sample("", "\u00e9" * 50, "y")]
    store = ShardStore(tmp_path, {"block4": (1, 2, 2)}, "float32", samples, Shards(2, 2))
    store.begin_shard(0, 0, {})
    gradient = {"block4": np.ones((1, 2, 2), np.float32)}
    store.close_shard(0, {index: store.write(index, gradient) for index in range(2)})
    assert store.is_whole(1)
    with safe_open(tmp_path / "block4" / "00000.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["samples"]) == [[sample.identity, sample.name] for sample in samples]


def test_a_header_that_no_reader_of_safetensors_takes_is_not_written(tmp_path: Path) -> None:
    """Names that take 100 MB together."""
    samples = [Sample("a", "x" * 10**6, str(number)) for number in range(101)]
    store = ShardStore(tmp_path, {"block4": (1, 1, 1)}, "float32", samples, Shards(101, 101))
    with pytest.raises(
        OSError, match=r"block4/00000\.safetensors: the names of its samples fill 10\d{7} bytes: a smal"
    ):
        store.begin_shard(0, 0, {})
    assert names(tmp_path) == []


def test_many_shards_take_few_open_files(tmp_path: Path) -> None:
    samples = [Sample("a", str(number), f"a/{number}.png") for number in range(200)]
    store = ShardStore(tmp_path, {"block4": (1, 1, 1)}, "float32", samples, Shards(200, 1))
    for number in range(200):
        store.begin_shard(number, 0, {})
        store.close_shard(number, {number: store.write(number, {"block4": np.full((1, 1, 1), number, np.float32)})})
    before = len(os.listdir("/proc/self/fd"))
    assert [store.gradient("block4", number).item() for number in range(200)] == list(range(200))
    assert len(os.listdir("/proc/self/fd")) <= before + 64


def test_a_store_goes_to_other_processes_without_what_it_has_open(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fill(store, 0)
    store.begin_shard(1, 0, {})
    store.gradient("image", 0)
    other = pickle.loads(pickle.dumps(store))
    store.let_go(1)
    assert np.array_equal(other.gradient("image", 3), gradients_of(3)["image"])
    assert not other.is_whole(4)


def test_threads_read_at_once(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for number in range(3):
        fill(store, number)
    wait = threading.Barrier(8)

    def read(_thread: int) -> bool:
        wait.wait()
        return all(np.array_equal(store.gradient("image", i), gradients_of(i)["image"]) for i in range(10))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(8)))
