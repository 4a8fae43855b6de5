"""insightface's training sets: every byte comes back, by whatever road the record is found; damage is told."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grafiqs.datasets.dataset import Dataset
from grafiqs.datasets.records import Records
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.options.extract import Options
from grafiqs.select import select_subset
from support.writing import (
    MAGIC,
    contents,
    damaged,
    in_a_process,
    packed,
    part,
    record,
    truncated,
    write_records,
    write_training_set,
)

IMAGES = {
    7: (b"", b"a", b"bc", b"def", b"ghij"),
    0: (MAGIC, b"k" + MAGIC, b"lmno" + MAGIC + b"p", MAGIC * 3, b"qrst" + MAGIC * 2 + b"uvwx"),
    12: (bytes(range(256)) * 3,),
    3: (),
}
"""Images by identity, with the magic at a multiple of 4 and elsewhere, at both ends and in a row."""


def everything(dataset: Dataset) -> dict[str, bytes]:
    """Every sample, by its location."""
    locations = [dataset.location(name, sample) for name in dataset.identities for sample in dataset.samples(name)]
    return {location: dataset.read(location) for location in locations}


def numbered(images: dict[int, tuple[bytes, ...]]) -> dict[str, bytes]:
    """What a training set of these images holds: the records are counted from 1."""
    pairs = [(label, image) for label, own in images.items() for image in own]
    return {f"{label:07d}/{key:08d}": image for key, (label, image) in enumerate(pairs, 1)}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return write_training_set(tmp_path / "train.rec", IMAGES)


# -- what is read ------------------------------------------------------------------------------------------


def test_a_record_is_laid_out_as_defined(tmp_path: Path) -> None:
    header = struct.pack("<IfQQ", 0, 5.0, 0, 0)
    (tmp_path / "a.rec").write_bytes(
        b"\x0a\x23\xd7\xce" + struct.pack("<I", 26) + header + b"xy\0\0"
        b"\x0a\x23\xd7\xce" + struct.pack("<I", 1 << 29 | 28) + header + b"abcd"
        b"\x0a\x23\xd7\xce" + struct.pack("<I", 2 << 29)
        + b"\x0a\x23\xd7\xce" + struct.pack("<I", 3 << 29 | 1) + b"z\0\0\0"
    )  # fmt: skip
    assert everything(Records(tmp_path / "a.rec")) == {
        "0000005/00000000": b"xy",
        "0000005/00000001": b"abcd\x0a\x23\xd7\xce\x0a\x23\xd7\xcez",
    }


@pytest.mark.parametrize("index", ["whole", "missing", "empty", "text", "shorter", "misnamed", "of another file"])
def test_identities_come_from_their_ranges(trained: Path, index: str, caplog: pytest.LogCaptureFixture) -> None:
    idx = trained.with_suffix(".idx")
    good = idx.read_text()
    match index:
        case "missing":
            idx.unlink()
        case "empty":
            idx.write_text("")
        case "text":
            idx.write_text("0\tzero\n")
        case "shorter":
            idx.write_text(good[: good.rindex("\n", 0, -1) + 1])
        case "misnamed":
            idx.write_text(good.replace("\n3\t", "\n33\t"))
        case "of another file":
            idx.write_text("0\t0\n1\t8\n")
    with caplog.at_level(logging.INFO, "grafiqs"):
        dataset = Records(trained)
    assert dataset.identities == ("0000000", "0000007", "0000012")
    assert everything(dataset) == numbered(IMAGES)
    walked, *named = caplog.messages or [""]
    assert walked.endswith("" if index == "whole" else f"walking through {trained}")
    assert named == ([] if index == "whole" else [f"The samples of {trained} are named by the ids in its records"])


PACKED = [packed(label, b"%d of %d" % (number, label), 0) for label in range(4) for number in range(20)]


def with_ids(ids: Iterable[int], data: Sequence[bytes] = PACKED) -> list[tuple[int, bytes]]:
    """Records whose index keys are these, and so are the ids in their headers."""
    return [(number, one[:8] + struct.pack("<Q", number) + one[16:]) for number, one in zip(ids, data, strict=False)]


def ranged(data: Sequence[bytes], per_identity: int, numbers: Callable[[int], int]) -> list[tuple[int, bytes]]:
    """Images from 1 on, then record 0, then the ranges, as insightface's face2rec2 writes them."""
    end = len(data) + 1
    ranges = [packed((start, start + per_identity)) for start in range(1, end, per_identity)]
    after = [(0, packed((end, end + len(ranges)))), *enumerate(ranges, end)]
    return with_ids(range(1, end), data) + [(key, with_ids([numbers(key)], [one])[0][1]) for key, one in after]


