"""Faces and heat maps of a run, as many as a budget of bytes allows: best and worst first, the others evenly."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grafiqs.datasets.dataset import Dataset
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.face import Face
from grafiqs.images.decoding import decode
from grafiqs.images.heat import magnitude
from grafiqs.images.reading import read
from grafiqs.run.journal import Scored
from grafiqs.run.results import Run

_QUALITY = 80
"""Of JPEG, for faces and maps."""


@dataclass
class Pictures:
    """Faces by row as JPEG in base64, and by layer the maps of |gradient| over them; what is missing, and why."""

    faces: dict[int, str] = field(default_factory=dict)
    maps: dict[str, dict[int, str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def spread(ranking: Sequence[int]) -> Iterator[int]:
    """Rows in an order of which every beginning lies evenly over the ranking, both ends first.

    >>> list(spread([10, 11, 12, 13, 14]))
    [10, 14, 12, 11, 13]
    """
    count, told = len(ranking), set()
    for place in (0, count - 1):
        if 0 <= place not in told:
            told.add(place)
            yield ranking[place]
    step = 1
    while len(told) < count:
        step *= 2
        for part in range(1, step, 2):
            place = part * (count - 1) // step
            if place not in told:
                told.add(place)
                yield ranking[place]
        if step > 2 * count:
            for place in sorted(set(range(count)) - told):
                told.add(place)
                yield ranking[place]
