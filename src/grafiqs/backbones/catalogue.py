"""What is known of the backbones before one is built: names, depths, layers. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

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

IR_DEPTHS: dict[str, tuple[int, int, int, int]] = {"ir_50": (3, 4, 14, 3), "ir_100": (3, 13, 30, 3)}
"""The same of an IR network."""

BACKBONES = (
    *DEPTHS,
    *(f"{name}_se" for name in DEPTHS),
    *IR_DEPTHS,
    *(name.replace("ir_", "ir_se_") for name in IR_DEPTHS),
    *("mobilefacenet", "mobilefacenet_relu6"),
)
"""The networks that are known by name."""

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages of every published iresnet and IR network."""


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of its input: (x/255 - mean) / std, channel by channel in `channel_order`."""

    channel_order: str = "rgb"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    size: tuple[int, int] = (112, 112)
    """Height and width."""

    def __str__(self) -> str:
        height, width = self.size
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{height}x{width} {self.channel_order.upper()}, mean {mean}, std {std}"


USUAL = Preprocessing()
"""What most networks expect: RGB in [-1, 1]."""

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The means and standard deviations of ImageNet's images."""
