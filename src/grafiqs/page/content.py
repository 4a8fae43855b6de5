"""What a page says of a run, as JSON values: its card, its numbers, what failed, who was dropped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import QUALITIES
from grafiqs.comparison.runs import LARGEST
from grafiqs.disk.files import sha256
from grafiqs.disk.names import shown
from grafiqs.page.again import command, notes
from grafiqs.run.finished import SCORES
from grafiqs.run.results import Run

_BARS = 40
"""Bars of a histogram."""

_FEWEST_BARS = 10

_EQUAL = 1e-9
"""Scores that differ by less than this share of their size are drawn as equal."""

_LISTED = 5000
"""As many failures, and dropped identities, are listed."""

_FIRST = 8
"""As many faces at either end of each score come before others."""


def content(name: str, run: Run, rows: Sequence[int]) -> dict[str, Any]:
    """What the page says of a run, of its `rows` that it shows. Raises ValueError for wild scores."""
    manifest, table = run.manifest, run.scores
    subset = manifest.subset
    part = table[np.asarray(rows, np.int64)]
    identities = list(dict.fromkeys(part["identity"].tolist()))
    number = {identity: place for place, identity in enumerate(identities)}
    counts = Counter(sample.identity for sample in subset.samples)
    return {
        "name": name,
        "card": [[term, shown(text)] for term, text in _card(run)],
        "command": command(run),
        "notes": list(notes(run)),
        "better": manifest.better,
        "scores": list(manifest.scores),
        "directions": {score: manifest.directions[score] for score in manifest.scores},
        "main": main_score(run),
        "layer": None if run.reference is None else run.reference.layer,
        "identities": [text(identity) for identity in identities],
        "identity": [number[identity] for identity in part["identity"].tolist()],
        "path": [text(path) for path in part["path"].tolist()],
        "values": {score: part[score].tolist() for score in manifest.scores},
        "qualities": {score: part[QUALITIES[score]].tolist() for score in with_quality(run)},
        "distributions": {score: distribution(table[score]) for score in manifest.scores},
        "quality_counts": {score: _quality_counts(table[QUALITIES[score]]) for score in with_quality(run)},
        "total": len(table),
        "sizes": sorted(Counter(counts.values()).items()),
        "failed": len(run.failures),
        "failures": [[text(path), text(reason)] for path, reason in list(run.failures.items())[:_LISTED]],
        "dropped": [[text(identity), count] for identity, count in subset.insufficient[:_LISTED]],
        "insufficient": len(subset.insufficient),
        "wanted": manifest.options["samples_per_identity"],
    }


def main_score(run: Run) -> str:
    """The score by which faces are sorted at first: the reference's layer, or the first."""
    layer = None if run.reference is None else run.reference.layer
    return layer if layer in run.manifest.scores else run.manifest.scores[0]


def with_quality(run: Run) -> list[str]:
    """The scores that have a quality."""
    names = run.scores.dtype.names or ()
    return [score for score in run.manifest.scores if QUALITIES[score] in names]


def ordered(run: Run) -> list[int]:
    """All rows of the scores, those first that a page needs most.

    First come the best and the worst by the main score; then, for each of the next best and worst by any score in turn,
    two others that lie evenly over the ranking by the main score, so that every beginning does.
    """
    main = main_score(run)
    rankings = [ranking(run, score) for score in sorted(run.manifest.scores, key=lambda score: score != main)]
    count = min(_FIRST, len(run.scores))
    ends = [ranks[end] for place in range(count) for ranks in rankings for end in (place, ~place)]
    even = spread(rankings[0])
    mixed = [row for place, end in enumerate(ends) for row in (end, *even[2 + 2 * place : 4 + 2 * place])]
    return list(dict.fromkeys((*even[:2], *mixed, *even)))


def ranking(run: Run, score: str) -> list[int]:
    """The rows of the scores, best first."""
    values = run.scores[score]
    order: list[int] = np.argsort(-values if run.directions[score] == "higher" else values, kind="stable").tolist()
    return order


def spread(ranks: Sequence[int]) -> list[int]:
    """Rows in an order of which every beginning lies evenly over the ranking, both ends first.

    It is that of van der Corput: places are sorted by their binary digits, read backwards.

    >>> spread([10, 11, 12, 13, 14])
    [10, 14, 12, 11, 13]
    """
    count = len(ranks)
    digits = max(1, (count - 1).bit_length())
    order = np.zeros(1, np.int64)
    for digit in reversed(range(digits)):
        order = np.concatenate([order, order + (1 << digit)])
    places = dict.fromkeys((0, count - 1, *order[order < count].tolist()) if count else ())
    return [ranks[place] for place in places]


