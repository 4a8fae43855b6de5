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

from grafiqs.datasets import layout
from grafiqs.datasets.lists import EXTENSIONS
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
    "a separator behind every path": ("{path};", "", IMAGES),
    "a tab behind every path": ("{path}\t", "", IMAGES),
    "tabs with blanks around, and a header": (" {path} \t {identity} ", "path \t identity", IMAGES),
    "floats": ("{path},{identity}.0", "path,label", FLAT),
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
        "names files in its columns 1 and 2: pairs are for 'grafiqs evaluate --pairs'",
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
        r"looked for as .*/elsewhere/ann/0.jpg: a list has a path a line",
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


def test_whole_numbers_are_told_below_a_header_that_nobody_knows(tmp_path: Path) -> None:
    (make(tmp_path, FLAT) / "list.csv").write_text(lines("{path},{identity}.0", FLAT, "photo,who"))
    assert grouped(tmp_path / "list.csv", path_column="1", identity_column="2") == by_identity(FLAT)


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


# -- what samples are called ---------------------------------------------------------------------------------


def names_of(place: Path, **options: object) -> dict[str, list[str]]:
    dataset = scan(place, **options)  # type: ignore[arg-type]
    return {identity: list(dataset.samples(identity)) for identity in dataset.identities}


@pytest.mark.parametrize("before", ["", "faces/", "some/where/faces/"])
def test_where_paths_begin_changes_no_draw(before: str, tmp_path: Path) -> None:
    make(tmp_path, {before + path: name for path, name in IMAGES.items()})
    labels = {"ann": "7", "bob": "8", "cyd": "9"}
    for name, rename, expected in (
        ("named.csv", lambda identity: identity, ["ann", "bob", "cyd"]),
        ("labels.csv", labels.__getitem__, ["7", "8", "9"]),
    ):
        rows = "".join(f"{before}{path},{rename(identity)}\n" for path, identity in IMAGES.items())
        (tmp_path / name).write_text(rows)
        assert names_of(tmp_path / name) == dict(zip(expected, (["0.jpg", "1.jpg"], ["0.jpg"], ["7.jpg"]), strict=True))


def test_another_row_changes_the_names_of_no_other_identity(tmp_path: Path) -> None:
    make(tmp_path, {**{f"base/{path}": "" for path in IMAGES}, "odd/deep/1.jpg": "", "2.jpg": ""})
    rows = "".join(f"base/{path},{name}\n" for path, name in IMAGES.items())
    for more in ("", "odd/deep/1.jpg,zed\n", '2.jpg,""\n'):
        (tmp_path / "list.csv").write_text("path,identity\n" + rows + more)
        assert names_of(tmp_path / "list.csv")["ann"] == ["0.jpg", "1.jpg"]


def test_what_select_writes_is_the_same_subset_again(tmp_path: Path) -> None:
    """Also where the identities lie in splits, and in several of them."""
    faces = make(tmp_path / "faces", {f"train/{path}": "" for path in IMAGES})
    make(faces, {"val/dee/0.jpg": "", "val/ann/0.jpg": "", "val/dee/1.jpg": ""})
    for each in (1, 2):
        options = SubsetOptions(image_path=faces, samples_per_identity=each, allow_insufficient_samples=True)
        first = select_subset(options)
        (tmp_path / "subset.csv").write_bytes(b"".join(first.csv()))
        again = select_subset(SubsetOptions(image_path=tmp_path / "subset.csv", root=faces))
        assert (again.sha256, again.samples) == (first.sha256, first.samples)


def test_blanks_around_identities_and_forms_of_letters_make_no_new_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path)
    composed, apart = (unicodedata.normalize(form, "jos\u00e9") for form in ("NFC", "NFD"))
    rows = f"ann/0.jpg,ann\nann/1.jpg,ann \nbob/0.jpg,{composed}\ncyd/7.jpg,{apart}\u00a0\n"
    (tmp_path / "list.csv").write_text("path,identity\n" + rows)
    assert grouped(tmp_path / "list.csv") == {"ann": ["ann/0.jpg", "ann/1.jpg"], composed: ["bob/0.jpg", "cyd/7.jpg"]}
    assert "2 lines of" in caplog.text
    assert "have blanks around the identity: taken off" in caplog.text


