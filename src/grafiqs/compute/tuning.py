"""Choices that were made by measuring, each in this one place: layouts, batches, when compiling pays."""

from __future__ import annotations

import torch

CPU_BATCH = 8
"""Images computed at once on a CPU: more gain nothing there."""

GPU_BATCH = 256
"""The most that are chosen on a GPU."""

GPU_SHARE = 0.5
"""The share of a GPU's free memory that a batch may take."""

GAIN = {
    ("cuda", "float32"): 1.3,
    ("cuda", "tf32"): 2.9,
    ("cuda", "bfloat16"): 3.8,
    ("cpu", "float32"): 1.5,
    ("cpu", "bfloat16"): 1.5,
}
"""How much faster a compiled program is, at least, than the plain way (an H200; on CPUs 1.5 to 1.9 were measured)."""

COMPILING = {"cpu": 1.3, "cuda": 0.7}
"""Seconds that compiling takes for each BatchNorm2d of the network (measured: two cores; an H200 with 16 cores)."""

BLOCKING_WAIT = True
"""Whether a thread that waits for a GPU sleeps, or spins: as fast (an H200), with 0.07 processors in use or 1."""

CHECKED = 4
"""Images of the first batch that a CPU computes by the reference, too, spread over its places; a GPU computes all."""

CONTROLLED = 2
"""Images of the first batch of a GPU that the CPU computes, too."""

BATCHES = 3
"""From more batches than so many on, a program that is on the disk pays: one is computed by the reference, too."""


def plain_layout(device: torch.device, precision: str) -> torch.memory_format:
    """The layout of maps when the plain way computes: the most exact one in float32, the fastest one otherwise.

    Convolutions of channels-last maps add up in one long chain, others in blocks, which lies nearer to float64.
    """
    exact = precision in ("float32", "float64")
    return torch.contiguous_format if exact else compiled_layout(device, precision)


def compiled_layout(device: torch.device, precision: str) -> torch.memory_format:
    """The layout of maps in a compiled program, the fastest: channels last, but for true float32 on a GPU."""
    plain = device.type == "cuda" and precision == "float32"
    return torch.contiguous_format if plain else torch.channels_last
