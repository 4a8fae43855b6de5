"""The one place that sets random generators: the guide's third kind of seed."""

from __future__ import annotations

import random

import numpy as np
import torch


def set_seeds(seed: int) -> None:
    """Seed the generators of random, NumPy and PyTorch (the CPU's and every GPU's) with `seed`."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what is to be seeded
    torch.manual_seed(seed)  # seeds every CUDA device too
