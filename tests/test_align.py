"""Photos in, aligned crops out: the geometry, tables of landmarks, the detector, and what a stop leaves behind."""

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
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from grafiqs import open_run
from grafiqs.cli import main
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces import detector as detector_module
from grafiqs.faces.cut import cut_out
from grafiqs.faces.detector import Detector
from grafiqs.faces.face import BOX, POINTS, Face
from grafiqs.faces.landmarks import Landmarks
from grafiqs.faces.template import LANDMARKS, SIZE, landmarks, similarity
from grafiqs.images.decoding import decode
from grafiqs.images.reading import Read, Reader, read_ahead
from grafiqs.options.align import AlignOptions
from grafiqs.options.extract import Options
from grafiqs.select import select_subset
from grafiqs.workers import processors
from support.killing import ended
from support.making import REAL, checked, grafiqs, picture, rows_of, sums_of, tree
from support.packing import zipped

pytestmark = pytest.mark.usefixtures("one_thread")

Capture = pytest.CaptureFixture[str]
Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]

CROP = (SIZE, SIZE)
HEADER = ("path", *POINTS)
YUNET = REAL / "detectors" / "yunet_n_dynamic.onnx"
PHOTOS = REAL / "faces" / "lfw158_raw250"
ALIGNED = REAL / "faces" / "glint24"

real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real faces in {REAL}")


def run(*arguments: object) -> int:
    """The exit code of `align`; argparse leaves by SystemExit."""
    try:
        return main(["align", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def refused(capsys: Capture, *arguments: object) -> str:
    """Run an alignment that is to be refused, exit code 2; returns what it says."""
    capsys.readouterr()
    code = run(*arguments, "--quiet")
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said
    assert said.err.startswith("grafiqs")
    assert "Traceback" not in said.err
    return said.err


def face_of(points: Points) -> Face:
    return Face(tuple(points.ravel().tolist()))


def known(scale: float, angle: float, centre: tuple[float, float]) -> Points:
    """The similarity (2, 3) that brings the middle of a crop to `centre`, turned and scaled."""
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return np.column_stack([turn, np.array(centre) - turn @ (SIZE / 2, SIZE / 2)])


def moved(matrix: Points, points: Points) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def photo(crop: Pixels, matrix: Points, size: tuple[int, int]) -> Pixels:
    """A photo of this height and width in which the crop lies where the matrix brings it."""
    return np.asarray(cv2.warpAffine(crop, matrix, size[::-1], flags=cv2.INTER_CUBIC), np.uint8)


def table_text(points: Mapping[str, Points]) -> str:
    """A table of landmarks by path."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER, *([path, *found.ravel().tolist()] for path, found in points.items())])
    return text.getvalue()


def write_table(path: Path, points: Mapping[str, Points]) -> Path:
    path.write_bytes(table_text(points).encode("utf-8", "surrogateescape"))
    return path


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", CROP)
        return np.array(image)


def crops_of(folder: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(folder).items() if path.endswith(".png")}


def without_journal(folder: Path) -> dict[str, bytes]:
    """All that an alignment leaves, but for its notes of what is done."""
    return {path: data for path, data in tree(folder).items() if path != "progress.jsonl"}


# -- the geometry ------------------------------------------------------------------------------------------


def slow_reference(source: Pixels, matrix: Points) -> Points:
    """The crop by bilinear interpolation in float64, a sample at each pixel's centre, black beyond the picture."""
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    places = moved(inverse, np.stack([columns, rows], axis=-1).reshape(-1, 2)) + 1
    padded = np.pad(source.astype(np.float64), [(1, 1), (1, 1), (0, 0)])
    x, y = (places[:, axis].clip(0, padded.shape[1 - axis] - 1.001) for axis in (0, 1))
    left, top = x.astype(int), y.astype(int)
    right_share, lower_share = (x - left)[:, None], (y - top)[:, None]
    upper, lower = (
        (1 - right_share) * padded[row, left] + right_share * padded[row, left + 1] for row in (top, top + 1)
    )
    return np.asarray(((1 - lower_share) * upper + lower_share * lower).reshape(SIZE, SIZE, 3))


@pytest.mark.parametrize("number", [0, 1001, 2002])
def test_a_crop_whose_landmarks_are_those_of_the_template_comes_back_to_the_byte(number: int) -> None:
    assert np.array_equal(cut_out(picture(number), face_of(LANDMARKS), CROP), picture(number))


@pytest.mark.parametrize("angle", [0.0, 0.3, -2.5])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.9])
def test_a_face_is_turned_scaled_and_shifted_as_a_slow_reference_does(scale: float, angle: float) -> None:
    matrix = known(scale, angle, (120.3, 99.8))
    source = photo(picture(5), matrix, (210, 240))
    points = moved(matrix, LANDMARKS) + np.random.default_rng(0).normal(0, 2, (5, 2))
    expected = slow_reference(source, similarity(points))
    assert np.abs(cut_out(source, face_of(points), CROP) - expected).max() < 0.51


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.5])
@pytest.mark.parametrize("scale", [1.9, 2.6, 5.0, 10.0])
def test_a_large_face_comes_back_as_it_was_before_it_was_enlarged(scale: float, angle: float) -> None:
    side = round(170 * scale)
    matrix = known(scale, angle, (side / 2 + 0.3, side / 2))
    found = cut_out(photo(picture(5), matrix, (side, side + 3)), face_of(moved(matrix, LANDMARKS)), CROP)
    away = np.abs(found.astype(int) - picture(5))[3:-3, 3:-3]
    assert away.mean() < 0.6
    assert np.quantile(away, 0.999) <= 12


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.9, 2.05, 3.3, 10.0, 17.7])
def test_a_spot_in_a_face_of_any_size_lies_where_it_should_to_a_twentieth_of_a_pixel(scale: float) -> None:
    side = int(160 * scale) + 7
    for angle in (0.0, 0.4, -2.0):
        for target in (LANDMARKS[0], LANDMARKS[4], np.array((25.0, 25.0)), np.array((86.0, 30.5))):
            matrix = known(scale, angle, (side / 2, side / 2 + 2.7))
            (x, y), (rows, columns) = moved(matrix, target), np.mgrid[: side + 9, :side]
            spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / (4 * scale) ** 2)
            source = np.repeat(spot.round().astype(np.uint8)[:, :, None], 3, axis=2)
            found = cut_out(source, face_of(moved(matrix, LANDMARKS)), CROP)[:, :, 1].astype(np.float64)
            rows, columns = np.mgrid[:SIZE, :SIZE]
            centre = np.array(((found * columns).sum(), (found * rows).sum())) / found.sum()
            assert np.abs(centre - target).max() < 0.05


