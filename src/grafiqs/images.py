"""From an encoded image to the network's input; the only module that knows the image decoder."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from torch import Tensor

from grafiqs.backbones.catalogue import USUAL, Preprocessing
from grafiqs.errors import UnreadableSampleError

MAX_PIXELS = 89_478_485
"""A picture with more pixels is refused before it is decoded (a quarter of a gigabyte of RGB; Pillow's own limit)."""

_READERS = (
    *(AvifImagePlugin.AvifImageFile, BmpImagePlugin.BmpImageFile, GifImagePlugin.GifImageFile),
    *(Jpeg2KImagePlugin.Jpeg2KImageFile, JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile),
    *(PpmImagePlugin.PpmImageFile, TiffImagePlugin.TiffImageFile, WebPImagePlugin.WebPImageFile),
)
"""The decoders that may see a file: none of them runs another program, as Pillow's EPS reader does."""

# The markers that begin and end a JPEG 2000 codestream; inside it none of them can occur.
_J2K_START, _J2K_END = b"\xff\x4f\xff\x51", b"\xff\xd9"

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A decoded image: its format and mode, in Pillow's words, and its pixels, RGB uint8 (H, W, 3)."""

    format: str
    mode: str
    pixels: NDArray[np.uint8]


def read(data: bytes, size: tuple[int, int] = USUAL.size) -> Tensor:
    """Encoded image -> uint8 RGB tensor (3, *size). Raises UnreadableSampleError as `decode` does."""
    return resized(decode(data), size)


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode an encoded image to RGB uint8 (H, W, 3). Raises UnreadableSampleError as `picture` does."""
    return picture(data).pixels


def picture(data: bytes) -> Picture:
    """Decode an encoded image to RGB, turned upright as its EXIF orientation says, and say what it was.

    Grey becomes three equal channels, alpha is dropped, 16 bits become their upper 8, CMYK is converted without
    a colour profile, and of an animation the first frame counts.
    Raises UnreadableSampleError for data that are no whole image, or an image above MAX_PIXELS.
    """
    if not data:
        raise UnreadableSampleError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=[reader.format for reader in _READERS]) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableSampleError(f"{width}x{height} pixels are more than {MAX_PIXELS:,}")
            image.load()
            if image.format == "JPEG2000" and data.rfind(_J2K_END) < data.rfind(_J2K_START):
                raise UnreadableSampleError("image file is truncated")  # its decoder makes do with any beginning
            return Picture(str(image.format), image.mode, _rgb(_upright(image)))
    except UnreadableSampleError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableSampleError("not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableSampleError(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # hostile data make decoders fail in every way there is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableSampleError(f"cannot be decoded: {reason}") from error


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


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF data, however broken, do not spoil the picture
        orientation = 1
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnreadableSampleError("32-bit pixels have no known range")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