def distribution(values: NDArray[np.float64]) -> dict[str, Any]:
    """A histogram of all scores: counts between `low` and `high`, their 0 and 99 %, and how many lie `beyond`.

    Raises ValueError for scores that no network gives.
    """
    if not (np.abs(values) < LARGEST).all():
        raise ValueError("it has scores that no network gives")
    low, high = (float(each) for each in np.quantile(values, (0.0, 0.99))) if len(values) else (0.0, 1.0)
    if high - low <= _EQUAL * max(abs(low), abs(high)):  # equal but for roundings
        high = max(float(values.max(initial=0.0)), low + (abs(low) or 1.0))
    bins = int(np.clip(2 * np.sqrt(len(values)), _FEWEST_BARS, _BARS))
    inside = values[values <= high]
    counts, _ = np.histogram(inside, bins=bins, range=(low, high))
    return {"low": low, "high": high, "counts": counts.tolist(), "beyond": len(values) - len(inside)}


def _quality_counts(qualities: NDArray[np.int64]) -> list[int]:
    """How many qualities lie in each twentieth of 0 to 100; 100 is in the last."""
    counts: list[int] = np.bincount(np.minimum(qualities // 5, 19), minlength=20).tolist()
    return counts


def text(name: str) -> str:
    """A name as it is, or as escapes if it is not UTF-8, which nothing on the page could be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return shown(name)
    return name


def _card(run: Run) -> Iterator[tuple[str, str]]:
    """What a paper must say of the run."""
    manifest = run.manifest
    subset, seeds, options = manifest.subset, manifest.seeds, manifest.options
    scored, failed = len(run.scores), len(run.failures)
    yield "Run", os.path.realpath(run.folder)
    yield "Images", f"{scored + failed:,}: {scored:,} scored, {failed:,} failed; identities: {subset.identities:,}"
    yield "Subset SHA-256", subset.sha256
    count, skipped, taken = options["num_identities"], options["skip_identities"], options["samples_per_identity"]
    after = f" after {skipped:,}" * bool(skipped)
    strict = ", only among those with enough samples" * bool(options["strict"])
    drawn = options["random_identity_selection"]
    if drawn:
        yield "Identities", f"{subset.chosen:,} of {subset.available:,}, drawn{after}{strict}"
    else:
        first = "all" if count is None and not skipped else f"the first {subset.chosen:,} by name{after}{strict}, of"
        yield "Identities", f"{first} {subset.available:,}"
    most = "up to " * bool(options["allow_insufficient_samples"])
    yield "Samples", f"{most}{taken:,} of each identity, drawn" if taken else "all of each identity"
    unused = " (none was drawn)"
    of_samples = f"{seeds['sample_selection']} of samples{unused * (not taken)}"
    yield "Seeds", f"{of_samples}, {seeds['identity_selection']} of identities{unused * (not drawn)}"
    yield "Data set", manifest.data_set["place"]
    yield "Backbone", f"{manifest.backbone['name']}, {manifest.weights or 'weights of its own'}"
    yield "Weights SHA-256", manifest.weights_sha256
    given = manifest.preprocessing
    size = "x".join(map(str, given["size"]))
    mean, std = (" ".join(map(str, given[name])) for name in ("mean", "std"))
    yield "Preprocessing", f"{size} {str(given['channel_order']).upper()}, mean {mean}, std {std}; {given['resize']}"
    alignment = given["alignment"]
    yield (
        "Alignment",
        "none: images count as aligned crops"
        if alignment is None
        else f"{alignment.get('detector', 'landmarks')}, SHA-256 {alignment['sha256']}",
    )
    norms = manifest.backbone["norms"]
    yield "Norms", f"{options['norms']}: BatchNorm2d that see maps {norms['maps']}, single pixels {norms['pixels']}"
    kept = f", gradients as {options['gradient_dtype']}" if manifest.dumps else ", no gradients kept"
    embedded = ", with embeddings" + " of both mirrorings" * bool(options["flip"]) if manifest.embeds else ""
    yield "Measured at", ", ".join(manifest.layers) + kept + embedded
    last = manifest.environments[-1]
    versions = f"grafiqs {last.get('grafiqs', '')}, PyTorch {last.get('torch', '')}"
    yield "Computed", f"{last.get('engine', '')} in {manifest.precision}, on {last.get('device', '')}; {versions}"
    yield "Direction", manifest.better
    yield "Reference", "none: scores have no qualities" if run.reference is None else run.reference.said()
    yield "Scores SHA-256", sha256(run.folder / SCORES)
