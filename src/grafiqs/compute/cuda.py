"""For NVIDIA's GPUs alone: copies beside the computation, programs recorded as graphs, memory, versions.

None of it runs on a CPU.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from grafiqs.compute import programs, tuning
from grafiqs.errors import RequestError, first_line

log = logging.getLogger(__name__)

SETTINGS = {"deterministic": True}
"""The compiler's settings for a GPU, whatever it compiles."""


# -- the device --------------------------------------------------------------------------------------------


def check_precision(precision: str, device: torch.device) -> None:
    """Raise RequestError when a GPU has no such arithmetic."""
    major, minor = torch.cuda.get_device_capability(device)
    if precision in ("tf32", "bfloat16") and major < 8:
        raise RequestError(
            f"--precision {precision} needs a GPU of compute capability 8.0 or later, and {device} has "
            f"{major}.{minor}: give --precision float32"
        )


def batch_that_fits(device: torch.device, compute: Callable[[], object], count: int) -> int:
    """How many images, a power of two, a GPU's free memory holds; `compute` computes `count` at once."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    compute()
    each = (torch.cuda.max_memory_allocated(device) - before) / count
    free, _ = torch.cuda.mem_get_info(device)
    fits = 1 << max(1, int(free * tuning.GPU_SHARE / each)).bit_length() - 1
    return min(tuning.GPU_BATCH, fits)


def environment(device: torch.device) -> dict[str, object]:
    """What a GPU computes with besides PyTorch: versions, None for what is missing."""
    return {
        "compute_capability": "{}.{}".format(*torch.cuda.get_device_capability(device)),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "triton": _version("triton"),
    }


def _version(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    """The version of NVIDIA's driver, by its own library; PyTorch does not tell it."""
    found = ctypes.create_string_buffer(80)
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        failed = library.nvmlInit_v2() or library.nvmlSystemGetDriverVersion(found, ctypes.c_uint(len(found)))
    except (OSError, AttributeError):
        return None
    return None if failed else found.value.decode(errors="replace")


# -- copies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrival:
    """When copies have arrived in the CPU's memory; until then, what they are copied of must live."""

    event: torch.cuda.Event
    originals: list[Tensor]

    def wait(self) -> None:
        """Return when they have."""
        self.event.synchronize()
        self.originals.clear()


def stream(device: torch.device) -> torch.cuda.Stream:
    """A stream beside the computation."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def fetched(found: dict[str, Tensor], beside: torch.cuda.Stream) -> tuple[dict[str, Tensor], Arrival]:
    """Copies on their way to the CPU, on a stream beside the computation, which may overwrite what they are copied of.

    So that is cloned first; the clones must live until the copies have arrived.
    """
    own = {name: value.clone() for name, value in found.items()}
    beside.wait_stream(torch.cuda.current_stream(beside.device))
    with torch.cuda.stream(beside):
        copies = {name: value.to("cpu", non_blocking=True) for name, value in own.items()}
    arrived = torch.cuda.Event(blocking=tuning.BLOCKING_WAIT)  # type: ignore[no-untyped-call]
    arrived.record(beside)
    return copies, Arrival(arrived, list(own.values()))


# -- programs ----------------------------------------------------------------------------------------------


def settings_for(weights: list[Tensor]) -> dict[str, bool]:
    """The compiler's settings: maps stay in the layout of the weights (in float32 a tenth faster, on an H200)."""
    maps = [weight for weight in weights if weight.dim() == 4]
    return {
        "layout_optimization": not all(weight.is_contiguous() for weight in maps),
        **SETTINGS,
    }


def program(
    trace: Callable[[], GraphModule], pixels: Tensor, weights: list[Tensor], kernels: Path
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """What `trace` gives as the compiler loads it, from `kernels` if it kept something, recorded as a CUDA graph."""
    with torch.cuda.device(pixels.device):
        from torch._inductor import standalone_compile

        inputs: list[Any] = [pixels, *weights]
        settings = {"config_patches": settings_for(weights)}
        run = standalone_compile(trace(), inputs, dynamic_shapes="from_example_inputs", options=settings)
        with torch.no_grad():
            run(*inputs)
        programs.complete(kernels)
        return _recorded(run, pixels, weights)


def _recorded(
    run: Callable[..., tuple[Tensor, ...]], pixels: Tensor, weights: list[Tensor]
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The program as a CUDA graph: launched as a whole, into the same memory every time.

    A GPU that has no memory left for it launches the program kernel by kernel.
    """
    usual = torch.cuda.current_stream(pixels.device)
    try:
        inputs = pixels.clone()
        own = stream(pixels.device)
        own.wait_stream(usual)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.stream(usual):  # a recording that fails would stay on its own stream
            with torch.cuda.stream(own):
                for _ in range(3):  # libraries set themselves up in their first calls, which cannot be recorded
                    run(inputs, *weights)
            usual.wait_stream(own)
            with torch.cuda.graph(graph, stream=own):
                outputs = tuple(run(inputs, *weights))
    except RuntimeError as error:  # for want of memory, say
        log.warning("warning: the program is launched kernel by kernel (no CUDA graph: %s)", first_line(error))
        return lambda pixels: tuple(run(pixels, *weights))

    def replay(pixels: Tensor, _held: object = (run, weights)) -> tuple[Tensor, ...]:  # what the graph reads must live
        inputs.copy_(pixels, non_blocking=True)
        graph.replay()
        return outputs

    return replay
