"""Names are the bytes on the disk read as UTF-8, whatever the locale."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from support.making import picture, tree

ROOT = Path(__file__).resolve().parents[2]

NOT_UTF8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""What keeps Python from its own ways out."""

LATIN = "de_DE.ISO-8859-1"

IDENTITIES = ("é", unicodedata.normalize("NFD", "ä"), "ß", "日本")

SAMPLES = ("é", unicodedata.normalize("NFD", "ö"), "ß", "日本", os.fsdecode(b"\xff\xfe"), "z")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of such names, in a folder of such a name; read only."""
    root = tmp_path_factory.mktemp("named") / "Gesichter ü"
    try:
        for identity in IDENTITIES:
            (root / identity).mkdir(parents=True)
            for number, sample in enumerate(SAMPLES):
                Image.fromarray(picture(number)).save(root / identity / f"{sample}.png")
    except OSError:
        pytest.skip("the file system takes no such names")
    return root


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of an ISO-8859-1 locale, made here."""
    folder = tmp_path_factory.mktemp("locales")
    compiler = shutil.which("localedef")
    if compiler is None:
        pytest.skip("no localedef here, which makes a locale")
    made = subprocess.run([compiler, "-i", "de_DE", "-f", "ISO-8859-1", folder / LATIN], capture_output=True)
    if made.returncode not in (0, 1) or not (folder / LATIN).is_dir():  # 1: with warnings
        pytest.skip("localedef has no sources here")
    variables = {"LOCPATH": str(folder), "LC_ALL": LATIN}
    encoding = "import sys; print(sys.getfilesystemencoding())"
    if python("-c", encoding, variables={**variables, **NOT_UTF8}).stdout.split() != [b"iso8859-1"]:
        pytest.skip("the C library takes no locale from LOCPATH")
    return variables