def test_nothing_is_lost_between_the_pixels_of_a_large_face() -> None:
    """Lines one pixel wide, twelve apart, which a crop of a twelfth of the size shows as an even grey."""
    source = np.zeros((1600, 1600, 3), np.uint8)
    source[:, ::12] = 240
    for shift in (50, 53, 56):
        found = cut_out(source, face_of(LANDMARKS * 12 + shift), CROP)
        assert np.abs(found.astype(int) - 20).max() <= 3


def test_beyond_the_picture_it_is_black() -> None:
    white = np.full((112, 112, 3), 255, np.uint8)
    found = cut_out(white, face_of(LANDMARKS - (40, 30)), CROP)
    expected = np.zeros_like(white)
    expected[30:, 40:] = 255
    assert np.array_equal(found, expected)


def test_crops_of_another_size_have_the_template_as_high_as_they_are_and_in_their_middle() -> None:
    assert landmarks(CROP) == pytest.approx(LANDMARKS, abs=1e-12)
    assert landmarks((112, 96)) == pytest.approx(LANDMARKS - (8, 0), abs=1e-12)
    assert landmarks((224, 224)) == pytest.approx(LANDMARKS * 2, abs=1e-12)
    assert np.array_equal(cut_out(picture(5), face_of(LANDMARKS), (112, 96)), picture(5)[:, 8:104])
    face = face_of(moved(known(3.3, 0.2, (60, 50)), LANDMARKS))
    narrow, usual, wide = (cut_out(picture(5), face, (112, width)).astype(int) for width in (96, 112, 160))
    assert (narrow.shape, wide.shape) == ((112, 96, 3), (112, 160, 3))
    assert np.abs(narrow - usual[:, 8:104]).max() <= 1
    assert np.abs(wide[:, 24:136] - usual).max() <= 1


@pytest.mark.parametrize("width", [20_000, 40_000, 70_000])
def test_a_face_in_a_very_wide_picture_is_cut_out_to_the_byte(width: int) -> None:
    source = np.pad(picture(5), [(0, 0), (width - 300, 188), (0, 0)])
    assert np.array_equal(cut_out(source, face_of(LANDMARKS + np.array((width - 300, 0))), CROP), picture(5))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (2, 20_000), (40_000, 1)])
