"""Measure a backbone on drawn people whom its training never saw, and print Markdown tables for its model card.

    .venv/bin/python training/evaluate.py --weights demo_backbone.safetensors --json evaluation.json
    .venv/bin/python training/evaluate.py --weights demo_backbone.safetensors --check    (exit code 1 if it misses)

Three tables: how well it verifies undegraded faces; how well the scores follow each degradation; and what
discarding by score does to verification, half of the faces being degraded. Deterministic on one machine.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from drawing import EVALUATION_SEED, Request, draw, positive
from grafiqs import RequestError
from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.checkpoint import Checkpoint, load_checkpoint
from grafiqs.compute import devices
from grafiqs.demo.degrade import KINDS, Degradation
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.images.tensors import normalise
from grafiqs.workers import processors

BATCH_SIZE = 32
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""The strengths of each degradation in the table of the scores."""
STRONG = 0.6
"""From this strength on, a degraded face should score above its clean version."""
DISCARD_FMR = 1e-2
"""The false match rate at which the threshold of the discard test is fixed."""
RESAMPLES = 200
"""Draws of the bootstrap."""

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A figure, and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Response:
    """How the score at one layer follows one degradation."""

    spearman: float
    above_clean: float


@dataclass(frozen=True)
class Discard:
    """The share of genuine pairs that do not match, before and after half of the pairs are discarded."""

    undiscarded: float
    random: float
    ideal: float
    layers: dict[str, float]


@dataclass(frozen=True)
class Results:
    """All that is measured."""

    verification: dict[str, Estimate]
    quality: dict[str, dict[str, Response]]
    discard: Discard


def main() -> None:
    """Measure, print, and check if asked."""
    options = parsed()
    torch.set_num_threads(options.threads)
    checkpoint = unseen_by_training(options.weights, options.seed)
    with devices.arithmetic():
        results = measured(devices.placed(checkpoint.network, torch.device("cpu")), options)
    print_tables(results, options, checkpoint)
    if options.json is not None:
        origin = {"weights": options.weights.name, "sha256": checkpoint.sha256, "seed": options.seed}
        sizes = {name: getattr(options, name) for name in ("identities", "faces", "quality_faces")}
        figures = {**origin, **sizes, **devices.environment(torch.device("cpu")), **asdict(results)}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.check and (found := misses(results)):
        raise SystemExit("\n".join(found))


def parsed() -> argparse.Namespace:
    """The options, or the end of the program if they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=EVALUATION_SEED, help="of identities and degradations (default 2)")
    parser.add_argument("--identities", type=positive, default=200)
    parser.add_argument(
        "--faces", type=positive, default=12, help="of each identity, to verify and discard (default 12)"
    )
    parser.add_argument(
        "--quality-faces",
        type=positive,
        default=1,
        help="of each identity, at every strength of every kind (default 1)",
    )
    parser.add_argument("--threads", type=positive, default=1, help="of PyTorch (default 1)")
    parser.add_argument(
        "--processes", type=positive, default=processors.usable(), help="that draw (default: one per core)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a promised figure is missed")
    options = parser.parse_args()
    if min(options.identities, options.faces) < 2 or options.quality_faces < 1:
        parser.error("two identities of two faces are the least, and one of --quality-faces")
    return options


def unseen_by_training(path: Path, seed: int) -> Checkpoint:
    """The network of `path`, if it was not trained on the identities of `seed`; train.py writes its seed into it."""
    try:
        checkpoint = load_checkpoint(path)
    except RequestError as error:
        raise SystemExit(str(error)) from None
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, "pt") as file:
            trained = (file.metadata() or {}).get("training_seed")
        if trained == str(seed):
            raise SystemExit(f"{path} was trained on the identities of seed {seed}: give another --seed")
    return checkpoint


def measured(network: Backbone, options: argparse.Namespace) -> Results:
    """The figures of all three tables."""
    identities, count = options.identities, options.faces
    faces = draw(options.seed, [[(sample, None) for sample in range(count)]] * identities, options.processes)
    clean = embeddings(network, faces)
    verification = with_intervals(Comparisons.of(clean, count), identities, options.seed)

    requests = [quality_requests(options.quality_faces)] * identities
    versions = draw(options.seed, requests, options.processes)
    per_face = quality_scores(network, versions).reshape(identities * options.quality_faces, -1, len(LAYERS))
    quality = responses(per_face)

    spoiled = half_degraded(identities, count, options.seed)
    rows = [number * count + sample for number, wanted in enumerate(spoiled) for sample, _ in wanted]
    faces[rows] = draw(options.seed, spoiled, options.processes)
    clean[rows] = embeddings(network, faces[rows])  # from here on half of the faces are degraded
    discard = discarded(clean, quality_scores(network, faces), count, options.seed)
    return Results(verification, quality, discard)


# The network


def batches(faces: NDArray[np.uint8], what: str) -> Iterator[Tensor]:
    """(N, 112, 112, 3) RGB -> the network's inputs (B, 3, 112, 112)."""
    for start in tqdm(range(0, len(faces), BATCH_SIZE), unit="batch", desc=what):
        yield normalise(torch.from_numpy(faces[start : start + BATCH_SIZE]).permute(0, 3, 1, 2))


