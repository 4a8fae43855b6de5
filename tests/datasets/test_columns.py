"""Lists as people have them: whatever columns, separators and encodings, they are the data set of the folder."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grafiqs.datasets.readings import IDENTITIES, PATHS
from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError
from grafiqs.options.subset import SubsetOptions
from grafiqs.select import select_subset

IMAGES = {"ann/0.jpg": "ann", "ann/1.jpg": "ann", "bob/0.jpg": "bob", "cyd/7.jpg": "cyd"}
"""A data set: its files, and their identities."""

FLAT = {"000001.jpg": "2880", "000002.jpg": "2937", "000003.jpg": "2880"}


def make(root: Path, files: dict[str, str] = IMAGES) -> Path:
    for path in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"face")
    return root


def lines(form: str, files: dict[str, str] = IMAGES, header: str = "") -> str:
    """A line for each file, in a form of {path}, {identity} and {number}."""
    rows = [form.format(path=path, identity=name, number=number) for number, (path, name) in enumerate(files.items())]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


def grouped(place: Path, **options: object) -> dict[str, list[str]]:
    """What a list holds: the locations of every identity."""
    dataset = scan(place, **options)  # type: ignore[arg-type]
    return {
        identity: [dataset.location(identity, path) for path in dataset.samples(identity)]
        for identity in dataset.identities
    }


def by_identity(files: dict[str, str]) -> dict[str, list[str]]:
    return {name: sorted(path for path in files if files[path] == name) for name in sorted({*files.values()})}


def sha256(place: Path, **options: object) -> str:
    return select_subset(SubsetOptions(image_path=place, samples_per_identity=1, **options)).sha256  # type: ignore[arg-type]


READ: dict[str, tuple[str, str, dict[str, str]]] = {
    "a header of LFW-like tables": ("{path},{identity}", "filename,label", IMAGES),
    "the same, turned round": ("{identity};{path}", "Label;File Name", IMAGES),
    "tabs": ("{path}\t{identity}", "", IMAGES),
    "semicolons": ("{path};{identity}", "", IMAGES),
    "blanks": ("{path} {identity}", "", IMAGES),
    "several blanks, and a tab": ("  {path}  \t{identity} ", "", IMAGES),
    "commas and blanks": ("{path}, {identity}", "image, person", IMAGES),
    "identity first": ("{identity},{path}", "", IMAGES),
    "CelebA's": ("{path} {identity}", "", FLAT),
    "CelebA's, as a table": ("{path},{identity}", "image_id,identity", FLAT),
    "CelebA's, a table of blanks": ("{path} {identity}", "image_id identity", FLAT),
    "an index and labels": ("{number},{path},{identity}", "", FLAT),
    "columns beside": ("{number}\t{path}\t{identity}\t0.5", "no\tpath\tidentity\tscore", IMAGES),
    "id is an index, identity is there": ("{number},{path},{identity}", "id,img,identity", IMAGES),
    "path, and a name": ("{path},{identity},x", "path,identity,name", IMAGES),
    "labels of floats": ("{path},{identity}.0", "path,label", FLAT),
    "paths alone": ("{path}", "", IMAGES),
    "paths alone, with a header": ("{path}", "file", IMAGES),
    "paths with a point": ("./{path}", "", IMAGES),
}
"""Lists: the form of their lines, their header, and the data set that they are."""


@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_is_the_data_set_of_the_folder(what: str, ending: str, encoding: str, tmp_path: Path) -> None:
    form, header, files = READ[what]
    make(tmp_path, files)
    place = tmp_path / "list.txt"
    place.write_bytes(lines(form, files, header).replace("\n", ending).encode(encoding))
    assert grouped(place) == by_identity(files)
    if files is IMAGES:
        faces = make(tmp_path / "faces")
        assert sha256(place) == sha256(faces)


SAID = {
    "path,label": ("{path},{identity}", "path = column 1 `path`, identity = column 2 `label`, separated by commas"),
    "": ("{identity}\t{path}", "path = column 2, identity = column 1, separated by tabs"),
    "no\tfile\tidentity": (
        "{number}\t{path}\t{identity}",
        "path = column 2 `file`, identity = column 3 `identity`, separated by tabs",
    ),
}


@pytest.mark.parametrize("header", SAID)
def test_how_it_is_read_is_said_in_one_line(header: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    form, said = SAID[header]
    (make(tmp_path) / "list.tsv").write_text(lines(form, header=header))
    with caplog.at_level("INFO", logger="grafiqs"):
        select_subset(SubsetOptions(image_path=tmp_path / "list.tsv"))
    assert f"list of 4 images: {said}" in caplog.messages


@pytest.mark.parametrize(
    "form", ["1\t{path}\t{identity}", "{number}\t{identity}\t{path}", "{number}\t{identity}.000000\t{path}"]
)
def test_the_lists_of_insightface_and_mxnet(form: str, tmp_path: Path) -> None:
    (make(tmp_path, FLAT) / "train.lst").write_text(lines(form, FLAT))
    assert grouped(tmp_path / "train.lst") == by_identity(FLAT)


def test_insightfaces_list_with_box_and_landmarks(tmp_path: Path) -> None:
    numbers = "\t".join(map(str, range(14)))
    (make(tmp_path, FLAT) / "train.lst").write_text(lines("1\t{path}\t{identity}\t" + numbers, FLAT))
    assert grouped(tmp_path / "train.lst") == by_identity(FLAT)


REFUSED: dict[str, tuple[str, str, str]] = {
    "an unknown header": ("{path},{identity}", "photo,who", "line 1 names no file, 'photo, who', while later lines do"),
    "no known identity": (
        "{path},{identity}",
        "path,celebrity",
        "has the columns path, celebrity, and none of them is known to name",
    ),
    "two identities": (
        "{path},{identity},{identity}",
        "path,label,class",
        "more than one of them may name the identities",
    ),
    "two paths": (
        "{path},{path}",
        "image,img",
        "has the columns image, img, and which of them names the files cannot be told",
    ),
    "pairs": (
        "{path} {path} 1",
        "",
        "names files in its columns 1 and 2: a list of pairs is not a data set .'grafiqs evaluate --pairs'",
    ),
    "scores": ("{path} 12.5{number}", "", "has numbers such as 12.50 beside its paths, which look like scores"),
    "four columns": (
        "{path},{identity},a,b",
        "",
        "has 4 columns without names, and which of them holds the identities",
    ),
    "two labels": ("{number}\t{identity}\t{identity}\t{path}", "", "has 4 columns without names"),
    "no file": (
        "elsewhere/{path} {identity}",
        "",
        r"names no file in its first 4 lines. Line 1 is 'elsewhere/ann/0.jpg ann', which was looked for as .* ann",
    ),
    "no file, with a header": (
        "elsewhere/{path};{identity}",
        "path;identity",
        r"looked for as .*/elsewhere/ann/0.jpg\. A list",
    ),
    "LFW's pairs": ("Ann_Lee\t1\t2\nAnn_Lee\t1\tBob\t1", "10\t300", "has comparisons, as LFW's pairs.txt"),
    "LFW's people": ("Ann_Lee\t2", "5749", "has names and numbers, as LFW's people.txt"),
    "pairs as a table": ("Ann_Lee,1,2", "name,imagenum1,imagenum2", "has comparisons, as LFW's pairs.txt"),
    "a path twice in the header": (
        "{path},{path},x",
        "path,path,identity",
        "which of them names the files cannot be told",
    ),
}
"""Lists that cannot be told, or are no data sets: the form of their lines, their header, and what is said."""


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_told_is_refused(what: str, tmp_path: Path) -> None:
    form, header, said = REFUSED[what]
    (make(tmp_path) / "list.txt").write_text(lines(form, header=header))
    with pytest.raises(RequestError, match=rf"list\.txt {said}|list\.txt .*{said}"):
        scan(tmp_path / "list.txt")


BY_HAND: dict[str, tuple[str, str, dict[str, str]]] = {
    "by number": ("{path},{identity},a,b", "", {"path_column": "1", "identity_column": "2"}),
    "by number, below a header": (
        "a,{path},b,{identity}",
        "x,photo,y,who",
        {"path_column": "2", "identity_column": "4"},
    ),
    "by name": (
        "a,{path},b,{identity}",
        "x,Photo,y,who is it",
        {"path_column": "photo", "identity_column": "Who-is-it"},
    ),
    "identity alone": ("{path},{identity},7", "path,celebrity,label", {"identity_column": "celebrity"}),
    "the folders": ("{path},7,1.5", "path,label,class", {"identity_column": "0"}),
    "the folders, without a header": ("{path} 12.5", "", {"identity_column": "0"}),
    "the path alone": ("{path},{path},{identity}", "path,img,identity", {"path_column": "img"}),
}


@pytest.mark.parametrize("what", BY_HAND)
def test_the_columns_can_be_said(what: str, tmp_path: Path) -> None:
    form, header, options = BY_HAND[what]
    (make(tmp_path) / "list.csv").write_text(lines(form, header=header))
    assert grouped(tmp_path / "list.csv", **options) == by_identity(IMAGES)
    assert sha256(tmp_path / "list.csv", **options) == sha256(make(tmp_path / "faces"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path_column": "photo"}, "has no column photo for --path-column: it begins with 'path, identity'"),
        ({"identity_column": "3"}, "has 2 columns: --identity-column 3 is not one of them"),
        (
            {"path_column": "path", "identity_column": "who"},
            "has no column who for --identity-column: it has the columns path, identity",
        ),
    ],
)
def test_columns_that_are_not_there_are_refused(options: dict[str, str], said: str, tmp_path: Path) -> None:
    (make(tmp_path) / "list.csv").write_text(lines("{path},{identity}", header="path,identity"))
    with pytest.raises(RequestError, match=said):
        scan(tmp_path / "list.csv", **options)  # type: ignore[arg-type]


def test_columns_are_those_of_a_list(tmp_path: Path) -> None:
    make(tmp_path)
    for option in ("path_column", "identity_column"):
        with pytest.raises(RequestError, match=r"is not a list|names a column of a list"):
            scan(tmp_path, **{option: "path"})  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="it takes a name, or a number from 1"):
            SubsetOptions(image_path=tmp_path, **{option: " "})  # type: ignore[arg-type]


def test_backslashes_and_the_disks_own_form_of_a_letter(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "jos\u00e9") for form in ("NFC", "NFD"))
    make(tmp_path, {f"{apart}/0.jpg": "", f"{apart}/1.jpg": "", "bob/0.jpg": ""})
    place = tmp_path / "list.csv"
    place.write_text(f"{composed}\\0.jpg\n{composed}\\1.jpg\nbob\\0.jpg\n", newline="\r\n")
    dataset = scan(place)
    assert dataset.identities == ("bob", composed)
    assert [dataset.read(dataset.location(composed, path)) for path in dataset.samples(composed)] == [b"face"] * 2
    place.rename(tmp_path.with_suffix(".csv"))
    assert sha256(tmp_path.with_suffix(".csv"), root=tmp_path) == sha256(tmp_path)


def test_a_backslash_in_a_name_stays(tmp_path: Path) -> None:
    make(tmp_path, {"ann/a\\b.jpg": "", "ann/c.jpg": ""})
    (tmp_path / "list.txt").write_text("ann/a\\b.jpg\nann\\c.jpg\n")
    assert grouped(tmp_path / "list.txt") == {"ann": ["ann/a\\b.jpg", "ann/c.jpg"]}


def test_a_first_line_that_is_a_missing_image_is_a_sample(tmp_path: Path) -> None:
    (make(tmp_path) / "list.txt").write_text("ann/gone.jpg\n" + lines("{path}"))
    assert grouped(tmp_path / "list.txt")["ann"] == ["ann/0.jpg", "ann/1.jpg", "ann/gone.jpg"]


def test_what_is_there_far_down_is_found(tmp_path: Path) -> None:
    (make(tmp_path) / "list.txt").write_text(
        "".join(f"gone/{n}.jpg\tann\n" for n in range(500)) + lines("{path}\t{identity}")
    )
    assert grouped(tmp_path / "list.txt")["bob"] == ["bob/0.jpg"]


def test_a_line_that_can_be_split_in_two_ways_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {"a.jpg": "", "a.jpg,b": "", "c.jpg": ""})
    (tmp_path / "list.txt").write_text("a.jpg,b\nc.jpg\n")
    with pytest.raises(
        RequestError, match="line 1 can be split by commas and by whole lines, and names a file either way"
    ):
        scan(tmp_path / "list.txt")


# -- any table -----------------------------------------------------------------------------------------------

NAMES = st.text("ab0 ,.;\\'\"\u00e9-_", min_size=1, max_size=6).filter(lambda name: name.strip(". ") == name and name)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """A data set, and a list of it."""
    people = draw(st.lists(NAMES, min_size=1, max_size=3, unique_by=lambda name: unicodedata.normalize("NFC", name)))
    files = {
        f"{person}/{name}.jpg": person
        for person in people
        for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    }
    separator = draw(st.sampled_from([",", ";", "\t", " "]))
    path, identity = draw(
        st.sampled_from([("path", "identity"), ("filename", "label"), ("image_id", "person"), ("", "")])
    )
    turned, alone = draw(st.booleans()), draw(st.booleans())
    bare = separator == " " or (alone and draw(st.booleans()))
    text = io.StringIO()
    quoting: Literal[0, 1] = csv.QUOTE_ALL if draw(st.booleans()) else csv.QUOTE_MINIMAL
    writer = csv.writer(
        text, delimiter=separator, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"]))
    )
    rows = list(files.items())
    if path:
        rows.insert(0, (path, identity))
    for row in rows:
        cells = row[:1] if alone else row[::-1] if turned else row
        if bare:
            text.write(separator.join(cells) + "\n")  # nobody quotes there
        else:
            writer.writerow(cells)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return files, text.getvalue().encode(encoding)


@settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_any_table_is_the_data_set_of_the_folder_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[dict[str, str], bytes]
) -> None:
    files, data = table
    faces = make(tmp_path_factory.mktemp("any") / "faces", files)
    place = faces.parent / "list.csv"
    place.write_bytes(data)
    try:
        found = scan(place, root=faces)
    except RequestError:
        return
    folders = scan(faces)
    assert found.identities == folders.identities
    for identity in folders.identities:
        assert found.samples(identity) == folders.samples(identity)
        assert all(found.read(found.location(identity, path)) == b"face" for path in found.samples(identity))


def test_the_documentation_has_all_known_names() -> None:
    formats = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    sentence = formats[formats.index("Known names of paths are") : formats.index("`--path-column` and")]
    assert re.findall(r"`(\w+)`", sentence) == [*PATHS, *IDENTITIES]
