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
    `face` is where it was found, if the model looks for one, in pixels of the picture once that is turned by its EXIF
    orientation, and `size` that picture's height and width. `remarks` says what should not be overlooked.

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

    @property
    def remarks(self) -> tuple[str, ...]:
        """What should not be overlooked about the image, a sentence each; `extract` and `score` warn of it."""
        found = []
        if self.remark is not None:
            if self.remark.one_colour:
                found.append("it is of one colour: there is no face in it")
            if self.remark.bits is not None:
                found.append(f"it has 16 bits a value, and fills the lower {self.remark.bits} at most: it is too dark")
            if self.remark.unsure:
                found.append("its face may stand in another turn")
            if self.remark.is_crop:
                found.append("it is an aligned crop already, and was aligned again")
        if self.face is None and self.crop is not None and self.size not in (None, self.crop.shape[:2]):
            height, width = self.size or (0, 0)
            found.append(f"it was not aligned, but resized whole from {width}x{height}")
        return tuple(found)

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
