"""The science: per-image gradients of the batch-normalisation-statistics loss, and their scores.

Source: Kolf, Damer, Boutros, "GraFIQs: Face Image Quality Assessment Using Gradient Magnitudes",
CVPRW 2024, arXiv 2404.12203. docs/method.md sets formula and code side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from grafiqs.backbones.catalogue import LAYERS


class Backbone(Protocol):
    """A face recognition network whose forward pass can be cut at every layer."""

    def steps(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """One step from each layer of LAYERS to the next; the last ends at the last BatchNorm2d."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Every module of the network."""
        ...


def statistics_loss(u: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """How far each image's channel statistics lie from those that `norm` learned.

    u (B, C, H, W) is the input of `norm`. Returns (B,):
    mean_c (mu - M)^2 + mean_c (v - V)^2, with mu and the biased variance v taken over H, W of each image.
    """
    learned_mean, learned_variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    variance, mean = torch.var_mean(u, dim=(2, 3), correction=0)
    return (mean - learned_mean).square().mean(1) + (variance - learned_variance).square().mean(1)


@contextmanager
def _losses(norms: Sequence[nn.BatchNorm2d]) -> Iterator[list[Tensor]]:
    """Collect the statistics loss (B,) of every norm that runs inside the block."""
    terms: list[Tensor] = []

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        terms.append(statistics_loss(inputs[0], cast(nn.BatchNorm2d, norm)))

    hooks = [norm.register_forward_pre_hook(collect) for norm in norms]
    try:
        yield terms
    finally:
        for hook in hooks:
            hook.remove()


def image_gradients(backbone: Backbone, images: Tensor, layers: Sequence[str] = LAYERS) -> dict[str, Tensor]:
    """The gradient of each image's own loss at each of `layers`.

    `images` (B, 3, 112, 112) are preprocessed (see `grafiqs.images.normalise`), of the backbone's dtype and
    device; the backbone is in eval mode with frozen weights, as `load_backbone` returns it.
    Returns {layer: (B, C, H, W)} in the order of `layers`.

    The loss of one image is L = (1/K) sum_k statistics_loss_k over the network's K BatchNorm2d. In eval mode
    nothing couples the images of a batch, so one backward pass of the summed losses gives every image its own
    gradient. A gradient depends only on what comes after its layer: what lies before the first of `layers`
    runs without a graph and without statistics.
    """
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    first = min(LAYERS.index(layer) for layer in layers)
    steps = backbone.steps()
    with torch.no_grad():
        x = images
        for step in steps[:first]:
            x = step(x)
    activations: dict[str, Tensor] = {}
    with torch.enable_grad(), _losses(norms) as terms:
        x = x.detach().requires_grad_()
        for layer, step in zip(LAYERS[first:], steps[first:], strict=True):
            activations[layer] = x
            x = step(x)
        loss = torch.stack(terms).sum() / len(norms)
        found = torch.autograd.grad(loss, [activations[layer] for layer in layers])
    return dict(zip(layers, found, strict=True))


def gradient_scores(gradient: Tensor) -> Tensor:
    """The score of each image at one layer: sum |gradient|; (B, C, H, W) -> (B,) float64, lower is higher quality.

    Source: GraFIQs, CVPRW 2024, section 3: the absolute sum of the gradient magnitudes.
    """
    return gradient.abs().sum(dim=(1, 2, 3), dtype=torch.float64)
