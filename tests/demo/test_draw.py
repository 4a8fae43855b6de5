"""The data set of drawn faces: what lies on disk, what a stopped drawing leaves, and what is refused."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from grafiqs import DrawOptions, RequestError, draw_faces
from grafiqs.cli import main
from grafiqs.demo import draw
from grafiqs.demo.degrade import KINDS, Degradation
from grafiqs.demo.identity import Identity
from grafiqs.demo.plan import COLUMNS, draw_degradation, read_faces, sample_count
from grafiqs.demo.scene import Scene
from grafiqs.demo.sheet import contact_sheet
from grafiqs.demo.traits import Traits
from support.commands import stopped_by_permissions
from support.making import grafiqs, tree

pytestmark = pytest.mark.usefixtures("one_helper")

Capture = pytest.CaptureFixture[str]

FEW = ("--identities", "3", "--samples-per-identity", "4")
"""The options of most drawings here: 9 faces, since the second identity has a third of the samples."""
MANY = ("--identities", "8", "--samples-per-identity", "12")
"""The options of a drawing that lasts long enough to be stopped in its middle: 88 faces."""
FACES_OF_FEW = [
    *(f"person_0000/{sample:04}.png" for sample in range(4)),
    "person_0001/0000.png",
    *(f"person_0002/{sample:04}.png" for sample in range(4)),
]


def run(*arguments: object) -> int:
    """The exit code of `draw-faces` with these arguments; argparse leaves by SystemExit."""
    try:
        return main(["draw-faces", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def refused(capsys: Capture, *arguments: object, lines: int = 1) -> str:
    """Run a command that is to be refused, exit code 2; returns the line, or lines, that say why."""
    capsys.readouterr()
    code = run(*arguments)
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said
    told = said.err.splitlines()
    if told[-1].startswith("Try '"):
        told.pop()
    assert len(told) == lines
    assert told[0].startswith("grafiqs")
    return "\n".join(told)


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "faces.csv").open(newline="") as file:
        return list(csv.DictReader(file, strict=True))


def changes(root: Path) -> dict[str, int]:
    """When each file below a folder was last changed, by its path."""
    return {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def pixels(path: Path) -> NDArray[np.uint8]:
    """A picture as a reader without OpenCV has it."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


