"""Lists of images: which lines name which samples, and which lists are refused, at which line."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from grafiqs.datasets.dataset import Dataset
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.extract import extract_gradients
from grafiqs.options.extract import Options
from grafiqs.select import select
from support.making import grafiqs
from support.writing import contents as outcome
from support.writing import damaged, in_a_process, truncated


def make(root: Path, *paths: str) -> None:
    """Files that stand for images; no list is read without one of its files."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"face")


def listed(folder: Path, text: str | bytes, name: str = "faces.csv", root: Path | None = None) -> Dataset:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return scan(folder / name, root=root)


def samples(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {identity: dataset.samples(identity) for identity in dataset.identities}


READ: dict[str, tuple[str | bytes, list[str], dict[str, tuple[str, ...]]]] = {
    "paths alone": (
        "ann/b.jpg\nann/a.jpg\nbob/deep/c.jpg",
        ["ann/a.jpg", "ann/b.jpg", "bob/deep/c.jpg"],
        {"ann": ("a.jpg", "b.jpg"), "bob": ("deep/c.jpg",)},
    ),
    "some that are not there": (
        "ann/b.jpg\nann/a.jpg\nbob/c.jpg",
        ["bob/c.jpg"],
        {"ann": ("a.jpg", "b.jpg"), "bob": ("c.jpg",)},
    ),
    "paths and identities": (
        "x/a.jpg,ann\nann/b.jpg,ann\nx/c.jpg,bob\n",
        ["x/a.jpg", "ann/b.jpg", "x/c.jpg"],
        {"ann": ("ann/b.jpg", "x/a.jpg"), "bob": ("c.jpg",)},
    ),
    "files in no folder": ("b.jpg\na.jpg\n", ["a.jpg", "b.jpg"], {"": ("a.jpg", "b.jpg")}),
    "a header": ("path,identity\na.jpg,ann\n", ["a.jpg"], {"ann": ("a.jpg",)}),
    "a header, and nobody named": ("identity,path\n,x/a.jpg\n,b.jpg\n", ["b.jpg"], {"": ("b.jpg", "x/a.jpg")}),
    "a header in another order, and more": ("Identity, PATH ,score\nann,a.jpg,1.5\n", ["a.jpg"], {"ann": ("a.jpg",)}),
    "a header of paths alone": ("path\nann/a.jpg\n", ["ann/a.jpg"], {"ann": ("a.jpg",)}),
    "blank lines": ("\n\npath,identity\n\na.jpg,ann\n,\n\n", ["a.jpg"], {"ann": ("a.jpg",)}),
    "a mark for UTF-8": (b"\xef\xbb\xbfpath,identity\r\na.jpg,ann\r\n", ["a.jpg"], {"ann": ("a.jpg",)}),
    "UTF-16": ("path;identity\r\n\u00e9/a.jpg;ann\r\n".encode("utf-16"), ["\u00e9/a.jpg"], {"ann": ("a.jpg",)}),
    "line ends of DOS and of old": (
        b"ann/a.jpg\r\nann/b.jpg\rann/c.jpg",
        ["ann/a.jpg", "ann/b.jpg", "ann/c.jpg"],
        {"ann": ("a.jpg", "b.jpg", "c.jpg")},
    ),
    "quotes": (
        '"ann,1/a ""b"".jpg","x,y"\n"ann/\n.jpg","x,y"\n',
        ['ann,1/a "b".jpg', "ann/\n.jpg"],
        {"x,y": ('ann,1/a "b".jpg', "ann/\n.jpg")},
    ),
    "blanks behind every comma": ("a.jpg, ann\nb.jpg, bob b\n", ["a.jpg"], {"ann": ("a.jpg",), "bob b": ("b.jpg",)}),
    "blanks that belong to the names": (
        '" ann/a.jpg "," bob "\n',
        [" ann/a.jpg "],
        {"bob": ("a.jpg ",)},
    ),
    "names that are not UTF-8": (b"\xff/\xe9.jpg\n", ["\udcff/\udce9.jpg"], {"\udcff": ("\udce9.jpg",)}),
    "two forms of one letter": (
        "e\u0301/a.jpg\n\u00e9/a.jpg\nf/a.jpg",
        ["f/a.jpg"],
        {"f": ("a.jpg",), "e\u0301": ("a.jpg",), "\u00e9": ("a.jpg",)},
    ),
    "paths by another way": ("./ann/a.jpg\nbob/../ann//b.jpg\n", ["ann/a.jpg", "bob/x"], {"ann": ("a.jpg", "b.jpg")}),
    "whatever the extension": ("ann/a\nann/b.dat\nann/.c", ["ann/a"], {"ann": ("a", "b.dat")}),
}
"""Lists, the files that are there, and the samples that the lists name."""


@pytest.mark.parametrize("what", READ)
def test_a_list_names_its_samples(tmp_path: Path, what: str) -> None:
    text, files, expected = READ[what]
    make(tmp_path, *files)
    for name in ("faces.csv", "faces.TXT"):
        assert samples(listed(tmp_path, text, name)) == expected


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "three columns": ("a.jpg,ann\nb.jpg,ann,x\n", "has 2 to 3 columns without names"),
    "another number than the header": (
        "path,id\na.jpg,ann\n\nb.jpg\n",
        "line 4 has 1 columns instead of 2, like the first",
    ),
    "a path outside": ("ann/a.jpg\n../b.jpg\n", "line 2: ../b.jpg is not a file below .*: say with --root"),
    "an absolute path outside": ("/etc/passwd\n", "line 1: /etc/passwd is not a file below .*: say with --root"),
    "the folder itself": ("a.jpg\nann/..\n", "line 2: ann/.. is not a file below"),
    "an identity without a path": ("a.jpg,ann\n,ann\n", "line 2: an empty path is not a file below"),
    "identities alone": (",ann\n", "names no file in its first 1 lines. Line 1 is ', ann'"),
    "an identity that is a path": ("a.jpg,ann/b\n", "line 1: ann/b is not the name of an identity"),
    "an endless path": (
        "a.jpg\n" + "a/" * 30_000 + "1.png",
        r"line 2: a path of 60,0\d\d characters is longer than any file system",
    ),
    "an identity that leads up": ("a.jpg,..\n", "line 1: .. is not the name of an identity"),
    "two identities": ("a.jpg,ann\n\n./a.jpg,bob\n", "line 3: a.jpg is listed for bob and, before, for ann"),
    "one sample twice": (
        "identity,sample,path\nann,a,a.jpg\nann,a,b.jpg\n",
        "lists b.jpg, which would be the same sample of ann as a.jpg",
    ),
    "an identity for some": ("a.jpg,ann\nb.jpg\n", "line 2 names no identity, and others do"),
    "an open quote": ('ann/a.jpg\n"ann/b.jpg\n', "line 2 is not a line of a table"),
    "text behind a quote": ('"ann/a".jpg\n', "line 1 is not a line of a table"),
    "a line without end": ("x" * 200_000, "line 1 has more than 131,072 characters"),
    "UTF-16 without its mark": ("ann/a.jpg\n".encode("utf-16-le"), "line 1 holds a NUL character: a table is text in"),
    "half a letter of UTF-16": ("ann/a.jpg\n".encode("utf-16") + b"a", "line 2 is not text in utf-16"),
    "a NUL in an identity": ("a.jpg,\0\n", "line 1 holds a NUL character"),
    "a NUL in a path": ("ann/a.jpg\nann/\0.jpg\n", "line 2 holds a NUL character"),
    "nothing": ("", "names no image in its 0 lines: check --image-path"),
    "blank lines": ("\n\r\n,\n", "names no image in its 0 lines"),
    "a header": ("path,identity\n", "names no image in its 0 lines"),
}
"""Lists that cannot be followed, and what is said of them."""


