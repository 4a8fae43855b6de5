"""The commands as the guide and the README show them."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import grafiqs as grafiqs_package
from grafiqs.cli import main
from grafiqs.compute import computer
from grafiqs.gradients import measured
from grafiqs.options.extract import Options
from grafiqs.options.field import flag
from support.making import grafiqs, tree

ROOT = Path(__file__).resolve().parents[2]

VERBS = ("extract", "select", "inspect", "align", "backbones", "verify", "demo", "draw-faces")


def extract(*arguments: object) -> int:
    return main(["extract", *map(str, arguments)])


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_guides_first_example_writes_the_tree_it_shows(faces: Path, weights: Path, tmp_path: Path) -> None:
    """No --output-dir: the default is grafiqs_output. Through the guide's own script, as written."""
    command = [sys.executable, ROOT / "extract_grafiqs.py", "--image-path", faces, "--num-identities", "100"]
    command += ["--samples-per-identity", "5", "--random-seed", "42", "--backbone", "iresnet18", "--weights", weights]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:6] == [
        "Using random seed: 42 for reproducible results",
        "Selected the first 4 identities from 4 available",
        "Found 1 identities with insufficient samples:",
        "  - cyd: 2 samples",
        "Processing 3 identities that meet the sample requirement.",
        "Dataset loaded: 3 identities, 15 total images",
    ]
    assert "15/15" in done.stderr
    output = tmp_path / "grafiqs_output"
    gradients = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.npy"))
    assert len(gradients) == 5 * 15
    assert [path for path in gradients if path.startswith("block2/bob/")] == [
        f"block2/bob/{number}_grad.npy" for number in range(5)
    ]
    gradient = np.load(output / "image" / "ann" / "0_grad.npy")
    assert (gradient.shape, gradient.dtype) == ((3, 112, 112), np.float32)


def test_the_guides_second_and_third_examples_draw_by_two_seeds(
    faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen: dict[str, set[str]] = {}
    for name, identity_seed, seed in (("exp1", 111, 222), ("exp2", 333, 444)):
        common = ["--image-path", faces, "--weights", weights, "--backbone", "iresnet18", "--layers", "block4"]
        subset = ["--num-identities", 2, "--samples-per-identity", 2, "--random-identity-selection"]
        seeds = ["--identity-selection-seed", identity_seed, "--random-seed", seed]
        assert extract(*common, *subset, *seeds, "--output-dir", tmp_path / name) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:4] == [
            f"Using random seed: {seed} for reproducible results",
            f"Using identity selection seed: {identity_seed}",
            f"Randomly selected 2 identities from 4 available (seed: {identity_seed})",
            "Dataset loaded: 2 identities, 4 total images",
        ]
        rows = table(tmp_path / name / "scores.csv")
        chosen[name] = {row["path"] for row in rows}
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["seeds"] == {
            "identity_selection": identity_seed,
            "sample_selection": seed,
            "random": seed,
            "numpy": seed,
            "torch": seed,
            "torch_cuda": seed,
        }
    assert chosen["exp1"] != chosen["exp2"]