@dataclass(frozen=True)
class Drawn:
    """A data set that the command drew, in a process of its own."""

    root: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """A few faces, drawn by the real command with a contact sheet; read only."""
    root = tmp_path_factory.mktemp("drawn") / "a" / "faces"
    done = grafiqs("draw-faces", root, *FEW, "--contact-sheet", root.parent / "sheets" / "sheet.png")
    assert done.returncode == 0, done.stderr
    return Drawn(root, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many faces, drawn without a stop; read only."""
    root = tmp_path_factory.mktemp("many") / "faces"
    assert run(root, *MANY, "--quiet") == 0
    return root


@pytest.fixture
def output(drawn: Drawn, tmp_path: Path) -> Path:
    """A copy of the few faces, to be disturbed."""
    return Path(shutil.copytree(drawn.root, tmp_path / "faces"))


# -- what lies on disk -------------------------------------------------------------------------------------


def test_the_command_draws_what_it_is_asked_for_and_says_so(drawn: Drawn) -> None:
    assert (
        drawn.stdout == f"9 faces of 3 identities: {drawn.root}\nContact sheet: {drawn.root.parent}/sheets/sheet.png\n"
    )
    assert "9/9" in drawn.stderr
    assert sorted(tree(drawn.root)) == ["faces.csv", *FACES_OF_FEW]
    for path in FACES_OF_FEW:
        assert pixels(drawn.root / path).shape == (112, 112, 3)


def test_quiet_prints_nothing_and_draws_the_same(
    drawn: Drawn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "faces", *FEW, "--quiet") == 0
    assert tuple(capfd.readouterr()) == ("", "")
    assert tree(tmp_path / "faces") == tree(drawn.root)


def test_from_python_it_draws_the_same_and_counts_the_faces(drawn: Drawn, tmp_path: Path) -> None:
    options = DrawOptions(output=tmp_path / "faces", identities=3, samples_per_identity=4, quiet=True)
    assert draw_faces(options) == 9
    assert tree(tmp_path / "faces") == tree(drawn.root)


def test_the_table_has_a_row_for_every_face_in_its_order(drawn: Drawn) -> None:
    data = (drawn.root / "faces.csv").read_bytes()
    assert data.splitlines()[0].decode() == ",".join(COLUMNS)
    assert (
        *("identity", "sample", "path", "degradation", "strength"),
        *(field.name for field in fields(Scene)),
        *(field.name for field in fields(Traits)),
    ) == COLUMNS
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert b"\r" not in data
    rows = rows_of(drawn.root)
    assert [row["path"] for row in rows] == FACES_OF_FEW
    assert all(f"{row['identity']}/{row['sample']}.png" == row["path"] for row in rows)


def parsed(kind: type[Scene | Traits], row: dict[str, str]) -> Any:
    """A scene or traits from nothing but a row of the table."""
    read: dict[Any, Callable[[str], Any]] = {float: float, int: int, str: str, bool: {"True": True, "False": False}.get}
    return kind(**{name: read[of](row[name]) for name, of in get_type_hints(kind).items()})


def test_the_numbers_of_a_row_are_those_that_its_face_is_drawn_from(many: Path) -> None:
    """To the last bit, and they draw the same picture again."""
    rows = rows_of(many)
    assert len(rows) == 88
    for place, row in enumerate(rows):
        number, sample = int(row["identity"].removeprefix("person_")), int(row["sample"])
        strength = float(row["strength"])
        wrong = None if row["degradation"] == "none" else Degradation(row["degradation"], strength)
        assert (strength == 0) == (wrong is None)
        identity = Identity(0, number)
        assert parsed(Scene, row) == identity.scene(sample, wrong)
        assert parsed(Traits, row) == identity.traits
        for value in (row["yaw"], row["strength"], row["face_width"]):
            assert repr(float(value)) == value
        if place % 9 == 0:
            assert np.array_equal(pixels(many / row["path"]), identity.face(sample, wrong).image)


def test_what_is_wrong_can_be_read_back(many: Path) -> None:
    options = DrawOptions(output=many, identities=8, samples_per_identity=12)
    expected = {
        f"person_{number:04}/{sample:04}.png": draw_degradation(options, number, sample)
        for number in range(8)
        for sample in range(sample_count(options, number))
    }
    assert read_faces(many) == expected
    assert len(expected) == 88


@pytest.mark.parametrize(("everyone", "short"), [(1, 1), (2, 1), (3, 1), (5, 1), (6, 2), (30, 10), (31, 10)])
def test_only_the_second_identity_has_a_third_of_the_samples(everyone: int, short: int) -> None:
    options = DrawOptions(output=Path("unused"), samples_per_identity=everyone, identities=5)
    assert [sample_count(options, number) for number in range(5)] == [everyone, short, everyone, everyone, everyone]


# -- what is wrong with how many ---------------------------------------------------------------------------


def degradations(**options: Any) -> list[Degradation | None]:
    """What is wrong with each face of a data set that is not drawn; 40 identities with 30 samples are the default."""
    request = DrawOptions(output=Path("unused"), **options)
    return [draw_degradation(request, number, sample) for number in range(request.identities) for sample in range(30)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 4294967295])
def test_the_share_of_degraded_samples_is_the_one_asked_for(share: float, seed: int) -> None:
    """Within three and a half standard deviations of the binomial; none of 1200, and all of them, exactly."""
    spoiled = sum(wrong is not None for wrong in degradations(degraded=share, seed=seed))
    assert abs(spoiled - 1200 * share) <= 3.5 * (1200 * share * (1 - share)) ** 0.5


def test_every_kind_occurs_as_often_as_the_others_and_every_strength() -> None:
    wrong = [one for one in degradations(degraded=1.0) if one]
    counts = Counter(one.kind for one in wrong)
    assert set(counts) == set(KINDS)
    expected = 1200 / len(KINDS)
    assert all(abs(count - expected) < 3.5 * expected**0.5 for count in counts.values())
    strengths = np.array([one.strength for one in wrong])
    assert 0.05 <= strengths.min() < 0.06
    assert 0.99 < strengths.max() <= 1
    assert strengths.mean() == pytest.approx(0.525, abs=0.03)


def test_more_degraded_samples_are_the_same_ones_and_others() -> None:
    less, more = degradations(degraded=0.3), degradations(degraded=0.6)
    assert all(few is None or few == many for few, many in zip(less, more, strict=True))


def test_another_seed_degrades_other_samples() -> None:
    first, second = degradations(seed=0), degradations(seed=1)
    assert 0.3 < np.mean([(a is None) == (b is None) for a, b in zip(first, second, strict=True)]) < 0.7


def test_every_purpose_has_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two generators that draw identities, scenes, pictures and degradations give the same numbers."""
    begun: dict[bytes, list[Any]] = {}
    make = np.random.default_rng

    def recorded(seed: Any) -> np.random.Generator:
        begun.setdefault(np.random.SeedSequence(seed).generate_state(8).tobytes(), []).append(seed)
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", recorded)
    options = DrawOptions(output=Path("unused"))
    for number in range(2):
        identity = Identity(options.seed, number)
        for sample in range(3):
            draw_degradation(options, number, sample)
            identity.face(sample, Degradation("noise", 0.5))
    assert len(begun) >= 2 * (2 + 3 * 2)
    assert [seeds for seeds in begun.values() if len(seeds) > 1] == []


# -- parts of more -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three identities with six samples, of which six in ten are degraded; read only."""
    root = tmp_path_factory.mktemp("whole") / "faces"
    draw_faces(DrawOptions(output=root, identities=3, samples_per_identity=6, degraded=0.6, quiet=True))
    return root


@pytest.mark.parametrize(
    ("fewer", "count"),
    [
        ({"identities": 2, "samples_per_identity": 6, "degraded": 0.6}, 8),
        ({"identities": 3, "samples_per_identity": 4, "degraded": 0.6}, 9),
    ],
    ids=["identities", "samples"],
)
def test_fewer_are_a_part_of_more(whole: Path, fewer: dict[str, Any], count: int, tmp_path: Path) -> None:
    assert draw_faces(DrawOptions(output=tmp_path / "faces", quiet=True, **fewer)) == count
    few, more = tree(tmp_path / "faces"), tree(whole)
    table, whole_table = few.pop("faces.csv").splitlines(), more.pop("faces.csv").splitlines()
    assert len(few) == count
    assert few.items() < more.items()
    assert set(table) < set(whole_table)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_fewer_degraded_faces_leave_the_others_as_they_are(whole: Path, share: float, tmp_path: Path) -> None:
    less = tmp_path / "faces"
    draw_faces(DrawOptions(output=less, identities=3, samples_per_identity=6, degraded=share, quiet=True))
    before, after = tree(whole), tree(less)
    assert set(before) == set(after)
    mended = 0
    for row, other in zip(rows_of(whole), rows_of(less), strict=True):
        if row == other:
            assert before[row["path"]] == after[row["path"]]
        else:
            mended += 1
            assert (other["degradation"], other["strength"]) == ("none", "0.0")
            assert before[row["path"]] != after[row["path"]]
            changed = {name for name in COLUMNS if row[name] != other[name]}
            assert changed <= {"degradation", "strength", "yaw"}
    assert 2 <= mended <= 12
    left = [row for row in rows_of(less) if row["degradation"] != "none"]
    assert bool(left) == (share > 0)


def test_another_seed_draws_other_faces(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "faces"
    draw_faces(DrawOptions(output=other, identities=3, samples_per_identity=6, degraded=0.6, seed=1, quiet=True))
    before, after = tree(whole), tree(other)
    assert set(before) == set(after)
    assert not set(before.values()) & set(after.values())


# -- the same command again --------------------------------------------------------------------------------


def test_the_same_command_again_draws_nothing(output: Path, capsys: Capture) -> None:
    before = changes(output)
    assert run(output, *FEW) == 0
    assert capsys.readouterr().out == f"9 faces of 3 identities: {output}\n"
    assert changes(output) == before


def test_pictures_that_are_gone_are_drawn_again_and_no_others(drawn: Drawn, output: Path) -> None:
    gone = ("person_0000/0002.png", "person_0001/0000.png")
    for path in gone:
        (output / path).unlink()
    shutil.rmtree(output / "person_0002")
    before = changes(output)
    assert run(output, *FEW, "--quiet") == 0
    assert tree(output) == tree(drawn.root)
    assert {path: when for path, when in changes(output).items() if path in before} == before


def test_what_a_kill_left_of_a_picture_is_no_hindrance(drawn: Drawn, output: Path) -> None:
    (output / "person_0002" / "0001.png").rename(output / "person_0002" / "0001.png.part")
    os.truncate(output / "person_0002" / "0001.png.part", 100)
    assert run(output, *FEW, "--quiet") == 0
    assert tree(output) == tree(drawn.root)


def _other_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    return file.getvalue()


TORN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "cut off": lambda data: data[:1000],
    "all but its end": lambda data: data[:-12],
    "filled with zeros": lambda data: data[:4096] + bytes(len(data) - 4096),
    "a bit": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "text": lambda _: b"no picture",
    "another picture": lambda _: _other_png(),
}
"""What a crash of the machine can leave of a file, and what else is not the picture."""


@pytest.mark.parametrize("kind", TORN)
def test_a_picture_that_is_not_whole_is_drawn_again_and_no_others(drawn: Drawn, output: Path, kind: str) -> None:
    path = output / "person_0002" / "0001.png"
    path.write_bytes(TORN[kind](path.read_bytes()))
    before = changes(output)
    assert run(output, *FEW, "--quiet") == 0
    assert tree(output) == tree(drawn.root)
    after = changes(output)
    assert [name for name in after if after[name] != before[name]] == ["person_0002/0001.png"]


@pytest.mark.parametrize("kind", ["empty", "zeros", "cut off", "filled with zeros"])
def test_a_table_that_is_not_whole_is_written_again(drawn: Drawn, output: Path, kind: str) -> None:
    table = output / "faces.csv"
    table.write_bytes(TORN[kind](table.read_bytes()))
    assert run(output, *FEW, "--quiet") == 0
    assert tree(output) == tree(drawn.root)


def test_what_is_in_the_place_of_a_picture_and_no_file_is_replaced(output: Path) -> None:
    before = tree(output)
    path = output / "person_0002" / "0001.png"
    path.unlink()
    os.mkfifo(path)
    assert run(output, *FEW, "--quiet") == 0
    assert tree(output) == before


def test_what_a_kill_left_of_the_table_is_no_hindrance(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "faces.csv.part").write_bytes((drawn.root / "faces.csv").read_bytes()[:1000])
    assert run(tmp_path / "faces", *FEW, "--quiet") == 0
    assert tree(tmp_path / "faces") == tree(drawn.root)


@pytest.mark.parametrize(
    "other",
    ["--seed 1", "--degraded 0.4", "--identities 2", "--identities 4", "--samples-per-identity 5"],
)
def test_other_options_do_not_go_into_the_same_folder(output: Path, other: str, capsys: Capture) -> None:
    before, when = tree(output), changes(output)
    said = refused(capsys, output, *FEW, *other.split(), lines=3)
    assert said == (
        f"grafiqs: {output} holds another drawing, and nothing is mixed. What differs:\n"
        "  - its faces.csv is not that of these faces\nGive another OUT."
    )
    assert tree(output) == before
    assert changes(output) == when


def test_a_table_that_was_edited_is_not_gone_on_with(output: Path, capsys: Capture) -> None:
    table = output / "faces.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    for edited in (lines[:-1], [*lines, lines[-1]], [*lines[:-1], lines[-1].replace(b"person", b"nobody")]):
        table.write_bytes(b"".join(edited))
        before = tree(output)
        assert "its faces.csv is not that of these faces" in refused(capsys, output, *FEW, lines=3)
        assert tree(output) == before


# -- where it cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "person_0000/0000.png", "faces.csv", "faces.csv/x"])
def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path, name: str, capsys: Capture) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    said = refused(capsys, tmp_path / "out", *FEW, lines=3 if name == "faces.csv" else 1)
    expected = {
        "faces.csv": "holds another drawing, and nothing is mixed. What differs:",
        "faces.csv/x": "cannot write to {place}: faces.csv: not a regular file: give another OUT",
    }
    place = tmp_path / "out"
    usual = "is not empty and holds no drawing: give another OUT (nothing there was touched)"
    assert expected.get(name, usual).replace("{place}", str(place)) in said
    assert str(place) in said
    assert tree(tmp_path) == {f"out/{name}": b"mine"}


