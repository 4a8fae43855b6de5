"""Qualities in a run: their columns, the copy of the reference, and what becomes of both when a run is stopped."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grafiqs import open_run
from grafiqs.calibrate import CalibrateOptions, calibrate
from grafiqs.calibration.reference import read_reference
from grafiqs.cli import main
from grafiqs.run import manifest as manifests
from grafiqs.run import sweep as sweeps
from support.commands import Capture, refused
from support.killing import ended
from support.made_runs import write_run
from support.making import rows_of, sealed_again, tree
from support.older import as_earlier

pytestmark = pytest.mark.usefixtures("one_thread")

SCORES = ("image", "block4", "loss")
QUALITIES = ["quality_image", "quality_block4", "quality_loss", "quality_embedding_norm"]


def command(faces: Path, weights: Path, output: Path, *more: object, verb: str = "extract") -> list[str]:
    paths = ["--image-path", faces, "--weights", weights, "--output-dir", output]
    some = ["--layers", ",".join(SCORES), "--samples-per-identity", 4, "--embeddings", "--no-dump-gradients"]
    return [str(word) for word in (verb, *paths, *some, "--device", "cpu", "--quiet", *more)]


@pytest.fixture(scope="module")
def plain(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a reference; read only."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert main(command(faces, weights, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def reference(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of made-up scores around those of that run, with the loss as its layer; read only."""
    folder = tmp_path_factory.mktemp("made")
    run, random = open_run(plain), np.random.default_rng(3)
    size = run.manifest.embedding_size
    scores, vectors = {}, {}
    for number in range(200):
        row = run.scores[number % len(run.scores)]
        scores[f"p/{number}.png"] = [float(row[name] * random.uniform(0.9, 1.1)) for name in SCORES]
        length = row["embedding_norm"] * random.uniform(0.9, 1.1) / size**0.5
        vectors[f"p/{number}.png"] = [float(length)] * size
    made = write_run(folder / "run", run.manifest, scores, embeddings=vectors)
    calibrate(CalibrateOptions(run=made, layer="loss", output=folder / "mine.json", quiet=True))
    return folder / "mine.json"


