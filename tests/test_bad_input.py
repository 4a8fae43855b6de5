"""The whole command, given bad input: one clear sentence, the right exit code, nothing lost, nothing executed."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import pickle
import random
import re
import resource
import shutil
import socket
import struct
import tempfile
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from grafiqs.datasets.dataset import MAX_BYTES
from grafiqs.faces.template import LANDMARKS
from support.commands import RED, Capture, refused, rows, run, scores, stopped_by_permissions
from support.making import grafiqs, picture, random_network, tree


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where a run folder could be, and in most of these tests must not come to be."""
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def logger_as_before() -> Iterator[None]:
    """Undo what a command does to the package's logger: the stream it writes to is closed after the test."""
    yield
    logger = logging.getLogger("grafiqs")
    logger.handlers = []
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def extract(faces: object, weights: object, output: object, *more: object) -> list[object]:
    """The command `extract` with all that it must have."""
    return ["extract", "--image-path", faces, "--weights", weights, "--output-dir", output, *more]


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder, with its mode, and of files the size and the time of the last change."""
    found: dict[str, tuple[int, int, int]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[os.fspath(path)] = (status.st_mode, *((0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)))
    return found


def reasons(output: Path) -> dict[str, str]:
    """Why each image of a run failed, by its path."""
    return {path: reason for _, _, path, reason in rows(output / "failures.csv")}


def put(path: Path, seed: int = 0) -> Path:
    """A small picture under any name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, (16, 16))).save(path, "PNG")
    return path


def selected(faces: Path, folder: Path, *more: object) -> list[str]:
    """The paths of all samples of a data set, by the command `select`."""
    assert run("select", "--image-path", faces, "--output", folder / "subset.csv", "--quiet", *more) == 0
    return [path for _, _, path in rows(folder / "subset.csv")]


# -- the command line itself -------------------------------------------------------------------------------

OPTIONS = {
    "--num-identities 0": "--num-identities is 0: it must be at least 1",
    "--num-identities -1": "--num-identities is -1: it must be at least 1",
    "--samples-per-identity 0": "--samples-per-identity is 0: it must be at least 1",
    "--samples-per-identity -1": "--samples-per-identity is -1: it must be at least 1",
    "--batch-size 0": "--batch-size is 0: it must be at least 1",
    "--batch-size -1": "--batch-size is -1: it must be at least 1",
    "--batch-size 1000000000000": "--batch-size",
    "--batch-size 1000000000000000000000000000000": "--batch-size",
    "--random-seed -1": "--random-seed is -1: a seed lies between 0 and 4294967295",
    "--random-seed 4294967296": "--random-seed is 4294967296: a seed lies between 0 and 4294967295",
    "--identity-selection-seed -1": "--identity-selection-seed is -1: a seed lies between 0 and 4294967295",
    "--identity-selection-seed 4294967296": "--identity-selection-seed is 4294967296: a seed lies between",
    "--layers block9": "--layers names block9: it takes any of image, block1, block2, block3, block4",
    "--layers block1,,blocks,image,x": "--layers names blocks, x: it takes any of",
    "--layers ,": "--layers names no layer: it takes any of",
    "--bgr2rgb --channel-order bgr": "--bgr2rgb and --channel-order bgr contradict each other",
    "--gpu 1 --device cpu": "--gpu 1 and --device cpu contradict each other",
    "--gpu 1 --device cuda:0": "--gpu 1 and --device cuda:0 contradict each other",
    "--gpu -1": "--gpu is -1: GPUs are counted from 0",
    "--gpu 4096": "there is no GPU 4096",
    "--device cuda:99999999999999999999": "there is no GPU 99999999999999999999",
    "--device tpu": "--device 'tpu' is unknown: give auto, cpu, cuda or cuda:N",
    "--device cuda:": "--device 'cuda:' is unknown: give auto, cpu, cuda or cuda:N",
    "--strict": "--strict needs --num-identities and --samples-per-identity",
    "--strict --num-identities 2": "--strict needs --num-identities and --samples-per-identity",
    "--strict --samples-per-identity 2": "--strict needs --num-identities and --samples-per-identity",
    "--strict --num-identities 2 --samples-per-identity 2 --allow-insufficient-samples": "contradict each other",
    "--strict --num-identities 4 --samples-per-identity 5": "3 have them, 1 are missing; the closest: cyd (2)",
    "--strict --num-identities 5 --samples-per-identity 1": "4 have them, 1 are missing; the data set has 4 identities",
    "--samples-per-identity 7": "has 7 samples: lower --samples-per-identity, or take what there is with",
    "--image-extension exe": "holds no identity folder and no image (exe), but 19 .png: check --image-path",
    "--path-replace-with x": "--path-replace-with needs --path-replace",
    "--backbone iresnet34": "is an iresnet18 (blocks (2, 2, 2, 2)), not an iresnet34: give --backbone iresnet18",
    # What argparse finds:
    "--num-identities many": "argument --num-identities: invalid int value: 'many'",
    "--random-seed 1.5": "argument --random-seed: invalid int value: '1.5'",
    "--batch-size": "argument --batch-size: expected one argument",
    "--backbone resnet": "argument --backbone: invalid choice: 'resnet'",
    "--channel-order grb": "argument --channel-order: invalid choice: 'grb'",
    "--gradient-dtype int8": "argument --gradient-dtype: invalid choice: 'int8'",
    "--frobnicate": "unrecognized arguments: --frobnicate",
    "stray": "unrecognized arguments: stray",
    "--num-id 3": "unrecognized arguments: --num-id 3",
    "--dry": "unrecognized arguments: --dry",
    "--quiet=yes": "argument --quiet: ignored explicit argument 'yes'",
}
"""Options that cannot be, and what is said of them."""


