"""A picture of a result: the crop, and for each layer where on it the gradients are large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from grafiqs.images.heat import over
from grafiqs.model.result import Result

_SIDE = 224
"""How high a crop is shown, in pixels."""

_TITLE = 18


def picture_of(result: Result) -> NDArray[np.uint8]:
    """The crop of a result and its heat maps side by side, RGB uint8 (H, W, 3), each with its score and quality."""
    crop = result.crop if result.crop is not None else np.zeros((1, 1, 3), np.uint8)
    tiles = [_tile(crop, "what the network sees")]
    for layer in result.dumps:
        quality = f", quality {result.quality[layer]}" if layer in result.quality else ""
        tiles.append(_tile(over(crop, result.heat_map(layer)), f"{layer} {result.scores[layer]:.4g}{quality}"))
    return np.concatenate(tiles, axis=1)


def _tile(picture: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    height, width, _ = picture.shape
    wide = max(1, round(_SIDE * width / height))
    tile = Image.new("RGB", (wide, _SIDE + _TITLE), "white")
    tile.paste(Image.fromarray(picture).resize((wide, _SIDE), Image.Resampling.BILINEAR), (0, _TITLE))
    ImageDraw.Draw(tile).text((3, 3), title, fill="black")
    return np.asarray(tile)