@pytest.mark.parametrize("scale", [3e-2, 1.0, 30.0])
def test_pictures_of_strange_sizes_are_cut_to_crops(size: tuple[int, int], scale: float) -> None:
    """A white one is white in the middle of a crop around its middle, where it is not shrunk to less than a pixel."""
    middle = (np.array(size[::-1]) - 1) / 2
    found = cut_out(np.full((*size, 3), 255, np.uint8), face_of((LANDMARKS - 56) * scale + middle), CROP)
    assert found.shape == (*CROP, 3)
    if scale < 1:
        assert found[56, 56].min() == 255


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), 3.7), np.zeros((5, 2)), 7 + LANDMARKS * 1e-2, LANDMARKS * 0 + (1e15, -1e15)],
    ids=["one", "zero", "nearly", "far"],
)
def test_landmarks_that_coincide_are_no_face(points: Points) -> None:
    with pytest.raises(UnreadableSampleError, match="its landmarks lie within one pixel"):
        cut_out(picture(5), face_of(points), CROP)


@pytest.mark.parametrize(
    "points",
    [LANDMARKS + 1000, LANDMARKS - 1000, LANDMARKS + np.array((1e9, 0)), LANDMARKS * 1e20, LANDMARKS * 1e200],
    ids=["below", "above", "beside", "large", "beyond numbers"],
)
def test_landmarks_with_nothing_of_the_picture_between_them_are_no_face(points: Points) -> None:
    """A black crop would be a wrong table unnoticed."""
    with pytest.raises(UnreadableSampleError):
        cut_out(picture(5), face_of(points), CROP)


@pytest.mark.parametrize(("box", "score"), [((1.5, -2.0, 30.25, 40.0), 0.9), (None, None), (None, 0.5)])
def test_a_face_is_what_its_row_says(box: tuple[float, ...] | None, score: float | None) -> None:
    face = Face(tuple(map(float, range(10))), box, score)
    assert len(face.row()) == 15
    assert Face.of_row(face.row()) == face


# -- tables of landmarks -----------------------------------------------------------------------------------

TWO = {"ann/0.jpg": LANDMARKS * 2, "bob/a, b.jpg": LANDMARKS + 0.125}