@pytest.mark.parametrize("options", OPTIONS)
def test_options_that_cannot_be(faces: Path, weights: Path, output: Path, options: str, capsys: Capture) -> None:
    assert OPTIONS[options] in refused(capsys, *extract(faces, weights, output, *options.split()))
    assert not output.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("options", ["--gpu 0", "--device cuda"])
def test_a_gpu_where_there_is_none(faces: Path, weights: Path, output: Path, options: str, capsys: Capture) -> None:
    line = refused(capsys, *extract(faces, weights, output, *options.split()))
    assert "there is no GPU 0" in line
    assert "give --device cpu, or auto" in line
    assert not output.exists()


@pytest.mark.parametrize("option", ["--image-path", "--weights", "--output-dir"])
def test_a_path_without_a_letter(faces: Path, weights: Path, output: Path, option: str, capsys: Capture) -> None:
    line = refused(capsys, *extract(faces, weights, output), option, "")
    assert f"argument {option}: invalid path value: ''" in line
    assert not output.exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("", "grafiqs: the following arguments are required: VERB"),
        ("frob", "argument VERB: invalid choice: 'frob'"),
        ("--frob", "grafiqs: "),
        ("extract", "grafiqs extract: the following arguments are required: --image-path"),
        ("extract --image-path", "grafiqs extract: argument --image-path: expected one argument"),
        ("select", "grafiqs select: the following arguments are required: --image-path"),
        ("verify", "grafiqs verify: the following arguments are required: RUN"),
        ("verify a b", "unrecognized arguments: b"),
    ],
)
def test_commands_that_cannot_be(command: str, told: str, capsys: Capture) -> None:
    assert told in refused(capsys, *command.split())


def test_no_weights_are_given(faces: Path, output: Path, capsys: Capture) -> None:
    line = refused(capsys, "extract", "--image-path", faces, "--output-dir", output)
    assert line == "grafiqs: --weights is needed: the checkpoint of the face recognition network"
    assert not output.exists()


@pytest.mark.parametrize(
    "option",
    ["--image-path", "--weights", "--layers", "--device", "--backbone", "--num-identities", "--image-extension", "--x"],
)
def test_what_is_wrong_is_named_without_commanding_the_terminal(
    faces: Path, weights: Path, output: Path, option: str, capsys: Capture
) -> None:
    assert r"\x1b[31mred\nline" in refused(capsys, *extract(faces, weights, output), option, RED)
    assert not output.exists()


# -- the data set's folder ---------------------------------------------------------------------------------


def test_a_data_set_that_does_not_exist(tmp_path: Path, weights: Path, output: Path, capsys: Capture) -> None:
    line = refused(capsys, *extract(tmp_path / "none", weights, output))
    assert line == f"grafiqs: the data set {tmp_path / 'none'} does not exist or cannot be reached: check --image-path"
    assert not output.exists()


def test_a_data_set_that_is_a_file(weights: Path, output: Path, capsys: Capture) -> None:
    line = refused(capsys, *extract(weights, weights, output))
    assert line.startswith(
        f"grafiqs: the data set {weights} is a file of no known kind: --image-path takes a folder of "
    )
    assert not output.exists()


def test_a_data_set_that_is_a_link_to_itself(tmp_path: Path, weights: Path, output: Path, capsys: Capture) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert f"the data set {tmp_path / 'loop'}" in refused(capsys, *extract(tmp_path / "loop", weights, output))
    assert not output.exists()


@pytest.mark.parametrize("names", [(), (".hidden/0.png", ".0.png"), ("notes.txt",)], ids=["empty", "hidden", "others"])
def test_a_data_set_without_anything_to_see(
    tmp_path: Path, weights: Path, output: Path, names: tuple[str, ...], capsys: Capture
) -> None:
    (tmp_path / "faces").mkdir()
    for name in names:
        put(tmp_path / "faces" / name)
    line = refused(capsys, *extract(tmp_path / "faces", weights, output))
    assert f"the data set {tmp_path / 'faces'} holds no identity folder and no image (apng, avif, " in line
    assert not output.exists()


