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
    assert said == f"grafiqs: {tmp_path / 'table.csv'} is not a table of landmarks: it has two columns x1\n"


@pytest.mark.parametrize("option", ["--landmarks", "--detector"])
def test_a_pipe_is_not_waited_for(option: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "pipe")
    said = refused(capsys, photos, tmp_path / "crops", option, tmp_path / "pipe")
    assert said.endswith(f"{tmp_path / 'pipe'}: not a regular file\n")