@pytest.mark.parametrize("name", ["file", "file/below", "file/far/below", "dangling", "loop"])
def test_a_place_that_can_be_no_folder(tmp_path: Path, name: str, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    line = refused(capsys, tmp_path / name, *FEW)
    assert re.fullmatch(rf"grafiqs: cannot write to {re.escape(str(tmp_path / name))}: .+: give another OUT", line)
    assert tree(tmp_path) == {"file": b"mine"}
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_folder_will_do(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    assert run(tmp_path / "faces", *FEW, "--quiet") == 0
    assert tree(tmp_path / "faces") == tree(drawn.root)


@pytest.mark.parametrize("name", ["faces", "a/b/faces", "closed"])
def test_a_folder_that_may_not_be_written(name: str, capsys: Capture) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "closed").mkdir()
        for path in (place / "closed", place):
            path.chmod(0o555)
        try:
            with stopped_by_permissions():
                if not place.is_dir():
                    pytest.skip("other users cannot reach the folder of temporary files")
                line = refused(capsys, place / name, *FEW)
            assert line == f"grafiqs: cannot write to {place / name}: Permission denied: give another OUT"
            assert [path.name for path in place.rglob("*")] == ["closed"]
        finally:
            place.chmod(0o755)


def test_names_are_shown_without_commanding_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    strange = tmp_path / "\x1b[31mred\nline"
    strange.write_text("mine")
    assert r"\x1b[31mred\nline: Not a directory" in refused(capsys, strange, *FEW)


OPTIONS = {
    "--identities 0": "--identities is 0: it must be at least 1",
    "--identities -1": "--identities is -1: it must be at least 1",
    "--identities x": "argument --identities: invalid int value: 'x'",
    "--identities 1.5": "argument --identities: invalid int value: '1.5'",
    "--samples-per-identity 0": "--samples-per-identity is 0: it must be at least 1",
    "--samples-per-identity -1": "--samples-per-identity is -1: it must be at least 1",
    "--degraded 2": "--degraded is 2.0: a share lies between 0 and 1",
    "--degraded -0.1": "--degraded is -0.1: a share lies between 0 and 1",
    "--degraded nan": "--degraded is nan: a share lies between 0 and 1",
    "--degraded inf": "--degraded is inf: a share lies between 0 and 1",
    "--degraded half": "argument --degraded: invalid float value: 'half'",
    "--seed -1": "--seed is -1: a seed lies between 0 and 4294967295",
    "--seed 4294967296": "--seed is 4294967296: a seed lies between 0 and 4294967295",
    "--contact-sheet sheet.gif": "--contact-sheet is sheet.gif: its name must end in .png or .jpg",
    "--contact-sheet sheet": "--contact-sheet is sheet: its name must end in .png or .jpg",
    "--contact-sheet .png": "--contact-sheet is .png: its name must end in .png or .jpg",
    "--contact-sheet=": "argument --contact-sheet: invalid path value: ''",
    "--frob": "unrecognized arguments: --frob",
    "stray": "unrecognized arguments: stray",
}
"""Options that cannot be, and what is said of them."""


@pytest.mark.parametrize("options", OPTIONS)
def test_options_that_cannot_be(options: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert OPTIONS[options] in refused(capsys, "faces", *options.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("",)])
def test_a_folder_must_be_named(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert "OUT" in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("identities", "3"), ("identities", 2.5), ("samples_per_identity", None), ("degraded", "half"), ("seed", 1.5)],
)
def test_values_of_another_type_are_refused_from_python(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"--{name.replace('_', '-')} is "):
        DrawOptions(**{"output": Path("unused"), name: value})  # type: ignore[arg-type]


