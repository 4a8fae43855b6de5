"""Tables of landmarks: read however they are spelt, refused with the line."""

from __future__ import annotations

import csv
import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest

from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.face import BOX, Face
from grafiqs.faces.landmarks import Landmarks
from grafiqs.faces.template import LANDMARKS
from support.making import picture
from support.photos import (
    HEADER,
    Capture,
    Points,
    face_of,
    known,
    moved,
    refused,
    table_text,
    write_table,
)

pytestmark = pytest.mark.usefixtures("one_thread")

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
    "no path": (of_columns(*HEADER[1:], "score").encode(), "it has no column of paths among x1, y1"),
    "too few numbers": (b"a.jpg,1,2\n", "line 1 has neither names of columns nor a path and ten numbers"),
    "nan": (PLAIN.replace("76.5892", "nan").encode(), "line 2 of the table of landmarks has no number: 'nan'"),
    "infinity": (PLAIN.replace("76.5892", "-inf").encode(), "line 2 of the table of landmarks has no number: '-inf'"),
    "too large a number": (
        PLAIN.replace("76.5892", "1e999").encode(),
        "line 2 of the table of landmarks has no",
    ),
    "no number": (
        PLAIN.replace("76.5892", "\x1b[31m").encode(),
        r"has no number: '\x1b[31m'",
    ),
    "an empty cell": (PLAIN.replace("76.5892", "").encode(), "line 2 of the table of landmarks has no number: ''"),
    "an open quote": (b'path,x1\r\n"c.jpg,1', "line 2 is not a line of a table: unexpected end of data"),
    "UTF-16 without its mark": (PLAIN.encode("utf-16-le"), "line 1 holds a NUL character"),
    "a picture": (bytes(range(128, 256)) * 9, "line 1 has neither names of columns nor"),
}


@pytest.mark.parametrize("wrong", WRONG_TABLES)
def test_a_table_that_cannot_be_is_refused_with_its_line(
    wrong: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    data, why = WRONG_TABLES[wrong]
    if b"bob/a" in data:
        data = data[: data.index(b'"bob/a')]  # of one row, so that none is left
    table = tmp_path / "table.csv"
    table.write_bytes(data)
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", table)
    assert said.startswith(f"grafiqs: {table} is not a table of landmarks: ")
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


def test_a_table_of_shares_of_the_picture_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "table.csv", {"ann/1.png": LANDMARKS / 112})
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", table)
    assert said == f"grafiqs: {table} has shares of the picture, from 0 to 1, where pixels are needed\n"


def test_a_table_of_other_images_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "table.csv", {"./ann/11": LANDMARKS})
    said = refused(capsys, photos, tmp_path / "crops", "--landmarks", table)
    assert said.startswith(f"grafiqs: {table} has none of the images: it names ann/11, and the data set ann/")
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
    assert said == f"grafiqs: {tmp_path / 'table.csv'} is not a table of landmarks: it has two columns x1\n"


@pytest.mark.parametrize("option", ["--landmarks", "--detector"])
def test_a_pipe_is_not_waited_for(option: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "pipe")
    said = refused(capsys, photos, tmp_path / "crops", option, tmp_path / "pipe")
    assert said.endswith(f"{tmp_path / 'pipe'}: not a regular file\n")


# -- the forms of others ---------------------------------------------------------------------------------------

FACES = {f"ann/{number}.jpg": moved(known(1.5 + number / 8, 0.1 * number - 0.3, (120.0, 130.0)), LANDMARKS + noise)
         for number, noise in enumerate(np.random.default_rng(0).normal(0, 3, (8, 5, 2)))}  # fmt: skip


def spelt(face: Points, split: bool = False) -> list[str]:
    return [f"{value:.2f}" for value in (face.T if split else face).ravel()]


def written(rows: list[list[str]], separator: str, *before: str) -> str:
    return "".join(f"{line}\n" for line in (*before, *(separator.join(row) for row in rows)))


ALL = list(FACES.items())
CELEBA = ["lefteye_x", "lefteye_y", "righteye_x", "righteye_y", "nose_x", "nose_y",
          "leftmouth_x", "leftmouth_y", "rightmouth_x", "rightmouth_y"]  # fmt: skip
VGGFACE2 = ",".join(["NAME_ID", *(f"P{number}{axis}" for number in range(1, 6) for axis in "XY")])


def sixty_eight(face: Points) -> Points:
    """68 points of a face whose eyes, nose and mouth these are; the jaw lies where no eye is."""
    points = np.repeat(face[2:3], 68, axis=0) + np.linspace(-40, 40, 68)[:, None]
    around = np.array([(-4, 0), (-2, -2), (2, -2), (4, 0), (2, 2), (-2, 2)])
    points[36:42], points[42:48] = face[0] + around, face[1] + around
    points[30], points[48], points[54] = face[2:]
    return points


