"""What is known of the backbones before one is built: names, depths, layers. No torch here."""

from __future__ import annotations

LAYERS = ("image", "block1", "block2", "block3", "block4")
"""Where gradients are taken: the preprocessed input and the output activations of the four stages."""

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
"""Residual blocks in each of the four stages of an iresnet."""

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages of every published iresnet."""


def layer_shapes(widths: tuple[int, int, int, int]) -> dict[str, tuple[int, int, int]]:
    """The shape (C, H, W) of one image's gradient at each layer."""
    sides = (56, 28, 14, 7)
    stages = zip(LAYERS[1:], widths, sides, strict=True)
    return {"image": (3, 112, 112), **{layer: (width, side, side) for layer, width, side in stages}}
