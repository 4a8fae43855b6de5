"""Data sets in .zip and .tar files: what is read, and that damaged and hostile ones end in one line."""

from __future__ import annotations

import errno
import io
import logging
import os
import pickle
import random
import re
import resource
import shutil
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from grafiqs.datasets.dataset import MAX_BYTES, Dataset
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.options.extract import Options
from grafiqs.select import select
from support.packing import Members, contents, tar_of, tarred, zipped
from support.writing import contents as outcome
from support.writing import damaged, in_a_process


def link(name: str, target: str, kind: bytes = tarfile.LNKTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def opened(folder: Path, name: str, data: bytes) -> Dataset:
    (folder / name).write_bytes(data)
    return scan(folder / name)


def why_not(dataset: Dataset, location: str) -> str:
    """Why a sample cannot be read."""
    with pytest.raises(UnreadableSampleError) as caught:
        dataset.read(location)
    return str(caught.value)


BOTH: dict[str, Callable[[Members], bytes]] = {"zip": zipped, "tar": tarred}

# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", BOTH)
def test_of_members_with_one_name_the_last_counts(tmp_path: Path, kind: str) -> None:
    members = [("ann/a.jpg", b"first"), ("bob/b.jpg", b"b"), ("./ann/a.jpg", b"second"), ("ann/a.jpg", b"third")]
    dataset = opened(tmp_path, f"faces.{kind}", BOTH[kind](members))
    assert contents(dataset) == {"ann": {"a.jpg": b"third"}, "bob": {"b.jpg": b"b"}}


@pytest.mark.parametrize("kind", BOTH)
def test_members_that_lead_out_are_left_out(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    outside = ("/ann/1.jpg", "//ann/2.jpg", "../ann/3.jpg", "ann/../../4.jpg", "..")
    inside = ("ann/5.jpg", "ann/../bob/6.jpg", "bob/...7.jpg", "..cyd/8.jpg")
    members = [(name, name.encode()) for name in (*outside, *inside)]
    dataset = opened(tmp_path, f"faces.{kind}", BOTH[kind](members))
    assert contents(dataset) == {"ann": {"5.jpg": b"ann/5.jpg"}, "bob": {"6.jpg": b"ann/../bob/6.jpg"}}
    assert caplog.messages == [
        f"5 members of {tmp_path}/faces.{kind} lead out of it, or have no possible name: left out"
    ]
    assert why_not(dataset, "../ann/3.jpg") == "is not in the archive"


@pytest.mark.parametrize("kind", BOTH)
def test_identities_are_found_however_deep_they_were_packed(tmp_path: Path, kind: str) -> None:
    members = [(f"home/me/faces/{name}", name.encode()) for name in ("ann/0.png", "bob/1.png", "bob/deep/2.png")]
    found = contents(opened(tmp_path, f"faces.{kind}", BOTH[kind](members)))
    assert found == {"ann": {"0.png": b"ann/0.png"}, "bob": {"1.png": b"bob/1.png", "deep/2.png": b"bob/deep/2.png"}}


@pytest.mark.parametrize("kind", BOTH)
def test_paths_of_endless_folders_cost_neither_time_nor_memory(tmp_path: Path, kind: str) -> None:
    deep = [("a/" * 2000 + f"{number}.png", b"") for number in range(20)]
    endless = [("a/" * 30_000 + "0.png", b"")]
    started = time.monotonic()
    dataset = opened(tmp_path, f"faces.{kind}", BOTH[kind]([*deep, *endless]))
    assert (dataset.identities, len(dataset.samples("a"))) == (("a",), 20)
    assert select(dataset, Options(image_path=tmp_path)).samples[0].name == "0"
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("top", ["", "faces/"])
def test_what_macos_adds_is_left_out(tmp_path: Path, top: str) -> None:
    names = [f"{top}ann/a.jpg", f"__MACOSX/{top}ann/a.jpg", f"__MACOSX/{top}ann/._a.jpg", f"{top}__MACOSX_2/b.jpg"]
    dataset = opened(tmp_path, "faces.zip", zipped((name, b"") for name in names))
    assert contents(dataset) == {"__MACOSX_2": {"b.jpg": b""}, "ann": {"a.jpg": b""}}


def test_images_beside_packed_identities_belong_to_none(tmp_path: Path) -> None:
    names = ["faces/readme.txt", "faces/all.jpg", "faces/ann/a.jpg", "faces/bob/b.jpg", "faces/empty/"]
    for kind in BOTH:
        dataset = opened(tmp_path, f"faces.{kind}", BOTH[kind]((name, b"") for name in names))
        assert dataset.identities == ("ann", "bob", "empty")
        assert dataset.ignored == 1


def test_names_in_a_zip_that_are_not_marked_as_utf8(tmp_path: Path) -> None:
    name = "Zoë/\udcff.jpg"  # a byte that is not UTF-8, as it stands in a list of the folder
    dataset = opened(tmp_path, "unix.zip", zipped([(name, b"face")], marked=False))
    assert contents(dataset) == {"Zoë": {"\udcff.jpg": b"face"}}
    data = zipped([("Zo?\\1.jpg", b"face")]).replace(b"Zo?", "Zoë".encode("cp437"))
    central = data.index(b"PK\1\2")
    dataset = opened(tmp_path, "windows.zip", data[: central + 5] + b"\0" + data[central + 6 :])
    assert contents(dataset) == {"Zoë": {"1.jpg": b"face"}}


def packed_by(data: bytes, system: int) -> bytes:
    """A .zip all of whose members say that they were packed on this system."""
    place = data.find(b"PK\1\2")
    while place >= 0:
        data = data[: place + 5] + bytes([system]) + data[place + 6 :]
        place = data.find(b"PK\1\2", place + 4)
    return data


BACKSLASHES = [("ann\\0.jpg", b"a0"), ("ann\\deep\\1.jpg", b"a1"), ("bob\\", b""), ("bob\\2.jpg", b"b2")]


@pytest.mark.parametrize("kind", ["tar", 0, 3, 10, 11, 14])
def test_backslashes_between_folders(tmp_path: Path, kind: str | int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    if kind == "tar":
        members = [*BACKSLASHES[:2], ("bob\\/", b""), BACKSLASHES[3]]
        dataset = opened(tmp_path, "faces.tar", tarred([*members, ("..\\x.jpg", b"x")]))
    else:
        data = zipped([*BACKSLASHES, ("..\\x.jpg", b"x")])
        dataset = opened(tmp_path, "faces.zip", packed_by(data, int(kind)))
    assert contents(dataset) == {"ann": {"0.jpg": b"a0", "deep/1.jpg": b"a1"}, "bob": {"2.jpg": b"b2"}}
    assert caplog.messages[-1].startswith("1 members of")
    assert [line for line in caplog.messages if "the backslashes in" in line] == [
        f"{dataset.place}: the backslashes in its names stand between folders, as on Windows"
    ] * (kind in ("tar", 3))


@pytest.mark.parametrize("kind", BOTH)
def test_backslashes_beside_slashes_stand_as_they_are(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    members = [("ann/a\\0.jpg", b"a0"), ("b\\1.jpg", b"b1"), ("bob/2.jpg", b"b2")]
    data = BOTH[kind](members)
    dataset = opened(tmp_path, f"faces.{kind}", packed_by(data, 3) if kind == "zip" else data)
    assert contents(dataset) == {"ann": {"a\\0.jpg": b"a0"}, "bob": {"2.jpg": b"b2"}}
    for others in ([("ann/0.jpg", b"a0")], [("one/", b""), ("one/two/", b"")]):
        data = BOTH[kind]([("b\\1.jpg", b"b1"), *others])
        dataset = opened(tmp_path, f"more.{kind}", packed_by(data, 3) if kind == "zip" else data)
        assert "b" not in dataset.identities
    assert not [line for line in caplog.messages if "the backslashes in" in line]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("/data/ann/0.jpg", b"a"), ("/data/bob/0.jpg", b"b")], "have absolute paths (as by tar -P)"),
        ([("data/", b""), ("/data/ann/0.jpg", b"a")], "have absolute paths (as by tar -P)"),
        ([("\\data\\ann\\0.jpg", b"a")], "have absolute paths (as by tar -P)"),
        ([], "is empty: there are no files in it"),
    ],
)
def test_an_archive_that_can_give_nothing_says_why(
    tmp_path: Path, kind: str, members: list[tuple[str, bytes]], why: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(why)):
        opened(tmp_path, f"faces.{kind}", BOTH[kind](members))
    with pytest.raises(RequestError, match=r"is not a whole .* archive \(it has 0 bytes\)"):
        opened(tmp_path, f"none.{kind}", b"")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_a_tar(tmp_path: Path, form: int) -> None:
    name = f"{'identity' * 10}/{'folder' * 10}/{'é' * 40}.jpg"
    if form != tarfile.USTAR_FORMAT:
        name = f"{name[:-4]}/{'file' * 60}.jpg"
    dataset = opened(tmp_path, "faces.tar", tarred([(name, b"face"), ("ann/a.jpg", b"another")], form))
    assert contents(dataset) == {"ann": {"a.jpg": b"another"}, "identity" * 10: {name[81:]: b"face"}}


