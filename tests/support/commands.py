"""Commands that tests run, and what becomes of them."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from grafiqs.cli import main

Capture = pytest.CaptureFixture[str]


RED = "\x1b[31mred\nline"
"""What would colour a terminal and break a line, where it is printed as it is."""


def run(*arguments: object) -> int:
    """The exit code of a command; argparse leaves by SystemExit."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def extracting(faces: Path, weights: Path, output: Path, *options: object) -> list[str]:
    """The command of a run in this process, computed as it is whatever other tests have compiled."""
    places = ("--image-path", faces, "--weights", weights, "--output-dir", output)
    return [*map(str, ("extract", *places, "--device", "cpu", "--compile", "off", *options))]


def refused(capsys: Capture, *arguments: object) -> str:
    """Run a command that is to be refused, exit code 2; returns the one line that says why."""
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        code = run(*arguments)
    said = capsys.readouterr()
    assert code == 2, said
    assert [str(warning.message) for warning in warned] == []
    assert "Traceback" not in said.out + said.err
    assert "\x1b" not in said.out + said.err
    text = said.err.partition("give that:\n")[0]  # what follows are lines of Python to paste
    lines = [line for line in text.splitlines() if not line.startswith("  ")]  # of what may be copied
    if lines[-1].startswith("Try '"):
        assert lines.pop().endswith("--help'.")
    assert len(lines) == 1
    assert lines[0].startswith("grafiqs")
    return lines[0]


def rows(path: Path) -> list[list[str]]:
    """The rows of a table after its head."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file, strict=True))[1:]


def scores(output: Path) -> dict[str, list[float]]:
    """The scores of a run, by path."""
    return {path: [float(value) for value in values] for _, _, path, *values in rows(output / "scores.csv")}


@contextmanager
def stopped_by_permissions() -> Iterator[None]:
    """Be somebody whom permissions stop inside the block: they do not stop the superuser."""
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
