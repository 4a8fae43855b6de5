"""The machine: its memory is kept between batches while a run is at work, and given back after it."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from grafiqs import devices


def pages_touched_anew() -> int:
    """How many pages the system had to find for ten tensors of 40 MB, made and freed one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than that of Linux")
def test_memory_is_kept_inside_the_block_alone() -> None:
    with devices.kept_memory():
        pages_touched_anew()
        kept = pages_touched_anew()
    given_back = pages_touched_anew()
    assert kept < given_back / 10


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with devices.kept_memory():
        torch.ones(10)
