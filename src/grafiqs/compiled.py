"""The fast path: the reference itself, traced once for one batch shape, and compiled.

Nothing is written twice: what is compiled is the trace of what `grafiqs.gradients` does, forward and backward, whatever
the network. The weights are inputs of the program, so that one program serves every checkpoint of the same shapes.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from grafiqs import programs
from grafiqs.names import shown
from grafiqs.programs import NoFolderError

Program = Callable[[Tensor], tuple[Tensor, ...]]
"""What a step computes, for pixels of one shape."""

_SETTINGS = {"deterministic": True}
"""The compiler's settings: it is not to choose, by timing, between kernels that add up in different orders."""


class CompileError(Exception):
    """The compiler did not come to an end; the message is the reason."""


def program(step: nn.Module, pixels: Tensor) -> Program:
    """Compile `step` for batches of the shape, type and device of `pixels`.

    `step` maps pixels to a tuple of tensors, and may differentiate on the way. It takes a minute or more; what was
    compiled once is found again on the disk, by later processes too, whatever the values of the weights.
    On a GPU the program is recorded as a CUDA graph, and what it returns is overwritten by its next call.
    Raises CompileError when there is no compiler, or it fails; NoFolderError when no folder can keep programs safely.
    """
    folder = programs.folder()
    try:
        with warnings.catch_warnings(), _quiet(), programs.compiler_keeps_files_in(folder):
            warnings.simplefilter("ignore")  # the compiler's, of itself
            from torch._inductor import standalone_compile  # takes a second, which other runs save

            graph, weights = traced(step, pixels)
            inputs: list[Any] = [pixels, *weights]
            settings = {"config_patches": _SETTINGS}
            run = standalone_compile(graph, inputs, dynamic_shapes="from_example_inputs", options=settings)
            with torch.no_grad():
                run(pixels, *weights)
            (folder / _name(step, pixels)).touch()  # a note that such a program lies there
            if not pixels.is_cuda:
                return lambda pixels: tuple(run(pixels, *weights))
            with torch.cuda.device(pixels.device):
                return _recorded(run, pixels, weights)
    except Exception as error:  # a compiler fails in every way there is
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if is_known(step, pixels):  # what it left on the disk is damaged, then
            (folder / _name(step, pixels)).unlink(missing_ok=True)
            reason += f"; the programs in {shown(folder)} are damaged: remove that folder"
        raise CompileError(reason) from error


def is_known(step: nn.Module, pixels: Tensor) -> bool:
    """Whether such a program was compiled before, on this machine, so that it is there in seconds."""
    try:
        return (programs.folder() / _name(step, pixels)).exists()
    except NoFolderError:
        return False


def traced(step: nn.Module, pixels: Tensor) -> tuple[GraphModule, list[Tensor]]:
    """`step` as a graph of plain operations on pixels and weights, and the weights, in the order of its inputs."""
    state = dict(chain(step.named_parameters(), step.named_buffers()))

    def run(pixels: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
        return functional_call(step, dict(zip(state, weights, strict=True)), (pixels,))  # type: ignore[no-any-return]

    graph = make_fx(run, tracing_mode="fake")(pixels, list(state.values()))
    graph.graph.eliminate_dead_code()
    _, *inputs = graph.graph.find_nodes(op="placeholder")
    used = []
    for node, weight in zip(inputs, state.values(), strict=True):
        if node.users:
            used.append(weight.detach())
        else:
            graph.graph.erase_node(node)
    graph.graph.set_codegen(torch.fx.graph.CodeGen())  # its inputs are plain arguments now
    graph.recompile()
    return graph, used


def _recorded(run: Callable[..., tuple[Tensor, ...]], pixels: Tensor, weights: list[Tensor]) -> Program:
    """The program as a CUDA graph: launched as a whole, into the same memory every time."""
    inputs = pixels.clone()
    aside = torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(pixels.device))
    with torch.cuda.stream(aside), torch.no_grad():
        for _ in range(3):  # libraries set themselves up in their first calls, which cannot be recorded
            run(inputs, *weights)
    torch.cuda.current_stream(pixels.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        outputs = tuple(run(inputs, *weights))

    def replay(pixels: Tensor, _held: object = (run, weights)) -> tuple[Tensor, ...]:  # what the graph reads must live
        inputs.copy_(pixels, non_blocking=True)
        graph.replay()
        return outputs

    return replay


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the compiler from logging what it stumbles over: whatever matters raises."""
    logger = logging.getLogger("torch._inductor")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _name(step: nn.Module, pixels: Tensor) -> str:
    """What tells programs apart."""
    state = chain(step.named_parameters(), step.named_buffers())
    shapes = [(name, tuple(value.shape), str(value.dtype)) for name, value in state]
    device = torch.cuda.get_device_name(pixels.device) if pixels.is_cuda else torch.backends.cpu.get_cpu_capability()
    text = repr((str(step), shapes, tuple(pixels.shape), device, torch.__version__, torch.get_num_threads()))
    return f"grafiqs-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