def of_columns(*names: str) -> str:
    """The table of two with these columns; others than path and landmarks hold what they are called."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    for path, points in TWO.items():
        values = dict(zip(HEADER, (path, *points.ravel().tolist()), strict=True))
        writer.writerow([values.get(name.strip(), name) for name in names])
    return text.getvalue()


PLAIN = table_text(TWO)
SPELLINGS: dict[str, bytes] = {
    "as it is written": PLAIN.encode(),
    "Unix lines": PLAIN.replace("\r\n", "\n").encode(),
    "old Macintosh lines": PLAIN.replace("\r\n", "\r").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "no header": PLAIN.partition("\r\n")[2].encode(),
    "no header, and a byte order mark": b"\xef\xbb\xbf" + PLAIN.partition("\r\n")[2].encode(),
    "no last line break": PLAIN.removesuffix("\r\n").encode(),
    "empty lines": PLAIN.replace("\r\n", "\r\n\r\n").encode(),
    "columns backwards": of_columns(*reversed(HEADER)).encode(),
    "columns among others": of_columns("identity", *HEADER[:5], "x", "note", *HEADER[5:], "score").encode(),
    "spaces around names": of_columns(*(f" {name} " for name in HEADER)).encode(),
    "spaces around numbers": PLAIN.replace("76.5892", " 76.5892 ").encode(),
    "exponents": PLAIN.replace("76.5892", "7.65892e1").encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_table_is_read_however_it_is_spelt(spelling: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(SPELLINGS[spelling])
    table = Landmarks(tmp_path / "table.csv")
    for path, points in TWO.items():
        assert table.face(path, picture(0)) == face_of(points)
    with pytest.raises(UnreadableSampleError, match="the table of landmarks has none for it"):
        table.face("bob/a", picture(0))


def test_boxes_and_scores_of_a_table_are_kept_where_it_has_all_of_them(tmp_path: Path) -> None:
    points = ",".join(map(str, LANDMARKS.ravel()))
    header = ",".join((*HEADER, *BOX))
    (tmp_path / "table.csv").write_text(f"{header}\na,{points},1,2,3,4.5,0.75\nb,{points},,,,,\nc,{points},1,2,3,4,\n")
    table = Landmarks(tmp_path / "table.csv")
    assert table.face("a", picture(0)) == Face(tuple(LANDMARKS.ravel()), (1.0, 2.0, 3.0, 4.5), 0.75)
    assert table.face("b", picture(0)) == table.face("c", picture(0)) == face_of(LANDMARKS)


RIGHT_FIRST = LANDMARKS[[1, 0, 2, 4, 3]]
WRONG_TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it has no rows"),
    "a header alone": (f"{','.join(HEADER)}\n".encode(), "it has no rows"),
    "a column missing": (of_columns(*HEADER[:6], *HEADER[7:]).encode(), "it has no column y3"),
    "no path": (of_columns(*HEADER[1:], "score").encode(), "it has no column 'path'"),
    "too few numbers": (b"a.jpg,1,2\n", "line 1 has neither a column 'path' nor a path and 10 numbers"),
    "semicolons": (PLAIN.replace(",", ";").encode(), "its columns have semicolons or tabs between them"),
    "a short row": (PLAIN.encode() + b"c.jpg,1,2\r\n", "line 4 has 3 columns"),
    "a path twice": (PLAIN.encode() * 2, "line 4 has no number for x1: 'x1'"),
    "a sample twice": (f"{PLAIN}{PLAIN.splitlines()[1]}\r\n".encode(), "line 4 names ann/0.jpg a second time"),
    "nan": (PLAIN.replace("76.5892", "nan").encode(), "line 2 has no number for x1: 'nan'"),
    "infinity": (PLAIN.replace("76.5892", "-inf").encode(), "line 2 has no number for x1: '-inf'"),
    "too large a number": (PLAIN.replace("76.5892", "1e999").encode(), "line 2 has no number for x1: '1e999'"),
    "no number": (PLAIN.replace("76.5892", "\x1b[31m").encode(), r"line 2 has no number for x1: '\x1b[31m'"),
    "an empty cell": (PLAIN.replace("76.5892", "").encode(), "line 2 has no number for x1: ''"),
    "an open quote": (PLAIN.encode() + b'"c.jpg,1', "unexpected end of data"),
    "UTF-16": (PLAIN.encode("utf-16"), "line 1 has "),
    "a picture": (bytes(range(128, 256)) * 9, "line 1 has neither a column 'path'"),
}


@pytest.mark.parametrize("wrong", WRONG_TABLES)
def test_a_table_that_cannot_be_is_refused_with_its_line(
    wrong: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    data, why = WRONG_TABLES[wrong]
    table = tmp_path / "table.csv"
    table.write_bytes(data)
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", table)
    assert said.startswith(f"grafiqs: {table} is no table of landmarks: ")
    assert why in said
    assert said.count("\n") == 1
    assert not (tmp_path / "crops").exists()


def test_a_table_with_the_right_eye_first_is_refused(tmp_path: Path) -> None:
    """However the faces are turned; a few such rows among others are left alone."""
    turned = [moved(known(2.0, angle, (300, 200)), RIGHT_FIRST) for angle in (0.0, 0.6, -0.6, 1.5, 3.0)]
    wrong = write_table(tmp_path / "wrong.csv", {str(number): points for number, points in enumerate(turned)})
    with pytest.raises(RequestError, match="right eye first, as 5 of 5 faces show"):
        Landmarks(wrong)
    few = dict(enumerate([*turned[:2], *(points[[1, 0, 2, 4, 3]] for points in turned[2:])]))
    Landmarks(write_table(tmp_path / "few.csv", {str(number): points for number, points in few.items()}))


def test_a_table_that_cannot_be_opened_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for place, why in ((tmp_path, errno.EISDIR), (tmp_path / "none.csv", errno.ENOENT)):
        said = refused(capsys, photos, tmp_path / "crops", "--landmarks", place)
        assert said == f"grafiqs: cannot read the landmarks {place}: {os.strerror(why)}\n"


# -- what lies in the folder -------------------------------------------------------------------------------

PEOPLE = {"ann": 3, "bob": 2, "cyd": 1}
"""How many photos each identity has, beside those that cannot be aligned."""

UNREADABLE, UNKNOWN = "bob/9.png", "cyd/8.png"
"""A photo that is none, and one that the table does not know: the sixth and the eighth of eight."""


def where(number: int) -> Points:
    """Where the face in a photo lies."""
    return known(0.8 + 0.25 * number, 0.2 * number - 0.5, (125.0, 110.0 + number))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of eight photos, six of which become crops; read only."""
    root = tmp_path_factory.mktemp("photos") / "photos"
    number = 0
    for identity, count in PEOPLE.items():
        (root / identity).mkdir(parents=True)
        for sample in range(count):
            source = photo(picture(1000 * number), where(number), (230, 250))
            Image.fromarray(source).save(root / identity / f"{sample}.png")
            number += 1
    (root / UNREADABLE).write_bytes(b"no image")
    shutil.copy(root / "cyd" / "0.png", root / UNKNOWN)
    return root


