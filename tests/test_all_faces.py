"""`align --all-faces`: a crop of every face, resumed, verified and overwritten as one of each photo is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from grafiqs.align import align_faces
from grafiqs.cli import main
from grafiqs.options.align import AlignOptions
from grafiqs.run.journal import Journal
from support import marked
from support.making import fill_disk_at, rows_of, sums_of, tree
from support.photos import Capture, crops_of, refused, without_journal

TWO = [(0, 0, 1.0), (120, 10, 1.2)]
THREE = [*TWO, (10, 120, 0.8)]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return marked.detector(monkeypatch, tmp_path)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A photo of three, one of two that lies beside a photo named like its second face, one of nobody, and no photo."""
    root = tmp_path / "group"
    marked.save(marked.marked((240, 260), THREE), root / "ann" / "a.png")
    marked.save(marked.marked((200, 260), TWO, 90), root / "bob" / "0.png")
    marked.save(marked.marked((200, 200), TWO[:1]), root / "bob" / "0_1.png")
    marked.save(marked.marked((200, 200), []), root / "bob" / "nobody.png")
    (root / "cyd").mkdir()
    (root / "cyd" / "0.png").write_bytes(b"no image")
    return root


def command(photos: Path, output: Path, model: Path, *more: object) -> list[str]:
    return ["align", *map(str, (photos, output, "--detector", model, "--all-faces", "--quiet", *more))]


CROPS = ["ann/a.png", "ann/a_1.png", "ann/a_2.png", "bob/0.png", "bob/0_1.png", "bob/0__1.png"]


