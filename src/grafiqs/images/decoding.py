"""From an encoded image to pixels; the only module that decodes the images of data sets."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from grafiqs.errors import UnreadableSampleError
from grafiqs.images import libtiff
from grafiqs.images.mistaken import taken_for_image

MAX_PIXELS = 89_478_485
"""A picture with more pixels is refused before it is decoded (a quarter of a gigabyte of RGB; Pillow's own limit)."""

_READERS = (
    *(AvifImagePlugin.AvifImageFile, BmpImagePlugin.BmpImageFile, BmpImagePlugin.DibImageFile),
    GifImagePlugin.GifImageFile,
    *(Jpeg2KImagePlugin.Jpeg2KImageFile, JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile),
    *(PpmImagePlugin.PpmImageFile, TiffImagePlugin.TiffImageFile, WebPImagePlugin.WebPImageFile),
)
"""The decoders that may see a file: none of them runs another program, as Pillow's EPS reader does."""

# The markers that begin and end a JPEG 2000 codestream, and of a JPEG what begins its first scan, and its end.
# None of them can occur inside.
_J2K_START, _J2K_END = b"\xff\x4f\xff\x51", b"\xff\xd9"
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"

_PNG_SIGNATURE = 8
"""How many bytes stand before the first chunk of a PNG."""

_FEWER_BITS = (8, 10, 12, 14)
"""How many bits cameras, and those who forget to scale, store in 16."""

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
    """A decoded image: its format and mode, in Pillow's words, and its pixels, RGB uint8 (H, W, 3).

    `bits` is how many of its 16 bits an image of 16 uses, if that is fewer: 8, 10, 12 or 14. The largest value says so.
    """

    format: str
    mode: str
    pixels: NDArray[np.uint8]
    bits: int | None = None


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode an encoded image to RGB uint8 (H, W, 3). Raises UnreadableSampleError as `picture` does."""
    return picture(data).pixels


def picture(data: bytes) -> Picture:
    """Decode an encoded image to RGB, turned upright as its EXIF orientation says, and say what it was.

    Grey becomes three equal channels, alpha is dropped, 16 bits become their upper 8, CMYK is converted without
    a colour profile, and of an animation the first frame counts.
    Raises UnreadableSampleError for data that are not a whole image, or an image above MAX_PIXELS.
    """
    if not data:
        raise UnreadableSampleError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=[reader.format for reader in _READERS]) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableSampleError(f"{width}x{height} pixels are more than {MAX_PIXELS:,}")
            deep = _is_deep(image)
            with libtiff.damage() if image.format == "TIFF" else nullcontext() as damage:
                image.load()
            if damage:
                raise UnreadableSampleError(f"its compressed data are damaged ({damage[0]})")
            if flaw := _flaw(str(image.format), data):
                raise UnreadableSampleError(flaw)
            pixels = _rgb(_upright(image))
            return Picture(str(image.format), image.mode, pixels, _bits(image, pixels) if deep else None)
    except UnreadableSampleError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableSampleError(taken_for_image(data) or "not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableSampleError(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # hostile data make decoders fail in every way there is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableSampleError(f"cannot be decoded: {reason}") from error


def picture_of(image: Image.Image) -> Picture:
    """A Pillow image as if it had been decoded here. Raises UnreadableSampleError when it cannot be.

    16 bits are told by its mode alone: Pillow makes 8 of the values of colours when it opens them.
    """
    width, height = image.size
    if not width or not height or width * height > MAX_PIXELS:
        raise UnreadableSampleError(f"{width}x{height} pixels are none, or more than {MAX_PIXELS:,}")
    try:
        deep = _is_deep(image) if isinstance(image, ImageFile.ImageFile) else _is_grey_of_16(image)
        image.load()
        pixels = _rgb(_upright(image))
        return Picture(str(image.format), image.mode, pixels, _bits(image, pixels) if deep else None)
    except UnreadableSampleError:
        raise
    except Exception as error:  # a file that is cut off, or closed
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableSampleError(f"cannot be decoded: {reason}") from error


def _flaw(kind: str, data: bytes) -> str:
    """What is wrong with the data of a picture whose decoder makes do with any beginning, or any filling."""
    match kind:
        case "JPEG2000" if data.rfind(_J2K_END) < data.rfind(_J2K_START):
            return "image file is truncated"
        case "JPEG" | "MPO" if data.find(_JPEG_END, _jpeg_scan(data)) < 0:
            return "image file is truncated"
        case "PNG" if any(zlib.crc32(chunk) != checksum for chunk, checksum in _png_data(data)):
            return "its pixels do not have their checksum"
        case "PPM" if data.startswith((b"P2", b"P3")):
            line = data[1 + max(data.rfind(b"\n"), data.rfind(b"\r")) :]
            if line[-1:].isdigit() and b"#" not in line:
                return (
                    "nobody can tell whether it is cut off: no space or line break ends its last number; "
                    "if it is whole, add a line break"
                )
    return ""


def _jpeg_scan(data: bytes) -> int:
    """Where the first scan of a JPEG begins: behind the segments, in which a whole small JPEG may lie."""
    place = 2
    while data[place : place + 1] == b"\xff" and (marker := data[place : place + 2]) != _JPEG_SCAN:
        place += 1 if marker == b"\xff\xff" else 2 + int.from_bytes(data[place + 2 : place + 4])
    return place


def _png_data(data: bytes) -> Iterator[tuple[memoryview, int]]:
    """The kind and data of every chunk of a PNG that holds pixels, and the checksum that it has."""
    place, view = _PNG_SIGNATURE, memoryview(data)
    while (kind := data[place + 4 : place + 8]) not in (b"", b"IEND"):
        end = place + 8 + int.from_bytes(data[place : place + 4])
        if kind == b"IDAT":
            yield view[place + 4 : end], int.from_bytes(data[end : end + 4])
        place = end + 4


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF data, however broken, do not spoil the picture
        orientation = 1
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether an image that is not loaded yet has 16 bits a value, whatever Pillow makes of them."""
    if image.format == "PPM":
        return _is_grey_of_16(image) or any(tile.args == ("RGB", 65535) for tile in image.tile)
    of_16 = image.format in ("PNG", "TIFF") and any(";16" in str(tile.args) for tile in image.tile)
    return of_16 or _is_grey_of_16(image)  # grey of a JPEG 2000, too


def _is_grey_of_16(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _bits(image: Image.Image, pixels: NDArray[np.uint8]) -> int | None:
    """How many of its 16 bits an image uses, if fewer; of grey, black says nothing.

    Of colours the lower 8 bits are lost: those that are black fill no more than these.
    """
    if _is_grey_of_16(image):
        largest = float(np.asarray(image).max())
    elif not pixels.any():
        return _FEWER_BITS[0]
    else:  # the least that it can be: PPM's values are rounded, others cut off
        largest = (pixels.max() - 0.5) * 257 if image.format == "PPM" else pixels.max() * 256.0
    return next((bits for bits in _FEWER_BITS if 0 < largest < 2**bits), None)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if _is_grey_of_16(image):
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnreadableSampleError("32-bit pixels have no known range")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
