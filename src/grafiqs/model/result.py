"""What a model says of one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from grafiqs.errors import RequestError
from grafiqs.faces.face import Face
from grafiqs.images.heat import heat_map
from grafiqs.images.remarks import Remark


@dataclass(frozen=True, eq=False)
class Result:
    """What was found of one image; or why nothing could be, in `error`, with the rest empty.

    `path` is the one it was given by, if it was. `scores` are by layer, with `loss` and, where embeddings are, their
    length as `embedding_norm`; a lower one means higher quality, but of that. `quality` is from 0 to 100 for each of
    them that the reference knows, higher is better: 80 means better than 80 % of its faces; `layer` is the one that the
    reference goes by. `embedding` is float32 (size,), `crop` uint8 (H, W, 3), what the network was given, in RGB.
    `face` is where it was found in the picture, if the model looks for one, `size` the picture's height and width, and
    `remark` what should not be overlooked about it.

    >>> import grafiqs
    >>> result = grafiqs.load("weights.pth", device="cpu")("faces/ann/0.png")
    >>> result.crop.shape, result.size, result.face, result.quality_score
    ((112, 112, 3), (112, 112), None, None)
    """

    path: str | None = None
    error: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, int] = field(default_factory=dict)
    layer: str | None = None
    embedding: NDArray[np.float32] | None = None
    face: Face | None = None
    crop: NDArray[np.uint8] | None = None
    size: tuple[int, int] | None = None
    remark: Remark | None = None
    dumps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    """The gradients (C, H, W) by layer, unless the model was asked for none."""

    @property
    def quality_score(self) -> int | None:
        """The quality by the reference's layer, 0 to 100; None where there is none."""
        return None if self.layer is None else self.quality.get(self.layer)

    def gradients(self, layer: str) -> NDArray[np.float32]:
        """The gradient at a layer, float32 (C, H, W), as `extract` writes it.

        Raises RequestError when there is none.
        """
        if layer not in self.dumps:
            have = ", ".join(self.dumps) or "none: it could not be scored, or without gradients"
            raise RequestError(f"there is no gradient of {layer!r}; there is {have}")
        return self.dumps[layer]

    def heat_map(self, layer: str = "image") -> NDArray[np.float32]:
        """Where on the crop the network would have to change: (H, W), shares from 0 to 1 of the largest |gradient|.

        Raises RequestError when there is no gradient of this layer.
        """
        height, width = (0, 0) if self.crop is None else self.crop.shape[:2]
        return heat_map(self.gradients(layer), (height, width))
