"""The examples in the docstrings of the public names: each has one, and each does what it shows."""

from __future__ import annotations

import doctest
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import grafiqs

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = sorted(
    {*grafiqs.__all__, "align_faces", "draw_faces"} - {"RequestError", "StoppedError", "UnreadableSampleError"}
)
NAMES += ["select.rank_identities", "select.draw_samples", "backbones.prefixes.chosen"]
NAMES += [f"evaluate.{name}" for name in ("edc", "equal_error_rate", "evaluate", "operating_points")]
NAMES += ["run.finished.embedding_norm", "run.shard_file.ShardFile", "run.shard_file.shard_of", "printed.table"]
NAMES += ["disk.unfetched.is_page", "disk.unfetched.pointer"]
NAMES += ["compare.compare", "options.compare.CompareOptions", "options.named.named"]
NAMES += ["comparison.student.t_quantile", "plotting.label"]
NAMES += [
    f"comparison.statistics.{name}"
    for name in ("describe", "ks_distance", "ks_critical", "ranks", "rank_correlations", "variance_shares", "over_runs")
]


@pytest.fixture(autouse=True)
def _no_command_ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log as it is in a Python that has run no command: tests before may have sent it to the terminal."""
    log = logging.getLogger("grafiqs")
    level = log.level
    monkeypatch.setattr(log, "handlers", [])
    log.setLevel(logging.NOTSET)
    yield
    log.setLevel(level)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_what_it_shows(
    name: str, faces: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder, with a data set `faces` of four identities and the checkpoint `weights.pth` beside it."""
    (tmp_path / "faces").symlink_to(faces)
    (tmp_path / "weights.pth").symlink_to(weights)
    monkeypatch.chdir(tmp_path)
    home, _, own = name.rpartition(".")
    public = getattr(importlib.import_module(f"grafiqs.{home}") if home else grafiqs, own)
    module = importlib.import_module(public.__module__)
    [example] = doctest.DocTestFinder(recurse=False).find(public, name, module=module, globs=dict(vars(module)))
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not said, "".join(said)