@pytest.mark.parametrize("more", [(), ("--flat-structure",)])
def test_identities_without_images(
    tmp_path: Path, weights: Path, output: Path, more: tuple[str, ...], capsys: Capture
) -> None:
    put(tmp_path / "faces" / "ann" / "notes.txt")
    (tmp_path / "faces" / "bob").mkdir()
    line = refused(capsys, *extract(tmp_path / "faces", weights, output, *more))
    assert f"the data set {tmp_path / 'faces'} holds no identity folder and no image (apng, avif, " in line
    assert "webp), but 1 .txt: check --image-path" in line
    assert not output.exists()


# -- the weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "dangling", "loop", "folder", "pipe"])
def test_weights_that_are_no_file(faces: Path, tmp_path: Path, output: Path, kind: str, capsys: Capture) -> None:
    path = tmp_path / "net.pth"
    if kind in ("dangling", "loop"):
        path.symlink_to("none.pth" if kind == "dangling" else "net.pth")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    line = refused(capsys, *extract(faces, path, output))
    no_file = f"grafiqs: the weights {path} are not a file: --weights takes a checkpoint file"
    missing = f"grafiqs: the weights {path} do not exist or cannot be reached: check --weights"
    assert line == (no_file if kind in ("folder", "pipe") else missing)
    assert not output.exists()


def torchscript(_weights: bytes) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def whole_module(_weights: bytes) -> bytes:
    file = io.BytesIO()
    torch.save(random_network(), file)
    return file.getvalue()


def half(weights: bytes) -> bytes:
    """Half of a file that `torch.save` wrote."""
    file = io.BytesIO()
    torch.save(safetensors.torch.load(weights), file)
    return file.getvalue()[: file.tell() // 2]


WEIGHTS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty": (".pth", lambda _: b""),
    "text": (".pth", lambda _: b"hello, these are no weights\n" * 20),
    "random": (".pth", lambda _: random.Random(0).randbytes(5000)),
    "half": (".pth", half),
    "half of safetensors": (".safetensors", lambda _: safetensors.torch.save({"a": torch.zeros(100)})[:200]),
    "random safetensors": (".safetensors", lambda _: random.Random(0).randbytes(5000)),
    "a network of another kind": (".safetensors", lambda _: safetensors.torch.save({"conv.weight": torch.zeros(1)})),
    "TorchScript": (".pt", torchscript),
    "a whole module": (".pth", whole_module),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_of_no_use(
    faces: Path, weights: Path, tmp_path: Path, output: Path, kind: str, capsys: Capture
) -> None:
    suffix, content = WEIGHTS[kind]
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content(weights.read_bytes()))
    assert str(path) in refused(capsys, *extract(faces, path, output))
    assert not output.exists()


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_hostile_weights_are_not_executed(
    faces: Path, tmp_path: Path, output: Path, form: str, capsys: Capture
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "net.pth"
    hostile = type("Hostile", (), {"__reduce__": lambda _self: (os.mkdir, (str(marker),))})()
    if form == "pickle":
        path.write_bytes(pickle.dumps(hostile, protocol=2))
    else:
        torch.save({"state_dict": hostile}, path, _use_new_zipfile_serialization=form == "zip")
    line = refused(capsys, *extract(faces, path, output))
    assert f"the weights {path} hold more than tensors" in line
    assert "save its state_dict alone" in line
    assert not marker.exists()
    assert not output.exists()


# -- the output folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["faces", "faces/run", "faces/ann", "faces/ann/a/b", "link/run", "faces/../faces/run"]
)
def test_an_output_folder_inside_the_data_set(tmp_path: Path, weights: Path, place: str, capsys: Capture) -> None:
    put(tmp_path / "faces" / "ann" / "0.png")
    (tmp_path / "link").symlink_to("faces")
    before = snapshot(tmp_path)
    line = refused(capsys, *extract(tmp_path / "faces", weights, tmp_path / place))
    assert f"the output folder {tmp_path / place} lies inside the data set" in line
    assert "give an --output-dir outside it" in line
    assert snapshot(tmp_path) == before


