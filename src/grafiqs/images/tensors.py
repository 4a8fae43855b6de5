"""From pixels to the network's input, as tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grafiqs.images.decoding import decode
from grafiqs.images.preprocessing import USUAL, Preprocessing


def read(data: bytes, size: tuple[int, int] = USUAL.size) -> Tensor:
    """Encoded image -> uint8 RGB tensor (3, *size). Raises UnreadableSampleError as `decode` does."""
    return resized(decode(data), size)


def resized(pixels: NDArray[np.uint8], size: tuple[int, int] = USUAL.size) -> Tensor:
    """RGB uint8 (H, W, 3) -> uint8 tensor (3, *size); `size` is height and width.

    Bilinear with antialiasing, still in uint8: bit for bit what torchvision's v2 resize gives on the CPU.
    """
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    if image.shape[1:] == size:
        return image.contiguous()
    batch = torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)
    return batch[0].contiguous()


def normalise(images: Tensor, preprocessing: Preprocessing = USUAL, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 RGB (B, 3, H, W) -> the network's input of the same shape: (x/255 - mean) / std, in its channel order."""
    if preprocessing.channel_order == "bgr":
        images = images.flip(1)
    channels = zip(images.to(dtype).div(255).unbind(1), preprocessing.mean, preprocessing.std, strict=True)
    return torch.stack([channel.sub(mean).div(std) for channel, mean, std in channels], dim=1)
