"""The verb: what it reads, in every form; what it finds, against a plain computation; and what it refuses."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grafiqs import open_run
from grafiqs.cli import main
from grafiqs.evaluation.edc import edc
from grafiqs.evaluation.names import Names
from grafiqs.evaluation.pairs import impostor_ring

pytestmark = pytest.mark.usefixtures("one_thread")

Evaluated = Callable[..., dict[str, Any]]

STEPS = ("discarded", "error_rate", "score_threshold")


@pytest.fixture(scope="module")
def run(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all faces, one of which cannot be read, with embeddings."""
    root = tmp_path_factory.mktemp("flawed") / "faces"
    shutil.copytree(faces, root)
    (root / "bob" / "9.png").write_bytes(b"no image")
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    paths = ["--image-path", str(root), "--weights", str(weights), "--output-dir", str(folder)]
    options = ["--layers", "image,block4,loss", "--embeddings", "--no-dump-gradients", "--device", "cpu", "--quiet"]
    assert main(["extract", *paths, *options]) == 1
    return folder


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluated:
    """What edc.json holds after the command."""

    def command(*arguments: object, code: int = 0) -> dict[str, Any]:
        out = tmp_path / "out"
        words = ["evaluate", *map(str, arguments), "--output-dir", str(out), "--no-plots", "--bootstrap", "20"]
        assert main(words) == code
        return json.loads((out / "edc.json").read_bytes()) if code == 0 else {}

    return command


def names(document: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["quality"] for row in document["results"]))


def all_pairs(run: Path) -> list[tuple[str, str, bool]]:
    scores = open_run(run).scores
    return [(a["path"], b["path"], a["identity"] == b["identity"]) for a, b in combinations(scores, 2)]


def cosines(run: Path, pairs: Sequence[tuple[str, str, bool]]) -> list[float]:
    opened = open_run(run)
    unit = opened.embeddings / np.linalg.norm(opened.embeddings.astype(float), axis=1, keepdims=True)
    rows = {path: row for row, path in enumerate(opened.scores["path"])}
    return [float(unit[rows[a]] @ unit[rows[b]]) for a, b, _ in pairs]