# -- reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_a_pickled_archive_is_the_same_data_set(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"faces.{kind}").write_bytes(BOTH[kind]([("ann/a.dat", b"a"), ("bob/b.jpg", b"b"), ("c.dat", b"c")]))
    dataset = pickle.loads(pickle.dumps(scan(tmp_path / f"faces.{kind}", ("dat",), flat=True)))
    assert contents(dataset) == {"": {"ann/a.dat": b"a", "c.dat": b"c"}}


@pytest.mark.parametrize("kind", BOTH)
def test_a_disk_that_fails(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened(tmp_path, f"faces.{kind}", BOTH[kind]([("ann/a.jpg", b"face")]))

    def failing(*_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", failing)
    assert why_not(dataset, "ann/a.jpg") == "cannot be read: Input/output error"
    with pytest.raises(RequestError, match=rf"faces\.{kind}"):
        scan(tmp_path / f"faces.{kind}")


# -- .zip --------------------------------------------------------------------------------------------------

FACE = random.Random(0).randbytes(300) + bytes(300)

_FLAGS, _METHOD, _CRC, _PACKED, _SIZE, _OFFSET = 8, 10, 16, 20, 24, 42

SPOILT: dict[str, tuple[dict[int, int], str]] = {
    "encrypted": ({_FLAGS: 1}, "encrypted"),
    "packed with bzip2": ({_METHOD: zipfile.ZIP_BZIP2}, "packed in another way"),
    "packed with lzma": ({_METHOD: zipfile.ZIP_LZMA}, "packed in another way"),
    "another checksum": ({_CRC: 1}, "checksum"),
    "shorter than it says": ({_SIZE: 601}, "its size"),
    "a hundred million bytes, it says": ({_SIZE: 10**8}, "its size"),
    "longer than it says": ({_SIZE: 599, _CRC: zlib.crc32(FACE[:599])}, "its size"),
    "nothing, it says": ({_SIZE: 0, _CRC: 0}, "its size"),
    "too large": ({_SIZE: MAX_BYTES + 1}, "268,435,457 bytes, more than"),
    "too large as packed": ({_PACKED: MAX_BYTES + 1}, "268,435,457 bytes, more than"),
    "cut off": ({_PACKED: 200}, "its size"),
    "elsewhere": ({_OFFSET: 1}, "does not begin where"),
    "behind the end": ({_OFFSET: 10**9}, "does not begin where"),
}
"""What is written over the fields of a member in the directory of the archive, and what is said of it."""


def with_fields(data: bytes, fields: dict[int, int]) -> bytes:
    """A .zip with other fields in the directory entry of its first member."""
    changed = bytearray(data)
    for field, value in fields.items():
        struct.pack_into("<H" if field in (_FLAGS, _METHOD) else "<I", changed, data.index(b"PK\1\2") + field, value)
    return bytes(changed)


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_spoilt_member_of_a_zip_spoils_no_other(tmp_path: Path, what: str, method: int) -> None:
    fields, expected = SPOILT[what]
    data = zipped([("ann/a.jpg", FACE), ("ann/b.jpg", FACE)], method)
    dataset = opened(tmp_path, "faces.zip", with_fields(data, fields))
    assert dataset.samples("ann") == ("a.jpg", "b.jpg")
    assert expected in why_not(dataset, "ann/a.jpg")
    assert dataset.read("ann/b.jpg") == FACE


def test_a_member_that_is_packed_otherwise_than_the_zip_says(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = zipped([("ann/a.jpg", FACE), ("ann/b.jpg", FACE)], method)
        dataset = opened(tmp_path, "faces.zip", with_fields(data, {_METHOD: zipfile.ZIP_DEFLATED - method}))
        assert "cannot be unpacked" in why_not(dataset, "ann/a.jpg")
        assert dataset.read("ann/b.jpg") == FACE


def test_a_member_that_would_begin_in_the_last_bytes_of_a_zip(tmp_path: Path) -> None:
    data = zipped([("ann/a.jpg", FACE)])[:-2] + b"\4\0PK\3\4"  # a comment that begins like a member
    dataset = opened(tmp_path, "faces.zip", with_fields(data, {_OFFSET: len(data) - 4}))
    assert "does not begin where" in why_not(dataset, "ann/a.jpg")


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    data = zipped([("ann/a.jpg", bytes(MAX_BYTES))])
    assert len(data) < 300_000
    dataset = opened(tmp_path, "faces.zip", with_fields(data, {_SIZE: 100, _CRC: zlib.crc32(bytes(100))}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "its size" in why_not(dataset, "ann/a.jpg")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 16_000_000


def test_a_member_that_would_unpack_to_many_times_its_size(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "faces.zip", zipped([("ann/0.png", bytes(2**24 + 1)), ("ann/1.png", bytes(2**24))]))
    assert why_not(dataset, "ann/0.png") == "it would unpack to more than 20 times its size"
    assert dataset.read("ann/1.png") == bytes(2**24)


def test_a_zip64_and_one_behind_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = zipped([("ann/a.jpg", FACE), ("bob/b.jpg", FACE)])
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    large = zipped([("ann/a.jpg", FACE), ("bob/b.jpg", FACE)])
    assert b"PK\6\6" in large
    for number, data in enumerate((large, b"#!/bin/sh\n" + plain)):
        assert contents(opened(tmp_path, f"{number}.zip", data)) == {"ann": {"a.jpg": FACE}, "bob": {"b.jpg": FACE}}


def test_a_zip_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    data = zipped([("ann/a.jpg", FACE), ("bob/b.jpg", FACE)])
    for length in range(0, len(data), 7):
        with pytest.raises(RequestError, match=r"faces\.zip is not a whole zip archive \(.+\): get the file again$"):
            opened(tmp_path, "faces.zip", data[:length])


# -- .tar --------------------------------------------------------------------------------------------------


def test_a_hard_link_is_what_it_links_to(tmp_path: Path) -> None:
    face = tarfile.TarInfo("./ann/a.jpg")
    face.size = len(FACE)
    data = tar_of([(face, FACE), link("bob/b.jpg", "ann/a.jpg"), link("./bob/c.jpg", "./bob/b.jpg")])
    assert contents(opened(tmp_path, "faces.tar", data)) == {
        "ann": {"a.jpg": FACE},
        "bob": {"b.jpg": FACE, "c.jpg": FACE},
    }


def test_what_is_no_file_in_a_tar_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    face = tarfile.TarInfo("ann/a.jpg")
    others = [
        link("ann/b.jpg", "a.jpg", tarfile.SYMTYPE),
        link("ann/c.jpg", "nowhere.jpg"),
        link("ann/d.jpg", "", tarfile.CHRTYPE),
        link("ann/e.jpg", "", tarfile.FIFOTYPE),
        link("ann/f.jpg", "", tarfile.GNUTYPE_SPARSE),
    ]
    assert contents(opened(tmp_path, "faces.tar", tar_of([*others, (face, b"")]))) == {"ann": {"a.jpg": b""}}
    assert caplog.messages == [f"5 links and other members of {tmp_path}/faces.tar are not files, and are left out"]


FACES = [(f"{identity}/{number}.jpg", FACE) for identity in ("ann", "Zoë") for number in range(3)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_that_is_cut_off_is_refused_or_complete_or_warned_of(
    tmp_path: Path, form: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = tarred(FACES, form)
    whole = contents(opened(tmp_path, "faces.tar", data))
    opens = 0
    for length in range(0, len(data), 128):
        caplog.clear()
        try:
            found = contents(opened(tmp_path, "faces.tar", data[:length]))
        except RequestError as error:
            assert "is not a whole tar archive" in str(error)  # noqa: PT017
        else:
            opens += 1
            assert found == whole or "no mark at its end" in caplog.text
    assert opens


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_damage_in_a_tar_makes_its_list_no_shorter(tmp_path: Path, form: int) -> None:
    data = tarred(FACES, form)
    whole = opened(tmp_path, "faces.tar", data).samples("ann")
    end = data.rindex(FACE[:100])
    refused = 0
    for start in range(0, end, tarfile.BLOCKSIZE):
        for damage in (bytes(512), b"\xff" * 512, data[start : start + 8] + b"~" + data[start + 9 : start + 512]):
            try:
                dataset = opened(tmp_path, "faces.tar", data[:start] + damage + data[start + 512 :])
            except RequestError as error:
                refused += 1
                assert str(error).endswith("get the file again")  # noqa: PT017
            else:
                assert len(whole) * 2 == sum(len(dataset.samples(identity)) for identity in dataset.identities)
    assert refused >= 3 * len(FACES)


def with_size(data: bytes, start: int, size: int) -> bytes:
    """A .tar with another size, and the right checksum, in the header that begins at `start`."""
    header = bytearray(data[start : start + 512])
    header[124:136] = (size % 2**96).to_bytes(12, "big")
    header[124] = 0x80 if size >= 0 else 0xFF
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + header + data[start + 512 :]


@pytest.mark.parametrize("size", [-512, -1024, -(2**40), 10**6, 2**62, 2**80])
def test_a_tar_whose_member_lies_about_its_size_is_refused(tmp_path: Path, size: int) -> None:
    data = tarred([("ann/a.jpg", FACE), ("bob/b.jpg", FACE)])
    for start in (0, 1536):
        with pytest.raises(RequestError, match=r"faces\.tar is not a whole tar archive"):
            opened(tmp_path, "faces.tar", with_size(data, start, size))


def test_a_tar_that_became_shorter_gives_no_half_image(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "faces.tar", tarred([("ann/a.jpg", FACE)]))
    os.truncate(tmp_path / "faces.tar", 800)
    assert why_not(dataset, "ann/a.jpg") == "the archive has become shorter"


# -- what is refused ---------------------------------------------------------------------------------------


def test_what_a_tar_says_of_all_its_members_is_not_kept_with_each(tmp_path: Path) -> None:
    headers = {f"key{number}": "value" for number in range(20_000)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        for number in range(2_000):
            archive.addfile(tarfile.TarInfo(f"ann/{number}.png"))
    started = time.monotonic()
    assert len(opened(tmp_path, "faces.tar", file.getvalue()).samples("ann")) == 2_000
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("name", ["faces.tar.{}", "faces.t{}", "my faces.tar"])
def test_the_advice_for_a_compressed_archive_works(tmp_path: Path, kind: str, name: str) -> None:
    place = tmp_path / name.format(kind)
    with tarfile.open(place, f"w:{kind}") as archive:  # type: ignore[call-overload]
        for member in ("ann/a.jpg", "bob/b.jpg"):
            archive.addfile(tarfile.TarInfo(member))
    with pytest.raises(RequestError, match="is compressed") as caught:
        scan(place)
    command = str(caught.value).split("`")[1]
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"needs {command.split()[0]}")
    subprocess.run(command, shell=True, check=True)
    unpacked = tmp_path / ("plain.tar" if name == "my faces.tar" else "faces.tar")
    assert scan(unpacked).identities == ("ann", "bob")
    assert place.exists()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("faces.tar.zst", r"`zstd -d \S*/faces.tar.zst`, and give \S*/faces.tar as"),
        ("faces.7z", "unpack it, and give the folder"),
        ("faces.rar", "unpack it, and give the folder"),
        ("list.csv.gz", r"`gunzip -k \S*/list.csv.gz`, and give \S*/list.csv as"),
    ],
)
def test_what_is_packed_otherwise_is_refused_with_advice(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(RequestError, match=advice):
        scan(tmp_path / name)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({_FLAGS: 1}, "2 of its 3 images are encrypted"),
        ({_METHOD: zipfile.ZIP_LZMA}, "2 of its 3 images are packed by LZMA"),
        ({_METHOD: 9}, "2 of its 3 images are packed by Deflate64"),
    ],
)
def test_a_zip_most_of_whose_images_cannot_be_read_is_refused(
    tmp_path: Path, fields: dict[int, int], reason: str
) -> None:
    data = zipped([(f"ann/{number}.jpg", FACE) for number in range(3)])
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    spoilt = with_fields(data, fields)
    both = spoilt[:second] + with_fields(data[second:], fields)
    assert opened(tmp_path, "faces.zip", spoilt).identities == ("ann",)
    with pytest.raises(RequestError, match=rf"faces\.zip cannot be read in place: {reason}"):
        opened(tmp_path, "faces.zip", both)


@pytest.mark.parametrize("kind", BOTH)
def test_an_archive_without_images_is_refused(tmp_path: Path, kind: str) -> None:
    for members in ([], [("notes.txt", b"")], [(".hidden/a.jpg", b"")]):
        with pytest.raises(RequestError, match=rf"faces\.{kind} (holds no image|is not a whole|is empty)"):
            opened(tmp_path, f"faces.{kind}", BOTH[kind](members))
    for data in (b"", b"no archive", bytes(5000)):
        with pytest.raises(RequestError, match=rf"faces\.{kind} (holds no image|is not a whole|is empty)"):
            opened(tmp_path, f"faces.{kind}", data)


# -- damage of every kind ----------------------------------------------------------------------------------


def every_damage(folder: Path) -> None:
    """Damaged archives of every kind, each refused or read as far as it goes; `writing.contents` holds it to that."""
    for seed, method in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
        for data in damaged(zipped([("ann/", b""), *FACES], method), 400, seed):
            (folder / "faces.zip").write_bytes(data)
            outcome(folder / "faces.zip")
    for seed, form in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        members = [*FACES, (f"{'long' * 30}/{'é' * 45}.jpg", FACE)]
        whole = tarred([("ann/", b""), *members], form)
        dice = random.Random(seed)
        for data in damaged(whole, 400, seed):
            start = dice.randrange(0, len(data) - 512, 512)
            size = dice.choice((-(2**70), -1024, -1, 1, 2**31, 2**62, 2**90))
            (folder / "faces.tar").write_bytes(with_size(data, start, size) if dice.random() < 0.3 else data)
            outcome(folder / "faces.tar")


def test_damaged_archives_end_in_clear_errors(tmp_path: Path) -> None:
    in_a_process("test_archives.every_damage", tmp_path)
