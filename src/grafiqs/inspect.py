"""What a data set is like, before anything is computed on it: every sample is read once."""

from __future__ import annotations

import hashlib
import logging
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

from grafiqs.datasets.dataset import Dataset
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.likeness import ALIGNED, Likeness, edges
from grafiqs.faces.template import SIZE
from grafiqs.images.decoding import picture
from grafiqs.images.remarks import Remark, Remarks, remark_on
from grafiqs.options.extract import Options
from grafiqs.progress import progress_bar
from grafiqs.run.aligned import unfinished
from grafiqs.select import left_out, open_dataset
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped

CROP = f"{SIZE}x{SIZE}"
"""The size of an aligned crop, as the report writes sizes."""

_ROWS = 12
"""The most rows of the histogram."""


@dataclass(frozen=True)
class Inspection:
    """What was found in a data set.

    `counts` are the samples of each identity; `unreadable` has the reason for each location that cannot be read.
    `within` and `across` are groups of locations whose images, decoded to RGB, have the same pixels: within one
    identity, and across several. `sizes` (width x height, upright), `formats` and `modes` count readable images;
    `remarks` names those of one colour, and those of 16 bits that use fewer. `likeness` tells how far those of 112x112
    look like aligned crops (`grafiqs.faces.likeness`), None when there are too few.
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
    remarks: Remarks

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
        yield from (line for level, line in left_out(self.dataset) if level >= logging.WARNING)
        if (line := unfinished(self.dataset.place)) is not None:
            yield line
        images, crop = sum(self.sizes.values()), self.sizes.get(CROP, 0)
        if crop < images:
            yield (
                f"{images - crop} of {images} images are not {CROP}: they are not aligned crops, which the networks "
                "expect, and would be resized as they are; scores of unaligned faces mean little"
            )
        if self.likeness is not None and self.likeness < ALIGNED:
            yield (
                f"the {CROP} images do not look like crops aligned to the ArcFace template, which the networks expect: "
                f"on the whole, eyes and mouths are not where it has them (likeness {self.likeness:.2f}; aligned crops "
                f"have {ALIGNED} or more); scores of unaligned faces mean little"
            )

        yield from self.remarks.warnings()

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
            "left_out": dict(sorted(self.dataset.left_out.files.items())),
            "folders_passed_over": dict(sorted(self.dataset.left_out.folders.items())),
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
            "of_one_colour": self.remarks.one_colour,
            "bits_used_of_16": self.remarks.bits,
            "likeness_to_aligned_crops": self.likeness,
            "warnings": list(self.warnings()),
        }


def inspect_dataset(options: Options) -> Inspection:
    """Read every sample of the data set that `options` name, and say what is there.

    `samples_per_identity` is how many an identity should have. Raises RequestError when the data set cannot be listed,
    or has no sample.

    >>> found = inspect_dataset(Options(image_path="faces", samples_per_identity=5, quiet=True))
    >>> found.counts, found.insufficient, found.sizes["112x112"]
    ({'ann': 6, 'bob': 5, 'cyd': 2, 'dee': 6}, {'cyd': 2}, 19)
    """
    dataset = open_dataset(options)
    counts: dict[str, int] = {}
    identities: dict[str, str] = {}
    for identity in dataset.identities:
        paths = dataset.samples(identity)
        counts[identity] = len(paths)
        identities.update((dataset.location(identity, path), identity) for path in paths)
    if not identities:
        raise RequestError(f"no identity of {shown(dataset.place)} holds an image")
    unreadable: dict[str, str] = {}
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    sizes, formats, modes = Counter[str](), Counter[str](), Counter[str]()
    likeness, remarks = Likeness(), Remarks()
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
            remarks.add(location, seen.remark)
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
        remarks=remarks,
    )


@dataclass(frozen=True)
class _Seen:
    """What is kept of one readable image."""

    size: str
    format: str
    mode: str
    digest: bytes
    remark: Remark
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
    return _Seen(
        size, found.format, found.mode, digest, remark_on(found), edges(found.pixels) if size == CROP else None
    )


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