def test_every_face_is_a_crop_and_a_row(group: Path, model: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "crops"
    assert main(command(group, output, model)) == 1
    assert sorted(crops_of(output)) == CROPS
    rows = rows_of(output / "align.csv")
    assert [(row["identity"], row["sample"], row["path"], row["turn"]) for row in rows] == [
        ("ann", "a", "ann/a.png", "0"),
        ("ann", "a_1", "ann/a.png", "0"),
        ("ann", "a_2", "ann/a.png", "0"),
        ("bob", "0", "bob/0.png", "90"),
        ("bob", "0__1", "bob/0.png", "90"),
        ("bob", "0_1", "bob/0_1.png", "0"),
    ]
    assert {row["path"]: row["reason"] for row in rows_of(output / "failures.csv")} == {
        "bob/nobody.png": "no face was found in it",
        "cyd/0.png": "not an image in a known format",
    }
    assert sorted(sums_of(output / "SHA256SUMS.images")) == ["ann/a.png", "bob/0.png", "bob/0_1.png"]
    assert {*CROPS} < sums_of(output / "SHA256SUMS").keys()
    assert len({data for path, data in crops_of(output).items() if path.startswith("ann")}) == 3
    capsys.readouterr()
    assert main(["verify", str(output)]) == 0
    assert "Verified: 5 images" in capsys.readouterr().out
    done = align_faces(AlignOptions(image_path=group, output=output, detector=model, all_faces=True, quiet=True))
    assert (done.aligned, done.failed, done.crops) == (3, 2, 6)


def test_the_first_face_is_the_one_that_is_taken_without_it(group: Path, model: Path, tmp_path: Path) -> None:
    assert main(command(group, tmp_path / "all", model)) == 1
    assert main([each for each in command(group, tmp_path / "one", model) if each != "--all-faces"]) == 1
    one, every = crops_of(tmp_path / "one"), crops_of(tmp_path / "all")
    assert sorted(one) == ["ann/a.png", "bob/0.png", "bob/0_1.png"]
    assert {path: every[path] for path in one} == one
    assert "options.all_faces: False in the folder, True asked for" in refusal(group, tmp_path / "one", model)


def refusal(group: Path, output: Path, model: Path) -> str:
    from grafiqs.errors import RequestError

    with pytest.raises(RequestError) as caught:
        align_faces(AlignOptions(image_path=group, output=output, detector=model, all_faces=True, quiet=True))
    return str(caught.value)


def test_it_takes_a_detector(group: Path, tmp_path: Path, capsys: Capture) -> None:
    said = refused(capsys, group, tmp_path / "crops", "--landmarks", tmp_path / "table.csv", "--all-faces")
    assert said == "grafiqs: --all-faces needs --detector, which finds them\n"


@pytest.mark.parametrize("gone", ["ann/a_2.png", "ann/a.png", "bob/0__1.png"])
def test_a_photo_of_which_a_crop_is_gone_is_cut_again(gone: str, group: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "crops"
    assert main(command(group, output, model)) == 1
    before = without_journal(output)
    (output / gone).unlink()
    assert main(["verify", str(output), "--quiet"]) == 1
    assert main(command(group, output, model)) == 1
    assert without_journal(output) == before


@pytest.mark.parametrize("stop", range(5))
def test_stopped_after_any_photo_it_ends_the_same(
    stop: int, group: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(group, tmp_path / "whole", model)) == 1
    usual = Journal.append

    def append(journal: Journal, outcome: object) -> None:  # type: ignore[type-arg]
        if outcome.index == stop:  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")
        usual(journal, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        assert main(command(group, tmp_path / "crops", model)) == 3
    assert main(command(group, tmp_path / "crops", model)) == 1
    assert without_journal(tmp_path / "crops") == without_journal(tmp_path / "whole")


@pytest.mark.parametrize("path", ["ann/a.png", "ann/a_2.png", "bob/0__1.png", "align.csv", "SHA256SUMS"])
def test_a_disk_that_is_full_between_two_crops_of_a_photo_loses_nothing(
    path: str, group: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(group, tmp_path / "whole", model)) == 1
    output = tmp_path / "crops"
    with monkeypatch.context() as patch:
        fill_disk_at(output / path, patch)
        assert main(command(group, output, model)) == 3
    assert not (output / path).exists()
    assert main(command(group, output, model)) == 1
    assert without_journal(output) == without_journal(tmp_path / "whole")


def test_a_photo_with_fewer_faces_than_before_leaves_no_crop_behind(group: Path, model: Path, tmp_path: Path) -> None:
    """Nor does one that spoiled."""
    output = tmp_path / "crops"
    assert main(command(group, output, model)) == 1
    (output / "progress.jsonl").unlink()
    marked.save(marked.marked((240, 260), THREE[:1]), group / "ann" / "a.png")
    (group / "bob" / "0.png").write_bytes(b"spoiled")
    assert main(command(group, output, model)) == 1
    assert sorted(crops_of(output)) == ["ann/a.png", "bob/0_1.png"]
    assert main(["verify", str(output), "--quiet"]) == 0


def test_overwriting_removes_every_crop_and_nothing_else(group: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "crops"
    assert main(command(group, output, model)) == 1
    (output / "ann" / "mine_1.png").write_bytes(b"mine")
    (output / "ann" / "a_9.png").write_bytes(b"mine")  # no such face
    one = [each for each in command(group, output, model, "--overwrite") if each != "--all-faces"]
    assert main(one) == 1
    assert sorted(crops_of(output)) == ["ann/a.png", "ann/a_9.png", "ann/mine_1.png", "bob/0.png", "bob/0_1.png"]


def test_the_journal_keeps_every_face(group: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "crops"
    assert main(command(group, output, model)) == 1
    before = (output / "progress.jsonl").read_bytes()
    first = json.loads(before.splitlines()[0].partition(b" ")[2])
    assert (first[0], len(first[2])) == (0, 3)
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    assert main(command(group, output, model)) == 1
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.png")} == stamps
    assert (output / "progress.jsonl").read_bytes() == before


@pytest.mark.parametrize("change", ["a row too many", "a row too few", "another name"])
def test_tables_that_do_not_list_the_crops_are_told(
    change: str, group: Path, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    output = tmp_path / "crops"
    assert main(command(group, output, model)) == 1
    table = output / "align.csv"
    lines = table.read_text().splitlines(keepends=True)
    changed = {
        "a row too many": [*lines[:4], lines[3].replace("a_2", "a_3"), *lines[4:]],
        "a row too few": [*lines[:3], *lines[4:]],
        "another name": [*lines[:3], lines[3].replace("a_2", "a_7"), *lines[4:]],
    }[change]
    table.write_text("".join(changed))
    capsys.readouterr()
    assert main(["verify", str(output), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "align.csv does not have its checksum" in said
    assert ("ann/a_3.png has no checksum" if change == "a row too many" else "ann/a_2.png has a checksum") in said


def test_many_faces_have_many_names(model: Path, tmp_path: Path) -> None:
    places = [(10 + 60 * column, 10 + 60 * row, 0.6) for row in range(4) for column in range(5)]
    marked.save(marked.marked((320, 320), places), tmp_path / "photos" / "all.png")
    assert main(command(tmp_path / "photos", tmp_path / "crops", model)) == 0
    assert sorted(tree(tmp_path / "crops").keys() & {"all.png", *(f"all_{n}.png" for n in range(1, 30))}) == sorted(
        ["all.png", *(f"all_{number}.png" for number in range(1, 20))]
    )
    points = np.array([[float(row[f"x{n}"]) for n in range(1, 6)] for row in rows_of(tmp_path / "crops" / "align.csv")])
    assert len(np.unique(points, axis=0)) >= 5
