"""Embeddings: from the same forward pass, mirrored or not, in the order of the scores, and proved like all else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from grafiqs import load_checkpoint, open_run
from grafiqs.cli import main
from grafiqs.errors import RequestError
from grafiqs.images.tensors import normalise, read
from grafiqs.run.journal import Outcome
from grafiqs.run.shard_journals import ShardJournals
from grafiqs.run.shard_work import Open
from support.making import grafiqs, tree

pytestmark = pytest.mark.usefixtures("one_thread")


def command(faces: Path, weights: Path, run: Path, *options: object) -> list[str]:
    places = ("--image-path", faces, "--weights", weights, "--output-dir", run)
    return [*map(str, ("extract", *places, "--embeddings", "--batch-size", 4, "--quiet", *options))]


@pytest.fixture(scope="module")
def flawed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces, one of which cannot be read."""
    root = tmp_path_factory.mktemp("flawed") / "faces"
    shutil.copytree(faces, root)
    (root / "bob" / "2.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module", params=[(), ("--flip",)], ids=["plain", "flip"])
def run(request: pytest.FixtureRequest, flawed: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(command(flawed, weights, folder, *request.param)) == 1
    return folder


def test_rows_are_those_of_the_scores_and_embed_their_images(run: Path, flawed: Path, weights: Path) -> None:
    found = open_run(run)
    embeddings = np.load(run / "embeddings.npy")
    assert (embeddings.shape, embeddings.dtype) == ((18, 32), np.float32)
    assert np.array_equal(found.embeddings, embeddings)
    assert list(found.failures) == ["bob/2.png"]
    network = load_checkpoint(weights).network
    for path, embedding in zip(found.scores["path"], embeddings, strict=True):
        image = normalise(read((flawed / path).read_bytes())[None])
        with torch.no_grad():
            expected = network(image)
            if found.manifest.options["flip"]:
                expected = expected + network(image.flip(3))
        assert np.abs(embedding - expected[0].numpy()).max() < 1e-4 * float(expected.abs().max())


def test_scores_are_what_they_are_without_embeddings(run: Path, flawed: Path, weights: Path, tmp_path: Path) -> None:
    options = [option for option in command(flawed, weights, tmp_path / "run") if option != "--embeddings"]
    assert main(options) == 1
    with_norms = (run / "scores.csv").read_text().splitlines()
    without = [line.rpartition(",")[0] for line in with_norms]
    assert (tmp_path / "run" / "scores.csv").read_text().splitlines() == without
    with pytest.raises(RequestError, match="has no embeddings: it was made without --embeddings"):
        _ = open_run(tmp_path / "run").embeddings


@pytest.mark.parametrize("stop", [0, 1, 7, 17])
def test_a_stopped_run_ends_as_one_that_was_not(
    stop: int, run: Path, flawed: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = ["--flip"] if open_run(run).manifest.options["flip"] else []
    folder = tmp_path / "run"
    append, count = ShardJournals.append, 0

    def stopping(journals: ShardJournals, outcome: Outcome) -> Open:
        nonlocal count
        if count == stop:
            raise KeyboardInterrupt
        count += 1
        return append(journals, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(ShardJournals, "append", stopping)
        assert main(command(flawed, weights, folder, *flip)) == 130
    assert not (folder / "embeddings.npy").exists()
    assert main(command(flawed, weights, folder, *flip)) == 1
    assert tree(folder) == tree(run)


def test_a_finished_run_is_verified_and_gone_on_with(
    run: Path, flawed: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(run)]) == 0
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "block2" / "ann" / "1_grad.npy").unlink()  # is made again, among the others
    flip = ["--flip"] if open_run(run).manifest.options["flip"] else []
    assert main(command(flawed, weights, folder, *flip)) == 1
    assert tree(folder) == tree(run)
    whole = (run / "embeddings.npy").read_bytes()
    for damaged in (whole[:-4], whole + b"1234", whole[:-4] + b"\0\0\xc0\x7f"):
        (folder / "embeddings.npy").write_bytes(damaged)
        capsys.readouterr()
        assert main(["verify", str(folder), "--image-path", str(flawed)]) == 1
        assert "embeddings.npy was changed since the run finished" in capsys.readouterr().err
    assert "embeddings.npy holds values that are not finite for dee/5.png" in _verified(folder, capsys)


def _verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    main(["verify", str(folder)])
    return capsys.readouterr().err


def test_flip_needs_embeddings(faces: Path, weights: Path, tmp_path: Path) -> None:
    options = ("--image-path", faces, "--weights", weights, "--output-dir", tmp_path / "run", "--flip")
    found = grafiqs("extract", *options)
    assert (found.returncode, found.stderr) == (2, "grafiqs: --flip needs --embeddings, which it adds to\n")
