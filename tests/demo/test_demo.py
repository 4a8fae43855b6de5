"""The demo from start to end, and the backbone that comes with the package, on people its training never saw."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.checkpoint import load_checkpoint
from grafiqs.cli import main
from grafiqs.demo import embedded, first_run
from grafiqs.demo.degrade import Degradation, degrade
from grafiqs.demo.first_run import PICTURE, best_and_worst, ranked
from grafiqs.demo.identity import Identity
from grafiqs.demo.plan import FACES, read_faces
from grafiqs.errors import RequestError
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.images.tensors import normalise
from grafiqs.run.results import open_run
from support.making import tree, widths_of

UNSEEN = 3
"""A seed that neither the training nor the evaluation of the backbone nor the demo uses."""

pytestmark = pytest.mark.usefixtures("one_thread", "one_helper")


@pytest.fixture(scope="module")
def shown(demonstration: tuple[Path, str]) -> tuple[Path, str]:
    return demonstration


def scores(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / "scores.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def test_it_says_what_it_did_what_came_out_and_where_to_look(shown: tuple[Path, str]) -> None:
    folder, said = shown
    order = sorted(scores(folder), key=lambda row: float(row["block4"]))
    lines = said.splitlines()
    for title, end in (("  best ", order[:5]), ("  worst ", order[-5:])):
        found = [line.split()[2:4] for line in lines if line.startswith(title)]
        assert found == [[row["quality"], row["path"]] for row in end]
    assert int(order[0]["quality"]) > 90 > 10 > int(order[-1]["quality"])
    assert "Found 1 identities with insufficient samples:\n  - person_0001: 10 samples\n" in said
    assert "Drew 1180 faces and scored 300 of them with the demo backbone, in " in said
    for place in (PICTURE, "run/scores.csv", f"faces/{FACES}"):
        assert f"  {folder / place}\n" in said
        assert (folder / place).is_file()


def test_its_run_can_be_verified(shown: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(shown[0] / "run")]) == 0
    assert len(scores(shown[0])) == 300


def test_degraded_faces_rank_below_clean_ones(shown: tuple[Path, str]) -> None:
    ranking = ranked(shown[0] / "faces", open_run(shown[0] / "run"))
    fifth = len(ranking) // 5
    clean_above = sum(one.degradation is None for one in ranking[:fifth])
    clean_below = sum(one.degradation is None for one in ranking[-fifth:])
    assert clean_above >= 0.6 * fifth
    assert clean_below <= 0.2 * fifth


def test_its_picture_shows_both_ends(shown: tuple[Path, str]) -> None:
    folder, _ = shown
    picture = cv2.imread(str(folder / PICTURE))[..., ::-1]
    run = open_run(folder / "run")
    ranking = ranked(folder / "faces", run)
    assert np.array_equal(picture, best_and_worst(folder / "faces", run, ranking))
    for one in (*ranking[:8], *ranking[-8:]):
        face = cv2.imread(str(folder / "faces" / one.path))[..., ::-1]
        # 0, but for the rounding of a sum of 37,632 squares.
        assert cv2.matchTemplate(picture, face, cv2.TM_SQDIFF).min() < 1e3, f"{one.path} is not in the picture"


def test_again_it_shows_the_same_and_keeps_what_is_there(
    shown: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, said = shown
    before = tree(folder)
    times = {path: path.stat().st_mtime_ns for kind in ("*_grad.npy", "person_*/*.png") for path in folder.rglob(kind)}
    assert main(["demo", "--output-dir", str(folder)]) == 0
    again = capsys.readouterr().out
    assert tree(folder) == before
    assert len(times) == 1180 + 5 * 300
    assert {path: path.stat().st_mtime_ns for path in times} == times
    ends = [[line for line in text.splitlines() if line.startswith("  best ")] for text in (said, again)]
    assert ends[0] == ends[1]


DRAWN, CHOSEN = (8, 10), (4, 4)
"""Fewer faces than the demo's."""