FORMS: dict[str, str] = {
    "IJB-C": written([[path, *spelt(face), "0.99"] for path, face in ALL], " "),
    "numbers and tabs": written([[path, *spelt(face)] for path, face in ALL], "\t"),
    "semicolons": written([[path, *spelt(face)] for path, face in ALL], ";", ";".join(HEADER)),
    "a label first": written([[path, "7", *spelt(face)] for path, face in ALL], " "),
    "MTCNN": written([[path, *spelt(face, split=True)] for path, face in ALL], " "),
    "MTCNN, named": written(
        [[path, *spelt(face, split=True)] for path, face in ALL], ",",
        ",".join(["image", *(f"{axis}{number}" for axis in "xy" for number in range(1, 6))])),
    "insightface": written(
        [["1", path, "12", "10", "20", "90", "140", *spelt(face, split=True)] for path, face in ALL], "\t"),
    "a box before": written([[path, "10", "20", "90", "140", "0.9", *spelt(face)] for path, face in ALL], " "),
    "CelebA": written([[path, *spelt(face)] for path, face in ALL], " ", str(len(FACES)), " ".join(CELEBA)),
    "CelebA, aligned": written([[path, *spelt(face)] for path, face in ALL], "  ", "8", "  ".join(CELEBA) + " "),
    "CelebA as CSV": written([[path, *spelt(face)] for path, face in ALL], ",", ",".join(["image_id", *CELEBA])),
    "VGGFace2": written([[f'"{path[:-4]}"', *spelt(face)] for path, face in ALL], ",", VGGFACE2),
    "68 points": written([[path, *spelt(sixty_eight(face))] for path, face in ALL], " "),
    "68 points, named from 0": written(
        [[path, *spelt(sixty_eight(face), split=True)] for path, face in ALL], ",",
        ",".join(["file", *(f"{axis}_{number}" for axis in "xy" for number in range(68))])),
    "quotes and semicolons": written(
        [[f'"{path}"', *spelt(face)] for path, face in ALL], ";", ";".join(f'"{name}"' for name in HEADER)),
    "quotes and blanks": written([[f'"{path}"', *spelt(face)] for path, face in ALL], " "),
    "a first row without a face": written([[path, *spelt(face)] for path, face in ALL], " ", "ann/none.jpg no face"),
    "a first row without numbers": written([[path, *spelt(face)] for path, face in ALL], ",", "ann/none.jpg,,,,,,,,,,"),
    "backslashes": written([[path.replace("/", "\\"), *spelt(face)] for path, face in ALL], ","),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_tables_of_others_hold_the_same_faces(form: str, tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text(FORMS[form])
    table = Landmarks(tmp_path / "table.txt")
    table.check(FACES)
    for path, face in FACES.items():
        assert table.face(path, picture(0)).points == pytest.approx(face.ravel(), abs=0.0051)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (written([[path, *spelt(np.tile(face, (20, 1)))] for path, face in ALL], " "), "200 numbers a row"),
        (written([[path, *spelt(face[[2, 0, 4, 1, 3]]), "1"] for path, face in ALL], " "), "11 numbers a row"),
        (written([["a", path, *spelt(face)] for path, face in ALL], " "), "2 columns that are not numbers"),
        (",".join(["path", *(f"{axis}{number}" for number in range(21) for axis in "xy")]) + "\na.jpg" + ",1" * 42,
         "names 21 points a face"),
    ],
)  # fmt: skip
def test_what_is_not_five_points_of_a_face_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text(text)
    with pytest.raises(RequestError, match=why):
        Landmarks(tmp_path / "table.txt")


def test_a_row_that_is_wrong_is_a_failure_and_not_the_end(tmp_path: Path) -> None:
    good = [[path, *spelt(face)] for path, face in ALL]
    bad = [
        ["bob/0.jpg", "1", "2"],
        ["bob/1.jpg", *spelt(LANDMARKS)[:-1], "?"],
        ["bob/2.jpg", *spelt(LANDMARKS)],
        good[3],
    ]
    (tmp_path / "table.csv").write_text(written([*good, *bad, ["bob/2.jpg", *spelt(LANDMARKS)]], ","))
    table = Landmarks(tmp_path / "table.csv")
    for path, why in {
        "bob/0.jpg": "line 9 of the table of landmarks has 3 columns",
        "bob/1.jpg": r"line 10 of the table of landmarks has no number: '\?'",
        "bob/2.jpg": "the table of landmarks has it more than once",
        "ann/3.jpg": "the table of landmarks has it more than once",
    }.items():
        with pytest.raises(UnreadableSampleError, match=why):
            table.face(path, picture(0))
    assert table.face("ann/2.jpg", picture(0)).points == pytest.approx(FACES["ann/2.jpg"].ravel(), abs=0.0051)


def test_a_name_without_extension_is_one_sample(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(FORMS["VGGFace2"])
    with pytest.raises(
        RequestError, match=r"names ann/1 without an extension, and the data set has ann/1.jpg and ann/1.png"
    ):
        Landmarks(tmp_path / "table.csv").check(["ann/1.jpg", "ann/1.png"])


def test_how_a_table_is_read_is_said(tmp_path: Path) -> None:
    for form, said in {
        "insightface": "path = column 2, 5 points = columns 8 to 17 (all x, then all y), separated by tabs",
        "IJB-C": "path = column 1, 5 points = columns 2 to 11 (x and y in turn), separated by blanks",
        "VGGFace2": "path = column 1, 5 points = columns 2 to 11 (by name), separated by commas",
    }.items():
        (tmp_path / "table.txt").write_text(FORMS[form])
        assert str(Landmarks(tmp_path / "table.txt")).endswith(said)