def embeddings(network: Backbone, faces: NDArray[np.uint8]) -> Floats:
    """(N, 112, 112, 3) -> (N, embedding size), each of length 1."""
    with torch.inference_mode():
        found = torch.cat([network(batch) for batch in batches(faces, "embed")])
        return torch.nn.functional.normalize(found).numpy()


def quality_scores(network: Backbone, faces: NDArray[np.uint8]) -> Floats:
    """(N, 112, 112, 3) -> (N, layers), lower is higher quality."""
    found = [
        torch.stack([gradient_scores(gradient) for gradient in image_gradients(network, batch).values()], dim=1)
        for batch in batches(faces, "score")
    ]
    return torch.cat(found).numpy()


# Verification


@dataclass(frozen=True)
class Comparisons:
    """The similarities of all pairs of faces.

    `genuine` rises, and `identity` tells whose each pair is; `impostor` falls, and `two_identities` (2, impostors)
    tells whose. `tied` is the last genuine pair that is as similar as each, `above` how many impostors are more so.
    """

    genuine: Floats
    identity: Integers
    impostor: Floats
    two_identities: Integers
    tied: Integers
    above: Integers

    @classmethod
    def of(cls, faces: Floats, per_identity: int) -> Comparisons:
        """Compare every two of the embeddings, which stand identity after identity."""
        similarity, pairs = compared(faces)
        first, second = pairs // per_identity
        same = first == second
        genuine, impostor = similarity[same], similarity[~same]
        rising, falling = np.argsort(genuine, kind="stable"), np.argsort(-impostor, kind="stable")
        genuine, impostor = genuine[rising], impostor[falling]
        return cls(
            genuine,
            first[same][rising],
            impostor,
            np.stack([first[~same][falling], second[~same][falling]]),
            np.searchsorted(genuine, genuine, side="right") - 1,
            np.searchsorted(-impostor, -genuine, side="left"),
        )


def compared(faces: Floats) -> tuple[Floats, Integers]:
    """The cosine of every two embeddings, and (2, pairs) the rows of the two."""
    pairs = np.stack(np.triu_indices(len(faces), 1))
    return (faces @ faces.T)[pairs[0], pairs[1]], pairs


def threshold(impostor: Floats, fmr: float, counts: Integers | None = None) -> float:
    """T at a false match rate: more similar than T is a match.

    T is the (floor(fmr x impostors) + 1)-th highest impostor. `impostor` falls; `counts` (impostors + 1) are how many
    stand before each, if a pair counts several times or not at all.
    """
    if counts is None:
        counts = np.arange(len(impostor) + 1)
    place = math.floor(fmr * int(counts[-1])) + 1
    return float(impostor[np.searchsorted(counts, place) - 1])