def test_select_writes_the_same_subset_without_opening_an_image(
    faces: Path, weights: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    subset = ["--num-identities", "3", "--samples-per-identity", "3", "--random-identity-selection"]
    names_only = tmp_path / "names"
    for path in faces.rglob("*.png"):
        (names_only / path.relative_to(faces)).parent.mkdir(parents=True, exist_ok=True)
        (names_only / path.relative_to(faces)).touch()  # empty: opening one would fail
    assert main(["select", "--image-path", str(names_only), *subset]) == 0
    printed = capfdbinary.readouterr()
    assert b"Dataset loaded" in printed.err
    rows = list(csv.DictReader(printed.out.decode().splitlines()))
    assert main(["select", "--image-path", str(names_only), *subset, "--output", str(tmp_path / "subset.csv")]) == 0
    assert (tmp_path / "subset.csv").read_bytes() == printed.out
    options = ["--image-path", faces, *subset, "--weights", weights, "--no-dump-gradients", "--layers", "block4"]
    assert extract(*options, "--output-dir", tmp_path / "run") == 0
    scored = table(tmp_path / "run" / "scores.csv")
    assert [(row["identity"], row["sample"], row["path"]) for row in scored] == [tuple(row.values()) for row in rows]


def test_dry_run_says_how_much_and_writes_nothing(
    faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    before = tree(faces)
    assert extract("--image-path", faces, "--weights", weights, "--output-dir", output, "--dry-run") == 0
    said = capsys.readouterr().out
    assert re.search(r"Dry run: 19 images of 4 identities; 95 gradient files, 0\.01 GB", said)
    assert re.search(r"about .* at [\d.]+ images a second", said)
    assert not output.exists()
    assert tree(faces) == before


def test_quiet_prints_nothing(faces: Path, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--image-path", faces, "--weights", weights, "--output-dir", tmp_path / "run", "--layers", "block4"]
    assert extract(*options, "--quiet") == 0
    assert tuple(capfd.readouterr()) == ("", "")


def test_bgr_swaps_the_channels_and_bgr2rgb_is_the_default(faces: Path, weights: Path, tmp_path: Path) -> None:
    options = ["--image-path", faces, "--weights", weights, "--num-identities", 1, "--quiet", "--layers", "image"]
    assert extract(*options, "--output-dir", tmp_path / "rgb") == 0
    assert extract(*options, "--output-dir", tmp_path / "same", "--bgr2rgb") == 0
    assert extract(*options, "--output-dir", tmp_path / "bgr", "--channel-order", "bgr") == 0
    assert tree(tmp_path / "rgb") == tree(tmp_path / "same")
    assert (tmp_path / "rgb" / "scores.csv").read_text() != (tmp_path / "bgr" / "scores.csv").read_text()


def test_a_flat_folder_keeps_its_structure(faces: Path, weights: Path, tmp_path: Path) -> None:
    options = ["--image-path", faces, "--weights", weights, "--quiet", "--layers", "block4", "--flat-structure"]
    assert extract(*options, "--output-dir", tmp_path / "run") == 0
    assert (tmp_path / "run" / "block4" / "ann" / "0_grad.npy").exists()
    rows = table(tmp_path / "run" / "scores.csv")
    assert (rows[0]["identity"], rows[0]["sample"], rows[0]["path"]) == ("", "ann/0", "ann/0.png")


def test_every_option_is_in_the_help_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["extract", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for field in fields(Options):
        assert flag(field.name) in shown
        assert " ".join(field.metadata["help"].split()[:2]) in " ".join(shown.split())
    assert "--no-dump-gradients" in shown
    assert "examples:" in shown
    assert "exit codes:" in shown


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_loads_neither_torch_nor_numpy_nor_another_verb(verb: str | None) -> None:
    program = (
        "import sys\nfrom grafiqs.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "import grafiqs\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    arguments = [verb, "--help"] if verb else ["--help"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    loaded = set(done.stderr.splitlines())
    assert loaded.isdisjoint(("torch", "numpy", "PIL", "cv2"))
    modules = {name: f"grafiqs.cli.{name.replace('-', '_')}" for name in VERBS}
    assert [name for name in VERBS if modules[name] in loaded] == [verb] * (verb is not None)


def test_every_public_name_is_where_it_is_looked_for() -> None:
    for name in (*grafiqs_package.__all__, "align_faces", "draw_faces"):
        assert getattr(grafiqs_package, name).__name__ == name
    with pytest.raises(AttributeError, match="'nothing'"):
        grafiqs_package.nothing  # noqa: B018


def test_importing_changes_no_global_state() -> None:
    program = """
import os, random, signal, sys, warnings, logging
import cv2, numpy, torch, PIL.Image
def state():
    flags = torch.backends.cudnn
    return (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes(),
            flags.allow_tf32, flags.deterministic, flags.benchmark, torch.backends.cuda.matmul.allow_tf32,
            torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), dict(os.environ),
            PIL.Image.MAX_IMAGE_PIXELS, list(warnings.filters), signal.getsignal(signal.SIGTERM),
            logging.getLogger().handlers[:], logging.getLogger().level)
before = state()
import pkgutil, importlib, grafiqs
for module in pkgutil.walk_packages(grafiqs.__path__, "grafiqs."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
sys.exit(state() != before)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_run_seeds_every_generator_once(faces: Path, weights: Path, tmp_path: Path) -> None:
    options = ["--image-path", faces, "--weights", weights, "--quiet", "--layers", "block4", "--random-seed", 7]
    assert extract(*options, "--num-identities", 1, "--output-dir", tmp_path / "run") == 0
    drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))  # noqa: NPY002
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    assert drawn == (random.random(), float(np.random.rand()), float(torch.rand(())))  # noqa: NPY002


def test_arithmetic_settings_return_after_a_run(faces: Path, weights: Path, tmp_path: Path) -> None:
    before = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic)
    options = ["--image-path", faces, "--weights", weights, "--quiet", "--layers", "block4", "--num-identities", 1]
    assert extract(*options, "--output-dir", tmp_path / "run") == 0
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before


def test_the_installed_command_and_its_version() -> None:
    done = grafiqs("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "grafiqs")


def test_a_reader_that_goes_away_ends_select_quietly(faces: Path) -> None:
    command = f"{sys.executable} -m grafiqs select --image-path {faces} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """A command line in which `grafiqs` is the command, run by a shell."""
    grafiqs = f"{sys.executable} -m grafiqs"
    return subprocess.run(
        ["bash", "-c", line.replace("grafiqs ", f"{grafiqs} ", 1)], capture_output=True, text=True, check=False
    )


def test_standard_output_that_takes_nothing_is_said_in_a_sentence(faces: Path) -> None:
    full = shell(f"grafiqs select --image-path {faces} --quiet > /dev/full")
    assert full.returncode == 3
    assert full.stderr == "grafiqs: cannot write to standard output: No space left on device; give --output FILE\n"
    closed = shell(f"grafiqs select --image-path {faces} --quiet >&-")
    assert (closed.returncode, closed.stderr) == (2, "grafiqs: standard output is closed: give --output FILE\n")


def test_messages_that_find_no_room_do_not_blame_the_run_folder(faces: Path, weights: Path, tmp_path: Path) -> None:
    done = shell(f"grafiqs extract --image-path {faces} --weights {weights} --output-dir {tmp_path}/run > /dev/full")
    assert done.returncode == 3
    assert done.stderr.startswith("grafiqs: cannot write to standard output: No space left on device; ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("inspect {faces} > /dev/full 2>&1", 3),
        ("inspect {faces} 2> /dev/full", 0),
        ("inspect {faces} >&-", 2),
        ("select --image-path /nowhere 2> /dev/full", 2),
    ],
)
def test_the_exit_code_tells_where_nothing_else_can(faces: Path, line: str, code: int) -> None:
    assert shell(f"grafiqs {line.format(faces=faces)}").returncode == code


@pytest.mark.parametrize("what", ["--help", "--version", *(f"{verb} --help" for verb in VERBS)])
def test_help_that_finds_no_reader_is_not_called_given(what: str) -> None:
    """By the exit code, too."""
    full = shell(f"grafiqs {what} > /dev/full")
    sentence = "grafiqs: cannot write to standard output: No space left on device\n"
    assert (full.returncode, full.stderr) == (3, sentence)
    if what in ("--help", "--version"):
        closed = shell(f"grafiqs {what} >&-")
        assert (closed.returncode, closed.stderr) == (2, "grafiqs: standard output is closed\n")
        assert shell(f"grafiqs {what} > /dev/full 2>&1").returncode == 3
        assert shell(f"grafiqs {what} 2>&-").stdout
        gone = shell(f"grafiqs {what} | true; echo ${{PIPESTATUS[0]}}")
        assert gone.stdout in ("0\n", "141\n")  # the pipe may have taken it before its end
        assert gone.stderr == ""


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-"])
def test_a_wrong_command_is_told_by_its_exit_code_where_nothing_else_can(where: str) -> None:
    done = shell(f"grafiqs selekt {where}")
    assert (done.returncode, done.stdout) == (2, "")


def test_messages_do_not_go_among_the_results_when_standard_error_is_closed(faces: Path) -> None:
    plain, closed = (shell(f"grafiqs select --image-path {faces} {where}") for where in ("2> /dev/null", "2>&-"))
    assert (closed.returncode, closed.stdout) == (0, plain.stdout)


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    """What C code prints there would be written into it."""
    program = """
import os, sys
from grafiqs.cli import main
try: main()
except SystemExit: pass
print([os.fstat(number).st_rdev == os.stat(os.devnull).st_rdev for number in (0, 2)])
"""
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" --version <&- 2>&-', sys.executable, program], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[1:] == ["[True, True]"]


def test_a_closed_standard_error_does_not_end_a_run(faces: Path, weights: Path, tmp_path: Path) -> None:
    run = f"--weights {weights} --output-dir {tmp_path}/run --layers block4"
    assert shell(f"grafiqs extract --image-path {faces} {run} 2>&-").returncode == 0
    assert len(table(tmp_path / "run" / "scores.csv")) == 19


def test_select_writes_through_links_and_into_pipes(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert main(["select", "--image-path", str(faces), "--quiet", "--output", str(tmp_path / "link.csv")]) == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert len(table(tmp_path / "real.csv")) == 19
    pipe = tmp_path / "pipe"
    piped = shell(f"mkfifo {pipe}; cat {pipe} & grafiqs select --image-path {faces} --quiet --output {pipe}; wait")
    assert len(piped.stdout.splitlines()) == 20
    assert pipe.is_fifo()


def test_a_device_that_fails_on_the_way_stops_the_run_and_keeps_what_is_done(
    faces: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--image-path", faces, "--weights", weights, "--layers", "block4", "--batch-size", 4, "--quiet"]
    options += ["--compile", "off"]  # a program that another test left would not call it
    batches = iter(range(100))
    compute = measured

    def failing(*arguments: Any) -> Any:
        if next(batches) == 3:
            raise torch.OutOfMemoryError("out of memory")
        return compute(*arguments)

    monkeypatch.setattr(computer, "measured", failing)
    assert extract(*options, "--output-dir", tmp_path / "run") == 3
    said = capsys.readouterr().err
    assert re.search(r"cpu is out of memory\. [1-9]\d* of 19 images are done .* a --batch-size below 4 resumes", said)
    monkeypatch.undo()
    assert extract(*options, "--output-dir", tmp_path / "run") == 0
    assert extract(*options, "--output-dir", tmp_path / "whole") == 0
    assert tree(tmp_path / "run") == tree(tmp_path / "whole")


def test_options_that_mean_the_same_are_the_same_run(faces: Path, weights: Path, tmp_path: Path) -> None:
    options = [
        "--image-path",
        faces,
        "--weights",
        weights,
        "--layers",
        "block4,image",
        "--quiet",
        "--num-identities",
        1,
    ]
    assert extract(*options, "--output-dir", tmp_path / "run") == 0
    before = tree(tmp_path / "run")
    same = [
        "--identity-selection-seed",
        42,
        "--path-replace",
        "",
        "--layers",
        "image,block4",
        "--backbone",
        "iresnet18",
    ]
    assert extract(*options, *same, "--output-dir", tmp_path / "run") == 0
    assert tree(tmp_path / "run") == before


def test_a_quiet_dry_run_is_refused(faces: Path, weights: Path) -> None:
    assert extract("--image-path", faces, "--weights", weights, "--dry-run", "--quiet") == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_scores_of_the_cpu(faces: Path, weights: Path, tmp_path: Path) -> None:
    scores = {}
    for device in ("cpu", "cuda"):
        options = ["--image-path", faces, "--weights", weights, "--quiet", "--device", device]
        assert extract(*options, "--output-dir", tmp_path / device) == 0
        rows = table(tmp_path / device / "scores.csv")
        scores[device] = np.array([[float(row[layer]) for layer in ("image", "block4")] for row in rows])
    np.testing.assert_allclose(scores["cuda"], scores["cpu"], rtol=1e-4)
