"""The science: the batch-normalisation-statistics loss of each image, its gradients, and their scores.

Source: Kolf, Damer, Boutros, "GraFIQs: Face Image Quality Assessment Using Gradient Magnitudes",
CVPRW 2024, arXiv 2404.12203. docs/method.md sets formula and code side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone, sees_one_pixel, watched
from grafiqs.backbones.catalogue import LAYERS


def statistics_loss(u: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """How far each image's channel statistics lie from those that `norm` learned.

    u (B, C, H, W) is the input of `norm`. Returns (B,):
    mean_c (mu - M)^2 + mean_c (v - V)^2, with mu and the biased variance v taken over H, W of each image.
    """
    learned_mean, learned_variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    variance, mean = torch.var_mean(u, dim=(2, 3), correction=0)
    return (mean - learned_mean).square().mean(1) + (variance - learned_variance).square().mean(1)


class _Pass:
    """One forward pass: the activations at the layers from `first` on, if any, and the loss of all that comes after it.

    With `losses`, the whole loss of each image is kept, too.
    """

    def __init__(self, first: str | None, norms: str, losses: bool = False, copies: bool = False) -> None:
        self._all = norms == "all"
        self._whole = losses
        self._copies = copies
        self._layers = () if first is None else LAYERS[LAYERS.index(first) :]
        self.activations: dict[str, Tensor] = {}
        self.reached: tuple[str, ...] = ()
        """The layers that a BatchNorm2d which counts comes after: the others have no gradient."""
        self.features = torch.empty(0)
        """What the trunk gives."""
        self.losses: Tensor | None = None
        """The whole loss of each image (B,) float64."""
        self._terms: list[Tensor] = []
        self._norms = 0

    def run(self, backbone: Backbone, images: Tensor) -> Tensor:
        """Returns the losses of all images, summed, of which gradients are taken.

        What lies before the first layer runs without a graph, and cannot depend on it: its statistics are taken for
        `losses` alone.
        """
        with watched(backbone, self._keep, self._measure), torch.no_grad():
            image = self._keep("image", images)
            self.features = backbone.trunk(images.clone() if image is None else image)
            terms = torch.stack(self._terms or [images.new_zeros(len(images))])
            if self._whole:
                self.losses = terms.detach().sum(0, dtype=torch.float64) / max(1, self._norms)
            return terms.sum() / max(1, self._norms)

    def _measure(self, norm: nn.Module, u: Tensor) -> Tensor | None:
        """Returns a copy for the norm if the network may modify its input in place."""
        if not self._all and sees_one_pixel(u):
            return None
        self._norms += 1
        self.reached = tuple(self.activations)
        is_after = torch.is_grad_enabled()
        u = u.clone() if self._copies and is_after else u
        if is_after or self._whole:
            self._terms.append(statistics_loss(u, cast(nn.BatchNorm2d, norm)))
        return u if self._copies and is_after else None

    def _keep(self, layer: str, activation: Tensor) -> Tensor | None:
        """Keep an activation to differentiate by; returns a copy for the network, which may modify it in place."""
        if layer not in self._layers:
            return None
        if layer == self._layers[0]:
            torch.set_grad_enabled(True)  # from here on, to the end of the pass
            activation = activation.detach().requires_grad_()
        self.activations[layer] = activation
        return activation.clone()


def image_gradients(
    backbone: Backbone, images: Tensor, layers: Sequence[str] | None = None, norms: str = "maps"
) -> dict[str, Tensor]:
    """The gradient of each image's own loss at each of `layers`; at all that have one, if they are not given.

    `images` (B, 3, H, W) are preprocessed (see `grafiqs.images.tensors.normalise`), of the backbone's dtype and
    device; the backbone is in eval mode with frozen weights, as `load_checkpoint` returns it.
    Returns {layer: (B, C, H, W)} in the order of `layers`. Raises ValueError if one of them has no gradient.

    The loss of one image is L = (1/K) sum_k statistics_loss_k over the K BatchNorm2d that its forward pass meets: those
    that see maps of more than one pixel, or with `norms` "all" every one. In
    eval mode nothing couples the images of a batch, so one backward pass of the summed losses gives every image its own
    gradient. A gradient depends only on what comes after its layer: what lies before the first of `layers`
    runs without a graph and without statistics.

    >>> from pathlib import Path
    >>> from grafiqs import load_checkpoint
    >>> network = load_checkpoint(Path("weights.pth")).network
    >>> gradients = image_gradients(network, torch.zeros(2, 3, 112, 112), ["image", "block4"])
    >>> {layer: tuple(gradient.shape) for layer, gradient in gradients.items()}
    {'image': (2, 3, 112, 112), 'block4': (2, 64, 7, 7)}
    """
    return measured(backbone, images, layers, norms).gradients


def image_losses(backbone: Backbone, images: Tensor, norms: str = "maps") -> Tensor:
    """The loss L of each image, before any gradient, as a score: (B,) float64, lower is higher quality.

    `images`, backbone and `norms` are those of `image_gradients`. It costs a forward pass.

    >>> from pathlib import Path
    >>> from grafiqs import load_checkpoint
    >>> network = load_checkpoint(Path("weights.pth")).network
    >>> losses = image_losses(network, torch.zeros(2, 3, 112, 112))
    >>> losses.shape, losses.dtype, bool((losses > 0).all())
    (torch.Size([2]), torch.float64, True)
    """
    losses = measured(backbone, images, (), norms, losses=True).losses
    assert losses is not None  # noqa: S101 - asked for
    return losses


class Measured(NamedTuple):
    """What one pass gives: gradients (B, C, H, W) by layer, the losses (B,) float64 if asked for, and the features.

    The features are what the backbone's trunk gave, which its head embeds.
    """

    gradients: dict[str, Tensor]
    losses: Tensor | None
    features: Tensor


def measured(
    backbone: Backbone,
    images: Tensor,
    layers: Sequence[str] | None = None,
    norms: str = "maps",
    losses: bool = False,
) -> Measured:
    """`image_gradients`, and what else the same pass gives; forward alone if `layers` are none."""
    first = min(LAYERS if layers is None else layers, key=LAYERS.index, default=None)
    one_pass = _Pass(first, norms, losses, copies=not backbone.known)
    loss = one_pass.run(backbone, images)
    layers = one_pass.reached if layers is None else layers
    without = [layer for layer in layers if layer not in one_pass.reached]
    if without:
        raise ValueError(f"no BatchNorm2d that counts comes after {', '.join(without)}: there is no gradient")
    found = torch.autograd.grad(loss, [one_pass.activations[layer] for layer in layers]) if layers else ()
    return Measured(dict(zip(layers, found, strict=True)), one_pass.losses, one_pass.features.detach())


def gradient_scores(gradient: Tensor) -> Tensor:
    """The score of each image at one layer: sum |gradient|; (B, C, H, W) -> (B,) float64, lower is higher quality.

    Source: GraFIQs, CVPRW 2024, section 3: the absolute sum of the gradient magnitudes.

    >>> gradient_scores(torch.tensor([1.0, -2.0, 3.0, -4.0]).reshape(1, 1, 2, 2))
    tensor([10.], dtype=torch.float64)
    """
    return gradient.abs().sum(dim=(1, 2, 3), dtype=torch.float64)
