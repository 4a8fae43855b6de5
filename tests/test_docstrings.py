"""The examples in the docstrings of the public names: each has one, and each does what it shows."""

from __future__ import annotations

import doctest
import importlib
from functools import reduce
from pathlib import Path

import pytest

import grafiqs

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = sorted({*grafiqs.__all__, "align_faces", "draw_faces"} - {"RequestError", "StoppedError"})
NAMES += ["select.rank_identities", "select.draw_samples"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_what_it_shows(
    name: str, faces: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder, with a data set `faces` of four identities and the checkpoint `weights.pth` beside it."""
    (tmp_path / "faces").symlink_to(faces)
    (tmp_path / "weights.pth").symlink_to(weights)
    monkeypatch.chdir(tmp_path)
    public = reduce(getattr, name.split("."), grafiqs)
    module = importlib.import_module(public.__module__)
    [example] = doctest.DocTestFinder(recurse=False).find(public, name, module=module, globs=dict(vars(module)))
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not said, "".join(said)
