"""What counts as an identity and as a sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafiqs.errors import RequestError
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
    with pytest.raises(RequestError, match="is a file"):
        scan(tmp_path / "file.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no identity folder and no image"):
        scan(tmp_path / "empty")
