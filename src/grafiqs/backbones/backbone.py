"""What every backbone is, whatever its architecture."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from grafiqs.backbones.catalogue import LAYERS


class Backbone(nn.Module):
    """A face recognition network that says which of its modules give block1 to block4."""

    known = True
    """Whether it is of a making known here, which computes the same in every memory layout, and compiled."""

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
        """What `trunk` gives -> embeddings (B, embedding_size); no BatchNorm2d has a part in it."""
        return x.flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) -> embeddings (B, embedding_size)."""
        return self.head(self.trunk(image))


def layer_shapes(network: Backbone, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The shape (C, H, W) of one image's gradient at each layer, for images of `size`, height and width.

    The network is run once, on its own device: PyTorch's meta device, which computes nothing, imports its compiler.
    """
    image = torch.zeros(1, 3, *size, device=next(network.parameters()).device)
    shapes = {"image": tuple(image.shape[1:])}

    def note(layer: str, _block: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes[layer] = tuple(output.shape[1:])

    hooks = [
        network.block(name).register_forward_hook(partial(note, layer))
        for layer, name in zip(LAYERS[1:], network.blocks, strict=True)
    ]
    try:
        with torch.no_grad():
            network.trunk(image)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes
