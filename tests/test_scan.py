"""What counts as an identity and as a sample."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.formats.dataset import MAX_BYTES
from grafiqs.formats.folders import read_file
from grafiqs.scan import scan


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
    touch(tmp_path, "file.jpg")
    with pytest.raises(RequestError, match="file of no known kind"):
        scan(tmp_path / "file.jpg")
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