@pytest.fixture(scope="module")
def finished(faces: Path, weights: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with that reference; read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(command(faces, weights, folder, "--reference", reference)) == 0
    return folder


def test_every_score_has_a_quality_beside_it(finished: Path, plain: Path, reference: Path) -> None:
    known = read_reference(reference)
    rows, before = rows_of(finished / "scores.csv"), rows_of(plain / "scores.csv")
    assert list(rows[0]) == [*before[0], *QUALITIES, "quality"]
    for row, same in zip(rows, before, strict=True):
        assert {name: row[name] for name in same} == same
        for column in QUALITIES:
            name = column.removeprefix("quality_")
            assert row[column] == str(known.quality(name, float(row[name])))
        assert row["quality"] == row["quality_loss"]
    assert len({row["quality"] for row in rows}) > 3
    run = open_run(finished)
    assert run.reference == known
    assert (run.scores["quality"] == [int(row["quality"]) for row in rows]).all()
    assert run.scores["quality"].dtype == np.int64
    assert {name: run.directions[name] for name in (*QUALITIES, "quality")} == dict.fromkeys(
        (*QUALITIES, "quality"), "higher"
    )
    assert "Qualities are from 0 to 100" in run.manifest.better


def test_the_reference_lies_in_the_run_and_is_checked(finished: Path, plain: Path, reference: Path) -> None:
    assert (finished / "reference.json").read_bytes() == reference.read_bytes()
    known = read_reference(reference)
    stated = {"sha256": known.sha256, "layer": "loss", "scores": [*SCORES, "embedding_norm"]}
    assert json.loads((finished / "manifest.json").read_bytes())["reference"] == stated
    assert json.loads((plain / "manifest.json").read_bytes())["reference"] == {}
    assert f"{known.sha256}  reference.json\n" in (finished / "SHA256SUMS").read_text()
    assert main(["verify", str(finished), "--quiet"]) == 0
    texts = [path.name for path in plain.glob("GraFIQs_*.txt")]
    assert texts
    assert all((finished / name).read_bytes() == (plain / name).read_bytes() for name in texts)
    assert {*tree(finished)} == {*tree(plain), "reference.json"}


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(change((run / name).read_text()))


def forged(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        edit(name, change)(run)
        sealed_again(run)

    return damage


def other_quality(text: str) -> str:
    first, *others = text.splitlines()
    return "\n".join([first, *(line.rpartition(",")[0] + ",50" for line in others), ""])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a quality": (edit("scores.csv", other_quality), "scores.csv was changed"),
    "a forged quality": (forged("scores.csv", other_quality), "scores.csv does not say what"),
    "the reference": (edit("reference.json", lambda text: text + "\n"), "reference.json was changed"),
    "a forged reference": (forged("reference.json", lambda text: text + "\n"), "not the reference that manifest.json"),
    "a damaged reference": (forged("reference.json", lambda text: text[:500]), "reference.json is damaged"),
    "a reference that is gone": (
        lambda run: (run / "reference.json").unlink(),
        "reference.json was removed since the run finished",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_changed_is_found(name: str, finished: Path, tmp_path: Path, capsys: Capture) -> None:
    damage, said = DAMAGE[name]
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    damage(run)
    assert main(["verify", str(run), "--quiet"]) == 1
    assert said in capsys.readouterr().err


def test_a_reference_without_a_layer_or_of_fewer_scores(
    faces: Path, weights: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    document = json.loads(reference.read_bytes())
    for name in ("directions", "distributions"):
        del document[name]["block4"]
    (tmp_path / "less.json").write_text(json.dumps({**document, "layer": None}))
    assert main(command(faces, weights, tmp_path / "run", "--reference", tmp_path / "less.json")) == 0
    assert "no scores of block4: they get no quality" in capsys.readouterr().err
    columns = list(rows_of(tmp_path / "run" / "scores.csv")[0])
    assert columns[7:] == ["quality_image", "quality_loss", "quality_embedding_norm"]
    assert main(["verify", str(tmp_path / "run"), "--quiet"]) == 0

    alone = command(faces, weights, tmp_path / "alone", "--reference", reference)
    alone[alone.index("--layers") + 1] = "image"
    assert main(alone) == 0
    assert (
        "the reference's layer is loss, which is not a score here: there is no single quality"
        in capsys.readouterr().err
    )
    assert list(rows_of(tmp_path / "alone" / "scores.csv")[0])[3:] == [
        *("image", "embedding_norm", "quality_image", "quality_embedding_norm")
    ]
    other = command(faces, weights, tmp_path / "other", "--reference", tmp_path / "less.json")
    other[other.index("--layers") + 1] = "block4"
    other.remove("--embeddings")
    assert "give --layers that both have" in refused(capsys, *other)
    assert not (tmp_path / "other").exists()


def test_a_reference_that_does_not_hold_is_refused_at_once(
    faces: Path, weights: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    for more, said in (
        (("--channel-order", "bgr"), "preprocessing.channel_order: rgb in the reference, bgr here"),
        (("--norms", "all"), "norms: maps in the reference, all here"),
        (("--flip",), "flip: False in the reference, True here"),
    ):
        capsys.readouterr()
        assert main(command(faces, weights, tmp_path / "run", "--reference", reference, *more)) == 2
        assert f"  - {said}" in capsys.readouterr().err
    refused(capsys, *command(faces, weights, tmp_path / "run", "--reference", tmp_path / "gone.json"))
    refused(capsys, *command(faces, weights, tmp_path / "run", "--reference", weights))
    assert list(tmp_path.iterdir()) == []


def test_another_reference_makes_another_run(
    finished: Path, plain: Path, faces: Path, weights: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = tree(run)
    assert main(command(faces, weights, run, "--reference", reference)) == 0
    assert tree(run) == before
    (tmp_path / "other.json").write_bytes(reference.read_bytes() + b"\n")
    for given, said in (((), "None asked for"), (("--reference", tmp_path / "other.json"), "reference.sha256")):
        assert main(command(faces, weights, run, *given)) == 2
        said_now = capsys.readouterr().err
        assert said in said_now
        assert "holds another run" in said_now
    assert tree(run) == before
    assert main(command(faces, weights, run, "--overwrite")) == 0
    assert tree(run) == tree(plain)
    assert main(command(faces, weights, run, "--reference", reference, "--overwrite")) == 0
    assert tree(run) == before


def test_a_run_of_format_7_is_read_verified_and_resumed(
    plain: Path, faces: Path, weights: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = as_earlier(Path(shutil.copytree(plain, tmp_path / "run")), 7)
    assert open_run(run).reference is None
    assert main(["verify", str(run), "--quiet"]) == 0
    before = tree(run)
    assert main(command(faces, weights, run)) == 0
    assert tree(run) == before
    assert "reference.sha256: None in the folder" in (
        str(main(command(faces, weights, run, "--reference", reference))) + capsys.readouterr().err
    )
    assert manifests.read(run).differences(manifests.read(plain)) == []


@pytest.mark.parametrize("stop", ["rename reference.json.part", "rename SHA256SUMS.part"])
def test_a_kill_loses_nothing(
    stop: str, finished: Path, faces: Path, weights: Path, reference: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = command(faces, weights, run, "--reference", reference)
    assert ended(words, run, stop) == -signal.SIGKILL
    assert main(words) == 0
    assert tree(run) == tree(finished)


def test_a_sweep_gives_each_run_its_copy(
    faces: Path, weights: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    def swept(*more: object) -> list[str]:
        return command(faces, weights, tmp_path / "sweep", "--random-seeds", "1,2", *more, verb="sweep")

    assert main(swept("--reference", reference)) == 0
    for name in ("samples-1", "samples-2"):
        run = tmp_path / "sweep" / name
        assert (run / "reference.json").read_bytes() == reference.read_bytes()
        assert open_run(run).scores["quality"].max() <= 100
    assert main(["verify", str(tmp_path / "sweep"), "--quiet"]) == 0
    before = tree(tmp_path / "sweep")
    assert main(swept()) == 2
    assert "reference.sha256" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "sweep" / "samples-2")
    assert main(swept("--reference", reference)) == 0
    assert tree(tmp_path / "sweep") == before

    document = json.loads((tmp_path / "sweep" / "sweep.json").read_bytes())
    del document["shared"]["reference"]  # as earlier versions wrote it
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(document))
    assert sweeps.read(tmp_path / "sweep").shared["reference"] == {}
    assert main(swept()) == 2
    assert "holds another run" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(
    faces: Path, weights: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grafiqs.estimate.images_per_second", lambda *_arguments, **_named: 9.0)
    words = command(faces, weights, tmp_path / "run", "--reference", reference, "--dry-run")
    words.remove("--quiet")
    assert main(words) == 0
    assert list(tmp_path.iterdir()) == []


# -- evaluate and compare ------------------------------------------------------------------------------------


def evaluated(run: Path, folder: Path, *more: object) -> dict[str, Any]:
    words = ["evaluate", run, "--output-dir", folder, "--no-plots", "--bootstrap", 0, "--fmr", 0.2, *more]
    assert main(list(map(str, words))) == 0
    found: dict[str, Any] = json.loads((folder / "edc.json").read_bytes())
    return found


def test_an_evaluation_leaves_qualities_out_and_names_that_of_the_threshold(
    finished: Path, plain: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    found = evaluated(finished, tmp_path / "own")
    said = capsys.readouterr().out
    assert [method["quality"] for method in found["methods"]] == [*SCORES, "embedding_norm", "random"]
    assert "Left out, as they are the same scores, rounded (--methods takes them): quality_image" in said
    assert ", q " in said
    known = read_reference(reference)
    for point in found["operating_points"]:
        limit, name = point["score_threshold"], point["quality"]
        assert point["quality_threshold"] == (None if limit is None or name == "random" else known.quality(name, limit))
    assert any(point["quality_threshold"] for point in found["operating_points"])

    without = evaluated(plain, tmp_path / "none")
    assert {point["quality_threshold"] for point in without["operating_points"]} == {None}
    assert ", q " not in capsys.readouterr().out
    given = evaluated(plain, tmp_path / "given", "--reference", reference)
    assert given["operating_points"] == found["operating_points"]

    asked = evaluated(finished, tmp_path / "asked", "--methods", "loss,quality")
    assert [method["quality"] for method in asked["methods"]] == ["loss", "quality"]
    shutil.copy(finished / "scores.csv", tmp_path / "scores.csv")  # without its run
    embeddings = ("--embeddings", finished / "embeddings.npy")
    alone = evaluated(tmp_path / "scores.csv", tmp_path / "alone", *embeddings)
    assert [method["quality"] for method in alone["methods"]] == [*SCORES, "embedding_norm", "random"]
    table = ("evaluate", tmp_path / "scores.csv", "--output-dir", tmp_path / "x", "--no-plots", *embeddings)
    assert "no run is among the SCORES" in refused(capsys, *table, "--reference", reference)


def test_an_evaluation_or_a_comparison_refuses_a_reference_of_others(
    plain: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "other.json"
    other.write_text(reference.read_text().replace('"norms": "maps"', '"norms": "all"'))
    for verb in ("evaluate", "compare"):
        words = [verb, plain, "--output-dir", tmp_path / "out", "--no-plots", "--reference", other]
        assert main(list(map(str, words))) == 2
        assert "norms: all in the reference, maps here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_comparison_gives_qualities_by_the_reference_that_holds(
    finished: Path, plain: Path, reference: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "other.json"
    other.write_text(reference.read_text().replace('"norms": "maps"', '"norms": "all"'))

    def compared(*more: object) -> dict[str, dict[str, Any]]:
        words = [
            "compare",
            f"with={finished}",
            f"without={plain}",
            "--output-dir",
            tmp_path / "out",
            "--no-plots",
            *more,
        ]
        assert main(list(map(str, words))) == 0
        document = json.loads((tmp_path / "out" / "compare.json").read_bytes())
        assert not [row for row in document["layers"] if "quality" in row["first"]]
        return {
            run: {row["score"]: row for row in document["scores"] if row["run"] == run} for run in ("with", "without")
        }

    found = compared()
    assert {*found["with"]} == {*SCORES, "embedding_norm", *QUALITIES, "quality"}
    assert {*found["without"]} == {*SCORES, "embedding_norm"}
    assert "runs of one network differ in reference" in capsys.readouterr().err
    found = compared("--reference", f"{other},{reference}")
    assert found["with"].keys() == found["without"].keys()
    assert (
        found["with"]["quality"]["mean"]
        == found["without"]["quality"]["mean"]
        == open_run(finished).scores["quality"].mean()
    )
    assert "differ in reference" not in capsys.readouterr().err
