"""The linter of the page's scripts sees them as one page, and what must not be in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.browser import PAGE, absent

ONE = """"use strict";
function shared() { return known; }
function double() { return 1; }
const unused = 1;
"""
OTHER = """"use strict";
const known = shared();
function double() { return known == 2; }
nobody(name);
document.body.innerHTML = "</script>";
eval("1"); setTimeout("1", 0); fetch("x"); document.write(double());
document.body.setAttribute("onclick", "x");
"""


def complaints(folder: Path) -> dict[str, set[tuple[int, str]]]:
    eslint = PAGE / "node_modules" / ".bin" / "eslint"
    if shutil.which("node") is None or not eslint.exists():
        absent("needs ESLint from npm (Debian: apt-get install nodejs npm; then make test)")
    command = [str(eslint), "--config", str(PAGE / "eslint.config.js"), "--format", "json", "src/grafiqs/page"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return {
        Path(file["filePath"]).name: {(message["line"], message["ruleId"]) for message in file["messages"]}
        for file in json.loads(result.stdout)
    }


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "src" / "grafiqs" / "page"
    folder.mkdir(parents=True)
    return folder


def test_faults_are_found_over_all_scripts(scripts: Path, tmp_path: Path) -> None:
    (scripts / "one.js").write_text(ONE)
    (scripts / "other.js").write_text(OTHER)
    found = complaints(tmp_path)
    assert found["one.js"] == {(3, "no-redeclare"), (4, "no-unused-vars")}
    assert found["other.js"] == {
        (1, "page/in-a-page"),
        (3, "no-redeclare"),
        (3, "eqeqeq"),
        (4, "no-undef"),
        (5, "no-restricted-properties"),
        (6, "no-eval"),
        (6, "no-implied-eval"),
        (6, "no-undef"),
        (6, "no-restricted-properties"),
        (7, "no-restricted-syntax"),
    }
