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

MOBILE_DEPTHS = (5, 7, 3)
"""The bottlenecks of a MobileFaceNet at strides 4, 8 and 16."""


def with_excitation(name: str) -> str:
    """The name of the same iresnet or IR network with squeeze and excitation."""
    return name.replace("ir_", "ir_se_") if name in IR_DEPTHS else f"{name}_se"


BACKBONES: dict[str, tuple[int, ...]] = {
    **DEPTHS,
    **{with_excitation(name): depths for name, depths in DEPTHS.items()},
    **IR_DEPTHS,
    **{with_excitation(name): depths for name, depths in IR_DEPTHS.items()},
    **dict.fromkeys(("mobilefacenet", "mobilefacenet_relu6"), MOBILE_DEPTHS),
}
"""The networks that are known by name, and how many blocks each of their stages has."""

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
