"""Commands of which nothing can come stop before they begin, and what should not be overlooked is said at their end."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grafiqs.cli import main
from support import marked
from support.commands import refused, run
from support.making import make_faces, picture, rows_of, tree
from support.photos import Capture

pytestmark = pytest.mark.usefixtures("one_thread")


def broken(root: Path, count: int = 5) -> Path:
    """A data set of images that are cut off, each at another place."""
    (root / "ann").mkdir(parents=True)
    data = (make_faces(root.parent / "whole", {"ann": 1}) / "ann" / "0.png").read_bytes()
    for number in range(count):
        (root / "ann" / f"{number}.png").write_bytes(data[: 300 + number])
    return root


def extraction(faces: Path, weights: Path, output: Path) -> list[object]:
    return [
        *("extract", "--image-path", faces, "--weights", weights, "--output-dir", output, "--layers", "block4"),
        *("--device", "cpu", "--batch-size", 4, "--quiet"),
    ]


def test_an_extraction_of_unreadable_images_stops_before_it_begins(
    weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    faces, output = broken(tmp_path / "faces"), tmp_path / "run"
    said = refused(capsys, *extraction(faces, weights, output))
    assert said.startswith("grafiqs: all 5 images fail for one reason: cannot be decoded: ")
    assert "(ann/0.png): mend that first; with --keep-going the command goes on" in said
    assert not output.exists()
    assert run(*extraction(faces, weights, output), "--keep-going") == 1
    assert len(rows_of(output / "failures.csv")) == 5
    before = tree(output)
    assert run(*extraction(faces, weights, output)) == 1  # what is resumed is not looked at again
    assert tree(output) == before
    shutil.copy(tmp_path / "whole" / "ann" / "0.png", faces / "ann" / "4.png")
    assert run(*extraction(faces, weights, output)) == 1
    assert [row["sample"] for row in rows_of(output / "scores.csv")] == ["4"]


def test_a_run_that_would_be_overwritten_stays_if_nothing_can_come_of_the_new_one(
    faces: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    output = tmp_path / "run"
    assert run(*extraction(faces, weights, output), "--num-identities", 1) == 0
    before = tree(output)
    refused(capsys, *extraction(broken(tmp_path / "faces"), weights, output), "--overwrite")
    assert tree(output) == before


def test_one_unreadable_image_is_a_clear_error(weights: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "me.jpg").write_bytes(b"no image")
    said = refused(capsys, *extraction(tmp_path / "faces", weights, tmp_path / "run"))
    assert said.startswith("grafiqs: the only image fails: not an image in a known format (me.jpg): ")


def test_images_that_fail_for_different_reasons_stop_it_too(weights: Path, tmp_path: Path, capsys: Capture) -> None:
    faces = broken(tmp_path / "faces", 3)
    (faces / "ann" / "9.png").write_bytes(b"")
    said = refused(capsys, *extraction(faces, weights, tmp_path / "run"))
    assert said.startswith("grafiqs: all 4 images fail: cannot be decoded: ")
    assert "(ann/0.png), 3 times; the file is empty (ann/9.png), once: mend that first; with --keep-going" in said
    assert not (tmp_path / "run").exists()
    assert run(*extraction(faces, weights, tmp_path / "run"), "--keep-going") == 1
    assert len(rows_of(tmp_path / "run" / "failures.csv")) == 4


@pytest.mark.parametrize("kind", ["encrypted", "LZMA"])
def test_an_archive_of_which_nothing_can_be_read_is_refused(
    kind: str, faces: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    archive = tmp_path / "faces.zip"
    method = zipfile.ZIP_LZMA if kind == "LZMA" else zipfile.ZIP_STORED
    with zipfile.ZipFile(archive, "w", method) as file:
        for path in sorted(faces.rglob("*.png")):
            file.write(path, path.relative_to(faces).as_posix())
    if kind == "encrypted":
        data = bytearray(archive.read_bytes())
        for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            found = data.find(signature)
            while found >= 0:
                data[found + place] |= 1
                found = data.find(signature, found + 4)
        archive.write_bytes(data)
    refused(capsys, *extraction(archive, weights, tmp_path / "run"))
    refused(capsys, *extraction(archive, weights, tmp_path / "run"), "--dry-run")
    assert not (tmp_path / "run").exists()


def test_an_alignment_without_any_face_stops_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    model, output = marked.detector(monkeypatch, tmp_path), tmp_path / "crops"
    photos = make_faces(tmp_path / "photos", {"ann": 2, "bob": 1})
    align = ["align", photos, output, "--detector", model, "--quiet"]
    said = refused(capsys, *align)
    assert said.startswith("grafiqs: all 3 images fail for one reason: no face was found in it (ann/0.png): ")
    assert not output.exists()
    assert run(*align, "--keep-going") == 1
    assert len(rows_of(output / "failures.csv")) == 3
    assert run(*align) == 1  # resumed
    marked.save(marked.marked((200, 200), [(9, 9, 1.0)]), photos / "bob" / "0.png")
    assert run(*align, "--overwrite") == 1
    assert [row["path"] for row in rows_of(output / "align.csv")] == ["bob/0.png"]
    (photos / "bob" / "0.png").unlink()
    before = tree(output)
    refused(capsys, *align, "--overwrite")
    assert tree(output) == before


def test_photos_too_dark_for_a_face_to_be_found_stop_it_with_the_likely_reason(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Of 10 to 13 bits in 16; if one has a face, the warning counts those that fail as well."""
    model, photos = marked.detector(monkeypatch, tmp_path), tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        grey = np.array(Image.fromarray(picture(number)).convert("L")).astype(np.uint16) << (2 + number)
        Image.fromarray(grey).save(photos / f"{number}.png")
    align = ["align", photos, tmp_path / "crops", "--detector", model, "--quiet"]
    extract = [*extraction(photos, weights, tmp_path / "run"), "--align", model]
    for command in (align, extract):
        said = refused(capsys, *command)
        assert said.startswith("grafiqs: all 4 images fail for one reason: no face was found in it; it has 16 bits")
        assert "scale it to the full range first (0.png)" in said
    marked.save(marked.marked((200, 200), [(9, 9, 1.0)]), photos / "4.png")
    for command in (align, extract):
        assert run(*command) == 1
        assert "warning: 4 of 5 images have 16 bits a value and fill the lower 14 at most" in capsys.readouterr().err


