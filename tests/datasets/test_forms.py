"""The documented job over data sets of every form: extract, verify, go on, read back."""

from __future__ import annotations

import csv
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grafiqs import create_dataset_with_subset, open_run
from grafiqs.cli import main
from support.making import tree
from support.writing import python3, write_training_set

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = {"ann": 6, "bob": 5, "cyd": 2, "dee": 6}
"""What the faces hold."""


def images(faces: Path) -> dict[str, list[bytes]]:
    """The encoded images of every identity, in order."""
    return {name: [(faces / name / f"{n}.png").read_bytes() for n in range(count)] for name, count in COUNTS.items()}


def listed(faces: Path, place: Path) -> list[str]:
    rows = [f"{name}/{number}.png,{name}\n" for name, count in COUNTS.items() for number in range(count)]
    (place / "list.csv").write_text("".join(rows))
    return [str(place / "list.csv"), "--root", str(faces)]


def zipped(faces: Path, place: Path) -> list[str]:
    with zipfile.ZipFile(place / "faces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in faces.rglob("*.png"):
            archive.write(path, f"a/data/set/{path.relative_to(faces)}")
    return [str(place / "faces.zip")]


def tarred(faces: Path, place: Path) -> list[str]:
    with tarfile.open(place / "faces.tar", "w") as archive:
        archive.add(faces, ".")
    return [str(place / "faces.tar")]


def recorded(faces: Path, place: Path) -> list[str]:
    (place / "log").mkdir()  # beside other things, as such folders are
    (place / "example.png").touch()
    write_training_set(place / "train.rec", dict(enumerate(images(faces).values())))
    return [str(place)]


FORMS: dict[str, Callable[[Path, Path], list[str]]] = {
    "folders": lambda faces, _: [str(faces)],
    "list": listed,
    "zip": zipped,
    "tar": tarred,
    "rec": recorded,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_run_over_every_form_verifies_and_reads_the_same_images(
    form: str, faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, run, plain = tmp_path / "set", tmp_path / "run", tmp_path / "plain"
    place.mkdir()
    source = FORMS[form](faces, place)
    rest = ["--weights", str(weights), "--layers", "block3,block4", "--num-identities", "3"]
    assert main(["extract", "--image-path", *source, *rest, "--output-dir", str(run)]) == 0
    assert main(["extract", "--image-path", str(faces), *rest, "--output-dir", str(plain)]) == 0
    assert main(["verify", str(run)]) == 0
    assert f"derived again from {place if form == 'rec' else source[0]} is the same" in capsys.readouterr().out

    one, other = open_run(run), open_run(plain)
    assert np.array_equal(one.scores["block3"], other.scores["block3"])
    assert (run / "SHA256SUMS.images").read_text().split()[::2] == (plain / "SHA256SUMS.images").read_text().split()[
        ::2
    ]
    if form != "rec":
        assert one.manifest.subset.sha256 == other.manifest.subset.sha256
        assert tree(run / "block4") == tree(plain / "block4")
    first = (run / "GraFIQs_block4.txt").read_text().split()[0]
    assert first == {
        "list": f"{faces}/ann/0.png",
        "rec": f"{place}/train.rec/0000000/00000001",
    }.get(form, f"{source[0]}/ann/0.png")

    shutil.rmtree(run / "block3")
    assert main(["extract", "--image-path", *source, *rest, "--output-dir", str(run)]) == 0
    assert main(["verify", str(run), "--quiet"]) == 0


def test_a_verification_set_keeps_its_pairs(
    faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = images(faces)
    encoded = [*own["ann"][:2], own["ann"][2], own["bob"][0], *own["dee"][:2]]
    place, run = tmp_path / "lfw.bin", tmp_path / "run"
    place.write_bytes(python3((encoded, [True, False, True]), 2))
    rest = ["--weights", str(weights), "--layers", "block4", "--output-dir", str(run)]
    assert main(["extract", "--image-path", str(place), *rest]) == 0
    found = open_run(run)
    assert found.manifest.pairs == [["000000", "000001", True], ["000002", "000003", False], ["000004", "000005", True]]
    assert main(["verify", str(run), "--quiet"]) == 0
    dataset = create_dataset_with_subset("CasiaWebFace", place)
    assert dataset.pairs == [(0, 1, True), (2, 3, False), (4, 5, True)]
    some = create_dataset_with_subset("CasiaWebFace", place, samples_per_identity=4)
    names = [path.rpartition("/")[2] for path, _ in some.samples]
    assert [(names[first], names[second], same) for first, second, same in some.pairs] == [
        pair for pair in map(tuple, found.manifest.pairs) if pair[0] in names and pair[1] in names
    ]
    place.write_bytes(python3((encoded, [True, True, True]), 2))
    capsys.readouterr()
    assert main(["verify", str(run), "--quiet"]) == 1
    assert "the pairs to compare are no longer those of the data set" in capsys.readouterr().err


def test_a_list_may_move_and_its_root_may_too(
    faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    source = listed(faces, tmp_path)
    rest = ["--weights", str(weights), "--layers", "block4", "--output-dir", str(run)]
    assert main(["extract", "--image-path", *source, *rest]) == 0
    moved = shutil.move(source[0], tmp_path / "moved.csv")
    assert main(["verify", str(run), "--image-path", str(moved), "--quiet"]) == 0
    shutil.copytree(faces, elsewhere)
    (elsewhere / "bob" / "0.png").unlink()
    assert main(["verify", str(run), "--image-path", str(moved), "--root", str(elsewhere), "--quiet"]) == 1
    assert "bob/0.png cannot be read" in capsys.readouterr().err
    assert main(["verify", str(run), "--root", str(tmp_path / "nowhere")]) == 2
    assert "is not where the paths in a list begin: it is not a folder" in capsys.readouterr().err
    assert main(["verify", str(run), "--image-path", str(faces), "--quiet"]) == 0


def test_a_root_is_for_lists_alone(
    faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    rest = ["--weights", str(weights), "--layers", "block4", "--output-dir", str(run)]
    assert main(["extract", "--image-path", str(faces), "--root", str(faces), *rest]) == 2
    assert "is not a list (.csv, .lst, .tsv, .txt)" in capsys.readouterr().err
    assert main(["extract", "--image-path", str(faces), *rest]) == 0
    assert main(["verify", str(run), "--root", str(faces)]) == 2
    assert "the data set of this run is not a list" in capsys.readouterr().err


def test_the_subset_of_a_command_is_a_list(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subset, again = tmp_path / "subset.csv", tmp_path / "again.csv"
    chosen = ["--num-identities", "2", "--samples-per-identity", "4", "--random-identity-selection"]
    assert main(["select", "--image-path", str(faces), *chosen, "--output", str(subset)]) == 0
    assert main(["select", "--image-path", str(subset), "--root", str(faces), "--output", str(again)]) == 0
    assert again.read_bytes() == subset.read_bytes()
    hashes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Subset SHA-256")]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("top", ["CASIA/ids", "train", ""])
def test_the_subset_of_a_packed_folder_is_a_list_below_what_was_given(
    top: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, subset = tmp_path / "given", tmp_path / "subset.csv"
    (place / top).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(faces, place / top)
    chosen = ["--samples-per-identity", "2", "--allow-insufficient-samples"]
    assert main(["select", "--image-path", str(place), *chosen, "--output", str(subset)]) == 0
    assert main(["select", "--image-path", str(subset), "--root", str(place), *chosen]) == 0
    assert main(["select", "--image-path", str(faces), *chosen]) == 0
    with subset.open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all((place / row["path"]).is_file() for row in rows)
    hashes = {line for line in capsys.readouterr().out.splitlines() if line.startswith("Subset SHA-256")}
    assert len(hashes) == 1
