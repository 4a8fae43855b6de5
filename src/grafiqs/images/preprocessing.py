"""What a network expects of its input, in numbers. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of its input: (x/255 - mean) / std, channel by channel in `channel_order`."""

    channel_order: str = "rgb"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    size: tuple[int, int] = (112, 112)
    """Height and width."""

    def changed(
        self, channel_order: str | None = None, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()
    ) -> Preprocessing:
        """The same with what is given: another channel order, means or standard deviations, one of them or three."""
        return replace(
            self,
            channel_order=channel_order or self.channel_order,
            mean=_of_channels(mean) or self.mean,
            std=_of_channels(std) or self.std,
        )

    def source(self) -> dict[str, Any]:
        """What decides the input that images become, as JSON values."""
        return {
            "size": list(self.size),
            "resize": "bilinear, antialiased, in uint8",
            "channel_order": self.channel_order,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def __str__(self) -> str:
        height, width = self.size
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{height}x{width} {self.channel_order.upper()}, mean {mean}, std {std}"


def _of_channels(values: tuple[float, ...]) -> tuple[float, float, float] | None:
    """A value for each channel, from one for all or three; None if none is given."""
    if not values:
        return None
    first, second, third = values if len(values) == 3 else values * 3
    return float(first), float(second), float(third)


USUAL = Preprocessing()
"""What most networks expect: RGB in [-1, 1]."""

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The means and standard deviations of ImageNet's images."""
