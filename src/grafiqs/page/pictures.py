"""Faces and heat maps of a run, as many as a budget of bytes allows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grafiqs.datasets.dataset import Dataset, Sample
from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.face import Face
from grafiqs.images.heat import heat_map
from grafiqs.images.reading import THREADS, Read, Reader
from grafiqs.run import finished
from grafiqs.run.journal import Scored
from grafiqs.run.results import Run
from grafiqs.workers.ahead import mapped

_SIDES = (112, 80, 64)
"""How high a thumbnail is: the largest at which all of a run fit the budget, or the last."""

_QUALITY = 80
"""Of a thumbnail, as JPEG."""

_MAP = 56
"""How high and wide a heat map is at most."""

_TRIED = 16
"""By so many thumbnails the size of all is estimated."""

Advance = Callable[[], object]


@dataclass
class Pictures:
    """Pictures in base64, some for each row: what is there, how many bytes that takes, and what could not be shown.

    `changed` counts images that are not those that were scored, or gradients that are not those of the run.
    """

    found: dict[int, list[str]] = field(default_factory=dict)
    size: int = 0
    changed: int = 0

    def add(self, row: int, pictures: Sequence[bytes], budget: int) -> bool:
        """Take the pictures of a row, unless they go beyond the budget; whether they were taken."""
        texts = [base64.b64encode(picture).decode() for picture in pictures]
        size = len(f'"{row}":[],') + sum(len(text) + len('"",') for text in texts)
        if self.size + size > budget:
            return False
        self.found[row] = texts
        self.size += size
        return True


@dataclass(frozen=True)
class _Known:
    """The faces that a run has found, by location: nothing is detected."""

    rows: dict[str, list[float | None]]

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:  # noqa: ARG002
        """The face that a sample was cut by."""
        return Face.of_row(self.rows[location])

    def check(self, locations: Any) -> None:
        """All are known."""

    def source(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}


@dataclass(frozen=True)
class Shown:
    """The samples of a page and what is known of each, in the order of its rows."""

    run: Run
    samples: list[Sample]
    outcomes: list[Scored]

    @staticmethod
    def of(run: Run, rows: Sequence[int]) -> Shown:
        """Those in these rows of the scores, in their order. Raises OSError or ValueError for damaged tables."""
        wanted = set(rows)
        outcomes = (one for one in finished.read(run.folder, run.manifest) if isinstance(one, Scored))
        known = {row: one for row, one in enumerate(outcomes) if row in wanted}
        found = [known[row] for row in rows]
        return Shown(run, [run.manifest.subset.samples[one.index] for one in found], found)

    def faces(self, dataset: Dataset, order: Sequence[int], budget: int, advance: Advance) -> Pictures:
        """Thumbnails of what the network saw (JPEG), in this order, until they come to so many bytes.

        Images are cut to the faces that the run has found, and shown only if they have the checksums that they had.
        """
        run = self.run
        aligned = run.manifest.aligns
        known = {self.samples[row].location: self.outcomes[row].face for row in order} if aligned else {}
        reader = Reader(dataset, tuple(run.manifest.preprocessing["size"]), _Known(known) if aligned else None)
        found = Pictures()
        locations = [self.samples[row].location for row in order]
        with ThreadPoolExecutor(THREADS) as pool, closing(mapped(pool, reader, locations, 2 * THREADS)) as reading:
            crops = self._crops(zip(order, reading, strict=True), found, advance)
            tried = list(islice(crops, _TRIED))
            side = _side([crop for _, crop in tried], len(order), budget)
            for row, crop in chain(tried, crops):
                if not found.add(row, [_thumbnail(crop, side)], budget):
                    break
        return found

    def _crops(
        self, reading: Iterator[tuple[int, Read | UnreadableSampleError]], found: Pictures, advance: Advance
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for row, read in reading:
            advance()
            if isinstance(read, UnreadableSampleError) or read.sha256 != self.outcomes[row].image_sha256:
                found.changed += 1
            else:
                yield row, read.pixels.transpose(1, 2, 0)

    def maps(self, order: Sequence[int], budget: int, advance: Advance) -> Pictures:
        """Heat maps of every layer, in this order, until they come to so many bytes.

        They are made from the gradients whose checksums are those of the run. A byte a pixel, row by row: 255 times
        the square root of the share of the largest magnitude of that face and layer.
        """
        found = Pictures()
        with ThreadPoolExecutor(THREADS) as pool, closing(mapped(pool, self._maps, order, 2 * THREADS)) as making:
            for row, made in zip(order, making, strict=True):
                advance()
                if made is None:
                    found.changed += 1
                elif not found.add(row, made, budget):
                    break
        return found

    def _maps(self, row: int) -> list[bytes] | None:
        """The maps of a face, a layer each; None if a gradient is not that of the run."""
        manifest, outcome = self.run.manifest, self.outcomes[row]
        store = manifest.store(self.run.folder)
        try:
            gradients = [
                store.verified(layer, outcome.index, checksum)
                for layer, checksum in zip(manifest.dumps, outcome.files_sha256, strict=True)
            ]
        except UnreadableSampleError:
            return None
        shares = (_reduced(heat_map(gradient, gradient.shape[1:])) for gradient in gradients)
        return [np.rint(255 * np.sqrt(share)).astype(np.uint8).tobytes() for share in shares]


def map_sizes(run: Run) -> dict[str, tuple[int, ...]]:
    """The height and width of the heat maps of each layer."""
    shapes = run.manifest.layers
    return {layer: _reduced(np.empty(shapes[layer][1:], np.float32)).shape for layer in run.manifest.dumps}


def _reduced(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map (H, W) of at most `_MAP` rows and columns: the largest of each square of pixels, so that none is lost."""
    side = math.ceil(max(shares.shape) / _MAP)
    height, width = (math.ceil(length / side) for length in shares.shape)
    whole = np.zeros((height * side, width * side), np.float32)
    whole[: shares.shape[0], : shares.shape[1]] = shares
    return np.asarray(whole.reshape(height, side, width, side).max(axis=(1, 3)), np.float32)


def _side(crops: Sequence[NDArray[np.uint8]], count: int, budget: int) -> int:
    """How high thumbnails are to be for so many to fit the budget, judged by some of them."""
    for side in _SIDES[:-1]:
        if sum(len(_thumbnail(crop, side)) for crop in crops) * 4 / 3 * count < budget * len(crops):
            return side
    return _SIDES[-1]


def _thumbnail(crop: NDArray[np.uint8], side: int) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(crop))
    if image.height > side:
        image = image.resize((max(1, round(side * image.width / image.height)), side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
