"""`grafiqs score`: photos in, a row each out, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from grafiqs import load
from grafiqs.cli import main
from support.making import REAL, make_faces, person, picture
from support.photos import YUNET, real

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three faces, one of them deeper, a file that is no image, and one that is damaged."""
    root = make_faces(tmp_path_factory.mktemp("score") / "photos", {"ann": 2})
    Image.fromarray(picture(7)).save(root / "alone.png")
    (root / "notes.md").write_text("no image")
    (root / "ann" / "damaged.png").write_bytes((root / "alone.png").read_bytes()[:3000])
    return root


@pytest.fixture
def score(weights: Path, capsys: Capture) -> Any:
    """Run the verb by block4 and loss alone: its exit code, what it printed, and what it said."""

    def run(*arguments: object, layers: str = "block4,loss") -> tuple[int, str, str]:
        given = ["--weights", weights, "--device", "cpu", "--layers", layers]
        code = main(["score", *map(str, [*arguments, *given])])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def as_csv(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out)))


def test_a_table_says_what_csv_and_json_say(score: Any, folder: Path, weights: Path) -> None:
    code, out, err = score(folder, "--format", "csv")
    rows = as_csv(out)
    assert code == 1
    assert [row["path"] for row in rows] == [
        f"{folder}/{name}" for name in ("alone.png", "ann/0.png", "ann/1.png", "ann/damaged.png")
    ]
    assert list(rows[0]) == ["path", "block4", "loss", "remarks", "error"]
    assert "3 of 4 photos have scores" in err
    expected = load(weights, device="cpu", layers=["block4", "loss"])([row["path"] for row in rows])
    for row, result in zip(rows, expected, strict=True):
        assert {name: row[name] for name in ("block4", "loss")} == {
            name: str(result.scores.get(name, "")) for name in ("block4", "loss")
        }
        assert row["error"] == (result.error or "")
    code, out, _ = score(folder, "--format", "json")
    assert code == 1
    found = json.loads(out)
    assert [one["path"] for one in found] == [row["path"] for row in rows]
    assert [one["scores"] for one in found] == [dict(result.scores) for result in expected]
    assert found[0].keys() == {"path", "scores", "quality", "quality_score", "layer", "face", "remarks", "error"}
    assert [one["quality"] for one in found] == [None] * 4
    code, out, _ = score(folder)
    lines = out.splitlines()
    assert lines[0].split() == ["block4", "loss", "photo"]
    assert len(lines) == 5
    for line, row in zip(lines[1:], rows, strict=True):
        assert row["path"] in line
        assert line.endswith(row["error"])
        if not row["error"]:
            assert float(line.split()[0]) == pytest.approx(float(row["block4"]), rel=1e-4)


def test_files_folders_archives_and_lists_alike(score: Any, folder: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "faces"), "zip", folder))
    listed = tmp_path / "list.csv"
    listed.write_text("path\nann/0.png\nalone.png\n")
    code, out, _ = score(listed, "--root", folder, "--format", "csv")
    assert code == 0
    assert [Path(row["path"]).name for row in as_csv(out)] == ["alone.png", "0.png"]  # in the order of names
    code, out, _ = score(folder / "alone.png", archive, folder / "ann" / "1.png", "--format", "csv")
    rows = as_csv(out)
    assert code == 1  # the damaged one
    assert [Path(row["path"]).name for row in rows] == [
        "alone.png",
        "alone.png",
        "0.png",
        "1.png",
        "damaged.png",
        "1.png",
    ]
    assert rows[0]["block4"] == rows[1]["block4"]
    assert rows[3]["block4"] == rows[5]["block4"]


def test_what_is_not_there_is_a_row_and_an_exit_code(score: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    code, out, _ = score(
        *(tmp_path / name for name in ("none.jpg", "empty", "bad.zip")), folder / "alone.png", "--format", "csv"
    )
    rows = as_csv(out)
    assert code == 1
    assert [bool(row["error"]) for row in rows] == [True, True, True, False]
    assert rows[0]["error"] == "cannot be opened: No such file or directory"
    assert "empty" in rows[1]["error"]


def test_paths_come_on_standard_input_one_by_one(weights: Path, folder: Path) -> None:
    """A row is printed before the next path is read."""
    command = [sys.executable, "-m", "grafiqs", "score", "-", "--weights", str(weights), "--layers", "block4"]
    command += ["--device", "cpu", "--format", "csv", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, name in enumerate(("alone.png", "none.png", "ann/0.png")):
            process.stdin.write(f"{folder / name}\n")
            process.stdin.flush()
            if number == 0:
                assert process.stdout.readline() == "path,block4,remarks,error\n"
            assert process.stdout.readline().startswith(f"{folder / name},")
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (b"a.png\0b.png\0", "it has NULs"),
        ("\ufeffa.png\n".encode("utf-16-le"), "it has NULs"),
        (b"x" * 70_000, "a line of more than 65,536 bytes"),
        (b"\x89PNG\r\n\x1a\n", "standard input holds an image"),
    ],
)
def test_what_is_no_list_of_paths_is_refused(
    lines: bytes, said: str, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    code, out, err = score("-")
    assert (code, out) == (2, "")
    assert said in err


def test_paths_that_are_not_utf8_come_on_standard_input(
    score: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(folder / "alone.png", os.fsdecode(name))
    named = tmp_path / "BMface.png"
    shutil.copy(folder / "alone.png", named)
    lines = b"\xef\xbb\xbf" + name + b"\r\n" + os.fsencode(named)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), "utf-8", "strict"))
    code, out, _ = score("-", "--format", "json")
    assert code == 0
    assert [os.fsencode(one["path"]) for one in json.loads(out)] == [name, os.fsencode(named)]


