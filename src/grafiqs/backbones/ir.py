"""The IR and IR-SE residual networks, with the state-dict names of face.evoLVe's checkpoints."""

from __future__ import annotations

from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import WIDTHS, ir_blocks
from grafiqs.backbones.excitation import SqueezeExcitation


class ResidualBlock(nn.Module):
    """BN, conv, PReLU, conv(stride), BN, perhaps squeeze and excitation, plus the shortcut.

    The shortcut is a 1x1 conv and BN if the number of channels changes, and every stride-th pixel otherwise.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, excitation: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if channels_in != channels_out:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.PReLU(channels_out),
            nn.Conv2d(channels_out, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            *([SqueezeExcitation(channels_out)] if excitation else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        return self.res_layer(x) + self.shortcut_layer(x)  # type: ignore[no-any-return]


class IRNet(Backbone):
    """An IR or IR-SE network for 112x112 faces.

    `depths` are the residual blocks and `widths` the channels of the four stages, which `body` holds in one row.
    Source: Deng et al., "ArcFace", CVPR 2019; names as in face.evoLVe (Wang et al., ACM Multimedia 2021).
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        excitation: bool,
        widths: tuple[int, int, int, int] = WIDTHS,
        embedding_size: int = 512,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        )
        inputs = (widths[0], *widths[:3])
        self.body = nn.Sequential(
            *(
                ResidualBlock(width if number else before, width, 1 if number else 2, excitation)
                for before, width, depth in zip(inputs, widths, depths, strict=True)
                for number in range(depth)
            )
        )
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(widths[3]),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(widths[3] * 7 * 7, embedding_size),
            nn.BatchNorm1d(embedding_size),
        )
        self.blocks = ir_blocks(depths)

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, widths[3], 7, 7)."""
        return self.output_layer[0](self.body(self.input_layer(image)))  # type: ignore[no-any-return]

    def head(self, x: Tensor) -> Tensor:
        """(B, widths[3], 7, 7) -> embeddings (B, embedding_size)."""
        return self.output_layer[1:](x)  # type: ignore[no-any-return]
