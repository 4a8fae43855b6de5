"""A sweep: each of its runs is what a single run is, to the byte, and each image is computed once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from grafiqs import sweep as sweeping
from grafiqs.cli import main
from grafiqs.compute.computer import Computed
from grafiqs.compute.preparation import Batch, is_same_in_any_order
from grafiqs.datasets.dataset import Sample
from grafiqs.images.reading import Read
from grafiqs.run.tree import GradientTree
from grafiqs.verify import verify_run
from support.commands import refused
from support.killing import ended, events_of
from support.making import fill_disk_at, make_faces, picture, rows_of, tree

pytestmark = pytest.mark.usefixtures("one_thread")

Capture = pytest.CaptureFixture[str]

SHARED = ["--layers", "block3,block4", "--device", "cpu", "--quiet", "--batch-size", "2", "--embeddings"]
SIZES = ["--num-identities", "2", "--samples-per-identity", "2", "--allow-insufficient-samples"]
SEEDS = ["--identity-selection-seeds", "1,3,6", "--random-seeds", "5,7,10"]
RUNS = {"identities-1_samples-5": (1, 5), "identities-3_samples-7": (3, 7), "identities-6_samples-10": (6, 10)}
"""Their identity and sample seeds. The last shares images with each of the others, and the second has a bad one."""
NAMES = list(RUNS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four identities; one image, the only one of its identity, cannot be read; read only."""
    root = make_faces(tmp_path_factory.mktemp("images") / "faces", {"ann": 4, "bob": 3, "cyd": 3})
    (root / "dee").mkdir()
    (root / "dee" / "0.png").write_bytes(b"no image")
    return root


class Work:
    """The commands, on one data set with one network."""

    def __init__(self, images: Path, weights: Path) -> None:
        self.shared = ["--image-path", str(images), "--weights", str(weights), *SHARED]

    def sweep(self, folder: Path, *options: str) -> list[str]:
        return ["sweep", *self.shared, "--output-dir", str(folder), *(options or (*SIZES, *SEEDS))]

    def single(self, folder: Path, identity: int, sample: int, *more: str) -> list[str]:
        seeds = [
            "--random-identity-selection",
            "--identity-selection-seed",
            str(identity),
            "--random-seed",
            str(sample),
        ]
        return ["extract", *self.shared, "--output-dir", str(folder), *seeds, *(more or SIZES)]


@pytest.fixture(scope="module")
def work(images: Path, weights: Path) -> Work:
    return Work(images, weights)


