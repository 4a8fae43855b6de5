"""Photos in, aligned crops out: what lies in the folder, other requests, real photos, and verifying."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from grafiqs import open_run
from grafiqs.cli import main
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError
from grafiqs.faces.cut import cut_out
from grafiqs.faces.detector import Detector
from grafiqs.faces.face import BOX, POINTS, TURN
from grafiqs.faces.template import LANDMARKS, similarity
from grafiqs.images.decoding import decode
from grafiqs.images.reading import Read, Reader, read_ahead
from grafiqs.options.align import AlignOptions
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.extract import Options
from grafiqs.select import select_subset
from grafiqs.workers import processors
from support.killing import ended
from support.making import checked, picture, rows_of, sums_of, tree
from support.packing import zipped
from support.photos import (
    ALIGNED,
    CROP,
    PHOTOS,
    UNKNOWN,
    UNREADABLE,
    YUNET,
    Capture,
    Points,
    command,
    crops_of,
    face_of,
    hostile,
    moved,
    pixels,
    real,
    refused,
    run,
    slow_reference,
    without_journal,
    write_table,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(photos: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An alignment that nothing disturbed, done by a watched process; read only."""
    folder = tmp_path_factory.mktemp("finished") / "crops"
    assert ended(command(photos, folder, table), folder) == 1
    return folder


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished alignment, to be disturbed."""
    return Path(shutil.copytree(finished, tmp_path / "crops"))


@pytest.fixture(scope="module")
def found(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their aligned crops; read only."""
    folder = tmp_path_factory.mktemp("found") / "crops"
    assert run(people, folder, "--detector", YUNET, "--quiet") == 1
    return folder


# -- what lies in the folder -------------------------------------------------------------------------------


def test_the_tree_and_the_names_are_those_of_the_photos_and_each_crop_is_that_of_its_face(
    finished: Path, photos: Path, known_faces: dict[str, Points]
) -> None:
    assert sorted(crops_of(finished)) == sorted(known_faces)
    for number, (path, points) in enumerate(known_faces.items()):
        found = pixels(finished / path)
        expected = slow_reference(decode((photos / path).read_bytes()), similarity(points))
        if number < 5:  # larger faces are shrunk first
            assert np.abs(found - expected).max() < 0.51
        assert np.abs(found.astype(int) - picture(1000 * number))[30:100, 25:87].mean() < 3


def test_the_tables_say_what_was_done(finished: Path, photos: Path, known_faces: dict[str, Points]) -> None:
    rows = rows_of(finished / "align.csv")
    assert [row["path"] for row in rows] == list(known_faces)
    for row in rows:
        assert list(row) == ["identity", "sample", "path", *BOX, TURN, *POINTS]
        assert row[TURN] == "0"
        assert f"{row['identity']}/{row['sample']}.png" == row["path"]
        assert [row[name] for name in BOX] == [""] * 5
        assert [float(row[name]) for name in POINTS] == known_faces[row["path"]].ravel().tolist()
    assert (finished / "failures.csv").read_text() == (
        "identity,sample,path,reason\n"
        f"bob,9,{UNREADABLE},not an image in a known format\n"
        f"cyd,8,{UNKNOWN},the table of landmarks has none for it\n"
    )
    assert sums_of(finished / "SHA256SUMS.images") == {
        path: hashlib.sha256((photos / path).read_bytes()).hexdigest() for path in known_faces
    }
    own = {path: data for path, data in without_journal(finished).items() if path not in (".lock", "SHA256SUMS")}
    assert sums_of(finished / "SHA256SUMS") == {path: hashlib.sha256(data).hexdigest() for path, data in own.items()}
    assert sorted(own) == sorted(
        [*known_faces, "align.csv", "align.json", "failures.csv", "SHA256SUMS.images"],
    )


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_sha256sum_itself_checks_the_crops_and_the_photos(output: Path, photos: Path) -> None:
    for folder, name, count in ((output, "SHA256SUMS", 6 + 4), (photos, "SHA256SUMS.images", 6)):
        check = ["sha256sum", "--check", "--strict", str(output / name)]
        done = subprocess.run(check, cwd=folder, capture_output=True, check=False)
        assert (done.returncode, done.stderr, done.stdout.count(b": OK\n")) == (0, b"", count)
    (output / "ann" / "0.png").write_bytes(b"other")
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=output, capture_output=True, check=False).returncode == 1


