"""Which folders are the identities, the same for a folder, a .zip and a .tar of it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grafiqs.datasets.dataset import Dataset
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.subset import SubsetOptions
from grafiqs.select import Subset, left_out, open_dataset, select, select_subset
from support.packing import Members, contents, tarred, zipped

PACKED: dict[str, Callable[[Members], bytes]] = {"zip": zipped, "tar": tarred}


def places(folder: Path, paths: Iterable[str]) -> list[Path]:
    """The same files as a folder, a .zip and a .tar; their content is their path. Paths with a slash are folders."""
    files = {path: b"" if path.endswith("/") else path.encode() for path in paths}
    for path, data in files.items():
        (folder / "set" / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (folder / "set" / path).mkdir(exist_ok=True)
        else:
            (folder / "set" / path).write_bytes(data)
    for kind, pack in PACKED.items():
        (folder / f"set.{kind}").write_bytes(pack((path, data) for path, data in files.items()))
    return [folder / "set", *(folder / f"set.{kind}" for kind in PACKED)]


def subset(dataset: Dataset) -> Subset:
    return select(dataset, SubsetOptions(image_path=dataset.place, samples_per_identity=2, random_seed=7,
                                         allow_insufficient_samples=True))  # fmt: skip


def told(dataset: Dataset) -> tuple[object, ...]:
    """All that a data set gives, but for where it lies."""
    chosen = subset(dataset)
    bare = [(sample.identity, sample.name) for sample in chosen.samples]
    return contents(dataset), dataset.ignored, bare, chosen.sha256, dataset.left_out


def alike(folder: Path, paths: Iterable[str], **how: object) -> Dataset:
    """The data set that folder, .zip and .tar all give; it is the folder's."""
    first, *others = (scan(place, **how) for place in places(folder, paths))  # type: ignore[arg-type]
    for other in others:
        assert told(other) == told(first)
        assert other.said.replace(str(other.place), "") == first.said.replace(str(first.place), "")
    for sample in subset(first).samples:
        assert (first.root / sample.location, first.read(sample.location)) == (
            first.place / sample.location,
            sample.location.encode(),  # which is the path in what was given, however it was read
        )
    return first


def refused(folder: Path, paths: Iterable[str], match: str, **how: object) -> None:
    for place in places(folder, paths):
        with pytest.raises(RequestError, match=match):
            scan(place, **how)  # type: ignore[arg-type]


IDS = ("0001/a.jpg", "0001/b.jpg", "0002/a.jpg", "0003/deep/c.jpg")


def under(*tops: str, ids: Iterable[str] = IDS) -> list[str]:
    return [f"{top}{path}" for top in tops for path in ids]


@pytest.fixture
def plain(tmp_path: Path) -> Subset:
    """The subset of the identities' folder itself."""
    return subset(scan(places(tmp_path / "plain", IDS)[0]))


def same(found: Dataset, plain: Subset) -> bool:
    chosen = subset(found)
    names = [(sample.identity, sample.name) for sample in chosen.samples]
    return chosen.sha256 == plain.sha256 and names == [(sample.identity, sample.name) for sample in plain.samples]


# -- one folder too high -------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["CASIA/", "CASIA/ids/", "a/b/c/d/", "train/", "1/", "images/"])
@pytest.mark.parametrize("more", [(), ("README.md", ".hidden/x.jpg"), ("@eaDir/0001/x.jpg", "__MACOSX/y/z.jpg")])
def test_a_data_set_in_folders_of_its_own(
    tmp_path: Path, top: str, more: tuple[str, ...], plain: Subset, caplog: pytest.LogCaptureFixture
) -> None:
    level = top.count("/") + 1
    paths = [*under(top), *more]
    found = alike(tmp_path, paths)
    assert same(found, plain)
    assert found.location("0003", "deep/c.jpg") == f"{top}0003/deep/c.jpg"
    assert found.said == (
        f"the identities are the folders in {tmp_path}/set/{top[:-1]} (--identity-depth {level}); "
        f"--identity-depth 1 takes {top.partition('/')[0]} as one"
    )
    assert not caplog.messages
    asked = alike(tmp_path, paths, identity_depth=level)
    assert told(asked) == told(found)
    assert asked.said == ""
    one = alike(tmp_path, paths, identity_depth=1)
    assert one.identities == (top.partition("/")[0],)
    assert len(one.samples(one.identities[0])) == 4