@pytest.fixture(scope="module")
def singles(work: Work, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The single runs; read only."""
    root = tmp_path_factory.mktemp("singles")
    assert [main(work.single(root / name, *seeds)) for name, seeds in RUNS.items()] == [0, 1, 0]
    return {name: root / name for name in NAMES}


@pytest.fixture(scope="module")
def finished(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, made in a process whose events are written down; read only."""
    folder = tmp_path_factory.mktemp("finished") / "sweep"
    assert ended(work.sweep(folder), folder) == 1
    return folder


def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the sweep to be changed, its files linked as they are there."""
    folder, seen = tmp_path / "sweep", {}  # type: ignore[var-annotated]
    for path in sorted(finished.rglob("*")):
        target = folder / path.relative_to(finished)
        if path.is_dir():
            target.mkdir(parents=True)
        elif (known := seen.setdefault(path.stat().st_ino, target)) is target:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        else:
            os.link(known, target)
    return folder


def gradients(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy")) if folder.name in NAMES else sorted(folder.glob("*/block*/**/*.npy"))


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """The samples whose gradients are computed and written from now on."""
    written: list[Sample] = []
    write = GradientTree.write

    def seen(tree: GradientTree, index: int, gradients: Mapping[str, Any]) -> list[str]:
        written.append(tree.samples[index])
        return write(tree, index, gradients)

    monkeypatch.setattr(GradientTree, "write", seen)
    return written


def shared_location(run: Path) -> str:
    """Where an image lies whose gradients another run has, too."""
    path = next(path for path in gradients(run) if names_of(path) > 1)
    return f"{path.parent.name}/{path.name.removesuffix('_grad.npy')}.png"


def places(folder: Path) -> set[str]:
    """What lies in a folder, folders included."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def names_of(path: Path) -> int:
    """How many names a file has."""
    return path.stat().st_nlink


def test_each_run_is_a_single_run_to_the_byte(finished: Path, singles: Mapping[str, Path]) -> None:
    assert {path.name for path in finished.iterdir()} == {*NAMES, "sweep.json", "sweep.csv", ".lock"}
    for name, single in singles.items():
        assert tree(finished / name) == tree(single)
        assert verify_run(finished / name, quiet=True) == []
    rows = {row["run"]: row for row in rows_of(finished / "sweep.csv")}
    for name, (identity, sample) in RUNS.items():
        manifest = json.loads((singles[name] / "manifest.json").read_text())
        failed = len(rows_of(singles[name] / "failures.csv"))
        assert rows[name] == {
            "run": name,
            "identity_selection_seed": str(identity),
            "random_seed": str(sample),
            "skip_identities": "0",
            "subset_sha256": manifest["subset"]["sha256"],
            "identities": "2",
            "samples": str(manifest["subset"]["count"]),
            "scored": str(manifest["subset"]["count"] - failed),
            "failed": str(failed),
        }
    assert json.loads((finished / "sweep.json").read_text())["same_in_any_order"] is True


def test_verify_checks_every_run_of_a_sweep(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = copied(finished, tmp_path)
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.count("Verified: ") == len(NAMES)
    changed = next(path for path in gradients(folder / NAMES[2]) if names_of(path) > 1)
    changed.write_bytes(changed.read_bytes()[:-1] + b"?")  # in all runs that share it
    within = changed.relative_to(folder / NAMES[2])
    holding = {name for name in NAMES if (folder / name / within).exists()}
    assert len(holding) == 2
    assert {line.partition(":")[0] for line in verify_run(folder, quiet=True)} == holding
    (folder / "sweep.csv").unlink()
    assert main(["verify", str(folder)]) == 1
    assert "is not finished: the command that began it resumes it" in capsys.readouterr().err


def test_each_image_is_computed_once_and_lies_on_the_disk_once(
    work: Work, singles: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = recorded(monkeypatch)
    assert main(work.sweep(tmp_path / "sweep")) == 1
    scored = Counter(row["path"] for name in NAMES for row in rows_of(singles[name] / "scores.csv"))
    assert max(scored.values()) > 1  # or this test sees nothing
    assert Counter(sample.location for sample in written) == dict.fromkeys(scored, 1)
    for path in gradients(tmp_path / "sweep"):
        location = f"{path.parent.name}/{path.name.removesuffix('_grad.npy')}.png"
        assert names_of(path) == scored[location]


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK])
def test_without_hard_links_they_are_copied(
    error: int, work: Work, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", no_link)
    assert main(work.sweep(tmp_path / "sweep")) == 1
    assert "has no hard links: the gradients are copied" in capsys.readouterr().err
    assert tree(tmp_path / "sweep") == tree(finished)
    assert {names_of(path) for path in gradients(tmp_path / "sweep")} == {1}


def test_what_is_killed_again_and_again_ends_byte_identical(work: Work, finished: Path, tmp_path: Path) -> None:
    """At every stage of it, in the order in which they come; whatever has its final name is whole."""
    folder, events, reference = tmp_path / "sweep", events_of(finished), tree(finished)
    linked = [event for event in events if event.startswith(f"link {NAMES[1]}/block")]
    stops = ["rename sweep.json.part", "rename .computing/manifest.json.part", "append 3", linked[1]]
    stops += [f"rename {NAMES[1]}/SHA256SUMS.part", f"open {NAMES[2]}/manifest.json.part"]
    stops += [f"after rename {NAMES[2]}/progress", "remove .computing/progress/00000.done"]
    stops += ["remove .computing/manifest.json", "rename sweep.csv.part"]
    assert sorted(stops, key=events.index) == stops
    for stop in stops:
        assert ended(work.sweep(folder), folder, stop) == -signal.SIGKILL, stop
        for path, data in tree(folder).items():
            is_under_way = path.endswith(".part") or path.startswith(".computing") or "/progress" in path
            assert is_under_way or data == reference[path], f"{path}: {stop}"
    assert main(work.sweep(folder)) == 1
    assert tree(folder) == reference


def test_ctrl_c_between_the_runs_says_what_is_kept(work: Work, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    stop = f"open {NAMES[1]}/manifest.json.part"
    assert ended(work.sweep(folder), folder, stop, signal.SIGINT) == 130
    said = Path(f"{folder}.said").read_text()
    assert said.endswith(
        "grafiqs: stopped. 1 of 3 runs are finished, and what is computed is kept: the same command resumes\n"
    )


@pytest.mark.parametrize("name", ["manifest.json", "scores.csv"])
def test_a_disk_that_is_full_between_the_runs_stops_it(
    name: str, work: Work, finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk_at(folder / NAMES[1] / name, patch)
        assert main(work.sweep(folder)) == 3
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "give another" not in said
    assert "1 of 3 runs are finished, and what is computed is kept: fix that, and the same command resumes" in said
    assert main(work.sweep(folder)) == 1
    assert tree(folder) == tree(finished)


def test_more_seeds_are_added_and_fewer_are_refused(
    work: Work, finished: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweep"
    first = ["--identity-selection-seeds", "1,3", "--random-seeds", "5,7"]
    main(work.sweep(folder, *SIZES, *first))
    before = {path: path.stat().st_mtime_ns for path in gradients(folder)}
    written = recorded(monkeypatch)
    assert main(work.sweep(folder)) == 1
    assert tree(folder) == tree(finished)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    had = {row["path"] for name in NAMES[:2] for row in rows_of(folder / name / "scores.csv")}
    assert {sample.location for sample in written}.isdisjoint(had)
    capsys.readouterr()
    assert main(work.sweep(folder, *SIZES, *first)) == 2
    assert f"the run {NAMES[2]} is in the folder, and not asked for" in capsys.readouterr().err
    assert main([*work.sweep(folder), "--gradient-dtype", "float16"]) == 2
    assert "options.gradient_dtype: float32 in the folder, float16 asked for" in capsys.readouterr().err
    assert tree(folder) == tree(finished)


def test_more_seeds_while_it_is_stopped_are_refused(work: Work, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "sweep"
    first = ["--identity-selection-seeds", "1,3", "--random-seeds", "5,7"]
    assert ended(work.sweep(folder, *SIZES, *first), folder, "append 1") == -signal.SIGKILL
    before = tree(folder)
    assert "finish it first, with the seeds that it began with" in refused(capsys, *work.sweep(folder))
    assert tree(folder) == before
    assert main(work.sweep(folder, *SIZES, "--identity-selection-seeds", "3,1", "--random-seeds", "7,5")) == 1


def test_what_is_lost_while_it_is_stopped_is_no_dead_end(
    work: Work, finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copied(finished, tmp_path)
    shutil.rmtree(folder / NAMES[2])
    assert ended(work.sweep(folder), folder, "append 1") == -signal.SIGKILL
    lost = next(path for path in gradients(folder / NAMES[0]) if names_of(path) == 1)
    lost.unlink()
    before = tree(folder)
    said = refused(capsys, *work.sweep(folder))
    location = f"{lost.parent.name}/{lost.name.removesuffix('_grad.npy')}.png"
    assert f"lacks 1 images that are asked for now, such as {location}" in said
    assert f"rm -r {folder / '.computing'}, and the same command computes all that is missing" in said
    assert tree(folder) == before
    shutil.rmtree(folder / ".computing")
    assert main(work.sweep(folder)) == 1
    assert tree(folder) == tree(finished)


def test_no_run_writes_through_to_another(work: Work, finished: Path, tmp_path: Path) -> None:
    """Made anew by `extract`, repaired, removed: the others' files stay what they are."""
    folder = copied(finished, tmp_path)
    others = {name: tree(folder / name) for name in NAMES[1:]}
    assert any(names_of(path) > 1 for path in gradients(folder / NAMES[0]))
    assert main([*work.single(folder / NAMES[0], 1, 5), "--gradient-dtype", "float16", "--overwrite"]) == 0
    assert {name: tree(folder / name) for name in NAMES[1:]} == others
    assert {names_of(path) for path in gradients(folder / NAMES[0]) if "block" in str(path)} == {1}
    gone = next(path for path in gradients(folder / NAMES[1]) if names_of(path) > 1)
    gone.unlink()
    assert main(work.single(folder / NAMES[1], 3, 7)) == 1
    assert tree(folder / NAMES[1]) == others[NAMES[1]]
    shutil.rmtree(folder / NAMES[1])
    assert tree(folder / NAMES[2]) == others[NAMES[2]]


def test_what_is_missing_is_taken_from_the_others(work: Work, finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    gone = next(path for path in gradients(folder / NAMES[1]) if names_of(path) > 1 and "block" in str(path))
    many = names_of(gone)
    gone.unlink()
    shutil.rmtree(folder / NAMES[2])
    assert main(work.sweep(folder)) == 1
    assert tree(folder) == tree(finished)
    assert names_of(gone) == many


@pytest.mark.parametrize("image", [picture(99), None])
def test_an_image_that_changed_is_new_in_the_runs_that_lack_it(
    image: Any, images: Path, work: Work, finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    """As in a single run of now; the others keep what they have."""
    folder = copied(finished, tmp_path)
    location = shared_location(folder / NAMES[2])
    before = {name: tree(folder / name) for name in NAMES[:2]}
    shutil.rmtree(folder / NAMES[2])
    kept = (images / location).read_bytes()
    try:
        if image is None:
            (images / location).write_bytes(b"no image")
        else:
            Image.fromarray(image).save(images / location)
        assert main(work.sweep(folder)) == 1
        assert "the images of 1 samples are not those that were scored before" in capsys.readouterr().err
        assert main(work.single(tmp_path / "single", *RUNS[NAMES[2]])) == (image is None)
    finally:
        (images / location).write_bytes(kept)
    assert tree(folder / NAMES[2]) == tree(tmp_path / "single") != tree(finished / NAMES[2])
    assert {name: tree(folder / name) for name in NAMES[:2]} == before


def test_damaged_gradients_are_not_passed_on(work: Work, finished: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = copied(finished, tmp_path)
    damaged = next(path for path in gradients(folder / NAMES[2]) if names_of(path) > 1)
    within = damaged.relative_to(folder / NAMES[2])
    other = next(name for name in NAMES[:2] if (folder / name / within).exists())
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    (folder / other / within).unlink()
    assert main(work.sweep(folder)) == 1
    assert "the gradient files of 1 samples are not those that were written" in capsys.readouterr().err
    assert tree(folder / other) == tree(finished / other)
    shutil.rmtree(folder / NAMES[2])
    assert main(work.sweep(folder)) == 1
    assert tree(folder) == tree(finished)


def test_overwriting_that_is_killed_is_resumed(work: Work, finished: Path, tmp_path: Path) -> None:
    """At every stage of the removal, in their order: nothing of the old runs stays behind, no folder either."""
    options = [*SIZES, "--identity-selection-seeds", "1,6", "--random-seeds", "5,10", "--no-dump-gradients"]
    reference, folder = tmp_path / "reference", copied(finished, tmp_path)
    assert main(work.sweep(reference, *options)) == 0
    gradient = gradients(finished / NAMES[1])[0].relative_to(finished)
    stops = ["remove sweep.csv", f"rmdir {NAMES[0]}/block3", f"remove {NAMES[0]}/.lock", f"remove {gradient}"]
    stops += [f"remove {NAMES[2]}/manifest.json", "rename sweep.json.part"]
    for stop in stops:
        assert ended([*work.sweep(folder, *options), "--overwrite"], folder, stop) == -signal.SIGKILL, stop
    assert main([*work.sweep(folder, *options), "--overwrite"]) == 0
    assert tree(folder) == tree(reference)
    assert places(folder) == places(reference)


def test_what_is_not_the_sweeps_is_refused_before_anything_is_removed(
    work: Work, finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder, elsewhere = copied(finished, tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / NAMES[1] / "notes.txt").write_text("mine")
    before = tree(folder)
    said = refused(capsys, *work.sweep(folder), "--overwrite")
    assert f"{folder / NAMES[1]}: notes.txt is not of this run, and --overwrite removes nothing else" in said
    assert tree(folder) == before
    (folder / NAMES[1] / "notes.txt").unlink()
    shutil.rmtree(folder / NAMES[2])
    (folder / NAMES[2]).symlink_to(elsewhere)
    before = tree(folder)
    for more in ([], ["--overwrite"]):
        assert f"{folder / NAMES[2]} is a link, which is not followed" in refused(capsys, *work.sweep(folder), *more)
        assert tree(folder) == before
    assert not list(elsewhere.iterdir())


def test_another_run_in_the_place_of_one(work: Work, finished: Path, tmp_path: Path, capsys: Capture) -> None:
    """`verify` finds it, and what the sweep says then is the way to have that run alone made again."""
    folder = copied(finished, tmp_path)
    assert main([*work.single(folder / NAMES[0], 1, 5), "--layers", "block2", "--overwrite"]) == 0
    found = verify_run(folder, quiet=True)
    assert any(f"{NAMES[0]}: layers.block2: None in sweep.json, [" in line for line in found)
    capsys.readouterr()
    assert main(work.sweep(folder)) == 2
    said = capsys.readouterr().err
    assert f"remove that run with rm -r {folder / NAMES[0]}: the same command makes it again" in said
    shutil.rmtree(folder / NAMES[0])
    assert verify_run(folder, quiet=True)[:1] == [
        f"{NAMES[0]}: there is no such run: the command that made the sweep makes it again"
    ]
    assert main(work.sweep(folder)) == 1
    assert verify_run(folder, quiet=True) == []
    text = (folder / "sweep.csv").read_text()
    (folder / "sweep.csv").write_text(text.replace(",2,", ",3,", 1))
    assert verify_run(folder, quiet=True) == [
        "sweep.csv does not say what the runs are: remove it, and the same command writes it again"
    ]


def test_the_batch_size_stays_that_of_the_sweep(work: Work, tmp_path: Path, capsys: Capture) -> None:
    """As in a single run, which says in its environments what it was computed with."""
    folder = tmp_path / "sweep"
    for seeds, size in (("1", "2"), ("1,2", "4")):
        command = work.sweep(folder, "--samples-per-identity", "1", "--no-dump-gradients", "--random-seeds", seeds)
        assert main([*command, "--allow-insufficient-samples", "--batch-size", size]) == 1
    assert "computed 2 images at once until now, and computes 4 from now on" in capsys.readouterr().err
    assert json.loads((folder / "sweep.json").read_text())["shared"]["computation"]["batch_size"] == 2
    manifest = json.loads((folder / "samples-2" / "manifest.json").read_text())
    assert manifest["computation"]["batch_size"] == 2
    assert 4 in [environment["batch_size"] for environment in manifest["environments"]]
    assert verify_run(folder, quiet=True) == []


def test_overwrite_removes_all_runs(work: Work, finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    assert main([*work.sweep(folder, *SIZES, "--random-seeds", "5"), "--overwrite"]) == 0
    assert {path.name for path in folder.iterdir()} == {"samples-5", "sweep.json", "sweep.csv", ".lock"}


@pytest.mark.parametrize("option", [("--store", "shards"), ("--part", "1/2"), ("--engine", "ray")])
def test_what_is_for_a_single_run_is_refused_and_not_offered(
    option: tuple[str, str], work: Work, tmp_path: Path, capsys: Capture
) -> None:
    said = refused(capsys, *work.sweep(tmp_path / "sweep", *SIZES, *SEEDS, *option))
    assert "a sweep is made by one process" in said
    assert option[0] in said
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    shown = capsys.readouterr().out
    assert "--shard-size" in shown
    assert f"{option[0]} " not in shown


def test_replicates_that_share_no_identity(work: Work, images: Path, tmp_path: Path, capsys: Capture) -> None:
    disjoint = ["--num-identities", "1", "--samples-per-identity", "3", "--strict", "--disjoint"]
    assert main(work.sweep(tmp_path / "sweep", *disjoint, "--replicates", "3")) == 0
    found = []
    for skip in range(3):
        run = tmp_path / "sweep" / f"identities-42_skip-{skip}_samples-42"
        assert verify_run(run, quiet=True) == []
        found += sorted({row["identity"] for row in rows_of(run / "scores.csv")})
        single = ["--num-identities", "1", "--samples-per-identity", "3", "--strict", "--skip-identities", str(skip)]
        assert main(work.single(tmp_path / str(skip), 42, 42, *single)) == 0
        assert tree(run) == tree(tmp_path / str(skip))
    assert sorted(found) == ["ann", "bob", "cyd"]
    for strict, has in (("--strict", "3 with at least 3 samples"), ("--no-dump-gradients", "4")):
        disjoint[4] = strict
        line = refused(capsys, *work.sweep(tmp_path / "none", *disjoint, "--replicates", "5"))
        assert f"5 replicates of 1 identities that share none need 5, and {images} has {has}: lower" in line
    assert not (tmp_path / "none").exists()


def test_equal_subsets_are_runs_of_their_own(work: Work, tmp_path: Path, capsys: Capture) -> None:
    """And so are nested ones; scores alone need no gradient files."""
    scores = ["--num-identities", "2", "--no-dump-gradients", "--random-seeds", "1,2"]
    assert main(work.sweep(tmp_path / "sweep", *scores)) == 0
    assert "these are the same subset: samples-1, samples-2" in capsys.readouterr().err
    one, other = (tree(tmp_path / "sweep" / name) for name in ("samples-1", "samples-2"))
    assert {name for name in one if one[name] != other[name]} == {"manifest.json", "SHA256SUMS"}
    assert [verify_run(tmp_path / "sweep" / name, quiet=True) for name in ("samples-1", "samples-2")] == [[], []]


def test_what_is_no_folder_for_a_sweep_is_refused(
    work: Work, images: Path, finished: Path, singles: Mapping[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    run = singles[NAMES[0]]
    before = tree(run)
    assert "is not empty and holds no sweep" in refused(capsys, *work.sweep(run))
    assert tree(run) == before
    assert "lies inside the data set" in refused(capsys, *work.sweep(images / "out"))
    (tmp_path / "sweep" / NAMES[1]).mkdir(parents=True)
    whole = json.loads((finished / "sweep.json").read_text())
    damaged = [{**whole, "shared": {}}, {**whole, "runs": {"../..": whole["runs"][NAMES[0]]}}]
    damaged += [{**whole, "shared": {**whole["shared"], section: {}}} for section in ("options", "computation")]
    for document in damaged:
        (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(document))
        (tmp_path / "sweep" / "sweep.csv").touch()
        for command in (work.sweep(tmp_path / "sweep"), ["verify", str(tmp_path / "sweep")]):
            assert "sweep.json is damaged" in refused(capsys, *command)


def test_a_dry_run_writes_nothing(work: Work, tmp_path: Path, capsys: Capture) -> None:
    command = [word for word in work.sweep(tmp_path / "sweep") if word != "--quiet"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "images in 3 subsets" in said
    assert "Dry run:" in said
    assert not (tmp_path / "sweep").exists()


def test_a_device_on_which_the_place_matters_is_told(
    work: Work, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "is_same_in_any_order", lambda _: False)
    assert main(work.sweep(tmp_path / "sweep", "--num-identities", "1", "--random-seeds", "1")) == 0
    assert "depend on its place in the batch" in capsys.readouterr().err
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["same_in_any_order"] is False


@pytest.mark.parametrize("shift", [0.0, 1e-7])
def test_the_place_in_a_batch_is_seen_to_the_bit(shift: float) -> None:
    pixels = torch.stack([torch.from_numpy(picture(number)).permute(2, 0, 1) for number in range(3)])

    def computer(batch: torch.Tensor) -> Computed:
        values = batch.float().mean(dim=(1, 2, 3)) * (1 + shift * torch.arange(len(batch)))
        return Computed({"image": values[:, None, None, None].float()}, values[:, None].double())

    class Made:
        blank = staticmethod(lambda: torch.zeros_like(pixels))
        __call__ = staticmethod(computer)

    reads = {index: Read(image.numpy(), "", (112, 112), None) for index, image in enumerate(pixels)}  # type: ignore[arg-type]
    ready = SimpleNamespace(computer=Made(), first=Batch(0, reads, computer(pixels), 0, 0.0))  # type: ignore[arg-type]
    assert is_same_in_any_order(ready) is (shift == 0)  # type: ignore[arg-type]
