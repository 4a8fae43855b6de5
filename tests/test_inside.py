"""Folders that a command fills: no link in them is followed, nothing but plain files is opened, nothing hangs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from grafiqs.cli import main
from grafiqs.demo.plan import FACES
from grafiqs.run import inside
from making import make_faces, tree

pytestmark = pytest.mark.usefixtures("one_thread")

Capture = pytest.CaptureFixture[str]

TABLE = "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"
TEMPLATE = "38.3,51.7,73.5,51.5,56.0,71.7,41.5,92.4,70.7,92.2"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two identities, with landmarks beside it; read only."""
    root = make_faces(tmp_path_factory.mktemp("images") / "faces", {"ann": 3, "bob": 2})
    rows = [f"{path.relative_to(root).as_posix()},{TEMPLATE}\n" for path in sorted(root.rglob("*.png"))]
    (root.parent / "landmarks.csv").write_text(TABLE + "".join(rows))
    return root


Commands = dict[str, Callable[[Path], list[str]]]


@pytest.fixture(scope="module")
def commands(images: Path, weights: Path) -> Commands:
    """The commands that fill a folder."""
    run = ["extract", "--image-path", images, "--weights", weights, "--layers", "block4", "--quiet", "--device", "cpu"]
    align = ["align", images]
    table = ["--landmarks", images.parent / "landmarks.csv", "--quiet"]
    draw = ["--identities", "2", "--samples-per-identity", "3", "--quiet"]
    return {
        "run": lambda folder: [*map(str, run), "--output-dir", str(folder)],
        "alignment": lambda folder: [*map(str, align), str(folder), *map(str, table)],
        "drawing": lambda folder: ["draw-faces", str(folder), *draw],
    }


