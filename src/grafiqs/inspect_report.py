"""What was found in a data set, in lines for people."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Iterator

from grafiqs.disk.names import shown
from grafiqs.faces.likeness import ALIGNED, IDENTITIES, IMAGES
from grafiqs.inspect import CROP, Inspection
from grafiqs.select import UNNAMED, left_out

_LISTED = 10
"""Findings of a kind that the report lists; the rest are counted, and stand in the JSON."""

_MEMBERS = 5
"""Members of a group of duplicates that the report names."""

_BAR = 40
"""The longest bar of the histogram, in characters."""


def lines(found: Inspection) -> Iterator[str]:
    """All that was found, but for the warnings."""
    for part in (_samples, _images, _flaws):
        yield from part(found)


def _samples(found: Inspection) -> Iterator[str]:
    """How many there are, in which identities."""
    numbers = found.counts.values()
    total = sum(numbers)
    yield f"{shown(found.dataset.place)}: {found.dataset.form}, {len(found.counts)} identities, {total} samples"
    if found.dataset.pairs:
        same = sum(pair.same for pair in found.dataset.pairs)
        yield f"Pairs to compare: {len(found.dataset.pairs)}, {same} of the same identity"
    yield from (line for level, line in left_out(found.dataset) if level < logging.WARNING)
    yield f"Samples of an identity: {min(numbers)} to {max(numbers)}, median {statistics.median(numbers):g}"
    yield from _bars(found)
    if found.insufficient:
        few = "without samples" if found.required is None else f"with fewer than {found.required} samples"
        yield f"Identities {few}: {len(found.insufficient)}"
        yield from _listed(f"{shown(name) or UNNAMED}: {count} samples" for name, count in found.insufficient.items())
    elif found.required is not None:
        yield f"Every identity has {found.required} samples."


def _images(found: Inspection) -> Iterator[str]:
    """What those are like that can be read."""
    for what, counts in (("Sizes", found.sizes), ("Formats", found.formats), ("Modes", found.modes)):
        common = sorted(counts.items(), key=lambda item: -item[1])
        rest = f", and {len(common) - 5} more" if len(common) > 5 else ""
        yield f"{what}: {', '.join(f'{name} ({count})' for name, count in common[:5]) or 'none'}{rest}"
    if found.likeness is not None:
        yield f"Likeness to aligned crops: {found.likeness:.2f} (aligned crops have {ALIGNED} or more)"
    elif found.sizes.get(CROP):
        yield (
            f"Likeness to aligned crops: not judged, which takes {CROP} images of {IDENTITIES} identities"
            f" (or {IMAGES} without names)"
        )


def _flaws(found: Inspection) -> Iterator[str]:
    """Which are of no use, or there twice."""
    yield f"Unreadable: {len(found.unreadable) or 'none'}"
    yield from _listed(f"{shown(location)}: {reason}" for location, reason in found.unreadable.items())
    for what, some in (
        ("Of one colour", dict.fromkeys(found.remarks.one_colour, "")),
        ("Fewer than their 16 bits used", {path: f": {bits}" for path, bits in found.remarks.bits.items()}),
    ):
        if some:
            yield f"{what}: {len(some)}"
            yield from _listed(shown(location) + more for location, more in some.items())
    for what, groups in (("within an identity", found.within), ("across identities", found.across)):
        yield f"Exact duplicates {what}: {f'{len(groups)} groups' if groups else 'none'}"
        yield from _listed(" = ".join(_some(group)) for group in groups)


def _bars(found: Inspection) -> Iterator[str]:
    """The histogram, a bar a row."""
    rows = found.histogram()
    most = max(count for _, _, count in rows)
    names = [f"{start}" if start == end else f"{start}-{end}" for start, end, _ in rows]
    for name, (_, _, count) in zip(names, rows, strict=True):
        bar = "#" * -(-count * _BAR // most)
        yield f"  {name:>{max(map(len, names))}}  {bar:{_BAR}}  {count}"


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
