"""Runs, compared: what they share, on which scale they are, and what is refused or warned of."""

from __future__ import annotations

import json
import math
import os
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grafiqs import RequestError
from grafiqs.cli import main
from grafiqs.compare import CompareOptions, Comparison, compare
from grafiqs.comparison.written import lines
from grafiqs.run import manifest as manifests
from grafiqs.run.manifest import Manifest
from support.made_runs import Scores, write_run

pytestmark = pytest.mark.usefixtures("one_thread")

Make = Callable[..., Path]
LAYERS = ("block2", "block4")


@pytest.fixture(scope="module")
def real(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two real runs, of the seeds 1 and 2; read only."""
    folder = tmp_path_factory.mktemp("sweep")
    for seed in ("1", "2"):
        more = ["--layers", ",".join(LAYERS), "--no-dump-gradients", "--samples-per-identity", "3"]
        paths = ["--image-path", str(faces), "--weights", str(weights), "--output-dir", str(folder / f"seed{seed}")]
        assert main(["extract", *paths, *more, "--random-seed", seed, "--device", "cpu", "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def like(real: Path) -> Manifest:
    return manifests.read(real / "seed1")


@pytest.fixture
def make(like: Manifest, tmp_path: Path) -> Make:
    def made(name: str, scores: Scores, **changes: object) -> Path:
        return write_run(tmp_path / name, like, scores, **changes)  # type: ignore[arg-type]

    return made


def found(*runs: object, output: Path = Path("comparison")) -> Comparison:
    return compare(CompareOptions(runs=tuple(map(str, runs)), output_dir=output))


def samples(people: int, each: int, seed: int = 0, first: int = 0) -> dict[str, list[float]]:
    random = np.random.default_rng(seed)
    return {
        f"p{one}/{number}.png": random.lognormal(0, 1, len(LAYERS)).tolist()
        for one in range(first, first + people)
        for number in range(each)
    }


def printed(result: Comparison) -> str:
    return "\n".join(lines(result))


# -- what is computed ------------------------------------------------------------------------------------------


def test_two_seeds_from_the_command_to_the_files(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    assert main(["compare", str(real / "seed1"), str(real / "seed2"), "--output-dir", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "seed1, seed2    3 (1.00)  6 (0.50)" in said.out
    assert "the same scores in all of them, to the bit" in said.out
    assert "of their identities and 50% of their samples: they are not" in said.out
    assert max(map(len, said.out.splitlines())) <= 100 + len(str(out))
    assert sorted(os.listdir(out)) == ["compare.json", "compare.png", "compare.svg"]
    document = json.loads((out / "compare.json").read_bytes())
    assert document["format"] == 1
    assert [row["sample_seed"] for row in document["runs"]] == [1, 2]
    assert [row["identity_seed"] for row in document["runs"]] == [None, None]
    [network] = document["networks"]
    assert (network["runs"], network["differ"]) == (["seed1", "seed2"], {})
    assert {(row["correlation"], row["largest_difference"]) for row in document["correlations"]} == {(1.0, 0.0)}
    before = (out / "compare.png").read_bytes(), (out / "compare.json").read_bytes()
    assert main(["compare", str(real / "seed1"), str(real / "seed2"), "--output-dir", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert ((out / "compare.png").read_bytes(), (out / "compare.json").read_bytes()) == before


def test_a_folder_of_runs_is_its_runs(real: Path, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "grafiqs")
    one = found(real)
    assert [row["run"] for row in one.runs] == ["seed1", "seed2"]
    assert f"{real}: 2 runs, seed1, seed2" in caplog.text
    make("several/run", samples(2, 2))
    (tmp_path / "several" / "notes").mkdir()
    two = found(f"sweep={real}", tmp_path / "several")
    assert [row["run"] for row in two.runs] == ["sweep/seed1", "sweep/seed2", "several/run"]
    assert f"{tmp_path / 'several'}: 1 run, run; other folders there, which are no runs: 1" in caplog.text


def test_overlap_and_statistics_by_hand(make: Make) -> None:
    one = {"a/0.png": [1.0, 1.0], "a/1.png": [3.0, 1.0], "b/0.png": [5.0, 1.0], "b/1.png": [7.0, 1.0]}
    other = {"b/0.png": [5.0, 1.0], "b/1.png": [7.0, 1.0], "c/0.png": [9.0, 2.0], "c/1.png": None}
    result = found(make("one", one), make("other", other))
    [pair] = result.pairs
    assert (pair["identities"], pair["identities_jaccard"]) == (1, 1 / 3)
    assert (pair["samples"], pair["samples_jaccard"], pair["scored"]) == (2, 2 / 6, 2)
    assert (pair["same_subset"], pair["same_network"], pair["other_images"]) == (False, True, 0)
    assert [row["failed"] for row in result.runs] == [0, 1]
    first = result.scores[0]
    assert (first["run"], first["score"], first["n"], first["mean"]) == ("one", "block2", 4, 4.0)
    assert first["between"] == pytest.approx(7 / 9)
    assert [row["distance"] for row in result.distances] == [0.5, pytest.approx(1 / 3)]
    mean = next(row for row in result.over_runs if row["statistic"] == "mean" and row["score"] == "block2")
    assert (mean["runs"], mean["mean"]) == (2, 5.5)
    assert mean["ci_high"] - mean["mean"] == pytest.approx(12.7062047 * 1.5, abs=1e-5)
    [layers, _] = result.layers
    assert math.isnan(layers["correlation"])  # block4 is constant
    document = result.to_json()
    assert document["layers"][0]["correlation"] is None
    json.dumps(document, allow_nan=False)
    assert "1 of 4" not in printed(result)


def test_the_order_of_runs_changes_names_of_pairs_alone(make: Make) -> None:
    runs = [make(f"run{number}", samples(6, 3, number, number)) for number in range(4)]
    one, other = found(*runs), found(*runs[::-1])
    assert one.over_runs == other.over_runs
    assert one.layers_over_runs == other.layers_over_runs
    for name in ("distances", "pairs"):
        values = [
            sorted(
                (*sorted((row["first"], row["second"])), row.get("distance"), row.get("samples"))
                for row in getattr(result, name)
            )
            for result in (one, other)
        ]
        assert values[0] == values[1]


def test_one_run_alone_has_distributions(make: Make) -> None:
    result = found(make("alone", samples(4, 3)))
    assert len(result.scores) == 2
    assert result.pairs == result.distances == result.correlations == []
    said = printed(result)
    assert "take two or more" in said
    assert "median" in said
    assert "Student" not in said


def test_networks_are_compared_by_ranks_on_all_samples_that_they_share(make: Make) -> None:
    scores = samples(5, 4)
    half = dict(list(scores.items())[:10])
    rest = dict(list(scores.items())[8:])
    larger = {path: [1000 * math.exp(a), -b] for path, (a, b) in scores.items()} | {"a/0.png": [1.0, 1.0]}
    result = found(make("half", half), make("rest", rest), make("large", larger, weights_sha256="f" * 64))
    assert [row["runs"] for row in result.networks] == [["half", "rest"], ["large"]]
    assert {(row["first"], row["second"]) for row in result.distances} == {("half", "rest")}
    assert {row["runs"] for row in result.over_runs if row["network"] == 1} == {2}
    both = [(row["first"], row["second"], row["score"], row["n"]) for row in result.between_networks]
    assert both == [(1, 2, "block2", 20), (1, 2, "block4", 20)]
    assert [row["correlation"] for row in result.between_networks] == [1.0, -1.0]
    apart = [row for row in result.correlations if not row["same_network"]]
    assert [row["n"] for row in apart] == [10, 10, 12, 12]
    assert "1 and 2 (20 samples)    1.00   -1.00" in printed(result)


def test_runs_without_a_common_sample_have_no_correlation(make: Make) -> None:
    result = found(make("one", samples(2, 2)), make("two", samples(2, 2, first=5), weights_sha256="f" * 64))
    assert [row["n"] for row in result.between_networks] == [0, 0]
    assert all(math.isnan(row["correlation"]) for row in result.between_networks)
    assert "1 and 2 (0 samples)" in printed(result)


def test_names_are_one_in_either_form_of_unicode(make: Make) -> None:
    name = "Zo\u00eb/\u00e9.png"
    one = make("composed", {name: [1.0, 2.0], "b/0.png": [2.0, 1.0]})
    other = make("decomposed", {unicodedata.normalize("NFD", name): [1.0, 2.0], "b/0.png": [2.0, 1.0]})
    [pair] = found(one, other).pairs
    assert (pair["identities"], pair["samples"], pair["same_subset"]) == (2, 2, True)
    both = {name: [1.0, 2.0], unicodedata.normalize("NFD", name): [3.0, 4.0]}
    [pair] = found(make("both", both), one).pairs
    assert (pair["identities"], pair["samples"]) == (1, 1)


def test_many_runs_are_summed_up(make: Make) -> None:
    runs = [make(f"run{number:02}", samples(2, 2, number)) for number in range(22)]
    said = printed(found(*runs))
    assert "... and 2 more" in said
    assert "231 pairs" in said
    assert "Mean of each run" not in said
    assert max(map(len, said.splitlines())) <= 100


def test_plots_take_single_samples_and_constant_scores(make: Make, tmp_path: Path) -> None:
    plots = pytest.importorskip("grafiqs.comparison.plots", exc_type=ImportError)
    scores: Scores = {"a/0.png": [0.0, 1.0]}
    result = found(make("_$\\none$", scores), make("two", {**scores, "b/0.png": [0.0, 1.0]}, weights_sha256="f" * 64))
    plots.draw(result, tmp_path)
    assert (tmp_path / "compare.svg").read_bytes().startswith(b"<?xml")


# -- what is said ----------------------------------------------------------------------------------------------


def test_runs_that_are_no_replicates_are_warned_of(
    make: Make, like: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    scores = samples(3, 3)
    moved = {**like.data_set, "place": "/elsewhere"}
    fed = {**like.preprocessing, "channel_order": "bgr"}
    other = make("other", {path: [a * 1.5, b] for path, (a, b) in scores.items()}, data_set=moved, preprocessing=fed)
    result = found(make("one", scores), other)
    [network] = result.networks
    assert network["differ"]["channel order"] == {"one": "rgb", "other": "bgr"}
    assert "differ in channel order: rgb (one); bgr (other)" in caplog.text
    assert "differ in data set: " in caplog.text
    assert "one network gave the same images other scores: they differ by up to 0.33 of their size" in caplog.text
    assert "to the bit" not in printed(result)


def test_shared_names_of_other_images_are_warned_of(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    result = found(make("one", samples(3, 3)), make("two", samples(3, 2, 1), images="others"))
    assert result.pairs[0]["other_images"] == 6
    assert "shared samples are other files (SHA-256)" in caplog.text
    assert "up to 6 of 6 (one and two)" in caplog.text
    assert all(math.isnan(row["largest_difference"]) for row in result.correlations)
    assert "same images other scores" not in caplog.text


def test_scores_that_a_run_lacks_are_named(make: Make, like: Manifest, caplog: pytest.LogCaptureFixture) -> None:
    options = {**like.options, "layers": ["block2"]}
    short = replace(like, options=options, layers={"block2": like.layers["block2"]})
    lacking = make(
        "lacking", {path: row[:1] for path, row in samples(2, 2).items()}, options=short.options, layers=short.layers
    )
    result = found(make("one", samples(2, 2)), lacking)
    assert "the score block4 is not in lacking" in caplog.text
    assert [row["score"] for row in result.distances] == ["block2"]
    assert printed(result).count("-\n") == 1  # the mean of block4 of the run that lacks it


# -- what is refused -------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command that is refused says, on one line."""
    assert main(["compare", *map(str, arguments), "--no-plots"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_what_is_no_finished_run_is_refused(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make("run", samples(2, 2))
    (tmp_path / "empty").mkdir()
    assert "is not a run folder" in refused(capsys, run, tmp_path / "empty")
    assert "is not a run folder" in refused(capsys, run, tmp_path / "nothing\nthere")
    (tmp_path / "file").write_bytes(b"x")
    assert "it is not a folder" in refused(capsys, tmp_path / "file")
    half = Path(shutil.copytree(run, tmp_path / "half"))
    (half / "SHA256SUMS").unlink()
    assert "is not finished" in refused(capsys, run, half)
    cut = Path(shutil.copytree(run, tmp_path / "cut"))
    (cut / "scores.csv").write_bytes((cut / "scores.csv").read_bytes()[:-20])
    assert "damaged" in refused(capsys, run, cut)
    wrong = Path(shutil.copytree(run, tmp_path / "wrong"))
    text = (wrong / "scores.csv").read_text().splitlines()
    (wrong / "scores.csv").write_text("\n".join([*text[:-1], text[-1].rsplit(",", 1)[0] + ",nan"]) + "\n")
    assert "scores that no network gives" in refused(capsys, wrong)
    assert "scores that no network gives" in refused(capsys, make("huge", {"a/0.png": [1.0, -1e200]}))
    assert "no sample of the run" in refused(capsys, make("failed", {"a/0.png": None}))
    assert not (tmp_path / "comparison").exists()


def test_runs_of_one_name_and_one_run_twice_are_refused(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = make("a/run", samples(2, 2)), make("b/run", samples(2, 2))
    assert "two RUNS are called run: give one of them a name, as in other=" in refused(capsys, one, other)
    assert [row["run"] for row in found(one, f"other={other}").runs] == ["run", "other"]
    (tmp_path / "link").symlink_to(one)
    assert "are one folder" in refused(capsys, one, tmp_path / "link")
    assert "are one folder" in refused(capsys, tmp_path / "a", f"x={one}")
    assert "is not a name and a path" in refused(capsys, "=")
    with pytest.raises(RequestError, match="nothing to compare"):
        CompareOptions(runs=())


def test_nothing_is_written_into_a_run_or_its_data_set(
    real: Path, faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = real / "seed1"
    before = sorted(os.listdir(run))
    for place in (run, run / "comparison", real / "seed2" / "a" / "b"):
        assert "lies in the run folder" in refused(capsys, run, "--output-dir", place)
    assert "lies inside the data set" in refused(capsys, run, "--output-dir", faces / "comparison")
    assert sorted(os.listdir(run)) == before
    assert not (faces / "comparison").exists()


def test_an_output_that_takes_nothing_is_named(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert "cannot write to" in refused(
        capsys, make("run", samples(2, 2)), "--output-dir", tmp_path / "file", "--quiet"
    )
