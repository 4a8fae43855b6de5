"""MobileFaceNet, with the state-dict names of two kinds of published checkpoints.

Source: Chen et al., "MobileFaceNets", CCBR 2018. Its bottlenecks widen (1x1), filter each channel (3x3), and narrow
(1x1, no activation). block1 to block3 are the outputs of the bottlenecks at strides 4, 8 and 16, block4 that of the 1x1
convolution after them, before the global depthwise convolution.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import MOBILE_DEPTHS, MOBILEFACENET, MOBILEFACENET_RELU6

# Channels out, channels within, stride of every bottleneck: the first of its stage, and the others.
_FIRST = ((64, 128, 2), (128, 256, 2), (128, 512, 2))
_OTHERS = ((64, 128, 1), (128, 256, 1), (128, 256, 1))
_STAGES = tuple(
    (first, *(other,) * (depth - 1)) for first, other, depth in zip(_FIRST, _OTHERS, MOBILE_DEPTHS, strict=True)
)


class NormedConv(nn.Module):
    """Conv and BN, and a PReLU unless the output is to stay linear."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)
        if not linear:
            self.prelu = nn.PReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        x = self.bn(self.conv(x))
        return self.prelu(x) if hasattr(self, "prelu") else x


class Bottleneck(nn.Module):
    """One bottleneck; with a shortcut if neither size nor channels change."""

    def __init__(self, channels_in: int, channels_out: int, within: int, stride: int) -> None:
        super().__init__()
        self.conv = NormedConv(channels_in, within)
        self.conv_dw = NormedConv(within, within, 3, stride, groups=within)
        self.project = NormedConv(within, channels_out, linear=True)
        self.shortcut = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.shortcut else y  # type: ignore[no-any-return]


class Bottlenecks(nn.Module):
    """The bottlenecks of a stage after its first."""

    def __init__(self, channels: int, within: int, count: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(channels, channels, within, 1) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.model(x)  # type: ignore[no-any-return]


class MobileFaceNet(Backbone):
    """A MobileFaceNet with PReLU, as bubbliiiing's arcface-pytorch names it."""

    blocks = MOBILEFACENET.blocks

    def __init__(self, embedding_size: int = 128) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.conv1 = NormedConv(3, 64, 3, 2)
        self.conv2_dw = NormedConv(64, 64, 3, groups=64)
        channels = 64
        for number, ((width, within, _), *rest) in enumerate(_STAGES, start=2):
            self.add_module(f"conv_{number}{number + 1}", Bottleneck(channels, width, within, 2))
            self.add_module(f"conv_{number + 1}", Bottlenecks(width, rest[0][1], len(rest)))
            channels = width
        self.sep = nn.Conv2d(128, 512, 1, bias=False)
        self.sep_bn = nn.BatchNorm2d(512)
        self.prelu = nn.PReLU(512)
        self.GDC_dw = nn.Conv2d(512, 512, 7, groups=512, bias=False)
        self.GDC_bn = nn.BatchNorm2d(512)
        self.features = nn.Conv2d(512, embedding_size, 1, bias=False)
        self.last_bn = nn.BatchNorm2d(embedding_size)

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, embedding_size, 1, 1)."""
        x = self.conv2_dw(self.conv1(image))
        for name in ("conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5"):
            x = self.get_submodule(name)(x)
        x = self.prelu(self.sep_bn(self.sep(x)))
        return self.last_bn(self.features(self.GDC_bn(self.GDC_dw(x))))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """A bottleneck in the names of MobileNetV2; with a shortcut if neither size nor channels change."""

    def __init__(self, channels_in: int, channels_out: int, within: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _clipped(channels_in, within),
            _clipped(within, within, 3, stride, groups=within),
            nn.Conv2d(within, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        return x + self.conv(x) if self.shortcut else self.conv(x)  # type: ignore[no-any-return]


class Separable(nn.Module):
    """A depthwise and a 1x1 convolution, each with BN and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.bn1(self.depthwise(x)).relu()
        return self.bn2(self.pointwise(x)).relu()  # type: ignore[no-any-return]


class GlobalDepthwise(nn.Module):
    """The global depthwise convolution, and its BN, which sees maps of one pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 7, 7) -> (B, C, 1, 1)."""
        return self.bn(self.depthwise(x))  # type: ignore[no-any-return]


class MobileFaceNetReLU6(Backbone):
    """A MobileFaceNet with ReLU6, as foamliu's MobileFaceNet names it."""

    blocks = MOBILEFACENET_RELU6.blocks

    def __init__(self, embedding_size: int = 128) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.conv1 = _clipped(3, 64, 3, 2)
        self.dw_conv = Separable(64)
        self.conv2 = _clipped(128, 512)
        self.gdconv = GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, embedding_size, 1)
        self.bn = nn.BatchNorm2d(embedding_size)
        bottlenecks = [bottleneck for stage in _STAGES for bottleneck in stage]
        widths = (64, *(width for width, _, _ in bottlenecks))
        self.features = nn.Sequential(
            *(
                InvertedResidual(before, width, within, stride)
                for (before, width), (_, within, stride) in zip(pairwise(widths), bottlenecks, strict=True)
            )
        )

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, embedding_size, 1, 1)."""
        x = self.conv2(self.features(self.dw_conv(self.conv1(image))))
        return self.bn(self.conv3(self.gdconv(x)))  # type: ignore[no-any-return]


def _clipped(channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Conv, BN and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )
