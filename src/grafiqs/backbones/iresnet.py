"""The ArcFace residual network (iresnet), with the state-dict names of published checkpoints."""

from __future__ import annotations

from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import IRESNET, WIDTHS
from grafiqs.backbones.residual import UnitForm, stages


class IResNet(Backbone):
    """An iresnet for 112x112 faces.

    `depths` are the residual units and `widths` the channels of the four stages; `excitation` gives every unit
    squeeze and excitation, in the names of the ElasticFace and CR-FIQA checkpoints; `epsilon` is that of every norm,
    which MagFace has twice as large.
    Source: Deng et al., "ArcFace", CVPR 2019; Duta et al., "Improved Residual Networks", ICPR 2020.
    """

    blocks = IRESNET.blocks

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        widths: tuple[int, int, int, int] = WIDTHS,
        embedding_size: int = 512,
        excitation: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        form = UnitForm(
            excitation=excitation,
            epsilon=epsilon,
            names=("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"),
            excitation_name="se_block",
            shortcut="downsample",
            strided_shortcut=True,
        )
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = form.norm(widths[0])
        self.prelu = nn.PReLU(widths[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*units) for units in stages(form, widths[0], widths, depths)
        )
        self.bn2 = form.norm(widths[3])
        self.fc = nn.Linear(widths[3] * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size, eps=epsilon)

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, widths[3], 7, 7)."""
        x = self.prelu(self.bn1(self.conv1(image)))
        return self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))  # type: ignore[no-any-return]

    def head(self, x: Tensor) -> Tensor:
        """(B, widths[3], 7, 7) -> embeddings (B, embedding_size)."""
        return self.features(self.fc(x.flatten(1)))  # type: ignore[no-any-return]