def test_it_says_how_many_and_where(photos: Path, table: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(photos, tmp_path / "crops", "--landmarks", table) == 1
    said = capsys.readouterr()
    sha256 = hashlib.sha256(table.read_bytes()).hexdigest()
    columns = "path = column 1, 5 points = columns 2 to 11 (by name), separated by commas"
    assert said.out.splitlines() == [
        "Dataset loaded: 3 identities, 8 total images",
        f"Faces: by landmarks.csv (SHA-256 {sha256}): {columns}",
        f"6 of 8 images are aligned: {tmp_path}/crops/align.csv",
    ]
    assert said.err.endswith(
        f"grafiqs: 2 images could not be aligned; {tmp_path}/crops/failures.csv says why\n",
    )


def test_the_landmarks_that_a_folder_holds_give_the_same_crops_to_the_byte(
    finished: Path, photos: Path, tmp_path: Path
) -> None:
    assert main(command(photos, tmp_path / "again", finished / "align.csv")) == 1
    assert crops_of(tmp_path / "again") == crops_of(finished)
    for name in ("align.csv", "SHA256SUMS.images"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("cores", [1, 7])
def test_the_number_of_threads_makes_no_difference(
    cores: int, finished: Path, photos: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "usable", lambda: cores)
    assert main(command(photos, tmp_path / "crops", table)) == 1
    assert tree(tmp_path / "crops") == tree(finished)


def test_opencv_has_its_threads_again_when_it_is_done(photos: Path, table: Path, tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        assert main(command(photos, tmp_path / "crops", table)) == 1
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_grey_transparent_and_turned_photos_are_cut_as_they_are_seen(tmp_path: Path) -> None:
    """Landmarks are those of the upright picture; orientation 6 is a photo that lies on its left side."""
    face = Image.fromarray(picture(3))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = face.transpose(Image.Transpose.ROTATE_90)
    members = {
        "grey.png": saved(face.convert("L"), "PNG"),
        "transparent.png": saved(face.convert("RGBA"), "PNG"),
        "turned.jpg": saved(lying, "JPEG", exif=exif, quality=95),
        "palette.gif": saved(face, "GIF"),
        "sixteen bits.png": saved(Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257), "PNG"),
    }
    (tmp_path / "photos" / "ann").mkdir(parents=True)
    for name, data in members.items():
        (tmp_path / "photos" / "ann" / name).write_bytes(data)
    table = write_table(tmp_path / "table.csv", {f"ann/{name}": LANDMARKS for name in members})
    assert main(command(tmp_path / "photos", tmp_path / "crops", table)) == 0
    found = {path.stem: pixels(path) for path in (tmp_path / "crops").rglob("*.png")}
    grey = np.repeat(np.array(face.convert("L"))[:, :, None], 3, axis=2)
    assert np.array_equal(found["grey"], grey)
    assert np.array_equal(found["sixteen bits"], grey)
    assert np.array_equal(found["transparent"], picture(3))
    assert np.array_equal(found["palette"], decode(members["palette.gif"]))
    assert np.abs(found["turned"].astype(int) - picture(3)).mean() < 3


def test_flat_data_sets_lists_and_archives_give_the_crops_of_the_folder(
    finished: Path, photos: Path, known_faces: dict[str, Points], table: Path, tmp_path: Path
) -> None:
    archive, listed, flat = tmp_path / "photos.zip", tmp_path / "list.txt", tmp_path / "flat"
    archive.write_bytes(zipped([(path, (photos / path).read_bytes()) for path in known_faces]))
    listed.write_text("".join(f"{path}\n" for path in known_faces))
    flat.mkdir()
    names = {path.replace("/", " "): path for path in known_faces}
    for name, path in names.items():
        shutil.copy(photos / path, flat / name)
    flat_table = write_table(tmp_path / "flat.csv", {name: known_faces[path] for name, path in names.items()})
    assert main(command(archive, tmp_path / "of_zip", table)) == 0
    assert main(command(listed, tmp_path / "of_list", table, "--root", photos)) == 0
    assert main(command(flat, tmp_path / "of_flat", flat_table)) == 0
    assert main(command(photos, tmp_path / "of_all", table, "--flat-structure")) == 1
    expected = crops_of(finished)
    assert crops_of(tmp_path / "of_zip") == crops_of(tmp_path / "of_list") == crops_of(tmp_path / "of_all") == expected
    assert crops_of(tmp_path / "of_flat") == {name: expected[path] for name, path in names.items()}


def test_photos_that_differ_in_their_extension_alone_keep_both_crops(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "ann"
    folder.mkdir(parents=True)
    for number, name in enumerate(("a.bmp", "a.png", "b.png")):
        Image.fromarray(picture(number)).save(folder / name)
    table = write_table(tmp_path / "table.csv", {f"ann/{name}": LANDMARKS for name in ("a.bmp", "a.png", "b.png")})
    assert main(command(tmp_path / "photos", tmp_path / "crops", table)) == 0
    for number, name in enumerate(("a.bmp.png", "a.png.png", "b.png")):
        assert np.array_equal(pixels(tmp_path / "crops" / "ann" / name), picture(number))


STRANGE = ("two words", " before", "after ", "line\nbreak", "both\r\n", 'quo"te', "com,ma", "back\\slash", "=1+1",
           "cafe\u0301", "\U0001f642", os.fsdecode(b"no \xff\xfe utf-8"))  # fmt: skip


def test_strange_names_go_through_every_table_unharmed(tmp_path: Path) -> None:
    points = {}
    for name in STRANGE:
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(picture(1)).save(tmp_path / "photos" / name / f"{name}.png")
        points[f"{name}/{name}.png"] = LANDMARKS
    table = write_table(tmp_path / "table.csv", points)
    assert main(command(tmp_path / "photos", tmp_path / "crops", table)) == 0
    assert {row["path"] for row in rows_of(tmp_path / "crops" / "align.csv")} == set(points)
    assert set(crops_of(tmp_path / "crops")) == set(points)
    before = tree(tmp_path / "crops")
    assert main(command(tmp_path / "photos", tmp_path / "crops", table)) == 0
    assert tree(tmp_path / "crops") == before
    assert main(command(tmp_path / "photos", tmp_path / "again", tmp_path / "crops" / "align.csv")) == 0
    assert crops_of(tmp_path / "again") == crops_of(tmp_path / "crops")


def test_a_name_that_no_crop_can_have_is_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "ann"
    folder.mkdir(parents=True)
    names = ("0.png", f"{'x' * 251}.png")
    for name in names:
        Image.fromarray(picture(1)).save(folder / name)
    table = write_table(tmp_path / "table.csv", {f"ann/{name}": LANDMARKS for name in names})
    for more in ((), (), ("--overwrite",)):
        assert main(command(tmp_path / "photos", tmp_path / "crops", table, *more)) == 1
        assert list(crops_of(tmp_path / "crops")) == ["ann/0.png"]
        (row,) = rows_of(tmp_path / "crops" / "failures.csv")
        assert row["reason"] == f"its crop cannot be written: {os.strerror(errno.ENAMETOOLONG)}"


def test_the_crops_give_the_subset_that_the_photos_give(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Identities and samples, whatever the extension; JPEG here, PNG there."""
    points = {}
    for identity in ("ann", "bob", "cyd"):
        (tmp_path / "photos" / identity).mkdir(parents=True)
        for number in range(9):
            path = f"{identity}/{number}.jpg"
            Image.fromarray(picture(0)).save(tmp_path / "photos" / path)
            points[path] = LANDMARKS
    assert main(command(tmp_path / "photos", tmp_path / "crops", write_table(tmp_path / "t.csv", points))) == 0
    subsets = []
    for dataset in ("photos", "crops"):
        draw = ["--num-identities", "2", "--samples-per-identity", "4", "--random-identity-selection", "--quiet"]
        capfd.readouterr()
        assert main(["select", "--image-path", str(tmp_path / dataset), *draw]) == 0
        rows = csv.DictReader(io.StringIO(capfd.readouterr().out))
        subsets.append([(row["identity"], row["sample"]) for row in rows])
    assert subsets[0] == subsets[1]
    assert len(set(subsets[0])) == 8


def test_crops_of_names_without_an_extension_keep_the_whole_name_and_the_draw(tmp_path: Path) -> None:
    moods = ("glad", "glasses", "happy", "noglasses", "normal", "sad", "sleepy", "wink")
    paths = [f"{person}/subject01.{mood}" for person in ("ann", "bob") for mood in moods] + ["ann/plain", "ann/plain-1"]
    for path in paths:
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0)).save(tmp_path / "photos" / path, "PNG")
    listed, table = tmp_path / "list.txt", write_table(tmp_path / "t.csv", dict.fromkeys(paths, LANDMARKS))
    listed.write_text("".join(f"{path}\n" for path in paths))
    root = ("--root", tmp_path / "photos")
    assert main(command(listed, tmp_path / "crops", table, *root)) == 0
    assert sorted(crops_of(tmp_path / "crops")) == sorted(f"{path}.png" for path in paths)
    drawn = set()
    for seed in range(6):
        chosen = {"samples_per_identity": 3, "random_seed": seed}
        of_photos, of_crops, of_folder = (
            select_subset(Options(image_path=place, **more, **chosen))  # type: ignore[arg-type]
            for place, more in (
                (listed, {"root": tmp_path / "photos"}),
                (tmp_path / "crops", {}),
                (tmp_path / "photos", {"image_extension": moods}),
            )
        )
        assert of_photos.sha256 == of_crops.sha256
        assert [s for s in of_folder.samples if s.identity == "bob"] == [
            s for s in of_photos.samples if s.identity == "bob"
        ]
        drawn.add(of_photos.sha256)
    assert len(drawn) == 6


# -- stopped, and gone on with -----------------------------------------------------------------------------


def test_the_same_command_on_a_finished_alignment_changes_nothing(output: Path, photos: Path, table: Path) -> None:
    """Though it tries again what had failed."""
    before = tree(output)
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    assert main(command(photos, output, table)) == 1
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.png")} == stamps
    assert tree(output) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: shutil.rmtree(path.parent),
        lambda path: os.truncate(path, 1000),
        lambda path: os.truncate(path, 0),
    ],
    ids=["gone", "gone with its folder", "torn", "empty"],
)
def test_a_crop_that_is_gone_or_not_whole_is_made_again(
    damage: Callable[[Path], object], output: Path, finished: Path, photos: Path, table: Path
) -> None:
    damage(output / "ann" / "1.png")
    assert main(command(photos, output, table)) == 1
    assert without_journal(output) == without_journal(finished)


JOURNALS: dict[str, Callable[[bytes], bytes]] = {
    "gone": lambda _: b"",
    "torn": lambda data: data[:-30],
    "zeros": lambda data: b"\0" * len(data),
    "a line of zeros": lambda data: data[:400] + b"\0" * 50 + data[450:],
    "no text": lambda data: b"\xff\xfe\n" + data,
    "empty lines": lambda data: data.replace(b"\n", b"\n\n"),
    "another index": lambda data: data.replace(b"[2,", b"[3,"),
    "an index too large": lambda data: data.replace(b"[2,", b"[99,"),
    "forged lines": lambda data: data + b"".join(forged_lines(data)),
}


def forged_lines(journal: bytes) -> list[bytes]:
    """Lines that state the third sample, checksums and all, and cannot be its."""
    index, picture_sha256, [[face, crop_sha256, size]] = json.loads(journal.splitlines()[2].partition(b" ")[2])
    wrong: list[list[Any]] = [[index, other, face, crop_sha256, size] for other in (None, 1, "x", crop_sha256.upper())]
    wrong += [[index, picture_sha256, face, other, size] for other in (None, 1, "x", f"{crop_sha256}0")]
    wrong += [[index, picture_sha256, face, crop_sha256, other] for other in (None, True, str(size), float(size))]
    wrong += [[other, picture_sha256, face, crop_sha256, size] for other in (-1, str(index), float(index), None)]
    faces = [None, [], [None] * 15, [True] * 15, face[:-1], [*face, 1.0], [*face[:-1], "1"], [*face[:-1], float("nan")]]
    wrong += [[index, picture_sha256, other, crop_sha256, size] for other in faces]
    wrong += [[other, digest, [own]] for other, digest, *own in wrong]
    crop = [face, crop_sha256, size]
    lists: list[Any] = [[], [crop, crop], [[]], [[*crop, 1]], None, "x", [None]]
    wrong += [[index, picture_sha256, crops] for crops in lists]
    return [checked(json.dumps(values).encode()) for values in wrong]


@pytest.mark.parametrize("damage", JOURNALS)
def test_what_a_damaged_journal_does_not_tell_is_done_again(
    damage: str, output: Path, finished: Path, photos: Path, table: Path
) -> None:
    journal = output / "progress.jsonl"
    changed = JOURNALS[damage](journal.read_bytes())
    assert changed != journal.read_bytes()
    journal.write_bytes(changed)
    assert main(command(photos, output, table)) == 1
    assert without_journal(output) == without_journal(finished)


def test_a_journal_of_a_version_that_knew_one_crop_alone_is_read(
    output: Path, finished: Path, photos: Path, table: Path
) -> None:
    """As its tables are, which have no turns, and its align.json, which does not say whose faces were taken."""
    journal, faces, manifest = output / "progress.jsonl", output / "align.csv", output / "align.json"
    lines = [json.loads(line.partition(b" ")[2]) for line in journal.read_bytes().splitlines()]
    before = [[*line[:2], *line[2][0]] if len(line) == 3 else line for line in lines]
    journal.write_bytes(b"".join(checked(json.dumps(line).encode()) for line in before))
    rows = list(csv.reader(io.StringIO(faces.read_text())))
    turn = rows[0].index(TURN)
    faces.write_text("".join(",".join(row[:turn] + row[turn + 1 :]) + "\n" for row in rows))
    document = json.loads(manifest.read_bytes())
    del document["options"]["all_faces"]
    manifest.write_text(json.dumps(document))
    digests = {name: hashlib.sha256((output / name).read_bytes()).hexdigest() for name in ("align.csv", "align.json")}
    checksums = (output / "SHA256SUMS").read_text().splitlines()
    text = [f"{digests.get(line[66:], line[:64])}  {line[66:]}\n" for line in checksums]
    (output / "SHA256SUMS").write_text("".join(text))
    assert main(["verify", str(output), "--quiet"]) == 0
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    assert main(command(photos, output, table)) == 1
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.png")} == stamps  # none is made again
    assert (output / "align.csv").read_bytes() == (finished / "align.csv").read_bytes()


def test_a_photo_that_is_mended_gets_its_crop_and_one_that_spoiled_loses_it(
    photos: Path, known_faces: dict[str, Points], tmp_path: Path
) -> None:
    """As in a new folder: no crop is left that the tables do not know."""
    dataset = Path(shutil.copytree(photos, tmp_path / "photos"))
    table = write_table(tmp_path / "t.csv", {**known_faces, UNREADABLE: LANDMARKS, UNKNOWN: LANDMARKS})
    folder = tmp_path / "crops"
    assert main(command(dataset, folder, table)) == 1
    shutil.copy(photos / "ann" / "0.png", dataset / UNREADABLE)
    assert main(command(dataset, folder, table)) == 0
    assert rows_of(folder / "failures.csv") == []
    (dataset / "ann" / "0.png").write_bytes(b"")
    journal = folder / "progress.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[1:]))  # its line is lost
    assert main(command(dataset, folder, table)) == 1
    assert main(command(dataset, tmp_path / "new", table)) == 1
    assert without_journal(folder) == without_journal(tmp_path / "new")


# -- other requests, other folders -------------------------------------------------------------------------


def test_another_request_is_refused_with_what_differs(
    output: Path, photos: Path, known_faces: dict[str, Points], table: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = tree(output)
    other = write_table(tmp_path / "landmarks.csv", {path: points + 1 for path, points in known_faces.items()})
    fewer = Path(shutil.copytree(photos, tmp_path / "photos"))
    (fewer / "ann" / "0.png").rename(fewer / "ann" / "7.png")
    (fewer / "ann" / "2.png").unlink()
    requests: dict[str, tuple[object, ...]] = {
        "faces.sha256": (photos, output, "--landmarks", other),
        "options.image_extension": (photos, output, "--landmarks", table, "--image-extension", "png"),
        "options.flat_structure": (photos, output, "--landmarks", table, "--flat-structure"),
        "options.identity_depth": (photos, output, "--landmarks", table, "--identity-depth", 1),
        "subset: 2 samples gone, 1 new": (fewer, output, "--landmarks", table),
    }
    for difference, request in requests.items():
        said = refused(capsys, *request)
        assert said.startswith(f"grafiqs: {output} holds another alignment, and nothing is mixed. What differs:\n")
        assert f"\n  - {difference}" in said
        assert said.endswith("Give another OUT, or remove that alignment with --overwrite.\n")
        assert tree(output) == before


def test_an_alignment_of_an_earlier_version_lacks_later_options(
    output: Path, photos: Path, table: Path, capsys: Capture
) -> None:
    document = json.loads((output / "align.json").read_bytes())
    later = [field.name for field in fields(DataSetOptions) if field.metadata["later"]]
    assert "identity_depth" in later
    for name in later:
        document["options"].pop(name, None)
    (output / "align.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert main(command(photos, output, table)) == 1
    for option in ("image_extension", "flat_structure"):
        lacking = {name: value for name, value in document["options"].items() if name != option}
        (output / "align.json").write_text(json.dumps({**document, "options": lacking}))
        assert "is damaged (" in refused(capsys, photos, output, "--landmarks", table)


def test_the_data_set_may_have_moved(output: Path, finished: Path, photos: Path, table: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert main(command(tmp_path / "elsewhere", output, table)) == 1
    assert without_journal(output) == without_journal(finished)


def test_overwrite_removes_its_own_files_and_no_others(
    output: Path, photos: Path, known_faces: dict[str, Points], tmp_path: Path
) -> None:
    foreign = {"notes.txt": b"mine", "ann/mine.png": b"mine", "align.csv.bak": b"mine", "bob/0.png/mine": b"mine"}
    (output / "bob" / "0.png").unlink()
    for path, data in foreign.items():
        (output / path).parent.mkdir(exist_ok=True)
        (output / path).write_bytes(data)
    (output / "ann" / "0.png.part").write_bytes(b"half")
    fewer = tmp_path / "photos"
    shutil.copytree(photos / "ann", fewer / "ann")
    table = write_table(tmp_path / "t.csv", known_faces)
    assert main(command(fewer, output, table, "--overwrite")) == 0
    assert main(command(fewer, tmp_path / "new", table, "--overwrite")) == 0
    assert tree(output) == tree(tmp_path / "new") | foreign
    assert not (output / "cyd").exists()


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
@pytest.mark.parametrize("path", ["notes.txt", ".hidden", "ann/0.png", "align.csv", "manifest.json", "faces.csv"])
def test_a_folder_of_other_things_is_refused_untouched(
    path: str, more: tuple[str, ...], photos: Path, table: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "crops" / path).parent.mkdir(parents=True)
    (tmp_path / "crops" / path).write_bytes(b"mine")
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", table, *more)
    assert f"{tmp_path / 'crops'} is not empty and holds no " in said
    assert tree(tmp_path / "crops") == {path: b"mine"}


@pytest.mark.parametrize("place", [".", "crops", "ann", "ann/crops", "../photos/crops", "link"])
def test_a_folder_inside_the_data_set_is_refused(
    place: str, photos: Path, table: Path, tmp_path: Path, capsys: Capture
) -> None:
    dataset = Path(shutil.copytree(photos, tmp_path / "photos"))
    if place == "link":
        (tmp_path / "link").symlink_to(dataset / "crops")
        place = "../link"
    before = tree(tmp_path)
    said = refused(capsys, dataset, dataset / place, "--landmarks", table)
    assert "lies inside the data set" in said
    assert "give an OUT outside it" in said
    assert tree(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_refused(photos: Path, table: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "crops"):
        said = refused(capsys, photos, place, "--landmarks", table)
        assert said == f"grafiqs: cannot write to {place}: {os.strerror(errno.ENOTDIR)}: give another OUT\n"
    assert tree(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("given", [(), ("--detector", "d.onnx", "--landmarks", "l.csv"), ("--landmarks", "")])
def test_landmarks_come_from_a_detector_or_from_a_table(
    given: tuple[str, ...], photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    said = refused(capsys, photos, tmp_path / "crops", *given)
    assert "--landmarks" in said
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize("values", [{"detector": 3}, {"landmarks": "l.csv", "overwrite": "yes"}, {"detector": ""}])
def test_values_of_another_type_are_refused_from_python(values: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"^--(detector|overwrite) is "):
        AlignOptions(image_path=Path("photos"), output=Path("crops"), **values)


def test_a_data_set_without_photos_is_refused(table: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "photos" / "ann").mkdir(parents=True)
    said = refused(capsys, tmp_path / "photos", tmp_path / "crops", "--landmarks", table)
    assert said.startswith(f"grafiqs: the data set {tmp_path / 'photos'} holds no identity folder and no image (")
    assert "none" in refused(capsys, tmp_path / "none", tmp_path / "crops", "--landmarks", table)
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
@pytest.mark.parametrize(
    ("identity", "name"),
    [("..", "mine"), ("", "../mine"), ("ann", "../../mine"), ("{}", "mine"), ("", "{}/mine"), ("ann/..", "../mine")],
)
def test_an_align_json_that_leads_out_of_its_folder_removes_nothing(
    identity: str, name: str, more: tuple[str, ...], output: Path, photos: Path, table: Path, capsys: Capture
) -> None:
    mine = output.parent / "mine.png"
    mine.write_bytes(b"mine")
    identity, name = (text.format(output.parent) for text in (identity, name))
    document = json.loads((output / "align.json").read_bytes())
    (output / "align.json").write_text(json.dumps({**document, "subset": hostile(identity, name)}))
    before = tree(output.parent)
    said = refused(capsys, photos, output, "--landmarks", table, *more)
    assert f"{output / 'align.json'} is damaged (the path " in said
    assert tree(output.parent) == before


DOCUMENTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a list": lambda document: [document],
    "nothing": lambda _: None,
    "no format": lambda document: {**document, "format": None},
    "another format": lambda document: {**document, "format": 99},
    "no subset": lambda document: {**document, "subset": None},
    "a subset without samples": lambda document: {**document, "subset": {**document["subset"], "samples": []}},
    "fewer samples": lambda document: {**document, "subset": {**document["subset"], "samples": {}}},
    "names that are numbers": lambda document: {
        **document,
        "subset": {**document["subset"], "samples": {"ann": {"0": 3}}},
    },
}


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
@pytest.mark.parametrize("change", DOCUMENTS)
def test_a_damaged_align_json_is_refused(
    change: str, more: tuple[str, ...], output: Path, photos: Path, table: Path, capsys: Capture
) -> None:
    document = json.loads((output / "align.json").read_bytes())
    (output / "align.json").write_text(json.dumps(DOCUMENTS[change](document)))
    before = tree(output)
    said = refused(capsys, photos, output, "--landmarks", table, *more)
    assert said.startswith(f"grafiqs: {output / 'align.json'} is damaged (")
    assert tree(output) == before


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"\0" * 4096])
def test_an_align_json_that_is_no_json_is_refused(
    data: bytes, output: Path, photos: Path, table: Path, capsys: Capture
) -> None:
    (output / "align.json").write_bytes(data)
    before = tree(output)
    said = refused(capsys, photos, output, "--landmarks", table, "--overwrite")
    assert said.startswith(f"grafiqs: {output / 'align.json'} is damaged (")
    assert said.count("\n") == 1
    assert tree(output) == before


@pytest.mark.parametrize("section", ["options", "faces", "crop"])
@pytest.mark.parametrize("value", [None, [], "text", {}])
def test_an_align_json_that_says_something_else_is_another_alignment(
    section: str, value: object, output: Path, photos: Path, table: Path, capsys: Capture
) -> None:
    document = json.loads((output / "align.json").read_bytes())
    (output / "align.json").write_text(json.dumps({**document, section: value}))
    said = refused(capsys, photos, output, "--landmarks", table)
    assert "align.json is damaged" in said or (value == {} and f"\n  - {section}" in said)


# -- real photos, a real detector --------------------------------------------------------------------------


@real
def test_every_real_photo_is_aligned_and_a_picture_without_a_face_is_a_failure(found: Path, people: Path) -> None:
    rows = rows_of(found / "align.csv")
    assert [row["path"] for row in rows] == sorted(
        path.relative_to(people).as_posix() for path in people.rglob("*.jpg")
    )
    assert len(rows) == len(crops_of(found)) == 60
    assert (found / "failures.csv").read_text() == (
        "identity,sample,path,reason\nnobody,slope,nobody/slope.png,no face was found in it\n"
    )
    for row in rows:
        x, y, width, height, score = (float(row[name]) for name in BOX)
        points = np.array([float(row[name]) for name in POINTS]).reshape(5, 2)
        assert 0.6 <= score <= 1
        assert (points > (x, y)).all()
        assert (points < (x + width, y + height)).all()
        assert np.abs(np.array((x + width / 2, y + height / 2)) - 125).max() < 35


@real
def test_a_second_detection_finds_the_landmarks_of_the_crops_at_the_template(found: Path, detector: Detector) -> None:
    """And nearer to where the first one's landmarks came to lie, which a similarity cannot bring there quite."""
    offsets, moves = [], []
    for row in rows_of(found / "align.csv"):
        crop = pixels(found / row["identity"] / f"{row['sample']}.png")
        face = detector.face("", np.pad(crop, [(56, 56), (56, 56), (0, 0)]))
        again = np.array(face.points).reshape(5, 2) - 56
        points = np.array([float(row[name]) for name in POINTS]).reshape(5, 2)
        offsets.append(again - LANDMARKS)
        moves.append(again - moved(similarity(points), points))
    assert np.abs(np.mean(offsets, axis=0)).max() < 5
    assert np.median(np.abs(offsets)) < 2.5
    assert np.abs(np.mean(moves, axis=0)).max() < 3
    assert np.median(np.abs(moves)) < 1.5
    assert np.abs(moves).max() < 10


@real
def test_the_crops_of_real_photos_are_those_of_the_points_in_the_table(
    found: Path, people: Path, tmp_path: Path
) -> None:
    assert run(people, tmp_path / "again", "--landmarks", found / "align.csv", "--quiet") == 1
    assert crops_of(tmp_path / "again") == crops_of(found)
    assert (tmp_path / "again" / "align.csv").read_bytes() == (found / "align.csv").read_bytes()
    for row in rows_of(found / "align.csv")[::7]:
        points = np.array([float(row[name]) for name in POINTS])
        expected = cut_out(decode((people / row["path"]).read_bytes()), face_of(points), CROP)
        assert np.array_equal(pixels(found / row["identity"] / f"{row['sample']}.png"), expected)


@real
def test_a_detector_can_be_pickled_and_read_on_threads_and_processes(people: Path, detector: Detector) -> None:
    copy = pickle.loads(pickle.dumps(detector))
    assert copy.source() == detector.source()
    dataset = scan(people)
    locations = [f"{path.parent.name}/{path.name}" for path in sorted(people.rglob("*.jpg"))[::4]]
    once = [Reader(dataset, CROP, copy)(location) for location in locations]
    for processes in (0, 2):
        for read, expected in zip(
            read_ahead(Reader(dataset, CROP, detector), locations, 8, processes), once, strict=True
        ):
            assert isinstance(read, Read)
            assert isinstance(expected, Read)
            assert np.array_equal(read.pixels, expected.pixels)
            assert (read.face, read.sha256) == (expected.face, expected.sha256)


@real
@pytest.mark.parametrize("cores", [1, 5])
def test_real_crops_are_the_same_on_any_number_of_threads(
    cores: int, found: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "usable", lambda: cores)
    assert run(people, tmp_path / "crops", "--detector", YUNET, "--quiet") == 1
    assert tree(tmp_path / "crops") == tree(found)


def extraction(faces: Path, weights: Path, output: Path, *more: object) -> list[str]:
    """Scores of the first two people, five images each, on a narrow network."""
    options: list[object] = ["--image-path", faces, "--weights", weights, "--output-dir", output]
    options += ["--num-identities", 2, "--layers", "block4", "--batch-size", 4, "--device", "cpu", "--quiet", *more]
    return ["extract", *map(str, options)]


@real
def test_aligning_on_the_way_gives_the_scores_of_the_aligned_crops_to_the_bit(
    found: Path, people: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    on_the_way, before = tmp_path / "on_the_way", tmp_path / "before"
    assert main(extraction(people, weights, on_the_way, "--align", YUNET)) == 0
    assert main(extraction(found, weights, before)) == 0
    scores = [open_run(run_folder).scores for run_folder in (on_the_way, before)]
    assert np.array_equal(scores[0]["block4"], scores[1]["block4"])
    assert list(scores[0]["sample"]) == list(scores[1]["sample"])
    rows = [rows_of(place / "align.csv") for place in (on_the_way, found)]
    assert rows[0] == rows[1][:10]
    assert tree(on_the_way / "block4") == tree(before / "block4")
    assert "align.csv" in sums_of(on_the_way / "SHA256SUMS")
    assert main(["verify", str(on_the_way), "--quiet"]) == 0
    assert not (before / "align.csv").exists()
    manifest = json.loads((on_the_way / "manifest.json").read_bytes())
    assert manifest["preprocessing"]["alignment"]["sha256"] == hashlib.sha256(YUNET.read_bytes()).hexdigest()

    capsys.readouterr()
    assert main(extraction(people, weights, on_the_way)) == 2
    assert "\n  - preprocessing.alignment: " in capsys.readouterr().err
    (on_the_way / "align.csv").write_text("edited")
    assert main(["verify", str(on_the_way), "--quiet"]) == 1
    assert "align.csv was changed since the run finished" in capsys.readouterr().err


@real
def test_a_run_that_aligns_and_is_stopped_ends_byte_identical(people: Path, weights: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert main(extraction(people, weights, whole, "--align", YUNET)) == 0
    for event in ("append 5", "rename align.csv.part"):
        folder = tmp_path / event.replace(" ", "_")
        arguments = extraction(people, weights, folder, "--align", YUNET)
        assert ended(arguments, folder, event) == -signal.SIGKILL
        assert main(arguments) == 0
        assert tree(folder) == tree(whole), event
    (whole / "block4").rename(tmp_path / "gone")
    assert main(extraction(people, weights, whole, "--align", YUNET)) == 0
    assert tree(whole) == tree(folder)


@real
def test_a_picture_without_a_face_has_no_score(people: Path, weights: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "people"
    dataset.mkdir()
    for name in (sorted(path.name for path in people.iterdir())[0], "nobody"):
        (dataset / name).symlink_to(people / name)
    assert main(extraction(dataset, weights, tmp_path / "run", "--align", YUNET)) == 1
    assert [row["reason"] for row in rows_of(tmp_path / "run" / "failures.csv")] == ["no face was found in it"]
    assert len(rows_of(tmp_path / "run" / "align.csv")) == 5
    assert main(["verify", str(tmp_path / "run"), "--quiet"]) == 0


LOOK = "these images do not look like crops of 112x112 aligned to the ArcFace template"


@real
@pytest.mark.parametrize(
    ("faces", "asked", "aligns", "warnings"),
    [
        (PHOTOS, (12, 2), False, 1),
        (PHOTOS, (1, 8), False, 0),
        (PHOTOS, (12, 2), True, 0),
        (ALIGNED, (12, 2), False, 0),
        (ALIGNED, (1, 20), False, 0),
    ],
    ids=["photos", "few photos", "photos that are aligned", "crops", "crops of one person"],
)
def test_photos_that_are_no_aligned_crops_are_warned_of_once(
    faces: Path,
    asked: tuple[int, int],
    aligns: bool,
    warnings: int,
    weights: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    subset = ("--num-identities", asked[0], "--samples-per-identity", asked[1], "--no-dump-gradients")
    more = ("--align", YUNET) if aligns else ()
    assert main(extraction(faces, weights, tmp_path / "run", *subset, *more)) == 0
    said = capsys.readouterr().err
    assert said.count(LOOK) == warnings
    assert ("--align" in said) == bool(warnings)


# -- an alignment is verified ------------------------------------------------------------------------------


def test_a_finished_alignment_is_verified(finished: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["verify", str(finished)]) == 0
    assert "Verified: 8 images, crops and tables as align.json and the checksums say" in capsys.readouterr().out
    elsewhere = tmp_path / "photos"
    shutil.copytree(photos, elsewhere)
    assert main(["verify", str(finished), "--image-path", str(elsewhere), "--quiet"]) == 0
    cut = next(iter(sorted(elsewhere.glob("ann/*"))))
    cut.write_bytes(cut.read_bytes() + b"more")
    assert main(["verify", str(finished), "--image-path", str(elsewhere), "--quiet"]) == 1
    assert f"{cut} is no longer the one that was aligned" in capsys.readouterr().err


def _changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "a crop": (lambda folder: _changed(folder / "ann" / "1.png"), "ann/1.png does not have its checksum"),
    "no crop": (lambda folder: (folder / "ann" / "1.png").unlink(), "ann/1.png: No such file"),
    "faces": (lambda folder: _changed(folder / "align.csv"), "align.csv does not have its checksum"),
    "no faces": (lambda folder: (folder / "align.csv").unlink(), "align.csv: No such file"),
    "what was done": (lambda folder: (folder / "align.json").write_text("{}"), "align.json is damaged"),
    "a stranger": (lambda folder: (folder / "ann" / "99.png").touch(), "ann/99.png is not of this run"),
    "no checksums": (lambda folder: (folder / "SHA256SUMS").unlink(), "the alignment is not finished"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_what_was_changed_since_is_told(what: str, finished: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "crops"
    shutil.copytree(finished, folder)
    change, said = TAMPERING[what]
    change(folder)
    capsys.readouterr()
    assert main(["verify", str(folder)]) == (2 if what == "what was done" else 1)
    assert said in capsys.readouterr().err


def test_crops_of_another_size_have_the_template_in_their_middle(photos: Path, table: Path, tmp_path: Path) -> None:
    """Those of 112x96 are those of 112x112 without their margins."""
    for size in ("112x112", "112x96"):
        main(command(photos, tmp_path / size, table, "--input-size", size))
    crops = sorted((tmp_path / "112x96").glob("*/*.png"))
    assert len(crops) == 6
    for path in crops:
        square = pixels(tmp_path / "112x112" / path.relative_to(tmp_path / "112x96"))
        with Image.open(path) as narrow:
            assert narrow.size == (96, 112)
            assert np.abs(np.array(narrow).astype(int) - square[:, 8:-8]).max() <= 1


def test_a_data_set_that_is_another_is_told(finished: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    elsewhere = tmp_path / "photos"
    shutil.copytree(photos, elsewhere)
    (elsewhere / "ann" / "new.png").write_bytes((elsewhere / "ann" / "1.png").read_bytes())
    capsys.readouterr()
    assert main(["verify", str(finished), "--image-path", str(elsewhere)]) == 1
    assert "subset: 0 samples gone, 1 new (ann/new.png is new in it)" in capsys.readouterr().err
    for arguments, said in (
        (["--root", str(elsewhere)], "the data set of this run is not a list"),
        (["--image-path", str(tmp_path / "none")], "does not exist: check --image-path"),
    ):
        assert main(["verify", str(finished), *arguments]) == 2
        assert said in capsys.readouterr().err


def test_an_alignment_of_a_list_is_verified_wherever_its_photos_are(
    photos: Path, table: Path, tmp_path: Path, capsys: Capture
) -> None:
    place, moved, listed = tmp_path / "photos", tmp_path / "moved", tmp_path / "list.csv"
    shutil.copytree(photos, place)
    listed.write_text("ann/1.png\nann/2.png\n")
    assert main(["align", str(listed), str(tmp_path / "crops"), "--root", str(place), "--landmarks", str(table)]) == 0
    verify = ["verify", str(tmp_path / "crops")]
    assert main(verify) == 0
    place.rename(moved)
    capsys.readouterr()
    assert main(verify) == 0
    assert "the pictures were not looked at" in capsys.readouterr().out
    assert main([*verify, "--root", str(moved)]) == 0
    assert "not looked at" not in capsys.readouterr().out
    assert main([*verify, "--root", str(place)]) == 2