def error_rates(comparisons: Comparisons, weights: Integers) -> dict[str, float]:
    """EER and FNMR when each identity is there `weights` times.

    FMR falls and FNMR rises in steps with the threshold; the EER is where the two lines of steps cross: at the
    first genuine similarity where FNMR >= FMR, the FMR there, or the FNMR before it if that is higher.
    """
    first, second = comparisons.two_identities
    genuine = np.cumsum(weights[comparisons.identity])
    impostor = np.concatenate([[0], np.cumsum(weights[first] * weights[second])])
    missed = genuine[comparisons.tied] / genuine[-1]
    accepted = impostor[comparisons.above] / impostor[-1]
    crossing = int(np.argmax(missed >= accepted))
    before = missed[crossing - 1] if crossing else 0.0
    rates = {"EER": float(max(before, accepted[crossing]))}
    for fmr in (1e-3, 1e-2):
        limit = threshold(comparisons.impostor, fmr, impostor)
        misses = np.searchsorted(comparisons.genuine, limit, side="right")
        rates[f"FNMR at FMR {fmr:g}"] = float(genuine[misses - 1] / genuine[-1]) if misses else 0.0
    return rates


def with_intervals(comparisons: Comparisons, identities: int, seed: int) -> dict[str, Estimate]:
    """The error rates with percentile intervals of a bootstrap over identities, from all pairs.

    An identity that is drawn twice brings its genuine pairs twice, and no impostor pairs with itself.
    """
    random = np.random.default_rng(seed)
    everyone = error_rates(comparisons, np.ones(identities, np.int64))
    draws = [
        error_rates(comparisons, np.bincount(random.integers(0, identities, identities), minlength=identities))
        for _ in tqdm(range(RESAMPLES), unit="resample", desc="bootstrap")
    ]
    intervals = {name: np.percentile([rates[name] for rates in draws], (2.5, 97.5)) for name in everyone}
    return {name: Estimate(value, *map(float, intervals[name])) for name, value in everyone.items()}


# Quality


def quality_requests(faces: int) -> list[Request]:
    """Of one identity: each face clean, and then at every strength of every kind."""
    versions = [None, *(Degradation(kind, level) for kind in KINDS for level in LEVELS)]
    return [(sample, version) for sample in range(faces) for version in versions]


def responses(scores: Floats) -> dict[str, dict[str, Response]]:
    """(faces, 1 + kinds x levels, layers) -> by kind, by layer."""
    clean = scores[:, :1]
    found = {}
    for place, kind in enumerate(KINDS):
        start = 1 + place * len(LEVELS)
        degraded = scores[:, start : start + len(LEVELS)]
        strength = np.tile((0.0, *LEVELS), (len(scores), 1)).ravel()
        every = np.concatenate([clean, degraded], axis=1)
        strong = degraded[:, [level >= STRONG for level in LEVELS]]
        found[kind] = {
            layer: Response(
                spearman(strength, every[:, :, index].ravel()),
                float((strong[:, :, index] > clean[:, :, index]).mean()),
            )
            for index, layer in enumerate(LAYERS)
        }
    return found


def spearman(a: Floats, b: Floats) -> float:
    """The rank correlation of a and b."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def ranks(values: Floats) -> Floats:
    """The place of each value in their order; equal ones share their average."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


# Discarding


def half_degraded(identities: int, faces: int, seed: int) -> list[list[Request]]:
    """For each identity, the half of its samples that are degraded: every kind equally often, strengths 0.2 to 1."""
    random = np.random.default_rng(seed)
    half = faces // 2
    kinds = random.permutation(np.arange(identities * half) % len(KINDS)).reshape(identities, half)
    strengths = random.uniform(LEVELS[0], LEVELS[-1], (identities, half))
    samples = [random.permutation(faces)[:half] for _ in range(identities)]
    names = tuple(KINDS)
    return [
        [
            (int(sample), Degradation(names[kind], float(strength)))
            for sample, kind, strength in zip(samples[number], kinds[number], strengths[number], strict=True)
        ]
        for number in range(identities)
    ]


