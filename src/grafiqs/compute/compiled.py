"""The fast path: the reference itself, traced once for one batch shape, and compiled.

Nothing is written twice: what is compiled is the trace of what `grafiqs.gradients` does, forward and backward, whatever
the network. The weights are inputs of the program, so that one program serves every checkpoint of the same shapes.
On a CPU a program is a library of machine code that is loaded without the compiler; on a GPU the compiler loads what it
kept, and the program is recorded as a CUDA graph.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule

from grafiqs.compute import cuda, programs
from grafiqs.compute.programs import NoFolderError
from grafiqs.disk.names import shown
from grafiqs.errors import first_line
from grafiqs.settings import held

log = logging.getLogger(__name__)

Program = Callable[[Tensor], tuple[Tensor, ...]]
"""What a step computes, for pixels of one shape."""

CPU_SETTINGS = {
    "deterministic": True,  # it is not to choose, by timing, between kernels that add up in different orders
    "cpp_cache_precompile_headers": False,  # they take longer to compile than one program gains by them
    "aot_inductor.precompile_headers": False,
    "aot_inductor.compile_wrapper_opt_level": "O0",  # what calls the kernels: a fifth of the time, and no slower
}
"""The compiler's settings for a CPU."""

_DEFINITION = (
    *("backbones", "gradients.py", "settings.py", "images/preprocessing.py", "images/tensors.py"),
    *(f"compute/{name}.py" for name in ("compiled", "computer", "cuda", "devices", "precision", "tuning")),
)
"""The sources that decide what a program computes: with others, it is another program."""


class CompileError(Exception):
    """Compilation failed; the message is the reason."""


def program(step: nn.Module, pixels: Tensor, traces: bool = False) -> Program:
    """Compile `step` for batches of the shape, type and device of `pixels`, or load what was compiled before.

    `step` maps pixels to a tuple of tensors, and may differentiate on the way. Compiling takes a minute or more; what
    was compiled once is found again on the disk, by later processes too, whatever the values of the weights. With
    `traces`, it is identified by its trace as well: for networks that are not defined here.
    On a GPU, what the program returns is overwritten by its next call.
    Raises CompileError when there is no compiler, or it fails; NoFolderError when no folder can keep programs safely.
    """
    place = programs.folder()
    name = _name(step, pixels, traces, place)
    made = _on_gpu if pixels.is_cuda else _on_cpu
    if is_known(step, pixels, traces):
        try:
            return made(step, pixels, place, name)
        except torch.OutOfMemoryError as error:
            raise CompileError(first_line(error)) from error
        except Exception as error:  # noqa: BLE001 - what is damaged fails in every way there is
            log.warning(
                "warning: the compiled program in %s is damaged (%s): compiling it again",
                shown(place),
                first_line(error),
            )
            programs.forget(place, name)
    programs.need_room(place)
    log.info("Compiling the computation: a minute or two, once for all runs like this")
    try:
        return made(step, pixels, place, name)
    except Exception as error:  # a compiler fails in every way there is
        raise CompileError(first_line(error)) from error


def is_known(step: nn.Module, pixels: Tensor, traces: bool = False) -> bool:
    """Whether such a program was compiled before, on this machine, so that it is there in a moment."""
    try:
        place = programs.folder(make=False)
        return programs.is_known(place, _name(step, pixels, traces, place))
    except NoFolderError:
        return False


def traced(step: nn.Module, pixels: Tensor) -> GraphModule:
    """`step` as a graph of plain operations on its inputs: pixels, then its weights in the order of `weights_of`."""
    from torch.fx.experimental.proxy_tensor import make_fx  # loads the compiler's front end

    state = dict(chain(step.named_parameters(), step.named_buffers()))

    def run(pixels: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
        return functional_call(step, dict(zip(state, weights, strict=True)), (pixels,))  # type: ignore[no-any-return]

    graph = make_fx(run, tracing_mode="fake")(pixels, list(state.values()))
    graph.graph.eliminate_dead_code()
    graph.graph.set_codegen(torch.fx.graph.CodeGen())  # its inputs are plain arguments now
    return GraphModule(graph, graph.graph)


def weights_of(step: nn.Module) -> list[Tensor]:
    """What a program of `step` takes beside pixels."""
    return [value.detach() for value in chain(step.parameters(), step.buffers())]


def _on_cpu(step: nn.Module, pixels: Tensor, place: Path, name: str) -> Program:
    """The program as a library; compiled if there is none."""
    library = programs.library(place, name)
    if library is None:
        with programs.workshop(place) as shop, _compiling(shop):
            from torch._inductor import aot_compile  # takes a second, which other runs save

            settings = {**CPU_SETTINGS, "aot_inductor.output_path": str(shop / "program.so")}
            aot_compile(traced(step, pixels), (pixels, *weights_of(step)), options=settings)
            library = programs.keep(shop / "program.so", place, name)
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1)
    weights = weights_of(step)
    return lambda pixels: tuple(runner.run([pixels, *weights]))


def _on_gpu(step: nn.Module, pixels: Tensor, place: Path, name: str) -> Program:
    """The program as the compiler loads it, from what it kept, if anything."""
    kernels = programs.kernels(place, name)
    with _compiling(kernels):
        return cuda.program(partial(traced, step, pixels), pixels, weights_of(step), kernels)


@contextmanager
def _compiling(place: Path) -> Iterator[None]:
    """Keep the compiler's files in one place, and the compiler from logging: whatever matters raises."""
    logger = logging.getLogger("torch._inductor")
    quiet = held(lambda: logger.level, logger.setLevel, logging.CRITICAL + 1)
    with quiet, warnings.catch_warnings(), programs.compiler_keeps_files_in(place):
        warnings.simplefilter("ignore")  # the compiler's, of itself
        yield


# -- what tells programs apart -----------------------------------------------------------------------------


def _name(step: nn.Module, pixels: Tensor, traces: bool, place: Path) -> str:
    """The name of the program: a hash of everything that decides what it computes, but for the values of weights."""
    state = chain(step.named_parameters(), step.named_buffers())
    layouts = [(name, tuple(value.shape), value.stride(), str(value.dtype)) for name, value in state]
    device = torch.cuda.get_device_name(pixels.device) if pixels.is_cuda else torch.backends.cpu.get_cpu_capability()
    graph = None
    if traces:
        with _compiling(place):  # the compiler's front end sets its variables when it is imported
            graph = traced(step, pixels).code
    what = (str(step), layouts, tuple(pixels.shape), device, torch.__version__, torch.get_num_threads(), graph)
    settings = sorted((cuda.settings_for(weights_of(step)) if pixels.is_cuda else CPU_SETTINGS).items())
    return hashlib.sha256(repr((what, settings, _definition())).encode()).hexdigest()[:32]


@cache
def _definition() -> str:
    """SHA-256 over the sources that decide what a program computes."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in _DEFINITION:
        for source in [package / name] if name.endswith(".py") else sorted((package / name).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
