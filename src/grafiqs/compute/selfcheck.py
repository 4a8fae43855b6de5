"""Proof, at the start of every run, that what computes it agrees with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from grafiqs.backbones.catalogue import LAYERS
from grafiqs.compute.computer import Computed, Computer

GRADIENTS = {"float64": (2e-2, 1e-4), "float32": (2e-2, 1e-4), "tf32": (0.2, 2e-2), "bfloat16": (0.3, 5e-2)}
"""The largest relative L2 difference of any image's gradient, by precision: before block4, and there.

Before block4 it allows for inputs of a PReLU that rounding carries across its kink, where a gradient jumps
(docs/method.md); the gradient at block4 passes none.
"""

SCORES = {"float64": 1e-3, "float32": 1e-3, "tf32": 5e-3, "bfloat16": 5e-3}
"""The largest relative difference of any image's score, by precision."""


EMBEDDINGS = {"float64": 1e-3, "float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}
"""The largest relative L2 difference of any image's embedding, by precision."""


@dataclass(frozen=True)
class Differences:
    """How far two ways of computing lie apart: the largest relative difference of any of the images, by layer."""

    images: int
    gradients: dict[str, float]
    scores: dict[str, float]
    embeddings: float | None = None

    @classmethod
    def none(cls, scores: Sequence[str]) -> Differences:
        """No images, and no differences."""
        return cls(0, {name: 0.0 for name in scores if name in LAYERS}, dict.fromkeys(scores, 0.0))

    def and_those(self, others: Differences) -> Differences:
        """The same of these images and others; what is not a number is larger than all."""
        embeddings = [value for value in (self.embeddings, others.embeddings) if value is not None]
        return Differences(
            self.images + others.images,
            {layer: float(np.maximum(value, others.gradients[layer])) for layer, value in self.gradients.items()},
            {layer: float(np.maximum(value, others.scores[layer])) for layer, value in self.scores.items()},
            float(np.max(embeddings)) if embeddings else None,
        )

    def beyond(self, precision: str) -> list[str]:
        """What lies farther apart than `precision` allows, in words."""
        before, last = GRADIENTS[precision]
        gradients = ((layer, value, last if layer == "block4" else before) for layer, value in self.gradients.items())
        limits = [
            *((f"the gradient at {layer}", value, limit) for layer, value, limit in gradients),
            *((f"the score {name}", value, SCORES[precision]) for name, value in self.scores.items()),
            ("the embedding", self.embeddings or 0.0, EMBEDDINGS[precision]),
        ]
        return [f"{what} by {value:.2g}" for what, value, limit in limits if not value <= limit]


def differences(
    found: Computed, places: Sequence[int], pixels: Tensor, reference: Computer, scores: Sequence[str]
) -> Differences:
    """How far the images at these places of a computed batch lie from what `reference` computes of them.

    `pixels` (N, 3, H, W) uint8 are those images, in the order of the places. They are compared a few at a time, as many
    as the reference computes at once. A gradient's difference is relative to its L2 norm. An image whose score is not
    finite by the reference is left out.
    """
    seen = Differences.none(scores)
    for start in range(0, len(places), reference.batch_size):
        some = torch.tensor(places[start : start + reference.batch_size])
        batch = reference.blank()
        batch[: len(some)] = pixels[start : start + len(some)]
        expected = reference(batch)
        expected.wait()
        row = expected.scores[: len(some)].isfinite().all(dim=1).nonzero().flatten()
        seen = seen.and_those(_compared(found, some[row], expected, row, scores))
    return seen


def _compared(found: Computed, place: Tensor, expected: Computed, row: Tensor, scores: Sequence[str]) -> Differences:
    """How far the images at these places lie from the rows of what is expected."""
    gradients = {
        layer: _largest(found.gradients[layer][place].flatten(1), expected.gradients[layer][row].flatten(1))
        for layer in scores
        if layer in LAYERS
    }
    of_scores = {
        name: _largest(found.scores[place, column, None], expected.scores[row, column, None])
        for column, name in enumerate(scores)
    }
    embeddings = None
    if found.embeddings is not None and expected.embeddings is not None:
        embeddings = _largest(found.embeddings[place], expected.embeddings[row])
    return Differences(len(row), gradients, of_scores, embeddings)


def _largest(found: Tensor, expected: Tensor) -> float:
    """The largest relative L2 difference of any row; 0 if both are the same, zeros included."""
    norm = partial(torch.linalg.vector_norm, dim=1, dtype=torch.float64)
    relative = norm(found - expected) / norm(expected)
    relative[(found == expected).all(dim=1)] = 0
    return float(relative.amax()) if len(relative) else 0.0
