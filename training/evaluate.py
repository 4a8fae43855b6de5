"""Measure a backbone on drawn people whom its training never saw, and print what its model card says.

    .venv/bin/python training/evaluate.py --weights demo_backbone.safetensors --json evaluation.json
    .venv/bin/python training/evaluate.py --weights demo_backbone.safetensors --check    (exit code 1 if it misses)

Verification of undegraded faces, and what discarding by score does when half of them are degraded, are what `grafiqs
draw-faces`, `extract` and `evaluate` print of them. Then a table of how well the scores follow each degradation.
Deterministic on one machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
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
from grafiqs import Options, RequestError, draw_faces, extract_gradients
from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.checkpoint import Checkpoint, load_checkpoint
from grafiqs.compute import devices
from grafiqs.demo.degrade import KINDS, Degradation
from grafiqs.evaluate import EvaluateOptions, Evaluation, evaluate
from grafiqs.evaluation.written import lines
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.images.tensors import normalise
from grafiqs.options.draw import DrawOptions
from grafiqs.workers import processors

BATCH_SIZE = 32
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""The strengths of each degradation in the table of the scores."""
STRONG = 0.6
"""From this strength on, a degraded face should score above its clean version."""
FMRS = (1e-2, 1e-3)
"""The false match rates at which thresholds are fixed."""
X_MAX = (0.2, 0.3, 0.5)
"""Up to which share discarded areas are taken."""

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Response:
    """How the score at one layer follows one degradation."""

    spearman: float
    above_clean: float


@dataclass(frozen=True)
class Results:
    """All that is measured."""

    verification: Evaluation
    discard: Evaluation
    quality: dict[str, dict[str, Response]]


def main() -> None:
    """Measure, print, and check if asked."""
    options = parsed()
    torch.set_num_threads(options.threads)
    checkpoint = unseen_by_training(options.weights, options.seed)
    results = measured(checkpoint.network, options)
    print_tables(results, options, checkpoint)
    if options.json is not None:
        origin = {"weights": options.weights.name, "sha256": checkpoint.sha256, "seed": options.seed}
        sizes = {name: getattr(options, name) for name in ("identities", "faces", "quality_faces")}
        parts = {"verification": results.verification.to_json(), "discard": results.discard.to_json()}
        quality = {kind: {layer: asdict(found) for layer, found in by.items()} for kind, by in results.quality.items()}
        figures = {**origin, **sizes, **devices.environment(torch.device("cpu")), **parts, "quality": quality}
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
    """The figures of all three parts."""
    with tempfile.TemporaryDirectory() as folder:
        verification, discard = (evaluated(options, Path(folder) / f"{share}", share) for share in (0.0, 0.5))
    requests = [quality_requests(options.quality_faces)] * options.identities
    versions = draw(options.seed, requests, options.processes)
    with devices.arithmetic():
        scores = quality_scores(devices.placed(network, torch.device("cpu")), versions)
    per_face = scores.reshape(options.identities * options.quality_faces, -1, len(LAYERS))
    return Results(verification, discard, responses(per_face))


def evaluated(options: argparse.Namespace, folder: Path, degraded: float) -> Evaluation:
    """What the commands make of drawn faces, of which a share is degraded."""
    faces, run = folder / "faces", folder / "run"
    draw_faces(
        DrawOptions(
            output=faces,
            identities=options.identities,
            samples_per_identity=options.faces,
            degraded=degraded,
            seed=options.seed,
            quiet=True,
        )
    )
    extract_gradients(
        Options(
            image_path=faces,
            weights=options.weights,
            embeddings=True,
            dump_gradients=False,
            output_dir=run,
            device="cpu",
            quiet=True,
        )
    )
    return evaluate(EvaluateOptions(scores=(str(run),), fmr=FMRS, x_max=X_MAX, quiet=True))


# The network


def batches(faces: NDArray[np.uint8], what: str) -> Iterator[Tensor]:
    """(N, 112, 112, 3) RGB -> the network's inputs (B, 3, 112, 112)."""
    for start in tqdm(range(0, len(faces), BATCH_SIZE), unit="batch", desc=what):
        yield normalise(torch.from_numpy(faces[start : start + BATCH_SIZE]).permute(0, 3, 1, 2))


def quality_scores(network: Backbone, faces: NDArray[np.uint8]) -> Floats:
    """(N, 112, 112, 3) -> (N, layers), lower is higher quality."""
    found = [
        torch.stack([gradient_scores(gradient) for gradient in image_gradients(network, batch).values()], dim=1)
        for batch in batches(faces, "score")
    ]
    return torch.cat(found).numpy()


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


# What is printed


def print_tables(results: Results, options: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """The figures as Markdown."""
    print(f"{options.weights.name}, SHA-256 {checkpoint.sha256}; drawn faces, seed {options.seed}.")
    for name, found in (("Verification, undegraded", results.verification), ("Half degraded", results.discard)):
        print(f"\n### {name}\n\n{found.about['comparisons']}\n\n```")
        print(*lines(found), sep="\n")
        print("```")
    shown = options.identities * options.quality_faces
    print(
        f"\n**Scores and strength** of {shown} faces ({options.quality_faces} of each identity): Spearman correlation "
        f"over the strengths 0 (clean) and {', '.join(map(str, LEVELS))}; in brackets the share that scores above its "
        f"own clean version at {STRONG} and stronger.\n"
    )
    quality = [
        [kind, *(f"{layer.spearman:.2f} ({layer.above_clean:.0%})" for layer in layers.values())]
        for kind, layers in results.quality.items()
    ]
    print(table(["", *LAYERS], quality))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: names at the left, figures at the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def misses(results: Results) -> list[str]:
    """What of the promised figures is not reached."""
    block4 = {kind: layers["block4"] for kind, layers in results.quality.items()}
    verified, half = results.verification, results.discard
    (strict,) = verified.of(verified.results, verified.targets()[1], quality="block4", error="fnmr", x_max=X_MAX[0])
    (last,) = half.of(half.results, half.targets()[0], quality="block4", error="fnmr", x_max=X_MAX[-1])
    at_most = [
        ("EER", verified.about["eer"], 0.005),
        ("FNMR at FMR 0.001", strict["e0"], 0.01),
        ("area of block4 up to half, its interval's upper end", last["ci_high"], 0.8),
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
