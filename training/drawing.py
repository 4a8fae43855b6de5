"""Draw many synthetic faces on several processes; train.py and evaluate.py both need it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from grafiqs.demo.degrade import Degradation
from grafiqs.demo.identity import Identity
from grafiqs.faces.template import SIZE
from grafiqs.options.draw import DrawOptions

DEMO_SEED, TRAINING_SEED, EVALUATION_SEED = DrawOptions.seed, 1, 2
"""Whose identities are whose: another seed draws other people."""

Request = tuple[int, Degradation | None]
"""A sample number, and what spoils that face."""


def draw(seed: int, requests: Sequence[Sequence[Request]], processes: int) -> NDArray[np.uint8]:
    """The faces that `requests[number]` asks of every identity `number`, in that order: (N, 112, 112, 3) RGB."""
    faces = np.empty((sum(map(len, requests)), SIZE, SIZE, 3), np.uint8)
    filled = 0
    # Spawned, because a process that is forked after PyTorch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool, tqdm(total=len(faces), unit="face", desc="draw") as progress:
        for drawn in pool.map(_draw_identity, repeat(seed), range(len(requests)), requests):
            faces[filled : filled + len(drawn)] = drawn
            filled += len(drawn)
            progress.update(len(drawn))
    return faces


def _draw_identity(seed: int, number: int, requests: Sequence[Request]) -> NDArray[np.uint8]:
    identity = Identity(seed, number)
    return np.stack([identity.face(sample, degradation).image for sample, degradation in requests])


def positive(text: str) -> int:
    """A whole number above 0, for the command line. Raises ValueError for anything else."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is not above 0")
    return number
