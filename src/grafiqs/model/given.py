"""What may be given for an image, and how it becomes pixels: as the files of a data set do."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow

from grafiqs.datasets.dataset import Readable
from grafiqs.datasets.folders import read_file
from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.face import Faces
from grafiqs.images.decoding import MAX_PIXELS, Picture, picture_of
from grafiqs.images.reading import Read, read, seen

_opening = threading.Lock()


@dataclass(frozen=True)
class Stored:
    """An image of a data set, and the path that it is called by."""

    dataset: Readable
    location: str
    path: str


Given = (
    Stored
    | str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | Pillow.Image
    | np.ndarray[Any, Any]
    | torch.Tensor
)
"""An image of a data set, a path, the bytes of an image file, a Pillow image, or RGB pixels, all of them uint8.

Pixels are an array (H, W, 3), or a tensor (3, H, W).
"""


def name_of(image: Given) -> str | None:
    """The path of an image that is given by one."""
    if isinstance(image, Stored):
        return image.path
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else None


def check_kind(image: object) -> None:
    """Raise TypeError or ValueError for what is no image whatever is in it: a mistake of the caller's."""
    if isinstance(image, np.ndarray | torch.Tensor):
        is_array = isinstance(image, np.ndarray)
        wanted = "an array of pixels is uint8 (H, W, 3)" if is_array else "a tensor of pixels is uint8 (3, H, W)"
        channels = image.shape[-1 if is_array else 0] if image.ndim == 3 else 0
        if image.dtype not in (np.uint8, torch.uint8):
            raise TypeError(f"{wanted}, RGB from 0 to 255; this one is {image.dtype}")
        if isinstance(image, torch.Tensor) and (image.is_meta or image.layout != torch.strided):
            raise ValueError(f"{wanted}, with its values; this one is {image.layout} on {image.device}")
        if channels != 3:
            raise ValueError(f"{wanted}, RGB; this one has the shape {tuple(image.shape)}")
    elif not isinstance(image, Stored | str | os.PathLike | bytes | bytearray | memoryview | Pillow.Image):
        raise TypeError(
            "an image is a path, bytes (of a file: its read()), a Pillow image, an array or a tensor, or a list of "
            f"them (others: stream); this is of type {type(image).__name__}"
        )


def held(image: Given) -> Given | Picture | UnreadableSampleError:
    """The same, with pixels of its own: what a caller holds may change, or be used by others, before it is read."""
    try:
        if isinstance(image, Pillow.Image):
            with _opening:  # a Pillow image decodes itself when it is asked, and not for two at once
                return picture_of(image)
        if isinstance(image, bytearray | memoryview):
            return bytes(image)
        if isinstance(image, np.ndarray | torch.Tensor):
            pixels = image.detach().cpu().permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else image
            height, width, _ = pixels.shape
            if not 0 < height * width <= MAX_PIXELS:
                raise UnreadableSampleError(f"{width}x{height} pixels are none, or more than {MAX_PIXELS:,}")
            return Picture("array", "RGB", np.array(pixels, order="C"))
        return image
    except UnreadableSampleError as error:
        return error


def prepared(
    image: Given | Picture | UnreadableSampleError, size: tuple[int, int], faces: Faces | None
) -> Read | UnreadableSampleError:
    """What is `held` as a network of this input `size` is given it, cut to its face by `faces`; or why not."""
    try:
        match image:
            case UnreadableSampleError():
                return image
            case Picture():
                return seen(image, hashlib.sha256(image.pixels.tobytes()).hexdigest(), size, faces, "")
            case Stored():
                return read(image.dataset.read(image.location), size, faces, image.location)
            case bytes():
                return read(image, size, faces, "")
        path = os.fsdecode(image)  # type: ignore[arg-type]  # nothing else is left
        return read(read_file(Path(path)), size, faces, path)
    except UnreadableSampleError as error:
        return error
    except ValueError as error:  # of a path: a NUL in it, say
        return UnreadableSampleError(f"cannot be opened: {error}")
