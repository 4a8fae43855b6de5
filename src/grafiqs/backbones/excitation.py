"""Squeeze and excitation, which iresnet and IR networks can have in every residual block."""

from __future__ import annotations

from torch import Tensor, nn

REDUCTION = 16
"""By how much the channels are squeezed in published networks."""


class SqueezeExcitation(nn.Module):
    """Weigh every channel by what the means of all of them say.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        squeezed = x.mean((2, 3), keepdim=True)
        return x * self.fc2(self.fc1(squeezed).relu()).sigmoid()  # type: ignore[no-any-return]
