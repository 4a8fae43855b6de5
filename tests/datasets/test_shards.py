"""webdataset's shards: the labels beside their images, one .tar or a folder of them."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import resource
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from grafiqs.datasets.dataset import Dataset
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.options.subset import SubsetOptions
from grafiqs.select import Subset, left_out, select
from support.packing import contents, tar_of, tarred

FACES = {"ann/0001": b"a1", "ann/0002": b"a2", "bob/0003": b"b3", "cyd/0004": b"c4", "cyd/0005": b"c5"}
"""The images by identity and key."""


def subset(dataset: Dataset) -> Subset:
    return select(dataset, SubsetOptions(image_path=dataset.place, samples_per_identity=1))


@pytest.fixture
def plain(tmp_path: Path) -> Dataset:
    """The same data as folders."""
    for path, data in FACES.items():
        (tmp_path / "plain" / f"{path}.jpg").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / f"{path}.jpg").write_bytes(data)
    return scan(tmp_path / "plain")


def same(found: Dataset, plain: Dataset) -> bool:
    return contents(found) == contents(plain) and subset(found).sha256 == subset(plain).sha256


def as_class(identity: str) -> dict[str, bytes]:
    return {"cls": f"{identity}\n".encode()}


def as_field(field: str = "label", **others: Any) -> Any:
    return lambda identity: {"json": json.dumps({**others, field: identity}).encode()}


def labelled(faces: dict[str, bytes] = FACES, label: Any = as_class, folder: str = "") -> list[tuple[str, bytes]]:
    """Members of shards: each image with its label, flat, or in a `folder`."""
    members = []
    for path, data in faces.items():
        identity, _, key = path.partition("/")
        members.append((f"{folder}{key}.jpg", data))
        members += [(f"{folder}{key}.{kind}", text) for kind, text in label(identity).items()]
    return members


def shard(place: Path, members: list[tuple[str, bytes]]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(tarred(members))
    return place


def in_shards(place: Path, size: int = 2, **how: Any) -> Path:
    """The faces in a folder of shards of so many images."""
    items = list(FACES.items())
    for number in range(0, len(items), size):
        shard(place / f"{number // size:05}.tar", labelled(dict(items[number : number + size]), **how))
    return place


# -- the same data -------------------------------------------------------------------------------------------

LABELS: dict[str, Any] = {
    "cls": as_class,
    "json label": as_field(age=30, url="x"),
    "json identity": as_field("Identity", key="0001"),
    "json name-id": as_field("name-id"),
    "both": lambda identity: as_class(identity) | {"json": b'{"label": "other"}'},
    "cls and caption": lambda identity: as_class(identity) | {"txt": b"a face"},
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("folder", ["", "./", "images/"])
def test_labels_are_the_identities(tmp_path: Path, label: str, folder: str, plain: Dataset) -> None:
    one = scan(shard(tmp_path / "faces.tar", labelled(label=LABELS[label], folder=folder)))
    several = scan(in_shards(tmp_path / "shards", label=LABELS[label], folder=folder))
    for found in (one, several):
        assert found.form == "webdataset"
        assert found.said.startswith("webdataset, ")
        assert found.left_out.files == ({"txt": 5} if "caption" in label else {})
        if folder == "images/":  # the key is the path
            assert found.samples("ann") == ("images/0001.jpg", "images/0002.jpg")
        else:
            assert same(found, plain)
    first = several.location("ann", several.samples("ann")[0])
    assert first == f"00000.tar/{'images/' if folder == 'images/' else ''}0001.jpg"


def test_the_identity_in_the_key_is_taken_off(tmp_path: Path, plain: Dataset) -> None:
    members = []
    for path, data in FACES.items():
        members += [(f"{path}.jpg", data), (f"{path}.cls", path.partition("/")[0].encode())]
    assert same(scan(shard(tmp_path / "faces.tar", members)), plain)


def test_numbers_are_identities_as_they_are_written(tmp_path: Path) -> None:
    for number, (value, name) in enumerate(((7, "7"), (7.0, "7"), ("007", "007"), (" x ", "x"))):
        label = {"json": json.dumps({"label": value}).encode()}
        found = scan(shard(tmp_path / f"{number}.tar", labelled(label=lambda _, label=label: label)))
        assert found.identities == (name,)
    found = scan(shard(tmp_path / "cls.tar", labelled(label=lambda _: {"CLS": b"12\r\n"})))
    assert found.identities == ("12",)


def test_several_images_of_one_key_share_its_label(tmp_path: Path) -> None:
    members = [("1.left.jpg", b"l"), ("1.right.jpg", b"r"), ("1.cls", b"ann"), ("2.jpg", b"2"), ("2.cls", b"bob")]
    found = scan(shard(tmp_path / "faces.tar", members))
    assert contents(found) == {"ann": {"1.left.jpg": b"l", "1.right.jpg": b"r"}, "bob": {"2.jpg": b"2"}}


def in_form(image: str, label: str, field: str = "") -> list[tuple[str, bytes]]:
    """The faces with the names of their images and labels after these patterns; the label is text, or a JSON field."""
    members = []
    for path, data in FACES.items():
        identity, _, key = path.partition("/")
        text = json.dumps({field: identity}) if field else identity
        members += [(image.format(key), data), (label.format(key), text.encode())]
    return members


FORMS = {
    "webdataset's own": ("{}.input.png", "{}.output.cls", ""),
    "image and label": ("{}.image.png", "{}.label.cls", ""),
    "capitals": ("{}.image.PNG", "{}.label.CLS", ""),
    "metadata": ("{}.jpg", "{}.metadata.json", "label"),
    "dots in keys": ("m.00abc_{}.jpg", "m.00abc_{}.cls", ""),
    "dots in keys, json": ("Downey_Jr._{}.jpg", "Downey_Jr._{}.json", "identity"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", ["", "a/"])
def test_labels_of_other_endings_and_keys_with_dots(tmp_path: Path, form: str, folder: str) -> None:
    image, label, field = FORMS[form]
    members = in_form(folder + image, folder + label, field)
    one = scan(shard(tmp_path / "faces.tar", members))
    shard(tmp_path / "s" / "0.tar", members[:4])
    shard(tmp_path / "s" / "1.tar", members[4:])
    for found in (one, scan(tmp_path / "s")):
        assert {identity: [*samples.values()] for identity, samples in contents(found).items()} == {
            "ann": [b"a1", b"a2"],
            "bob": [b"b3"],
            "cyd": [b"c4", b"c5"],
        }
        assert not found.ignored
        assert not found.left_out.files
        assert f".{label.partition('{}.')[2]}".lower() in found.said.lower()


def test_names_with_and_without_dots_may_stand_side_by_side(tmp_path: Path) -> None:
    members = [("Hanks_1.jpg", b"h"), ("Hanks_1.cls", b"tom"), ("Jr._1.jpg", b"r"), ("Jr._1.cls", b"rob")]
    found = scan(shard(tmp_path / "faces.tar", members))
    assert contents(found) == {"rob": {"Jr._1.jpg": b"r"}, "tom": {"Hanks_1.jpg": b"h"}}


def test_of_several_labels_one_is_named(tmp_path: Path) -> None:
    members = [*in_form("{}.image.png", "{}.age.cls"), *in_form("{}.image.png", "{}.who.cls")[1::2]]
    place = shard(tmp_path / "faces.tar", [(name, b"30" if ".age." in name else data) for name, data in members])
    with pytest.raises(RequestError, match=r"have several labels: \.age\.cls, \.who\.cls: name one"):
        scan(place)
    assert scan(place, identity_column="who.cls").identities == ("ann", "bob", "cyd")
    assert scan(place, identity_column="age.cls").identities == ("30",)
    with pytest.raises(RequestError, match=r"has a \.cls beside it; what they have: \.age\.cls, \.who\.cls"):
        scan(place, identity_column="cls")
    plain = shard(tmp_path / "plain.tar", [*labelled(), *in_form("{}.jpg", "{}.age.cls")[1::2]])
    assert scan(plain).said.count("the identity is the .cls;") == 1


@pytest.mark.parametrize(
    ("label", "folder"),
    [("labels/{}.cls", ""), ("x{}.json", ""), ("labels/{}.json", "images/"), ("ann/x{}.cls", "ann/"),
     ("index.json", "")],
)  # fmt: skip
def test_labels_beside_no_image_are_not_passed_over(tmp_path: Path, label: str, folder: str) -> None:
    place = shard(tmp_path / "faces.tar", list(dict(in_form(f"{folder}{{}}.jpg", label)).items()))
    for form in (place, shard(tmp_path / "s" / "0.tar", in_form(f"{folder}{{}}.jpg", label)).parent):
        with pytest.raises(RequestError, match=r"of its name beside it") as caught:
            scan(form)
        assert label.format("0001") in str(caught.value)
        assert len(scan(form, flat=True).samples("")) == 5


def test_annotations_beside_no_image_leave_identity_folders_what_they_are(tmp_path: Path, plain: Dataset) -> None:
    members = [(f"{path}.jpg", data) for path, data in FACES.items()]
    assert same(scan(shard(tmp_path / "faces.tar", [*members, ("ann/notes.json", b"{}"), ("i.json", b"{}")])), plain)
    several = [(f"{path}.{kind}.json", b"{}") for path in FACES for kind in ("pose", "age")]
    found = scan(shard(tmp_path / "more.tar", [*members, *several]))
    assert same(found, plain)
    assert "the labels beside the images are not read: .pose.json, .age.json" in found.said


@pytest.mark.parametrize("ending", ["txt", "id", "label", "cls.txt"])
def test_what_lies_beside_every_bare_image_is_named(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    members = in_form("{}.jpg", f"{{}}.{ending}")
    for place in (shard(tmp_path / "faces.tar", members), shard(tmp_path / "s" / "0.tar", members).parent):
        caplog.clear()
        assert scan(place).identities == ("",)
        assert f"not read as a label (.{ending}): if that names its identity, call it .cls" in caplog.text
    shard(tmp_path / "few.tar", members[:-1])
    caplog.clear()
    scan(tmp_path / "few.tar")
    assert "have no labels (.cls or .json): all are one unnamed identity. --flat-structure confirms" in caplog.text


def test_keys_that_begin_anew_in_each_shard_are_told_apart_by_it(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "0.tar", [("0.jpg", b"a"), ("0.cls", b"ann"), ("1.jpg", b"b"), ("1.cls", b"bob")])
    shard(tmp_path / "s" / "1.tar", [("0.jpg", b"c"), ("0.cls", b"ann"), ("1.jpg", b"d"), ("1.cls", b"cyd")])
    found = scan(tmp_path / "s")
    assert contents(found) == {
        "ann": {"0/0.jpg": b"a", "1/0.jpg": b"c"},
        "bob": {"1.jpg": b"b"},
        "cyd": {"1.jpg": b"d"},
    }
    assert found.location("ann", "1/0.jpg") == "1.tar/0.jpg"


def test_two_members_that_would_be_one_sample_are_refused(tmp_path: Path) -> None:
    members = [("ann/0.jpg", b"a"), ("ann/0.cls", b"ann"), ("0.jpg", b"b"), ("0.cls", b"ann")]
    with pytest.raises(RequestError, match="would be the same sample of ann"):
        scan(shard(tmp_path / "faces.tar", members))


def test_what_lies_beside_shards_does_not_matter(tmp_path: Path, plain: Dataset) -> None:
    folder = in_shards(tmp_path / "shards")
    for name in ("index.json", "00000.idx", "sizes.txt", ".hidden.tar"):
        (folder / name).write_bytes(b"x")
    assert same(scan(folder), plain)


# -- the column ----------------------------------------------------------------------------------------------


def test_a_column_says_which_label(tmp_path: Path, plain: Dataset) -> None:
    def label(identity: str) -> dict[str, bytes]:
        return {"cls": b"1", "json": json.dumps({"label": "x", "who": identity}).encode()}

    place = shard(tmp_path / "faces.tar", labelled(label=label))
    assert same(scan(place, identity_column="who"), plain)
    assert scan(place, identity_column="label").identities == ("x",)
    assert scan(place, identity_column="cls").identities == scan(place).identities == ("1",)
    with pytest.raises(RequestError, match=r"only 0 of 5 images .* its fields are label, who;"):
        scan(place, identity_column="nothing")
    with pytest.raises(RequestError, match="none is read"):
        scan(place, identity_column="who", flat=True)
    bare = shard(tmp_path / "bare.tar", labelled(label=lambda _: {}))
    for column in ("cls", "who"):
        with pytest.raises(RequestError, match=f"--identity-column {column}: no image"):
            scan(bare, identity_column=column)


def test_a_column_is_for_labels_alone(tmp_path: Path, plain: Dataset) -> None:
    with pytest.raises(RequestError, match=r"--identity-column names a column .* has none"):
        scan(plain.place, identity_column="label")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"label": 1, "id": 2}, r"several fields that may be the identity \(label, id\): its fields are label, id;"),
        ({"url": "x", "caption": "y"}, r"no known field for it: its fields are url, caption;"),
    ],
)
def test_fields_that_do_not_tell_are_refused(tmp_path: Path, fields: dict[str, Any], match: str) -> None:
    place = shard(tmp_path / "faces.tar", labelled(label=lambda _: {"json": json.dumps(fields).encode()}))
    with pytest.raises(RequestError, match=match):
        scan(place)
    assert len(scan(place, flat=True).samples("")) == 5


def test_annotations_without_identity_leave_a_plain_tar_what_it_is(tmp_path: Path, plain: Dataset) -> None:
    members = []
    for path, data in FACES.items():
        members += [(f"{path}.jpg", data), (f"{path}.json", b'{"age": 30}')]
    found = scan(shard(tmp_path / "faces.tar", members))
    assert (found.form, same(found, plain)) == ("tar", True)
    assert "name no identity, and are not read (its fields are age; --identity-column takes one)" in found.said


# -- labels that are missing or hostile ----------------------------------------------------------------------


def test_images_without_a_label_are_counted(tmp_path: Path) -> None:
    place = shard(tmp_path / "faces.tar", [*labelled(), ("x.jpg", b"x"), ("y.json", b"{}"), ("y.jpg", b"y")])
    found = scan(place)
    assert (found.ignored, found.identities) == (2, ("ann", "bob", "cyd"))
    [(level, line), *_] = left_out(found)
    assert level == logging.WARNING
    assert line.startswith("2 images in")


def test_labels_beside_a_few_images_are_refused(tmp_path: Path) -> None:
    members = [(f"{path}.jpg", data) for path, data in FACES.items()]
    place = shard(tmp_path / "faces.tar", [*members, ("ann/0001.cls", b"7")])
    with pytest.raises(RequestError, match=r"only 1 of 5 images .* have the \.cls: --identity-depth 1 takes"):
        scan(place)
    assert scan(place, identity_depth=1).identities == ("ann", "bob", "cyd")


def test_labels_that_all_differ_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [member for n in range(3) for member in ((f"{n}.jpg", b""), (f"{n}.json", b'{"id": %d}' % n))]
    assert scan(shard(tmp_path / "faces.tar", members)).identities == ("0", "1", "2")
    assert "every image in" in caplog.text


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "bad json": ("json", b"{", "is not JSON"),
    "a list": ("json", b"[1]", "is no JSON object"),
    "deep json": ("json", b"[" * 100_000, "is not JSON"),
    "huge json": ("json", b" " * (2**20 + 1), "has 1,048,577 bytes, more than 1,048,576"),
    "huge cls": ("cls", b"1" * 5000, "has 5,000 bytes, more than 4,096"),
    "binary cls": ("cls", bytes(range(256)), "is not text in UTF-8"),
    "control characters": ("cls", b"a\x1b[2Jb", "cannot be the name"),
    "empty cls": ("cls", b"  \n", "cannot be the name"),
    "two lines": ("cls", b"1\n2\n", "cannot be the name"),
    "a path": ("cls", b"../../x", "cannot be the name"),
    "upwards": ("cls", b"..", "cannot be the name"),
    "long": ("cls", b"x" * 300, "cannot be the name"),
    "a list as identity": ("json", b'{"label": [1]}', "cannot be the name"),
    "true": ("json", b'{"label": true}', "cannot be the name"),
    "not a number": ("json", b'{"label": NaN}', "cannot be the name"),
    "a huge number": ("json", b'{"label": 1' + b"0" * 5000 + b"}", "is not JSON"),
    "a stray surrogate": ("json", b'{"label": "\\ud800"}', "cannot be the name"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_label_is_refused_by_name(tmp_path: Path, what: str) -> None:
    kind, data, match = HOSTILE[what]
    place = shard(tmp_path / "faces.tar", labelled(label=lambda _: {kind: data}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RequestError, match=match) as caught:
        scan(place)
    assert "faces.tar: 000" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64_000_000


def test_many_members_take_little_time(tmp_path: Path) -> None:
    members = [member for n in range(5000) for member in ((f"{n}.jpg", b""), (f"{n}.cls", b"%d" % (n % 7)))]
    place = shard(tmp_path / "faces.tar", members)
    started = time.monotonic()
    assert scan(place).identities == tuple("0123456")
    assert time.monotonic() - started < 10


def test_a_shard_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    folder = in_shards(tmp_path / "shards")
    os.truncate(folder / "00001.tar", 700)
    with pytest.raises(RequestError, match=r"00001\.tar is not a whole tar archive"):
        scan(folder)


# -- shards without labels -----------------------------------------------------------------------------------


def test_shards_without_labels_are_one_tar(tmp_path: Path, plain: Dataset) -> None:
    items = [(f"set/{path}.jpg", data) for path, data in FACES.items()]
    shard(tmp_path / "s" / "a.tar", items[:2])
    shard(tmp_path / "s" / "b.tar", [*items[2:], ("set/note.txt", b"")])
    found = scan(tmp_path / "s")
    assert same(found, plain)
    assert found.said.startswith(f"2 .tar files without labels in {tmp_path}/s are read as one; the identities are the")
    assert found.left_out.files == {"txt": 1}
    assert same(scan(tmp_path / "s", identity_depth=2), plain)
    assert scan(tmp_path / "s", identity_depth=1).identities == ("set",)
    assert len(scan(tmp_path / "s", flat=True).samples("")) == 5


def test_a_folder_of_tars_of_bare_images_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("ann", "bob"):
        shard(tmp_path / "s" / f"{name}.tar", [("0.jpg", name.encode())])
    found = scan(tmp_path / "s")
    assert contents(found) == {"": {"ann/0.jpg": b"ann", "bob/0.jpg": b"bob"}}
    assert "If each .tar is an identity, unpack each into a folder" in caplog.text
    caplog.clear()
    scan(tmp_path / "s", flat=True)
    assert not caplog.messages
    (tmp_path / "s" / "bob.tar").unlink()
    for place in (tmp_path / "s", tmp_path / "s" / "ann.tar"):
        caplog.clear()
        assert ".tar files" not in scan(place).said
        assert "ann.tar lie in no folders and have no labels (.cls or .json): all are one unnamed" in caplog.text


def test_shards_without_images_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "a.tar", [("0.heic", b"")])
    with pytest.raises(RequestError, match=r"hold no image .*, but 1 \.heic"):
        scan(tmp_path / "s")


# -- reading -------------------------------------------------------------------------------------------------


def test_shards_are_read_in_other_processes(tmp_path: Path) -> None:
    found = scan(in_shards(tmp_path / "shards", size=1))
    assert contents(pickle.loads(pickle.dumps(found))) == contents(found)
    locations = [found.location(identity, path) for identity in found.identities for path in found.samples(identity)]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(found.reading().read, locations)) == list(FACES.values())


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    for number in range(60):
        shard(tmp_path / "s" / f"{number}.tar", [(f"{number}.jpg", b"x"), (f"{number}.cls", b"ann")])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, hard))
    try:
        found = scan(tmp_path / "s")
        assert len(contents(found)["ann"]) == 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_shard_that_is_gone_spoils_only_its_own(tmp_path: Path) -> None:
    found = scan(in_shards(tmp_path / "shards"))
    (tmp_path / "shards" / "00000.tar").unlink()
    with pytest.raises(UnreadableSampleError, match="cannot be read: No such file"):
        found.read("00000.tar/0001.jpg")
    assert found.read("00001.tar/0003.jpg") == b"b3"
    with pytest.raises(UnreadableSampleError, match="is not in the shards"):
        found.read("00001.tar/../../etc/passwd")


def test_links_between_members_hold_in_shards(tmp_path: Path) -> None:
    face = tarfile.TarInfo("0.jpg")
    face.size = 4
    link = tarfile.TarInfo("1.jpg")
    link.type, link.linkname = tarfile.LNKTYPE, "0.jpg"
    label = tarfile.TarInfo("1.cls")
    label.size = 3
    other = tarfile.TarInfo("0.cls")
    other.size = 3
    (tmp_path / "faces.tar").write_bytes(tar_of([(face, b"face"), (other, b"ann"), (link, b""), (label, b"bob")]))
    assert contents(scan(tmp_path / "faces.tar")) == {"ann": {"0.jpg": b"face"}, "bob": {"1.jpg": b"face"}}
