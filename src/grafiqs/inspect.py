"""What a data set is like, before anything is computed on it: every sample is read once."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.errors import UnreadableSampleError
from grafiqs.formats.dataset import Dataset
from grafiqs.images.decoding import picture
from grafiqs.likeness import ALIGNED, IDENTITIES, IMAGES, Likeness, edges
from grafiqs.names import shown
from grafiqs.options import Options
from grafiqs.progress import progress_bar
from grafiqs.select import UNNAMED, left_out, open_dataset
from grafiqs.template import SIZE
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped

CROP = f"{SIZE}x{SIZE}"
"""The size of an aligned crop, as the report writes sizes."""

_LISTED = 10
"""Findings of a kind that the report lists; the rest are counted, and stand in the JSON."""

_MEMBERS = 5
"""Members of a group of duplicates that the report names."""

_BAR = 40
"""The longest bar of the histogram, in characters."""

_ROWS = 12
"""The most rows of the histogram."""


@dataclass(frozen=True)
class Inspection:
    """What was found in a data set.

    `counts` are the samples of each identity; `unreadable` has the reason for each location that cannot be read.
    `within` and `across` are groups of locations whose images, decoded to RGB, have the same pixels: within one
    identity, and where they are of more than one. `sizes` (width x height, upright), `formats` and `modes` count
    readable images. `likeness` tells how far those of 112x112 look like aligned crops (`grafiqs.likeness`), None when
    there are too few.
    """

    dataset: Dataset
    required: int | None
    counts: dict[str, int]
    unreadable: dict[str, str]
    within: list[list[str]]
    across: list[list[str]]
    sizes: dict[str, int]
    formats: dict[str, int]
    modes: dict[str, int]
    likeness: float | None

    @property
    def insufficient(self) -> dict[str, int]:
        """Identities with fewer samples than required, and how many they have."""
        return {identity: count for identity, count in self.counts.items() if count < (self.required or 1)}

    def histogram(self) -> list[tuple[int, int, int]]:
        """Identities by their number of samples: (from, to, identities), in ranges of one width."""
        numbers = sorted(self.counts.values())
        width = -(-(numbers[-1] - numbers[0] + 1) // _ROWS)
        rows = Counter((number - numbers[0]) // width for number in numbers)
        starts = (numbers[0] + row * width for row in range(max(rows) + 1))
        return [(start, min(start + width - 1, numbers[-1]), rows[row]) for row, start in enumerate(starts)]

    def warnings(self) -> Iterator[str]:
        """What should not be overlooked, a sentence each."""
        if self.dataset.ignored:
            yield left_out(self.dataset)
        if not any(self.counts.values()):
            yield "no identity has an image"
        images, crop = sum(self.sizes.values()), self.sizes.get(CROP, 0)
        if crop < images:
            yield (
                f"{images - crop} of {images} images are not {CROP}: they are no aligned crops, which the networks "
                "expect, and would be resized as they are; scores of unaligned faces mean little"
            )
        if self.likeness is not None and self.likeness < ALIGNED:
            yield (
                f"the {CROP} images do not look like crops aligned to the ArcFace template, which the networks expect: "
                f"on the whole, eyes and mouths are not where it has them (likeness {self.likeness:.2f}; aligned crops "
                f"have {ALIGNED} or more); scores of unaligned faces mean little"
            )

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        pairs = self.dataset.pairs
        numbers = self.counts.values()
        return {
            "data_set": str(self.dataset.place),
            "form": self.dataset.form,
            "identities": len(self.counts),
            "samples": sum(numbers),
            "ignored": self.dataset.ignored,
            "pairs": {"count": len(pairs), "same": sum(pair.same for pair in pairs)} if pairs else None,
            "samples_per_identity": {
                "min": min(numbers),
                "median": statistics.median(numbers),
                "max": max(numbers),
                "histogram": [dict(zip(("from", "to", "identities"), row, strict=True)) for row in self.histogram()],
                "by_identity": self.counts,
            },
            "insufficient": {"required": self.required or 1, "identities": self.insufficient},
            "unreadable": self.unreadable,
            "duplicates": {"within": self.within, "across": self.across},
            "sizes": self.sizes,
            "formats": self.formats,
            "modes": self.modes,
            "likeness_to_aligned_crops": self.likeness,
            "warnings": list(self.warnings()),
        }

    def report(self) -> Iterator[str]:
        """What was found, in lines for people; the warnings are not among them."""
        numbers = self.counts.values()
        total = sum(numbers)
        yield f"{shown(self.dataset.place)}: {self.dataset.form}, {len(self.counts)} identities, {total} samples"
        if self.dataset.pairs:
            same = sum(pair.same for pair in self.dataset.pairs)
            yield f"Pairs to compare: {len(self.dataset.pairs)}, {same} of the same identity"
        yield f"Samples of an identity: {min(numbers)} to {max(numbers)}, median {statistics.median(numbers):g}"
        yield from self._bars()
        if self.insufficient:
            few = "without samples" if self.required is None else f"with fewer than {self.required} samples"
            yield f"Identities {few}: {len(self.insufficient)}"
            yield from _listed(
                f"{shown(name) or UNNAMED}: {count} samples" for name, count in self.insufficient.items()
            )
        elif self.required is not None:
            yield f"Every identity has {self.required} samples."
        for what, counts in (("Sizes", self.sizes), ("Formats", self.formats), ("Modes", self.modes)):
            common = sorted(counts.items(), key=lambda item: -item[1])
            rest = f", and {len(common) - 5} more" if len(common) > 5 else ""
            yield f"{what}: {', '.join(f'{name} ({count})' for name, count in common[:5]) or 'none'}{rest}"
        if self.likeness is not None:
            yield f"Likeness to aligned crops: {self.likeness:.2f} (aligned crops have {ALIGNED} or more)"
        elif self.sizes.get(CROP):
            yield (
                f"Likeness to aligned crops: not judged, which takes {CROP} images of {IDENTITIES} identities"
                f" (or {IMAGES} without names)"
            )
        yield f"Unreadable: {len(self.unreadable) or 'none'}"
        yield from _listed(f"{shown(location)}: {reason}" for location, reason in self.unreadable.items())
        for what, groups in (("within an identity", self.within), ("across identities", self.across)):
            yield f"Exact duplicates {what}: {f'{len(groups)} groups' if groups else 'none'}"
            yield from _listed(" = ".join(_some(group)) for group in groups)

    def _bars(self) -> Iterator[str]:
        rows = self.histogram()
        most = max(count for _, _, count in rows)
        names = [f"{start}" if start == end else f"{start}-{end}" for start, end, _ in rows]
        for name, (_, _, count) in zip(names, rows, strict=True):
            bar = "#" * -(-count * _BAR // most)
            yield f"  {name:>{max(map(len, names))}}  {bar:{_BAR}}  {count}"


def inspect_dataset(options: Options) -> Inspection:
    """Read every sample of the data set that `options` name, and say what is there.

    `samples_per_identity` is how many an identity should have. Raises RequestError when the data set cannot be listed.
    """
    dataset = open_dataset(options)
    counts: dict[str, int] = {}
    identities: dict[str, str] = {}
    for identity in dataset.identities:
        paths = dataset.samples(identity)
        counts[identity] = len(paths)
        identities.update((dataset.location(identity, path), identity) for path in paths)
    unreadable: dict[str, str] = {}
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    sizes, formats, modes = Counter[str](), Counter[str](), Counter[str]()
    likeness = Likeness()
    threads = processors.usable()
    with (
        ThreadPoolExecutor(threads) as pool,
        closing(mapped(pool, partial(_seen, dataset), identities, 4 * threads)) as every,
        progress_bar(len(identities), 0, options.quiet) as bar,
    ):
        for location, seen in zip(identities, every, strict=True):
            bar.update()
            if isinstance(seen, str):
                unreadable[location] = seen
                continue
            same[seen.digest].append(location)
            for counter, value in ((sizes, seen.size), (formats, seen.format), (modes, seen.mode)):
                counter[value] += 1
            if seen.edges is not None:
                likeness.add(identities[location], seen.edges)
    within, across = _duplicates(same.values(), identities)
    return Inspection(
        dataset=dataset,
        required=options.samples_per_identity,
        counts=counts,
        unreadable=unreadable,
        within=within,
        across=across,
        sizes=sizes,
        formats=formats,
        modes=modes,
        likeness=likeness.value(),
    )


@dataclass(frozen=True)
class _Seen:
    """What is kept of one readable image."""

    size: str
    format: str
    mode: str
    digest: bytes
    edges: NDArray[np.float32] | None


def _seen(dataset: Dataset, location: str) -> _Seen | str:
    """What is to be known of a sample; for one that cannot be read, the reason."""
    try:
        found = picture(dataset.read(location))
    except UnreadableSampleError as error:
        return str(error)
    height, width, _ = found.pixels.shape
    size = f"{width}x{height}"
    digest = hashlib.blake2b(found.pixels.data, digest_size=16, person=size.encode()[:16]).digest()
    return _Seen(size, found.format, found.mode, digest, edges(found.pixels) if size == CROP else None)


def _duplicates(groups: Iterable[list[str]], identities: Mapping[str, str]) -> tuple[list[list[str]], list[list[str]]]:
    """The groups of the same pixels that one identity has, and those that several have."""
    within: list[list[str]] = []
    across: list[list[str]] = []
    for group in groups:
        own: defaultdict[str, list[str]] = defaultdict(list)
        for location in group:
            own[identities[location]].append(location)
        within += (same for same in own.values() if len(same) > 1)
        if len(own) > 1:
            across.append(group)
    return within, across


def _some(locations: list[str]) -> list[str]:
    """The first locations of a group, and how many more it has."""
    rest = [f"{len(locations) - _MEMBERS} more"] if len(locations) > _MEMBERS else []
    return [*map(shown, locations[:_MEMBERS]), *rest]


def _listed(lines: Iterable[str]) -> Iterator[str]:
    """The first lines, indented, and how many more there are."""
    every = list(lines)
    yield from (f"  - {line}" for line in every[:_LISTED])
    if len(every) > _LISTED:
        yield f"  ... and {len(every) - _LISTED} more (--json lists all)"