@pytest.mark.parametrize("what", REFUSED)
def test_a_list_that_cannot_be_followed_is_refused(tmp_path: Path, what: str) -> None:
    text, expected = REFUSED[what]
    make(tmp_path, "a.jpg", "b.jpg", "ann/a.jpg")
    with pytest.raises(RequestError, match=rf"{tmp_path}/faces\.csv {expected}") as caught:
        listed(tmp_path, text)
    assert str(caught.value).isprintable()


def test_absolute_paths_below_the_root(tmp_path: Path) -> None:
    for folder in ("lists", "face"):
        (tmp_path / folder).mkdir()
    make(tmp_path, "faces/ann/a.jpg", "faces/bob/b.jpg")
    text = f"{tmp_path}/faces/ann/a.jpg\nbob/b.jpg\n"
    assert samples(listed(tmp_path / "lists", text, root=tmp_path / "faces")) == {"ann": ("a.jpg",), "bob": ("b.jpg",)}
    with pytest.raises(RequestError, match="is not a file below"):
        listed(tmp_path / "lists", text, root=tmp_path / "face")
    text = f"{tmp_path}/faces/ann/a.jpg\n{tmp_path}/faces/bob/b.jpg\n"
    assert samples(listed(tmp_path, text, root=Path("/"))) == {"ann": ("a.jpg",), "bob": ("b.jpg",)}
    with pytest.raises(RequestError, match="line 3: / is not a file below /: "):
        listed(tmp_path, text + "/\n", root=Path("/"))


