"""The verb: which score it takes, what it says of the others, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from grafiqs import open_run
from grafiqs.calibrate import CalibrateOptions, calibrate
from grafiqs.calibration.reference import Reference, read_reference
from grafiqs.cli import main
from grafiqs.errors import RequestError
from grafiqs.run import manifest as manifests
from grafiqs.run.manifest import Manifest
from support.commands import Capture, refused
from support.made_runs import write_run
from support.making import tree

pytestmark = pytest.mark.usefixtures("one_thread")

Make = Callable[..., Path]

COLUMNS = {"image": 0, "loss": 1}


@pytest.fixture(scope="module")
def like(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("like") / "run"
    paths = ["--image-path", str(faces), "--weights", str(weights), "--output-dir", str(folder)]
    more = [
        "--layers",
        ",".join(COLUMNS),
        "--no-dump-gradients",
        "--samples-per-identity",
        "2",
        "--num-identities",
        "1",
    ]
    assert main(["extract", *paths, *more, "--device", "cpu", "--quiet"]) == 0
    return manifests.read(folder)


@pytest.fixture
def make(like: Manifest, tmp_path: Path) -> Make:
    """A run of forty people with four images each, a third of which are hard to recognise.

    `knows` are the scores that know which: of image, loss and embedding_norm; with - before, the wrong way round; the
    others are drawn. `certain` is the noise of image and loss, `blur` that of hard images' embeddings.
    """

    def made(
        *knows: str, embeddings: bool = True, people: int = 40, each: int = 4, certain: float = 0.05, blur: float = 2.0
    ) -> Path:
        random = np.random.default_rng(7)
        scores, vectors = {}, {}
        for person in range(people):
            face = random.normal(size=16)
            for number in range(each):
                path, hard = f"p{person:02}/{number}.png", random.random() < 1 / 3
                sign = {name: (name in knows) - (f"-{name}" in knows) for name in NAMES}
                drawn = {name: random.random() for name in NAMES}
                own = {name: sign[name] * hard if sign[name] else drawn[name] for name in NAMES}
                bad = {name: own[name] + random.normal(0, certain if name in COLUMNS else 0.05) for name in NAMES}
                vector = face + random.normal(0, blur if hard else 0.3, size=16)
                vectors[path] = (vector / np.linalg.norm(vector) * (5 - bad["embedding_norm"])).tolist()
                scores[path] = [10 + bad["image"], 20 + bad["loss"]]
        folder = tmp_path / ("-".join(knows) or "nothing")
        return write_run(folder, like, scores, embeddings=vectors if embeddings else None)

    return made


NAMES = (*COLUMNS, "embedding_norm")


@pytest.fixture
def calibrated(tmp_path: Path) -> Callable[..., Reference]:
    def command(run: Path, *more: object, code: int = 0) -> Reference:
        path = tmp_path / "out" / "reference.json"
        words = ["calibrate", run, "--output", path, "--bootstrap", 100, "--fmr", 0.1, "--overwrite", *more]
        assert main(list(map(str, words))) == code
        return read_reference(path)

    return command


Calibrated = Callable[..., Reference]


def test_the_layer_that_predicts_errors_is_taken(make: Make, calibrated: Calibrated, capsys: Capture) -> None:
    run = make("loss")
    found = calibrated(run)
    said = capsys.readouterr()
    assert found.layer == found.ranking[0]["quality"] == "loss"
    assert found.ranking[0]["ci_high"] < 1
    assert {row["quality"]: row["direction"] for row in found.ranking} == found.directions
    areas = [row["pauc_normalised"] for row in found.ranking]
    assert areas == sorted(areas)
    assert "loss predicts errors best of the layers and the loss: quality is that of loss" in said.out
    assert "predicts them better" not in said.out
    assert f"{areas[0]:.3f}" in said.out
    scores = open_run(run).scores
    for name, distribution in found.distributions.items():
        assert distribution.count == len(scores)
        assert distribution.quantiles[0] == scores[name].min()
        assert found.quality(name, float(np.median(scores[name]))) == 50
    manifest = manifests.read(run)
    assert found.holds_for == manifest.holds_for()
    assert found.about["subset_sha256"] == manifest.subset.sha256
    assert (found.about["run"], found.about["images"]) == ("loss", 160)
    assert (found.about["n_genuine"], found.about["bootstrap"]) == (240, 100)
    assert calibrated(run).file == found.file  # nothing is drawn that no seed tells


def test_a_network_whose_scores_predict_nothing_is_told(make: Make, calibrated: Calibrated, capsys: Capture) -> None:
    found = calibrated(make("-image", "-loss"))
    assert found.layer is None
    assert "these scores do not predict recognition errors" in capsys.readouterr().err
    found = calibrated(make("-image", "-loss", "embedding_norm"), "--quiet")
    assert found.layer is None
    assert found.ranking[0]["quality"] == "embedding_norm"
    said = capsys.readouterr()
    assert "these scores do not predict" in said.err
    assert "The length of the embedding does predict them: --layer embedding_norm" in said.err
    assert said.out == ""


def test_too_few_errors_leave_it_open(make: Make, calibrated: Calibrated, capsys: Capture) -> None:
    assert calibrated(make("loss"), "--fmr", "0.5").layer is None
    assert "genuine comparisons fail at FMR 0.5, too few to tell" in capsys.readouterr().err
    with pytest.raises(RequestError, match="an interval takes 100 rounds at least"):
        CalibrateOptions(run=Path("run"), bootstrap=2)


def test_scores_that_are_drawn_are_not_taken(make: Make, calibrated: Calibrated, capsys: Capture) -> None:
    """Neither one of them, nor those of a run that holds few of the pairs, nor scores that are all equal."""
    found = calibrated(make())
    assert found.layer is None
    assert [row["predicts"] for row in found.ranking] == [False] * 3
    said = capsys.readouterr().err
    assert "it is not certain that any of these scores predicts" in said or "do not predict recognition errors" in said
    assert "The reference names no layer" in said
    assert found.about["layer"] in said


def test_pairs_of_other_images_rank_nothing(
    make: Make, calibrated: Calibrated, tmp_path: Path, capsys: Capture
) -> None:
    run = make("loss", embeddings=False)
    paths = [str(path) for path in open_run(run).scores["path"][:40]]
    rows = [("a", "b", "genuine", "similarity")]
    random = np.random.default_rng(2)
    for number in range(400):
        other = paths[number % 40] if number < 20 else f"elsewhere/{number}.png"
        rows.append((paths[(number + 1) % 40], other, str(number % 2), f"{random.random():.6f}"))
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = calibrated(run, "--pairs", tmp_path / "pairs.csv")
    assert found.layer is None
    assert "comparisons are of samples without a score: these are the pairs of other images" in capsys.readouterr().err


def test_a_norm_that_predicts_better_is_told(make: Make, calibrated: Calibrated, capsys: Capture) -> None:
    for run, better in ((make("image", "embedding_norm", certain=0.8), True), (make("image"), False)):
        found = calibrated(run)
        assert found.layer == "image"
        assert (found.ranking[0]["quality"] == "embedding_norm") is better
        assert ("The length of the embedding predicts them better by" in capsys.readouterr().out) is better
    found = calibrated(make("embedding_norm"), "--layer", "embedding_norm")
    assert found.layer == "embedding_norm"
    assert found.about["layer"] == "by hand"
    assert "quality is that of embedding_norm, as asked for" in capsys.readouterr().out


def test_a_layer_chosen_by_hand_is_warned_of(make: Make, calibrated: Calibrated, capsys: Capture) -> None:
    run = make("loss")
    assert calibrated(run, "--layer", "image").layer == "image"
    assert "image is taken as asked for, and is not shown to predict errors" in capsys.readouterr().err
    assert calibrated(run, "--layer", "loss").layer == "loss"
    assert "not shown" not in capsys.readouterr().err
    assert calibrated(run, "--bootstrap", 0).layer is None
    assert "without --bootstrap nothing says" in capsys.readouterr().err
    refused(capsys, "calibrate", run, "--output", "x.json", "--layer", "mine")
    assert "the run has no scores of it: it has image, loss" in refused(
        capsys, "calibrate", run, "--output", "x.json", "--layer", "block2"
    )


def test_without_embeddings_there_are_distributions_alone(make: Make, calibrated: Calibrated, capsys: Capture) -> None:
    run = make("loss", embeddings=False)
    found = calibrated(run)
    assert (found.layer, found.ranking, list(found.distributions)) == (None, [], ["image", "loss"])
    assert found.holds_for["flip"] is None
    said = capsys.readouterr().err
    assert "it is not known which score predicts errors: the run has no embeddings: make it with --embeddings" in said
    assert calibrated(run, "--layer", "loss").layer == "loss"
    assert "nothing says whether loss predicts errors" in capsys.readouterr().err


def test_people_with_one_image_or_without_errors_are_not_ranked(
    make: Make, calibrated: Calibrated, capsys: Capture
) -> None:
    for run, more, why in (
        (make(each=1), (), "no identity has two samples"),
        (make("image", people=1, each=40), (), "there is one identity"),
        (make("loss", blur=0.3), (), "0 of 240 genuine comparisons fail at FMR 0.1, too few to tell"),
    ):
        found = calibrated(run, *more)
        assert found.layer is None
        assert not any(row["predicts"] for row in found.ranking)
        assert why in capsys.readouterr().err


def test_pairs_rank_with_another_protocol(make: Make, calibrated: Calibrated, tmp_path: Path, capsys: Capture) -> None:
    run = make("loss", embeddings=False)
    scores = open_run(run).scores
    random = np.random.default_rng(1)
    rows: list[tuple[object, ...]] = [("a", "b", "genuine", "similarity")]
    for a, b in combinations(scores, 2):
        same = a["identity"] == b["identity"]
        rows.append((a["path"], b["path"], int(same), same - same * (max(a["loss"], b["loss"]) - 20) + random.random()))
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    more = ["--pairs", tmp_path / "pairs.csv", "--protocol", "rethreshold", "--x-max", 0.2, "--seed", 3]
    found = calibrated(run, *more)
    assert found.ranking[0]["quality"] == "loss"
    stated = found.about
    assert (stated["protocol"], stated["x_max"], stated["seed"], stated["fmr"]) == ("rethreshold", 0.2, 3, 0.1)
    assert "pairs.csv" in stated["comparisons"]
    (tmp_path / "pairs.csv").write_text("nonsense\n")
    refused(capsys, "calibrate", run, "--output", tmp_path / "x.json", "--pairs", tmp_path / "pairs.csv")
    assert not (tmp_path / "x.json").exists()


def test_few_images_are_warned_of_or_refused(make: Make, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "reference.json"
    assert main(["calibrate", str(make(embeddings=False)), "--output", str(out)]) == 0
    assert "160 images make a coarse reference" in capsys.readouterr().err
    said = refused(capsys, "calibrate", make("loss", people=19, each=1), "--output", tmp_path / "few.json")
    assert "scores of 19 images, and a reference takes 20 at least" in said


def test_nothing_is_replaced_or_put_where_it_should_not_be(
    make: Make, faces: Path, tmp_path: Path, capsys: Capture
) -> None:
    run, out = make(embeddings=False), tmp_path / "reference.json"
    before = tree(tmp_path)
    out.write_text("notes")
    calls = {
        ("--output", out): "exists already",
        ("--output", out, "--overwrite"): "is not a reference, and --overwrite replaces nothing else",
        ("--output", run / "reference.json"): "lies in the run folder",
        ("--output", faces / "reference.json"): "lies inside the data set",
        ("--output", tmp_path): "is a folder",
        ("--output", out / "reference.json"): "cannot write to",
    }
    for words, why in calls.items():
        said = refused(capsys, "calibrate", run, *words)
        assert why in said
        assert "--output" in said
        assert "--output-dir" not in said
    assert tree(tmp_path) == {**before, "reference.json": b"notes"}
    assert not (faces / "reference.json").exists()
    out.unlink()
    for number in range(2):
        assert main(["calibrate", str(run), "--output", str(out), *["--overwrite"] * number, "--quiet"]) == 0
    refused(capsys, "calibrate", tmp_path / "nothing here", "--output", tmp_path / "x.json")


def test_it_may_hold_however_faces_were_aligned(make: Make) -> None:
    run = make(embeddings=False)
    for given in (False, True):
        path = run.parent / f"{given}.json"
        found = calibrate(CalibrateOptions(run=run, output=path, any_alignment=given, quiet=True))
        assert ("alignment" not in found.holds_for["preprocessing"]) is given
        assert read_reference(path) == found


def test_a_damaged_run_is_refused(make: Make, tmp_path: Path) -> None:
    run = make(embeddings=False)
    table = run / "scores.csv"
    first, second, *others = table.read_text().splitlines()
    table.write_text("\n".join([first, second.rpartition(",")[0] + ",nan", *others, ""]))
    with pytest.raises(RequestError, match="is damaged"):
        calibrate(CalibrateOptions(run=run, output=tmp_path / "reference.json"))
    assert not (tmp_path / "reference.json").exists()


def test_the_file_is_json_that_others_can_read(make: Make, calibrated: Calibrated, tmp_path: Path) -> None:
    calibrated(make("loss"))
    document = json.loads((tmp_path / "out" / "reference.json").read_text())
    assert document["format"] == 1
    assert len(document["distributions"]["loss"]["quantiles"]) == 1001
