"""What every backbone is, whatever its architecture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grafiqs.backbones.catalogue import LAYERS


class Backbone(nn.Module):
    """A face recognition network that says which of its modules give block1 to block4.

    It maps preprocessed images (B, 3, H, W) to embeddings (B, D).
    """

    blocks: tuple[str, ...]
    """The names of four modules, in the order in which they run; the output of each is a layer."""


def layer_shapes(network: Backbone, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The shape (C, H, W) of one image's gradient at each layer, for images of `size`, height and width.

    The network is run once on an empty image; where its weights lie on the meta device, nothing is computed.
    """
    device = next(network.parameters()).device
    image = torch.zeros(1, 3, *size, device=device)
    shapes = {"image": tuple(image.shape[1:])}
    hooks = []
    for layer, name in zip(LAYERS[1:], network.blocks, strict=True):

        def seen(_block: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor, layer: str = layer) -> None:
            shapes[layer] = tuple(output.shape[1:])

        hooks.append(network.get_submodule(name).register_forward_hook(seen))
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return shapes
