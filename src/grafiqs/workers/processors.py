"""How many processors this process may use: fewer than the machine has, in a container or a batch job."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def usable() -> int:
    """How many processors this process may keep busy; one at least."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(share) for share in _granted())]))


def _granted() -> Iterator[float]:
    """How many processors' time each control group that this process is in may take, if Linux limits it.

    A group's limit holds for all groups in it; and a container may see its own group as the root, under another name.
    """
    for line in _lines("proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2, one tree of groups
            tree, files = "sys/fs/cgroup", ["cpu.max"]
        elif "cpu" in controllers.split(","):  # version 1, a tree for each controller
            tree, files = "sys/fs/cgroup/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        for folder in (PurePosixPath(group), *PurePosixPath(group).parents):
            limit = [word for file in files for text in _lines(f"{tree}{folder}/{file}") for word in text.split()]
            if len(limit) == 2 and all(word.isdecimal() and int(word) for word in limit):  # without one: max, or -1
                quota, period = map(int, limit)
                yield quota / period


def _lines(path: str) -> list[str]:
    """The lines of a file of the system; none if there is no such file."""
    try:
        return (_ROOT / path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