@pytest.fixture(scope="module")
def known_faces(photos: Path) -> dict[str, Points]:
    """The landmarks of the six."""
    paths = [f"{identity}/{sample}.png" for identity, count in PEOPLE.items() for sample in range(count)]
    return {path: moved(where(number), LANDMARKS) for number, path in enumerate(paths)}


@pytest.fixture(scope="module")
def table(known_faces: dict[str, Points], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "landmarks.csv", known_faces)


def command(photos: Path, output: Path, table: Path, *more: object) -> list[str]:
    """An alignment as `main` takes it."""
    return ["align", *map(str, (photos, output, "--landmarks", table, "--quiet", *more))]


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
        assert list(row) == ["identity", "sample", "path", *BOX, *POINTS]
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
    assert said.out.splitlines() == [
        "Dataset loaded: 3 identities, 8 total images",
        f"Faces: by landmarks.csv (SHA-256 {hashlib.sha256(table.read_bytes()).hexdigest()})",
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
    index, picture_sha256, face, crop_sha256, size = json.loads(journal.splitlines()[2].partition(b" ")[2])
    wrong: list[list[Any]] = [[index, other, face, crop_sha256, size] for other in (None, 1, "x", crop_sha256.upper())]
    wrong += [[index, picture_sha256, face, other, size] for other in (None, 1, "x", f"{crop_sha256}0")]
    wrong += [[index, picture_sha256, face, crop_sha256, other] for other in (None, True, str(size), float(size))]
    wrong += [[other, picture_sha256, face, crop_sha256, size] for other in (-1, str(index), float(index), None)]
    faces = [None, [], [None] * 15, [True] * 15, face[:-1], [*face, 1.0], [*face[:-1], "1"], [*face[:-1], float("nan")]]
    wrong += [[index, picture_sha256, other, crop_sha256, size] for other in faces]
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
        "subset: 2 samples gone, 1 new": (fewer, output, "--landmarks", table),
    }
    for difference, request in requests.items():
        said = refused(capsys, *request)
        assert said.startswith(f"grafiqs: {output} holds another alignment, and nothing is mixed. What differs:\n")
        assert f"\n  - {difference}" in said
        assert said.endswith("Give another OUT, or remove that alignment with --overwrite.\n")
        assert tree(output) == before


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
    assert said == f"grafiqs: no identity of {tmp_path / 'photos'} holds an image\n"
    assert "none" in refused(capsys, tmp_path / "none", tmp_path / "crops", "--landmarks", table)
    assert not (tmp_path / "crops").exists()


def hostile(identity: str, name: str) -> dict[str, Any]:
    """The subset of an align.json whose only crop is this; its hash is right."""
    digest = hashlib.sha256(f"{identity}\0{name}\0".encode()).hexdigest()
    counts = {"identities": 1, "chosen": 1, "available": 1, "insufficient": {}, "count": 1}
    return {"sha256": digest, **counts, "samples": {identity: {name: "ann/0.png"}}}


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


# -- without OpenCV, and detectors that are none -----------------------------------------------------------


def test_without_opencv_it_says_how_to_get_it(
    photos: Path, table: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    extract = ("extract", "--image-path", photos, "--weights", weights, "--output-dir", tmp_path / "out")
    requests: dict[str, tuple[object, ...]] = {
        "aligning faces": ("align", photos, tmp_path / "out", "--landmarks", table),
        "--align": (*extract, "--align", tmp_path / "yunet.onnx"),
    }
    for what, request in requests.items():
        done = grafiqs(*request)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"grafiqs: {what} needs OpenCV (libGL.so.1: cannot open shared object file): "
            "pip install opencv-python-headless\n"
        )
        assert not (tmp_path / "out").exists()


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message; small numbers and short messages only."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    size = len(value)
    return bytes([number << 3 | 2, *((size,) if size < 128 else (size & 127 | 128, size >> 7))]) + value


def relu_model() -> bytes:
    """An ONNX model that detects nothing: one Relu from `input` to `output`, (1, 3, 64, 64)."""
    shape = b"".join(field(1, field(1, side)) for side in (1, 3, 64, 64))
    kind = field(1, field(1, 1) + field(2, shape))
    node = field(1, b"input") + field(2, b"output") + field(4, b"Relu")
    ends = field(11, field(1, b"input") + field(2, kind)) + field(12, field(1, b"output") + field(2, kind))
    return field(1, 8) + field(7, field(1, node) + field(2, b"graph") + ends) + field(8, field(1, b"") + field(2, 11))


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    return b"".join(bytes([value >> shift & 127 | 128]) for shift in range(0, 63, 7)) + b"\x01"


