"""The slow, plain way to the gradients, which the fast way is held against.

One image at a time, float64, autograd with hooks on the network's own forward pass; it shares no code with
grafiqs.gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone

Branches = dict[str, Tensor]
"""For each PReLU of a network, by name: where its input (B, C, H, W) is taken as positive."""


@contextmanager
def recorded_branches(network: nn.Module) -> Iterator[Branches]:
    """Record which side of its kink every PReLU takes in the forward passes inside the block."""
    branches: Branches = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            branches[name] = arguments[0].detach() > 0

        return hook

    named = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.PReLU)]
    handles = [module.register_forward_pre_hook(record(name)) for name, module in named]
    yield branches
    for handle in handles:
        handle.remove()


def oracle_gradients(
    network: Backbone, images: Tensor, branches: Branches | None = None, norms: str = "maps"
) -> dict[str, Tensor]:
    """The gradient of each image's loss at the image and at the outputs of the four stages, in float64.

    PReLU has a kink at 0: where float32 rounds an input across it, the gradient jumps. `branches` makes the
    oracle take the sides that another pass took, so that what is left to compare is smooth. A layer without a gradient
    is left out; of the BatchNorm2d, those that see maps count, or with `norms` "all" every one.
    """
    network = copy.deepcopy(network).double().eval()
    found: dict[str, list[Tensor]] = {}
    for number, image in enumerate(images.double()):
        if branches is not None:
            _take(network, {name: side[number : number + 1] for name, side in branches.items()})
        for layer, gradient in _of_one(network, image[None], norms).items():
            found.setdefault(layer, []).append(gradient)
    return {layer: torch.cat(gradients) for layer, gradients in found.items()}


def oracle_losses(network: Backbone, images: Tensor, norms: str = "maps") -> Tensor:
    """The loss of each image (B,), in float64."""
    network = copy.deepcopy(network).double().eval()
    with torch.no_grad():
        return torch.stack([_loss_of_one(network, image[None], norms)[0] for image in images.double()])


def _take(network: nn.Module, branches: Branches) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.PReLU):
            module.forward = partial(_prelu, branches[name], module.weight.view(-1, 1, 1))  # type: ignore[method-assign]


def _prelu(side: Tensor, slope: Tensor, x: Tensor) -> Tensor:
    return torch.where(side, x, slope * x)


def _loss_of_one(network: Backbone, image: Tensor, norms: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one image, and the outputs of the four stages, which keep their gradients."""
    seen: list[tuple[nn.BatchNorm2d, Tensor]] = []
    stages: dict[str, Tensor] = {}

    def see(module: nn.Module, arguments: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if norms == "all" or arguments[0][0, 0].numel() > 1:
            seen.append((module, arguments[0]))

    def keep(layer: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _arguments: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                output.retain_grad()
            stages[layer] = output

        return hook

    handles = [m.register_forward_hook(see) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    handles += [
        network.get_submodule(name).register_forward_hook(keep(f"block{number}"))
        for number, name in enumerate(network.blocks, start=1)
    ]
    network(image)
    loss = torch.zeros((), dtype=torch.float64)
    for norm, u in seen:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        channels = u[0].flatten(1)  # (C, H*W)
        mu = channels.sum(1) / channels.shape[1]
        v = ((channels - mu[:, None]) ** 2).sum(1) / channels.shape[1]
        loss = loss + ((mu - norm.running_mean) ** 2).mean() + ((v - norm.running_var) ** 2).mean()
    for handle in handles:
        handle.remove()
    return loss / len(seen), stages


def _of_one(network: Backbone, image: Tensor, norms: str) -> dict[str, Tensor]:
    image = image.clone().requires_grad_()
    loss, stages = _loss_of_one(network, image, norms)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {"image": image.grad} | {layer: stages[layer].grad for layer in sorted(stages)}
    return {layer: gradient.detach() for layer, gradient in gradients.items() if gradient is not None}


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative L2 difference over all layers and images; each is compared by itself."""
    return max(
        float((one.double() - other).norm() / other.norm())
        for layer in found
        for one, other in zip(found[layer], expected[layer], strict=True)
    )
