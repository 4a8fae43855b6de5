"""Proof, at the start of every run, that what computes it agrees with the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grafiqs.computer import Computed, Computer

IMAGES = 8
"""The most images that both compute."""

GRADIENTS = {
    "float32": {"image": 2e-2, "block1": 2e-2, "block2": 2e-2, "block3": 2e-2, "block4": 1e-4},
    "tf32": {"image": 0.2, "block1": 0.2, "block2": 0.2, "block3": 0.2, "block4": 2e-2},
    "bfloat16": {"image": 0.3, "block1": 0.3, "block2": 0.3, "block3": 0.3, "block4": 5e-2},
}
"""The largest relative L2 difference of any image's gradient, by precision and layer.

Before block4 it allows for inputs of a PReLU that rounding carries across its kink, where a gradient jumps
(docs/method.md); the gradient at block4 passes none.
"""

SCORES = {"float32": 1e-3, "tf32": 5e-3, "bfloat16": 5e-3}
"""The largest relative difference of any image's score, by precision."""


EMBEDDINGS = {"float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}
"""The largest relative L2 difference of any image's embedding, by precision."""


@dataclass(frozen=True)
class Differences:
    """How far two ways of computing lie apart: the largest relative difference of any of the images, by layer."""

    images: int
    gradients: dict[str, float]
    scores: dict[str, float]
    embeddings: float | None = None

    def beyond(self, precision: str) -> list[str]:
        """What lies farther apart than `precision` allows, in words."""
        limits = [
            *(
                (f"the gradient at {layer}", value, GRADIENTS[precision][layer])
                for layer, value in self.gradients.items()
            ),
            *((f"the score at {layer}", value, SCORES[precision]) for layer, value in self.scores.items()),
            ("the embedding", self.embeddings or 0.0, EMBEDDINGS[precision]),
        ]
        return [f"{what} by {value:.2g}" for what, value, limit in limits if not value <= limit]


def differences(fast: Computer, reference: Computer, pixels: Tensor) -> Differences:
    """How far `fast` lies from `reference` on the same images, uint8 (N, 3, H, W), N at most the batch of either.

    The images are repeated until they fill the batch, so that every place in it is looked at. A gradient's difference
    is relative to its L2 norm. An image whose score is not finite by the reference is left out.
    """
    found, expected = (_computed(computer, pixels) for computer in (fast, reference))
    finite = expected.scores[: len(pixels)].isfinite().all(dim=1)
    image = torch.arange(fast.batch_size) % len(pixels)
    place = finite[image].nonzero().flatten()
    image = image[place]
    gradients = {
        layer: _largest(found.gradients[layer][place].flatten(1), expected.gradients[layer][image].flatten(1))
        for layer in fast.layers
    }
    scores = {
        layer: _largest(found.scores[place, column, None], expected.scores[image, column, None])
        for column, layer in enumerate(fast.layers)
    }
    embeddings = None
    if found.embeddings is not None and expected.embeddings is not None:
        embeddings = _largest(found.embeddings[place], expected.embeddings[image])
    return Differences(int(finite.sum()), gradients, scores, embeddings)


def _computed(computer: Computer, pixels: Tensor) -> Computed:
    """What a batch full of these images comes to."""
    batch = computer.blank()
    batch[:] = pixels[torch.arange(computer.batch_size) % len(pixels)]
    computed = computer(batch)
    computed.wait()
    return computed


def _largest(found: Tensor, expected: Tensor) -> float:
    """The largest relative L2 difference of any row; none where both are the same, zeros among them."""
    found, expected = found.double(), expected.double()
    relative = (found - expected).norm(dim=1) / expected.norm(dim=1)
    relative[(found == expected).all(dim=1)] = 0
    return float(relative.amax()) if len(relative) else 0.0