def test_an_output_folder_around_the_data_set(tmp_path: Path, weights: Path, capsys: Capture) -> None:
    put(tmp_path / "around" / "faces" / "ann" / "0.png")
    before = snapshot(tmp_path)
    line = refused(capsys, *extract(tmp_path / "around" / "faces", weights, tmp_path / "around", "--overwrite"))
    assert f"{tmp_path / 'around'} is not empty and holds no run: give another --output-dir" in line
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("file", "Not a directory: give another --output-dir"),
        ("file/run", "Not a directory: give another --output-dir"),
        ("loop", "loop"),
        ("loop/run", "loop"),
        ("dangling/run", "dangling"),
        ("full", "is not empty and holds no run: give another --output-dir"),
        ("x" * 256, "File name too long: give another --output-dir"),
        ("new/" + "x" * 256, "File name too long: give another --output-dir"),
    ],
    ids=["file", "in a file", "loop", "in a loop", "dangling", "full", "long", "long in a new folder"],
)
def test_an_output_folder_that_cannot_be_one(
    faces: Path, weights: Path, tmp_path: Path, place: str, told: str, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("/proc/none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    before = snapshot(tmp_path)
    line = refused(capsys, *extract(faces, weights, tmp_path / place))
    assert str(tmp_path / place) in line
    assert told in line
    assert snapshot(tmp_path) == before


def test_a_dry_run_writes_nothing_at_all(
    faces: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)  # the default output folder would be here
    before = snapshot(tmp_path), snapshot(faces), snapshot(weights.parent)
    assert run("extract", "--image-path", faces, "--weights", weights, "--dry-run") == 0
    assert "Nothing was written." in capsys.readouterr().out
    assert (snapshot(tmp_path), snapshot(faces), snapshot(weights.parent)) == before


def test_quiet_says_nothing_of_success_and_one_line_of_failure(
    faces: Path, weights: Path, tmp_path: Path, capfd: Capture
) -> None:
    assert run(*extract(faces, weights, tmp_path / "good", "--layers", "block4", "--quiet")) == 0
    assert tuple(capfd.readouterr()) == ("", "")
    put(tmp_path / "faces" / "ann" / "0.png").write_bytes(b"")
    bad = extract(tmp_path / "faces", weights, tmp_path / "bad", "--layers", "block4", "--quiet", "--keep-going")
    assert run(*bad) == 1
    said = f"grafiqs: 1 images have no score; {tmp_path / 'bad' / 'failures.csv'} says why\n"
    assert tuple(capfd.readouterr()) == ("", said)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("none/subset.csv", "No such file or directory"),
        ("file/subset.csv", "Not a directory"),
        ("folder", "Is a directory"),
        ("x" * 255, "File name too long"),
    ],
)
def test_a_subset_that_cannot_be_written(faces: Path, tmp_path: Path, place: str, told: str, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = snapshot(tmp_path)
    line = refused(capsys, "select", "--image-path", faces, "--output", tmp_path / place)
    assert line.startswith(f"grafiqs: cannot write {tmp_path / place}: {told}")
    assert snapshot(tmp_path) == before


# -- permissions -------------------------------------------------------------------------------------------


@pytest.fixture
def place(faces: Path, weights: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may enter, with faces, net.pth, and a folder that everybody may write to."""
    # What torch imports late, it imports now, with all rights.
    assert run(*extract(faces, weights, tmp_path / "before", "--layers", "block4", "--quiet")) == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, identity in enumerate(("ann", "bob")):
            put(folder / "faces" / identity / "0.png", number)
            put(folder / "faces" / identity / "1.png", number + 5)
        shutil.copyfile(weights, folder / "net.pth")
        (folder / "open").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (folder / "open").chmod(0o777)
        with stopped_by_permissions():
            reached = os.path.exists(folder / "net.pth")
        if not reached:
            pytest.skip("other users cannot reach the folder of temporary files")
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("name", ["faces", "faces/bob"])
def test_a_folder_that_may_not_be_listed(place: Path, name: str, capsys: Capture) -> None:
    (place / name).chmod(0)
    with stopped_by_permissions():
        line = refused(capsys, *extract(place / "faces", place / "net.pth", place / "open" / "run"))
    (place / name).chmod(0o755)
    assert line.startswith(f"grafiqs: cannot list {place / name}: Permission denied")
    assert not (place / "open" / "run").exists()


def test_an_image_that_may_not_be_read(place: Path) -> None:
    (place / "faces" / "bob" / "0.png").chmod(0)
    output = place / "open" / "run"
    with stopped_by_permissions():
        assert run(*extract(place / "faces", place / "net.pth", output, "--layers", "block4")) == 1
    assert reasons(output) == {"bob/0.png": "cannot be opened: Permission denied"}
    assert list(scores(output)) == ["ann/0.png", "ann/1.png", "bob/1.png"]


def test_weights_that_may_not_be_read(place: Path, capsys: Capture) -> None:
    (place / "net.pth").chmod(0)
    with stopped_by_permissions():
        line = refused(capsys, *extract(place / "faces", place / "net.pth", place / "open" / "run"))
    assert line.startswith(f"grafiqs: cannot read the weights {place / 'net.pth'}: Permission denied")
    assert not (place / "open" / "run").exists()


@pytest.mark.parametrize("name", ["run", "a/b/run", "closed", "closed/run"])
def test_an_output_folder_that_may_not_be_written(place: Path, name: str, capsys: Capture) -> None:
    (place / "closed").mkdir()
    (place / "closed").chmod(0o555)
    place.chmod(0o555)
    before = snapshot(place)
    with stopped_by_permissions():
        line = refused(capsys, *extract(place / "faces", place / "net.pth", place / name))
    assert line == f"grafiqs: cannot write to {place / name}: Permission denied: give another --output-dir"
    assert snapshot(place) == before


def test_a_subset_that_may_not_be_written(place: Path, capsys: Capture) -> None:
    place.chmod(0o555)
    with stopped_by_permissions():
        line = refused(capsys, "select", "--image-path", place / "faces", "--output", place / "subset.csv")
    assert line.startswith(f"grafiqs: cannot write {place / 'subset.csv'}: Permission denied")
    assert not (place / "subset.csv").exists()


WORK: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "verify a run": (["verify", "run"], ("run", "run/manifest.json")),
    "verify crops": (["verify", "crops"], ("crops", "crops/align.json")),
    "inspect": (["inspect", "faces"], ("faces", "faces/bob")),
    "select a list": (["select", "--image-path", "list.csv"], ("list.csv",)),
    "select an archive": (["select", "--image-path", "faces.zip"], ("faces.zip",)),
    "align": (["align", "faces", "crops", "--landmarks", "crops/align.csv"], ("crops", "crops/align.json")),
    "extract": (
        ["extract", "--image-path", "faces", "--weights", "net.pth", "--layers", "block4", "--output-dir", "run"],
        ("run", "run/manifest.json", "run/scores.csv"),
    ),
    "draw-faces": (["draw-faces", "drawn"], ("drawn", "drawn/faces.csv")),
    "demo": (["demo", "--output-dir", "."], ("faces",)),
    "backbones": (["backbones", "net.pth"], ("net.pth",)),
}
"""Commands, and what each needs to read."""


@pytest.fixture
def work(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder with all that those commands read, as the current one."""
    for module in ("verify", "inspect", "demo.first_run"):
        importlib.import_module(f"grafiqs.{module}")  # now, with all rights
    monkeypatch.chdir(place)
    (place / "list.csv").write_text("faces/ann/0.png\n")
    shutil.make_archive("faces", "zip", "faces")
    points = ",".join(f"{number / 7:.1f}" for pair in LANDMARKS for number in pair)  # of 16x16 pictures
    (place / "points.csv").write_text("".join(f"{one}/{two}.png,{points}\n" for one in ("ann", "bob") for two in "01"))
    assert run("align", "faces", "crops", "--landmarks", "points.csv", "--quiet") == 0
    assert run(*WORK["extract"][0]) == 0
    (place / "drawn").mkdir()
    (place / "drawn" / "faces.csv").touch()
    for path in place.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    return place


def test_what_may_not_be_read_is_named_and_is_not_the_terminal(work: Path, capsys: Capture) -> None:
    for arguments, needed in WORK.values():
        for name in needed:
            mode = (work / name).stat().st_mode
            (work / name).chmod(0)
            with stopped_by_permissions():
                line = refused(capsys, *arguments)
            (work / name).chmod(mode)
            assert re.match(r"grafiqs: cannot (read|list|write to|draw into) .*: Permission denied", line)


def test_trouble_that_nobody_foresaw_is_not_the_terminals(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "some\nwhere")

    monkeypatch.setattr("grafiqs.verify.verify_run", failing)
    assert run("verify", "run") == 3
    assert capsys.readouterr().err == "grafiqs: cannot go on: Input/output error (some\\nwhere)\n"


def test_a_temporary_folder_that_takes_no_tables_is_not_the_runs_fault(
    faces: Path, weights: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run(*extract(faces, weights, output, "--layers", "block4", "--quiet")) == 0

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("grafiqs.run.finished.write", full)
    assert run("verify", output, "--quiet") == 3
    assert capsys.readouterr().err == (
        "grafiqs: the temporary folder does not take the tables, to compare them: No space left on device; make room "
        "there, or name another by the variable TMPDIR\n"
    )


# -- names -------------------------------------------------------------------------------------------------

NAMES = [
    *(" lead and trail .png", "-dash.png", "--num-identities.png", "a,b.png", 'quote".png', "quote'.png", "tab\t.png"),
    *("new\nline.png", "\x1b[31mred.png", "back\\slash.png", "back\\nslash.png", "percent%s{}.png", "\U0001f600.png"),
    *("~.png", "a..png", "UPPER.PNG", "colon:.png", "star*?.png", "\u202eright to left.png", "\u2028.png", "\x7f.png"),
    os.fsdecode(b"\xff\xfe not utf-8.png"),
]


def put_named(folder: Path, names: list[str]) -> None:
    try:
        for seed, name in enumerate(names):
            put(folder / name, seed)
    except OSError:
        pytest.skip("the file system takes no such names")


@pytest.mark.parametrize("identity", ["ann", RED, "-x ,\"'", os.fsdecode(b"\xff\xfe"), "\U0001f600"], ids=ascii)
def test_names_of_every_kind(weights: Path, tmp_path: Path, output: Path, identity: str, capsys: Capture) -> None:
    faces = tmp_path / "faces"
    put_named(faces / identity, NAMES)
    assert run(*extract(faces, weights, output, "--layers", "block4")) == 0
    assert sorted(scores(output)) == sorted(f"{identity}/{name}" for name in NAMES)
    assert rows(output / "failures.csv") == []
    for name in NAMES:
        stem = name.removesuffix(".png").removesuffix(".PNG")
        assert (output / "block4" / identity / f"{stem}_grad.npy").is_file()
    assert run("verify", output) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize("name", ["a\rb/0.png", "ann/a\rb.png", "ann/a\r\nb.png", "ann/\r.png", "\r/\r.png"], ids=ascii)
def test_names_with_carriage_returns(weights: Path, tmp_path: Path, output: Path, name: str) -> None:
    put(tmp_path / "faces" / name)
    put(tmp_path / "faces" / "bob" / "0.png", 1)
    assert run(*extract(tmp_path / "faces", weights, output, "--layers", "block4")) == 0
    assert sorted(scores(output)) == sorted([name, "bob/0.png"])
    assert run("verify", output, "--quiet") == 0


def test_names_that_are_one_under_unicode(weights: Path, tmp_path: Path, output: Path) -> None:
    twins = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    put_named(tmp_path / "faces" / "ann", twins)
    if len(os.listdir(tmp_path / "faces" / "ann")) == 1:
        pytest.skip("the file system takes the two names for one")
    assert run(*extract(tmp_path / "faces", weights, output, "--layers", "block4")) == 0
    assert sorted(scores(output)) == sorted(f"ann/{name}" for name in twins)
    assert scores(output)[f"ann/{twins[0]}"] != scores(output)[f"ann/{twins[1]}"]
    assert len(list((output / "block4" / "ann").iterdir())) == 2
    assert run("verify", output, "--quiet") == 0


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_name_too_long_to_write_fails_alone(weights: Path, tmp_path: Path, output: Path, letter: str) -> None:
    length = 251 // len(letter.encode())
    name = "y" * (251 - length * len(letter.encode())) + letter * length + ".png"
    assert len(name.encode()) == 255
    put_named(tmp_path / "faces" / "ann", ["0.png", name, "1.png"])
    command = extract(tmp_path / "faces", weights, output, "--layers", "block3,block4")
    for _ in range(2):  # the second time it is tried again, and fails again
        assert run(*command) == 1
        assert reasons(output) == {f"ann/{name}": "its gradient cannot be written: File name too long"}
        assert list(scores(output)) == ["ann/0.png", "ann/1.png"]
        assert run("verify", output, "--quiet") == 0


def outputs(folder: Path) -> set[str]:
    """The gradient files of the layer block4 of a run."""
    return set(tree(folder / "block4"))


def test_samples_of_one_stem_are_told_apart(weights: Path, tmp_path: Path, output: Path) -> None:
    put_named(tmp_path / "faces" / "ann", ["a.jpg", "a.png", "a.jpg.png", "b.jpg"])
    assert run(*extract(tmp_path / "faces", weights, output, "--layers", "block4")) == 0
    assert list(scores(output)) == ["ann/a.jpg", "ann/a.jpg.png", "ann/a.png", "ann/b.jpg"]
    assert len({tuple(values) for values in scores(output).values()}) == 4
    assert outputs(output) == {f"ann/{name}_grad.npy" for name in ("a.jpg", "a.png", "a.jpg.png", "b")}
    assert run("verify", output, "--quiet") == 0


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "a_grad.npy/0.png"],
        ["a.png", "a_grad.npy/0.png", "a.png_grad.npy/0.png"],
        ["a.png", "a_grad.npy.part/0.png"],
        ["a.png", "a_grad.npy/b_grad.npy/0.png", "a_grad.npy/b.png"],
    ],
    ids=" ".join,
)
def test_a_folder_named_like_an_output(weights: Path, tmp_path: Path, output: Path, names: list[str]) -> None:
    put_named(tmp_path / "faces" / "ann", names)
    assert run(*extract(tmp_path / "faces", weights, output, "--layers", "block4", "--identity-depth", 1)) == 0
    assert sorted(scores(output)) == sorted(f"ann/{name}" for name in names)
    found = outputs(output)
    assert len(found) == len(names)
    folders = {parent.as_posix() for name in found for parent in Path(name).parents}
    assert not folders & {f"{name}.part" for name in found}  # where each file is written before it is whole
    assert run("verify", output, "--quiet") == 0


