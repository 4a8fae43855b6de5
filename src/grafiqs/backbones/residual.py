"""The residual unit, in every form and naming that is known here.

Source: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016; Deng et al., "ArcFace", CVPR 2019.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from grafiqs.backbones.excitation import SqueezeExcitation


@dataclass(frozen=True)
class UnitForm:
    """How a residual unit is made, and what its publisher calls its parts."""

    kernels: tuple[int, ...] = (3, 3)
    """Of its convolutions, in order; the last one has the stride."""
    normed: bool = True
    """Whether a BatchNorm2d follows every convolution, or the last one only."""
    narrowing: int = 1
    """By how much fewer channels lie between its convolutions than it gives."""
    excitation: bool = False
    epsilon: float = 1e-5
    names: tuple[str, ...] = ()
    """Of its parts in order, within the unit; without them, they are numbered within `res_layer`."""
    excitation_name: str | None = None
    """Of squeeze and excitation; numbered like the other parts without it."""
    shortcut: str = "shortcut_layer"
    strided_shortcut: bool = False
    """Whether a unit with a stride has weights in its shortcut although the channels stay the same."""

    def parts(self, channels_in: int, channels_out: int, stride: int) -> OrderedDict[str, nn.Module]:
        """What runs beside the shortcut, by name: BN, then convolutions, with BN and PReLU between them."""
        parts: list[nn.Module] = [self.norm(channels_in)]
        within = channels_out // self.narrowing
        widths = [channels_in, *[within] * (len(self.kernels) - 1), channels_out]
        last = len(self.kernels) - 1
        for number, (kernel, (before, after)) in enumerate(zip(self.kernels, pairwise(widths), strict=True)):
            step = stride if number == last else 1
            parts.append(nn.Conv2d(before, after, kernel, step, padding=kernel // 2, bias=False))
            if self.normed or number == last:
                parts.append(self.norm(after))
            if number != last:
                parts.append(nn.PReLU(after))
        named = OrderedDict(zip(self.names or map(str, range(len(parts))), parts, strict=True))
        if self.excitation:
            named[self.excitation_name or str(len(parts))] = SqueezeExcitation(channels_out)
        return named

    def shortcut_of(self, channels_in: int, channels_out: int, stride: int) -> nn.Module:
        """A 1x1 convolution and BN if the shape changes in a way that needs weights, else every stride-th pixel."""
        if channels_in != channels_out or (self.strided_shortcut and stride != 1):
            convolution = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            return nn.Sequential(convolution, self.norm(channels_out))
        return nn.Identity() if self.strided_shortcut else nn.MaxPool2d(1, stride)

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """A BatchNorm2d as its publisher has them."""
        return nn.BatchNorm2d(channels, eps=self.epsilon)


class ResidualUnit(nn.Module):
    """What its parts give, one after the other, plus the shortcut."""

    def __init__(self, form: UnitForm, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        parts = form.parts(channels_in, channels_out, stride)
        for name, part in parts.items() if form.names else [("res_layer", nn.Sequential(parts))]:
            self.add_module(name, part)
        self.add_module(form.shortcut, form.shortcut_of(channels_in, channels_out, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        *parts, shortcut = self.children()
        y = x
        for part in parts:
            y = part(y)
        return y + shortcut(x)  # type: ignore[no-any-return]


def stages(form: UnitForm, stem: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> Iterator[list[ResidualUnit]]:
    """The units of every stage: the first one of each halves height and width.

    `stem` are the channels of what the first stage is given, `widths` those of what the stages give.
    """
    for before, width, depth in zip((stem, *widths[:-1]), widths, depths, strict=True):
        first = ResidualUnit(form, before, width, 2)
        yield [first, *(ResidualUnit(form, width, width, 1) for _ in range(depth - 1))]
