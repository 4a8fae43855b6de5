"""The subset fixed by seeds: which identities, which samples in each.

Draws rank by a keyed hash, so that they depend on nothing but names and seed (docs/selection.md): subsets
nest, and an identity keeps its samples whichever other identities are drawn.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, Dataset, Pair, Sample, kinds
from grafiqs.datasets.samples import COLUMNS, Samples, columns_of
from grafiqs.datasets.scan import scan
from grafiqs.disk.csv_row import csv_row
from grafiqs.disk.names import GRADIENT, encoded, in_order, key, order, shown, without_extension
from grafiqs.errors import RequestError
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.subset import SubsetOptions

log = logging.getLogger(__name__)

UNNAMED = "(the whole data set)"
"""The unnamed identity, as people read it."""


@dataclass(frozen=True)
class Subset:
    """The samples to process, in order, and how they were chosen."""

    samples: Samples
    identities: int
    """Identities that have samples in the subset."""
    chosen: int
    """Identities chosen before those with too few samples were dropped."""
    available: int
    """Identities in the data set."""
    insufficient: tuple[tuple[str, int], ...]
    """Chosen identities with too few samples, and how many they have."""

    def pairs(self, dataset: Dataset) -> list[Pair]:
        """The comparisons that a verification set asks for, if the subset has both samples."""
        if not dataset.pairs:
            return []
        locations = {sample.location for sample in self.samples}
        return [pair for pair in dataset.pairs if pair.first in locations and pair.second in locations]

    def csv(self) -> Iterator[bytes]:
        """The samples as CSV, in pieces: identity, sample, path."""
        yield csv_row(*COLUMNS)
        for sample in self.samples:
            yield csv_row(*columns_of(sample))

    @cached_property
    def csv_sha256(self) -> str:
        """SHA-256 of that."""
        digest = hashlib.sha256()
        for piece in self.csv():
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over identity NUL name NUL of every sample, in order, names in NFC: what a paper can quote."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(encoded(f"{key(sample.identity)}\0{key(sample.name)}\0"))
        return digest.hexdigest()


def open_dataset(options: DataSetOptions) -> Dataset:
    """The data set that `options` name; how it was read is logged.

    Raises RequestError when it cannot be listed, or holds nothing.

    >>> dataset = open_dataset(DataSetOptions(image_path="faces"))
    >>> dataset.form, dataset.identities
    ('folders', ('ann', 'bob', 'cyd', 'dee'))
    """
    dataset = scan(
        options.image_path,
        options.image_extension,
        options.flat_structure,
        options.root,
        options.path_column,
        options.identity_column,
        options.identity_depth,
    )
    if dataset.said:
        log.info("%s", dataset.said)
    return dataset


def left_out(dataset: Dataset) -> Iterator[tuple[int, str]]:
    """What the data set holds beside the samples that were listed, a line each, with its level in the log."""
    if dataset.ignored:
        where = f"{dataset.ignored} images in {shown(dataset.place)} belong to no identity"
        yield logging.WARNING, f"{where} and are left out (--flat-structure takes them)"
    beside = dataset.left_out
    if beside.folders:
        yield logging.INFO, beside.folders_line()
    if beside.files:
        yield logging.WARNING if beside.is_wanted else logging.INFO, beside.files_line()


def select_subset(
    options: SubsetOptions, dataset: Dataset | None = None, candidates: Sequence[str] | None = None
) -> Subset:
    """Choose the subset that `options` describe, and log how, in the words of the seeding guide.

    `dataset` is their data set, if it is open already; `candidates` names its identities in another order to choose
    them in than the options do.
    Raises RequestError when the data set cannot be listed or nothing in it meets the request.

    >>> subset = select_subset(SubsetOptions(image_path="faces", samples_per_identity=3))
    >>> subset.identities, len(subset.samples), subset.insufficient
    (3, 9, (('cyd', 2),))
    """
    dataset = dataset or open_dataset(options)
    subset = select(dataset, options, candidates)
    for level, line in left_out(dataset):
        log.log(level, "%s", line)
    for line in report(subset, options):
        log.info("%s", line)
    if not subset.samples:
        raise RequestError(why_empty(dataset, subset, options))
    return subset


def select(dataset: Dataset, options: SubsetOptions, candidates: Sequence[str] | None = None) -> Subset:
    """Choose the subset that `options` describe.

    The rules in their order: choose identities (the first N, or N drawn with the identity seed, after those that are
    to be skipped); drop those with fewer than M samples, unless they are allowed; draw M samples in each with the
    sample seed. With `strict`, identities with fewer than M samples are passed over instead of dropped.
    `candidates` names identities in another order to choose them in.
    Raises RequestError when `strict` cannot get exactly N x M samples. The subset may be empty.
    """
    if candidates is None:
        drawn = options.random_identity_selection
        candidates = rank_identities(dataset.identities, options.identity_seed) if drawn else dataset.identities
    listed = (_listed_strictly if options.strict else _listed)(dataset, options, candidates)
    enough = options.samples_per_identity or 1
    required = 1 if options.allow_insufficient_samples else enough
    kept = [(identity, paths) for identity, paths in listed if len(paths) >= required]
    return Subset(
        samples=Samples(
            Sample(identity, name, dataset.location(identity, path))
            for identity, paths in kept
            for path, name in _drawn(identity, paths, options.samples_per_identity, options.random_seed)
        ),
        identities=len(kept),
        chosen=len(listed),
        available=len(dataset.identities),
        insufficient=tuple((identity, len(paths)) for identity, paths in listed if len(paths) < enough),
    )


def of_identities(subset: Subset, identities: Iterable[str]) -> Subset:
    """The samples of these identities alone; names are compared in NFC."""
    wanted = {key(identity) for identity in identities}
    samples = Samples(sample for sample in subset.samples if key(sample.identity) in wanted)
    return replace(subset, samples=samples, identities=len({sample.identity for sample in samples}))


def report(subset: Subset, options: SubsetOptions) -> Iterator[str]:
    """How the subset came about, in the log lines of the seeding guide."""
    yield f"Using random seed: {options.random_seed} for reproducible results"
    strictly = f" with at least {options.samples_per_identity} samples" if options.strict else ""
    if options.random_identity_selection:
        yield f"Using identity selection seed: {options.identity_seed}"
        yield (
            f"Randomly selected {subset.chosen} identities{strictly} from {subset.available} available "
            f"(seed: {options.identity_seed})"
        )
    elif options.num_identities is not None:
        yield f"Selected the first {subset.chosen} identities{strictly} from {subset.available} available"
    if options.skip_identities:
        yield f"Passed over {options.skip_identities} identities{strictly} that come before them in that order"
    if subset.insufficient:
        yield f"Found {len(subset.insufficient)} identities with insufficient samples:"
        for identity, count in subset.insufficient:
            yield f"  - {shown(identity) or UNNAMED}: {count} samples"
        if options.allow_insufficient_samples:
            yield f"Processing {subset.identities} identities, those with insufficient samples among them."
        else:
            yield f"Processing {subset.identities} identities that meet the sample requirement."
    yield f"Dataset loaded: {subset.identities} identities, {len(subset.samples)} total images"


def rank_identities(identities: Iterable[str], seed: int) -> list[str]:
    """The identities in the order in which `seed` draws them.

    >>> rank_identities(["ann", "bob", "cyd", "dee"], seed=42)
    ['dee', 'bob', 'ann', 'cyd']
    """
    return sorted(identities, key=lambda identity: (_hash("identity", seed, identity), order(identity)))


def draw_samples(identity: str, paths: Sequence[str], count: int, seed: int) -> list[str]:
    """The `count` samples of `identity` that `seed` draws (all, if it has fewer), in sorted order.

    `paths` are relative to the identity. The draw ignores the extensions of image files, so that an aligned or
    re-encoded copy of a data set gives the same subset; equal keys are ordered by full name.

    >>> draw_samples("ann", ["0.jpg", "1.jpg", "2.jpg", "3.jpg"], count=2, seed=42)
    ['0.jpg', '1.jpg']
    """
    drawn = heapq.nsmallest(
        count,
        paths,
        key=lambda path: (_hash("sample", seed, identity, without_extension(path)), order(path)),
    )
    return list(in_order(drawn))


def _hash(*parts: object) -> bytes:
    return hashlib.sha256(encoded("\0".join(key(str(part)) for part in parts))).digest()


_Listed = list[tuple[str, tuple[str, ...]]]
"""Identities with all their sample paths, sorted by identity."""


def _listed(dataset: Dataset, options: SubsetOptions, candidates: Sequence[str]) -> _Listed:
    first, count = options.skip_identities, options.num_identities
    chosen = set(candidates[first : None if count is None else first + count])
    return [(identity, dataset.samples(identity)) for identity in dataset.identities if identity in chosen]


def _listed_strictly(dataset: Dataset, options: SubsetOptions, candidates: Sequence[str]) -> _Listed:
    count, each = options.num_identities or 0, options.samples_per_identity or 0  # strict options have both
    to_skip = options.skip_identities
    found: dict[str, tuple[str, ...]] = {}
    counts: Counter[str] = Counter()
    for identity in candidates:
        paths = dataset.samples(identity)
        if len(paths) >= each and to_skip > 0:
            to_skip -= 1
        elif len(paths) >= each:
            found[identity] = paths
            if len(found) == count:
                return [(identity, found[identity]) for identity in dataset.identities if identity in found]
        else:
            counts[identity] = len(paths)
    closest = ", ".join(f"{shown(identity or dataset.place)} ({count})" for identity, count in counts.most_common(5))
    raise RequestError(
        f"--strict asks for {count} identities with {each} samples each{_after(options)}: "
        f"{len(found)} have them, {count - len(found)} are missing"
        + (f"; the closest: {closest}" if closest else f"; the data set has {len(dataset.identities)} identities")
    )


def _drawn(identity: str, paths: tuple[str, ...], count: int | None, seed: int) -> Iterator[tuple[str, str]]:
    """The drawn paths with their names, in order: what has no extension of an image stands where its .png would.

    So the crops of such samples, which are .png files, stand in the order of their photos.
    """
    drawn: Sequence[str] = paths if count is None else draw_samples(identity, paths, count, seed)
    names = _names(paths)
    bare = {path for path in drawn if names[path] == path == without_extension(path)}
    if bare:
        drawn = sorted(drawn, key=lambda path: order(f"{path}.png" if path in bare else path))
    return ((path, names[path]) for path in drawn)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """The name of each sample of an identity: its path without an image's extension, or all of it if that is taken.

    Decided by all samples of the identity, not by the drawn ones, so that nested subsets agree.
    """
    plain = [without_extension(path) for path in paths]
    stems = Counter(plain)
    if len(stems) == len(paths) and stems.keys().isdisjoint(paths) and "/" not in "".join(paths):
        return dict(zip(paths, plain, strict=True))  # what the rest comes to if there is nothing to tell apart
    folders = {parent for path in paths if GRADIENT in path for parent in _parents(path) if GRADIENT in parent[-20:]}
    whole = set(paths)
    taken = whole | stems.keys()
    names: dict[str, str] = {}
    for path in paths:
        name = without_extension(path)
        if stems[name] > 1 or (name != path and name in whole) or _is_blocked(name, folders):
            name = path
            while _is_blocked(name, folders) or (name != path and name in taken):
                name += "_"
            taken.add(name)
        names[path] = name
    return names


def _is_blocked(name: str, folders: set[str]) -> bool:
    """Whether a folder stands where the gradient file of this name, or its unfinished form, would be written."""
    return any(name + GRADIENT + suffix in folders for suffix in ("", ".part"))


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _after(options: SubsetOptions) -> str:
    """Which identities were skipped first, in words."""
    return f" after the first {options.skip_identities}, which --skip-identities passes over" * (
        options.skip_identities > 0
    )


def why_empty(dataset: Dataset, subset: Subset, options: SubsetOptions) -> str:
    """What to say of a subset without samples."""
    place = shown(dataset.place)
    if options.skip_identities >= subset.available:
        return f"{place} has {subset.available} identities, and --skip-identities passes over all of them"
    if not any(count for _, count in subset.insufficient):
        wanted = kinds(frozenset(options.image_extension) or IMAGE_EXTENSIONS)
        return f"no identity chosen from {place} holds an image ({wanted})"
    return (
        f"no identity chosen from {place} has {options.samples_per_identity} samples: lower --samples-per-identity, "
        "or take what there is with --allow-insufficient-samples"
    )
