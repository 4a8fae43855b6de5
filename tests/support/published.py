"""The networks that people publish, written apart from the package: plain, and in the names of their checkpoints.

They are what the package's own networks are held against. Facts (names, shapes, order of parts, strides) are those of
the repositories that `grafiqs backbones` names.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Depths = tuple[int, int, int, int]

SHALLOW: Depths = (2, 2, 2, 2)
WIDTHS = (64, 128, 256, 512)
WIDE = (256, 512, 1024, 2048)

DEPTHS: dict[str, Depths] = {
    "18": SHALLOW,
    "34": (3, 4, 6, 3),
    "50": (3, 4, 14, 3),
    "100": (3, 13, 30, 3),
    "152": (3, 8, 36, 3),
}


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = torch.sigmoid(self.fc2(torch.relu(self.fc1(nn.functional.adaptive_avg_pool2d(x, 1)))))
        return x * weights


class IResNetUnit(nn.Module):
    def __init__(self, before: int, after: int, stride: int, eps: float, se: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before, eps)
        self.conv1 = nn.Conv2d(before, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after, eps)
        self.prelu = nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after, eps)
        if se:
            self.se_block = Squeeze(after)
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after, eps))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        y = self.se_block(y) if hasattr(self, "se_block") else y
        return y + (self.downsample(x) if hasattr(self, "downsample") else x)  # type: ignore[no-any-return]


class IResNet(nn.Module):
    blocks = ("layer1", "layer2", "layer3", "layer4")

    def __init__(
        self,
        depths: Depths,
        widths: tuple[int, ...] = WIDTHS,
        size: int = 512,
        eps: float = 1e-5,
        se: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0], eps)
        self.prelu = nn.PReLU(widths[0])
        before = widths[0]
        for stage in range(4):
            units = []
            for unit in range(depths[stage]):
                units.append(IResNetUnit(before, widths[stage], 1 if unit else 2, eps, se))
                before = widths[stage]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*units))
        self.bn2 = nn.BatchNorm2d(before, eps)
        self.fc = nn.Linear(before * 49, size)
        self.features = nn.BatchNorm1d(size, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))  # type: ignore[no-any-return]


def evolve_parts(before: int, after: int, stride: int, se: bool) -> nn.Sequential:
    """BN, conv, PReLU, conv, BN; squeeze and excitation is the sixth part."""
    return nn.Sequential(
        nn.BatchNorm2d(before),
        nn.Conv2d(before, after, 3, 1, 1, bias=False),
        nn.PReLU(after),
        nn.Conv2d(after, after, 3, stride, 1, bias=False),
        nn.BatchNorm2d(after),
        *([Squeeze(after)] if se else []),
    )


def adaface_parts(before: int, after: int, stride: int, se: bool) -> nn.Sequential:
    """BN, conv, BN, PReLU, conv, BN; squeeze and excitation has a name."""
    parts = nn.Sequential(
        nn.BatchNorm2d(before),
        nn.Conv2d(before, after, 3, 1, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.PReLU(after),
        nn.Conv2d(after, after, 3, stride, 1, bias=False),
        nn.BatchNorm2d(after),
    )
    if se:
        parts.add_module("se_block", Squeeze(after))
    return parts


def bottleneck_parts(before: int, after: int, stride: int, se: bool) -> nn.Sequential:
    """The same with three convolutions, of which the last one has the stride."""
    within = after // 4
    parts = nn.Sequential(
        nn.BatchNorm2d(before),
        nn.Conv2d(before, within, 1, bias=False),
        nn.BatchNorm2d(within),
        nn.PReLU(within),
        nn.Conv2d(within, within, 3, 1, 1, bias=False),
        nn.BatchNorm2d(within),
        nn.PReLU(within),
        nn.Conv2d(within, after, 1, stride, bias=False),
        nn.BatchNorm2d(after),
    )
    if se:
        parts.add_module("se_block", Squeeze(after))
    return parts


class IRUnit(nn.Module):
    def __init__(self, parts: Callable[..., nn.Sequential], before: int, after: int, stride: int, se: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if before != after:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.res_layer = parts(before, after, stride, se)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_layer(x) + self.res_layer(x)  # type: ignore[no-any-return]


class IR(nn.Module):
    def __init__(
        self,
        parts: Callable[..., nn.Sequential],
        depths: Depths,
        widths: tuple[int, ...] = WIDTHS,
        size: int = 512,
        se: bool = False,
        affine: bool = False,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        stem = widths[0] if stem is None else stem
        self.input_layer = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem))
        units, ends, before = [], [], stem
        for width, depth in zip(widths, depths, strict=True):
            for unit in range(depth):
                units.append(IRUnit(parts, before, width, 1 if unit else 2, se))
                before = width
            ends.append(f"body.{len(units) - 1}")
        self.blocks = tuple(ends)
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(before * 49, size),
            nn.BatchNorm1d(size, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))  # type: ignore[no-any-return]


class ConvBlock(nn.Module):
    """A convolution of InsightFace_Pytorch's MobileFaceNet."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(after)
        if act:
            self.prelu = nn.PReLU(after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return self.prelu(x) if hasattr(self, "prelu") else x


class DepthWise(nn.Module):
    def __init__(self, before: int, after: int, groups: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv = ConvBlock(before, groups)
        self.conv_dw = ConvBlock(groups, groups, 3, stride, 1, groups)
        self.project = ConvBlock(groups, after, act=False)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y  # type: ignore[no-any-return]


class Residual(nn.Module):
    def __init__(self, channels: int, count: int, groups: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(DepthWise(channels, channels, groups, 1, True) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


class MobileBody(nn.Module):
    """What InsightFace_Pytorch's and bubbliiiing's MobileFaceNet have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 64, 3, 2, 1)
        self.conv2_dw = ConvBlock(64, 64, 3, 1, 1, 64)
        self.conv_23 = DepthWise(64, 64, 128, 2, False)
        self.conv_3 = Residual(64, 4, 128)
        self.conv_34 = DepthWise(64, 128, 256, 2, False)
        self.conv_4 = Residual(128, 6, 256)
        self.conv_45 = DepthWise(128, 128, 512, 2, False)
        self.conv_5 = Residual(128, 2, 256)

    def body(self, x: Tensor) -> Tensor:
        x = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(x))))
        return self.conv_5(self.conv_45(self.conv_4(self.conv_34(x))))  # type: ignore[no-any-return]


class InsightFaceMobile(MobileBody):
    blocks = ("conv_3", "conv_4", "conv_5", "conv_6_sep")

    def __init__(self, size: int = 512) -> None:
        super().__init__()
        self.conv_6_sep = ConvBlock(128, 512)
        self.conv_6_dw = ConvBlock(512, 512, 7, groups=512, act=False)
        self.linear = nn.Linear(512, size, bias=False)
        self.bn = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_6_dw(self.conv_6_sep(self.body(x)))
        return self.bn(self.linear(x.view(len(x), -1)))  # type: ignore[no-any-return]


class BubbliiiingMobile(MobileBody):
    blocks = ("conv_3", "conv_4", "conv_5", "prelu")

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.sep = nn.Conv2d(128, 512, 1, bias=False)
        self.sep_bn = nn.BatchNorm2d(512)
        self.prelu = nn.PReLU(512)
        self.GDC_dw = nn.Conv2d(512, 512, 7, groups=512, bias=False)
        self.GDC_bn = nn.BatchNorm2d(512)
        self.features = nn.Conv2d(512, size, 1, bias=False)
        self.last_bn = nn.BatchNorm2d(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.sep_bn(self.sep(self.body(x))))
        return self.last_bn(self.features(self.GDC_bn(self.GDC_dw(x)))).flatten(1)  # type: ignore[no-any-return]


class Layers(nn.Module):
    """Parts in `layers`, and a shortcut around them if wanted."""

    def __init__(self, *parts: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*parts)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)  # type: ignore[no-any-return]


def mbf_conv(before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> Layers:
    padding = 1 if kernel == 3 else 0
    parts: list[nn.Module] = [nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False)]
    parts.append(nn.BatchNorm2d(after))
    return Layers(*parts, *([nn.PReLU(after)] if act else []))


def mbf_bottleneck(before: int, after: int, groups: int, stride: int = 2, residual: bool = False) -> Layers:
    return Layers(
        mbf_conv(before, groups),
        mbf_conv(groups, groups, 3, stride, groups),
        mbf_conv(groups, after, act=False),
        residual=residual,
    )


def mbf_residual(channels: int, count: int, groups: int) -> Layers:
    return Layers(*(mbf_bottleneck(channels, channels, groups, 1, True) for _ in range(count)))


class Mbf(nn.Module):
    blocks = ("layers.3", "layers.5", "layers.7", "conv_sep")

    def __init__(self, counts: Depths = (1, 4, 6, 2), scale: int = 2, size: int = 512) -> None:
        super().__init__()
        a, b = 64 * scale, 128 * scale
        self.layers = nn.ModuleList(
            [
                mbf_conv(3, a, 3, 2),
                mbf_conv(a, a, 3, 1, 64) if counts[0] == 1 else mbf_residual(a, counts[0], 128),
                mbf_bottleneck(a, a, 128),
                mbf_residual(a, counts[1], 128),
                mbf_bottleneck(a, b, 256),
                mbf_residual(b, counts[2], 256),
                mbf_bottleneck(b, b, 512),
                mbf_residual(b, counts[3], 256),
            ]
        )
        self.conv_sep = mbf_conv(b, 512)
        self.features = Layers(
            mbf_conv(512, 512, 7, groups=512, act=False),
            nn.Flatten(),
            nn.Linear(512, size, bias=False),
            nn.BatchNorm1d(size),
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))  # type: ignore[no-any-return]


class FoamliuMobile(nn.Module):
    blocks = ("features.4", "features.11", "features.14", "conv2")

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU6())
        self.dw_conv = FoamliuSeparable()
        units: list[nn.Module] = []
        before = 64
        for expansion, after, count in ((2, 64, 5), (4, 128, 1), (2, 128, 6), (4, 128, 1), (2, 128, 2)):
            for unit in range(count):
                stride = 2 if unit == 0 and (expansion == 4 or not units) else 1
                units.append(FoamliuUnit(before, after, expansion * before, stride))
                before = after
        self.features = nn.Sequential(*units)
        self.conv2 = nn.Sequential(nn.Conv2d(128, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU6())
        self.gdconv = FoamliuGlobal()
        self.conv3 = nn.Conv2d(512, size, 1)
        self.bn = nn.BatchNorm2d(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        return self.bn(self.conv3(self.gdconv(x))).flatten(1)  # type: ignore[no-any-return]


class FoamliuSeparable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(64, 64, 3, 1, 1, groups=64, bias=False)
        self.pointwise = nn.Conv2d(64, 64, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.bn2 = nn.BatchNorm2d(64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.pointwise(torch.relu(self.bn1(self.depthwise(x))))))


class FoamliuUnit(nn.Module):
    def __init__(self, before: int, after: int, within: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(before, within, 1, bias=False), nn.BatchNorm2d(within), nn.ReLU6()),
            nn.Sequential(
                nn.Conv2d(within, within, 3, stride, 1, groups=within, bias=False), nn.BatchNorm2d(within), nn.ReLU6()
            ),
            nn.Conv2d(within, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.stride == 1 else self.conv(x)  # type: ignore[no-any-return]


class FoamliuGlobal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(512, 512, 7, groups=512, bias=False)
        self.bn = nn.BatchNorm2d(512)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))  # type: ignore[no-any-return]


Maker = Callable[[], nn.Module]


def _iresnet(depths: Depths, se: bool = False, eps: float = 1e-5) -> Maker:
    return lambda: IResNet(depths, se=se, eps=eps)


def _ir(parts: Callable[..., nn.Sequential], depths: Depths, se: bool) -> Maker:
    if parts is bottleneck_parts:
        return lambda: IR(parts, depths, WIDE, se=se, stem=64)
    return lambda: IR(parts, depths, se=se, affine=parts is evolve_parts)


def _published() -> dict[str, Maker]:
    found: dict[str, Maker] = {
        "mobilefacenet": BubbliiiingMobile,
        "mobilefacenet_insightface": InsightFaceMobile,
        "mobilefacenet_relu6": FoamliuMobile,
        "mbf": Mbf,
        "mbf_large": lambda: Mbf((2, 8, 12, 4), 4),
    }
    for se in (False, True):
        ir, tail = ("ir_se", "_se") if se else ("ir", "")
        for name in ("18", "34", "50", "100"):
            found[f"iresnet{name}{tail}"] = _iresnet(DEPTHS[name], se)
            found[f"adaface_{ir}_{name}"] = _ir(adaface_parts, DEPTHS[name], se)
        found[f"iresnet200{tail}"] = _iresnet((6, 26, 60, 6), se)
        for name in ("50", "100", "152"):
            found[f"{ir}_{name}"] = _ir(evolve_parts, DEPTHS[name], se)
        found[f"adaface_{ir}_152"] = _ir(bottleneck_parts, (3, 8, 36, 3), se)
        found[f"adaface_{ir}_200"] = _ir(bottleneck_parts, (3, 24, 36, 3), se)
    for name in ("18", "34", "50", "100"):
        found[f"magface_iresnet{name}"] = _iresnet(DEPTHS[name], eps=2e-5)
    return found


PUBLISHED = _published()
"""What makes each network that the package knows, in its published sizes."""
