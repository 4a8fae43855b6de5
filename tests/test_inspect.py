"""What `grafiqs inspect` finds in a data set, and what it says of it."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grafiqs import Options, inspect_dataset, inspect_report
from grafiqs.cli import main
from grafiqs.faces import likeness as measure
from grafiqs.inspect import Inspection
from support.making import make_faces, picture, tree


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """Faces with a little of everything: broken, doubled, grey, large, palettes, and an identity without any."""
    root = make_faces(tmp_path / "faces", {"ann": 4, "bob": 2, "cyd": 1})
    (root / "dee").mkdir()
    (root / "ann" / "broken.png").write_bytes((root / "ann" / "0.png").read_bytes()[:-40])
    (root / "ann" / "empty.jpg").touch()
    Image.open(root / "ann" / "1.png").save(root / "ann" / "again.bmp")
    Image.open(root / "ann" / "2.png").save(root / "cyd" / "also ann.png", compress_level=0)
    shutil.copy(root / "ann" / "2.png", root / "ann" / "twice.png")
    Image.fromarray(picture(7, (50, 60))).convert("L").save(root / "bob" / "grey.jpg")
    Image.fromarray(picture(8)).convert("P").save(root / "bob" / "palette.gif")
    (root / "loose.png").write_bytes((root / "ann" / "0.png").read_bytes())
    return root


def inspected(root: Path, **options: object) -> Inspection:
    return inspect_dataset(Options(image_path=root, quiet=True, **options))  # type: ignore[arg-type]


def test_everything_is_found(flawed: Path) -> None:
    found = inspected(flawed, samples_per_identity=4)
    assert found.counts == {"ann": 8, "bob": 4, "cyd": 2, "dee": 0}
    assert found.insufficient == {"cyd": 2, "dee": 0}
    assert found.unreadable.keys() == {"ann/broken.png", "ann/empty.jpg"}
    assert found.unreadable["ann/empty.jpg"] == "the file is empty"
    assert found.within == [["ann/1.png", "ann/again.bmp"], ["ann/2.png", "ann/twice.png"]]
    assert found.across == [["ann/2.png", "ann/twice.png", "cyd/also ann.png"]]
    assert found.sizes == {"112x112": 11, "60x50": 1}
    assert found.formats == {"PNG": 9, "BMP": 1, "JPEG": 1, "GIF": 1}
    assert found.modes == {"RGB": 10, "L": 1, "P": 1}
    assert found.dataset.ignored == 1


def test_the_report_is_for_people(flawed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(flawed)
    assert main(["inspect", str(flawed), "--samples-per-identity", "4"]) == 1
    said, warned = capsys.readouterr()
    lines = said.splitlines()
    assert lines[0] == f"{flawed}: folders, 4 identities, 14 samples"
    assert lines[1] == "Samples of an identity: 0 to 8, median 3"
    assert [line.split() for line in lines[2:11] if not line.endswith(" 0")] == [
        *(["0", "#" * 40, "1"], ["2", "#" * 40, "1"], ["4", "#" * 40, "1"], ["8", "#" * 40, "1"])
    ]
    assert lines[11:] == [
        "Identities with fewer than 4 samples: 2",
        "  - cyd: 2 samples",
        "  - dee: 0 samples",
        "Sizes: 112x112 (11), 60x50 (1)",
        "Formats: PNG (9), BMP (1), JPEG (1), GIF (1)",
        "Modes: RGB (10), L (1), P (1)",
        "Likeness to aligned crops: not judged, which takes 112x112 images of 10 identities (or 100 without names)",
        "Unreadable: 2",
        f"  - ann/broken.png: {inspected(flawed).unreadable['ann/broken.png']}",
        "  - ann/empty.jpg: the file is empty",
        "Exact duplicates within an identity: 2 groups",
        "  - ann/1.png = ann/again.bmp",
        "  - ann/2.png = ann/twice.png",
        "Exact duplicates across identities: 1 groups",
        "  - ann/2.png = ann/twice.png = cyd/also ann.png",
    ]
    assert "grafiqs: warning: 1 of 12 images are not 112x112: they are not aligned crops" in warned
    assert f"grafiqs: warning: 1 images in {flawed} belong to no identity and are left out" in warned
    assert tree(flawed) == before


def test_the_json_says_all_of_it(flawed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(flawed), "--json", "--quiet"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document.pop("unreadable").keys() == {"ann/broken.png", "ann/empty.jpg"}
    assert len(document.pop("warnings")) == 2
    numbers = document.pop("samples_per_identity")
    assert numbers.pop("by_identity") == {"ann": 8, "bob": 4, "cyd": 2, "dee": 0}
    rows = numbers.pop("histogram")
    assert sum(row["identities"] for row in rows) == 4
    assert [row["from"] for row in rows] == [row["to"] for row in rows] == list(range(9))
    assert numbers == {"min": 0, "median": 3.0, "max": 8}
    assert document == {
        "data_set": str(flawed),
        "form": "folders",
        "identities": 4,
        "samples": 14,
        "ignored": 1,
        "left_out": {},
        "folders_passed_over": {},
        "pairs": None,
        "insufficient": {"required": 1, "identities": {"dee": 0}},
        "duplicates": {
            "within": [["ann/1.png", "ann/again.bmp"], ["ann/2.png", "ann/twice.png"]],
            "across": [["ann/2.png", "ann/twice.png", "cyd/also ann.png"]],
        },
        "sizes": {"112x112": 11, "60x50": 1},
        "formats": {"PNG": 9, "BMP": 1, "JPEG": 1, "GIF": 1},
        "modes": {"RGB": 10, "L": 1, "P": 1},
        "of_one_colour": [],
        "bits_used_of_16": {},
        "likeness_to_aligned_crops": None,
    }


def test_images_of_one_colour_and_of_fewer_bits_are_named(flawed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (112, 112), "white").save(flawed / "bob" / "white.png")
    Image.new("L", (1, 1)).save(flawed / "cyd" / "dot.png")
    grey = np.array(Image.fromarray(picture(3)).convert("L")).astype(np.uint16) << 4
    Image.fromarray(grey).save(flawed / "cyd" / "twelve.tif")
    assert main(["inspect", str(flawed), "--json", "--quiet"]) == 1
    said, warned = capsys.readouterr()
    document = json.loads(said)
    assert document["of_one_colour"] == ["bob/white.png", "cyd/dot.png"]
    assert document["bits_used_of_16"] == {"cyd/twelve.tif": 12}
    assert "warning: 2 of 15 images are of one colour (bob/white.png, cyd/dot.png): there is no face in them" in warned
    assert "warning: 1 of 15 images have 16 bits a value and fill the lower 12 at most" in warned
    lines = list(inspect_report.lines(inspected(flawed)))
    place = lines.index("Of one colour: 2")
    assert lines[place : place + 5] == [
        *("Of one colour: 2", "  - bob/white.png", "  - cyd/dot.png"),
        *("Fewer than their 16 bits used: 1", "  - cyd/twelve.tif: 12"),
    ]


def test_a_clean_data_set_is_said_to_be_one(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(faces), "--samples-per-identity", "2"]) == 0
    said, warned = capsys.readouterr()
    assert "Every identity has 2 samples." in said
    assert "Unreadable: none" in said
    assert "warning" not in warned


def test_names_and_sizes_are_what_they_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "faces" / "ann").mkdir(parents=True)
    Image.fromarray(picture(3, (40, 70))).save(tmp_path / "faces" / "ann" / "bell\a.jpg", exif=exif)
    found = inspected(tmp_path / "faces")
    assert found.sizes == {"40x70": 1}
    assert all(line.isprintable() for line in inspect_report.lines(found))


@pytest.mark.parametrize("counts", [[5], [1, 1, 1], [0, 1, 1000], list(range(100)), [3, 17, 17, 40]])
def test_the_histogram_holds_every_identity_once(counts: list[int], faces: Path) -> None:
    found = inspected(faces)
    found.counts.clear()
    found.counts.update((f"{place}", count) for place, count in enumerate(counts))
    rows = found.histogram()
    assert len(rows) <= 12
    assert (rows[0][0], rows[-1][1]) == (min(counts), max(counts))
    assert all(end + 1 == start for (_, end, _), (start, _, _) in pairwise(rows))
    for start, end, identities in rows:
        assert identities == sum(start <= count <= end for count in counts)


# -- aligned or not ------------------------------------------------------------------------------------------


def likeness(images: list[np.ndarray]) -> float:
    return measure.likeness(np.mean([measure.edges(image) for image in images], axis=0))


def test_drawn_crops_look_aligned_and_moved_ones_do_not() -> None:
    aligned = [picture(1000 * person + sample) for person in range(10) for sample in range(5)]
    assert likeness(aligned) > measure.ALIGNED + 0.1
    assert likeness([np.flipud(image) for image in aligned]) < 0.3
    assert likeness([np.roll(image, 25, axis=0) for image in aligned]) < measure.ALIGNED
    small = [np.array(Image.fromarray(image).resize((70, 70))) for image in aligned]
    assert likeness([np.pad(image, ((21, 21), (21, 21), (0, 0)), mode="edge") for image in small]) < measure.ALIGNED


def test_pictures_of_nothing_look_like_nothing() -> None:
    assert likeness([np.full((112, 112, 3), 128, np.uint8)] * 3) == 0
    noise = np.random.default_rng(0).integers(0, 256, (60, 112, 112, 3), dtype=np.uint8)
    assert abs(likeness(list(noise))) < 0.4


def test_the_warning_waits_for_enough_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(measure.IDENTITIES):
        (tmp_path / "faces" / f"{number}").mkdir(parents=True)
        for sample in range(3):
            upside_down = Image.fromarray(np.flipud(picture(1000 * number + sample)))
            upside_down.save(tmp_path / "faces" / f"{number}" / f"{sample}.png")
    assert main(["inspect", str(tmp_path / "faces")]) == 0
    said, warned = capsys.readouterr()
    assert "Likeness to aligned crops: " in said
    assert "do not look like crops aligned to the ArcFace template" in warned
    shutil.rmtree(tmp_path / "faces" / "0")
    assert main(["inspect", str(tmp_path / "faces")]) == 0
    said, warned = capsys.readouterr()
    assert "not judged" in said
    assert "warning" not in warned


def test_every_identity_counts_once_and_the_unnamed_image_by_image() -> None:
    aligned, other = measure.edges(picture(0)), measure.edges(np.flipud(picture(0)))
    named, unnamed = measure.Likeness(), measure.Likeness()
    for number in range(measure.IDENTITIES):
        for _ in range(1 if number else 50):
            named.add(f"{number}", aligned if number else other)
    mean = (other + (measure.IDENTITIES - 1) * aligned.astype(float)) / measure.IDENTITIES
    assert named.value() == pytest.approx(measure.likeness(mean), abs=1e-12)
    for _ in range(measure.IMAGES):
        assert unnamed.value() is None
        unnamed.add("", aligned)
    assert unnamed.value() == pytest.approx(measure.likeness(aligned.astype(float)), abs=1e-6)