def discarded(faces: Floats, scores: Floats, per_identity: int, seed: int) -> Discard:
    """FNMR of the better half of the genuine pairs, by layer; a pair is as bad as the worse of its two faces."""
    similarity, pairs = compared(faces)
    first, second = pairs // per_identity
    same = first == second
    limit = threshold(np.sort(similarity[~same])[::-1], DISCARD_FMR)
    missed = similarity[same] <= limit
    worse = np.maximum(scores[pairs[0, same]], scores[pairs[1, same]])
    kept = len(missed) - len(missed) // 2

    def rate(order: Integers) -> float:
        return float(missed[order[:kept]].mean())

    return Discard(
        undiscarded=float(missed.mean()),
        random=rate(np.random.default_rng(seed).permutation(len(missed))),
        ideal=rate(np.argsort(missed, kind="stable")),
        layers={layer: rate(np.argsort(worse[:, place], kind="stable")) for place, layer in enumerate(LAYERS)},
    )


# What is printed


def print_tables(results: Results, options: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """The figures as Markdown."""
    people, faces = options.identities, options.faces
    genuine = people * faces * (faces - 1) // 2
    impostors = people * (people - 1) // 2 * faces**2
    print(f"{options.weights.name}, SHA-256 {checkpoint.sha256}; drawn faces, seed {options.seed}.\n")
    print(
        f"**Verification** of undegraded faces: {people} identities, {faces} faces each, {genuine:,} genuine and "
        f"{impostors:,} impostor pairs; intervals: {RESAMPLES} bootstrap draws of identities.\n"
    )
    rows = [[name, *(f"{x:.2%}" for x in (e.value, e.low, e.high))] for name, e in results.verification.items()]
    print(table(["", "value", "95 % from", "to"], rows))
    shown = people * options.quality_faces
    print(
        f"**Scores and strength** of {shown} faces ({options.quality_faces} of each identity): Spearman correlation "
        f"over the strengths 0 (clean) and {', '.join(map(str, LEVELS))}; in brackets the share that scores above its "
        f"own clean version at {STRONG} and stronger.\n"
    )
    quality = [
        [kind, *(f"{layer.spearman:.2f} ({layer.above_clean:.0%})" for layer in layers.values())]
        for kind, layers in results.quality.items()
    ]
    print(table(["", *LAYERS], quality))
    discard = results.discard
    print(
        f"**Discarding** half of the genuine pairs, {faces // 2} of {faces} faces of each identity being degraded "
        f"(all kinds equally, strengths {LEVELS[0]} to {LEVELS[-1]}): FNMR at the threshold of FMR {DISCARD_FMR:g}, "
        "fixed before; a pair is as bad as its worse face.\n"
    )
    rates = {"none discarded": discard.undiscarded, "at random": discard.random, **discard.layers}
    print(table(["by", "FNMR"], [[name, f"{rate:.2%}"] for name, rate in {**rates, "ideal": discard.ideal}.items()]))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: names at the left, figures at the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def misses(results: Results) -> list[str]:
    """What of the promised figures is not reached."""
    verification, block4 = results.verification, {kind: layers["block4"] for kind, layers in results.quality.items()}
    at_most = [
        ("EER", verification["EER"].value, 0.005),
        ("FNMR at FMR 0.001", verification["FNMR at FMR 0.001"].value, 0.01),
        ("FNMR after discarding by block4", results.discard.layers["block4"], results.discard.undiscarded / 2),
    ]
    at_least = [
        *(
            (f"Spearman of {kind} at block4", block4[kind].spearman, limit)
            for kind, limit in (("blur", 0.65), ("darkness", 0.75), ("low_resolution", 0.55))
        ),
        *(
            (f"share of {kind} above clean at block4", block4[kind].above_clean, 0.8)
            for kind in ("blur", "darkness", "low_resolution", "covered_eyes")
        ),
    ]
    # Written so that a figure that is not a number misses.
    return [f"{name}: {value:.4f}, not {limit:.4f} or less" for name, value, limit in at_most if not value <= limit] + [
        f"{name}: {value:.4f}, not {limit:.4f} or more" for name, value, limit in at_least if not value >= limit
    ]


if __name__ == "__main__":
    main()
