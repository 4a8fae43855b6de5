"""The run folder: what is in it, and what is left of it after a kill, a full disk, a second run, other options."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from grafiqs.cli import main
from grafiqs.options.extract import Options
from grafiqs.run import manifest as manifests
from grafiqs.run.contents import fitting, journal_of
from grafiqs.run.folder import RunFolder
from grafiqs.run.journal import Scored
from grafiqs.run.journal import line as journal_line
from grafiqs.run.shard_journals import ShardJournals
from support.killing import begun, ended, events_of, exit_code, recorded, said_by, wait_for_lines
from support.making import checked, make_faces, picture, random_network, rows_of, sums_of, tree, without_progress

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = ("block3", "block4")
"""The cheapest layers."""

FAILED = "bob/9.png"
"""The unreadable image among `flawed_faces`: the twelfth of 20."""


def command(image_path: Path, weights: Path, output: Path, *more: object) -> list[str]:
    """A run of five batches of four; an option in `more` wins."""
    options: list[object] = ["--image-path", image_path, "--weights", weights, "--output-dir", output]
    options += ["--layers", ",".join(LAYERS), "--batch-size", 4, "--device", "cpu", "--quiet", *more]
    return ["extract", *map(str, options)]


def torn(path: Path, size: int) -> None:
    """Cut a file as a kill in the middle of its writing leaves it."""
    os.truncate(path, size)


@pytest.fixture(scope="module")
def flawed_faces(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces, and one image among them that cannot be read: 20 samples; read only."""
    root = tmp_path_factory.mktemp("flawed") / "faces"
    shutil.copytree(faces, root)
    (root / FAILED).write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def finished(flawed_faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over `flawed_faces` that nothing disturbed; read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert ended(command(flawed_faces, weights, folder), folder) == 1
    return folder


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be disturbed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def chosen(events: list[str], every: int) -> list[str]:
    """The events around the manifest, and some of the others."""
    return [event for event in events if "manifest.json" in event or event in events[::every]]


def done_files(folder: Path) -> dict[str, tuple[int, int]]:
    """The gradient files of every sample that is done, by the whole lines of journals: inode and time of change."""
    found: dict[str, tuple[int, int]] = {}
    for line in recorded(folder):
        index = int(re.findall(rb"\[(\d+)", line)[0])
        paths = [folder / path for path in manifests.read(folder).tree(folder).paths([index])]
        if all(path.exists() for path in paths):
            for path in paths:
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = (status.st_ino, status.st_mtime_ns)
    return found


def journal_and_lines(folder: Path) -> tuple[Path, bytes, list[bytes]]:
    """The journal of a run that was stopped in its only shard, the line of its holder, and the others."""
    journal = folder / "progress" / "00000.0"
    head, *lines = journal.read_bytes().splitlines(keepends=True)
    return journal, head, lines


def assert_goes_on(folder: Path, arguments: list[str], reference: dict[str, bytes], why: str) -> None:
    """The stopped run holds nothing half-written under a final name, and ends as if it had not been stopped."""
    for path, data in without_progress(folder).items():
        if not path.endswith(".part"):
            assert data == reference[path], f"{path} is not whole after {why}"
    before = done_files(folder)
    assert main(arguments) == 1, why
    assert tree(folder) == reference, why
    for path, stamp in before.items():
        status = (folder / path).stat()
        assert (status.st_ino, status.st_mtime_ns) == stamp, f"{path} was written again after {why}"


def test_a_kill_while_a_finished_run_is_mended_loses_nothing(
    finished: Path, flawed_faces: Path, weights: Path, tmp_path: Path
) -> None:
    def damaged(name: str) -> tuple[Path, list[str]]:
        folder = Path(shutil.copytree(finished, tmp_path / name))
        (folder / "block3" / "ann" / "2_grad.npy").unlink()
        torn(folder / "block4" / "dee" / "5_grad.npy", 100)
        return folder, command(flawed_faces, weights, folder)

    folder, arguments = damaged("whole")
    assert ended(arguments, folder) == 1
    assert tree(folder) == tree(finished)
    for number, event in enumerate(chosen(events_of(folder), every=8)):
        folder, arguments = damaged(str(number))
        assert ended(arguments, folder, event) == -signal.SIGKILL, event
        assert main(arguments) == 1
        assert tree(folder) == tree(finished), event


def test_a_manifest_half_written_by_a_kill_does_not_stay(output: Path, flawed_faces: Path, weights: Path) -> None:
    """A run that goes on in another environment writes its manifest again, and can be killed there."""
    expected = tree(output)
    (output / "manifest.json.part").write_bytes(b'{\n "form')
    assert main(command(flawed_faces, weights, output)) == 1
    assert tree(output) == expected


# -- the journal ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(flawed_faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed when the first seven samples were done; read only."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    assert ended(command(flawed_faces, weights, folder), folder, "append 7") == -signal.SIGKILL
    return folder


@pytest.fixture
def stopped(killed: Path, tmp_path: Path) -> Path:
    """A copy of the killed run, to be gone on with."""
    return Path(shutil.copytree(killed, tmp_path / "stopped"))


@pytest.mark.parametrize("size", [0, 1, 30, -1])
def test_a_torn_last_line_is_cut_off_and_its_sample_redone(
    size: int, stopped: Path, finished: Path, flawed_faces: Path, weights: Path
) -> None:
    journal, head, lines = journal_and_lines(stopped)
    before = done_files(stopped)
    journal.write_bytes(b"".join([head, *lines[:-1], lines[-1][:size]]))
    assert main(command(flawed_faces, weights, stopped)) == 1
    assert tree(stopped) == tree(finished)
    again = {path for path, stamp in before.items() if (stopped / path).stat().st_ino != stamp[0]}
    again |= {path for path, stamp in before.items() if (stopped / path).stat().st_mtime_ns != stamp[1]}
    assert again == {"block3/bob/0_grad.npy", "block4/bob/0_grad.npy"}


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda line: b"\0" * (len(line) - 1) + b"\n",
    "empty": lambda _: b"\n",
    "half a line": lambda line: line[: len(line) // 2] + b"\n",
    "without its end": lambda line: line[:-1],
    "bytes that are no text": lambda line: b"\xff\xfe" + line,
    "another sample's index": lambda line: line.replace(b"[3,", b"[5,"),
    "an index too large": lambda line: line.replace(b"[3,", b"[20,"),
    "an index that is no number": lambda line: line.replace(b"[3,", b"[true,"),
    "another score": lambda line: re.sub(rb", \[(\d)", lambda found: b", [%d" % (9 - int(found[1])), line),
    "a score less": lambda line: re.sub(rb", \[[^,]*, ", b", [", line),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_in_the_middle_is_redone(
    damage: str, stopped: Path, finished: Path, flawed_faces: Path, weights: Path
) -> None:
    journal, head, lines = journal_and_lines(stopped)
    assert len(lines) == 7
    changed = DAMAGES[damage](lines[3])
    assert changed != lines[3]
    journal.write_bytes(b"".join([head, *lines[:3], changed, *lines[4:]]))
    assert main(command(flawed_faces, weights, stopped)) == 1
    assert tree(stopped) == tree(finished)


SHA256 = "0" * 64

FORGED: dict[str, list[Any]] = {
    "index": [-1, 2**70, True, 3.0, "3", None, [3]],
    "image_sha256": [None, 5, "", "0" * 63, "0" * 65, "A" * 64, "g" * 64, f"{SHA256}\n", [SHA256]],
    "scores": [None, "12", 1.0, [], [1.0], [1.0] * 3, [1, 2], [True, 1.0], ["1.0", "2.0"], [1.0, None]],
    "files_sha256": [None, SHA256, [], [SHA256], [SHA256] * 3, [SHA256, 1], [SHA256, "no checksum"]],
    "face": [None, "", {}, [1.0] * 15, [None] * 15],
    "embedding": [None, 5, "AAAA", "\u00e9", "=", [""]],
}
"""What no line of a run of two layers holds, by the field."""


def forged_lines(line: bytes) -> list[bytes]:
    """Lines that state the sample of this one, checksums and all, and cannot be its."""
    values = json.loads(line.partition(b" ")[2])
    wrong: list[Any] = [None, 3, "3", {}, {"index": 3}, [], [3], values[:-1], [*values, ""], [3, 5], [True, "no"]]
    for place, field in enumerate(fields(Scored)):
        wrong += [[*values[:place], value, *values[place + 1 :]] for value in FORGED[field.name]]
    texts = [json.dumps(value).encode() for value in wrong]
    scores = json.dumps(values[2]).encode()
    good = json.dumps(values).encode()
    texts += [good.replace(scores, b"[1.0, %s]" % number) for number in (b"NaN", b"-Infinity", b"1e400", b"9" * 5000)]
    texts += [b"[" * 100_000, b"\xff", b""]
    return list(map(checked, texts))


def test_forged_lines_are_redone_and_end_nothing(
    stopped: Path, finished: Path, flawed_faces: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal, head, lines = journal_and_lines(stopped)
    forged = forged_lines(lines[3])
    assert lines[3] not in forged
    journal.write_bytes(b"".join([head, *lines[:3], *forged, *lines[4:]]))
    arguments = [argument for argument in command(flawed_faces, weights, stopped) if argument != "--quiet"]
    assert main(arguments) == 1
    assert "Resuming: 6 of 20 images are done already" in capfd.readouterr().out
    assert tree(stopped) == tree(finished)


def test_no_forged_line_takes_the_place_of_a_good_one(stopped: Path) -> None:
    """Of several lines of a sample the last one counts that can be its."""
    path, head, lines = journal_and_lines(stopped)
    line, manifest = lines[3], manifests.read(stopped)
    for forged in forged_lines(line):
        path.write_bytes(head + line + forged)
        journals = ShardJournals(stopped, manifest.shards, fitting(manifest))
        journals.look()
        assert list(map(journal_line, journals.outcomes())) == [line], forged[:200]
        (stopped / "progress.jsonl").write_bytes(line + forged)  # as earlier versions had it
        journal = journal_of(stopped, manifest)
        journal.look()
        assert list(map(journal_line, journal.outcomes())) == [line], forged[:200]


# -- one run at a time ---------------------------------------------------------------------------------------


def test_the_folder_is_free_as_soon_as_the_run_in_it_ends(output: Path, flawed_faces: Path, weights: Path) -> None:
    manifest = manifests.read(output)
    with RunFolder(output, manifest).opened():
        assert main(command(flawed_faces, weights, output)) == 2
    assert main(command(flawed_faces, weights, output)) == 1


# -- other options, other weights, other files ---------------------------------------------------------------

OTHERS: dict[str, tuple[object, ...]] = {
    "image_path": (),
    "root": (),
    "image_extension": ("--image-extension", "png"),
    "flat_structure": ("--flat-structure",),
    "identity_depth": ("--identity-depth", 1),
    "path_column": ("--path-column", 1),
    "identity_column": ("--identity-column", 0),
    "num_identities": ("--num-identities", 4),
    "skip_identities": ("--skip-identities", 1),
    "samples_per_identity": ("--samples-per-identity", 1),
    "random_seed": ("--random-seed", 43),
    "identity_selection_seed": ("--identity-selection-seed", 43),
    "random_identity_selection": ("--random-identity-selection",),
    "allow_insufficient_samples": ("--allow-insufficient-samples",),
    "strict": ("--strict", "--num-identities", 4, "--samples-per-identity", 2),
    "layers": ("--layers", "block4"),
    "norms": ("--norms", "all"),
    "dump_gradients": ("--no-dump-gradients",),
    "gradient_dtype": ("--gradient-dtype", "float16"),
    "embeddings": ("--embeddings",),
    "flip": ("--embeddings", "--flip"),
    "path_replace": ("--path-replace", "faces"),
    "path_replace_with": ("--path-replace", "faces", "--path-replace-with", "F"),
    "store": ("--store", "shards"),
}

INPUTS: dict[str, tuple[object, ...]] = {
    "channel_order": ("--channel-order", "bgr"),
    "mean": ("--mean", 0.4),
    "std": ("--std", 0.4),
}
"""These decide, too, by the input that the network is given, whatever it was trained on."""


def test_every_option_that_decides_is_tried() -> None:
    assert set(OTHERS) == {field.name for field in fields(Options) if field.metadata["decides"]}


@pytest.mark.parametrize("name", [*OTHERS, *INPUTS])
def test_a_run_with_another_option_is_refused(
    name: str, output: Path, flawed_faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = flawed_faces
    if name == "image_path":
        dataset = tmp_path / "link"
        dataset.symlink_to(flawed_faces)
    if name in ("root", "path_column", "identity_column"):
        dataset = flawed_faces.parent / f"{name}.csv"
        paths = sorted(path.relative_to(flawed_faces.parent) for path in flawed_faces.rglob("*.png"))
        dataset.write_text("".join(f"{path}\n" for path in paths))
    before = tree(output)
    capsys.readouterr()
    others = ("--root", flawed_faces.parent) if name == "root" else (OTHERS | INPUTS)[name]
    assert main(command(dataset, weights, output, *others)) == 2
    said = capsys.readouterr().err
    assert f"{output} holds another run" in said
    section = "options." if name in OTHERS else "preprocessing."
    assert f"\n  - {'layers.' if name == 'layers' else section + name}" in said
    assert "--overwrite" in said
    assert tree(output) == before


@pytest.mark.parametrize(
    "name", ["samples_per_identity", "channel_order", "layers", "dump_gradients", "gradient_dtype", "flip"]
)
def test_overwrite_makes_what_a_fresh_folder_would_hold(
    name: str, output: Path, flawed_faces: Path, weights: Path, tmp_path: Path
) -> None:
    before = tree(output)
    codes = {
        main(command(flawed_faces, weights, folder, *(OTHERS | INPUTS)[name], "--overwrite"))
        for folder in (output, tmp_path / "new")
    }
    assert len(codes) == 1
    assert codes <= {0, 1}
    assert tree(output) == tree(tmp_path / "new") != before
    assert {path.name for path in output.iterdir()} == {path.name for path in (tmp_path / "new").iterdir()}


def test_the_refusal_names_both_values(
    output: Path, flawed_faces: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(flawed_faces, weights, output, "--random-seed", 7, "--precision", "float64")) == 2
    said = capsys.readouterr().err
    assert "\n  - options.random_seed: 42 in the folder, 7 asked for\n" in said
    assert "\n  - seeds.torch: 42 in the folder, 7 asked for\n" in said
    assert "\n  - computation.precision: float32 in the folder, float64 asked for\n" in said


def test_other_weights_are_refused_and_the_same_elsewhere_are_not(
    output: Path, flawed_faces: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(output)
    other, moved = tmp_path / "other.pth", tmp_path / "moved.pth"
    torch.save(random_network(seed=1).state_dict(), other)
    assert main(command(flawed_faces, other, output)) == 2
    differences = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  - ")]
    assert len(differences) == 1
    assert differences[0].startswith("  - weights_sha256: ")
    assert tree(output) == before
    shutil.copy(weights, moved)
    assert main(command(flawed_faces, moved, output)) == 1
    assert tree(output) == before
    assert main(command(flawed_faces, other, output, "--overwrite")) == 1
    assert main(command(flawed_faces, other, tmp_path / "new")) == 1
    assert tree(output) == tree(tmp_path / "new")


def test_a_data_set_with_another_subset_is_refused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_faces(tmp_path / "faces", {"ann": 2, "bob": 2})
    output = tmp_path / "run"
    assert main(command(dataset, weights, output)) == 0
    before = tree(output)
    (dataset / "ann" / "1.png").unlink()
    Image.fromarray(picture(99)).save(dataset / "bob" / "9.png")
    capsys.readouterr()
    assert main(command(dataset, weights, output)) == 2
    assert "\n  - subset: 1 samples gone, 1 new (ann/1.png is no longer in it; bob/9.png is new in it)\n" in (
        capsys.readouterr().err
    )
    assert tree(output) == before
    assert main(command(dataset, weights, output, "--overwrite")) == 0
    assert main(command(dataset, weights, tmp_path / "new")) == 0
    assert tree(output) == tree(tmp_path / "new")


def test_overwrite_leaves_foreign_files_alone(output: Path, flawed_faces: Path, weights: Path, tmp_path: Path) -> None:
    foreign = {
        "notes.txt": b"mine",
        "scores.csv.bak": b"mine",
        "block3/ann/mine.npy": b"mine",
        "block3/other/0_grad.npy": b"mine",
        "elsewhere/block3/ann/0_grad.npy": b"mine",
    }
    for path, data in foreign.items():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_bytes(data)
    other = ("--layers", "block4", "--samples-per-identity", 2, "--overwrite")
    assert main(command(flawed_faces, weights, output, *other)) == 0
    assert main(command(flawed_faces, weights, tmp_path / "new", *other)) == 0
    assert tree(output) == tree(tmp_path / "new") | foreign
    assert sorted(path.name for path in (output / "block3").iterdir()) == ["ann", "other"]


def test_overwrite_of_a_run_with_a_kept_name_that_no_file_can_have(weights: Path, tmp_path: Path) -> None:
    """The image's own name just fits into the file system; its gradient's does not."""
    dataset = make_faces(tmp_path / "faces", {"ann": 2})
    (dataset / "ann" / "1.png").rename(dataset / "ann" / f"{'x' * 251}.png")
    output = tmp_path / "run"
    assert main(command(dataset, weights, output)) == 1
    rows = rows_of(output / "failures.csv")
    assert [(row["sample"], row["reason"]) for row in rows] == [
        ("x" * 251, f"its gradient cannot be written: {os.strerror(errno.ENAMETOOLONG)}")
    ]
    before = tree(output)
    assert sorted(path for path in before if path.endswith(".npy")) == [
        "block3/ann/0_grad.npy",
        "block4/ann/0_grad.npy",
    ]
    assert main(command(dataset, weights, output)) == 1
    assert tree(output) == before
    assert main(command(dataset, weights, output, "--overwrite")) == 1
    assert tree(output) == before


def test_a_name_that_fits_but_not_with_part_is_a_failure_too(weights: Path, tmp_path: Path) -> None:
    dataset = make_faces(tmp_path / "faces", {"ann": 2})
    (dataset / "ann" / "1.png").rename(dataset / "ann" / f"{'x' * 244}.png")
    assert main(command(dataset, weights, tmp_path / "run")) == 1
    assert [row["sample"] for row in rows_of(tmp_path / "run" / "failures.csv")] == ["x" * 244]


@pytest.mark.parametrize("arguments", [(), ("--overwrite",)])
@pytest.mark.parametrize("path", ["notes.txt", ".hidden", "block3/ann/0_grad.npy", "scores.csv"])
def test_a_folder_of_other_things_is_refused_untouched(
    path: str,
    arguments: tuple[str, ...],
    flawed_faces: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    (output / path).parent.mkdir(parents=True)
    (output / path).write_bytes(b"mine")
    assert main(command(flawed_faces, weights, output, *arguments)) == 2
    assert f"{output} is not empty and holds no run" in capsys.readouterr().err
    assert tree(output) == {path: b"mine"}


# -- the same command again ----------------------------------------------------------------------------------


def test_the_same_command_on_a_finished_run_changes_nothing(faces: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert main(command(faces, weights, output)) == 0
    before = tree(output)
    stamps = {path: (output / path).stat().st_mtime_ns for path in before if path.endswith(".npy")}
    assert len(stamps) == 38
    assert main(command(faces, weights, output)) == 0
    assert tree(output) == before
    assert {path: (output / path).stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: torn(path, 1000),
        lambda path: torn(path, 0),
        lambda path: path.write_bytes(path.read_bytes() + b"0"),
        lambda path: shutil.rmtree(path.parent),
    ],
)
def test_a_gradient_file_that_is_gone_or_not_whole_is_made_again(
    damage: Callable[[Path], object], output: Path, finished: Path, flawed_faces: Path, weights: Path
) -> None:
    damage(output / "block4" / "dee" / "3_grad.npy")
    assert tree(output) != tree(finished)
    assert main(command(flawed_faces, weights, output)) == 1
    assert tree(output) == tree(finished)


def test_a_mended_image_gets_its_score_as_if_it_had_never_failed(weights: Path, tmp_path: Path) -> None:
    dataset = make_faces(tmp_path / "faces", {"ann": 3, "bob": 3})
    good = (dataset / "ann" / "1.png").read_bytes()
    (dataset / "ann" / "1.png").write_bytes(good[: len(good) // 2])
    output = tmp_path / "run"
    assert main(command(dataset, weights, output)) == 1
    assert [row["path"] for row in rows_of(output / "failures.csv")] == ["ann/1.png"]
    (dataset / "ann" / "1.png").write_bytes(good)
    assert main(command(dataset, weights, output)) == 0
    assert rows_of(output / "failures.csv") == []
    assert main(command(dataset, weights, tmp_path / "new")) == 0
    assert tree(output) == tree(tmp_path / "new")


def test_an_image_that_spoiled_after_its_gradient_was_lost_becomes_a_failure(weights: Path, tmp_path: Path) -> None:
    dataset = make_faces(tmp_path / "faces", {"ann": 3})
    output = tmp_path / "run"
    assert main(command(dataset, weights, output)) == 0
    (output / "block3" / "ann" / "1_grad.npy").unlink()
    (dataset / "ann" / "1.png").write_bytes(b"")
    assert main(command(dataset, weights, output)) == 1
    assert main(command(dataset, weights, tmp_path / "new")) == 1
    assert tree(output) == tree(tmp_path / "new")


def test_a_sample_that_is_done_needs_its_image_no_more(weights: Path, tmp_path: Path) -> None:
    """Unless its batch is computed again, for the sake of another sample."""
    dataset = make_faces(tmp_path / "faces", {"ann": 6})
    output = tmp_path / "run"
    assert main(command(dataset, weights, output)) == 0
    before = tree(output)
    (output / "block3" / "ann" / "5_grad.npy").unlink()
    (dataset / "ann" / "0.png").write_bytes(b"")
    assert main(command(dataset, weights, output)) == 0
    assert tree(output) == before
    (output / "block3" / "ann" / "1_grad.npy").unlink()
    assert main(command(dataset, weights, output)) == 3


def test_a_finished_run_with_an_edited_table_is_not_gone_on_with(
    output: Path, flawed_faces: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (output / "scores.csv").open("a") as file:
        file.write("ann,7,ann/7.png,1.0,2.0\n")
    before = tree(output)
    capsys.readouterr()
    assert main(command(flawed_faces, weights, output)) == 2
    assert "is damaged (scores.csv was changed since)" in capsys.readouterr().err
    assert tree(output) == before


def test_layers_that_are_named_in_full_are_the_same_run(faces: Path, weights: Path, tmp_path: Path) -> None:
    run = ["extract", "--image-path", str(faces), "--weights", str(weights), "--num-identities", "1", "--quiet"]
    run += ["--output-dir", str(tmp_path / "run")]
    assert main(run) == 0
    assert main([*run, "--layers", "image,block1,block2,block3,block4,loss"]) == 0


# -- the tables ----------------------------------------------------------------------------------------------


def test_the_tables_say_what_the_files_hold_in_the_order_of_the_subset(finished: Path, flawed_faces: Path) -> None:
    scores = rows_of(finished / "scores.csv")
    assert [row["path"] for row in scores] == sorted(
        path.relative_to(flawed_faces).as_posix() for path in flawed_faces.rglob("*.png") if path.stat().st_size > 8
    )
    assert len(scores) == 19
    for row in scores:
        assert list(row) == ["identity", "sample", "path", *LAYERS]
        assert row["path"] == f"{row['identity']}/{row['sample']}.png"
        for layer in LAYERS:
            gradient = np.load(finished / layer / row["identity"] / f"{row['sample']}_grad.npy")
            assert float(row[layer]) == pytest.approx(np.abs(gradient.astype(np.float64)).sum(), rel=1e-12)
            assert float(row[layer]) > 0
    assert (finished / "failures.csv").read_text() == (
        "identity,sample,path,reason\nbob,9,bob/9.png,not an image in a known format\n"
    )
    for layer in LAYERS:
        assert (finished / f"GraFIQs_{layer}.txt").read_text() == "".join(
            f"{flawed_faces}/{row['path']} {row[layer]}\n" for row in scores
        )
    image_sums = sums_of(finished / "SHA256SUMS.images")
    assert image_sums == {
        row["path"]: hashlib.sha256((flawed_faces / row["path"]).read_bytes()).hexdigest() for row in scores
    }
    assert list(image_sums) == [row["path"] for row in scores]
    own = {path: data for path, data in tree(finished).items() if path not in (".lock", "SHA256SUMS")}
    assert sums_of(finished / "SHA256SUMS") == {path: hashlib.sha256(data).hexdigest() for path, data in own.items()}


def test_half_precision_files_keep_the_scores(
    finished: Path, flawed_faces: Path, weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert main(command(flawed_faces, weights, output, "--gradient-dtype", "float16")) == 1
    assert (output / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
    for path in output.rglob("*_grad.npy"):
        half, full = np.load(path), np.load(finished / path.relative_to(output))
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, full.astype(np.float16))


def test_scores_alone(finished: Path, flawed_faces: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert main(command(flawed_faces, weights, output, "--no-dump-gradients")) == 1
    assert [path for path in output.iterdir() if path.is_dir()] == []
    for name in ("scores.csv", "failures.csv", "GraFIQs_block3.txt", "GraFIQs_block4.txt", "SHA256SUMS.images"):
        assert (output / name).read_bytes() == (finished / name).read_bytes()


def test_replaced_paths_change_the_field_format_alone(
    finished: Path, flawed_faces: Path, weights: Path, tmp_path: Path
) -> None:
    changes: dict[tuple[str, ...], str] = {
        ("--path-replace", str(flawed_faces), "--path-replace-with", "/data/faces"): "/data/faces",
        ("--path-replace", f"{flawed_faces}/"): "",
    }
    for number, (options, root) in enumerate(changes.items()):
        output = tmp_path / str(number)
        assert main(command(flawed_faces, weights, output, *options)) == 1
        told = {*(f"GraFIQs_{layer}.txt" for layer in LAYERS), "manifest.json", "SHA256SUMS"}
        before, after = tree(finished), tree(output)
        assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == told
        for layer in LAYERS:
            lines = (output / f"GraFIQs_{layer}.txt").read_text().splitlines()
            assert lines == [
                f"{root}/{row['path']} {row[layer]}".removeprefix("/" if not root else "")
                for row in rows_of(output / "scores.csv")
            ]


STRANGE = (
    "two words",
    " a space before",
    "a space after ",
    "line\nbreak",
    "carriage\rreturn",
    "both\r\n",
    'quo"te',
    '"quoted"',
    "com,ma",
    "back\\slash",
    "\\before",
    "\\n",
    "tab\t",
    "*star",
    "=1+1",
    "apo'strophe",
    "gr\u00fc\u00df",
    "cafe\u0301",
    "\u65e5\u672c",
    "\U0001f642",
    os.fsdecode(b"no \xff\xfe utf-8"),
)


@pytest.fixture(scope="module")
def strange_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose identities and samples have every kind of name; read only."""
    root = tmp_path_factory.mktemp("strange") / "faces"
    for number, name in enumerate(STRANGE):
        (root / name).mkdir(parents=True)
        Image.fromarray(picture(number)).save(root / name / f"{name}.png")
    return root


def test_strange_names_go_through_every_table_unharmed(strange_faces: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert main(command(strange_faces, weights, output)) == 0
    rows = rows_of(output / "scores.csv")
    assert {(row["identity"], row["sample"], row["path"]) for row in rows} == {
        (name, name, f"{name}/{name}.png") for name in STRANGE
    }
    for row in rows:
        for layer in LAYERS:
            gradient = np.load(output / layer / row["identity"] / f"{row['sample']}_grad.npy")
            assert float(row[layer]) == pytest.approx(np.abs(gradient.astype(np.float64)).sum(), rel=1e-12)
    before = tree(output)
    assert main(["verify", str(output)]) == 0
    (output / "block4" / STRANGE[3] / f"{STRANGE[3]}_grad.npy").unlink()
    assert main(command(strange_faces, weights, output)) == 0
    assert tree(output) == before
    text = (output / "GraFIQs_block3.txt").read_bytes().decode("utf-8", "surrogateescape")
    written = [line.rpartition(" ")[0] for line in text.removesuffix("\n").split("\n")]
    assert written == [f"{strange_faces}/{row['path']}".replace("\r", "\\r").replace("\n", "\\n") for row in rows]


def test_strange_names_among_the_failures_are_read_back(weights: Path, tmp_path: Path) -> None:
    for name in STRANGE:
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / "faces" / name / f"{name}.png").write_bytes(b"no image")
    output = tmp_path / "run"
    assert main([*command(tmp_path / "faces", weights, output), "--keep-going"]) == 1
    rows = rows_of(output / "failures.csv")
    assert {(row["identity"], row["sample"], row["path"]) for row in rows} == {
        (name, name, f"{name}/{name}.png") for name in STRANGE
    }
    assert main(["verify", str(output)]) == 0


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_sha256sum_itself_checks_the_run_and_the_images(strange_faces: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert main(command(strange_faces, weights, output)) == 0
    for folder, name, count in ((output, "SHA256SUMS", 2 * 21 + 7), (strange_faces, "SHA256SUMS.images", 21)):
        check = ["sha256sum", "--check", "--strict", str(output / name)]
        done = subprocess.run(check, cwd=folder, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.count(b": OK\n") == count
    path = output / "block3" / STRANGE[4] / f"{STRANGE[4]}_grad.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=output, capture_output=True, check=False).returncode == 1


# -- no room -------------------------------------------------------------------------------------------------


def test_a_journal_that_cannot_grow_stops_the_run_and_is_gone_on_with(
    flawed_faces: Path, weights: Path, tmp_path: Path
) -> None:
    """A limit on the size of files makes the system write a part of a line, as it does on a full disk."""
    whole, output = tmp_path / "whole", tmp_path / "run"
    assert main(command(flawed_faces, weights, whole, "--no-dump-gradients")) == 1
    arguments = command(flawed_faces, weights, output, "--no-dump-gradients")
    assert ended(arguments, output, "append 3") == -signal.SIGKILL
    _, head, lines = journal_and_lines(output)
    assert len(lines) == 3
    assert exit_code(begun(arguments, output, file_limit=len(head) + len(b"".join(lines)) * 5 // 6)) == 3
    assert "5 of 20 images are done and kept" in said_by(output)
    assert "Traceback" not in said_by(output)
    lines = (output / "progress" / "00000.1").read_bytes().splitlines(keepends=True)
    assert [line.endswith(b"\n") for line in lines] == [True] * len(lines)
    assert len(recorded(output)) == 5
    assert_goes_on(output, arguments, tree(whole), "a journal that could not grow")


def test_a_disk_too_small_for_the_run_is_told_before_anything_is_written(
    flawed_faces: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "new" / "deep" / "run", tmp_path / "empty"):
        assert main(command(flawed_faces, weights, output)) == 2
        assert re.search(r"has \d+ MB free, and this run needs [1-9]\d* MB: make room", capsys.readouterr().err)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["empty"]


def test_a_disk_too_small_leaves_the_run_that_is_there_as_it_is(
    output: Path, stopped: Path, flawed_faces: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output / "block3" / "ann" / "2_grad.npy").unlink()
    folders = {folder: tree(folder) for folder in (output, stopped)}
    full = shutil.disk_usage(output)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    for folder, before in folders.items():
        for more in ((), ("--overwrite", "--layers", "image,block1,block2,block3,block4")):
            assert main(command(flawed_faces, weights, folder, *more)) == 2
            assert tree(folder) == before
    monkeypatch.undo()
    assert main(command(flawed_faces, weights, output)) == 1


# -- signals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside_ends_the_installed_command(
    number: signal.Signals, faces: Path, weights: Path, tmp_path: Path
) -> None:
    """As a terminal or a job scheduler sends it, to a run of many images that has only begun."""
    dataset, output = tmp_path / "faces", tmp_path / "run"
    dataset.mkdir()
    for identity in range(100):
        (dataset / f"{identity}").symlink_to(faces / "ann")
    arguments = command(dataset, weights, output, "--no-dump-gradients", "--layers", "image")
    with subprocess.Popen(
        [sys.executable, "-m", "grafiqs", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        wait_for_lines(output, 3, lambda: process.poll() is None)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert re.search(r"stopped\. \d+ of 600 images are done and kept: the same command resumes", said)


def test_a_run_whose_messages_nobody_reads_any_more_is_not_called_done(
    finished: Path, flawed_faces: Path, weights: Path, tmp_path: Path
) -> None:
    """As with `2>&1 | head`: the progress bar is what fails to be written."""
    output = tmp_path / "run"
    arguments = [argument for argument in command(flawed_faces, weights, output) if argument != "--quiet"]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "grafiqs", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=writer,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(writer)
    assert process.wait(60) == 128 + signal.SIGPIPE
    assert_goes_on(output, arguments, tree(finished), "a broken pipe")
