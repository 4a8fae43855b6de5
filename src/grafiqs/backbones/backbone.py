"""What every backbone is, whatever its architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from grafiqs.backbones.catalogue import LAYERS, NORMS


class Backbone(nn.Module):
    """A face recognition network that says which of its modules give block1 to block4."""

    known = True
    """Whether it is a built-in architecture, safe in any memory layout and when compiled."""

    blocks: tuple[str, ...]
    """The names of four modules, in the order in which they run; the output of each is a layer."""
    embedding_size: int

    def block(self, name: str) -> nn.Module:
        """The module of that name among `blocks`."""
        return self.get_submodule(name)

    def trunk(self, image: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) -> what the last BatchNorm2d gives for them, (B, C, H', W')."""
        raise NotImplementedError

    def head(self, x: Tensor) -> Tensor:
        """What `trunk` gives -> embeddings (B, embedding_size); no BatchNorm2d is involved."""
        return x.flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) -> embeddings (B, embedding_size)."""
        return self.head(self.trunk(image))


@dataclass(frozen=True)
class Norms:
    """The BatchNorm2d that run in a network: how many see maps, and how many see single pixels."""

    maps: int
    pixels: int
    layers: dict[str, tuple[str, ...]]
    """For each choice of those that count (`maps`, `all`), the layers that one comes after: these have a gradient."""

    def said(self, choice: str) -> str:
        """In words, how many count, and how many do not."""
        if not self.pixels:
            return f"{self.maps} BatchNorm2d count"
        if choice == "all":
            return f"{self.maps + self.pixels} BatchNorm2d count, the {self.pixels} that see single pixels among them"
        return f"{self.maps} BatchNorm2d count; {self.pixels} see single pixels and do not (--norms all takes them)"


class Observer:
    """What one forward pass shows of a network: the shapes of its layers, and which BatchNorm2d run after which."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._counts = dict.fromkeys(NORMS, 0)
        self._layers: dict[str, tuple[str, ...]] = dict.fromkeys(NORMS, ())

    def image(self, shape: tuple[int, ...]) -> None:
        """The network is given images of this shape (C, H, W)."""
        self.shapes["image"] = shape

    def block(self, layer: str, output: Tensor) -> None:
        """The block of a layer gives this output."""
        self.shapes[layer] = tuple(output.shape[1:])

    def norm(self, _norm: nn.Module, u: Tensor) -> None:
        """A BatchNorm2d is given this input."""
        for choice in ("all",) if sees_one_pixel(u) else NORMS:
            self._counts[choice] += 1
            self._layers[choice] = tuple(layer for layer in LAYERS if layer in self.shapes)

    @property
    def norms(self) -> Norms:
        """The BatchNorm2d that ran."""
        maps = self._counts["maps"]
        return Norms(maps, self._counts["all"] - maps, dict(self._layers))


def sees_one_pixel(u: Tensor) -> bool:
    """Whether the input (B, C, H, W) of a BatchNorm2d is of one pixel, which has no statistics."""
    return u.shape[2:].numel() == 1


def batch_norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The BatchNorm2d of a network, by their names."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


def is_fresh(norm: nn.BatchNorm2d) -> bool:
    """Whether a BatchNorm2d with statistics has those that it is made with, and never learned any."""
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and not mean.any() and bool((variance == 1).all())


@contextmanager
def watched(
    network: Backbone, block: Callable[[str, Tensor], Tensor | None], norm: Callable[[nn.Module, Tensor], Tensor | None]
) -> Iterator[None]:
    """While it runs, call `block` with every layer and its output, `norm` with every BatchNorm2d and its input.

    What they return replaces it in the network.
    """

    def ran(layer: str, _block: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        return block(layer, output)

    def normed(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor | None:
        return norm(module, inputs[0])

    hooks = []
    try:
        for layer, name in zip(LAYERS[1:], network.blocks, strict=True):
            hooks.append(network.block(name).register_forward_hook(partial(ran, layer)))
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        hooks += [module.register_forward_pre_hook(normed) for module in norms]
        yield
    finally:
        for hook in hooks:
            hook.remove()


def observed(network: Backbone, size: tuple[int, int]) -> Observer:
    """What a forward pass of one image of `size`, height and width, shows of a network.

    It is computed on the network's own device: PyTorch's meta device computes nothing, but imports its compiler.
    """
    seen = Observer()
    with watched(network, seen.block, seen.norm), torch.no_grad():
        image = torch.zeros(1, 3, *size, device=next(network.parameters()).device)
        seen.image(tuple(image.shape[1:]))
        network.trunk(image)
    return seen
