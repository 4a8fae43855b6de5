"""MobileFaceNet, with the state-dict names of the four kinds of published checkpoints.

Source: Chen et al., "MobileFaceNets", CCBR 2018. Its bottlenecks widen (1x1), filter each channel (3x3), and narrow
(1x1, no activation). block1 to block3 are the outputs of the bottlenecks at strides 4, 8 and 16, block4 that of the 1x1
convolution after them, before the global depthwise convolution.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import (
    MBF,
    MBF_DEPTHS,
    MOBILE_DEPTHS,
    MOBILEFACENET,
    MOBILEFACENET_INSIGHTFACE,
    MOBILEFACENET_RELU6,
)

# Channels out, channels within, stride of every bottleneck: the first of its stage, and the others.
_FIRST = ((64, 128, 2), (128, 256, 2), (128, 512, 2))
_OTHERS = ((64, 128, 1), (128, 256, 1), (128, 256, 1))
_STAGES = tuple(
    (first, *(other,) * (depth - 1)) for first, other, depth in zip(_FIRST, _OTHERS, MOBILE_DEPTHS, strict=True)
)


class Shortcut(nn.Sequential):
    """Parts in a row, whose output is added to their input."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + super().forward(x)  # type: ignore[no-any-return,no-untyped-call]


class GlobalDepthwise(nn.Sequential):
    """The global depthwise convolution, and its BN, which sees maps of one pixel."""

    def __init__(self, convolution: str, norm: str, channels: int = 512) -> None:
        depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        super().__init__(OrderedDict([(convolution, depthwise), (norm, nn.BatchNorm2d(channels))]))


# -- with PReLU, parts by name -----------------------------------------------------------------------------


def _normed(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
) -> OrderedDict[str, nn.Module]:
    """Conv and BN, and a PReLU unless the output is to stay linear."""
    parts: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)),
        ("bn", nn.BatchNorm2d(channels_out)),
    ]
    return OrderedDict(parts if linear else [*parts, ("prelu", nn.PReLU(channels_out))])


def _bottleneck(channels_in: int, channels_out: int, within: int, stride: int) -> list[OrderedDict[str, nn.Module]]:
    """The three convolutions of a bottleneck."""
    return [
        _normed(channels_in, within),
        _normed(within, within, 3, stride, groups=within),
        _normed(within, channels_out, linear=True),
    ]


def _named(channels_in: int, channels_out: int, within: int, stride: int) -> nn.Sequential:
    """A bottleneck with its parts by name; with a shortcut if neither size nor channels change."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, each in zip(
        ("conv", "conv_dw", "project"), _bottleneck(channels_in, channels_out, within, stride), strict=True
    ):
        parts[name] = nn.Sequential(each)
    return Shortcut(parts) if stride == 1 else nn.Sequential(parts)


def _body() -> OrderedDict[str, nn.Module]:
    """What two of the namings have in common: everything up to the last bottleneck."""
    body: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Sequential(_normed(3, 64, 3, 2)), conv2_dw=nn.Sequential(_normed(64, 64, 3, groups=64))
    )
    channels = 64
    for number, ((width, within, stride), *rest) in enumerate(_STAGES, start=2):
        body[f"conv_{number}{number + 1}"] = _named(channels, width, within, stride)
        others = nn.Sequential(*(_named(width, *other) for other in rest))
        body[f"conv_{number + 1}"] = nn.Sequential(OrderedDict(model=others))
        channels = width
    return body


class MobileFaceNet(Backbone):
    """A MobileFaceNet with PReLU, as bubbliiiing's arcface-pytorch names it."""

    blocks = MOBILEFACENET.blocks

    def __init__(self, embedding_size: int = 128) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        for name, part in _body().items():
            self.add_module(name, part)
        self.sep = nn.Conv2d(128, 512, 1, bias=False)
        self.sep_bn = nn.BatchNorm2d(512)
        self.prelu = nn.PReLU(512)
        for name, part in GlobalDepthwise("GDC_dw", "GDC_bn").named_children():
            self.add_module(name, part)
        self.features = nn.Conv2d(512, embedding_size, 1, bias=False)
        self.last_bn = nn.BatchNorm2d(embedding_size)

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, embedding_size, 1, 1)."""
        x = image
        for part in self.children():
            x = part(x)
        return x


class MobileFaceNetInsightFace(Backbone):
    """A MobileFaceNet with PReLU, as InsightFace_Pytorch names it; its embedding comes from a linear layer."""

    blocks = MOBILEFACENET_INSIGHTFACE.blocks

    def __init__(self, embedding_size: int = 512) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        for name, part in _body().items():
            self.add_module(name, part)
        self.conv_6_sep = nn.Sequential(_normed(128, 512))
        self.conv_6_dw = GlobalDepthwise("conv", "bn")
        self.linear = nn.Linear(512, embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(embedding_size)

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, 512, 1, 1)."""
        x = image
        for part in list(self.children())[:-2]:
            x = part(x)
        return x

    def head(self, x: Tensor) -> Tensor:
        """(B, 512, 1, 1) -> embeddings (B, embedding_size)."""
        return self.bn(self.linear(x.flatten(1)))  # type: ignore[no-any-return]


