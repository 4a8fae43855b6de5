"""What counts as an identity and as a sample."""

from __future__ import annotations

import csv
import multiprocessing
import os
import posixpath
import random
import resource
import signal
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, MAX_BYTES, Dataset
from grafiqs.datasets.folders import read_file
from grafiqs.datasets.layout import is_sample
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.extract import extract_gradients
from grafiqs.options.extract import Options
from grafiqs.select import select
from support.packing import contents, tarred, zipped


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_samples_lie_at_any_depth_and_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "ann/b.JPG", "ann/a.png", "ann/deep/er/c.jpeg", "ann/notes.txt", "ann/jpg", "bob/.x.jpg")
    dataset = scan(tmp_path)
    assert dataset.identities == ("ann", "bob")
    assert dataset.samples("ann") == ("a.png", "b.JPG", "deep/er/c.jpeg")
    assert dataset.samples("bob") == ()


def test_extensions_limit_the_samples(tmp_path: Path) -> None:
    touch(tmp_path, "ann/a.png", "ann/b.jpg", "ann/c.dat")
    assert scan(tmp_path, ("png", "dat")).samples("ann") == ("a.png", "c.dat")


def test_images_without_folders_are_one_unnamed_identity(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.jpg", ".hidden/c.jpg")
    dataset = scan(tmp_path)
    assert dataset.identities == ("",)
    assert dataset.samples("") == ("a.jpg", "b.jpg")


def test_flat_takes_everything_as_one_identity(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "ann/a.jpg")
    assert scan(tmp_path).ignored == 1
    flat = scan(tmp_path, flat=True)
    assert (flat.identities, flat.ignored) == (("",), 0)
    assert flat.samples("") == ("ann/a.jpg", "b.jpg")


def test_names_sort_by_code_point_of_their_nfc_form(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{identity}/a.jpg" for identity in ("b", "B", "e\u0301", "f", "10", "9")))
    assert scan(tmp_path).identities == ("10", "9", "B", "b", "f", "e\u0301")


def test_links_to_folders_are_followed_but_not_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "faces", "ann/a.jpg", "bob/b.jpg")
    touch(tmp_path / "elsewhere", "c.jpg")
    faces = tmp_path / "faces"
    (faces / "ann" / "linked").symlink_to(tmp_path / "elsewhere")
    (faces / "ann" / "back").symlink_to(faces)
    (faces / "ann" / "self").symlink_to(faces / "ann")
    (faces / "ann" / "nowhere.jpg").symlink_to("nowhere.jpg")
    (faces / "cyd").symlink_to(faces / "bob")
    dataset = scan(faces)
    assert dataset.identities == ("ann", "bob", "cyd")
    assert dataset.samples("ann") == ("a.jpg", "linked/c.jpg", "nowhere.jpg")
    assert dataset.samples("cyd") == ("b.jpg",)
    assert sum("leads back" in message for message in caplog.messages) == 2


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        scan(tmp_path / "nowhere")
    for name, extensions, match in (
        ("file.jpgs", (), "file of no known kind: .* give --image-extension jpgs; if it is a list, call it .txt"),
        ("faces.list", (), "of no known kind: .* if it is a list, call it .txt"),
        ("file", (), r"of no known kind: .* give --image-extension \.; if it is a list, call it .txt"),
        ("file.jpg", ("png",), "file of no known kind here, as --image-extension does not name jpg: name it"),
        ("file.heic", (), "a picture in a format that is not read: convert it"),
        *((f"labels.{kind}", (), "save it as CSV") for kind in ("xlsx", "ods", "json", "parquet")),
    ):
        touch(tmp_path, name)
        with pytest.raises(RequestError, match=match):
            scan(tmp_path / name, extensions)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no identity folder and no image"):
        scan(tmp_path / "empty")


def test_a_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(b"a face")
    (tmp_path / "link.gif").symlink_to("face.jpg")
    assert read_file(tmp_path / "link.gif") == b"a face"


def test_reading_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    reasons = {}
    for name in ("missing", "folder", "loop", "device", "pipe"):
        with pytest.raises(UnreadableSampleError) as caught:
            read_file(tmp_path / f"{name}.png")
        reasons[name] = str(caught.value)
    assert reasons == {
        "missing": "cannot be opened: No such file or directory",
        "folder": "not a regular file",
        "loop": "cannot be opened: Too many levels of symbolic links",
        "device": "not a regular file",
        "pipe": "not a regular file",
    }


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)  # a hole: it takes no room on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableSampleError, match=r"268,435,457 bytes, more than 268,435,456"):
        read_file(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64_000_000


# -- one data set in every form ----------------------------------------------------------------------------

PARTS = st.one_of(
    st.sampled_from(
        ["ann", "Zo\u00eb", "Zoe\u0308", ".x", "..x", "a b", " ", "a,b", '"', "a\\b", "\udcff", "1.jpg", "~"]
    ),
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=5),
).filter(lambda part: part not in (".", ".."))
NAMES = st.builds("{}{}".format, PARTS, st.sampled_from([".jpg", ".PNG", ".jpg", ".txt", "", ".jpg~"]))
PATHS = st.builds(lambda folders, name: "/".join([*folders, name]), st.lists(PARTS, max_size=3), NAMES)