# -- the contact sheet -------------------------------------------------------------------------------------


def test_a_contact_sheet_shows_the_faces_in_rows_of_identities(drawn: Drawn) -> None:
    """Tiles of 112 pixels and a caption of 15, with margins of 4 between them."""
    sheet = pixels(drawn.root.parent / "sheets" / "sheet.png")
    assert sheet.shape == (3 * 131, 4 * 116, 3)
    for row, samples in enumerate((4, 1, 4)):
        for column in range(4):
            tile = sheet[131 * row : 131 * (row + 1), 116 * column : 116 * (column + 1)]
            face, caption = tile[2:114, 2:114], tile[114:129, 2:114]
            if column < samples:
                assert np.array_equal(face, pixels(drawn.root / f"person_{row:04}" / f"{column:04}.png"))
                assert (caption < 128).any()
            else:
                assert (tile == 255).all()


@pytest.mark.parametrize(("name", "kind"), [("sheet.png", "PNG"), ("sheet.jpg", "JPEG"), ("SHEET.JPEG", "JPEG")])
def test_a_contact_sheet_of_faces_that_are_there(
    drawn: Drawn, output: Path, name: str, kind: str, tmp_path: Path, capsys: Capture
) -> None:
    assert run(output, *FEW, "--contact-sheet", tmp_path / name) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"Contact sheet: {tmp_path / name}"
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.size) == (kind, (4 * 116, 3 * 131))
    levels = pixels(tmp_path / name).astype(int) - pixels(drawn.root.parent / "sheets" / "sheet.png")
    assert np.abs(levels).mean() < 5
    assert tree(output) == tree(drawn.root)


