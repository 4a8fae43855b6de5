"""Where the arithmetic runs, and what a run must record of the machine."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TypeVar

import torch
from torch import nn

from grafiqs.errors import RequestError

Network = TypeVar("Network", bound=nn.Module)

BATCH_SIZE = {"cpu": 8, "cuda": 64}
"""Images computed at once where nobody says otherwise."""


def resolve(device: str, gpu: int | None = None) -> torch.device:
    """The device that `--device` and `--gpu` ask for. Raises RequestError when this machine has no such device."""
    if gpu is not None:
        device = f"cuda:{gpu}"
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise RequestError(f"--device {device!r} is unknown: give auto, cpu, cuda or cuda:N")
    if device == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise RequestError(
            f"there is no GPU {index}: PyTorch {torch.__version__} sees {count} GPUs here; give --device cpu, or auto"
        )
    return torch.device("cuda", index)


def memory_format(device: torch.device) -> torch.memory_format:
    """The layout in which `device` computes fastest: channels last gains a fifth on a CPU."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def placed(network: Network, device: torch.device) -> Network:
    """The network on `device`, its weights in the layout that is fastest there."""
    return network.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload, no-any-return]


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """True float32 and repeatable algorithms inside the block; PyTorch's own settings return after it."""
    matmul_tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32


def environment(device: torch.device) -> dict[str, object]:
    """What besides the options can change the last bits of a gradient: versions, device, threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **{package: version(package) for package in ("grafiqs", "torch", "numpy", "pillow")},
        "device": f"{device.type} {name}",
        "threads": torch.get_num_threads(),
    }
