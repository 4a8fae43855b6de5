"""Where the arithmetic runs, in which precision, and what a run must record of the machine."""

from __future__ import annotations

import copy
import ctypes
import logging
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TypeVar

import torch
from torch import nn

from grafiqs import tuning
from grafiqs.errors import RequestError
from grafiqs.precision import rounded

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # the names that mallopt(3) has for them


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


def check_precision(precision: str, device: torch.device) -> None:
    """Raise RequestError when `device` has no such arithmetic; warn when it has, but slowly."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if precision in ("tf32", "bfloat16") and major < 8:
            raise RequestError(
                f"--precision {precision} needs a GPU of compute capability 8.0 or later, and {device} has "
                f"{major}.{minor}: give --precision float32"
            )
    elif precision == "tf32":
        raise RequestError("--precision tf32 is a number format of GPUs: on a CPU, give float32 or bfloat16")
    elif precision == "bfloat16" and not cpu_has_bfloat16():
        log.warning("warning: this CPU has no bfloat16 arithmetic: --precision bfloat16 is slower here than float32")


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers itself (AVX-512 BF16, AMX, or Arm's)."""
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


def batch_that_fits(device: torch.device, compute: Callable[[], object], count: int) -> int:
    """How many images, a power of two, a GPU's free memory holds, where `compute` computes `count` at once."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    compute()
    each = (torch.cuda.max_memory_allocated(device) - before) / count
    free, _ = torch.cuda.mem_get_info(device)
    fits = 1 << max(1, int(free * tuning.GPU_SHARE / each)).bit_length() - 1
    return min(tuning.GPU_BATCH, fits)


def placed(network: Network, device: torch.device, precision: str = "float32", known: bool = True) -> Network:
    """The network on `device`, its weights in the layout of the plain way; a copy of it in another precision.

    Raises RequestError when it cannot be copied.
    """
    if precision != "float32":
        try:
            network = rounded(network) if precision == "bfloat16" else copy.deepcopy(network)
        except Exception as error:  # it may hold anything
            raise RequestError(
                f"--precision {precision} takes a copy of the network, which cannot be made ({error})"
            ) from error
    if precision == "float64":
        network = network.double()
    layout = tuning.plain_layout(device, precision) if known else torch.contiguous_format
    return network.to(device).to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


@contextmanager
def arithmetic(precision: str = "float32") -> Iterator[None]:
    """Repeatable algorithms inside the block, and true float32 where asked for; PyTorch's settings return after it.

    In bfloat16, what a GPU still convolves in float32 may be rounded to tf32, which is eight times finer.
    """
    matmul_tf32 = torch.backends.cuda.matmul.allow_tf32
    tf32 = precision in ("tf32", "bfloat16")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep the memory that one batch frees for the next, inside the block; what is kept is given back after it.

    The C library of Linux returns large blocks to the system at once, and the system clears each page when it is
    touched again: on two cores that took a fifth of the time in bfloat16. Elsewhere this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, 65536)  # the library's own values
        libc.mallopt(_TRIM_THRESHOLD, 128 * 1024)
        libc.malloc_trim(ctypes.c_size_t(0))


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