def test_the_root_is_a_folder_and_goes_with_a_list(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--root .*nowhere is not a folder that can be reached"):
        listed(tmp_path, "a.jpg", root=tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"--root says where the paths in a list begin"):
        scan(tmp_path, root=tmp_path)


def test_lines_that_repeat_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "ann/a.jpg")
    dataset = listed(tmp_path, "ann/a.jpg,ann\n./ann/a.jpg,ann\nann/b.jpg,ann\nann/a.jpg,ann\n")
    assert samples(dataset) == {"ann": ("a.jpg", "b.jpg")}
    assert caplog.messages == [f"2 lines of {tmp_path}/faces.csv repeat earlier ones, and count once"]


def test_files_in_no_folder_beside_others_belong_to_none(tmp_path: Path) -> None:
    make(tmp_path, "ann/a.jpg")
    dataset = listed(tmp_path, "ann/a.jpg\nb.jpg\nc.jpg\n")
    assert (dataset.identities, dataset.ignored) == (("ann",), 2)
    flat = scan(tmp_path / "faces.csv", flat=True)
    assert (samples(flat), flat.ignored) == ({"": ("ann/a.jpg", "b.jpg", "c.jpg")}, 0)


def test_extensions_limit_a_list_when_given(tmp_path: Path) -> None:
    make(tmp_path, "ann/a.PNG", "ann/b.dat")
    listed(tmp_path, "ann/a.PNG\nann/b.dat\nbob/c.dat\nann/d\n")
    assert samples(scan(tmp_path / "faces.csv", ("png",))) == {"ann": ("a.PNG",)}
    with pytest.raises(RequestError, match="names no image in its 4 lines"):
        scan(tmp_path / "faces.csv", ("jpg",))


def test_listed_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    os.mkfifo(tmp_path / "ann" / "pipe.jpg")
    (tmp_path / "ann" / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "ann" / "good.jpg").write_bytes(b"face")
    long = "x" * 300 + ".jpg"
    dataset = listed(tmp_path, f"ann/good.jpg\nann/pipe.jpg\nann/device.jpg\nann/missing.jpg\nann/{long}\nann\n")
    assert len(dataset.samples("ann")) == 5
    reasons = {}
    for path in ("ann", "ann/pipe.jpg", "ann/device.jpg", "ann/missing.jpg", f"ann/{long}"):
        with pytest.raises(UnreadableSampleError) as caught:
            dataset.read(path)
        reasons[path] = str(caught.value)
    assert reasons == {
        "ann": "not a regular file",
        "ann/pipe.jpg": "not a regular file",
        "ann/device.jpg": "not a regular file",
        "ann/missing.jpg": "cannot be opened: No such file or directory",
        f"ann/{long}": "cannot be opened: File name too long",
    }
    assert dataset.read("ann/good.jpg") == b"face"


def test_what_select_writes_is_a_list(faces: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.csv"
    options = ("--samples-per-identity", 3, "--num-identities", 2, "--random-identity-selection")
    first = grafiqs("select", "--image-path", faces, *options, "--output", chosen)
    again = grafiqs("select", "--image-path", chosen, "--root", faces, "--output", tmp_path / "again.csv")
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert (tmp_path / "again.csv").read_bytes() == chosen.read_bytes()
    (said,) = (line for line in first.stdout.splitlines() if "SHA-256" in line)
    assert said in again.stdout.splitlines()


@pytest.mark.usefixtures("one_thread")
def test_the_scores_of_a_run_are_a_list(faces: Path, weights: Path, tmp_path: Path) -> None:
    options = Options(image_path=faces, weights=weights, output_dir=tmp_path / "run", dump_gradients=False)
    assert extract_gradients(options)
    options = Options(image_path=faces)
    assert select(scan(tmp_path / "run" / "scores.csv", root=faces), options) == select(scan(faces), options)


def every_damage(folder: Path) -> None:
    """Damaged lists, each refused or read as far as it goes; `writing.contents` holds it to that."""
    table = "path,identity\n" + "".join(f'"a,b/{number}.jpg",ann\nbob/é{number}.jpg,bob\n' for number in range(20))
    make(folder, "a,b/0.jpg", "bob/é0.jpg")
    garbage = [random.Random(seed).randbytes(3000) for seed in range(50)]
    plain = table.replace("path,identity\n", "\ufeff").encode()
    for data in (*damaged(table.encode(), 150, 0), *damaged(plain, 150, 1), *truncated(plain, 10), *garbage):
        (folder / "faces.csv").write_bytes(data)
        outcome(folder / "faces.csv")


def test_damaged_lists_end_in_clear_errors(tmp_path: Path) -> None:
    in_a_process("test_lists.every_damage", tmp_path)