def test_folders_without_images_beside_those_with_them_are_passed_by(tmp_path: Path, plain: Subset) -> None:
    labels = [f"labels/{path}.txt" for path in IDS]
    found = alike(tmp_path, [*under("images/"), *labels])
    assert same(found, plain)
    assert told(alike(tmp_path, [*under("images/"), *labels], identity_depth=2))[:4] == told(found)[:4]


def test_a_stray_image_beside_the_identities_does_not_make_them_one(tmp_path: Path, plain: Subset) -> None:
    paths = [*under("faces/"), "faces/contact_sheet.png", "faces/readme.txt"]
    found = alike(tmp_path, paths)
    assert same(found, plain)
    assert found.ignored == 1


def test_one_identity_with_a_folder_of_its_own_stays_one(tmp_path: Path) -> None:
    found = alike(tmp_path, ["ann/0.jpg", "ann/1.jpg", "ann/blurred/0.jpg"])
    assert contents(found).keys() == {"ann"}
    assert found.samples("ann") == ("0.jpg", "1.jpg", "blurred/0.jpg")
    assert found.said == ""


def test_one_identity_with_sessions_is_taken_for_a_packed_data_set_and_it_is_said(tmp_path: Path) -> None:
    paths = ["ann/s1/0.jpg", "ann/s2/0.jpg"]
    found = alike(tmp_path, paths)
    assert found.identities == ("s1", "s2")
    assert found.said.endswith("--identity-depth 1 takes ann as one")
    assert contents(alike(tmp_path, paths, identity_depth=1)).keys() == {"ann"}


def test_an_image_beside_the_one_folder_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [*under("faces/"), "sample.jpg"]
    found = alike(tmp_path, paths)
    assert (found.identities, found.ignored) == (("faces",), 1)
    assert len(caplog.messages) == 3
    assert all("give --identity-depth 2; --identity-depth 1 confirms" in message for message in caplog.messages)


def test_flat_data_sets_lose_the_same_folders(tmp_path: Path) -> None:
    flat = subset(scan(places(tmp_path / "plain", IDS)[0], flat=True))
    assert same(alike(tmp_path, under("CASIA/ids/"), flat=True), flat)


# -- splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "TEST", "Valid"), ("gallery", "probe"),
                                   ("train_set", "test-set"), ("faces/train", "faces/val"),
                                   ("train1", "dev")])  # fmt: skip