FEW = f"""
import sys
from grafiqs.cli import main
from grafiqs.demo import first_run
if __name__ == "__main__":
    first_run.DRAWN, first_run.CHOSEN = {DRAWN}, {CHOSEN}
    sys.exit(main())
"""
"""The demo as a program, with so many."""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer faces, for demos in this process."""
    monkeypatch.setattr(first_run, "DRAWN", DRAWN)
    monkeypatch.setattr(first_run, "CHOSEN", CHOSEN)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo of few faces, which was never stopped; read only."""
    folder = tmp_path_factory.mktemp("small") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_run, "DRAWN", DRAWN)
        patch.setattr(first_run, "CHOSEN", CHOSEN)
        assert main(["demo", "--output-dir", str(folder)]) == 0
    return folder


def test_stopped_by_ctrl_c_it_goes_on_to_the_same_end(few: None, small: Path, tmp_path: Path) -> None:
    program, output = tmp_path / "few.py", tmp_path / "out"
    program.write_text(FEW)
    command = [sys.executable, str(program), "demo", "--output-dir", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (output / "faces" / "person_0001").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, trouble = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in trouble
    assert "the same command resumes" in trouble
    assert not (output / "run").exists()
    assert main(command[2:]) == 0
    assert tree(output / "faces") == tree(small / "faces")
    assert scores(output) == scores(small)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "mine.txt").write_text("mine")
    assert main(["demo", "--output-dir", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert tree(tmp_path) == {"faces/mine.txt": b"mine"}


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["demo", "--output-dir", str(tmp_path / "file")]) == 2
    assert "cannot write to" in capsys.readouterr().err


@pytest.fixture
def copied(few: None, small: Path, tmp_path: Path) -> Path:
    """A finished demo that was moved elsewhere."""
    return Path(shutil.copytree(small, tmp_path / "moved"))


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Run the demo in this process; returns what it said on standard error.

    Left out are progress bars, and what an evaluation warns of that has as few comparisons.
    """
    assert main(["demo", *map(str, arguments)]) == code
    usual = ("images/s]", "impostors cannot resolve an FMR", "rounds have no error at one of the thresholds")
    lines = capsys.readouterr().err.splitlines(True)
    return "".join(line for line in lines if not any(words in line for words in usual)).lstrip()


def test_a_demo_that_was_moved_is_begun_anew_when_asked(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(copied)
    assert "--overwrite" in said(capsys, 3, "--output-dir", copied)
    assert tree(copied) == before
    assert said(capsys, 0, "--output-dir", copied, "--overwrite") == ""
    assert scores(copied) == list(csv.DictReader(before["run/scores.csv"].decode().splitlines()))


def test_another_spelling_of_the_same_folder_is_the_same_demo(
    few: None, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small.parent)
    assert said(capsys, 0, "--output-dir", "out") == ""
    assert said(capsys, 0, "--output-dir", "../" + small.parent.name + "/out") == ""


@pytest.mark.parametrize("strange", ["aaa/0000.png", "person_0003/mine.png", "notes.txt"])
def test_what_is_not_of_the_faces_is_named(copied: Path, strange: str, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "faces" / strange).parent.mkdir(exist_ok=True)
    (copied / "faces" / strange).write_bytes(b"mine")
    assert strange.split("/")[0] in said(capsys, 2, "--output-dir", copied)
    assert (copied / "faces" / strange).read_bytes() == b"mine"


@pytest.mark.parametrize("damage", [b"\0", b"\xff"], ids=["zeros", "no numbers"])
def test_a_damaged_gradient_is_said_to_be_damaged(
    copied: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, 0, "--output-dir", copied, "--overwrite") == ""
    worst = ranked(copied / "faces", open_run(copied / "run"))[-1]
    path = copied / "run" / "image" / worst.identity / f"{worst.sample}_grad.npy"
    whole = path.read_bytes()
    path.write_bytes(damage * len(whole) if damage == b"\0" else whole[:128] + damage * (len(whole) - 128))
    assert f"the gradient of {worst.path} is damaged" in said(capsys, 3, "--output-dir", copied)


def test_damaged_faces_are_drawn_again(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(copied / "faces")
    for place in [row["path"] for row in scores(copied)][::4]:
        (copied / "faces" / place).write_bytes(b"")
    assert said(capsys, 0, "--output-dir", copied, "--overwrite") == ""
    assert tree(copied / "faces") == before


# -- the backbone ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> Backbone:
    return load_checkpoint(embedded.demo_backbone()).network


def inputs(faces: list[NDArray[np.uint8]]) -> torch.Tensor:
    return normalise(torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2))


def block4_scores(network: Backbone, faces: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return gradient_scores(image_gradients(network, inputs(faces), ("block4",))["block4"]).numpy()


def test_the_shipped_file_is_small_narrow_and_told_by_its_keys() -> None:
    path = embedded.demo_backbone()
    assert path.stat().st_size <= 4_000_000
    checkpoint = load_checkpoint(path)
    assert (checkpoint.backbone, checkpoint.embedding_size) == ("iresnet18", 128)
    assert widths_of(checkpoint) == (16, 32, 64, 128)
    assert checkpoint.sha256 == embedded.SHA256


def test_the_model_card_is_about_the_shipped_file() -> None:
    assert embedded.SHA256 in embedded.demo_backbone().with_name("MODEL_CARD.md").read_text()


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_backbone_is_not_loaded(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "backbone.safetensors"
    shutil.copy(embedded.demo_backbone(), copy)
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data if damage == "changed" else data[:-1])
    if damage == "gone":
        copy.unlink()
    monkeypatch.setattr(embedded, "__file__", str(tmp_path / "backbone.py"))
    with pytest.raises(RequestError, match="install the package again"):
        embedded.demo_backbone()
    assert main(["demo", "--output-dir", str(tmp_path / "out")]) == 2
    assert "install the package again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_tells_unseen_people_apart(network: Backbone) -> None:
    people, samples = 40, 4
    faces = [clean_face(number, sample) for number in range(people) for sample in range(samples)]
    with torch.inference_mode():
        embeddings = torch.nn.functional.normalize(network(inputs(faces)))
    similarity = (embeddings @ embeddings.T).numpy()
    owner = np.repeat(np.arange(people), samples)
    first, second = np.triu_indices(len(faces), 1)
    genuine = owner[first] == owner[second]
    of_pairs = similarity[first, second]
    threshold = np.quantile(of_pairs[~genuine], 0.99)
    assert (of_pairs[genuine] <= threshold).mean() <= 0.01


@cache
def person(number: int) -> Identity:
    """Their heads are built once."""
    return Identity(UNSEEN, number)


@cache
def clean_face(number: int, sample: int = 0) -> NDArray[np.uint8]:
    return person(number).face(sample).image


@pytest.fixture(scope="module")
def clean(network: Backbone) -> NDArray[np.float64]:
    """The scores of forty people's clean faces."""
    return block4_scores(network, [clean_face(number) for number in range(40)])


@pytest.mark.parametrize("kind", ["blur", "darkness", "low_resolution", "covered_eyes"])
def test_a_degraded_face_scores_above_its_own_clean_version(
    network: Backbone, clean: NDArray[np.float64], kind: str
) -> None:
    shares = []
    for strength in (0.6, 0.8, 1.0):
        wrong = Degradation(kind, strength)  # laid on the drawn face, as `Identity.face` does: test_faces.py
        spoiled = [degrade(clean_face(number), wrong, np.random.default_rng(number)) for number in range(len(clean))]
        shares.append((block4_scores(network, spoiled) > clean).mean())
    assert np.mean(shares) >= 0.8


def test_read_faces_agrees_with_the_table(shown: tuple[Path, str]) -> None:
    wrong = read_faces(shown[0] / "faces")
    files = {path.relative_to(shown[0] / "faces").as_posix() for path in (shown[0] / "faces").rglob("*.png")}
    assert wrong.keys() == files
    with (shown[0] / "faces" / FACES).open(newline="") as table:
        for row in csv.DictReader(table):
            one = wrong[row["path"]]
            assert (one.kind if one else "none") == row["degradation"]
            assert (one.strength if one else 0.0) == float(row["strength"])