PACKERS: dict[str, list[tuple[int, bytes]]] = {
    "face2rec2": ranged(PACKED, 20, lambda key: key),
    "ranges without ids": ranged(PACKED, 20, lambda _: 0),
    "rec_builder": with_ids(range(80)),
    "im2rec of a shuffled list": with_ids(random.Random(0).sample(range(9999), 80), PACKED[::3] + PACKED[1::3]),
    "some left out": with_ids(range(7, 999, 3)),
}
"""How packers number their records: the key in the index is the id in the header."""


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("flat", [False, True])
def test_the_draw_is_the_same_without_the_index(
    tmp_path: Path, packer: str, flat: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rec = write_records(tmp_path / "a.rec", PACKERS[packer])
    drawn = Options(image_path=rec, samples_per_identity=5, random_seed=3, flat_structure=flat)
    with_index = select_subset(drawn)
    images = everything(Records(rec, flat))
    rec.with_suffix(".idx").unlink()
    without = select_subset(drawn)
    assert without.sha256 == with_index.sha256
    assert without.samples == with_index.samples
    assert everything(Records(rec, flat)) == images
    assert all(record.levelno == logging.INFO for record in caplog.records)


@pytest.mark.parametrize("ids", [[0] * 80, [*range(79), 5]])
def test_records_that_share_an_id_are_named_by_their_places(
    tmp_path: Path, ids: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    records = [data for _, data in with_ids(ids)]
    rec = write_records(tmp_path / "a.rec", enumerate(records, 100))
    rec.with_suffix(".idx").unlink()
    dataset = Records(rec)
    assert [place for name in dataset.identities for place in dataset.samples(name)] == [f"{n:08d}" for n in range(80)]
    assert f"records of {rec} share an id: its samples are named by their places in the file" in caplog.text


def test_a_record_whose_header_is_damaged_spoils_no_other_without_an_index(tmp_path: Path) -> None:
    rec = write_records(tmp_path / "a.rec", PACKERS["face2rec2"])
    rec.with_suffix(".idx").unlink()
    images = everything(Records(rec))
    with rec.open("r+b") as file:
        file.seek(rec.read_bytes().index(b"7 of 2") - 24)
        file.write(struct.pack("<I", 2**31))  # so many labels
    dataset = Records(rec)
    assert {p: dataset.read(p) for p in images if p != "0000002/00000048"} == {
        p: image for p, image in images.items() if p != "0000002/00000048"
    }
    with pytest.raises(UnreadableSampleError, match="no room for 2147483648 labels"):
        dataset.read("0000002/00000048")


def test_an_index_that_leads_astray_is_told_and_without_it_the_file_is_walked_through(trained: Path) -> None:
    lines = trained.with_suffix(".idx").read_text().splitlines()
    for key in (3, 4):  # neither first nor last of their identity: opening does not look at them
        lines[key] = f"{key}\t{int(lines[key].split()[1]) + 4}"
    trained.with_suffix(".idx").write_text("\n".join(lines))
    dataset = Records(trained)
    for key in (3, 4):
        with pytest.raises(UnreadableSampleError, match=r"the record is damaged: .*idx is wrong, the file is walked"):
            dataset.read(f"0000007/0000000{key}")
    trained.with_suffix(".idx").unlink()
    assert everything(Records(trained)) == numbered(IMAGES)


@pytest.mark.parametrize("index", ["0\t0\n1\t32\n2\t72\n", "0\t0\n"])
def test_an_index_that_does_not_fit_is_made_again(tmp_path: Path, index: str) -> None:
    inner = record(packed(3, b"inner..."))
    (tmp_path / "a.rec").write_bytes(part(0, packed(1, inner)) + record(packed(2, b"after")))
    (tmp_path / "a.idx").write_text(index)
    assert everything(Records(tmp_path / "a.rec")) == {"0000001/00000000": inner, "0000002/00000001": b"after"}


def test_identities_come_from_labels_where_there_are_no_ranges(tmp_path: Path) -> None:
    rec = write_records(
        tmp_path / "a.rec",
        [
            (30, packed(2, b"thirty")),
            (4, packed((5, 0.5), b"four")),
            (1000, packed((2,), b"a thousand")),
            (9, packed(0.5, b"no identity")),
            (5, packed(5)),
            (6, packed((1, 2))),  # no image, and not of record 0
        ],
    )
    assert everything(Records(rec)) == {
        "0000002/00000030": b"thirty",
        "0000002/00001000": b"a thousand",
        "0000005/00000004": b"four",
        "0000005/00000005": b"",
    }
    flat = Records(rec, flat=True)
    assert flat.identities == ("",)
    assert flat.samples("") == tuple(everything(Records(rec)))
    assert everything(flat) == everything(Records(rec))


@pytest.mark.parametrize(
    "ranges",
    [[(1, 3), (3, 4)], [(1, 2), (3, 5)], [(2, 3), (3, 5)], [(1, 3), (2, 5)], [(1, 3), (3, 9)], [(1, 5), (3, 3)]],
)
def test_ranges_that_are_not_true_give_way_to_labels(tmp_path: Path, ranges: list[tuple[int, int]]) -> None:
    images = [packed(label, b"%d" % key) for key, label in enumerate((8, 8, 9, 9), 1)]
    rec = write_records(tmp_path / "a.rec", enumerate([packed((5, 7)), *images, *map(packed, ranges)]))
    assert everything(Records(rec)) == {
        f"000000{label}/0000000{key}": b"%d" % key for key, label in enumerate((8, 8, 9, 9), 1)
    }


PIECES = st.lists(st.one_of(st.just(MAGIC), st.binary(max_size=9)), max_size=8).map(b"".join)


@settings(max_examples=100, deadline=None)
@given(
    images=st.dictionaries(
        st.integers(0, 10**9),  # the key
        st.tuples(
            st.one_of(st.integers(-9, 9), st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple)), PIECES
        ),
        min_size=1,
        max_size=8,
    ),
    ids=st.sampled_from((0, 0xCED7230A, 0xCED7230A << 32)),
)
def test_what_is_written_is_read(tmp_path_factory: Any, images: dict[int, tuple[Any, bytes]], ids: int) -> None:
    """With keys in any order, and the magic in header, labels and image."""
    rec = tmp_path_factory.getbasetemp() / "written.rec"
    write_records(rec, [(key, packed(label, b"." + image, ids)) for key, (label, image) in images.items()])
    labels = {key: label if isinstance(label, int) else label[0] for key, (label, _) in images.items()}
    expected = {f"{labels[key]:07d}/{key:08d}": b"." + image for key, (_, image) in images.items()}
    assert everything(Records(rec)) == expected
    rec.with_suffix(".idx").unlink()
    assert list(everything(Records(rec, flat=True)).values()) == [
        b"." + images[key][1]
        for _, key in sorted((f"{labels[key]:07d}/{rank:08d}", key) for rank, key in enumerate(images))
    ]


def test_the_magic_may_stand_for_a_label(tmp_path: Path) -> None:
    label = struct.unpack("<f", MAGIC)[0]
    rec = write_records(tmp_path / "a.rec", enumerate([packed((1, label, label), b"image"), packed(label, b"image")]))
    assert label.is_integer()
    assert everything(Records(rec)) == {f"0000001/{0:08d}": b"image", f"{int(label):07d}/{1:08d}": b"image"}


# -- damage ------------------------------------------------------------------------------------------------


def test_one_damaged_record_leaves_the_others(trained: Path) -> None:
    at = trained.read_bytes().index(record(packed(7, b"bc", 3)))
    with trained.open("r+b") as file:
        file.seek(at)
        file.write(b"oops")
    dataset = Records(trained)
    found = {}
    for location, image in numbered(IMAGES).items():
        try:
            assert dataset.read(location) == image
        except UnreadableSampleError as error:
            found[location] = str(error)
    assert found == {
        "0000007/00000003": f"the record is damaged: at byte {at} no record begins; if train.idx is wrong, the file "
        "is walked through without it"
    }


def test_a_record_of_another_identity_is_not_passed_on(tmp_path: Path) -> None:
    images = [packed(label, b"image") for label in (8, 9, 8)]
    rec = write_records(tmp_path / "a.rec", enumerate([packed((4, 5)), *images, packed((1, 4))]))
    with pytest.raises(UnreadableSampleError, match="the record has the label 9, and is listed for 0000008"):
        Records(rec).read("0000008/00000002")


@pytest.mark.parametrize("location", ["0000007/99999999", "0000007/x", "", "0000007/-1"])
def test_a_sample_that_is_not_there(trained: Path, location: str) -> None:
    with pytest.raises(UnreadableSampleError):
        Records(trained).read(location)


def test_a_file_that_becomes_shorter_gives_no_half_image(trained: Path) -> None:
    dataset = Records(trained)
    at = trained.read_bytes().index(bytes(range(256)))
    os.truncate(trained, at + 100)
    with pytest.raises(UnreadableSampleError, match="damaged"):
        dataset.read("0000012/00000011")


def test_a_record_that_is_too_large_is_listed_and_not_read(tmp_path: Path) -> None:
    rec = tmp_path / "large.rec"
    start = part(1, packed(1, b"...."))
    with rec.open("wb") as file:
        file.write(start + MAGIC + struct.pack("<I", 2 << 29 | 2**28))
        file.seek(2**28, os.SEEK_CUR)  # a hole: it takes no room on the disk
        file.write(part(3, b"end"))
    dataset = Records(rec)
    assert dataset.samples("0000001") == ("00000000",)
    with pytest.raises(UnreadableSampleError, match=r"more than 268,435,456"):
        dataset.read("0000001/00000000")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "holds no image of an identity: check --image-path"),
        (b"no record", r"is damaged \(at byte 0 no record begins\): get the file again"),
        (part(2, b"middle"), r"is damaged \(at byte 0 no record begins\): get the file again"),
        (part(1, packed(1)), r"is damaged \(a record ends before byte 40\): get the file again"),
        (part(1, packed(1)) + part(0, b""), r"is damaged \(at byte 32 no part of a record begins\)"),
        (part(0, b"short"), r"is damaged \(a record of 5 bytes has no header\): get the file again"),
        (
            part(0, struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0) + b"...."),
            r"is damaged \(a record of 28 bytes has no room for 4294967295 labels\)",
        ),
        (MAGIC + struct.pack("<I", 2**29 - 1) + packed(1), r"is damaged \(a record ends before byte 536870919\)"),
        (record(packed((1, 2**24))), r"is damaged \(not all records up to 16777215 are there\)"),
        (record(packed(0.5, b"image")), "holds no image of an identity: check --image-path"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_in_one_sentence(tmp_path: Path, data: bytes, reason: str) -> None:
    rec = tmp_path / "li\nes.rec"
    rec.write_bytes(data)
    with pytest.raises(RequestError, match=rf"/li\\nes\.rec {reason}") as caught:
        Records(rec)
    assert str(caught.value).isprintable()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read .*nowhere\.rec: No such file"):
        Records(tmp_path / "nowhere.rec")


def test_records_that_lie_within_each_other_take_no_time(tmp_path: Path) -> None:
    """Each of many records would end with the same many parts."""
    count, rec = 20_000, tmp_path / "a.rec"
    starts = [
        MAGIC + struct.pack("<I", 1 << 29 | 32 * (count - number) - 8) + packed(number) for number in range(count)
    ]
    rec.write_bytes(b"".join(starts) + part(2, b"") * count + part(3, b""))
    rec.with_suffix(".idx").write_text("".join(f"{number}\t{32 * number}\n" for number in range(count)))
    in_a_process("support.writing.contents", rec, timeout=30)


def fuzz_records(folder: Path) -> None:
    rec = write_training_set(folder / "ranges.rec", IMAGES)
    labels = [packed((label, 1), image) for label, own in IMAGES.items() for image in own]
    keys = random.Random(0).sample(range(99), len(labels))
    for number, place in enumerate((rec, write_records(folder / "labels.rec", zip(keys, labels, strict=True)))):
        good, index = place.read_bytes(), place.with_suffix(".idx").read_bytes()
        for broken in (*truncated(good, 3), *damaged(good, 400, number)):
            place.write_bytes(broken)
            contents(place)
        place.with_suffix(".idx").unlink()
        for broken in damaged(good, 100, number + 2):
            place.write_bytes(broken)
            contents(place)
        place.write_bytes(good)
        for broken in (*truncated(index, 2), *damaged(index, 300, number + 4)):
            place.with_suffix(".idx").write_bytes(broken)
            found = contents(place)
            if place is rec:
                assert found == numbered(IMAGES), broken


def test_whatever_is_broken_ends_in_a_clear_error(tmp_path: Path) -> None:
    """With ranges, a broken index changes nothing at all."""
    in_a_process("test_records.fuzz_records", tmp_path)


# -- workers -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests leave threads behind
def test_threads_and_processes_read_at_once(tmp_path: Path) -> None:
    images = {label: tuple(bytes([label, number]) * 999 + MAGIC for number in range(25)) for label in range(8)}
    dataset = Records(write_training_set(tmp_path / "train.rec", images))
    expected = numbered(images)
    with ThreadPoolExecutor(8) as pool:
        assert dict(zip(expected, pool.map(dataset.read, expected), strict=True)) == expected
    for how in ("fork", "spawn"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(how)) as workers:
            found = workers.map(dataset.read, expected, chunksize=10)
            assert dict(zip(expected, found, strict=True)) == expected


def test_it_is_the_same_after_pickling(trained: Path) -> None:
    again = pickle.loads(pickle.dumps(Records(trained)))
    assert again.identities == Records(trained).identities
    assert everything(again) == numbered(IMAGES)


def test_a_closed_file_reads_nothing_of_another(trained: Path) -> None:
    file = SharedFile(trained)
    file.close()
    with trained.open("rb"), pytest.raises(OSError, match="Bad file descriptor"):
        file.read_at(0, 4)
    file.close()


def test_a_file_that_was_not_opened_is_cleared_away_in_silence() -> None:
    SharedFile.__new__(SharedFile).close()
