"""The ArcFace residual network (iresnet), with the state-dict names of published checkpoints."""

from __future__ import annotations

from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import IRESNET, WIDTHS
from grafiqs.backbones.excitation import SqueezeExcitation

EPSILON = 1e-5


class ResidualBlock(nn.Module):
    """BN, conv, BN, PReLU, conv(stride), BN, perhaps squeeze and excitation, plus the shortcut.

    The shortcut is a 1x1 conv and BN if the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, excitation: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in, eps=EPSILON)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out, eps=EPSILON)
        self.prelu = nn.PReLU(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out, eps=EPSILON)
        self.se_block = SqueezeExcitation(channels_out) if excitation else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out, eps=EPSILON),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        y = self.conv1(self.bn1(x))
        y = self.conv2(self.prelu(self.bn2(y)))
        return self.se_block(self.bn3(y)) + self.downsample(x)  # type: ignore[no-any-return]


class IResNet(Backbone):
    """An iresnet for 112x112 faces.

    `depths` are the residual blocks and `widths` the channels of the four stages; `excitation` gives every block
    squeeze and excitation, in the names of the ElasticFace and CR-FIQA checkpoints.
    Source: Deng et al., "ArcFace", CVPR 2019; Duta et al., "Improved Residual Networks", ICPR 2020.
    """

    blocks = IRESNET.blocks

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        widths: tuple[int, int, int, int] = WIDTHS,
        embedding_size: int = 512,
        excitation: bool = False,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0], eps=EPSILON)
        self.prelu = nn.PReLU(widths[0])
        inputs = (widths[0], *widths[:3])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                ResidualBlock(before, width, 2, excitation),
                *(ResidualBlock(width, width, 1, excitation) for _ in range(depth - 1)),
            )
            for before, width, depth in zip(inputs, widths, depths, strict=True)
        )
        self.bn2 = nn.BatchNorm2d(widths[3], eps=EPSILON)
        self.fc = nn.Linear(widths[3] * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size, eps=EPSILON)

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, widths[3], 7, 7)."""
        x = self.prelu(self.bn1(self.conv1(image)))
        return self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))  # type: ignore[no-any-return]

    def head(self, x: Tensor) -> Tensor:
        """(B, widths[3], 7, 7) -> embeddings (B, embedding_size)."""
        return self.features(self.fc(x.flatten(1)))  # type: ignore[no-any-return]