def written(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of files, but for those that the file system refuses, where another one lies in their way."""
    for path, data in files.items():
        with suppress(OSError):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    return folder


def packed(folder: Path, top: str, with_folders: bool) -> list[tuple[str, bytes]]:
    """All that a folder holds as members of an archive, below `top` in that."""
    paths = [folder, *folder.rglob("*")] if with_folders else folder.rglob("*")
    names = ((path, posixpath.normpath(top + path.relative_to(folder).as_posix())) for path in paths)
    dotted = "./" if top.startswith("./") else ""
    return [
        (f"{dotted}{name}/", b"") if path.is_dir() else (dotted + name, path.read_bytes())
        for path, name in names
        if with_folders or path.is_file()
    ]


def told(dataset: Dataset, **options: Any) -> object:
    """All that a data set gives to those who read it, and the subset that seeds draw from it."""
    subset = select(dataset, Options(image_path=dataset.place, random_seed=7, samples_per_identity=2, **options))
    return contents(dataset), dataset.ignored, subset, subset.sha256


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    paths=st.lists(PATHS, max_size=12),
    top=st.sampled_from(["", "./", "faces/", "./a set/"]),
    with_folders=st.booleans(),
    flat=st.booleans(),
    dice=st.randoms(use_true_random=False),
)
def test_one_data_set_in_every_form(
    paths: list[str], top: str, with_folders: bool, flat: bool, dice: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        files = {path: os.fsencode(path) * 3 for path in ("one/1.jpg", "two/deep/2.jpg", *paths)}
        folder = written(place / "folder", files)
        if with_folders:
            (folder / "zzz" / "empty").mkdir(parents=True)
        draw = {
            "num_identities": 3,
            "random_identity_selection": True,
            "allow_insufficient_samples": dice.random() < 0.5,
        }
        expected = told(scan(folder, flat=flat), **draw)

        images = [name for name, _ in packed(folder, "", False) if is_sample(name, IMAGE_EXTENSIONS)]
        if 2 * sum("/" not in name for name in images) >= len({name.partition("/")[0] for name in images}):
            top = ""  # a folder of no more folders than images is an identity
        members = packed(folder, top, with_folders)
        dice.shuffle(members)
        marked = not any("\udcff" in name for name, _ in members) and dice.random() < 0.5
        method = dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        (place / "faces.zip").write_bytes(zipped(members, method, marked))
        form = dice.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        (place / "faces.tar").write_bytes(tarred(members, form))
        for kind in ("zip", "tar"):
            assert told(scan(place / f"faces.{kind}", flat=flat), **draw) == expected

        dataset = scan(folder, flat=flat)  # a list names no identity that has no image
        dataset.identities = tuple(identity for identity in dataset.identities if dataset.samples(identity))
        listed = [[name] for name, _ in packed(folder, "", False) if is_sample(name, IMAGE_EXTENSIONS)]
        dice.shuffle(listed)
        with (place / "faces.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(listed)
        assert told(scan(place / "faces.csv", flat=flat, root=folder), **draw) == told(dataset, **draw)


def in_every_form(folder: Path, files: dict[str, bytes]) -> dict[str, Dataset]:
    (folder / "faces.csv").write_text("".join(f"{path}\n" for path in files))
    (folder / "faces.zip").write_bytes(zipped(files.items()))
    (folder / "faces.tar").write_bytes(tarred(files.items()))
    root = written(folder / "faces", files)
    archives = {kind: scan(folder / f"faces.{kind}") for kind in ("zip", "tar")}
    return {"folder": scan(root), "list": scan(folder / "faces.csv", root=root), **archives}


FACES = {
    f"{identity}/{number}.jpg": random.Random(number).randbytes(20_000) for identity in "ab" for number in range(9)
}


def reads_right(dataset: Dataset) -> bool:
    return {location: dataset.read(location) for location in FACES} == FACES


@pytest.mark.usefixtures("one_thread")
def test_a_run_over_an_archive_is_that_over_the_folder(faces: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(zipped(packed(faces, "faces/", True)))
    (tmp_path / "faces.tar").write_bytes(tarred(packed(faces, "./", False)))
    scores = set()
    for number, place in enumerate((faces, tmp_path / "faces.zip", tmp_path / "faces.tar")):
        run = tmp_path / str(number)
        assert extract_gradients(Options(image_path=place, weights=weights, output_dir=run, dump_gradients=False))
        scores.add((run / "scores.csv").read_bytes())
    assert len(scores) == 1


def test_spawned_processes_read_every_form(tmp_path: Path) -> None:
    datasets = in_every_form(tmp_path, FACES).values()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(contents, datasets)) == [contents(dataset) for dataset in datasets]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("form", ["folder", "list", "zip", "tar"])
def test_threads_and_forked_processes_read_at_once(tmp_path: Path, form: str) -> None:
    dataset = in_every_form(tmp_path, FACES)[form]
    done = threading.Event()
    right = []

    def read() -> None:
        while not done.is_set():
            right.append(reads_right(dataset))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            signal.alarm(20)  # kills a child that waits for ever
            os._exit(0 if all(reads_right(dataset) for _ in range(3)) else 1)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    done.set()
    for thread in threads:
        thread.join()
    assert ends == [0] * len(children)
    assert right
    assert all(right)


@pytest.mark.parametrize("name", ["pipe", "pipe.csv", "pipe.zip", "pipe.tar", "pipe.rec", "pipe.bin"])
def test_a_pipe_or_a_device_is_no_data_set(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / f"device_{name}").symlink_to("/dev/zero")
    for place in (tmp_path / name, tmp_path / f"device_{name}"):
        with pytest.raises(RequestError, match=rf"{name} is neither a folder nor a file: check --image-path"):
            scan(place)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.rec", "b.zip", "c.tar", "d.bin", "e.txt"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(RequestError, match="neither a folder nor a file"):
            scan(tmp_path / name)
    (tmp_path / "a.idx").write_text("0\t0\n")
    with pytest.raises(RequestError, match="not a regular file"):
        scan(tmp_path / "a.idx")


def test_what_macos_packs_beside_a_data_set_is_no_identity(tmp_path: Path) -> None:
    touch(tmp_path, "ann/a.jpg", "__MACOSX/ann/._a.jpg")
    assert scan(tmp_path).identities == ("ann",)
