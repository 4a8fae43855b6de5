"""The IR residual networks, whose units stand in one row: in the names of face.evoLVe's and AdaFace's checkpoints."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import WIDTHS, ir_blocks
from grafiqs.backbones.residual import UnitForm, stages

FACE_EVOLVE = UnitForm(normed=False)
"""The unit of face.evoLVe's networks: BN, conv, PReLU, conv, BN."""

ADAFACE = UnitForm(excitation_name="se_block")
"""The unit of AdaFace's networks up to 100 layers: BN, conv, BN, PReLU, conv, BN."""

ADAFACE_BOTTLENECK = replace(ADAFACE, kernels=(1, 3, 1), narrowing=4)
"""The same from 152 layers on: three convolutions, the middle one of fewer channels."""


class IRNet(Backbone):
    """An IR or IR-SE network for 112x112 faces.

    `depths` are the residual units and `widths` the channels of the four stages, which `body` holds in one row. `form`
    says which units, and `affine` whether the last normalisation has weights: AdaFace's and CurricularFace's has none.
    Source: Deng et al., "ArcFace", CVPR 2019; names as in face.evoLVe (Wang et al., ACM Multimedia 2021) and AdaFace
    (Kim et al., CVPR 2022).
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        excitation: bool,
        widths: tuple[int, int, int, int] = WIDTHS,
        embedding_size: int = 512,
        form: UnitForm = FACE_EVOLVE,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        form = replace(form, excitation=excitation)
        stem = widths[0] // form.narrowing
        self.input_layer = nn.Sequential(nn.Conv2d(3, stem, 3, padding=1, bias=False), form.norm(stem), nn.PReLU(stem))
        self.body = nn.Sequential(*(unit for units in stages(form, stem, widths, depths) for unit in units))
        self.output_layer = nn.Sequential(
            form.norm(widths[3]),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(widths[3] * 7 * 7, embedding_size),
            nn.BatchNorm1d(embedding_size, affine=affine),
        )
        self.blocks = ir_blocks(depths)

    def trunk(self, image: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, widths[3], 7, 7)."""
        return self.output_layer[0](self.body(self.input_layer(image)))  # type: ignore[no-any-return]

    def head(self, x: Tensor) -> Tensor:
        """(B, widths[3], 7, 7) -> embeddings (B, embedding_size)."""
        return self.output_layer[1:](x)  # type: ignore[no-any-return]