def test_a_contact_sheet_shows_no_more_than_eight_identities_and_nine_samples(many: Path) -> None:
    options = DrawOptions(output=many, identities=8, samples_per_identity=12)
    assert contact_sheet(options).shape == (8 * 131, 9 * 116, 3)
    fewer = DrawOptions(output=many, identities=2, samples_per_identity=3)
    assert contact_sheet(fewer).shape == (2 * 131, 3 * 116, 3)


@pytest.mark.parametrize("name", ["file/sheet.png", "folder.png"])
def test_a_contact_sheet_that_cannot_be_written_is_said_before_or_costs_no_face(
    tmp_path: Path, name: str, capsys: Capture
) -> None:
    """Exit code 2 promises that nothing was written; 3, that what was done is kept."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    code = run(tmp_path / "faces", *FEW, "--quiet", "--contact-sheet", tmp_path / name)
    assert str(tmp_path / name) in capsys.readouterr().err
    assert (code, (tmp_path / "faces").exists()) in ((2, False), (3, True))


def test_a_contact_sheet_does_not_take_the_place_of_a_face(drawn: Drawn, output: Path, capsys: Capture) -> None:
    face = output / "person_0000" / "0001.png"
    assert str(face) in refused(capsys, output, *FEW, "--contact-sheet", face)
    assert tree(output) == tree(drawn.root)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_contact_sheet_over_a_torn_picture_shows_it_whole(
    drawn: Drawn, output: Path, size: int, tmp_path: Path
) -> None:
    os.truncate(output / "person_0000" / "0001.png", size)
    assert run(output, *FEW, "--quiet", "--contact-sheet", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet.png").read_bytes() == (drawn.root.parent / "sheets" / "sheet.png").read_bytes()


# -- stopped in the middle ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stopped:
    """A drawing that was stopped, and what it said; read only."""

    root: Path
    code: int
    said: str

    def pictures(self) -> dict[str, bytes]:
        return {path: data for path, data in tree(self.root).items() if path != "faces.csv"}


def begun(root: Path, *options: str) -> subprocess.Popen[str]:
    """The command at work, in a process group of its own."""
    command = [sys.executable, "-m", "grafiqs", "draw-faces", str(root), *options, "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, pattern: str, alive: Callable[[], bool]) -> None:
    """Wait until a drawing at work has made such a file."""
    while not any(path.glob(pattern)):
        assert alive()
        time.sleep(0.002)


def ended(process: subprocess.Popen[str], root: Path) -> Stopped:
    stdout, said = process.communicate(timeout=60)
    assert stdout == ""
    return Stopped(root, process.returncode, said)


@pytest.fixture(
    scope="module",
    params=[
        (os.killpg, signal.SIGINT),
        (os.kill, signal.SIGINT),
        (os.kill, signal.SIGTERM),
    ],
    ids=["Ctrl-C", "SIGINT to the command alone", "SIGTERM"],
)
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """Many faces, stopped by a signal when the first is there."""
    send, number = request.param
    root = tmp_path_factory.mktemp("stopped") / "faces"
    process = begun(root, *MANY)
    wait_for(root, "*/*.png", lambda: process.poll() is None)
    send(process.pid, number)
    done = ended(process, root)
    assert done.code == 128 + number
    return done


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """Many faces, one of whose two helper processes is killed when the first is there."""
    root = tmp_path_factory.mktemp("killed") / "faces"

    over = threading.Event()

    def kill() -> None:
        wait_for(root, "*/*.png", lambda: not over.is_set())
        pid = multiprocessing.active_children()[0].pid
        assert pid
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", said)
        patch.setattr(draw, "processors", SimpleNamespace(usable=lambda: 2))
        code = run(root, *MANY, "--quiet")
    over.set()
    killer.join()
    assert code == 3
    return Stopped(root, code, said.getvalue())


def test_a_stop_is_said_in_one_sentence(stopped: Stopped) -> None:
    assert re.fullmatch(
        r"grafiqs: stopped\. At least \d+ of 88 faces are there: the same command resumes\n", stopped.said
    )


def test_a_helper_that_is_killed_is_said_in_one_sentence(killed: Stopped) -> None:
    """Its reason ends as the sentence goes on: with one full stop."""
    assert re.fullmatch(
        rf"grafiqs: cannot draw into {re.escape(str(killed.root))}: [^\n]*[^.\n]\. At least \d+ of 88 faces are there: "
        r"fix that, and the same command resumes\n",
        killed.said,
    )


def test_a_stop_promises_no_more_faces_than_there_are(stopped: Stopped) -> None:
    said = re.search(r"At least (\d+) of 88 faces", stopped.said)
    assert said
    assert int(said[1]) <= len(stopped.pictures())


def test_a_stop_leaves_whole_pictures_and_nothing_else(stopped: Stopped, many: Path) -> None:
    assert 1 <= len(stopped.pictures()) <= 88
    assert tree(stopped.root).items() <= tree(many).items()


def goes_on(before: Stopped, many: Path, root: Path) -> None:
    """Give the command of a stopped drawing again: the rest is drawn, what is there stays."""
    shutil.copytree(before.root, root)
    kept = {path: when for path, when in changes(root).items() if not path.endswith(".part")}
    assert run(root, *MANY, "--quiet") == 0
    assert tree(root) == tree(many)
    assert {path: when for path, when in changes(root).items() if path in kept} == kept


def test_after_a_stop_the_same_command_ends_as_without_it(stopped: Stopped, many: Path, tmp_path: Path) -> None:
    goes_on(stopped, many, tmp_path / "faces")


def test_after_a_killed_helper_the_same_command_ends_as_without_it(killed: Stopped, many: Path, tmp_path: Path) -> None:
    goes_on(killed, many, tmp_path / "faces")


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2])
def test_a_stop_while_the_helpers_begin_is_said_in_one_sentence(delay: float, tmp_path: Path) -> None:
    process = begun(tmp_path / "faces", *MANY)
    wait_for(tmp_path / "faces", "faces.csv", lambda: process.poll() is None)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    done = ended(process, tmp_path / "faces")
    assert done.code == 130
    assert re.fullmatch(r"grafiqs: stopped[^\n]+\n", done.said)


def test_a_stop_does_not_wait_for_the_rest_of_an_identity(tmp_path: Path) -> None:
    process = begun(tmp_path / "faces", "--identities", "1", "--samples-per-identity", "400")
    wait_for(tmp_path / "faces", "*/*.png", lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGINT)
    done = ended(process, tmp_path / "faces")
    assert done.code == 130
    assert len(done.pictures()) < 200


def test_a_command_that_is_killed_leaves_no_helpers_behind(tmp_path: Path) -> None:
    """They hold its standard error: that ends when they do."""
    process = begun(tmp_path / "faces", *FEW)
    wait_for(tmp_path / "faces", "*/*.png", lambda: process.poll() is None)
    process.kill()
    try:
        process.communicate(timeout=8)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("helpers are still there")


def test_a_full_disk_stops_the_drawing_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """No file beyond 8 kB: the table of four faces fits, a face does not."""
    root = tmp_path / "faces"
    options = ("--identities", "1", "--samples-per-identity", "4", "--quiet")
    command = [sys.executable, "-m", "grafiqs", "draw-faces", str(root), *options]
    limited = ["bash", "-c", 'ulimit -f 8 && exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr == (
        f"grafiqs: cannot write to {root}: File too large. At least 0 of 4 faces are there: "
        "fix that, and the same command resumes\n"
    )
    assert list(tree(root)) == ["faces.csv"]
    assert run(root, *options) == 0
    assert run(tmp_path / "undisturbed", *options) == 0
    assert tree(root) == tree(tmp_path / "undisturbed")


# -- help, and without OpenCV ------------------------------------------------------------------------------


def test_help_tells_of_the_table_and_loads_neither_torch_nor_opencv() -> None:
    program = (
        "import sys\nfrom grafiqs.cli import main\n"
        "try: main(['draw-faces', '--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'cv2', 'numpy', 'PIL')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "OUT/faces.csv holds every number behind every face" in done.stdout
    for option in ("--identities N", "--samples-per-identity M", "--degraded SHARE", "--seed SEED"):
        assert option in done.stdout
    assert "--contact-sheet FILE" in done.stdout
    assert "--output " not in done.stdout
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


def test_drawing_loads_no_torch() -> None:
    program = "import sys, grafiqs.demo.draw\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_opencv_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = grafiqs("draw-faces", tmp_path / "faces", *FEW)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "grafiqs: drawing faces needs OpenCV (libGL.so.1: cannot open shared object file): "
        "pip install opencv-python-headless\n"
    )
    assert not (tmp_path / "faces").exists()


# -- what it is for ----------------------------------------------------------------------------------------


def test_select_leaves_the_short_identity_out_in_the_words_of_the_guide(
    drawn: Drawn, tmp_path: Path, capsys: Capture
) -> None:
    subset = ["--num-identities", "3", "--samples-per-identity", "4", "--output", str(tmp_path / "subset.csv")]
    assert main(["select", "--image-path", str(drawn.root), *subset]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1:7] == [  # below what was left out: faces.csv
        "Using random seed: 42 for reproducible results",
        "Selected the first 3 identities from 3 available",
        "Found 1 identities with insufficient samples:",
        "  - person_0001: 1 samples",
        "Processing 2 identities that meet the sample requirement.",
        "Dataset loaded: 2 identities, 8 total images",
    ]
    assert said.err == ""
    with (tmp_path / "subset.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths == [path for path in FACES_OF_FEW if not path.startswith("person_0001")]


def test_traits_of_a_table_are_the_same_for_all_samples_of_an_identity(drawn: Drawn) -> None:
    people: dict[str, set[str]] = {}
    for row in rows_of(drawn.root):
        people.setdefault(row["identity"], set()).add(repr(asdict(parsed(Traits, row))))
    assert [len(people[name]) for name in sorted(people)] == [1, 1, 1]
    assert len(set.union(*people.values())) == 3