def huge_model() -> bytes:
    """An ONNX model of one small file and a tensor of exabytes, added to its input."""
    dims = b"".join(b"\x08" + varint(2**30) for _ in range(2))
    tensor = dims + field(2, 1) + field(8, b"huge") + field(9, b"\0\0\0\0")
    shape = b"".join(field(1, field(1, side)) for side in (1, 3, 64, 64))
    kind = field(1, field(1, 1) + field(2, shape))
    node = field(1, b"input") + field(1, b"huge") + field(2, b"output") + field(4, b"Add")
    ends = field(11, field(1, b"input") + field(2, kind)) + field(12, field(1, b"output") + field(2, kind))
    graph = field(1, node) + field(2, b"graph") + field(5, tensor) + ends
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 11))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:8f23\nsize 232589\n"
NO_DETECTORS = {
    "empty": b"",
    "text": b"no model" * 1000,
    "a pointer": POINTER,
    "another network": relu_model(),
    "a tensor of exabytes": huge_model(),
    "half of one": relu_model()[:60],
}


@pytest.mark.parametrize("kind", NO_DETECTORS)
@pytest.mark.parametrize("verb", ["align", "extract"])
def test_a_file_that_is_no_detector_is_refused(
    kind: str, verb: str, photos: Path, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With one line, and none of OpenCV's own."""
    model = tmp_path / "model.onnx"
    model.write_bytes(NO_DETECTORS[kind])
    requests = {
        "align": ("align", photos, tmp_path / "out", "--detector", model),
        "extract": (
            *("extract", "--image-path", photos, "--weights", weights),
            *("--output-dir", tmp_path / "out", "--align", model),
        ),
    }
    assert main([*map(str, requests[verb])]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == (
        f"grafiqs: {model} is not a YuNet detector that OpenCV {cv2.__version__} can run, or is damaged: get it again, "
        "or give another .onnx file, such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo; one with dynamic "
        "shapes takes OpenCV 5\n"
    )
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


DEADLY = {
    "division by zero": (1712, bytes(4)),
    "memory of others": (554, b"\xff" * 4),
    "a size": (1429, b"\x7f" + b"\xff" * 3),
}
"""Four bytes of the real detector that end the process which opens it, with signal 8 or 11 (OpenCV 5.0.0)."""


@real
@pytest.mark.parametrize(("kind", "verb"), list(zip(DEADLY, ("align", "align", "extract"), strict=True)))
def test_a_detector_that_kills_opencv_is_refused(
    kind: str, verb: str, photos: Path, weights: Path, tmp_path: Path
) -> None:
    place, damage = DEADLY[kind]
    good, model = YUNET.read_bytes(), tmp_path / "model.onnx"
    model.write_bytes(good[:place] + damage + good[place + 4 :])
    requests = {
        "align": ("align", photos, tmp_path / "out", "--detector", model),
        "extract": (
            *("extract", "--image-path", photos, "--weights", weights),
            *("--output-dir", tmp_path / "out", "--align", model),
        ),
    }
    done = grafiqs(*requests[verb], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"grafiqs: {model} is not a YuNet detector that OpenCV ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # no core either


@real
def test_a_detector_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    good, model = YUNET.read_bytes(), tmp_path / "model.onnx"
    for length in (1, 300, 100_000, len(good) - 1):
        model.write_bytes(good[:length])
        with pytest.raises(RequestError, match="is not a YuNet detector"):
            Detector(model)


BEGIN = "import sys, os, signal, time; sys.stdin.buffer.read(); print('the trial begins', flush=True); "


@pytest.fixture
def any_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that this process takes for a detector."""
    monkeypatch.setattr(Detector, "_found", lambda *_: np.empty((0, 15)))
    (tmp_path / "model.onnx").write_bytes(b"model" * 50_000)  # more than a pipe holds
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    "ends",
    [
        "os.kill(os.getpid(), 11)",
        "os.kill(os.getpid(), 8)",
        "os.abort()",
        "sys.exit(1)",
        "os._exit(3)",
        "time.sleep(60)",
    ],
)
def test_a_model_whose_trial_does_not_end_well_is_refused(
    ends: str, any_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detector_module, "_TRIAL", BEGIN + "print('noise', file=sys.stderr); " + ends)
    monkeypatch.setattr(detector_module, "_PATIENCE", 2.0)
    with pytest.raises(RequestError, match="is not a YuNet detector"):
        Detector(any_model)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("never", ["import nothing", "import time; time.sleep(60)", "print('something else')", None])
def test_a_trial_that_never_begins_is_told_and_condemns_nothing(
    never: str | None, any_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if never is None:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
    else:
        monkeypatch.setattr(detector_module, "_TRIAL", never)
    monkeypatch.setattr(detector_module, "_PATIENCE", 2.0)
    Detector(any_model)
    assert "the detector could not be tried in another process first (" in caplog.text


def test_a_trial_ends_well_when_the_model_does(any_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector_module, "_TRIAL", BEGIN)
        Detector(any_model)
    assert caplog.text == ""


def test_a_trial_runs_nothing_of_the_current_folder_and_minds_no_environment(tmp_path: Path) -> None:
    """From a script without a guard, by an interpreter that would look into the current folder first."""
    hostile, script, model = tmp_path / "hostile", tmp_path / "script.py", tmp_path / "model.onnx"
    hostile.mkdir()
    for name in ("cv2", "numpy", "grafiqs", "random", "sitecustomize", "usercustomize", "resource"):
        (hostile / f"{name}.py").write_text("open('canary', 'w').close()\n")
    model.write_bytes(YUNET.read_bytes() if YUNET.exists() else relu_model())
    script.write_text(
        "import logging, sys, pathlib, grafiqs.faces.detector, grafiqs.errors\n"
        "logging.basicConfig()\n"
        "sys.path[:0] = ['', '.', sys.argv[2]]\n"
        "try:\n"
        "    grafiqs.faces.detector.Detector(pathlib.Path(sys.argv[1]))\n"
        "    print('fine')\n"
        "except grafiqs.errors.RequestError:\n"
        "    print('refused')\n"
    )
    environment = {
        "PYTHONWARNINGS": "error",
        "PYTHONSTARTUP": "cv2.py",
        "OPENCV_LOG_LEVEL": "DEBUG",
        "PYTHONINSPECT": "",
    }
    done = subprocess.run(
        [sys.executable, "-X", "utf8", str(script), str(model), str(hostile)],
        cwd=hostile,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("fine\n" if YUNET.exists() else "refused\n", "")
    assert not (hostile / "canary").exists()


def test_a_detector_that_cannot_be_opened_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for place, why in ((tmp_path, errno.EISDIR), (tmp_path / "none.onnx", errno.ENOENT)):
        said = refused(capsys, photos, tmp_path / "crops", "--detector", place)
        assert said == f"grafiqs: cannot read the face detector {place}: {os.strerror(why)}\n"


# -- real photos, a real detector --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(YUNET)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty real photos of twelve people, and a picture without a face; read only."""
    root = tmp_path_factory.mktemp("people") / "people"
    for folder in sorted(path for path in PHOTOS.iterdir() if path.is_dir())[:12]:
        (root / folder.name).mkdir(parents=True)
        for path in sorted(folder.glob("*.jpg"))[:5]:
            (root / folder.name / path.name).symlink_to(path)
    (root / "nobody").mkdir()
    slope = np.add.outer(np.arange(300), np.arange(400)).astype(np.uint16) * 255 // 700
    Image.fromarray(slope.astype(np.uint8)).save(root / "nobody" / "slope.png")
    return root


@pytest.fixture(scope="module")
def found(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their aligned crops; read only."""
    folder = tmp_path_factory.mktemp("found") / "crops"
    assert run(people, folder, "--detector", YUNET, "--quiet") == 1
    return folder


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
def test_of_several_faces_the_largest_near_the_centre_is_taken(detector: Detector) -> None:
    """A large face in the middle, a small one beside it, and a larger one than that in a corner."""
    faces = [decode(path.read_bytes())[50:200, 50:200] for path in sorted(PHOTOS.glob("*/*_0001.jpg"))[:3]]
    canvas = np.full((700, 1000, 3), 127, np.uint8)
    places = {"large": (150, 330, 300), "corner": (490, 790, 210), "small": (300, 640, 150)}
    for (top, left, side), face in zip(places.values(), faces, strict=True):
        canvas[top : top + side, left : left + side] = cv2.resize(face, (side, side))
    points = np.array(detector.face("", canvas).points).reshape(5, 2)
    top, left, side = places["large"]
    assert (points > (left, top)).all()
    assert (points < (left + side, top + side)).all()
    canvas[top : top + side, left : left + side] = 127
    points = np.array(detector.face("", canvas).points).reshape(5, 2)
    top, left, side = places["small"]
    assert (points > (left, top)).all()
    assert (points < (left + side, top + side)).all()


@real
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 12.0])
def test_a_face_is_found_in_a_photo_of_any_size(scale: float, detector: Detector) -> None:
    source = decode(next(iter(sorted(PHOTOS.glob("*/*_0001.jpg")))).read_bytes())
    side = round(250 * scale)
    face = detector.face("", cv2.resize(source, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else 1))
    usual = detector.face("", source)
    factor = side / 250
    expected = (np.array(usual.points) + 0.5) * factor - 0.5
    assert np.abs(np.array(face.points) - expected).max() < 5 * factor


@real
@pytest.mark.parametrize("side", [500, 1000, 2000])
def test_a_small_face_in_a_large_photo_is_aligned_as_it_is_in_a_small_one(side: int, detector: Detector) -> None:
    """To a few pixels of its crop: where its own landmarks, by the others, would lie off the template."""
    distances = []
    for path in sorted(PHOTOS.glob("*/*_0001.jpg"))[:9]:
        source, margin = decode(path.read_bytes()), side // 2 - 125
        large = np.full((side, side, 3), 127, np.uint8)
        large[margin : margin + 250, margin : margin + 250] = source
        alone, among = (np.array(detector.face("", one).points).reshape(5, 2) for one in (source, large))
        matrices = (similarity(points) for points in (alone, among - margin))
        distances.append(np.abs(np.subtract(*(moved(matrix, alone) for matrix in matrices))).mean())
    assert np.median(distances) < 4
    assert max(distances) < 8


@real
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 40_000), (20_000, 2), (31, 33)])
def test_in_pictures_of_strange_sizes_no_face_is_found(size: tuple[int, int], detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    with pytest.raises(UnreadableSampleError, match="no face was found in it"):
        detector.face("", noise)


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


@real
def test_a_face_beside_the_centre_is_not_given_up_for_a_small_one_in_it(detector: Detector) -> None:
    """As in a portrait with a passer-by behind, or two people side by side."""
    face, other = (decode(path.read_bytes())[50:200, 50:200] for path in sorted(PHOTOS.glob("*/*_0001.jpg"))[:2])
    canvas = np.full((700, 1000, 3), 127, np.uint8)
    canvas[150:550, 100:500] = cv2.resize(face, (400, 400))
    canvas[310:390, 510:590] = cv2.resize(other, (80, 80))
    points = np.array(detector.face("", canvas).points).reshape(5, 2)
    assert (points > (100, 150)).all()
    assert (points < (500, 550)).all()


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


# -- tables that are none ----------------------------------------------------------------------------------


def test_a_table_of_shares_of_the_picture_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "table.csv", {"ann/1.png": LANDMARKS / 112})
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", table)
    assert said == f"grafiqs: {table} has shares of the picture, from 0 to 1, where pixels are needed\n"


def test_a_table_of_other_images_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "table.csv", {"./ann/1": LANDMARKS})
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", table)
    assert said.startswith(f"grafiqs: {table} has none of the images: it names ./ann/1, and the data set ann/")
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize(
    "points",
    [np.stack([np.arange(5.0) * 9, np.arange(5.0) * 4]).T, LANDMARKS[[1, 0, 2, 4, 3]], LANDMARKS[[2, 0, 4, 1, 3]]],
    ids=["a line", "mirrored", "mixed"],
)
def test_landmarks_that_are_no_faces_are_failures(points: Points, tmp_path: Path) -> None:
    places = {f"ann/{number}.png": LANDMARKS for number in range(3)}
    table = Landmarks(write_table(tmp_path / "table.csv", {**places, "bob/0.png": points}))
    with pytest.raises(UnreadableSampleError, match=r"its landmarks do not lie like a face's: \d+ pixels off"):
        table.face("bob/0.png", picture(0))


def test_a_table_with_a_column_twice_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = table_text({"ann/1.png": LANDMARKS}).splitlines()
    (tmp_path / "table.csv").write_text(
        "".join(f"{row},{'x1' if not place else 5}\n" for place, row in enumerate(rows))
    )
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", tmp_path / "table.csv")
    assert said == f"grafiqs: {tmp_path / 'table.csv'} is no table of landmarks: it has two columns x1\n"


@pytest.mark.parametrize("option", ["--landmarks", "--detector"])
def test_a_pipe_is_not_waited_for(option: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "pipe")
    said = refused(capsys, photos, tmp_path / "crops", option, tmp_path / "pipe")
    assert said.endswith(f"{tmp_path / 'pipe'}: not a regular file\n")


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
        (["--root", str(elsewhere)], "the data set of this run is no list"),
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