# -- with PReLU, parts by number ---------------------------------------------------------------------------


def _layers(*parts: nn.Module, kind: type[nn.Sequential] = nn.Sequential) -> nn.Sequential:
    """Parts that are numbered within `layers`."""
    return kind(OrderedDict(layers=nn.Sequential(*parts)))


def _numbered(channels_in: int, channels_out: int, within: int, stride: int) -> nn.Sequential:
    """A bottleneck with its parts by number; with a shortcut if neither size nor channels change."""
    parts = [_layers(*convolution.values()) for convolution in _bottleneck(channels_in, channels_out, within, stride)]
    return _layers(*parts, kind=Shortcut if stride == 1 else nn.Sequential)


class WideMobileFaceNet(Backbone):
    """A MobileFaceNet of more channels, as insightface's arcface_torch names it (`mbf`, `mbf_large`).

    `depths` are the bottlenecks before the first stage and in the three, without the first of each; `scale` says by how
    much more channels lie between bottlenecks, whose own depthwise convolutions stay as they are.
    """

    blocks = MBF.blocks

    def __init__(
        self, depths: tuple[int, int, int, int] = MBF_DEPTHS["mbf"], scale: int = 2, embedding_size: int = 512
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        channels = 64 * scale
        start = _layers(*_normed(channels, channels, 3, groups=64).values())
        if depths[0] > 1:
            start = _layers(*(_numbered(channels, channels, 128, 1) for _ in range(depths[0])))
        parts = [_layers(*_normed(3, channels, 3, 2).values()), start]
        for (width, within, stride), (_, within_others, _), depth in zip(_FIRST, _OTHERS, depths[1:], strict=True):
            parts.append(_numbered(channels, width * scale, within, stride))
            channels = width * scale
            parts.append(_layers(*(_numbered(channels, channels, within_others, 1) for _ in range(depth))))
        self.layers = nn.Sequential(*parts)
        self.conv_sep = _layers(*_normed(channels, 512).values())
        depthwise = _layers(*GlobalDepthwise("0", "1"))
        self.features = _layers(
            depthwise, nn.Flatten(), nn.Linear(512, embedding_size, bias=False), nn.BatchNorm1d(embedding_size)
        )

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, 512, 1, 1)."""
        return self.features.layers[0](self.conv_sep(self.layers(image)))  # type: ignore[no-any-return,index,operator]

    def head(self, x: Tensor) -> Tensor:
        """(B, 512, 1, 1) -> embeddings (B, embedding_size)."""
        return self.features.layers[1:](x)  # type: ignore[no-any-return,index,operator]


# -- with ReLU6 --------------------------------------------------------------------------------------------


def _clipped(channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Conv, BN and ReLU6."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU6())


def _inverted(channels_in: int, channels_out: int, within: int, stride: int) -> nn.Sequential:
    """A bottleneck in the names of MobileNetV2; with a shortcut if neither size nor channels change."""
    parts = nn.Sequential(
        _clipped(channels_in, within),
        _clipped(within, within, 3, stride, groups=within),
        nn.Conv2d(within, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
    )
    return (Shortcut if stride == 1 else nn.Sequential)(OrderedDict(conv=parts))


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


class MobileFaceNetReLU6(Backbone):
    """A MobileFaceNet with ReLU6, as foamliu's MobileFaceNet names it."""

    blocks = MOBILEFACENET_RELU6.blocks

    def __init__(self, embedding_size: int = 128) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.conv1 = _clipped(3, 64, 3, 2)
        self.dw_conv = Separable(64)
        self.conv2 = _clipped(128, 512)
        self.gdconv = GlobalDepthwise("depthwise", "bn")
        self.conv3 = nn.Conv2d(512, embedding_size, 1)
        self.bn = nn.BatchNorm2d(embedding_size)
        bottlenecks = [bottleneck for stage in _STAGES for bottleneck in stage]
        widths = (64, *(width for width, _, _ in bottlenecks))
        self.features = nn.Sequential(
            *(
                _inverted(before, width, within, stride)
                for (before, width), (_, within, stride) in zip(pairwise(widths), bottlenecks, strict=True)
            )
        )

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, embedding_size, 1, 1)."""
        x = self.conv2(self.features(self.dw_conv(self.conv1(image))))
        return self.bn(self.conv3(self.gdconv(x)))  # type: ignore[no-any-return]
