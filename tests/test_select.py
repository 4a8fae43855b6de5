"""The selection rule: what it depends on, and what it does not."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, Dataset, Sample
from grafiqs.datasets.scan import scan
from grafiqs.disk.names import EXTENSIONS, in_order, without_extension
from grafiqs.errors import RequestError
from grafiqs.options.extract import Options
from grafiqs.run.tree import GradientTree
from grafiqs.select import Subset, draw_samples, rank_identities, report, select, select_subset

NAMES = st.text(
    st.characters(exclude_characters="/\0.", exclude_categories=["Cs"]) | st.sampled_from("éÅñ각\u0301\u030a"),
    min_size=1,
    max_size=8,
)
SEEDS = st.integers(0, 2**32 - 1)


class Listing(Dataset):
    """A data set that exists as names only, listed in whatever order it is given."""

    form = "names"
    place = Path("faces")

    def __init__(self, listing: dict[str, list[str]]) -> None:
        self.listing = listing
        self.identities = tuple(sorted(listing, key=lambda name: (unicodedata.normalize("NFC", name), name)))

    def read(self, location: str) -> bytes:
        raise AssertionError(f"{location} is a name only")

    def samples(self, identity: str) -> tuple[str, ...]:
        return in_order(self.listing[identity])


def options(**values: object) -> Options:
    return Options(image_path=Path("faces"), **values)  # type: ignore[arg-type]


def places(subset: Subset) -> list[str]:
    return [sample.location for sample in subset.samples]


def inside(sample: Sample) -> str:
    """The path of a sample inside its identity."""
    return sample.location.removeprefix(f"{sample.identity}/")


DATASETS = st.dictionaries(
    NAMES, st.lists(NAMES.map("{}.jpg".format), max_size=12, unique=True), min_size=1, max_size=8
)


@given(names=st.lists(NAMES, unique=True), seed=SEEDS, shuffle=st.randoms())
def test_the_order_of_a_listing_does_not_matter(names: list[str], seed: int, shuffle: random.Random) -> None:
    shuffled = list(names)
    shuffle.shuffle(shuffled)
    assert rank_identities(shuffled, seed) == rank_identities(names, seed)
    for count in (0, 1, len(names) // 2, len(names) + 1):
        assert draw_samples("ann", shuffled, count, seed) == draw_samples("ann", names, count, seed)


@given(names=st.lists(NAMES, unique_by=lambda name: unicodedata.normalize("NFC", name)), seed=SEEDS)
def test_unicode_forms_do_not_matter(names: list[str], seed: int) -> None:
    composed = [unicodedata.normalize("NFC", name) for name in names]
    split = [unicodedata.normalize("NFD", name) for name in names]
    assert [unicodedata.normalize("NFC", name) for name in rank_identities(split, seed)] == rank_identities(
        composed, seed
    )
    drawn = draw_samples("cafe\u0301", [f"{name}.png" for name in split], 3, seed)
    expected = draw_samples("caf\u00e9", [f"{name}.png" for name in composed], 3, seed)
    assert [unicodedata.normalize("NFC", path) for path in drawn] == expected


@given(data=DATASETS, seed=SEEDS, identity_seed=SEEDS, small=st.integers(1, 4), more=st.integers(0, 4))
def test_subsets_nest(data: dict[str, list[str]], seed: int, identity_seed: int, small: int, more: int) -> None:
    dataset = Listing(data)
    chosen = options(
        random_identity_selection=True,
        identity_selection_seed=identity_seed,
        random_seed=seed,
        num_identities=small,
        samples_per_identity=small,
        allow_insufficient_samples=True,
    )
    inner = set(places(select(dataset, chosen)))
    assert inner <= set(places(select(dataset, replace(chosen, num_identities=small + more))))
    assert inner <= set(places(select(dataset, replace(chosen, samples_per_identity=small + more))))


@given(data=DATASETS, seed=SEEDS, first=SEEDS, second=SEEDS)
def test_the_two_seeds_are_independent(data: dict[str, list[str]], seed: int, first: int, second: int) -> None:
    """An identity keeps its samples whichever others are drawn; the sample seed does not move the identities."""
    dataset = Listing(data)
    base = options(
        random_identity_selection=True, num_identities=3, samples_per_identity=2, allow_insufficient_samples=True
    )

    def by_identity(random_seed: int, identity_seed: int) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for sample in select(
            dataset, replace(base, random_seed=random_seed, identity_selection_seed=identity_seed)
        ).samples:
            found.setdefault(sample.identity, []).append(inside(sample))
        return found

    one, other = by_identity(seed, first), by_identity(seed, second)
    assert all(one[identity] == other[identity] for identity in one.keys() & other.keys())
    assert by_identity(second, first).keys() == one.keys()


def test_gradients_are_copies_of_their_samples() -> None:
    numbers = {f"{person}": [f"{number}.png" for number in range(25)] for person in range(12)}
    gradients = {person: [path.replace(".png", "_grad.npy") for path in paths] for person, paths in numbers.items()}
    for count in (None, 7):
        chosen = options(samples_per_identity=count)
        original, copy = select(Listing(numbers), chosen), select(Listing(gradients), chosen)
        assert places(copy) == [place.replace(".png", "_grad.npy") for place in places(original)]
        assert copy.sha256 == original.sha256


@given(data=DATASETS, seed=SEEDS, other=NAMES)
def test_files_elsewhere_change_nothing_here(data: dict[str, list[str]], seed: int, other: str) -> None:
    chosen = options(random_seed=seed, samples_per_identity=2, allow_insufficient_samples=True)
    before = select(Listing(data), chosen).samples
    after = select(Listing({**data, f"{other}+": ["a.jpg", "b.jpg"]}), chosen).samples
    assert [sample for sample in after if sample.identity in data] == list(before)


@given(data=DATASETS, seed=SEEDS)
def test_a_reencoded_copy_gives_the_same_subset(data: dict[str, list[str]], seed: int) -> None:
    chosen = options(random_seed=seed, samples_per_identity=2, allow_insufficient_samples=True)
    copied = {identity: [path.removesuffix("jpg") + "png" for path in paths] for identity, paths in data.items()}
    original, copy = select(Listing(data), chosen), select(Listing(copied), chosen)
    assert [(s.identity, s.name) for s in copy.samples] == [(s.identity, s.name) for s in original.samples]
    assert copy.sha256 == original.sha256


WITH_DOTS = st.lists(
    st.one_of(st.sampled_from([f"subject{n:02d}.{mood}" for n in range(3) for mood in ("happy", "sad", "x-1")]), NAMES),
    min_size=6,
    max_size=12,
    unique_by=lambda name: unicodedata.normalize("NFC", name),
)


@given(names=WITH_DOTS, seed=SEEDS)
def test_what_has_no_extension_of_an_image_has_its_whole_name_as_key(names: list[str], seed: int) -> None:
    """So the seed draws among such samples, and crops, gradients and re-encoded copies of them are drawn alike."""
    bare = [name for name in names if "." not in name or name.startswith("subject")]
    expected = sorted(
        bare,
        key=lambda name: hashlib.sha256(unicodedata.normalize("NFC", f"sample\0{seed}\0ann\0{name}").encode()).digest(),
    )[:3]
    assert sorted(draw_samples("ann", bare, 3, seed)) == sorted(expected)
    for chosen in (options(random_seed=seed, samples_per_identity=3), options()):
        original = select(Listing({"ann": bare}), chosen)
        crops = select(Listing({"ann": [f"{name}.png" for name in bare]}), chosen)
        assert [s.name for s in crops.samples] == [s.name for s in original.samples]
        assert crops.sha256 == original.sha256
        assert [inside(s) for s in crops.samples] == [f"{inside(s)}.png" for s in original.samples]
        gradients = select(Listing({"ann": [f"{name}_grad.npy" for name in bare]}), chosen)
        assert {s.name for s in gradients.samples} == {s.name for s in original.samples}


def test_the_seed_draws_among_names_that_differ_behind_their_dot() -> None:
    for names in (
        [f"subject01.{mood}" for mood in ("centerlight", "glasses", "happy", "sad", "sleepy", "surprised", "wink")],
        [f"frame.{number:03d}" for number in range(7)],
        [f"{number}" for number in range(7)],
        [f"frame_{number}.0" for number in range(7)],
    ):
        assert len({tuple(draw_samples("ann", names, 2, seed)) for seed in range(20)}) > 5


@pytest.mark.parametrize("extension", ["jpg", "JPEG", "tif", "Jfif", "heic", "npy", "bmp"])
def test_the_extension_of_an_image_is_no_part_of_a_name(extension: str) -> None:
    assert without_extension(f"a.b/c.d.{extension}") == "a.b/c.d"
    assert without_extension(f"a.{extension}/c.d") == f"a.{extension}/c.d"
    assert without_extension(f".{extension}") == f".{extension}"
    assert without_extension(f"a.{extension}.{extension}") == f"a.{extension}"
    assert IMAGE_EXTENSIONS < EXTENSIONS


@given(data=DATASETS, seed=SEEDS)
def test_the_result_is_sorted_and_every_output_has_a_name_of_its_own(data: dict[str, list[str]], seed: int) -> None:
    mixed = {
        identity: [*paths, *(f"{path}.png" for path in paths), *(f"{path.removesuffix('jpg')}png" for path in paths)]
        for identity, paths in data.items()
    }
    samples = select(Listing(mixed), options(random_seed=seed)).samples
    order = [
        (unicodedata.normalize("NFC", s.identity), s.identity, unicodedata.normalize("NFC", inside(s))) for s in samples
    ]
    assert order == sorted(order)
    assert len(set(GradientTree(Path(), {"block4": (1, 1, 1)}, "float32", samples).paths(range(len(samples))))) == len(
        samples
    )


def test_the_draw_is_the_documented_hash() -> None:
    """The rule of docs/selection.md, spelled out a second time."""

    def rank(*parts: str) -> str:
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    names = [f"person_{number:03d}" for number in range(50)]
    assert rank_identities(names, 123) == sorted(names, key=lambda name: rank("identity", "123", name))
    paths = [f"folder/{number}.jpg" for number in range(50)]
    expected = sorted(paths, key=lambda path: rank("sample", "7", "ann", path.removesuffix(".jpg")))[:9]
    assert draw_samples("ann", paths, 9, 7) == sorted(expected)


def test_a_name_that_is_not_utf8_is_hashed_as_its_bytes() -> None:
    names = [b"caf\xe9", b"caf\xc3\xa9", b"\xff\xfe"]
    decoded = [name.decode("utf-8", "surrogateescape") for name in names]
    expected = sorted(names, key=lambda name: hashlib.sha256(b"identity\x0042\x00" + name).digest())
    assert rank_identities(decoded, 42) == [name.decode("utf-8", "surrogateescape") for name in expected]


GOLDEN = {
    f"person_{identity:03d}": [f"{number:04d}.jpg" for number in range(10 + identity % 7)] for identity in range(40)
}


def test_golden_identities_never_change() -> None:
    assert rank_identities(GOLDEN, 42)[:8] == [
        "person_006",
        "person_021",
        "person_032",
        "person_030",
        "person_033",
        "person_011",
        "person_025",
        "person_017",
    ]


def test_golden_samples_never_change() -> None:
    assert draw_samples("person_003", GOLDEN["person_003"], 5, 42) == [
        "0000.jpg",
        "0001.jpg",
        "0002.jpg",
        "0003.jpg",
        "0012.jpg",
    ]
    assert draw_samples("Zoë/Müller", ["a/ä.png", "a/b.png", "c.png", "d.jpg"], 2, 7) == ["c.png", "d.jpg"]


def test_golden_subsets_never_change() -> None:
    drawn = options(
        num_identities=10,
        samples_per_identity=12,
        random_identity_selection=True,
        identity_selection_seed=123,
        random_seed=456,
    )
    subset = select(Listing(GOLDEN), drawn)
    assert (subset.identities, len(subset.samples)) == (9, 108)
    assert subset.sha256 == "9174c4929101f2e9b1c555c9a17385dce0cfea1fa5d43c6b1fad09bd6c3fc272"
    first = select(Listing(GOLDEN), options(num_identities=5, samples_per_identity=10))
    assert first.sha256 == "ee3cb45da26a297bff2df062d66cba2e0d2af7238d4799eec802fc86639c7b62"


def test_short_identities_are_dropped_listed_and_not_replaced() -> None:
    data = {
        "ann": ["1.jpg", "2.jpg"],
        "bob": ["1.jpg"],
        "cyd": [],
        "dee": ["1.jpg", "2.jpg", "3.jpg"],
    }
    subset = select(Listing(data), options(num_identities=3, samples_per_identity=2))
    assert {sample.identity for sample in subset.samples} == {"ann"}
    assert subset.insufficient == (("bob", 1), ("cyd", 0))
    allowed = select(Listing(data), options(num_identities=3, samples_per_identity=2, allow_insufficient_samples=True))
    assert places(allowed) == ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"]
    assert allowed.insufficient == (("bob", 1), ("cyd", 0))


def test_the_identity_seed_defaults_to_the_random_seed() -> None:
    drawn = options(num_identities=5, random_identity_selection=True, random_seed=9)
    given_too = replace(drawn, identity_selection_seed=9)
    assert select(Listing(GOLDEN), drawn) == select(Listing(GOLDEN), given_too)
    assert select(Listing(GOLDEN), drawn) != select(Listing(GOLDEN), replace(drawn, identity_selection_seed=10))


def test_without_the_random_flag_the_first_identities_are_taken() -> None:
    for seed in (1, 2):
        subset = select(Listing(GOLDEN), options(num_identities=3, identity_selection_seed=seed))
        assert sorted({sample.identity for sample in subset.samples}) == ["person_000", "person_001", "person_002"]


def test_strict_replaces_short_identities() -> None:
    strict = options(num_identities=10, samples_per_identity=14, random_identity_selection=True, strict=True)
    subset = select(Listing(GOLDEN), strict)
    assert (subset.identities, len(subset.samples), subset.insufficient) == (10, 140, ())
    enough = [identity for identity in rank_identities(GOLDEN, 42) if len(GOLDEN[identity]) >= 14]
    assert {sample.identity for sample in subset.samples} == set(enough[:10])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_skipping_cuts_one_order_into_subsets_that_share_no_identity(strict: bool, drawn: bool) -> None:
    sized = {"num_identities": 3, "samples_per_identity": 10, "random_identity_selection": drawn, "strict": strict}
    whole, rest = dict(GOLDEN), list(GOLDEN)
    if drawn:
        rest = rank_identities(rest, 42)
    if strict:
        rest = [identity for identity in rest if len(whole[identity]) >= 10]
    for skip in (0, 3, 6):
        subset = select(Listing(GOLDEN), options(**sized, skip_identities=skip))
        enough = {identity for identity in rest[skip : skip + 3] if len(whole[identity]) >= 10}
        assert {sample.identity for sample in subset.samples} == enough
        assert subset.chosen == 3


def test_skipping_says_what_was_passed_over_and_what_is_missing(faces: Path) -> None:
    skipping = options(num_identities=2, skip_identities=1)
    lines = list(report(select(Listing(GOLDEN), skipping), skipping))
    assert lines[2] == "Passed over 1 identities that come before them in that order"
    count = len(GOLDEN)
    with pytest.raises(
        RequestError, match=f"after the first {count}, which --skip-identities passes over: 0 have them"
    ):
        select(Listing(GOLDEN), options(num_identities=1, samples_per_identity=1, strict=True, skip_identities=count))
    with pytest.raises(RequestError, match="has 4 identities, and --skip-identities passes over all of them"):
        select_subset(replace(skipping, image_path=faces, skip_identities=4))


def test_strict_lists_no_more_identities_than_it_needs() -> None:
    listed: list[str] = []

    class Watched(Listing):
        def samples(self, identity: str) -> tuple[str, ...]:
            listed.append(identity)
            return super().samples(identity)

    watched = Watched(GOLDEN)
    select(watched, options(num_identities=3, samples_per_identity=10, strict=True))
    assert listed == ["person_000", "person_001", "person_002"]
    listed.clear()
    select(watched, options(num_identities=4))
    assert len(listed) == 4


def test_strict_fails_with_what_is_missing_and_who_comes_closest() -> None:
    with pytest.raises(
        RequestError, match=r"10 identities with 16 samples.*5 have them, 5 are missing.*person_005 \(15\)"
    ):
        select(Listing(GOLDEN), options(num_identities=10, samples_per_identity=16, strict=True))


def test_the_report_speaks_the_words_of_the_guide() -> None:
    data = {f"person_{number:03d}": ["a.jpg"] if number == 1 else ["a.jpg", "b.jpg"] for number in range(5)}
    chosen = options(
        num_identities=5,
        samples_per_identity=2,
        random_seed=456,
        identity_selection_seed=123,
        random_identity_selection=True,
    )
    assert list(report(select(Listing(data), chosen), chosen)) == [
        "Using random seed: 456 for reproducible results",
        "Using identity selection seed: 123",
        "Randomly selected 5 identities from 5 available (seed: 123)",
        "Found 1 identities with insufficient samples:",
        "  - person_001: 1 samples",
        "Processing 4 identities that meet the sample requirement.",
        "Dataset loaded: 4 identities, 8 total images",
    ]


def test_nothing_left_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "a.jpg").touch()
    with pytest.raises(RequestError, match="lower --samples-per-identity"):
        select_subset(Options(image_path=tmp_path, samples_per_identity=2))
    (tmp_path / "ann" / "a.jpg").unlink()
    with pytest.raises(RequestError, match="no image"):
        select_subset(Options(image_path=tmp_path))


def test_names_are_told_from_the_whole_identity() -> None:
    data = {"ann": ["a.jpg", "a.png", "b.jpg", "a.jpg.png", "c.jpg", "c_grad.npy/d.jpg", "deep/a.jpg"]}
    names = {inside(sample): sample.name for sample in select(Listing(data), options()).samples}
    assert names == {
        "a.jpg": "a.jpg",
        "a.png": "a.png",
        "b.jpg": "b",
        "a.jpg.png": "a.jpg.png",
        "c.jpg": "c.jpg",
        "c_grad.npy/d.jpg": "c_grad.npy/d",
        "deep/a.jpg": "deep/a",
    }
    one = select(Listing(data), options(samples_per_identity=1)).samples[0]
    assert one.name == names[inside(one)]


def test_the_file_system_gives_the_same_subset_as_the_names(tmp_path: Path) -> None:
    for identity, paths in GOLDEN.items():
        (tmp_path / identity / "deep").mkdir(parents=True)
        (tmp_path / identity / ".hidden").mkdir()
        (tmp_path / identity / ".hidden" / "a.jpg").touch()
        (tmp_path / identity / "notes.txt").touch()
        for path in paths:
            (tmp_path / identity / path).touch()
    (tmp_path / ".git").mkdir()
    chosen = Options(image_path=tmp_path, num_identities=7, samples_per_identity=11, random_identity_selection=True)
    found = select(scan(tmp_path), chosen)
    assert found.samples == select(Listing(GOLDEN), chosen).samples
