"""`grafiqs verify`: a good run passes, and whatever is wrong with a run is found and told."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from grafiqs.cli import main
from grafiqs.options.extract import Options
from support.making import make_faces, picture, sealed_again, tree
from support.older import Rows, as_earlier, with_table

pytestmark = pytest.mark.usefixtures("one_thread")

GRADIENT = "block4/bob/1_grad.npy"
"""The gradient file that is damaged."""

FAILED = "ann/2"
"""The sample whose image cannot be read."""


def command(weights: Path) -> list[str]:
    """The run that is verified, in the folder where `faces` lie."""
    options = ["--image-path", "faces", "--weights", str(weights), "--output-dir", "run", "--device", "cpu", "--quiet"]
    subset = ["--samples-per-identity", "3", "--allow-insufficient-samples"]
    return ["extract", *options, *subset, "--layers", "block3,block4"]


@pytest.fixture(scope="module")
def original(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and a finished run over it, named by a relative path; read only."""
    root = tmp_path_factory.mktemp("original")
    make_faces(root / "faces", {"ann": 3, "bob": 2, "cyd": 1})
    (root / "faces" / f"{FAILED}.png").write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(command(weights)) == 1
    return root


@pytest.fixture
def run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, to be damaged, where its data set is at hand as `faces`."""
    shutil.copytree(original, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("run")


def edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def add_text(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def edit_bytes(path: Path, place: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= value
    path.write_bytes(data)


def save_as(path: Path, gradient: np.ndarray[Any, Any]) -> None:
    """Write another array with the same number of bytes."""
    size = path.stat().st_size
    np.save(path, gradient)
    assert path.stat().st_size == size


def verified(run: Path, capsys: pytest.CaptureFixture[str], *more: object) -> tuple[int, str, str]:
    """The exit code of `verify`, what it said, and its warnings; a `faces` at hand is the data set."""
    if not more and Path("faces").is_dir():
        more = ("--image-path", "faces")
    capsys.readouterr()
    code = main(["verify", str(run), *map(str, more)])
    said = capsys.readouterr()
    return code, said.out, "".join(line for line in said.err.splitlines(keepends=True) if line.startswith("grafiqs: "))


def test_a_good_run_passes_and_says_what_was_checked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(Path())
    code, said, problems = verified(run, capsys)
    assert (code, problems) == (0, "")
    assert "The subset derived again from faces is the same: SHA-256 " in said
    assert "Verified: 3 identities, 6 images, 5 scored, 1 failed, 10 gradient files: all as the manifest says" in said
    assert verified(run, capsys, "--quiet") == (0, "", "")
    assert tree(Path()) == before


def test_the_data_set_may_lie_elsewhere(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move("faces", tmp_path / "elsewhere")
    code, said, problems = verified(run, capsys, "--image-path", tmp_path / "elsewhere")
    assert (code, problems) == (0, "")
    assert f"derived again from {tmp_path / 'elsewhere'} is the same" in said
    (tmp_path / "elsewhere" / "bob" / "1.png").unlink()
    code, _, problems = verified(run, capsys, "--image-path", tmp_path / "elsewhere")
    assert code == 1
    assert "bob/1.png is no longer in it" in problems


def test_the_data_set_is_looked_for_where_it_was_and_its_absence_is_said_plainly(
    original: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was named by a relative path, and `verify` runs in another folder, where another `faces` lies."""
    shutil.copytree(original / "faces", tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    assert main(command(weights)) == 1
    (tmp_path / "away" / "faces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "away")
    run, place = Path("../run"), tmp_path / "faces"
    code, said, problems = verified(run, capsys, "--quiet")
    assert (code, said, problems) == (0, "", "")
    assert main(["verify", str(run)]) == 0
    assert f"The subset derived again from {place} is the same" in capsys.readouterr().out
    shutil.rmtree(place)
    assert main(["verify", str(run)]) == 0
    assert f"The data set {place} is not available: the subset was not derived again" in capsys.readouterr().out
    code, _, problems = verified(run, capsys, "--image-path", "nowhere")
    assert code == 2
    assert re.fullmatch(r"grafiqs: the data set nowhere .*: check --image-path\n", problems)


def test_a_run_of_scores_alone_is_verified(
    original: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "scores"
    options = ["--device", "cpu", "--no-dump-gradients", "--layers", "block4", "--quiet", "--output-dir", str(run)]
    assert main(["extract", "--image-path", str(original / "faces"), "--weights", str(weights), *options]) == 1
    assert verified(run, capsys)[0] == 0
    (run / "block4").mkdir()
    (run / "block4" / "0_grad.npy").write_bytes(b"")
    assert verified(run, capsys)[0] == 1


@pytest.mark.parametrize("scale", [1.0, 1.01])
def test_half_precision_files_are_held_to_their_own_rounding(
    scale: float, original: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "half"
    options = [
        "--device",
        "cpu",
        "--gradient-dtype",
        "float16",
        "--layers",
        "block4",
        "--quiet",
        "--output-dir",
        str(run),
    ]
    assert main(["extract", "--image-path", str(original / "faces"), "--weights", str(weights), *options]) == 1
    gradient = np.load(run / GRADIENT)
    save_as(run / GRADIENT, (gradient * np.float64(scale)).astype(np.float16))
    sealed_again(run)
    code, _, problems = verified(run, capsys)
    assert (code, "sums to" in problems) == (int(scale != 1), scale != 1)


# -- damage --------------------------------------------------------------------------------------------------


def change_image(_run: Path) -> None:
    """A single pixel."""
    with Image.open("faces/bob/1.png") as image:
        image.putpixel((5, 5), (1, 2, 3))
        image.save("faces/bob/1.png")


def add_image(_run: Path) -> None:
    Image.fromarray(picture(99)).save("faces/bob/new.png")


def break_image(_run: Path) -> None:
    Path("faces/bob/1.png").write_bytes(b"")


def remove_image(_run: Path) -> None:
    Path("faces/bob/1.png").unlink()


def make_image_a_folder(_run: Path) -> None:
    Path("faces/bob/1.png").unlink()
    Path("faces/bob/1.png").mkdir()


def rename_identity(_run: Path) -> None:
    Path("faces/bob").rename("faces/bill")


def empty_data_set(_run: Path) -> None:
    shutil.rmtree("faces")
    Path("faces").mkdir()


def put(path: str, data: bytes) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_bytes(data)

    return damage


def forge(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """The same damage by one who makes the checksums fit it."""

    def damage(run: Path) -> None:
        change(run)
        sealed_again(run)

    return damage


def as_other(convert: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Callable[[Path], object]:
    """The gradient as an array that takes the same number of bytes."""
    return forge(lambda run: save_as(run / GRADIENT, convert(np.load(run / GRADIENT))))


def swap_scores(run: Path) -> None:
    """Every score stands in the files, but at another sample."""
    lines = (run / "scores.csv").read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line.startswith("bob,")]
    heads = [lines[place].rsplit(",", 2) for place in places]
    for place, (head, *_), (_, *scores) in zip(places, heads, reversed(heads), strict=True):
        lines[place] = ",".join((head, *scores))
    (run / "scores.csv").write_text("\n".join(lines) + "\n")


def rewrite_rows(run: Path, name: str, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    with (run / name).open(newline="") as file:
        rows = list(csv.reader(file))
    with (run / name).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(change(rows))


def fill_failed(run: Path) -> None:
    """A gradient for the sample that has no score."""
    shutil.copy(run / GRADIENT, run / "block4" / f"{FAILED}_grad.npy")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (lambda run: edit_bytes(run / GRADIENT, 5000, 1), f"{GRADIENT} does not have its checksum"),
    "the last bit flipped": (lambda run: edit_bytes(run / GRADIENT, -1, 128), f"{GRADIENT} does not have its checksum"),
    "a truncated gradient": (lambda run: os.truncate(run / GRADIENT, 5000), f"{GRADIENT} has 5000 bytes"),
    "an empty gradient": (lambda run: os.truncate(run / GRADIENT, 0), f"{GRADIENT} has 0 bytes"),
    "a missing gradient": (lambda run: (run / GRADIENT).unlink(), f"{GRADIENT}: No such file"),
    "a missing layer": (lambda run: shutil.rmtree(run / "block4"), f"{GRADIENT}: No such file"),
    "a foreign file": (put("notes.txt", b"mine"), "notes.txt is not of this run"),
    "a foreign gradient": (put("block4/bob/9_grad.npy", b""), "block4/bob/9_grad.npy is not of this run"),
    "a file half-written": (put(f"{GRADIENT}.part", b""), f"{GRADIENT}.part is not of this run"),
    "a layer not asked for": (put("image/bob/1_grad.npy", b""), "image/bob/1_grad.npy is not of this run"),
    "a gradient of a failed sample": (fill_failed, f"block4/{FAILED}_grad.npy is not of this run"),
    "a link to a folder": (lambda run: (run / "more").symlink_to(".."), "more is not of this run"),
    "edited scores": (
        lambda run: edit_text(run / "scores.csv", "bob,0,bob/0.png,", "bob,0,bob/0.png,1"),
        "scores.csv was changed",
    ),
    "swapped scores": (swap_scores, "scores.csv was changed"),
    "an edited reason": (
        lambda run: edit_text(run / "failures.csv", "not an image", "no image"),
        "failures.csv was changed",
    ),
    "an edited field format": (
        lambda run: edit_text(run / "GraFIQs_block4.txt", "faces/bob/0.png 0", "faces/bob/0.png 1"),
        "GraFIQs_block4.txt was changed",
    ),
    "an edited manifest": (
        lambda run: edit_text(run / "manifest.json", '"random_seed": 42', '"random_seed": 43'),
        "manifest.json was changed",
    ),
    "edited image checksums": (
        lambda run: edit_bytes(run / "SHA256SUMS.images", 5, 1),
        "SHA256SUMS.images was changed",
    ),
    "an edited checksum": (lambda run: edit_bytes(run / "SHA256SUMS", 5, 1), "does not have its checksum"),
    "a checksum too many": (
        lambda run: add_text(run / "SHA256SUMS", f"{'0' * 64}  nothing\n"),
        "SHA256SUMS",
    ),
    "a checksum twice": (
        lambda run: add_text(run / "SHA256SUMS", (run / "SHA256SUMS").read_text().splitlines(keepends=True)[0]),
        "SHA256SUMS",
    ),
    "a list without checksums": (lambda run: (run / "SHA256SUMS").write_bytes(b""), "SHA256SUMS"),
    "a missing table": (lambda run: (run / "scores.csv").unlink(), "scores.csv"),
    "missing failures": (lambda run: (run / "failures.csv").unlink(), "failures.csv"),
    "missing checksums": (lambda run: (run / "SHA256SUMS").unlink(), "the run is not finished"),
    "a run under way": (put("progress/00000.0", b""), "the run is not finished"),
    "a run of an earlier version under way": (put("progress.jsonl", b""), "the run is not finished"),
    "a changed image": (change_image, "the image faces/bob/1.png is no longer the one that was scored"),
    "a broken image": (
        break_image,
        "the image faces/bob/1.png is no longer the one that was scored",
    ),
    "an image that is a folder now": (
        make_image_a_folder,
        "bob/1.png is no longer in it",
    ),
    "a missing image": (remove_image, "bob/1.png is no longer in it"),
    "an image too many": (add_image, "subset: 0 samples gone, 1 new (bob/new.png is new in it)"),
    "another identity": (rename_identity, "bill/0.png is new in it"),
    "an empty data set": (
        empty_data_set,
        "the subset cannot be derived again",
    ),
    "another number format": (as_other(lambda gradient: gradient.view(np.int32)), f"{GRADIENT} is "),
    "the other byte order": (as_other(lambda gradient: gradient.astype(">f4")), f"{GRADIENT} is "),
    "another shape": (as_other(lambda gradient: gradient.reshape(64, 49, 1)), f"{GRADIENT} is "),
    "other values": (as_other(lambda gradient: gradient * np.float32(1.00001)), f"{GRADIENT} sums to"),
    "not a number": (
        as_other(lambda gradient: np.where(gradient == gradient.max(), np.float32(np.nan), gradient)),
        f"{GRADIENT} holds values that are not finite",
    ),
    "no .npy": (forge(lambda run: (run / GRADIENT).write_bytes(b"\x00" * 12672)), f"{GRADIENT} is "),
    "a zip file": (forge(lambda run: (run / GRADIENT).write_bytes(b"PK\x03\x04" + b"\x00" * 12668)), GRADIENT),
    "a pickle": (forge(lambda run: (run / GRADIENT).write_bytes(b"\x80\x04N." + b"\x00" * 12668)), GRADIENT),
    "a header of a giant": (
        forge(
            lambda run: (run / GRADIENT).write_bytes(
                (run / GRADIENT).read_bytes().replace(b"(64, 7, 7), }         ", b"(99999999999999, 9), }")
            )
        ),
        GRADIENT,
    ),
    "forged scores": (
        forge(lambda run: edit_text(run / "scores.csv", "bob,0,bob/0.png,", "bob,0,bob/0.png,1")),
        "block3/bob/0_grad.npy sums to",
    ),
    "forged swapped scores": (forge(swap_scores), "block3/bob/0_grad.npy sums to"),
    "a forged path": (
        forge(lambda run: edit_text(run / "scores.csv", "bob,0,bob/0.png", "bob,0,bob/1.png")),
        "scores.csv",
    ),
    "a score that is no number": (
        forge(lambda run: edit_text(run / "scores.csv", "bob,0,bob/0.png,", "bob,0,bob/0.png,x")),
        "the tables cannot be followed",
    ),
    "a forged row twice": (
        forge(lambda run: rewrite_rows(run, "scores.csv", lambda rows: [*rows, rows[-1]])),
        "scores.csv",
    ),
    "a forged row left out": (
        forge(lambda run: rewrite_rows(run, "scores.csv", lambda rows: rows[:-1])),
        "cyd/0",
    ),
    "a row of one column": (
        forge(lambda run: rewrite_rows(run, "scores.csv", lambda rows: [*rows, ["ann"]])),
        "scores.csv",
    ),
    "an empty line": (lambda run: add_text(run / "scores.csv", "\n"), "scores.csv"),
    "an open quote": (lambda run: add_text(run / "scores.csv", '"'), "scores.csv"),
    "a stray quote": (lambda run: edit_text(run / "scores.csv", "bob,0", '"b"ob,0'), "scores.csv was changed"),
    "a column less": (lambda run: edit_text(run / "scores.csv", ",block4", ""), "scores.csv"),
    "an empty line among the failures": (
        lambda run: add_text(run / "failures.csv", "\n"),
        "failures.csv",
    ),
    "a stray quote among the failures": (
        lambda run: edit_text(run / "failures.csv", "ann,2", '"an"n,2'),
        "failures.csv was changed",
    ),
    "a failure that has a score": (
        forge(lambda run: rewrite_rows(run, "failures.csv", lambda rows: [*rows, ["bob", "0", "bob/0.png", "?"]])),
        "bob/0",
    ),
    "a failure left out": (
        forge(lambda run: rewrite_rows(run, "failures.csv", lambda rows: rows[:1])),
        FAILED,
    ),
    "a forged field format": (
        forge(lambda run: edit_text(run / "GraFIQs_block4.txt", "faces/bob/0.png 0", "faces/bob/0.png 1")),
        "GraFIQs_block4.txt does not say what scores.csv",
    ),
    "forged image checksums": (
        forge(lambda run: edit_bytes(run / "SHA256SUMS.images", 5, 1)),
        "is no longer the one that was scored",
    ),
    "a forged seed": (
        forge(lambda run: edit_text(run / "manifest.json", '"samples_per_identity": 3', '"samples_per_identity": 1')),
        "subset: ",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, sentence = DAMAGES[name]
    before = tree(Path())
    damage(run)
    assert tree(Path()) != before or name == "a link to a folder"
    code, said, problems = verified(run, capsys)
    assert sentence in problems
    assert code == 1
    assert "Verified" not in said
    assert "run is not what its manifest says" in problems


def test_an_image_that_is_a_pipe_now_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Opening it would wait for ever."""
    Path("faces/bob/1.png").unlink()
    os.mkfifo("faces/bob/1.png")

    def give_up(_number: int, _frame: object) -> None:
        pytest.fail("verify waits for a pipe")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    try:
        code, _, problems = verified(run, capsys)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert code == 1
    assert "the image faces/bob/1.png " in problems


def test_every_flipped_byte_of_a_header_is_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / GRADIENT
    good = path.read_bytes()
    for place in range(128):
        for value in (1, 4, 128):
            data = bytearray(good)
            data[place] ^= value
            path.write_bytes(data)
            code, _, problems = verified(run, capsys, "--quiet")
            assert (code, GRADIENT in problems) == (1, True), (place, value)
    path.write_bytes(good)
    assert verified(run, capsys)[0] == 0


def test_many_problems_are_counted_and_the_first_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        (run / f"{number}.txt").touch()
    code, _, problems = verified(run, capsys)
    assert code == 1
    assert problems.count("is not of this run") == 20
    assert "30 problems" in problems


# -- folders that are no run ---------------------------------------------------------------------------------


def in_document(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document, indent=1).encode()

    return damage


def option(name: str, value: object) -> Callable[[bytes], bytes]:
    return in_document(lambda document: document["options"].update({name: value}))


def entry(section: str, value: object) -> Callable[[bytes], bytes]:
    return in_document(lambda document: document.update({section: value}))


def listed(name: str, value: object) -> Callable[[bytes], bytes]:
    return in_document(lambda document: document["subset"].update({name: value}))


def without(section: str, name: str) -> Callable[[bytes], bytes]:
    return in_document(lambda document: document[section].pop(name))


def renamed_identity(name: str) -> Callable[[bytes], bytes]:
    """An identity of another name, with the hash that fits it."""

    def change(document: dict[str, Any]) -> None:
        subset = document["subset"]
        subset["samples"] = {name if key == "ann" else key: value for key, value in subset["samples"].items()}
        pairs = [(identity, sample) for identity, samples in subset["samples"].items() for sample in samples]
        subset["sha256"] = hashlib.sha256("".join(f"{a}\0{b}\0" for a, b in pairs).encode()).hexdigest()

    return in_document(change)


MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no JSON": lambda _: b"manifest",
    "torn": lambda data: data[: len(data) // 2],
    "no text": lambda data: b"\xff\xfe\x00" + data,
    "a list": lambda _: b"[]",
    "null": lambda _: b"null",
    "a number": lambda _: b"1",
    "deeply nested": lambda _: b'{"format":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nothing in it": lambda _: b"{}",
    "another format": entry("format", 1),
    "a format that is none": entry("format", [1]),
    "an entry too many": entry("more", 1),
    "an entry too few": in_document(lambda document: document.pop("options")),
    "no subset": in_document(lambda document: document.pop("subset")),
    "another hash": listed("sha256", "0" * 64),
    "a count that is not the samples'": listed("count", 7),
    "a count that is a word": listed("identities", "three"),
    "a count without end": listed("chosen", float("inf")),
    "a count that is no number": listed("available", float("nan")),
    "a count that is null": listed("available", None),
    "insufficient ones that are a number": listed("insufficient", 5),
    "insufficient ones that are words": listed("insufficient", {"cyd": "one"}),
    "options that are a list": entry("options", []),
    "an unknown option": option("colour", "red"),
    "no image path": without("options", "image_path"),
    "no dump": without("options", "dump_gradients"),
    "no dtype": without("options", "gradient_dtype"),
    "no path replacement": without("options", "path_replace"),
    "an image path that is a number": option("image_path", 5),
    "an image path that is null": option("image_path", None),
    "an unknown dtype": option("gradient_dtype", "float99"),
    "a dtype that is known, but not here": option("gradient_dtype", "float64"),
    "a dtype of objects": option("gradient_dtype", "object"),
    "a dtype that is a list": option("gradient_dtype", ["float32"]),
    "a dump that is a word": option("dump_gradients", "no"),
    "an option of the input, which decides elsewhere": option("channel_order", "rgb"),
    "embeddings that are a number": option("embeddings", 1),
    "a seed that is a word": option("random_seed", "forty-two"),
    "a seed that is a fraction": option("random_seed", 42.5),
    "a seed below zero": option("random_seed", -1),
    "a number of samples that is a fraction": option("samples_per_identity", 2.5),
    "a number of identities that is a list": option("num_identities", [1]),
    "a number of identities that is a fraction": option("num_identities", 2.5),
    "an extension that is a number": option("image_extension", [5]),
    "extensions that are a word": option("image_extension", "png"),
    "a path to be replaced that is a number": option("path_replace", 5),
    "a path to be put in that is a number": in_document(
        lambda document: document["options"].update({"path_replace": "faces", "path_replace_with": 5})
    ),
    "layers that are a word": option("layers", "block4"),
    "unknown layers": option("layers", ["block5"]),
    "layers that are not the options'": entry("layers", {"block4": [64, 7, 7]}),
    "layers that are a list": entry("layers", ["block3", "block4"]),
    "a shape that is a word": entry("layers", {"block3": [32, 14, 14], "block4": "64x7x7"}),
    "a shape of words": entry("layers", {"block3": [32, 14, 14], "block4": ["a", "b", "c"]}),
    "a shape that is a number": entry("layers", {"block3": [32, 14, 14], "block4": 3136}),
    "a shape of no numbers": entry("layers", {"block3": [32, 14, 14], "block4": []}),
    "a shape below zero": entry("layers", {"block3": [32, 14, 14], "block4": [64, -7, -7]}),
    "a shape of fractions": entry("layers", {"block3": [32, 14, 14], "block4": [64, 7.0, 7.0]}),
    "a shape of a giant": entry("layers", {"block3": [32, 14, 14], "block4": [64, 10**30, 7]}),
    "no environments": entry("environments", []),
    "environments that are a number": entry("environments", 5),
    "environments of words": entry("environments", ["here"]),
}


SUMS_CHANGED: dict[str, Callable[[bytes], bytes]] = {
    "no end": lambda text: text[:-1],
    "garbage behind": lambda text: text + b"garbage\n",
    "empty": lambda _: b"",
    "a half": lambda text: text[: len(text) // 2],
    "no table": lambda text: b"".join(line for line in text.splitlines(True) if not line.endswith(b"  scores.csv\n")),
}


@pytest.mark.parametrize("change", SUMS_CHANGED)
def test_a_list_of_checksums_that_was_changed_is_named_and_no_other_file(
    change: str, run: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By verify, and by the command that would otherwise call the run finished."""
    path = run / "SHA256SUMS"
    path.write_bytes(SUMS_CHANGED[change](path.read_bytes()))
    code, _, problems = verified(run, capsys)
    assert code == 1
    assert "SHA256SUMS was changed since the run finished" in problems
    assert "csv was changed" not in problems
    assert main(command(weights)) == 2
    said = capsys.readouterr().err
    assert "is damaged (SHA256SUMS was changed since)" in said


LISTED: dict[str, Callable[[bytes], bytes]] = {
    "identity upwards": renamed_identity("../faces/ann"),
    "identity at the root": renamed_identity("/etc"),
    "identity of two dots": renamed_identity(".."),
    "identity with a NUL": renamed_identity("a\0b"),
    "a path upwards": in_document(lambda document: document["subset"]["samples"]["ann"].update({"0": "../../0.png"})),
    "a path at the root": in_document(
        lambda document: document["subset"]["samples"]["ann"].update({"0": "/etc/passwd"})
    ),
    "a path that is a number": in_document(lambda document: document["subset"]["samples"]["ann"].update({"0": 5})),
    "a path that is empty": in_document(lambda document: document["subset"]["samples"]["ann"].update({"0": ""})),
    "samples that are a list": listed("samples", ["ann/0.png"]),
    "samples of lists": listed("samples", {"ann": ["0.png"]}),
    "a sample less": in_document(lambda document: document["subset"]["samples"]["ann"].pop("0")),
}
"""What there may be in manifests of earlier versions, which list the samples."""


@pytest.mark.parametrize("name", [*MANIFESTS, *LISTED])
def test_a_hostile_manifest_is_refused_in_one_sentence(
    name: str, run: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify refuses it, and so do a run that would go on with it and one that would remove its files."""
    path = run / "manifest.json"
    if name in LISTED:
        as_earlier(run)
    path.write_bytes((MANIFESTS | LISTED)[name](path.read_bytes()))
    before = tree(Path())
    code, said, problems = verified(run, capsys)
    told: tuple[str, ...] = (
        "run/manifest.json ",
        "cannot read run/manifest.json",
        "run holds a run of another version of grafiqs",
    )
    if name in ("another hash", "a count that is not the samples'"):  # it may be the table that is wrong
        told = ("run/subset.csv.gz cannot be used (it ",)
    assert problems.startswith(tuple(f"grafiqs: {line}" for line in told))
    assert problems.count("\n") == 1
    assert len(problems) < 300
    assert (code, said) == (2, "")
    for more in ([], ["--overwrite"]):
        assert main([*command(weights), *more]) == 2
        assert capsys.readouterr().err == problems
    assert tree(Path()) == before


def cell(row: int, column: int, text: str) -> Callable[[Rows], object]:
    return lambda rows: rows[row].__setitem__(column, text)


TABLES: dict[str, tuple[Callable[[Rows], object], bool]] = {
    "an identity upwards": (cell(1, 0, "../faces/ann"), False),
    "an identity at the root": (cell(1, 0, "/etc"), False),
    "an identity of two dots": (cell(1, 0, ".."), False),
    "an identity with a NUL": (cell(1, 0, "a\0b"), False),
    "a sample of two dots": (cell(1, 1, "../.."), False),
    "a sample without a name": (cell(1, 1, ""), False),
    "a path upwards": (cell(1, 2, "../../0.png"), False),
    "a path at the root": (cell(1, 2, "/etc/passwd"), False),
    "a path that is empty": (cell(1, 2, ""), False),
    "other columns": (cell(0, 2, "place"), False),
    "a column too many": (lambda rows: rows[1].append("more"), False),
    "a column too few": (lambda rows: rows[1].pop(), False),
    "no rows": (lambda rows: rows.clear(), False),
    "another path": (cell(1, 2, "ann/7.png"), True),
    "a sample less": (lambda rows: rows.pop(), True),
    "a sample more": (lambda rows: rows.append(["dee", "0", "dee/0.png"]), True),
    "another order": (lambda rows: rows.append(rows.pop(1)), True),
}
"""Tables of the subset that are not: whether the manifest states the true one; otherwise it was made to fit."""


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_of_the_subset_is_refused_in_one_sentence(
    name: str, run: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that would go on with it, too; nothing is written or removed where it leads."""
    change, as_stated = TABLES[name]
    with_table(run, change, as_stated)
    before = tree(Path())
    code, said, problems = verified(run, capsys)
    assert problems.startswith("grafiqs: run/subset.csv.gz cannot be used (")
    assert problems.count("\n") == 1
    assert len(problems) < 300
    assert (code, said) == (2, "")
    assert main(command(weights)) == 2
    resumed = capsys.readouterr().err
    if as_stated:
        assert "the finished run in run is damaged (subset.csv.gz was changed since)" in resumed
    else:
        assert resumed == problems
    assert tree(Path()) == before


def test_a_run_of_an_earlier_version_lacks_later_options(
    run: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It verifies, and the same command goes on with it: it had their defaults."""
    document = json.loads((run / "manifest.json").read_bytes())
    later = [field.name for field in fields(Options) if field.metadata["later"]]
    assert "identity_depth" in later
    for name in later:
        del document["options"][name]
    (run / "manifest.json").write_text(json.dumps(document))
    sealed_again(run)
    assert verified(run, capsys)[0] == 0
    shutil.rmtree(run / "block4")
    assert main(command(weights)) == 1
    assert main([*command(weights), "--identity-depth", "1"]) == 2
    assert "\n  - options.identity_depth: None in the folder, 1 asked for" in capsys.readouterr().err


def test_a_manifest_that_is_a_folder_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "manifest.json").unlink()
    (run / "manifest.json").mkdir()
    code, _, problems = verified(run, capsys)
    assert code == 2
    assert problems == "grafiqs: cannot read run/manifest.json: Is a directory\n"


@pytest.mark.parametrize("name", ["nowhere", "faces", "run/scores.csv"])
def test_what_is_no_run_is_said_to_be_none(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, problems = verified(Path(name), capsys)
    assert code == 2
    assert problems.startswith("grafiqs: ")
    assert name in problems
    assert problems.count("\n") == 1


def test_a_run_that_was_stopped_is_not_verified(run: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only its manifest and the table of its subset stand, as after a kill before the first image."""
    for path in sorted(run.rglob("*"), reverse=True):
        if path.name not in ("manifest.json", "subset.csv.gz"):
            path.rmdir() if path.is_dir() else path.unlink()
    code, _, problems = verified(run, capsys)
    assert code == 1
    assert "the run is not finished: the command that began it resumes it" in problems
    assert main(command(weights)) == 1
    assert verified(run, capsys)[0] == 0