def test_photos_that_are_left_upright_in_doubt_are_named(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    model, photos = marked.detector(monkeypatch, tmp_path), tmp_path / "photos"
    monkeypatch.setattr("grafiqs.faces.detector.Detector._near", lambda *_: dict.fromkeys((0, 90, 180, 270), 0.9))
    marked.save(marked.marked((200, 260), [(9, 9, 1.0)], 180), photos / "ann" / "0.png")
    marked.save(marked.marked((200, 260), [(9, 9, 1.0)]), photos / "ann" / "1.png")
    for command in (
        ["align", photos, tmp_path / "crops", "--detector", model, "--quiet"],
        [*extraction(photos, weights, tmp_path / "run"), "--align", model],
    ):
        assert run(*command) == 0
        assert "warning: 1 photos may stand on their head, or lie: ann/0.png; " in capsys.readouterr().err
    assert [row["score"] for row in rows_of(tmp_path / "crops" / "align.csv")] == ["0.85", "0.95"]


def test_an_alignment_that_is_not_finished_is_told(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    model, crops = marked.detector(monkeypatch, tmp_path), tmp_path / "crops"
    for number in range(2):
        marked.save(marked.marked((200, 260), [(9, 9, 1.0)]), tmp_path / "photos" / "ann" / f"{number}.png")
    assert run("align", tmp_path / "photos", crops, "--detector", model, "--quiet") == 0
    for gone, warned in ((".lock", 0), ("SHA256SUMS", 1)):
        (crops / gone).unlink(missing_ok=True)
        capsys.readouterr()
        assert run(*extraction(crops, weights, tmp_path / f"run of {gone}")) == 0
        assert capsys.readouterr().err.count(f"warning: {crops} is an alignment that is not finished (") == warned
        run("inspect", crops)
        assert "".join(capsys.readouterr()).count("is an alignment that is not finished (") == warned


def test_the_same_holds_for_aligning_on_the_way(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    model = marked.detector(monkeypatch, tmp_path)
    photos = make_faces(tmp_path / "photos", {"ann": 2})
    extract = [*extraction(photos, weights, tmp_path / "run"), "--align", model]
    assert "all 2 images fail for one reason: no face was found in it" in refused(capsys, *extract)
    marked.save(marked.marked((200, 260), [(9, 9, 1.0)], 180), photos / "ann" / "1.png")
    assert run(*extract) == 1
    (row,) = rows_of(tmp_path / "run" / "align.csv")
    assert (row["path"], row["turn"], row["score"]) == ("ann/1.png", "180", "0.95")
    assert run("verify", tmp_path / "run", "--quiet") == 0


# -- what is said at the end -------------------------------------------------------------------------------


def test_images_of_one_colour_and_of_fewer_bits_are_warned_of_once(
    weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    faces = make_faces(tmp_path / "faces", {"ann": 6})
    Image.new("RGB", (112, 112), "white").save(faces / "ann" / "white.png")
    grey = np.array(Image.fromarray(picture(3)).convert("L")).astype(np.uint16) << 4
    Image.fromarray(grey).save(faces / "ann" / "twelve.png")
    capsys.readouterr()
    assert run(*extraction(faces, weights, tmp_path / "run")) == 0
    said = capsys.readouterr().err
    assert said.count("warning: 1 of 8 images are of one colour (ann/white.png): there is no face in them") == 1
    assert said.count("warning: 1 of 8 images have 16 bits a value and fill the lower 12 at most") == 1
    assert run(*extraction(faces, weights, tmp_path / "run")) == 0
    assert capsys.readouterr().err == ""


def test_crops_that_are_aligned_again_are_warned_of(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    model = marked.detector(monkeypatch, tmp_path)
    for number in range(4):
        marked.save(marked.marked((112, 112), [(number, 0, 1.0)]), tmp_path / "crops" / "ann" / f"{number}.png")
        marked.save(marked.marked((250, 250), [(60, 60, 1.0)]), tmp_path / "photos" / "ann" / f"{number}.png")
    for data_set, warned in (("crops", 1), ("photos", 0)):
        place = tmp_path / data_set
        assert run("align", place, tmp_path / f"{data_set}_again", "--detector", model, "--quiet") == 0
        assert run(*extraction(place, weights, tmp_path / f"{data_set}_run"), "--align", model) == 0
        said = capsys.readouterr().err
        assert said.count("warning: 4 of 4 images are aligned crops already") == 2 * warned
        assert main(["verify", str(tmp_path / f"{data_set}_run"), "--quiet"]) == 0
