"""How many processors there are to use: what the scheduler allows, and what control groups grant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import grafiqs
from grafiqs.workers import processors

LIMITS = {
    "no control groups": ({}, 8),
    "version 2": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
    "version 2, a share": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
    "version 2, next to nothing": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "1000 100000\n"}, 1),
    "version 2, no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    "version 2, more than there are": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8),
    "version 2, the group of a batch job": (
        {
            "proc/self/cgroup": "0::/slurm/job:1\n",
            "sys/fs/cgroup/slurm/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/slurm/job:1/cpu.max": "max 100000\n",
        },
        3,
    ),
    "version 2, a container that knows the name outside": (
        {"proc/self/cgroup": "0::/docker/0123\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "5:memory:/else\n4:cpu,cpuacct:/job\n0::/\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "50000\n",
        },
        5,
    ),
    "version 1, no limit": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        8,
    ),
    "what nobody writes": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "0 0\n"}, 8),
}


@pytest.mark.parametrize("name", LIMITS)
def test_control_groups_are_asked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, expected = LIMITS[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(processors, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processors.usable() == expected


def test_the_scheduler_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert processors.usable() == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert processors.usable() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors.usable() == 1


def test_nothing_else_counts_processors() -> None:
    source = Path(grafiqs.__file__).parent
    for path in source.rglob("*.py"):
        assert "cpu_count" not in path.read_text() or path.name == "processors.py", path