@pytest.mark.parametrize("more", [(), ("README.md", "lost+found/x.jpg"), ("train/list.txt",)])
def test_the_folders_in_splits_are_the_identities(
    tmp_path: Path, names: tuple[str, ...], more: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    paths = [f"{names[number % len(names)]}/{path}" for number, path in enumerate(["1/a.jpg", "2/a.jpg", "3/b.jpg"])]
    plain = subset(scan(places(tmp_path / "plain", ["1/a.jpg", "2/a.jpg", "3/b.jpg"])[0]))
    found = alike(tmp_path, [*paths, *more])
    level = names[0].count("/") + 2
    assert same(found, plain)
    assert "splits of" in found.said
    assert f"(--identity-depth {level})" in found.said
    assert not caplog.messages
    assert told(alike(tmp_path, [*paths, *more], identity_depth=level)) == told(found)
    if level == 2:
        assert set(alike(tmp_path, [*paths, *more], identity_depth=1).identities) >= set(names)


def test_an_identity_in_several_splits_is_one(tmp_path: Path) -> None:
    paths = [
        "set/train/ann/0.jpg",
        "set/val/ann/0.jpg",
        "set/train/bob/0.jpg",
        "set/val/cyd/0.jpg",
        "set/val/bob/x.txt",
    ]
    found = alike(tmp_path, paths)
    assert contents(found) == {
        "ann": {"train/0.jpg": b"set/train/ann/0.jpg", "val/0.jpg": b"set/val/ann/0.jpg"},
        "bob": {"0.jpg": b"set/train/bob/0.jpg"},
        "cyd": {"0.jpg": b"set/val/cyd/0.jpg"},
    }
    assert found.said.endswith(
        "names in several of these folders: 2 (ann in train and val), each of which is one identity"
    )
    assert told(alike(tmp_path, paths, identity_depth=3)) == told(found)
    assert (found.root / "set/train/ann/0.jpg").is_file()


def test_a_split_of_bare_images_beside_one_of_identities_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [*under("train/"), "test/0.jpg", "test/1.jpg"]
    assert alike(tmp_path, paths).identities == ("test", "train")
    assert len(caplog.messages) == 3
    assert "as test has images of its own: give" in caplog.text
    caplog.clear()
    found = alike(tmp_path, paths, identity_depth=2)
    assert (found.identities, found.ignored) == (("0001", "0002", "0003"), 2)
    assert alike(tmp_path, paths, identity_depth=1).identities == ("test", "train")
    assert not caplog.messages


@pytest.mark.parametrize(
    ("top", "names"),
    [("", ("train", "val")), ("fairface/", ("train", "val")), ("", ("gallery", "probe")), ("", ("Train",))],
)
def test_splits_of_bare_images_are_not_taken_for_people_in_silence(
    tmp_path: Path, top: str, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    paths = [*(f"{top}{name}/{number}.jpg" for name in names for number in (0, 1)), f"{top}labels.csv"]
    level = top.count("/") + 1
    assert alike(tmp_path, paths).identities == names
    assert len(caplog.messages) == 3
    for message in caplog.messages:
        assert f"has the name of a split: {' and '.join(names)}. If" in message
        assert "give --flat-structure" in message
        assert f"--identity-depth {level} confirms" in message
    caplog.clear()
    assert alike(tmp_path, paths, identity_depth=level).identities == names
    assert len(alike(tmp_path, paths, flat=True).samples("")) == 2 * len(names)
    assert not caplog.messages


@pytest.mark.parametrize("inside", ["images/", "a/b/"])
def test_splits_may_hold_one_more_folder_each(tmp_path: Path, inside: str) -> None:
    paths = [f"train/{inside}ann/0.jpg", f"train/{inside}bob/0.jpg", f"val/{inside}ann/0.jpg"]
    found = alike(tmp_path, paths)
    assert contents(found) == {
        "ann": {f"{split}/{inside}0.jpg": f"{split}/{inside}ann/0.jpg".encode() for split in ("train", "val")},
        "bob": {"0.jpg": f"train/{inside}bob/0.jpg".encode()},
    }
    assert told(alike(tmp_path, paths, identity_depth=inside.count("/") + 2)) == told(found)


def test_identities_of_splits_that_hold_folders_alone_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert alike(tmp_path, [*under("train/asia/", "train/europe/"), *under("val/asia/")]).identities == (
        "asia",
        "europe",
    )
    assert all("give --identity-depth 3; --identity-depth 2 confirms" in message for message in caplog.messages)
    assert len(caplog.messages) == 3


def test_people_called_like_splits_are_people(tmp_path: Path) -> None:
    assert alike(tmp_path, ["Dev/0.jpg", "Val/s/0.jpg", "ann/0.jpg"]).identities == ("Dev", "Val", "ann")
    other = tmp_path / "other"
    assert alike(other, ["Dev/0.jpg", "Dev/1.jpg", "Val/0.jpg"]).identities == ("Dev", "Val")


# -- identities that hold folders alone ----------------------------------------------------------------------


def test_identities_of_folders_alone_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = under("asia/", "europe/")
    found = alike(tmp_path, paths)
    assert found.identities == ("asia", "europe")
    assert found.samples("asia") == ("0001/a.jpg", "0001/b.jpg", "0002/a.jpg", "0003/deep/c.jpg")
    assert len(caplog.messages) == 3
    for message in caplog.messages:
        assert "which count as identities, hold folders and no images of their own" in message
        assert message.endswith("give --identity-depth 2; --identity-depth 1 confirms")
    caplog.clear()
    assert alike(tmp_path, paths, identity_depth=1).identities == found.identities
    deeper = alike(tmp_path, paths, identity_depth=2)
    assert deeper.identities == ("0001", "0002", "0003")
    assert deeper.samples("0003") == ("asia/deep/c.jpg", "europe/deep/c.jpg")
    assert not caplog.messages


def test_one_identity_with_an_image_of_its_own_says_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alike(tmp_path, ["ann/s/0.jpg", "bob/0.jpg", "cyd/s/0.jpg"])
    assert not caplog.messages


def test_images_above_the_level_are_ignored(tmp_path: Path) -> None:
    paths = ["0.jpg", "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg"]
    found = alike(tmp_path, paths, identity_depth=2)
    assert (contents(found), found.ignored) == ({"b": {"2.jpg": b"a/b/2.jpg", "c/3.jpg": b"a/b/c/3.jpg"}}, 2)
    refused(tmp_path, paths, "no folder at level 4 below .* holds an image", identity_depth=4)


def test_images_beside_folders_of_other_things_are_one_unnamed_identity(tmp_path: Path) -> None:
    found = alike(tmp_path, ["0.jpg", "1.jpg", "annotations/0.xml"])
    assert contents(found)[""].keys() == {"0.jpg", "1.jpg"}
    assert "no folder in" in found.said


# -- systems' folders ----------------------------------------------------------------------------------------

SYSTEMS = ("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information",
           "lost+found", "__MACOSX", ".AppleDouble", ".Trash-1000", "Network Trash Folder",
           "Temporary Items")  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_folders_of_systems_are_no_identities_nor_looked_into(tmp_path: Path, name: str, plain: Subset) -> None:
    paths = [*IDS, f"{name}/0001/x.jpg", f"0001/{name}/SYNOPHOTO_THUMB_M.jpg", f"0003/deep/{name}/y.jpg"]
    found = alike(tmp_path, paths)
    assert found.identities == ("0001", "0002", "0003")
    assert same(found, plain)
    assert found.left_out.folders == ({} if name.startswith(".") else {name: 3})
    if not name.startswith("."):
        assert (logging.INFO, f"passed over, as folders of systems: 3 {name}") in list(left_out(found))


def test_names_that_begin_like_a_systems_are_identities(tmp_path: Path) -> None:
    names = ("lost+found2", "recyclers", "__MACOSX_2", "@eaDirs", "LOST+FOUND")
    assert set(alike(tmp_path, [f"{name}/0.jpg" for name in names]).identities) == set(names)


# -- folders, .zip and .tar agree ----------------------------------------------------------------------------

_PARTS = st.sampled_from(["train", "val", "a", "b", "@eaDir", ".h", "c"])
_NAMES = st.sampled_from(["0.jpg", "1.png", "x.txt", ".y.jpg", "2.heic", "Thumbs.db"])
_TREES = st.lists(st.builds(lambda folders, name: "/".join([*folders, name]), st.lists(_PARTS, max_size=4), _NAMES),
                  max_size=8)  # fmt: skip


def outcome(place: Path, depth: int | None, flat: bool) -> object:
    try:
        return told(scan(place, identity_depth=depth, flat=flat))
    except RequestError as error:
        return "no folder at level" in str(error)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    paths=_TREES, depth=st.sampled_from([None, None, 1, 2, 3]), flat=st.booleans(), top=st.sampled_from(["", "x/y/"])
)
def test_one_tree_in_every_form(paths: list[str], depth: int | None, flat: bool, top: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        outcomes = [
            outcome(place, None if flat else depth, flat)
            for place in places(Path(name), dict.fromkeys(under(top, ids=paths)))
        ]
    assert outcomes[0] == outcomes[1] == outcomes[2]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(paths=_TREES)
def test_what_is_said_is_what_the_option_gives(paths: list[str]) -> None:
    """The depth that the log names gives the same data set."""
    with tempfile.TemporaryDirectory() as name:
        place = places(Path(name), dict.fromkeys(paths))[0]
        try:
            found = scan(place)
        except RequestError:
            return
        if "(--identity-depth " in found.said:
            depth = int(found.said.split("(--identity-depth ")[1].split(")")[0])
            assert told(scan(place, identity_depth=depth))[:4] == told(found)[:4]


# -- what is left out ----------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted_by_extension(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    paths = ["ann/0.jpg", "ann/1.HEIC", "ann/2.heic", "ann/3.txt", "ann/raw", "bob/0.jpg", "bob/deep/4.txt",
             "ann/Thumbs.db", "bob/desktop.ini", "bob/.DS_Store", "list.txt"]  # fmt: skip
    for place in places(tmp_path, paths):
        caplog.clear()
        select_subset(SubsetOptions(image_path=place))
        lines = [(record.levelname, record.message) for record in caplog.records if "left out" in record.message]
        assert lines == [
            ("WARNING", "left out: 3 .txt, 2 .heic, 1 without extension (--image-extension takes what it names)")
        ]


def test_what_is_no_image_is_left_out_without_a_warning(tmp_path: Path) -> None:
    found = alike(tmp_path, ["ann/0.jpg", "ann/0.txt", "bob/0.jpg"])
    assert list(left_out(found)) == [(logging.INFO, "left out: 1 .txt (--image-extension takes what it names)")]


def test_nothing_is_counted_twice_nor_beyond_what_was_listed(tmp_path: Path) -> None:
    place = places(
        tmp_path, [f"{name}/{number}.{kind}" for name in "abcdef" for number in "01" for kind in ("jpg", "txt")]
    )[0]
    dataset = scan(place)
    for _ in range(2):
        select(dataset, SubsetOptions(image_path=place, num_identities=3))
    assert dataset.left_out.files == {"txt": 6}


@pytest.mark.parametrize("word", [".", "", "*."])
def test_files_without_extension_are_taken_when_asked_for(tmp_path: Path, word: str) -> None:
    paths = ["ann/0", "ann/1.jpg", "ann/.hidden", "bob/0", "bob/x.y", "bob/deep/2"]
    options = DataSetOptions(image_path=places(tmp_path, paths)[0], image_extension=(word,))
    assert options.image_extension == ("",)
    found = open_dataset(options)
    assert contents(found) == {"ann": {"0": b"ann/0"}, "bob": {"0": b"bob/0", "deep/2": b"bob/deep/2"}}
    assert told(alike(tmp_path, paths, extensions=("",))) == told(found)
    both = alike(tmp_path, paths, extensions=("", "jpg"))
    assert both.samples("ann") == ("0", "1.jpg")


# -- nothing to be had ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "match"),
    [
        (["faces_emore/train.rec", "faces_emore/train.idx", "faces_emore/lfw.bin"], r"faces_emore/train\.rec"),
        (["val/lfw.bin", "val/notes.txt"], r"val/lfw\.bin"),
        (["a/b/faces.zip"], r"a/b/faces\.zip"),
        (["shards/0.tar", "shards/1.tar"], r"holds shards \(2 \.tar\): "),
        (["train/0.tar", "val/0.tar"], r"holds 2 data sets, train/0\.tar, val/0\.tar: .*give one of them"),
        (
            [f"{split}/{n}.tar" for split in ("train", "val") for n in range(3)],
            r"holds 2 data sets, train \(3 \.tar\), val \(3 \.tar\): .*give one of them",
        ),
        (["ann/0.heic", "ann/1.heic"], r"no image .*, but 2 \.heic: check --image-path, or convert them"),
        (["s/0.happy", "s/1.happy", "s/1.txt"], r"but 2 \.happy, 1 \.txt: .* give --image-extension happy"),
        (["0.tar.gz", "1.tar.gz"], r"but 2 \.gz: unpack them first, by `gunzip -k \*\.gz`"),
        (["s/0.txt"], r"but 1 \.txt: check --image-path$"),
        (["ann/"], r"no image"),
        (["ann/0"], r"but 1 without extension: check --image-path, or give --image-extension \. to take"),
    ],
)
def test_a_data_set_inside_is_named(tmp_path: Path, paths: list[str], match: str) -> None:
    refused(tmp_path, paths, match)
