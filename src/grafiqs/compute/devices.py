"""Where the arithmetic runs, in which precision, and what a run must record of the machine."""

from __future__ import annotations

import copy
import ctypes
import logging
import os
import platform
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from typing import TypeVar

import torch
from torch import nn

from grafiqs.compute import cuda, tuning
from grafiqs.compute.precision import rounded
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.settings import held

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)

_FORMATS = [
    ("generic", "all"),
    *((backend, operation) for backend in ("cuda", "mkldnn") for operation in ("all", "conv", "rnn", "matmul")),
]
"""Where PyTorch keeps what float32 numbers are multiplied as, each after what it inherits from.

`torch.backends` has them as attributes, but that of mkldnn for all operations sets the one of all backends.
"""

_FLAGS = [
    (torch.backends.cudnn, "enabled", True),
    (torch.backends.cudnn, "benchmark", False),
    (torch.backends.cudnn, "deterministic", True),
    *(
        [(torch.backends.cudnn, "depthwise_kernel", "auto")]
        if hasattr(torch.backends.cudnn, "depthwise_kernel")
        else []
    ),
    (torch.backends.mkldnn, "enabled", True),
]
"""The libraries that convolve: in use, and with algorithms that give the same every time."""

_VARIABLES = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"),
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG"),
)
"""Variables of the libraries that PyTorch computes by: they choose other instructions or algorithms."""

_ROUNDING = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
"""Variables that have oneDNN round float32 numbers unseen."""

_LARGEST = 2**25 - 2**16
"""The largest block, in bytes, that glibc learns from (32 MB with what it adds to it)."""

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
        cuda.check_precision(precision, device)
    elif precision == "tf32":
        raise RequestError("--precision tf32 is a number format of GPUs: on a CPU, give float32 or bfloat16")
    elif cpu_has_bfloat16():
        for name in _ROUNDING:
            if os.environ.get(name, "STRICT").upper() != "STRICT":
                raise RequestError(
                    f"{name}={shown(os.environ[name])} has this CPU round float32 numbers, unseen: unset that variable"
                )
    elif precision == "bfloat16":
        log.warning("warning: this CPU has no bfloat16 arithmetic: --precision bfloat16 is slower here than float32")


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers itself (AVX-512 BF16, AMX, or Arm's)."""
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


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
    """Repeatable algorithms inside the block, and true float32 if asked for; PyTorch's settings return after it.

    Whatever the caller has set, by any of PyTorch's interfaces, is as it was, inherited values included. Inside,
    the older of them may refuse to tell whether cuDNN uses tf32, which it cannot say of each operation.
    In bfloat16, what a GPU still convolves in float32 may be rounded to tf32, which is eight times finer.
    """
    with ExitStack() as stack:
        stack.enter_context(_number_formats(tf32=precision in ("tf32", "bfloat16")))
        for library, name, value in _FLAGS:
            stack.enter_context(held(partial(getattr, library, name), partial(setattr, library, name), value))
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def _number_formats(tf32: bool) -> Iterator[None]:
    """What float32 numbers are multiplied as inside the block: tf32 by a GPU if that is wanted, else float32.

    PyTorch keeps it for each operation, backend, and all, and what is not set is inherited. It tells the values that
    hold, not which are inherited; but what is set does not change with what it would inherit.
    """
    tell, put = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    before: dict[tuple[str, str], str] = {}
    """What had a value of its own, and what is given one here."""
    legacy = None
    try:
        for wanted in ("tf32", "ieee"):
            for place in _FORMATS:
                if (found := tell(*place)) != wanted:
                    before.setdefault(place, found)
                    put(*place, wanted)
        legacy = torch.get_float32_matmul_precision()  # does not raise, now that nothing contradicts it
        for place in (("cuda", "all"), ("cuda", "matmul"), ("mkldnn", "matmul")):
            before.setdefault(place, "none")  # they are given values below
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        put("mkldnn", "matmul", "ieee")
        for place in _FORMATS:
            if tf32 and place[0] == "cuda" and tell(*place) != "tf32":
                put(*place, "tf32")
        yield
    finally:
        if legacy is not None:
            torch.set_float32_matmul_precision(legacy)
        for place, found in before.items():
            put(*place, found)


@contextmanager
def usual_settings() -> Iterator[None]:
    """Inside the block, tensors have PyTorch's own defaults: float32, on the CPU."""
    on_cpu = torch.get_default_device() == torch.device("cpu")
    with (
        held(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        torch.inference_mode(False),
        nullcontext() if on_cpu else torch.device("cpu"),
    ):
        yield


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep the memory that one batch frees for the next, inside the block; what is kept is given back after it.

    The C library of Linux returns large blocks to the system, and the system clears each page when it is touched
    again, which takes up to a fifth of the time. What is large, it learns from blocks that are freed, up to 32 MB: so
    it is shown one. Its settings, which are the caller's, stay as they are. Elsewhere this does nothing.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")
    try:
        yield
    finally:
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def keep_all_memory() -> None:
    """From now on, keep all memory that is freed for what comes next: in a process that does nothing else."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def environment(device: torch.device) -> dict[str, object]:
    """What besides the options can change the last bits of a gradient: versions, device, threads, variables."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **{package: version(package) for package in ("grafiqs", "torch", "numpy", "pillow")},
        "device": f"{device.type} {name}",
        **(cuda.environment(device) if on_gpu else {}),
        "threads": torch.get_num_threads(),
        **{variable: os.environ[variable] for variable in _VARIABLES if variable in os.environ},
    }