@pytest.mark.parametrize("cell", ["", "nan"])
def test_a_label_that_is_missing_does_not_rename_the_others(cell: str, tmp_path: Path) -> None:
    (make(tmp_path, FLAT) / "list.csv").write_text(
        f"path,label\n000001.jpg,2880.0\n000002.jpg,{cell}\n000003.jpg,7.0\n"
    )
    dataset = scan(tmp_path / "list.csv")
    assert (dataset.identities, dataset.ignored) == (("2880", "7"), 1)


UNLIKE = "names no file, and does not end as the first lines"
PUT_TOGETHER: dict[str, tuple[str, str]] = {
    "another separator": (
        "ann/0.jpg,ann\nann/1.jpg,ann\nbob/0.jpg\tbob\n",
        "line 3 names a file by tabs, and most others by commas",
    ),
    "another separator, far down": ("ann/0.jpg\n" * 120 + "bob/0.jpg 1\n", f"line 121 {UNLIKE}"),
    "the header again": ("path,label\nann/0.jpg,1\npath,label\nbob/0.jpg,2\n", f"line 3 {UNLIKE}"),
    "a note": ("ann/0.jpg,1\n# second person,\nbob/0.jpg,2\n", f"line 2 {UNLIKE}"),
    "a drive": ("ann/0.jpg\nC:\\faces\\bob\\0.jpg\n", r"line 2: C:\\faces\\bob\\0.jpg has a drive of Windows"),
    "drives": ("C:\\faces\\bob\\0.jpg\n", "a path with a drive of Windows or of the web is not one here"),
    "the web": ("https://faces/bob/0.jpg\n", "a path with a drive of Windows or of the web is not one here"),
    "no extension": ("ann/0,ann\n", "it is there with the extension .jpg: write it, too"),
    "an index called id": (
        "id,image,x\n0,ann/0.jpg,a\n1,ann/1.jpg,b\n2,bob/0.jpg,c\n",
        "of which `id` counts the lines",
    ),
    "ages": ("ann/0.jpg 0 20\nann/1.jpg 0 21\nbob/0.jpg 0 22\n", "has 3 columns without names"),
}
"""Lists that were put together from others, or are no lists of images here, and what is said of them."""


@pytest.mark.parametrize("what", PUT_TOGETHER)
def test_lists_of_two_kinds_are_refused_with_the_line(what: str, tmp_path: Path) -> None:
    text, said = PUT_TOGETHER[what]
    (make(tmp_path) / "list.csv").write_text(text)
    with pytest.raises(RequestError, match=said):
        scan(tmp_path / "list.csv")


def test_folders_of_systems_in_a_list_are_left_out_as_in_a_folder(tmp_path: Path) -> None:
    faces = make(tmp_path / "faces", {**IMAGES, "@eaDir/ann/0.jpg": "", "ann/@eaDir/1.jpg": "", "bob/.cache/2.jpg": ""})
    paths = sorted(path.relative_to(faces).as_posix() for path in faces.rglob("*.jpg"))
    (tmp_path / "find.txt").write_text("".join(f"{path}\n" for path in paths))
    assert sha256(tmp_path / "find.txt", root=faces) == sha256(faces)
    assert "left out: 3 that are hidden, or in folders of systems" in scan(tmp_path / "find.txt", root=faces).said


def test_identities_that_are_hardly_any_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {f"{number:06d}.jpg": str(number) for number in range(12)}
    make(tmp_path, files)
    for form, said in (("{path} {identity}", "has another identity"), ("{path} 1", "have one identity, 1")):
        (tmp_path / "list.txt").write_text(lines(form, files))
        caplog.clear()
        scan(tmp_path / "list.txt")
        assert said in caplog.text


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
    ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = io.StringIO(newline="")
    quoting: Literal[0, 1] = csv.QUOTE_ALL if draw(st.booleans()) else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=ending)
    rows = list(files.items())
    if path:
        rows.insert(0, (path, identity))
    for row in rows:
        cells = row[:1] if alone else row[::-1] if turned else row
        if bare:
            text.write(separator.join(cells) + ending)  # nobody quotes there
        else:
            writer.writerow(cells)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return files, text.getvalue().encode(encoding)


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
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

    def named(start: str, end: str) -> list[str]:
        return re.findall(r"`([^`]+)`", formats[formats.index(start) : formats.index(end)])

    assert named("Known names of paths are", "`--path-column` and") == [*PATHS, *IDENTITIES]
    assert sorted(named("| a list: ", " | as listed,")) == [f".{kind}" for kind in EXTENSIONS]
    folders = named("Folders of systems are no identities", "and all that is hidden")
    assert {folder.upper() for folder in folders} == {folder.upper() for folder in layout._SYSTEM | layout._WINDOWS}
