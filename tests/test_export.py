"""Copies of runs: in another store or number format, of fewer layers, of some identities."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grafiqs import open_run, verify_run
from grafiqs.cli import main
from support.commands import Capture, extracting, refused
from support.making import sealed_again, tree

pytestmark = pytest.mark.usefixtures("one_thread")

ODD = "a\u2028b"
"""An identity with a character at which Python splits lines."""

STATED = {"manifest.json", "SHA256SUMS"}
"""What says that a copy is one."""

LAYERS = ("block3", "block4")


def command(faces: Path, weights: Path, output: Path, *more: str) -> list[str]:
    sizes = ("--layers", "block3,block4", "--batch-size", 2, "--shard-size", 4)
    return extracting(faces, weights, output, *sizes, "--quiet", *more)


@pytest.fixture(scope="module")
def odd_faces(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces, one of which cannot be read, and an identity with an odd name."""
    root = tmp_path_factory.mktemp("odd") / "faces"
    shutil.copytree(faces, root)
    shutil.copytree(root / "ann", root / ODD)
    (root / "ann" / "1.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def runs(odd_faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same run in both stores; read only."""
    root = tmp_path_factory.mktemp("runs")
    for store in ("tree", "shards"):
        assert main(command(odd_faces, weights, root / store, "--store", store)) == 1
    return {store: root / store for store in ("tree", "shards")}


@pytest.mark.parametrize("forged", ["garbage", "another shard"])
def test_verify_reads_shards_whatever_their_checksums_say(
    forged: str, runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    """SHA256SUMS fits them, as a forger would have it."""
    folder = Path(shutil.copytree(runs["shards"], tmp_path / "run"))
    content = (folder / "block4" / "00001.safetensors").read_bytes() if forged == "another shard" else b"garbage\n"
    (folder / "block4" / "00000.safetensors").write_bytes(content)
    sealed_again(folder)
    assert main(["verify", str(folder), "--quiet"]) == 1
    assert "block4/00000.safetensors" in capsys.readouterr().err


def test_verify_without_pyarrow_says_what_to_install(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    said = refused(capsys, "verify", str(runs["shards"]))
    assert "pip install 'grafiqs[store]'" in said


def plain(folder: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(folder).items() if path not in STATED | {".lock"}}


@pytest.mark.parametrize(("there", "here"), [("tree", "shards"), ("shards", "tree"), ("tree", "tree")])
def test_a_copy_in_the_other_store_is_the_run_made_so(
    there: str, here: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    assert main(["export", str(runs[there]), str(tmp_path / "copy"), "--store", here, "--quiet"]) == 0
    assert plain(tmp_path / "copy") == plain(runs[here])
    assert verify_run(tmp_path / "copy", quiet=True) == []


def test_fewer_layers_identities_and_digits(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "names").write_text(f"bob\r\n{ODD}\n\n", encoding="utf-8")
    more = ["--layers", "block4", "--gradient-dtype", "float16", "--identities", str(tmp_path / "names"), "--quiet"]
    assert main(["export", str(runs["shards"]), str(tmp_path / "copy"), *more]) == 0
    copy, run = open_run(tmp_path / "copy"), open_run(runs["tree"])
    wanted = [path for path in run.scores["path"] if path.startswith(("bob/", f"{ODD}/"))]
    assert copy.scores["path"].tolist() == wanted
    assert copy.scores["block3"].tolist() == [
        score for path, score in zip(run.scores["path"], run.scores["block3"], strict=True) if path in wanted
    ]
    assert copy.manifest.dumps == ("block4",)
    for path in wanted:
        expected = run.gradients("block4")[path].astype(np.float16)
        assert copy.gradients("block4")[path].tobytes() == expected.tobytes()
    assert verify_run(tmp_path / "copy", quiet=True) == []


def test_a_copy_that_was_stopped_is_resumed_and_another_is_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    copy = ["export", str(runs["tree"]), str(tmp_path / "copy"), "--store", "shards", "--quiet"]
    assert main(copy) == 0
    whole = tree(tmp_path / "copy")
    (tmp_path / "copy" / "block3" / "00001.safetensors").unlink()
    assert main(copy) == 0
    assert tree(tmp_path / "copy") == whole
    assert main([*copy, "--layers", "block4"]) == 2
    assert "gradients.dumps" in capsys.readouterr().err


def test_a_copy_is_not_resumed_by_extract(
    runs: dict[str, Path], odd_faces: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["export", str(runs["tree"]), str(tmp_path / "copy"), "--layers", "block4", "--quiet"]) == 0
    assert main(command(odd_faces, weights, tmp_path / "copy")) == 2
    assert "it is a copy that 'grafiqs export' made" in capsys.readouterr().err


def changed(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 255]))


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a file of the tree is gone": ("tree", lambda run: (run / "block3/ann/0_grad.npy").unlink()),
    "a byte of the tree": ("tree", lambda run: changed(run / "block3/ann/0_grad.npy", 500)),
    "a shard is gone": ("shards", lambda run: (run / "block3/00001.safetensors").unlink()),
    "a byte of its header": ("shards", lambda run: changed(run / "block3/00001.safetensors", 20)),
    "a byte of its rows": ("shards", lambda run: changed(run / "block3/00001.safetensors", 5000)),
    "its end": ("shards", lambda run: os.truncate(run / "block3/00001.safetensors", 6000)),
    "it is empty": ("shards", lambda run: os.truncate(run / "block3/00001.safetensors", 0)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_gradient_that_is_not_what_it_was_is_not_copied(
    damage: str, runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    store, harm = DAMAGES[damage]
    run = Path(shutil.copytree(runs[store], tmp_path / "run"))
    harm(run)
    assert main(["export", str(run), str(tmp_path / "copy"), "--quiet"]) == 3
    said = capsys.readouterr().err
    assert "a gradient is not what it was when the run finished: block3/" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("damage", ["a shard is gone", "a byte of its header", "it is empty"])
def test_a_layer_that_is_whole_is_copied_beside_one_that_is_not(
    damage: str, runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    run = Path(shutil.copytree(runs["shards"], tmp_path / "run"))
    DAMAGES[damage][1](run)
    assert main(["export", str(run), str(tmp_path / "copy"), "--layers", "block4", "--quiet"]) == 0
    for path in (runs["shards"] / "block4").iterdir():
        assert (tmp_path / "copy" / "block4" / path.name).read_bytes() == path.read_bytes()
    assert main(["verify", str(run), "--quiet"]) == 1
    assert "block4" not in capsys.readouterr().err


def test_names_that_are_too_long_for_files_are_failures_of_the_copy(
    faces: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    root = Path(shutil.copytree(faces, tmp_path / "faces"))
    (root / "ann" / "0.png").rename(root / "ann" / f"{'x' * 251}.png")
    (root / "ann" / "1.png").write_bytes(b"no image")
    assert main(command(root, weights, tmp_path / "run", "--store", "shards")) == 1
    capsys.readouterr()
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "copy"), "--store", "tree", "--quiet"]) == 1
    assert "1 images lost their scores; " in capsys.readouterr().err
    reasons = [line.rpartition(",")[2] for line in (tmp_path / "copy" / "failures.csv").read_text().splitlines()[1:]]
    assert {"not an image in a known format", "its gradient cannot be written: File name too long"} == set(reasons)
    assert verify_run(tmp_path / "copy", quiet=True) == []


def test_messages_name_the_argument_of_the_copy(runs: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine").touch()
    assert "give another OUT" in refused(capsys, "export", str(runs["tree"]), str(tmp_path))


@pytest.mark.parametrize("name", ["scores.parquet", "GraFIQs_block4.txt"])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"x")])
def test_a_table_that_others_say_is_written_anew(
    name: str,
    harm: Callable[[Path], object],
    runs: dict[str, Path],
    odd_faces: Path,
    weights: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """The gradients stay; verify looks at them though a table is gone."""
    run = Path(shutil.copytree(runs["shards"], tmp_path / "run"))
    harm(run / name)
    changed(run / "block3/00001.safetensors", 5000)
    assert verify_run(run, quiet=True)[0].startswith(f"{name} was ")
    assert len(verify_run(run, quiet=True)) == 3
    changed(run / "block3/00001.safetensors", 5000)
    assert "was " in refused(capsys, "export", str(run), str(tmp_path / "copy"))
    kept = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors") if path.stem != "00000"}
    assert main(command(odd_faces, weights, run, "--store", "shards")) == 1
    assert f"{name} was changed or removed since the run finished, and is written anew" in capsys.readouterr().err
    assert tree(run) == tree(runs["shards"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # in shard 0 an image failed, and is tried again


def test_shards_that_are_too_large_for_files_are_refused(
    faces: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    more = ["--store", "shards", "--shard-size", "20000"]
    said = refused(capsys, *command(faces, weights, tmp_path / "run", *more))
    assert "--shard-size 16384 at most, or --store tree" in said
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_copied_is_refused(runs: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    run, copy, names = str(runs["tree"]), str(tmp_path / "copy"), tmp_path / "names"
    names.write_text("ann\nnobody\n")
    assert "has no gradients of image" in refused(capsys, "export", run, copy, "--layers", "image")
    assert "has no samples of 'nobody'" in refused(capsys, "export", run, copy, "--identities", str(names))
    assert "lie in each other" in refused(capsys, "export", run, f"{run}/copy")
    assert "is not a run folder" in refused(capsys, "export", str(tmp_path), copy)
    half = tmp_path / "half"
    assert main(["export", run, str(half), "--gradient-dtype", "float16", "--quiet"]) == 0
    assert "does not come back" in refused(capsys, "export", str(half), copy, "--gradient-dtype", "float32")
    assert not Path(copy).exists()
    stated = json.loads((half / "manifest.json").read_text())
    assert stated["gradients"] == {"dumps": [*LAYERS], "dtype": "float16", "store": "tree"}