# -- links and what else is no file ------------------------------------------------------------------------


def test_links_to_folders_around_them_are_not_followed(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    put(faces / "ann" / "0.png")
    put(faces / "ann" / "deep" / "1.png")
    for name, target in {"up": "..", "here": ".", "self": "../ann", "top": "../..", "loop": "loop"}.items():
        (faces / "ann" / name).symlink_to(target)
    (faces / "ann" / "deep" / "back").symlink_to("../../ann")
    assert selected(faces, tmp_path) == ["ann/0.png", "ann/deep/1.png"]
    assert selected(faces, tmp_path, "--flat-structure") == ["ann/0.png", "ann/deep/1.png"]


@pytest.mark.parametrize("target", [".", "..", "../faces"])
def test_a_link_beside_the_identities_to_a_folder_around_it(tmp_path: Path, target: str) -> None:
    faces = tmp_path / "faces"
    put(faces / "ann" / "0.png")
    (faces / "zed").symlink_to(target)
    assert selected(faces, tmp_path) == ["ann/0.png"]


def test_links_that_lead_to_each_other(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    put(faces / "ann" / "0.png")
    put(faces / "bob" / "1.png")
    (faces / "ann" / "friend").symlink_to("../bob")
    (faces / "bob" / "friend").symlink_to("../ann")
    assert selected(faces, tmp_path) == ["ann/0.png", "ann/friend/1.png", "bob/1.png", "bob/friend/0.png"]


def test_links_to_images_and_folders_elsewhere_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "store" / "0.png")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "ann").symlink_to("../store")
    (tmp_path / "faces" / "bob").mkdir()
    (tmp_path / "faces" / "bob" / "1.png").symlink_to("../../store/0.png")
    assert selected(tmp_path / "faces", tmp_path) == ["ann/0.png", "bob/1.png"]