def test_a_list_that_is_stopped_is_whole(score: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grafiqs.model.rows import Json

    row, seen = Json.row, iter(range(9))

    def stopping(self: Json, *arguments: Any) -> Any:
        if next(seen) == 2:
            raise KeyboardInterrupt
        return row(self, *arguments)

    monkeypatch.setattr(Json, "row", stopping)
    code, out, err = score(folder, "--format", "json")
    assert code == 130
    assert len(json.loads(out)) == 2
    assert "what was printed is whole" in err


def test_no_photo_at_all_is_refused(score: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    code, out, err = score("-")
    assert (code, out) == (2, "")
    assert "there was no photo to score" in err


def test_what_scores_too_much_is_to_be_taken_again(score: Any, folder: Path) -> None:
    _, out, _ = score(folder / "ann", "--format", "csv")
    scores = sorted(float(row["block4"]) for row in as_csv(out) if row["block4"])
    limit = sum(scores[:2]) / 2
    arguments = (folder / "ann" / "0.png", folder / "ann" / "1.png", "--max-score", f"block4={limit}")
    code, out, err = score(*arguments, "--format", "csv")
    again = [row["take_again"] for row in as_csv(out)]
    assert code == 0
    assert sorted(map(bool, again)) == [False, True]
    assert f"is above {limit:g}" in max(again)
    assert "2 of 2 photos have scores, 1 to be taken again" in err
    assert score(*arguments, "--fail-below")[0] == 1
    assert score(*arguments[:2], "--max-score", "block4=1e9", "--fail-below")[0] == 0
    code, out, _ = score(*arguments, "--format", "json")
    assert sorted(map(len, (one["take_again"] for one in json.loads(out)))) == [0, 1]
    assert score(*arguments)[1].count("TAKE AGAIN") == 1
    code, out, _ = score(folder / "ann" / "damaged.png", "--max-score", "loss=1e9", "--fail-below", "--format", "csv")
    assert code == 1
    assert as_csv(out)[0]["take_again"] == as_csv(out)[0]["error"] != ""


def test_what_is_of_low_quality_is_to_be_taken_again(folder: Path, capsys: Capture) -> None:
    """By the backbone for drawn faces, whose reference comes with the package."""
    drawn, other = folder.with_name("drawn.png"), folder.with_name("covered.png")
    face = person(2).face(0).image.copy()
    Image.fromarray(face).save(drawn)
    face[40:64, 20:92] = 0  # the eyes
    Image.fromarray(face).save(other)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["score", str(drawn), str(other), "--device", "cpu", *map(str, arguments)])
        return (code, *capsys.readouterr())

    code, out, err = run("--format", "json")
    good, bad = json.loads(out)
    assert code == 0
    assert "knows drawn faces only" in err
    assert (good["layer"], bad["layer"]) == ("block4", "block4")
    assert good["quality_score"] == good["quality"]["block4"] > 40
    assert bad["quality_score"] < 5
    code, out, _ = run("--min-quality", "20,image=1", "--fail-below", "--format", "csv")
    rows = as_csv(out)
    assert code == 1
    assert [row["quality"] for row in rows] == [str(good["quality_score"]), str(bad["quality_score"])]
    assert rows[0]["take_again"] == ""
    assert f"quality {bad['quality_score']} by block4 is below 20" in rows[1]["take_again"]
    code, out, _ = run("--min-quality", "0", "--fail-below")
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["quality", "image"]
    code, out, err = run("--min-quality", "block4=90", "--min-quality", "20")
    assert (code, out) == (2, "")
    assert "--min-quality gives block4 two limits" in err
    code, out, err = run("--min-quality", "embedding_norm=20")
    assert (code, out) == (2, "")
    assert "--min-quality goes by embedding_norm (--embeddings computes it), and here are image, block1" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-score", "140"], "--max-score is 140: it takes LAYER=SCORE"),
        (["--max-score", "loss=-1"], "it takes LAYER=SCORE, a score of 0 or more"),
        (["--min-quality", "20,30"], "it gives the layer of the reference two limits"),
        (["--min-quality", "=20"], "it takes a quality from 0 to 100"),
        (["--min-quality", ""], "argument --min-quality: it is empty"),
        (["--max-score", "loss=1", "--max-score", "loss=2"], "it gives loss two limits"),
        (["--max-score", "block4=x"], "it takes LAYER=SCORE"),
        (["--max-score", "block4=nan"], "it takes LAYER=SCORE"),
        (["--max-score", "block9=1"], "block9 is none of image, block1"),
        (["--max-score", "image=1"], "--max-score goes by image, and here are block4, loss"),
        (["--max-score", "embedding_norm=1"], "of which higher ones are better"),
        (["--max-score", "block4=1,block4=2"], "it gives block4 two limits"),
        (["--min-quality", "101"], "it takes a quality from 0 to 100"),
        (["--min-quality", "20"], "--min-quality needs a --reference"),
        (["--fail-below"], "--fail-below needs --min-quality or --max-score"),
        (["--reference", "no/such.json"], "no/such.json"),
        (["--format", "xml"], "xml"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_printed(
    arguments: list[str], said: str, score: Any, folder: Path, capsys: Capture
) -> None:
    try:
        code, out, err = score(folder / "alone.png", *arguments)
    except SystemExit as end:
        code, (out, err) = int(str(end.code)), capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err


def test_heat_maps_go_into_a_new_folder(score: Any, folder: Path, tmp_path: Path) -> None:
    maps = tmp_path / "new" / "maps"
    code, _, err = score(folder / "ann", "--heat-maps", maps, layers="image,block4,loss")
    assert code == 1
    assert f"Heat maps: {maps}" in err
    assert sorted(path.name for path in maps.iterdir()) == ["000001_0.png", "000002_1.png"]
    with Image.open(maps / "000001_0.png") as image:
        assert image.size == (3 * 224, 224 + 18)  # the crop and two layers
        crop = np.asarray(image)[18:, :224]
    assert np.abs(crop[::2, ::2].astype(float) - picture(0)).mean() < 40
    for place, said in ((maps, "is there already, and not empty"), (folder / "maps", "lies inside")):
        code, out, err = score(folder / "ann", folder, "--heat-maps", place)
        assert (code, out) == (2, "")
        assert said in err
    assert not (folder / "maps").exists()
    code, _, err = score(folder / "ann", "--heat-maps", tmp_path / "none", layers="loss")
    assert (code, "the loss alone has none" in err, (tmp_path / "none").exists()) == (2, True, False)


def test_odd_names_stay_what_they_are(score: Any, folder: Path, tmp_path: Path) -> None:
    names = ["with, comma.png", "line\nbreak.png", 'quo"te.png', "é\u0301.png", "-.png", "\x1b[31m.png"]
    raw = os.fsdecode(b"no\xffutf8.png")
    for name in (*names, raw):
        shutil.copy(folder / "alone.png", tmp_path / name)
    code, out, _ = score(tmp_path, "--format", "json")
    assert code == 0
    assert {os.fsencode(Path(one["path"]).name) for one in json.loads(out)} == set(map(os.fsencode, (*names, raw)))
    code, out, _ = score(tmp_path)
    assert "\x1b" not in out
    assert len(out.splitlines()) == 8
    assert score(tmp_path, "--heat-maps", tmp_path.with_name("odd maps"))[0] == 0


def test_blank_pictures_and_photos_that_are_not_aligned_are_said(score: Any, tmp_path: Path) -> None:
    Image.new("RGB", (112, 112), "grey").save(tmp_path / "blank.png")
    Image.fromarray(picture(0, (300, 400))).save(tmp_path / "wide.png")
    code, _, err = score(tmp_path)
    assert code == 0
    assert "1 of 2 images are of one colour" in err
    assert "do not look like crops of 112x112 aligned" in err
    assert "1 were resized whole" in err
    Image.fromarray(picture(0, (224, 224))).save(tmp_path / "square.png")
    assert "1 were resized whole, whatever is in them" in score(tmp_path / "square.png")[2]


@real
def test_a_photo_of_a_person(capsys: Capture) -> None:
    photo = REAL / "faces/lfw158_raw250/Jean_Charest/Jean_Charest_0009.jpg"
    weights = REAL / "weights/foamliu_mobilefacenet.pt"
    arguments = ["score", str(photo), "--weights", str(weights), "--align", str(YUNET), "--format", "json", "--quiet"]
    assert main(arguments) == 0
    [found] = json.loads(capsys.readouterr().out)
    x, y, width, height = found["face"]["box"]
    assert 80 < x < 110
    assert 50 < y < 80
    assert 70 < width < height < 140
    assert found["face"]["turn"] == 0
    assert len(found["face"]["landmarks"]) == 5
    assert found["scores"].keys() == {"image", "block1", "block2", "block3", "loss"}
