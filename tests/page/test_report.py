"""The page of a run as a file: what is on it, what is left out, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grafiqs.cli import main
from grafiqs.images.heat import magnitude
from grafiqs.options.report import ReportOptions
from grafiqs.page.content import spread
from grafiqs.report import report
from grafiqs.run.results import open_run
from support.made_runs import write_run
from support.making import make_faces, tree
from support.pages import map_of, picture_of, run_of, values_of

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four identities; a sample cannot be read, and one identity has too few."""
    root = make_faces(tmp_path_factory.mktemp("data") / "data", {"ann": 5, "bob": 4, "cyd": 2, "dee": 5})
    (root / "bob" / "1.png").write_bytes(b"no image")
    return root


def extracted(data: Path, weights: Path, folder: Path, *options: str, code: int = 0) -> Path:
    asked = ["extract", "--image-path", data, "--weights", weights, "--output-dir", folder, "--quiet", *options]
    assert main([str(each) for each in asked]) == code
    return folder


@pytest.fixture(scope="module")
def made(data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of it; read only."""
    return extracted(
        *(data, weights, tmp_path_factory.mktemp("made") / "run"),
        *("--samples-per-identity", "4", "--embeddings", "--layers", "image,block2,block4,loss"),
        code=1,
    )


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "run")


def shown(run: Path, *options: object, code: int = 0) -> Path:
    """The page of a run."""
    assert main(["report", str(run), *map(str, options), "--quiet"]) == code
    return run / "report.html"


def refused(capsys: Capture, *arguments: object) -> str:
    """What a command says that is refused; it has written nothing."""
    capsys.readouterr()
    assert main(["report", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_it_has_every_number_face_and_map(run: Path, data: Path) -> None:
    page = run_of(shown(run))
    finished = open_run(run)
    assert page["path"] == finished.scores["path"].tolist()
    assert [page["identities"][place] for place in page["identity"]] == finished.scores["identity"].tolist()
    assert page["scores"] == ["image", "block2", "block4", "loss", "embedding_norm"]
    for score in page["scores"]:
        assert page["values"][score] == finished.scores[score].tolist()
        drawn = page["distributions"][score]
        assert sum(drawn["counts"]) + drawn["beyond"] == len(finished.scores)
    assert page["failures"] == [["bob/1.png", finished.failures["bob/1.png"]]]
    assert page["dropped"] == [["cyd", 2]]
    assert page["sizes"] == [[4, 3]]
    assert page["said"] == []
    for row, path in enumerate(page["path"]):
        face = picture_of(page["faces"][str(row)]).astype(float)
        assert np.abs(face - np.asarray(Image.open(data / path).convert("RGB"), float)).mean() < 5  # JPEG
        for layer in ("image", "block2", "block4"):
            sums = magnitude(finished.gradients(layer)[row])
            levels = map_of(page, row, layer).astype(float)
            if layer == "image":  # which is reduced, to the largest of four
                sums = sums.reshape(56, 2, 56, 2).max(axis=(1, 3))
            assert np.abs(levels - 255 * np.sqrt(sums / sums.max())).max() <= 0.51


def test_what_it_says_of_the_run_is_what_the_manifest_says(run: Path) -> None:
    card = dict(run_of(shown(run))["card"])
    manifest = open_run(run).manifest
    assert card["Subset SHA-256"] == manifest.subset.sha256
    assert card["Weights SHA-256"] == manifest.weights_sha256
    assert card["Images"] == "12: 11 scored, 1 failed; identities: 3"
    assert card["Identities"] == "all 4"
    assert card["Samples"] == "4 of each identity, drawn"
    assert card["Seeds"] == "42 of samples, 42 of identities (none was drawn)"
    assert card["Measured at"] == "image, block2, block4, loss, gradients as float32, with embeddings"
    assert card["Direction"] == "A lower score means higher quality, and a higher embedding_norm."


def test_the_run_stays_what_it_was(run: Path, capsys: Capture) -> None:
    before = tree(run)
    page = shown(run)
    assert tree(run) == {**before, "report.html": page.read_bytes()}
    assert main(["verify", str(run), "--quiet"]) == 0
    again = page.read_bytes()
    assert shown(run).read_bytes() == again


def test_a_run_that_is_overwritten_loses_its_page(run: Path, data: Path, weights: Path) -> None:
    shown(run)
    extracted(data, weights, run, "--overwrite", "--layers", "loss", "--num-identities", "1")
    assert not (run / "report.html").exists()
    (run / "report.html").write_text("my own notes")
    extracted(data, weights, run, "--overwrite", "--layers", "loss", "--num-identities", "1")
    assert (run / "report.html").read_text() == "my own notes"


@pytest.mark.parametrize(
    "options",
    [
        ["--samples-per-identity", "4", "--random-seed", "7", "--layers", "block4"],
        [
            "--num-identities",
            "2",
            "--random-identity-selection",
            "--identity-selection-seed",
            "5",
            "--skip-identities=1",
        ],
        ["--channel-order", "bgr", "--mean", "0.4,0.5,0.6", "--std", "0.3", "--batch-size", "3", "--no-dump-gradients"],
        ["--flat-structure", "--image-extension", "png", "--precision", "float64", "--path-replace=-x", "--norms=all"],
        [
            "--embeddings",
            "--flip",
            "--gradient-dtype",
            "float16",
            "--strict",
            "--num-identities=3",
            "--samples-per-identity=4",
        ],
    ],
)
def test_its_command_makes_the_run_again(options: list[str], data: Path, weights: Path, tmp_path: Path) -> None:
    run = extracted(data, weights, tmp_path / "a run", *options, code=1)
    assert made_again(run, 1) == tree(run)


def test_its_command_makes_odd_runs_again(weights: Path, tmp_path: Path) -> None:
    odd = tmp_path / "two words,\n'quoted' \\ \u00a0\u202e"
    for path in (make_faces(odd, {"ann": 2}) / "ann").iterdir():
        path.rename(path.with_suffix(""))
    (odd / "ann" / "2.png").write_bytes(b"no image")
    without = extracted(odd, weights, tmp_path / "without", "--layers", "loss", "--image-extension", ".")
    assert made_again(without, 0) == tree(without)
    failing = extracted(odd, weights, tmp_path / "failing", "--layers", "loss", "--keep-going", code=1)
    assert made_again(failing, 1) == tree(failing)
    (tmp_path / "list.csv").write_text("path,identity\n0,bob\n1,bob\n")
    listed = extracted(
        *(tmp_path / "list.csv", weights, tmp_path / "listed", "--layers", "loss"), "--root", str(odd / "ann")
    )
    assert made_again(listed, 0) == tree(listed)


def made_again(run: Path, code: int) -> dict[str, bytes]:
    """The run that the command on the page makes, as a shell reads it."""
    command = run_of(shown(run, "--no-faces"))["command"]
    os.remove(run / "report.html")
    split = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True)
    words = os.fsdecode(split.stdout).split("\0")[:-1]
    assert words[:2] == ["grafiqs", "extract"]
    assert main([*words[1:], "--quiet"]) == code
    return tree(run.with_name(f"{run.name}_again"))


def test_pictures_are_left_out_evenly_and_the_best_and_worst_stay(
    weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = make_faces(tmp_path / "many", {"ann": 90})
    run = extracted(folder, weights, tmp_path / "run", "--layers", "image,loss")
    whole = (shown(run)).stat().st_size
    values = run_of(run / "report.html")
    faces = sum(len(text) for text in values["faces"].values())
    maps = sum(len(text) for (text,) in values["maps"].values())
    limit = (whole - 0.85 * (faces + maps)) / 1e6  # so that some do not fit, as small as they can be
    assert main(["report", str(run), "--max-size", str(limit)]) == 0
    assert (run / "report.html").stat().st_size <= limit * 1e6
    page = run_of(run / "report.html")
    kept = sorted(map(int, page["faces"]))
    assert 20 < len(kept) < 90
    ranks = np.argsort(np.argsort(page["values"]["image"]))[kept]
    assert {0, 89} <= set(ranks.tolist())
    assert np.diff(np.sort(ranks)).max() <= 3 * 90 / len(kept) + 1
    (line,) = [line for line in page["said"] if "faces" in line]
    which = "the best and the worst, and others evenly over the ranking by image"
    assert line.startswith(f"{len(kept)} of 90 faces are on this page, {which}: more would not fit its size")
    assert line in capsys.readouterr().out


def test_rows_are_left_out_if_they_alone_are_too_many(made: Path, tmp_path: Path) -> None:
    like = open_run(made).manifest
    options = {**like.options, "layers": ["loss"], "dump_gradients": False, "embeddings": False}
    like = replace(like, layers={"loss": []}, options=options)
    rng = np.random.default_rng(1)
    scores = {f"a_rather_long_name_of_an_identity_{number:05}/0.png": [float(rng.random())] for number in range(12_000)}
    run = write_run(tmp_path / "run", like, scores)
    page = run_of(shown(run, "--max-size", 1, "--no-faces"))
    assert (run / "report.html").stat().st_size <= 1e6
    assert page["total"] == 12_000
    assert 2000 < len(page["path"]) < 9000
    values = np.array(page["values"]["loss"])
    everything = np.array(sorted(each[0] for each in scores.values()))
    np.testing.assert_allclose([values.min(), values.max()], everything[[0, -1]], rtol=0)
    np.testing.assert_allclose(
        np.quantile(values, [0.25, 0.5, 0.75]), np.quantile(everything, [0.25, 0.5, 0.75]), atol=0.01
    )
    assert "of 12,000 scored images are on this page, the best and the worst" in page["said"][0]
    least = run_of(shown(run, "--max-size", 0.1, "--no-faces"))
    assert (run / "report.html").stat().st_size <= 1e5
    assert 50 <= len(least["path"]) < 1000


def test_no_row_is_left_out_that_fits(made: Path, tmp_path: Path) -> None:
    like = open_run(made).manifest
    options = {**like.options, "layers": ["loss"], "dump_gradients": False, "embeddings": False}
    like = replace(like, layers={"loss": []}, options=options)
    rng = np.random.default_rng(1)
    many = {f"person_{number:05}/0.png": [float(rng.random())] for number in range(3000)}
    runs = [write_run(tmp_path / "many", like, many), write_run(tmp_path / "few", like, dict(list(many.items())[:9]))]
    page = tmp_path / "page.html"
    command = ["report", *map(str, runs), "--no-faces", "--quiet", "--output", str(page), "--max-size"]
    assert main([*command, "20"]) == 0
    assert main([*command, str(1.08 * page.stat().st_size / 1e6)]) == 0
    assert [len(run["path"]) for run in values_of(page)["runs"]] == [3000, 9]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 1000])
def test_every_beginning_lies_evenly(count: int) -> None:
    order = list(spread(range(count)))
    assert sorted(order) == list(range(count))
    assert set(order[:2]) == {0, count - 1} or not count
    for length in (5, 17, 100, 300):
        part = np.sort(order[: min(length, count)])
        expected = np.arange(len(part)) * (count / max(1, len(part)))
        assert len(part) < 5 or np.abs(part - expected).max() <= 2.5 * count / len(part) + 1


def test_without_faces_there_is_none(run: Path) -> None:
    page = shown(run, "--no-faces")
    values = run_of(page)
    assert values["faces"] == values["maps"] == {}
    assert values["said"] == ["Faces and heat maps were left out (--no-faces)"]
    assert "image/jpeg;base64,/9j/" not in page.read_text()


def test_a_data_set_that_is_gone_leaves_all_but_faces(data: Path, weights: Path, tmp_path: Path) -> None:
    there = shutil.copytree(data, tmp_path / "there")
    run = extracted(there, weights, tmp_path / "run", "--layers", "block4", code=1)
    there.rename(tmp_path / "elsewhere")
    page = run_of(shown(run))
    assert page["faces"] == {}
    assert len(page["maps"]) == 15
    assert page["said"][0].startswith("There are no faces, as the data set is not at hand")
    found = run_of(shown(run, "--image-path", tmp_path / "elsewhere"))
    assert len(found["faces"]) == 15
    assert found["said"] == []


def test_what_was_changed_since_is_not_shown(data: Path, weights: Path, tmp_path: Path, capsys: Capture) -> None:
    there = shutil.copytree(data, tmp_path / "there")
    run = extracted(there, weights, tmp_path / "run", "--layers", "block4", code=1)
    shutil.copy(there / "ann" / "0.png", there / "ann" / "1.png")
    (there / "ann" / "2.png").unlink()
    (there / "ann" / "3.png").write_bytes(b"")
    damaged = run / "block4" / "bob" / "0_grad.npy"
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"\0\0\0\0")
    page = run_of(shown(run, code=1))
    missing = {page["path"][row] for row in range(15) if str(row) not in page["faces"]}
    assert missing == {"ann/1.png", "ann/2.png", "ann/3.png"}
    assert {page["path"][row] for row in range(15) if str(row) not in page["maps"]} == {"bob/0.png"}
    assert [line.rpartition(" ")[2] for line in page["said"]] == ["3", "1"]


def test_other_files_and_places_are_left_alone(run: Path, made: Path, tmp_path: Path, capsys: Capture) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"precious")
    assert "is there already, and not a page of 'grafiqs report'" in refused(capsys, run, "--output", photo)
    assert photo.read_bytes() == b"precious"
    assert "lies in the run folder" in refused(capsys, run, "--output", run / "other.html")
    assert "is a folder" in refused(capsys, run, "--output", tmp_path)
    assert "cannot write" in refused(capsys, run, "--output", photo / "page.html")
    assert main(["report", str(run), "--quiet"]) == 0
    assert "lies in the run folder" in refused(capsys, made, "--output", run / "report.html")  # another run's own
    (run / "report.html").write_text("my own notes")
    assert "is there already" in refused(capsys, run)
    assert main(["verify", str(run), "--quiet"]) == 1
    assert (run / "report.html").read_text() == "my own notes"
    assert main(["report", str(run), "--output", str(tmp_path / "new" / "page.html"), "--quiet"]) == 0
    assert main(["report", str(run), "--output", str(tmp_path / "new" / "page.html"), "--quiet"]) == 0


def test_what_is_no_finished_run_is_a_sentence(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "it does not exist" in refused(capsys, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "it has no manifest.json" in refused(capsys, tmp_path / "empty")
    for name in ("scores.csv", "SHA256SUMS.images", "manifest.json", "failures.csv", "SHA256SUMS"):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole.replace(b"ann", b"bob", 1)[:-1])
        assert "is damaged" in refused(capsys, run)
        (run / name).write_bytes(whole)
    (run / "SHA256SUMS").unlink()
    assert "is not finished" in refused(capsys, run)
    assert not (run / "report.html").exists()


def test_a_run_of_nothing_and_of_one(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.png").write_bytes(b"no image")
    nothing = extracted(tmp_path / "none", weights, tmp_path / "nothing", "--keep-going", code=1)
    page = run_of(shown(nothing))
    assert page["path"] == []
    assert len(page["failures"]) == 1
    one = extracted(make_faces(tmp_path / "one", {"ann": 1}), weights, tmp_path / "run")
    page = run_of(shown(one))
    assert len(page["faces"]) == len(page["maps"]) == len(page["path"]) == 1


def test_a_run_without_gradients_says_so(data: Path, weights: Path, tmp_path: Path) -> None:
    run = extracted(data, weights, tmp_path / "run", "--no-dump-gradients", code=1)
    page = run_of(shown(run))
    assert page["maps"] == {}
    assert page["said"] == ["There are no heat maps: the run has no gradients (--no-dump-gradients, or --layers loss)"]


def test_names_stay_names(weights: Path, tmp_path: Path) -> None:
    names = ["<script>alert(1)<", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "--><!--", "a\nb", "\u202egnp", "&lt;"]
    root = make_faces(tmp_path / "data", {"plain": 1})
    for name in names:
        shutil.copytree(root / "plain", root / name)
    os.rename(root / "plain", os.fsencode(root) + b"/not \xff utf8")
    run = extracted(root, weights, tmp_path / "run", "--layers", "loss")
    page = shown(run)
    text = page.read_bytes().decode("utf-8")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    identities = run_of(page)["identities"]
    assert {
        "<script>alert(1)<",
        '"><img src=x onerror=alert(1)>',
        "{{ 7*7 }}",
        "--><!--",
        "a\nb",
        "\u202egnp",
        "&lt;",
    } <= set(identities)
    assert len(run_of(page)["faces"]) == len(names) + 1
    assert "not \\udcff utf8" in identities


def test_several_runs_are_compared(made: Path, data: Path, weights: Path, tmp_path: Path) -> None:
    other = extracted(data, weights, tmp_path / "other", "--random-seed", "9", "--samples-per-identity", "4", code=1)
    page = tmp_path / "page.html"
    assert main(["report", f"one={made}", str(other), "--output", str(page), "--quiet"]) == 0
    values = values_of(page)
    assert [run["name"] for run in values["runs"]] == ["one", "other"]
    assert [row["run"] for row in values["comparison"]["runs"]] == ["one", "other"]
    assert values["comparison"]["pairs"][0]["identities"] == 3


def test_the_api_says_where_the_page_is(run: Path) -> None:
    found = report(ReportOptions(runs=(str(run),), quiet=True))
    assert found.path == run / "report.html"
    assert found.bytes == found.path.stat().st_size
    assert found.changed == 0