def test_what_is_no_file_fails_alone_and_hangs_nothing(
    weights: Path, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "faces" / "ann"
    put(folder / "good.png")
    put(folder / "folder.png" / "inside.png", 1)
    (folder / "dangling.png").symlink_to("none.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "device.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    monkeypatch.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        done = grafiqs(*extract(tmp_path / "faces", weights, output, "--layers", "block4"), timeout=60)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "5 images have no score" in done.stderr
    assert list(scores(output)) == ["ann/folder.png/inside.png", "ann/good.png"]
    assert reasons(output) == {
        "ann/dangling.png": "cannot be opened: No such file or directory",
        "ann/device.png": "not a regular file",
        "ann/loop.png": "cannot be opened: Too many levels of symbolic links",
        "ann/pipe.jpg": "not a regular file",
        "ann/socket.png": "not a regular file",
    }


# -- pictures ----------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def png_of_a_billion_pixels() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 32_000, 32_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(10))
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bmp_of_a_billion_pixels() -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, 32_000, 32_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise makes it upright
    return exif


FACE = Image.fromarray(picture(3))
JPEG = encoded(FACE, "JPEG")

GOOD = {
    "1 bit.png": encoded(FACE.convert("1"), "PNG"),
    "1x1.png": encoded(FACE.crop((0, 0, 1, 1)), "PNG"),
    "1x5000.png": encoded(FACE.resize((1, 5000)), "PNG"),
    "5000x1.jpg": encoded(FACE.resize((5000, 1)), "JPEG"),
    "16 bit grey.png": encoded(Image.fromarray(np.asarray(FACE.convert("L")).astype(np.uint16) * 257), "PNG"),
    "16 bit grey.tif": encoded(Image.fromarray(np.asarray(FACE.convert("L")).astype(np.uint16) * 257), "TIFF"),
    "LA.png": encoded(FACE.convert("LA"), "PNG"),
    "RGBA.png": encoded(FACE.convert("RGBA"), "PNG"),
    "animated.gif": encoded(FACE, "GIF", save_all=True, append_images=[FACE.rotate(90)]),
    "another name for a png.jpg": encoded(FACE, "PNG"),
    "broken exif.jpg": JPEG[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff" + JPEG[2:],
    "cmyk.jpg": encoded(FACE.convert("CMYK"), "JPEG"),
    "grey.jpg": encoded(FACE.convert("L"), "JPEG"),
    "palette.png": encoded(FACE.quantize(8), "PNG", transparency=b"\0\x80"),
    "turned.png": encoded(FACE.transpose(Image.Transpose.ROTATE_90), "PNG", exif=turned()),
    "upright.png": encoded(FACE, "PNG"),
}
"""Unusual pictures that are to be scored."""

BAD = {
    "bomb.bmp": (bmp_of_a_billion_pixels(), "more than 89,478,485 pixels"),
    "bomb.png": (png_of_a_billion_pixels(), "more than 89,478,485 pixels"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "cannot be decoded: image file is truncated"),
    "cut.png": (encoded(FACE, "PNG")[:2000], "cannot be decoded: image file is truncated"),
    "empty.png": (b"", "the file is empty"),
    "float.tif": (encoded(FACE.convert("F"), "TIFF"), "32-bit pixels have no known range"),
    "text.jpg": (b"no image", "not an image in a known format"),
}
"""Files that hold no picture that could be scored, and why."""


@pytest.fixture(scope="module")
def mixed(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over good, unusual and broken pictures."""
    faces = tmp_path_factory.mktemp("mixed") / "faces"
    contents = {**GOOD, **{name: content for name, (content, _) in BAD.items()}, "large.png": JPEG}
    (faces / "ann").mkdir(parents=True)
    for name, content in contents.items():
        (faces / "ann" / name).write_bytes(content)
    os.truncate(faces / "ann" / "large.png", MAX_BYTES + 1)  # a hole: it takes no room on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(*extract(faces, weights, faces.parent / "run", "--quiet")) == 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 1_000_000_000  # a bomb takes 3 GB
    return faces.parent / "run"


def test_unusual_pictures_are_scored(mixed: Path) -> None:
    found = scores(mixed)
    assert list(found) == [f"ann/{name}" for name in sorted(GOOD)]
    assert all(value > 0 for values in found.values() for value in values)
    assert found["ann/turned.png"] == pytest.approx(found["ann/upright.png"], rel=1e-6)
    assert found["ann/RGBA.png"] == pytest.approx(found["ann/upright.png"], rel=1e-6)
    assert found["ann/another name for a png.jpg"] == pytest.approx(found["ann/upright.png"], rel=1e-6)
    assert run("verify", mixed, "--quiet") == 0


def test_broken_pictures_fail_with_their_reasons(mixed: Path) -> None:
    found = reasons(mixed)
    assert list(found) == [f"ann/{name}" for name in sorted([*BAD, "large.png"])]
    assert found["ann/large.png"] == "the file has 268,435,457 bytes, more than 268,435,456"
    assert all(found[f"ann/{name}"].startswith(reason) for name, (_, reason) in BAD.items())
    left = {path.name for path in mixed.rglob("*") if path.is_file()}
    assert not any(f"{Path(name).stem}_grad.npy" in left for name in (*BAD, "large.png"))


def test_a_data_set_where_every_image_fails(weights: Path, tmp_path: Path, output: Path, capsys: Capture) -> None:
    names = [f"{identity}/{number}.png" for identity in ("ann", "bob") for number in range(6)]
    for name in names:
        put(tmp_path / "faces" / name).write_text("no image")
    command = extract(tmp_path / "faces", weights, output, "--keep-going")
    for _ in range(2):  # the second time all are tried again
        assert run(*command) == 1
        said = capsys.readouterr()
        assert "0 of 12 images have scores" in said.out
        assert f"12 images have no score; {output / 'failures.csv'} says why" in said.err
        assert reasons(output) == dict.fromkeys(names, "not an image in a known format")
        assert scores(output) == {}
        assert all(path.read_bytes() == b"" for path in output.glob("GraFIQs_*.txt"))
        assert list(output.rglob("*.npy")) == []
        assert run("verify", output, "--quiet") == 0


# -- what is printed ---------------------------------------------------------------------------------------


def test_names_are_printed_without_commanding_the_terminal(tmp_path: Path, weights: Path, capsys: Capture) -> None:
    """Every path and name that a run prints, each with an escape and a line break in it."""
    place = tmp_path / RED
    faces, output = place / "faces", place / "run"
    put_named(faces / "ann", ["0.png", "1.png"])
    put(faces / RED / "0.png")  # one sample: too few
    put(faces / "stray.png")
    (faces / "ann" / f"up{RED}").symlink_to("..")
    net = shutil.copyfile(weights, place / "net.pth")
    (faces / "ann" / "0.png").write_bytes(b"")
    assert run(*extract(faces, net, output, "--layers", "block4", "--samples-per-identity", 2)) == 1
    said = capsys.readouterr()
    put(output / RED)
    assert run("verify", output) == 1
    verified = capsys.readouterr()
    everything = said.out + said.err + verified.out + verified.err
    assert "\x1b" not in everything
    assert "red\nline" not in everything
    shown = r"\x1b[31mred\nline"
    for line in (
        rf"  - {shown}: 1 samples",
        rf"Backbone: iresnet18 from {tmp_path}/{shown}/net.pth (SHA-256",
        rf"1 of 2 images have scores: {tmp_path}/{shown}/run/scores.csv",
        rf"grafiqs: 1 images have no score; {tmp_path}/{shown}/run/failures.csv says why",
        rf"grafiqs: not following {tmp_path}/{shown}/faces/ann/up{shown}: it leads",
        rf"grafiqs: 1 images in {tmp_path}/{shown}/faces belong to no identity",
        rf"grafiqs: {shown} is not of this run",
    ):
        assert line in everything