def written(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return path


def test_a_run_is_evaluated_by_its_own_embeddings_on_given_pairs(
    run: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    pairs = all_pairs(run)
    table = written(tmp_path / "pairs.csv", [("a", "b", "genuine"), *((a, b, int(same)) for a, b, same in pairs)])
    found = evaluated(run, "--pairs", table, "--fmr", "0.1,0.3")
    assert names(found) == ["image", "block4", "loss", "embedding_norm", "random"]
    opened = open_run(run)
    rows = {path: row for row, path in enumerate(opened.scores["path"])}
    alike, same = cosines(run, pairs), [genuine for _, _, genuine in pairs]
    for row in found["results"]:
        if row["quality"] == "random":
            continue
        both = [[opened.scores[row["quality"]][rows[path]] for path in pair[:2]] for pair in pairs]
        curve = edc(alike, same, both, fmr=row["fmr"], error=row["error"], direction=opened.directions[row["quality"]])
        assert row["pauc"] == pytest.approx(curve.area(row["x_max"]), rel=1e-9)
        assert row["threshold"] == pytest.approx(curve.threshold, abs=1e-6)
        assert (row["n_genuine"], row["n_impostor"]) == (sum(same), len(same) - sum(same))
    twice = evaluated(run, "--pairs", table, "--fmr", "0.1,0.3")
    assert twice == found


@pytest.mark.parametrize("form", ["csv with similarity", "lines", "swapped", "full paths", "no extension", "tsv"])
def test_pairs_in_other_forms_give_the_same(run: Path, evaluated: Evaluated, tmp_path: Path, form: str) -> None:
    pairs = all_pairs(run)
    plain = written(tmp_path / "plain.csv", [("a", "b", "genuine"), *((a, b, int(same)) for a, b, same in pairs)])
    rows: list[Sequence[object]]
    delimiter = ","
    if form == "csv with similarity":
        alike = cosines(run, pairs)
        rows = [("b", "similarity", "a", "same")]
        rows += [(b, f"{s:.17g}", a, same) for (a, b, same), s in zip(pairs, alike, strict=True)]
    elif form == "lines":
        rows, delimiter = [(a, b, int(same)) for a, b, same in pairs], " "
    elif form == "swapped":
        rows = [("a", "b", "genuine"), *((b, a, int(same)) for a, b, same in pairs)]
    elif form == "full paths":
        rows = [("a", "b", "genuine"), *((f"/data/faces/{a}", f"/data/faces/{b}", int(s)) for a, b, s in pairs)]
    elif form == "no extension":
        rows = [("path1", "path2", "label"), *((a[:-4], b[:-4], int(same)) for a, b, same in pairs)]
    else:
        rows, delimiter = [("A", "B", "Genuine"), *((a, b, same) for a, b, same in pairs)], "\t"
    other = written(tmp_path / "other.txt", rows, delimiter)
    expected = evaluated(run, "--pairs", plain, "--fmr", "0.2")
    found = evaluated(run, "--pairs", other, "--fmr", "0.2")
    for one, two in zip(found["results"], expected["results"], strict=True):
        assert one["pauc"] == pytest.approx(two["pauc"], rel=1e-9, nan_ok=True)
        assert one["n_genuine"] == two["n_genuine"]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_the_pairs_of_lfw_in_both_line_forms(
    separator: str, evaluated: Evaluated, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ten folds of a genuine and an impostor pair: the header says 10 and how many."""
    people = [f"Person_{number}" for number in range(12)]
    scores = [
        (f"{name}/{name}_{sample:04d}.jpg", number + sample) for number, name in enumerate(people) for sample in (1, 2)
    ]
    table = written(tmp_path / "scores.txt", scores, " ")
    lines: list[tuple[str, ...]] = [("10", "1")]
    for name, other in pairwise(people[:11]):
        lines += [(name, "1", "2"), (name, "2", other, "1")]
    pairs = written(tmp_path / "pairs.txt", lines, separator)
    embeddings = tmp_path / "embeddings.npy"
    np.save(embeddings, np.random.default_rng(1).normal(size=(24, 8)).astype(np.float32))
    options = ["--direction", "higher", "--embeddings", embeddings, "--fmr", "0.1"]
    found = evaluated(table, "--pairs", pairs, *options)
    assert (found["results"][0]["n_genuine"], found["results"][0]["n_impostor"]) == (10, 10)
    assert "20 pairs of pairs.txt (LFW's list), 10 genuine" in capfd.readouterr().out


def test_without_pairs_all_genuine_ones_and_as_many_impostors(run: Path, evaluated: Evaluated) -> None:
    found = evaluated(run, "--starting-error", "0.2")
    genuine = sum(same for _, _, same in all_pairs(run))
    assert {(row["n_genuine"], row["n_impostor"]) for row in found["results"]} == {(genuine, genuine)}
    assert {(row["fmr"], row["starting_error"]) for row in found["results"]} == {(None, 0.2)}
    assert evaluated(run, "--starting-error", "0.2", "--seed", "7")["eer"] != found["eer"]


def test_the_impostors_nest_and_do_not_depend_on_order() -> None:
    paths = [f"p{person}/{sample}.png" for person in range(9) for sample in range(4)]
    whose = [path.split("/")[0] for path in paths]
    full = impostor_ring(paths, whose, 3, 200)
    assert len(full) == 200
    assert len({frozenset(pair) for pair in full.tolist()}) == 200
    assert all(whose[a] != whose[b] for a, b in full)
    assert impostor_ring(paths, whose, 3, 50).tolist() == full[:50].tolist()
    order = np.random.default_rng(0).permutation(len(paths))
    mixed = impostor_ring([paths[n] for n in order], [whose[n] for n in order], 3, 200)
    assert [[paths[order[a]], paths[order[b]]] for a, b in mixed] == [[paths[a], paths[b]] for a, b in full]
    every = range(len(paths))
    for others in ([f"/data/{path}" for path in paths], [path.replace(".png", ".jpg") for path in paths]):
        assert Names(others).below(every) == Names(paths).below(every) == [path[:-4] for path in paths]


def test_several_methods_stand_beside_each_other(run: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    """A peer's text file in another order, with a sample too few, and a CSV with two columns of scores."""
    scores = open_run(run).scores
    rows = [(f"faces/{path}", value) for path, value in zip(scores["path"], scores["image"], strict=True)]
    peer = written(tmp_path / "peer.txt", rows[:0:-1], " ")
    both = [("filename", "q", "confidence"), *((path, -value, value) for path, value in rows)]
    table = written(tmp_path / "two.csv", both)
    directions = "peer.txt=lower,t=higher"
    found = evaluated(
        run, peer, f"t={table}", "--direction", directions, "--fmr", "0.2", "--methods", "image,peer.txt,q"
    )
    assert names(found) == ["run/image", "peer.txt", "t/q"]
    by_name = {row["quality"]: row for row in found["results"] if row["error"] == "fnmr" and row["x_max"] == 0.3}
    assert by_name["t/q"]["pauc"] == by_name["run/image"]["pauc"]  # the same order, said the other way round
    assert by_name["t/q"]["n_without_score"] == 0
    genuine = sum(same and scores["path"][0] in (a, b) for a, b, same in all_pairs(run))
    assert by_name["peer.txt"]["n_without_score"] == genuine
    pair = [row for row in found["differences"] if {row["first"], row["second"]} == {"run/image", "t/q"}]
    assert {(row["difference"], row["ci_low"], row["ci_high"]) for row in pair} == {(0, 0, 0)}


def test_a_scores_csv_is_that_of_its_run_or_knows_its_directions(
    run: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    expected = evaluated(run, "--fmr", "0.2")["results"]
    assert evaluated(run / "scores.csv", "--fmr", "0.2")["results"] == expected
    alone = shutil.copy(run / "scores.csv", tmp_path / "alone.csv")
    found = evaluated(alone, "--embeddings", run / "embeddings.npy", "--fmr", "0.2")
    assert {row["quality"]: row["direction"] for row in found["methods"]} == {
        "image": "lower",
        "block4": "lower",
        "loss": "lower",
        "embedding_norm": "higher",
        "random": "higher",
    }
    assert [row["pauc"] for row in found["results"]] == [row["pauc"] for row in expected]


def test_a_monotone_change_of_scores_changes_nothing_but_thresholds(
    run: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    scores = open_run(run).scores
    plain = written(
        tmp_path / "s.txt", [(path, value) for path, value in zip(scores["path"], scores["loss"], strict=True)], " "
    )
    other = written(
        tmp_path / "t.txt",
        [(path, -math.exp(value / 100)) for path, value in zip(scores["path"], scores["loss"], strict=True)],
        " ",
    )
    options = ["--embeddings", run / "embeddings.npy", "--starting-error", "0.3", "--pairs"]
    pairs = written(tmp_path / "p.csv", [("a", "b", "genuine"), *((a, b, int(c)) for a, b, c in all_pairs(run))])
    one = evaluated(f"m={plain}", "--direction", "lower", *options, pairs)
    two = evaluated(f"m={other}", "--direction", "higher", *options, pairs)
    assert one["results"] == two["results"]
    for first, second in zip(one["curves"], two["curves"], strict=True):
        limits = [first.pop("worst"), *first.pop("score_threshold")]
        others = [second.pop("worst"), *second.pop("score_threshold")]
        assert first == second
        for limit, other in zip(limits, others, strict=True):
            expected = -math.exp(limit / 100) if first["quality"] == "m" and limit is not None else limit
            assert other == (expected if expected is None else pytest.approx(expected))
    for first, second in zip(one["operating_points"], two["operating_points"], strict=True):
        assert first["fnmr"] == second["fnmr"]
        if first["quality"] == "m" and first["score_threshold"] is not None:
            assert second["score_threshold"] == pytest.approx(-math.exp(first["score_threshold"] / 100))


def test_an_operating_point_is_what_discarding_at_it_leaves(run: Path, evaluated: Evaluated) -> None:
    found = evaluated(run, "--starting-error", "0.3")
    opened = open_run(run)
    rows = {path: row for row, path in enumerate(opened.scores["path"])}
    pairs = [pair for pair in all_pairs(run) if pair[2]]
    alike = np.array(cosines(run, pairs))
    limit = np.quantile(alike, 0.3)
    for point in found["operating_points"]:
        if point["quality"] == "loss" and point["score_threshold"] is not None:
            worst = np.array([max(opened.scores["loss"][rows[path]] for path in pair[:2]) for pair in pairs])
            kept = worst <= point["score_threshold"]
            assert 1 - kept.mean() == pytest.approx(point["discarded"])
            assert (alike[kept] < limit).mean() == pytest.approx(point["fnmr"])


@pytest.mark.parametrize(("column", "error"), [*product(("loss", "embedding_norm"), ("fnmr", "fmr"))])
def test_a_step_of_a_curve_is_what_discarding_at_its_score_leaves(
    column: str, error: str, run: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    opened, pairs = open_run(run), all_pairs(run)
    rows = {path: row for row, path in enumerate(opened.scores["path"])}
    table = written(tmp_path / "p.csv", [("a", "b", "genuine"), *((a, b, int(c)) for a, b, c in pairs)])
    found = evaluated(run, "--starting-error", "0.3", "--pairs", table)
    alike, same = np.array(cosines(run, pairs)), np.array([genuine for _, _, genuine in pairs])
    both = np.array([[opened.scores[column][rows[path]] for path in pair[:2]] for pair in pairs])
    (limit,) = {row["threshold"] for row in found["results"]}
    (curve,) = (row for row in found["curves"] if (row["quality"], row["error"]) == (column, error))
    counted = both[same if error == "fnmr" else ~same]
    assert curve["worst"] == (counted.max() if column == "loss" else counted.min())
    assert curve["score_threshold"][0] is None
    assert len(curve["score_threshold"]) == len(curve["discarded"]) == len(curve["error_rate"]) > 5
    for discarded, rate, score in zip(*(curve[name][1:] for name in STEPS), strict=True):
        kept = (both <= score).all(axis=1) if column == "loss" else (both >= score).all(axis=1)
        own = kept & (same if error == "fnmr" else ~same)
        assert 1 - own.sum() / (same if error == "fnmr" else ~same).sum() == pytest.approx(discarded)
        wrong = alike < limit - 1e-9 if error == "fnmr" else alike >= limit - 1e-9
        assert wrong[own].mean() == pytest.approx(rate)


@pytest.mark.parametrize("most", [1000, 7])
def test_an_operating_point_and_its_step_have_one_score(
    most: int, run: Path, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grafiqs.evaluate._STEPS", most)
    found = evaluated(run, "--starting-error", "0.3")
    steps = {
        (row["quality"], discarded): (rate, score)
        for row in found["curves"]
        if row["error"] == "fnmr"
        for discarded, rate, score in zip(*(row[name] for name in STEPS), strict=True)
    }
    held = [
        steps[point["quality"], point["discarded"]] == (point["fnmr"], point["score_threshold"])
        for point in found["operating_points"]
        if (point["quality"], point["discarded"]) in steps
    ]
    assert all(held)
    assert len(held) == len(found["operating_points"]) if most == 1000 else len(held) > 5
    if most == 7:
        assert max(len(row["discarded"]) for row in found["curves"]) <= 8


def test_a_threshold_that_moves_has_no_scores(run: Path, evaluated: Evaluated) -> None:
    found = evaluated(run, "--starting-error", "0.3", "--protocol", "rethreshold")
    assert {row["score_threshold"] for row in found["curves"]} == {None}
    assert any(point["score_threshold"] is not None for point in found["operating_points"])


def test_the_runs_are_told_by_their_contents_and_their_methods(run: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    opened = open_run(run)
    (own,) = evaluated(run, "--fmr", "0.2")["runs"]
    assert own == {
        "name": "run",
        "prefix": "",
        "folder": str(run),
        "subset_sha256": opened.manifest.subset.sha256,
        "weights_sha256": opened.manifest.weights_sha256,
        "scores_sha256": hashlib.sha256((run / "scores.csv").read_bytes()).hexdigest(),
        "scores": ["image", "block4", "loss", "embedding_norm"],
    }
    table = written(tmp_path / "t.csv", [("path", "q"), *((path, 1) for path in opened.scores["path"])])
    for words, prefix, scores in (
        ([run / "scores.csv"], "", own["scores"]),
        ([f"mine={run}"], "mine/", own["scores"]),
        ([run, f"t={table}", "--direction", "t=lower", "--methods", "loss,t"], "run/", ["loss"]),
    ):
        found = evaluated(*words, "--fmr", "0.2")
        (one,) = found["runs"]
        name = prefix.removesuffix("/") or "scores.csv"
        assert one == {**own, "name": name, "prefix": prefix, "scores": scores}
        assert {prefix + score for score in scores} <= {method["quality"] for method in found["methods"]}
    two = evaluated(f"a={run}", f"b={run}", "--fmr", "0.2", "--methods", "a/image,b/loss")["runs"]
    assert [(each["prefix"], each["scores"]) for each in two] == [("a/", ["image"]), ("b/", ["loss"])]
    shutil.copy(run / "scores.csv", tmp_path / "alone.csv")
    alone = evaluated(tmp_path / "alone.csv", "--embeddings", run / "embeddings.npy", "--fmr", "0.2")
    assert alone["runs"] == []


def test_the_calls_load_numpy_alone() -> None:
    program = (
        "import sys; import grafiqs.evaluate, grafiqs.evaluation.written, grafiqs.compare; "
        "print({'torch', 'PIL', 'cv2', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_is_printed_and_written(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the curves are drawn by matplotlib")
    out = tmp_path / "figures"
    command = ["evaluate", str(run), "--output-dir", str(out), "--fmr", "0.2", "--bootstrap", "20"]
    assert main(command) == 0
    said = capfd.readouterr().out
    for line in (
        "Area under the curve",
        "FNMR left when this share",
        "Equal error rate",
        "lower is better: image, block4, loss; higher is better: embedding_norm",
    ):
        assert line in said
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(first) == ["edc.csv", "edc.json", "edc.png", "edc.svg"]
    assert first["edc.png"].startswith(b"\x89PNG")
    assert b"<svg" in first["edc.svg"]
    rows = list(csv.DictReader(first["edc.csv"].decode().splitlines()))
    assert [float(row["pauc"]) for row in rows] == [row["pauc"] for row in json.loads(first["edc.json"])["results"]]
    assert main([*command, "--quiet"]) == 0
    assert capfd.readouterr().out == ""
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_doubtful_comparisons_are_said(
    run: Path, evaluated: Evaluated, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs = all_pairs(run)
    (a, b, same), *_ = pairs
    rows = [
        ("a", "b", "genuine"),
        *((x, y, int(z)) for x, y, z in pairs),
        (b, a, int(same)),
        (a, a, 1),
    ]
    rows[5] = (*pairs[4][:2], 1 - int(pairs[4][2]))
    rows += [("nobody/1.png", a, 0), ("bob/9.png", a, 0)]
    evaluated(run, "--pairs", written(tmp_path / "p.csv", rows), "--fmr", "0.001")
    said = capfd.readouterr().err
    assert "pairs of a sample with itself: 1" in said
    assert "listed more than once, and count each time: 1 too many" in said
    assert "whose label contradicts the identities of the samples: 1; the label counts" in said
    assert "comparisons have a sample without an embedding, and are left out" in said
    assert "impostors cannot resolve an FMR of 0.001" in said


REFUSED: dict[str, tuple[list[str], str]] = {
    "no direction": (["peer.txt"], "does not say whether a lower or a higher score is better"),
    "another direction": (
        ["{run}", "--direction", "run=higher"],
        "--direction names run, which knows it",
    ),
    "a name that is not there": (["{run}", "--direction", "peer=higher"], "the names are run"),
    "an unknown file": (["nothing.txt", "--direction", "lower"], "nothing.txt"),
    "unknown pairs": (["{run}", "--pairs", "nothing.csv"], "cannot read the pairs nothing.csv: No such file"),
    "pairs of others": (["{run}", "--pairs", "others.csv"], "names none of the samples that are known"),
    "no pairs": (["{run}", "--pairs", "empty.csv"], "it is empty"),
    "names of columns alone": (["{run}", "--pairs", "head.csv"], "it has no pair"),
    "similarity that is no number": (["{run}", "--pairs", "nan.csv"], "line 3 has a similarity that is not a number"),
    "similarity in words": (["{run}", "--pairs", "words.csv"], "line 2 has no number for the similarity: 'high'"),
    "another truth": (["{run}", "--pairs", "maybe.csv"], "line 2 says 'maybe' where 1 (genuine) or 0 belongs"),
    "a column too few": (["{run}", "--pairs", "short.csv"], "line 3 has 2 columns instead of 3"),
    "genuine alone": (["{run}", "--pairs", "genuine.csv"], "there are 0 impostor comparisons"),
    "impostors alone": (["{run}", "--pairs", "impostors.csv"], "there is no genuine comparison"),
    "few impostors": (["{run}", "--pairs", "few.csv"], "there are 9 impostor comparisons"),
    "no embeddings": (["peer.txt", "--direction", "lower", "--pairs", "few.csv"], "there are no similarities"),
    "other embeddings": (["{run}", "--embeddings", "three.npy"], "it is to have a row for each of the"),
    "no array": (["{run}", "--embeddings", "few.csv"], "is not an array of embeddings"),
    "pickled embeddings": (["{run}", "--embeddings", "pickled.npy"], "is not an array of embeddings"),
    "two of one name": (["{run}", "{run}"], "two SCORES are called run"),
    "a method that is not there": (["{run}", "--methods", "block9"], "--methods names block9"),
    "a rate beyond": (["{run}", "--fmr", "0.9"], "--fmr"),
    "a rate twice": (["{run}", "--fmr", "0.1,0.1"], "one of them is there twice"),
    "a share of nothing": (["{run}", "--x-max", "0"], "--x-max"),
    "the run as output": (["{run}", "--output-dir", "{run}"], "lies in the run folder"),
    "a file as output": (["{run}", "--output-dir", "few.csv"], "cannot write to few.csv"),
    "two scores of one": (["twice.txt", "--direction", "lower"], "has two scores of"),
    "a score in words": (["words.txt", "--direction", "lower"], "no number where the score stands"),
    "a binary file": (["{run}", "--pairs", "three.npy"], "cannot read the pairs three.npy"),
    "a picture as scores": (["face.png", "--direction", "lower"], "face.png"),
    "whose are they": (["peer.txt", "--direction", "lower"], "which samples are of one identity is not known"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_evaluated_is_refused(
    case: str,
    run: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = all_pairs(run)
    genuine, impostors = ([pair for pair in pairs if pair[2] is same] for same in (True, False))
    (a, b, _), *_ = pairs
    head = ("a", "b", "genuine")
    written(Path("peer.txt"), [(path, 1) for path in open_run(run).scores["path"]], " ")
    written(Path("others.csv"), [head, ("x/1.png", "y/1.png", 1)])
    written(Path("empty.csv"), [])
    written(Path("head.csv"), [head])
    written(Path("nan.csv"), [(*head, "similarity"), (a, b, 1, 0.5), (a, b, 1, "nan")])
    written(Path("words.csv"), [(*head, "similarity"), (a, b, 1, "high")])
    written(Path("maybe.csv"), [head, (a, b, "maybe")])
    written(Path("short.csv"), [head, (a, b, 1), (a, b)])
    written(Path("genuine.csv"), [head, *((x, y, 1) for x, y, _ in genuine)])
    written(Path("impostors.csv"), [head, *((x, y, 0) for x, y, _ in impostors)])
    written(Path("few.csv"), [head, *((x, y, 1) for x, y, _ in genuine), *((x, y, 0) for x, y, _ in impostors[:9])])
    written(Path("twice.txt"), [(a, 1), (b, 2), (a, 3)], " ")
    written(Path("words.txt"), [(a, 1), (b, "good"), (pairs[-1][0], 3)], " ")
    np.save("three.npy", np.zeros((3, 4), np.float32))
    np.save("pickled.npy", np.array([{}], object), allow_pickle=True)
    shutil.copy(next(faces.rglob("*.png")), "face.png")
    words, reason = REFUSED[case]
    command = ["evaluate", *(word.format(run=run) for word in words), "--bootstrap", "0", "--no-plots", "--quiet"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"), *run.rglob("*"))}
    assert main(command) == 2
    said = capfd.readouterr().err
    assert reason in said, said
    assert "Traceback" not in said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"), *run.rglob("*"))} == before


def results(document: dict[str, Any], quality: str) -> list[dict[str, Any]]:
    return [{**row, "quality": ""} for row in document["results"] if row["quality"] == quality]


def test_methods_do_not_depend_on_one_another_or_on_their_order(
    run: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    """The first lacks some samples, the second others: each counts where it is missing, and nowhere else."""
    scores = open_run(run).scores
    rows = [(path, value) for path, value in zip(scores["path"], scores["loss"], strict=True)]
    one, two = written(tmp_path / "one.txt", rows[4:], " "), written(tmp_path / "two.txt", rows[:-3], " ")
    pairs = all_pairs(run)
    table = [(a, b, int(same), alike) for (a, b, same), alike in zip(pairs, cosines(run, pairs), strict=True)]
    common = ["--pairs", written(tmp_path / "p.csv", [("a", "b", "genuine", "similarity"), *table])]
    common += ["--direction", "lower", "--fmr", "0.2"]
    both, swapped = evaluated(one, two, *common), evaluated(two, one, *common)
    for name, path in (("one.txt", one), ("two.txt", two)):
        alone = evaluated(path, *common)
        assert results(both, name) == results(swapped, name) == results(alone, name)
        assert results(alone, name)[0]["n_without_score"] > 0
    assert results(both, "random") == results(swapped, "random")
    assert results(both, "random")[0]["n_without_score"] == 0


def test_intervals_do_not_depend_on_the_order_of_rows(run: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    scores = open_run(run).scores
    rows = [(path, value) for path, value in zip(scores["path"], scores["loss"], strict=True)]
    pairs = all_pairs(run)
    table = [(a, b, int(same), alike) for (a, b, same), alike in zip(pairs, cosines(run, pairs), strict=True)]
    order = np.random.default_rng(3).permutation(len(rows))
    found = []
    for name, own, listed in (("a", rows, table), ("b", [rows[n] for n in order], table[::-1])):
        scored = written(tmp_path / f"{name}.txt", own, " ")
        paired = written(tmp_path / f"{name}.csv", [("a", "b", "genuine", "similarity"), *listed])
        found.append(evaluated(f"m={scored}", "--pairs", paired, "--direction", "lower", "--starting-error", "0.3"))
    assert found[0]["results"] == found[1]["results"]


def test_basenames_are_no_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Thirty people have 0001.jpg, and the scores name it without saying whose."""
    scores = written(tmp_path / "s.txt", [("0001.jpg", 1), ("0002.jpg", 2)], " ")
    rows = [(f"p{n}/0001.jpg", f"p{n}/0002.jpg", 1, 0.9) for n in range(30)]
    rows += [(f"p{n}/0001.jpg", f"p{n + 1}/0002.jpg", 0, 0.1) for n in range(29)]
    pairs = written(tmp_path / "p.csv", [("a", "b", "genuine", "similarity"), *rows])
    assert main(["evaluate", str(scores), "--pairs", str(pairs), "--direction", "lower", "--no-plots"]) == 2
    assert "names none of the samples that are known" in capfd.readouterr().err


def test_folders_may_stand_before_either(run: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    scores = open_run(run).scores
    rows = [(path, value) for path, value in zip(scores["path"], scores["loss"], strict=True)]
    pairs = written(tmp_path / "p.csv", [("a", "b", "genuine"), *((a, b, int(c)) for a, b, c in all_pairs(run))])
    options = ["--direction", "lower", "--embeddings", run / "embeddings.npy", "--fmr", "0.2", "--pairs", pairs]
    expected = results(evaluated(written(tmp_path / "s.txt", rows, " "), *options), "s.txt")
    for before in ("faces", "/data/my faces", "C:\\faces"):
        long = [(f"{before}/{path}", value) for path, value in rows]
        assert results(evaluated(f"m={written(tmp_path / 't.csv', long)}", *options), "m") == expected
    own = evaluated(run / "GraFIQs_loss.txt", *options[2:])  # it knows its direction
    assert results(own, "loss") == expected
    evaluated(run / "GraFIQs_loss.txt", *options, code=2)


@pytest.mark.parametrize("form", ["pandas", "index", "score first", "missing", "semicolons"])
def test_tables_as_others_write_them(run: Path, evaluated: Evaluated, tmp_path: Path, form: str) -> None:
    scores = open_run(run).scores
    rows: list[tuple[Any, ...]] = [(path, value) for path, value in zip(scores["path"], scores["loss"], strict=True)]
    pairs = written(tmp_path / "p.csv", [("a", "b", "genuine"), *((a, b, int(c)) for a, b, c in all_pairs(run))])
    options = ["--direction", "lower", "--embeddings", run / "embeddings.npy", "--fmr", "0.2", "--pairs", pairs]
    table: list[tuple[Any, ...]] = [("path", "q"), *rows]
    if form == "pandas":
        table = [("", "path", "q"), *((n, *row) for n, row in enumerate(rows))]
    elif form == "index":
        table = [("idx", "filename", "q"), *((n, *row) for n, row in enumerate(rows, start=1))]
    elif form == "score first":
        table = [("q", "img"), *(row[::-1] for row in rows)]
    elif form == "missing":
        table[1], table[4] = (rows[0][0], ""), (rows[3][0], "N/A")
    path = written(tmp_path / "q.csv", table, ";" if form == "semicolons" else ",")
    found = evaluated(f"m={path}", *options)
    assert names(found) == ["m", "embedding_norm", "random"]
    expected = evaluated(written(tmp_path / "s.txt", rows, " "), *options)
    if form == "missing":
        assert results(found, "m")[0]["n_without_score"] > 0
    else:
        assert results(found, "m") == results(expected, "s.txt")


def test_a_bin_must_be_that_of_the_run(faces: Path, weights: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    images = [path.read_bytes() for path in sorted(faces.rglob("*.png"))[:16]]
    own, other = tmp_path / "own.bin", tmp_path / "other.bin"
    own.write_bytes(pickle.dumps((images, [True, False] * 4)))
    other.write_bytes(pickle.dumps((images[::-1], [True, False] * 4)))
    run = tmp_path / "run"
    paths = ["--image-path", str(own), "--weights", str(weights), "--output-dir", str(run)]
    assert main(["extract", *paths, "--layers", "loss", "--embeddings", "--device", "cpu", "--quiet"]) == 0
    expected = evaluated(run, "--starting-error", "0.3")
    assert expected["comparisons"] == "8 pairs of the data set, 4 genuine"
    found = evaluated(run, "--pairs", own, "--starting-error", "0.3")
    assert found["results"] == expected["results"]
    evaluated(run, "--pairs", other, "--starting-error", "0.3", code=2)
    evaluated(run / "GraFIQs_loss.txt", "--direction", "lower", "--pairs", own, "--starting-error", "0.3", code=2)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("10", "300"), ("ann", "0", "1")],
            "line 1 says 10 x 300 genuine pairs and as many others, 6,000",
        ),
        ([("a", "b", "genuine"), ("ann/0.png", "ann/1.png", 1), ("ann/1.png", "ann/0.png", 0)], "says of 1 pairs"),
    ],
)
def test_pairs_that_are_cut_off_or_contradict_themselves(
    rows: list[tuple[object, ...]], said: str, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = written(tmp_path / "pairs.txt", rows, "," if len(rows[0]) == 3 else "\t")
    assert main(["evaluate", str(run), "--pairs", str(table), "--no-plots"]) == 2
    assert said in capfd.readouterr().err


def test_reversed_labels_and_few_errors_are_warned_of(
    run: Path, evaluated: Evaluated, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [(a, b, int(same), 0.9 - same / 2 + n / 1000) for n, (a, b, same) in enumerate(all_pairs(run))]
    table = written(tmp_path / "p.csv", [("a", "b", "genuine", "similarity"), *rows])
    evaluated(run, "--pairs", table, "--fmr", "0.1")
    assert "are similarities distances, or labels reversed?" in capfd.readouterr().err
    rows = [(a, b, int(same), same + n / 1000) for n, (a, b, same) in enumerate(all_pairs(run))]
    rows[0] = (*rows[0][:3], -1)
    evaluated(run, "--pairs", written(tmp_path / "q.csv", [("a", "b", "genuine", "similarity"), *rows]), "--fmr", "0.1")
    assert "rounds have no error at one of the thresholds" in capfd.readouterr().err


def test_nothing_is_written_into_a_data_set(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = Path(open_run(run).manifest.data_set["place"])
    assert main(["evaluate", str(run), "--output-dir", str(place / "evaluation"), "--no-plots", "--quiet"]) == 2
    assert "lies inside the data set" in capfd.readouterr().err
    assert not (place / "evaluation").exists()


def test_what_is_missing_is_neither_a_header_nor_an_index_nor_a_person(
    run: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    scores = open_run(run).scores
    rows: list[tuple[Any, ...]] = [(path, value) for path, value in zip(scores["path"], scores["loss"], strict=True)]
    pairs = written(tmp_path / "p.csv", [("a", "b", "genuine"), *((a, b, int(c)) for a, b, c in all_pairs(run))])
    options = ["--direction", "lower", "--embeddings", run / "embeddings.npy", "--fmr", "0.2", "--pairs", pairs]

    def scored(name: str, table: Sequence[Sequence[object]]) -> dict[str, Any]:
        return evaluated(f"m={written(tmp_path / name, table)}", *options)

    full = scored("full.csv", rows)
    first = scored("first.csv", [(rows[0][0], "-"), *rows[1:]])  # no header
    assert results(first, "m")[0]["n_without_score"] == sum(
        rows[0][0] in pair[:2] for pair in all_pairs(run) if pair[2]
    )
    empty = scored(
        "empty.csv", [("", "path", "one", "two"), *((n, *row[:1], "", row[1]) for n, row in enumerate(rows))]
    )
    assert names(empty)[:2] == ["m/one", "m/two"]
    assert results(empty, "m/two") == results(full, "m")
    assert results(empty, "m/one")[0]["n_without_score"] == results(full, "m")[0]["n_genuine"]
    nothing = scored("nothing.csv", [("", "path", "q"), *((n, row[0], "") for n, row in enumerate(rows))])
    assert names(nothing)[0] == "m"
    assert results(nothing, "m")[0]["n_without_score"] == results(full, "m")[0]["n_genuine"]
    series = scored("series.csv", [("", "0"), *rows])
    assert results(series, "m") == results(full, "m")

    known = [("identity", "path", "q"), *((path.split("/")[0], path, value) for path, value in rows)]
    blank = [known[0], *(("" if n < 4 else who, path, value) for n, (who, path, value) in enumerate(known[1:]))]
    found = [
        evaluated(f"m={written(tmp_path / 'i.csv', table)}", *options[:4], "--starting-error", "0.3")["comparisons"]
        for table in (known, blank)
    ]
    assert int(found[1].split()[1]) < int(found[0].split()[1])
    assert "4 samples without an embedding, or identity" in found[1]


def test_a_table_of_both_directions_knows_those_of_ours(run: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    lines = (run / "scores.csv").read_text().splitlines()
    table = tmp_path / "more.csv"
    table.write_text("\n".join([f"{lines[0]},magface", *(f"{line},{n % 5}" for n, line in enumerate(lines[1:]))]))
    found = evaluated(table, "--direction", "higher", "--embeddings", run / "embeddings.npy", "--fmr", "0.2")
    directions = {row["quality"]: row["direction"] for row in found["methods"]}
    assert (directions["loss"], directions["embedding_norm"], directions["magface"]) == ("lower", "higher", "higher")
    expected = evaluated(run, "--fmr", "0.2")
    assert results(found, "loss") == results(expected, "loss")


def test_neither_roots_nor_other_tables_change_a_draw(run: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    lines = [line.split(",") for line in (run / "scores.csv").read_text().splitlines()]
    near = written(tmp_path / "near.csv", lines)
    far = written(
        tmp_path / "far.csv", [lines[0], *((*line[:2], f"/data/q/{line[2]}", *line[3:]) for line in lines[1:])]
    )
    options = ["--embeddings", run / "embeddings.npy", "--fmr", "0.2"]
    assert evaluated(near, *options)["results"] == evaluated(far, *options)["results"]
    other = written(tmp_path / "other.csv", [lines[0], *((f"x{line[2][0]}", *line[1:]) for line in lines[1:])])
    assert evaluated(near, f"o={other}", *options)["comparisons"] == evaluated(near, *options)["comparisons"]
    wrong = written(tmp_path / "wrong.csv", [lines[0], *(("a", *line[1:]) for line in lines[1:])])
    evaluated(near, wrong, *options, code=2)


def test_folders_of_people_are_not_exchanged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ann = written(tmp_path / "ann.txt", [(f"Ann/s1/{n}.jpg", n) for n in range(4)], " ")
    rows = [(f"Bob/s1/{n}.jpg", f"Bob/s1/{m}.jpg", n % 2, n / 9) for n in range(4) for m in range(n)]
    bob = written(tmp_path / "bob.csv", [("a", "b", "genuine", "similarity"), *rows])
    assert main(["evaluate", str(ann), "--pairs", str(bob), "--direction", "lower", "--no-plots"]) == 2
    assert "names none of the samples" in capfd.readouterr().err
    flat = written(tmp_path / "flat.txt", [(f"{n}.jpg", n) for n in range(4)], " ")
    one, two = (written(tmp_path / f"{who}.txt", [(f"{who}/{n}.jpg", n) for n in range(4)], " ") for who in ("A", "B"))
    assert main(["evaluate", str(flat), str(one), str(two), "--direction", "lower", "--no-plots"]) == 2
    assert "which are meant cannot be told" in capfd.readouterr().err