@pytest.fixture(scope="module")
def finished(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each command makes; read only."""
    root = tmp_path_factory.mktemp("finished")
    for kind, command in commands.items():
        assert main(command(root / kind)) == 0
    return {kind: root / kind for kind in commands}


MANIFEST = {"run": "manifest.json", "alignment": "align.json", "drawing": FACES}
FOLDERS = {"run": ("block4", "block4/ann"), "alignment": ("ann",), "drawing": ("person_0001",)}
LAST = {"run": "block4/bob/1_grad.npy", "alignment": "bob/1.png", "drawing": "person_0001/0000.png"}
KINDS = list(MANIFEST)


def overwrites(kind: str) -> list[list[str]]:
    return [[], ["--overwrite"]] if kind != "drawing" else [[]]


@pytest.mark.parametrize("kind", KINDS)
def test_no_link_to_a_folder_is_followed(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    """Nothing is written, removed or read where it leads, though it holds what the folder would."""
    for number, path in enumerate(FOLDERS[kind]):
        for more in overwrites(kind):
            folder, elsewhere = tmp_path / f"{number}{len(more)}", tmp_path / f"elsewhere{number}{len(more)}"
            shutil.copytree(finished[kind], folder)
            shutil.move(folder / path, elsewhere)
            (folder / path).symlink_to(elsewhere)
            removed = next(file for file in sorted(elsewhere.rglob("*")) if file.is_file())
            removed.unlink()
            before = tree(elsewhere)
            assert main([*commands[kind](folder), *more]) in (2, 3), path
            said = capsys.readouterr().err
            assert f"{Path(path).name} is a link, which is not followed there" in said
            assert "Traceback" not in said
            assert tree(elsewhere) == before
            (folder / path).unlink()
            shutil.move(elsewhere, folder / path)
            assert main([*commands[kind](folder), *more]) == 0
            assert tree(folder) == tree(finished[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_in_the_place_of_a_file_is_replaced(
    kind: str, commands: Commands, finished: dict[str, Path], tmp_path: Path
) -> None:
    """Whole or not, the file that it leads to is not touched."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    for name in (LAST[kind], f"{LAST[kind]}.part"):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(finished[kind], folder)
        (folder / LAST[kind]).unlink()
        (folder / name).symlink_to(mine)
        assert main(commands[kind](folder)) == 0
        assert mine.read_bytes() == b"mine"
        assert not (folder / LAST[kind]).is_symlink()
        assert tree(folder) == tree(finished[kind])


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "mine")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [link, pipe, folder])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_refused(
    kind: str,
    make: Callable[[Path], None],
    commands: Commands,
    finished: dict[str, Path],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """As manifest, lock, journal or table; nothing waits for a pipe, and nothing is written through a link."""
    names = {
        "run": ("manifest.json", ".lock", "progress.jsonl", "scores.csv", "SHA256SUMS.images"),
        "alignment": ("align.json", ".lock", "progress.jsonl"),
        "drawing": (FACES, ".lock"),
    }[kind]
    (tmp_path / "mine").write_bytes(b"mine")
    for name in names:
        place = tmp_path / f"{kind}-{name}"
        shutil.copytree(finished[kind], place)
        (place / name).unlink(missing_ok=True)
        make(place / name)
        assert main(commands[kind](place)) == 2, name
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.startswith("grafiqs: ")
        assert (tmp_path / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["manifest.json", "scores.csv", "failures.csv", "SHA256SUMS", "SHA256SUMS.images"])
def test_a_pipe_in_a_finished_run_ends_verify(name: str, finished: dict[str, Path], tmp_path: Path) -> None:
    place = Path(shutil.copytree(finished["run"], tmp_path / "run"))
    (place / name).unlink()
    os.mkfifo(place / name)
    assert main(["verify", str(place), "--quiet"]) == (2 if name == "manifest.json" else 1)


@pytest.mark.parametrize("name", ["align.json", "align.csv", "failures.csv", "SHA256SUMS", "ann/0.png"])
def test_a_pipe_in_a_finished_alignment_ends_verify(name: str, finished: dict[str, Path], tmp_path: Path) -> None:
    place = Path(shutil.copytree(finished["alignment"], tmp_path / "crops"))
    (place / name).unlink()
    os.mkfifo(place / name)
    assert main(["verify", str(place), "--quiet"]) == (2 if name == "align.json" else 1)


SECTIONS = ("format", "options", "faces", "crop", "data_set", "environments", "subset")


@pytest.mark.parametrize("wrong", [None, 5, "text", [], {}, [None], {"form": None}])
def test_an_align_json_that_is_none_is_refused(
    wrong: object, commands: Commands, finished: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    """Every section of it null, or something else; and none of it there."""
    place = Path(shutil.copytree(finished["alignment"], tmp_path / "crops"))
    whole = json.loads((place / "align.json").read_text())
    documents = [{**whole, section: wrong} for section in SECTIONS]
    documents += [{key: value for key, value in whole.items() if key != section} for section in SECTIONS]
    for document in [*documents, wrong]:
        (place / "align.json").write_text(json.dumps(document))
        assert main(commands["alignment"](place)) == 2, document
        said = capsys.readouterr().err
        assert "align.json is damaged" in said or "holds another alignment" in said
        assert main(["verify", str(place)]) in (1, 2), document
        assert "align.json" in capsys.readouterr().err


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with inside.whole(tmp_path, "a/b/file") as file:
        file.write(b"one")
        assert not (tmp_path / "a" / "b" / "file").exists()
    with pytest.raises(TypeError), inside.whole(tmp_path, "a/b/file") as file:
        file.writelines([b"two", None])  # type: ignore[list-item]
    assert tree(tmp_path) == {"a/b/file": b"one"}


def test_folders_that_hold_something_else_stay(tmp_path: Path) -> None:
    for path in ("a/b/mine", "a/c/gone"):
        with inside.whole(tmp_path, path) as file:
            file.write(b"")
    inside.remove(tmp_path, "a/c/gone")
    inside.remove_folders(tmp_path, ["a/b/gone", "a/c/gone"])
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["a", "a/b", "a/b/mine"]
