"""A finished run, opened for reading."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from grafiqs import RequestError, load_checkpoint, open_run
from grafiqs.cli import main
from grafiqs.errors import UnreadableSampleError
from grafiqs.images.tensors import normalise
from grafiqs.run import manifest as manifests
from support.older import as_earlier, with_bytes
from support.oracle import oracle_losses

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = ("block2", "block4")

FAILED = "bob/9.png"
"""The unreadable image among the faces: the twelfth of 20."""


def extracted(image_path: Path, weights: Path, folder: Path, *more: str) -> int:
    """The exit code of a run."""
    paths = ["--image-path", str(image_path), "--weights", str(weights), "--output-dir", str(folder)]
    return main(["extract", *paths, "--layers", ",".join(LAYERS), "--device", "cpu", "--quiet", *more])


@pytest.fixture(scope="module")
def finished(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one failure; read only."""
    root = tmp_path_factory.mktemp("flawed") / "faces"
    shutil.copytree(faces, root)
    (root / FAILED).write_bytes(b"no image")
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert extracted(root, weights, folder) == 1
    return folder


@pytest.fixture
def bare(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run without its gradients, to be disturbed."""
    return Path(shutil.copytree(finished, tmp_path / "bare", ignore=shutil.ignore_patterns("*.npy")))


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    """Something else in the place of a file or folder."""
    path.rename(path.with_name("gone"))
    make(path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_scores_are_those_of_the_table(finished: Path) -> None:
    scores = open_run(str(finished)).scores
    rows = rows_of(finished / "scores.csv")
    assert scores.dtype.names == tuple(rows[0]) == ("identity", "sample", "path", *LAYERS)
    assert scores.shape == (len(rows),) == (19,)
    for row, score in zip(rows, scores, strict=True):
        assert [str(value) for value in score] == list(row.values())
    assert {scores[layer].dtype for layer in LAYERS} == {np.dtype(np.float64)}


def test_the_manifest_is_that_of_the_run(finished: Path) -> None:
    manifest = open_run(finished).manifest
    stated = json.loads((finished / "manifest.json").read_bytes())
    assert manifest.options == stated["options"]
    assert manifest.weights_sha256 == stated["weights_sha256"]
    assert manifest.subset.sha256 == stated["subset"]["sha256"]


def test_what_failed_has_a_reason_and_no_row(finished: Path) -> None:
    run = open_run(finished)
    assert run.failures == {row["path"]: row["reason"] for row in rows_of(finished / "failures.csv")}
    assert list(run.failures) == [FAILED]
    assert FAILED not in run.scores["path"]
    assert FAILED not in run.gradients("block2")


def test_gradients_are_found_by_path_and_by_row(finished: Path) -> None:
    run = open_run(finished)
    for layer in LAYERS:
        gradients = run.gradients(layer)
        assert len(gradients) == len(run.scores)
        assert list(gradients) == list(run.scores["path"])
        for row, (path, score) in enumerate(zip(run.scores["path"], run.scores[layer], strict=True)):
            stored = np.load(finished / layer / path.replace(".png", "_grad.npy"))
            for key in (path, row, row - len(gradients), np.int64(row)):
                assert np.array_equal(gradients[key], stored)
            assert (stored.shape, stored.dtype) == (gradients.shape, gradients.dtype)
            assert np.abs(stored).sum(dtype=np.float64) == pytest.approx(score, rel=1e-5)
        assert [path for path, gradient in gradients.items() if gradient.shape != gradients.shape] == []


def test_no_other_key_has_a_gradient(finished: Path) -> None:
    gradients = open_run(finished).gradients("block2")
    for row in (19, -20):
        with pytest.raises(IndexError):
            gradients[row]
    for path in ("ann/0", "ann/0_grad.npy", "../block4/ann/0.png", FAILED):
        with pytest.raises(KeyError):
            gradients[path]
        assert path not in gradients
    with pytest.raises(TypeError):
        gradients[1.5]  # type: ignore[index]


def test_a_gradient_is_mapped_and_read_only(finished: Path) -> None:
    gradient = open_run(finished).gradients("block2")["ann/0.png"]
    assert isinstance(gradient, np.memmap)
    assert gradient.filename == str(finished / "block2" / "ann" / "0_grad.npy")
    with pytest.raises(ValueError, match="read-only"):
        gradient[0] = 0


def test_opening_reads_no_gradient(bare: Path) -> None:
    run = open_run(bare)
    gradients, dataset = run.gradients("block2"), run.dataset("block2")
    assert len(run.scores) == len(gradients) == len(dataset) == 19
    assert "ann/0.png" in gradients
    for read in (lambda: gradients["ann/0.png"], lambda: gradients[0], lambda: dataset[0]):
        with pytest.raises(UnreadableSampleError, match="No such file"):
            read()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: np.save(path, np.load(path).astype(np.float64)),
        lambda path: np.save(path, np.load(path).reshape(-1)),
        lambda path: np.save(path, np.load(path).astype(object)),
        lambda path: replaced(path, Path.mkdir),
        lambda path: replaced(path, os.mkfifo),
    ],
)
def test_a_damaged_gradient_is_not_read(finished: Path, bare: Path, damage: Callable[[Path], object]) -> None:
    path = bare / "block2" / "ann" / "0_grad.npy"
    shutil.copy(finished / "block2" / "ann" / "0_grad.npy", path)
    gradients = open_run(bare).gradients("block2")
    assert gradients[0].shape == gradients.shape
    damage(path)
    with pytest.raises(UnreadableSampleError):
        gradients[0]


def test_a_layer_makes_a_dataset(finished: Path) -> None:
    run = open_run(finished)
    dataset = run.dataset("block2")
    assert dataset.classes == ["ann", "bob", "cyd", "dee"]
    for row in range(len(run.scores)):
        gradient, label, index, path = dataset[row]
        assert np.array_equal(gradient, run.gradients("block2")[row])
        assert (gradient.dtype, label.dtype, label.shape) == (torch.float32, torch.int64, ())
        assert (index, path, dataset.classes[label]) == (row, run.scores["path"][row], run.scores["identity"][row])
    with pytest.raises(IndexError):
        dataset[len(run.scores)]
    assert torch.equal(run.dataset("block2", transform=torch.neg)[3][0], -dataset[3][0])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_with_workers_gives_the_same_items(finished: Path, method: str) -> None:
    dataset = open_run(finished).dataset("block4")
    loader = DataLoader(dataset, batch_size=5, num_workers=1, multiprocessing_context=method)
    gradients, labels, indices, paths = zip(*loader, strict=True)
    assert torch.equal(torch.cat(gradients), torch.stack([dataset[row][0] for row in range(19)]))
    assert torch.cat(labels).tolist() == dataset.targets
    assert torch.cat(indices).tolist() == list(range(19))
    assert [path for batch in paths for path in batch] == [path for path, _ in dataset.samples]


def test_a_run_can_be_pickled(finished: Path) -> None:
    run = pickle.loads(pickle.dumps(open_run(finished)))
    assert np.array_equal(run.scores, open_run(finished).scores)
    assert np.array_equal(run.gradients("block4")[2], open_run(finished).gradients("block4")[2])


def test_gradients_of_half_precision_of_a_flat_folder(faces: Path, weights: Path, tmp_path: Path) -> None:
    assert extracted(faces / "cyd", weights, tmp_path / "run", "--gradient-dtype", "float16") == 0
    run = open_run(tmp_path / "run")
    gradient = run.gradients("block2")["1.png"]
    assert gradient.dtype == run.gradients("block2").dtype == np.float16
    assert np.array_equal(gradient, np.load(tmp_path / "run" / "block2" / "1_grad.npy"))
    data, label, index, path = run.dataset("block2")[1]
    assert (data.dtype, int(label), index, path) == (torch.float32, 0, 1, "1.png")
    assert np.array_equal(data, gradient.astype(np.float32))


def test_a_run_without_gradients_or_any_score(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "0.png").write_bytes(b"no image")
    assert extracted(tmp_path / "faces", weights, tmp_path / "run", "--no-dump-gradients", "--keep-going") == 1
    run = open_run(tmp_path / "run")
    assert run.scores.shape == (0,)
    assert run.scores["block4"].dtype == np.float64
    assert list(run.failures) == ["0.png"]
    for refused in (run.gradients, run.dataset):
        with pytest.raises(RequestError, match=r"no gradients of block2.*--no-dump-gradients"):
            refused("block2")


def test_a_layer_that_the_run_has_not_is_refused(finished: Path) -> None:
    for layer in ("block1", "image", "../block2"):
        with pytest.raises(RequestError, match=f"no gradients of {layer}; it has block2, block4"):
            open_run(finished).gradients(layer)


def test_opening_loads_no_torch(finished: Path) -> None:
    code = (
        "import sys, grafiqs.run.results; run = grafiqs.run.results.open_run(sys.argv[1]); "
        "print(run.gradients('block2')[0].shape, 'torch' in sys.modules, 'PIL' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code, finished], capture_output=True, text=True, check=True).stdout
    assert said == f"{open_run(finished).gradients('block2').shape} False False\n"


def edited(name: str, old: str, new: str) -> Callable[[Path], object]:
    """What replaces a text, that is there, in a file of the run."""

    def edit(folder: Path) -> None:
        text = (folder / name).read_bytes()
        assert old.encode() in text
        (folder / name).write_bytes(text.replace(old.encode(), new.encode(), 1))

    return edit


def earlier(disturb: Callable[[Path], object]) -> Callable[[Path], object]:
    """What disturbs a run whose manifest lists the samples."""
    return lambda folder: disturb(as_earlier(folder))


def retold(old: str, new: str, as_stated: bool = False) -> Callable[[Path], object]:
    """What replaces a text, that is there, in the table of the subset; the manifest fits, unless it is `as_stated`."""

    def edit(folder: Path) -> None:
        text = gzip.decompress((folder / "subset.csv.gz").read_bytes()).decode()
        assert old in text
        with_bytes(folder, text.replace(old, new, 1).encode(), as_stated)

    return edit


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (lambda folder: shutil.rmtree(folder), "not a run folder"),
        (lambda folder: (folder / "manifest.json").unlink(), "not a run folder"),
        (lambda folder: replaced(folder, Path.touch), "it is not a folder"),
        (lambda folder: (folder / "progress.jsonl").touch(), "not finished"),
        (lambda folder: (folder / "progress").mkdir(), "not finished"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "not finished"),
        (lambda folder: (folder / "scores.csv").unlink(), "damaged .*No such file"),
        (lambda folder: (folder / "failures.csv").unlink(), "damaged .*No such file"),
        (lambda folder: (folder / "SHA256SUMS.images").write_bytes(b""), "damaged .*SHA256SUMS.images"),
        (lambda folder: (folder / "SHA256SUMS").write_bytes(b""), "damaged .*SHA256SUMS"),
        (lambda folder: (folder / "scores.csv").write_bytes(bytes(range(256))), "damaged"),
        (lambda folder: (folder / "scores.csv").write_text('identity,sample,path,block2,block4\n"'), "damaged"),
        (lambda folder: (folder / "scores.csv").write_text("x" * 200_000), "damaged"),
        (edited("scores.csv", "block2", "block3"), "damaged .*other columns"),
        (edited("scores.csv", "ann,1,", "ann,7,"), "damaged .*ann/1.png"),
        (edited("scores.csv", "ann/1.png,", "ann/1.png,x"), "damaged .*float"),
        (edited("scores.csv", "ann/1.png,", "ann/1.png,\n,"), "damaged .*columns"),
        (edited("failures.csv", "bob,9", "bob,8"), "damaged .*bob/9.png"),
        (edited("failures.csv", "reason\n", 'reason\nann,0,ann/0.png,"two\nlines"\n'), "damaged .*bob/9.png"),
        (lambda folder: (folder / "manifest.json").write_bytes(b""), "damaged"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\0"), "damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "damaged"),
        (edited("manifest.json", f'"format": {manifests.FORMAT}', '"format": 99'), "another version of grafiqs"),
        (earlier(edited("manifest.json", '"ann/0.png"', '"../0.png"')), "leads out"),
        (earlier(edited("manifest.json", '"ann/0.png"', '"/ann/0.png"')), "leads out"),
        (earlier(edited("manifest.json", '"ann/0.png"', "7")), "damaged"),
        (earlier(edited("manifest.json", '"ann": {', '"..": {')), "leads out"),
        (earlier(edited("manifest.json", '"ann": {', '"\\ud800": {')), "damaged"),
        (earlier(edited("manifest.json", '"0": ', '"x": ')), "hash"),
        (retold("ann/0.png", "../0.png"), "leads out"),
        (retold("ann/0.png", "/ann/0.png"), "leads out"),
        (retold("ann/0.png", "."), "leads out"),
        (retold("ann/0.png", "a\0b"), "leads out"),
        (retold(",ann/0.png", ""), "a row of 2 columns"),
        (retold(",ann/0.png", ',"ann/0.png'), "subset.csv.gz cannot be used .it is damaged"),
        (retold("ann,0,", "..,0,"), "leads out"),
        (retold("ann,0,", "ann,..,"), "leads out"),
        (retold("ann,0,", "ann,x,", as_stated=True), "not the table that is stated"),
        (retold("ann,0,ann/0.png\n", "", as_stated=True), "not the table that is stated"),
        (retold("identity,sample", "sample,identity"), "other columns"),
        (lambda folder: (folder / "subset.csv.gz").unlink(), "subset.csv.gz cannot be used .No such file"),
        (lambda folder: (folder / "subset.csv.gz").write_bytes(b""), "other columns"),
        (
            lambda folder: (folder / "subset.csv.gz").write_bytes(b"no gzip"),
            "subset.csv.gz cannot be used .it is damaged",
        ),
        (lambda folder: os.truncate(folder / "subset.csv.gz", 100), "subset.csv.gz cannot be used .it is damaged"),
        (lambda folder: replaced(folder / "subset.csv.gz", Path.mkdir), "cannot be used .Is a directory"),
        (lambda folder: replaced(folder / "subset.csv.gz", os.mkfifo), "cannot be used .not a regular"),
        (lambda folder: with_bytes(folder, b"identity,sample,path\n" + b"x" * 2**26, as_stated=True), "a row of 1 col"),
        (lambda folder: with_bytes(folder, b"identity,sample,path\n" + b"a,b,c\n" * 2**21, as_stated=True), "stated"),
        (edited("manifest.json", '"gradient_dtype": "float32"', '"gradient_dtype": "object"'), "damaged"),
        (edited("manifest.json", '"block2": [\n   16', '"block2": [\n   -16'), "not a count"),
        (edited("manifest.json", '"block2": [\n   16', '"block2": [\n   1e99'), "not a count"),
    ],
)
def test_what_is_no_finished_run_is_refused(bare: Path, disturb: Callable[[Path], object], reason: str) -> None:
    disturb(bare)
    with pytest.raises(RequestError, match=reason) as refusal:
        open_run(bare)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["manifest.json", "subset.csv.gz", "scores.csv", "failures.csv", "SHA256SUMS"])
def test_whatever_the_bytes_nothing_else_is_raised(bare: Path, name: str) -> None:
    chance = random.Random(name)
    whole = (bare / name).read_bytes()
    said = []
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice(b'\0\n\r",0-{[.e/' + chance.randbytes(4))
        (bare / name).write_bytes(data[: chance.choice((None, chance.randrange(len(data))))])
        try:
            open_run(bare)
        except RequestError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all(map(str.isprintable, said))


def test_the_loss_is_a_score_without_gradients_and_embeddings_have_a_length(
    faces: Path, weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    common = ["--embeddings", "--num-identities", "2", "--samples-per-identity", "3"]
    assert extracted(faces, weights, run, *common, "--layers", "loss,block4") == 0
    opened = open_run(run)
    assert opened.directions == {"block4": "lower", "loss": "lower", "embedding_norm": "higher"}
    assert opened.scores.dtype.names == ("identity", "sample", "path", "block4", "loss", "embedding_norm")
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["block4"]
    lines = (run / "GraFIQs_loss.txt").read_text().splitlines()
    assert [float(line.split()[-1]) for line in lines] == opened.scores["loss"].tolist()
    assert not (run / "GraFIQs_embedding_norm.txt").exists()
    expected = np.linalg.norm(opened.embeddings.astype(np.float64), axis=1)
    np.testing.assert_allclose(opened.scores["embedding_norm"], expected, rtol=1e-14)
    network = load_checkpoint(weights).network
    pixels = np.stack([np.array(Image.open(faces / path).convert("RGB")) for path in opened.scores["path"]])
    batch = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    np.testing.assert_allclose(opened.scores["loss"], oracle_losses(network, batch), rtol=1e-5)
    assert main(["verify", str(run), "--quiet"]) == 0
    with pytest.raises(RequestError, match="no gradients of loss"):
        opened.gradients("loss")

    assert extracted(faces, weights, tmp_path / "alone", *common, "--layers", "loss") == 0
    alone = open_run(tmp_path / "alone")
    np.testing.assert_array_equal(alone.scores["loss"], opened.scores["loss"])
    assert alone.manifest.dumps == ()

    table = run / "scores.csv"
    table.write_text(table.read_text().replace(str(opened.scores["embedding_norm"][1]), "9.5"))
    assert main(["verify", str(run), "--quiet"]) == 1


def test_a_run_of_the_version_before_is_read_verified_and_resumed(faces: Path, weights: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    common = ["--embeddings", "--num-identities", "2", "--samples-per-identity", "3"]
    assert extracted(faces, weights, run, *common) == 0
    as_earlier(run, 6)
    scores = [line.rpartition(",")[0] for line in (run / "scores.csv").read_text().splitlines()]
    (run / "scores.csv").write_text("\n".join([*scores, ""]))
    sums = (run / "SHA256SUMS").read_text().splitlines()
    for name in ("manifest.json", "scores.csv"):
        digest = hashlib.sha256((run / name).read_bytes()).hexdigest()
        sums = [f"{digest}  {name}" if line.endswith(f"  {name}") else line for line in sums]
    (run / "SHA256SUMS").write_text("\n".join([*sums, ""]))

    assert open_run(run).directions == dict.fromkeys(LAYERS, "lower")
    assert main(["verify", str(run), "--quiet"]) == 0
    gradient = next((run / "block4").rglob("*.npy"))
    before = gradient.read_bytes()
    gradient.unlink()
    assert extracted(faces, weights, run, *common) == 0
    assert gradient.read_bytes() == before
    assert open_run(run).scores.dtype.names == ("identity", "sample", "path", *LAYERS)
    assert main(["verify", str(run), "--quiet"]) == 0


def test_the_pairs_of_a_verification_set_are_those_of_its_dataset(faces: Path, weights: Path, tmp_path: Path) -> None:
    """But for those of which an image has no gradient."""
    images = [path.read_bytes() for path in sorted(faces.rglob("*.png"))[:6]]
    images[3] = b"no image"
    (tmp_path / "pairs.bin").write_bytes(pickle.dumps((images, [True, False, True])))
    assert extracted(tmp_path / "pairs.bin", weights, tmp_path / "run") == 1
    run = open_run(tmp_path / "run")
    assert len(run.manifest.pairs) == 3
    assert run.dataset("block4").pairs == [(0, 1, True), (3, 4, True)]  # rows: the fourth image has none
