"""One photo, and a stream of 256, through a model in the hand: against one image after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from grafiqs import load
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.checkpoint import load_checkpoint
from grafiqs.compute.computer import Computer
from grafiqs.demo.identity import Identity
from grafiqs.faces.cut import cut_out
from grafiqs.faces.detector import Detector
from grafiqs.images.decoding import decode

PHOTOS = 256
Figure = tuple[str, float, str]


def figures(folder: Path, weights: Path, device: torch.device, detector: Path | None) -> Iterator[Figure]:
    """Name, value and unit of each figure; with a `detector`, photos are aligned first."""
    photos = drawn(folder)
    how = "aligned by YuNet, " if detector else ""
    started = time.perf_counter()
    model = load(weights, align=detector, device=str(device))
    model(photos[0])
    yield "the first photo of a new model, loading it included", time.perf_counter() - started, "s"
    checkpoint = load_checkpoint(weights)
    alone = Computer(checkpoint.network, device, 1, LAYERS, checkpoint.preprocessing)
    finder = None if detector is None else Detector(detector)

    def prepared(photo: Path) -> torch.Tensor:
        pixels = decode(photo.read_bytes())
        if finder is None:
            pixels = cv2.resize(pixels, (112, 112), interpolation=cv2.INTER_AREA)
        else:
            pixels = cut_out(pixels, finder.face("", pixels), (112, 112))
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]

    def one_after_the_other(some: list[Path]) -> None:
        for photo in some:
            alone(prepared(photo)).wait()

    few = photos[:8]
    plain, ours = [], []
    for _ in range(4):  # in turn; the first round warms up
        plain.append(timed(lambda: one_after_the_other(few)) / len(few))
        ours.append(timed(lambda: [model(photo) for photo in few]) / len(few))
    reading = timed(lambda: [prepared(photo) for photo in few]) / len(few)
    yield f"one photo, {how}five layers and loss, gradients kept: model(photo)", 1000 * median(ours), "ms"
    yield "... of that, reading, finding and cutting out the face", 1000 * reading, "ms"
    yield "... against the parts of it, called one after the other", median(plain) / median(ours), "x"
    list(model.stream(photos[:32], gradients=False))
    stream, single = [], []
    for _ in range(3):
        single.append(timed(lambda: one_after_the_other(photos[:32])) / 32)
        stream.append(timed(lambda: list(model.stream(photos, gradients=False))) / PHOTOS)
    yield f"a stream of {PHOTOS}, {how}batches of {model.batch_size}, scores alone", 1 / median(stream), "photos/s"
    yield "... against one photo after the other", median(single) / median(stream), "x"


def drawn(folder: Path) -> list[Path]:
    """Photos of 250x250 with a drawn face in each, 16 different ones."""
    (folder / "photos").mkdir()
    found = []
    for number in range(PHOTOS):
        canvas = np.full((250, 250, 3), 128, np.uint8)
        canvas[69:181, 69:181] = Identity(0, number % 16).face(0).image
        found.append(folder / "photos" / f"{number}.jpg")
        cv2.imwrite(str(found[-1]), canvas[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return found


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(values: list[float]) -> float:
    """Of all rounds but the first, which warms up."""
    return statistics.median(values[1:])