@pytest.fixture(params=["C", "POSIX", LATIN, f"{LATIN}, as it is"])
def elsewhere(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables of a process whose locale is not UTF-8."""
    if LATIN in request.param:
        variables: dict[str, str] = request.getfixturevalue("latin")
        return variables if request.param != LATIN else {**variables, **NOT_UTF8}
    return {"LC_ALL": request.param, **NOT_UTF8}


def python(*arguments: object, variables: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run Python in a process with these variables, and with none else of those that decide on encodings."""
    without = ("LC_", "LANG", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    return subprocess.run(
        [sys.executable, *map(os.fsencode, map(str, arguments))],
        capture_output=True,
        env={**kept, "OMP_NUM_THREADS": "1", **variables},
        timeout=120,
    )


DRAW = ("--num-identities", "3", "--samples-per-identity", "4", "--random-identity-selection")


@pytest.fixture(scope="module")
def selected(named: Path) -> bytes:
    """What `select` prints in UTF-8."""
    done = python("-m", "grafiqs", "select", "--image-path", named, *DRAW, variables={"PYTHONUTF8": "1"})
    assert done.returncode == 0
    return done.stdout


def test_the_subset_is_the_same_and_printed_in_utf8(elsewhere: dict[str, str], named: Path, selected: bytes) -> None:
    assert "日本".encode() in selected
    assert b"\xff\xfe" in selected
    done = python("-m", "grafiqs", "select", "--image-path", named, *DRAW, variables=elsewhere)
    assert (done.returncode, done.stdout) == (0, selected)


def test_the_guides_script_reads_names_so_too() -> None:
    """It comes as far as a contradiction that is looked for when names are known to be right."""
    command = (ROOT / "extract_grafiqs.py", "--image-path", "é", "--weights", "é", "--dry-run", "--quiet")
    done = python(*command, variables={"LC_ALL": "C", **NOT_UTF8})
    assert done.stderr.startswith(b"grafiqs: --dry-run and --quiet contradict each other")


RUN_AND_VERIFY = """
import sys
from grafiqs.cli import main
code = main()
sys.exit(code or main(["verify", sys.argv[sys.argv.index("--output-dir") + 1]]))
"""


@pytest.fixture(scope="module")
def run_in_utf8(named: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A run's files, made and verified in UTF-8."""
    return run_of(named, weights, tmp_path_factory.mktemp("run"), {"PYTHONUTF8": "1"})


def run_of(named: Path, weights: Path, folder: Path, variables: dict[str, str]) -> dict[str, bytes]:
    output = folder / "läuft"
    command = ["extract", "--image-path", named, "--weights", weights, "--output-dir", output, *DRAW]
    done = python("-c", RUN_AND_VERIFY, *command, "--layers", "block4", "--device", "cpu", variables=variables)
    assert done.returncode == 0, done.stderr
    assert b"all as the manifest says" in done.stdout
    return tree(output)


@pytest.mark.parametrize("elsewhere", ["C", LATIN], indirect=True)
def test_a_run_is_the_same_byte_for_byte_and_verified(
    elsewhere: dict[str, str], named: Path, weights: Path, run_in_utf8: dict[str, bytes], tmp_path: Path
) -> None:
    assert run_of(named, weights, tmp_path, elsewhere) == run_in_utf8


def test_the_terminal_keeps_its_own_encoding(latin: dict[str, str], tmp_path: Path) -> None:
    missing = ("-m", "grafiqs", "select", "--image-path", tmp_path / "ü日")
    said = python(*missing, variables=latin).stderr
    assert rb"/" + "ü".encode("latin-1") + rb"\u65e5 does not exist" in said
    said = python(*missing, variables={"LC_ALL": "C", **NOT_UTF8}).stderr
    assert rb"/\xfc\u65e5 does not exist" in said
    said = python(*missing, variables={**latin, "PYTHONIOENCODING": "utf-8"}).stderr
    assert "/ü日 does not exist".encode() in said


def test_a_python_that_is_told_not_to_is_refused(named: Path) -> None:
    """And does not begin again and again."""
    arguments = ("-X", "utf8=0", "-m", "grafiqs", "select", "--image-path", named)
    done = python(*arguments, variables={"LC_ALL": "C", **NOT_UTF8})
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == (
        b"grafiqs: this Python reads names of files in the locale's encoding, ascii, which would change the subset: "
        b"start it with -X utf8, or set PYTHONUTF8=1\n"
    )


LIBRARY = """
import json, sys
from pathlib import Path
import grafiqs
from grafiqs.datasets.scan import scan

nowhere = Path("/nowhere")
said = {}
for call in (
    lambda: grafiqs.Options(image_path=nowhere),
    lambda: grafiqs.AlignOptions(image_path=nowhere, output=nowhere, detector=nowhere),
    lambda: grafiqs.DrawOptions(output=nowhere),
    lambda: scan(nowhere),
    lambda: grafiqs.open_run(nowhere),
    lambda: grafiqs.verify_run(nowhere),
    lambda: grafiqs.create_dataset_with_subset("CasiaWebFace", nowhere),
    lambda: __import__("grafiqs.run.aligned").run.aligned.read(nowhere),
):
    try:
        call()
    except grafiqs.RequestError as error:
        said[str(error)] = said.get(str(error), 0) + 1
print(json.dumps(said))
"""


def test_the_library_refuses_before_it_reads() -> None:
    done = python("-c", LIBRARY, variables={"LC_ALL": "C", **NOT_UTF8})
    assert done.returncode == 0, done.stderr
    [(sentence, count)] = json.loads(done.stdout).items()
    assert sentence.endswith("start it with -X utf8, or set PYTHONUTF8=1")
    assert count == 8


def test_every_file_of_text_is_opened_with_its_encoding() -> None:
    for folder in ("src", "benchmarks", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
            assert [f"{path}:{call.lineno}" for call in calls if opens_text(call)] == []


def opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return all(keyword.arg != "encoding" for keyword in call.keywords)
    if name != "open" or ast.unparse(call.func) in ("os.open", "Image.open", "tarfile.open"):
        return False
    modes = [argument.value for argument in ast.walk(call) if isinstance(argument, ast.Constant)]
    binary = any(isinstance(mode, str) and "b" in mode and len(mode) <= 3 for mode in modes)
    return not binary and all(keyword.arg != "encoding" for keyword in call.keywords)
