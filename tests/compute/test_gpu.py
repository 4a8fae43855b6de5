"""What a GPU does: on one, where there is one (`-m gpu`), and its code with stand-ins on the CPU, everywhere.

The stand-ins let `grafiqs.compute` take the way of a GPU with tensors of the CPU.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.cli import main
from grafiqs.compute import compiled, cuda, devices, programs, tuning
from grafiqs.compute.computer import Computed, Computer
from grafiqs.compute.selfcheck import differences
from grafiqs.images.tensors import resized
from support.making import NARROW, picture, random_network, recorded_statistics, tree
from support.oracle import largest_difference

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def on_gpu(test: Callable[..., None]) -> Any:
    """Marks a test that needs a GPU; what libraries warn of there is not what it is about."""
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")
    return pytest.mark.gpu(absent(pytest.mark.filterwarnings("default")(test)))


def shallow() -> IResNet:
    """A network of every kind of block there is, which compiles fast."""
    return recorded_statistics(lambda: IResNet((1, 1, 1, 1), NARROW, embedding_size=32))


def batch(count: int, first: int = 0) -> Tensor:
    return torch.stack([resized(picture(first + number)) for number in range(count)])


@pytest.fixture
def command(faces: Path, weights: Path) -> list[str]:
    """A run that is not compiled, in batches of 4."""
    return ["extract", "--image-path", str(faces), "--weights", str(weights), "--compile", "off", "--batch-size", "4"]


def stop_at(image: int, run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a run and stop it there."""
    from grafiqs.run.folder import RunFolder

    record, seen = RunFolder.record, iter(range(1000))

    def stopping(run: RunFolder, outcome: Any) -> None:
        if next(seen) == image:
            raise KeyboardInterrupt
        record(run, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record", stopping)
        assert main(run) == 130


# -- on a GPU ----------------------------------------------------------------------------------------------


@on_gpu
@pytest.mark.parametrize(
    ("precision", "gradients", "scores"), [("float32", 1e-3, 1e-4), ("tf32", 2e-2, 5e-3), ("bfloat16", 5e-2, 5e-3)]
)
def test_the_compiled_program_agrees_with_the_cpu(precision: str, gradients: float, scores: float) -> None:
    """At block4, which no PReLU comes after; the scores at every layer."""
    expected = Computer(shallow(), CPU, 8, LAYERS)(batch(8))
    computer = Computer(shallow(), GPU, 8, LAYERS, precision=precision)
    for engine in ("eager", "compiled"):
        if engine == "compiled":
            computer.compile()
        found = computer(batch(8))
        found.wait()
        own = {"block4": found.gradients["block4"]}
        assert largest_difference(own, {"block4": expected.gradients["block4"]}) < gradients, engine
        assert (found.scores / expected.scores - 1).abs().amax() < scores, engine


@on_gpu
def test_a_recorded_program_gives_each_of_two_batches_under_way_its_own_results() -> None:
    computer = Computer(shallow(), GPU, 8, LAYERS)
    computer.compile()
    alone = []
    for first in (0, 1000):
        alone.append(computer(batch(8, first)))
        alone[-1].wait()
    under_way = [computer(batch(8, first)) for first in (0, 1000)]
    for found, expected in zip(under_way, alone, strict=True):
        found.wait()
        assert torch.equal(found.scores, expected.scores)
        assert all(torch.equal(found.gradients[layer], expected.gradients[layer]) for layer in LAYERS)
    assert not torch.equal(alone[0].scores, alone[1].scores)


@on_gpu
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_memory_does_not_grow_over_fifty_batches(engine: str) -> None:
    """Nor are more than one batch's results alive: autograd's own thread lets them go a moment after it is done."""
    computer = Computer(shallow(), GPU, 8, LAYERS)
    if engine == "compiled":
        computer.compile()
    pixels, allocated, reserved = batch(8), [], []
    for number in range(55):
        found = computer(pixels)
        found.wait()
        if number >= 5:
            allocated.append(torch.cuda.memory_allocated(GPU))
            reserved.append(torch.cuda.memory_reserved(GPU))
    results = sum(gradient.nbytes for gradient in found.gradients.values()) + found.scores.nbytes
    assert max(allocated) <= min(allocated) + 1.1 * results
    assert max(reserved) < reserved[0] + 15 * results  # fifty, if all were kept


@on_gpu
@pytest.mark.parametrize("engine", ["off", "on"])
def test_a_run_resumed_on_a_gpu_is_the_same_byte_for_byte(
    command: list[str], engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [*command, "--device", "cuda", "--quiet", "--compile", engine, "--output-dir"]
    assert main([*run, str(tmp_path / "whole")]) == 0
    stop_at(6, [*run, str(tmp_path / "stopped")], monkeypatch)
    assert main([*run, str(tmp_path / "stopped")]) == 0
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")


@on_gpu
def test_a_program_that_cannot_be_recorded_computes_the_same_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorded, launched = (Computer(shallow(), GPU, 8, LAYERS) for _ in range(2))
    recorded.compile()
    expected = recorded(batch(8))
    expected.wait()
    record = cuda._recorded

    def failing(run: compiled.Program, *others: Any) -> compiled.Program:
        def run_and_wait(*inputs: Tensor) -> tuple[Tensor, ...]:
            outputs = run(*inputs)
            if torch.cuda.is_current_stream_capturing():
                torch.cuda.synchronize()  # is not allowed there, and raises
            return outputs

        return record(run_and_wait, *others)

    before = torch.cuda.current_stream(GPU)
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "_recorded", failing)
        launched.compile()
    assert "kernel by kernel" in caplog.text
    assert torch.cuda.current_stream(GPU) == before
    for _ in range(3):
        found = launched(batch(8))
        found.wait()
        assert torch.equal(found.scores, expected.scores)


# -- a GPU's code on the CPU -------------------------------------------------------------------------------


class Stream:
    """A stream that does nothing."""

    device = CPU

    def wait_stream(self, _other: object) -> None:
        pass


class Event:
    """An event that knows whether it was waited for."""

    def __init__(self, blocking: bool = False) -> None:
        self.blocking = blocking
        self.recorded: object = None
        self.waited = False

    def record(self, stream: object) -> None:
        self.recorded = stream

    def synchronize(self) -> None:
        assert self.recorded is not None
        self.waited = True


class Stage:
    """Which device and stream are the current ones, as PyTorch's own contexts make them."""

    def __init__(self) -> None:
        self.usual = Stream()
        self.stream = self.usual
        self.devices: list[object] = []
        self.recorded: list[tuple[object, object]] = []
        """The device and the stream of every program that was recorded."""
        self.fails: Exception | None = None
        """What recording raises."""

    @contextmanager
    def streams(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    @contextmanager
    def on(self, device: object) -> Iterator[None]:
        self.devices.append(device)
        try:
            yield
        finally:
            self.devices.pop()

    @contextmanager
    def graph(self, _graph: object, stream: Stream) -> Iterator[None]:
        """As PyTorch's: one that fails leaves its stream the current one."""
        self.stream = stream
        self.recorded.append((self.devices[-1], stream))
        yield
        if self.fails is not None:
            raise self.fails
        self.stream = self.usual


class Graph:
    def replay(self) -> None:
        pass


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    """Lets programs be made as on a GPU, by a compiler that changes nothing, in a folder of their own."""
    import torch._inductor

    stage = Stage()

    def standalone_compile(graph: Any, _inputs: object, **_: object) -> Any:
        return graph

    for name, stand_in in (
        ("Stream", lambda _device: Stream()),
        ("CUDAGraph", Graph),
        ("Event", Event),
        ("current_stream", lambda _device=None: stage.stream),
        ("stream", stage.streams),
        ("device", stage.on),
        ("graph", stage.graph),
    ):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch._inductor, "standalone_compile", standalone_compile)
    monkeypatch.setattr(compiled, "_on_cpu", compiled._on_gpu)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "programs"))
    return stage


@pytest.mark.parametrize("blocking", [False, True])
def test_what_is_being_copied_lives_until_it_has_arrived_and_no_longer(
    stage: Stage, blocking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("its memory would never be free again after a recording that fails")

    monkeypatch.setattr(torch.Tensor, "record_stream", refused)
    monkeypatch.setattr(tuning, "BLOCKING_WAIT", blocking)
    beside, result = Stream(), torch.arange(4.0)
    copies, arrival = cuda.fetched({"scores": result}, beside)  # type: ignore[arg-type]
    event: object = arrival.event
    assert isinstance(event, Event)
    assert (event.blocking, event.recorded, event.waited) == (blocking, beside, False)
    alive = [weakref.ref(original) for original in arrival.originals]
    computed = Computed({}, copies.pop("scores").clone(), None, arrival)
    assert alive[0]() is not result  # which the next batch overwrites
    del arrival
    gc.collect()
    assert all(original() is not None for original in alive)
    computed.wait()
    gc.collect()
    assert event.waited
    assert all(original() is None for original in alive)


def test_a_program_is_recorded_on_its_own_stream_and_device(stage: Stage) -> None:
    for _ in range(2):
        Computer(shallow(), CPU, 2, ("block4",)).compile()
    (device, first), (other_device, second) = stage.recorded
    assert device == other_device == CPU
    assert stage.usual not in (first, second)
    assert first is not second
    assert stage.stream is stage.usual


@pytest.mark.parametrize(
    "error", [RuntimeError("operation not permitted when stream is capturing"), torch.OutOfMemoryError("no memory")]
)
@pytest.mark.parametrize("known", [False, True])
def test_a_program_that_cannot_be_recorded_is_launched_kernel_by_kernel(
    stage: Stage, error: Exception, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    computer = Computer(shallow(), CPU, 2, ("block4",))
    expected = computer(batch(2))
    if known:
        computer.compile()
        caplog.clear()
    stage.fails = error
    with caplog.at_level(logging.WARNING):
        computer.compile()
    assert caplog.messages == [f"warning: the program is launched kernel by kernel (no CUDA graph: {error})"]
    assert computer.was_compiled_before()
    assert [path.name for path in programs.folder().rglob("*") if path.is_file()] == ["complete"]
    assert stage.stream is stage.usual
    found = computer(batch(2))
    torch.testing.assert_close(found.scores, expected.scores)


def test_a_gpu_without_memory_for_the_calls_before_a_recording_is_not_a_damaged_program(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Computer(shallow(), CPU, 2, ("block4",)).compile()
    caplog.clear()

    def full(_device: object) -> Stream:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "Stream", full)
    computer = Computer(shallow(), CPU, 2, ("block4",))
    computer.compile()
    assert "kernel by kernel (no CUDA graph: CUDA error: out of memory)" in caplog.text
    assert "damaged" not in caplog.text
    assert computer.was_compiled_before()


# -- what computes is not the device that says so ----------------------------------------------------------


class OnGpu(Computer):
    """Computes on the CPU whatever the device; `wrong` is by how much a GPU's results are too large."""

    wrong: ClassVar[dict[tuple[str, str], float]] = {}
    calls: ClassVar[list[tuple[str, str, int]]] = []
    """The device, the precision and the number of images of every batch."""

    def __init__(self, network: Any, device: torch.device, batch_size: int, *others: Any) -> None:
        super().__init__(network, CPU, batch_size, *others)
        self.where = device.type
        self.engine = "eager"

    def compile(self) -> None:
        self.engine = "compiled"

    def __call__(self, pixels: Tensor, gradients: bool = True) -> Computed:
        self.calls.append((self.where, self.precision, len(pixels)))
        found = super().__call__(pixels, gradients)
        share = 1 + (self.wrong.get((self.engine, self.precision), 0) if self.where == "cuda" else 0)
        return Computed({layer: value * share for layer, value in found.gradients.items()}, found.scores * share)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[OnGpu]:
    """A GPU that is the CPU, for the command."""
    monkeypatch.setattr("grafiqs.compute.preparation.Computer", OnGpu)
    monkeypatch.setattr(devices, "resolve", lambda *_: GPU)
    monkeypatch.setattr(devices, "environment", lambda _device: {"device": "cuda stand-in"})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    monkeypatch.setattr(OnGpu, "wrong", {})
    monkeypatch.setattr(OnGpu, "calls", [])
    return OnGpu


def environments(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((output / "manifest.json").read_text())["environments"]
    return found


def test_two_images_of_a_gpu_are_held_against_the_cpu(
    command: list[str], stand_in: type[OnGpu], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--output-dir", str(tmp_path / "run")]) == 0
    assert [call for call in stand_in.calls if call[0] == "cpu"] == [("cpu", "float32", tuning.CONTROLLED)]
    assert environments(tmp_path / "run")[0]["self_check"]["images"] == tuning.CONTROLLED == 2
    assert "agrees with the reference" in capsys.readouterr().out


def test_a_gpu_whose_plain_float32_differs_from_the_cpu_is_refused(
    command: list[str], stand_in: type[OnGpu], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.wrong[("eager", "float32")] = 2e-3
    assert main([*command, "--output-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "cuda:0 computes something else than the CPU" in said
    assert "give --device cpu" in said
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_wrong_alike_in_program_and_reference_is_found_out(
    command: list[str], stand_in: type[OnGpu], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.wrong.update({("compiled", "float32"): 0.1, ("eager", "float32"): 0.1})
    run = [*command, "--compile", "on", "--output-dir", str(tmp_path / "run")]
    assert main(run) == 2
    assert "cuda:0 computes something else than the CPU" in capsys.readouterr().err
    del stand_in.wrong[("eager", "float32")]
    assert main(run) == 0
    assert "the reference computes this run" in capsys.readouterr().err
    assert environments(tmp_path / "run")[0]["engine"] == "eager"


def test_the_self_check_compares_as_many_images_at_once_as_its_reference_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, sizes = random_network(), []
    reference = Computer(network, CPU, 4, LAYERS)
    norm = torch.linalg.vector_norm

    def seen(values: Tensor, *arguments: Any, **named: Any) -> Any:
        sizes.append(len(values))
        return norm(values, *arguments, **named)

    pixels = batch(18)
    found = Computer(network, CPU, 18, LAYERS)(pixels)
    monkeypatch.setattr(torch.linalg, "vector_norm", seen)
    assert differences(found, range(18), pixels, reference, LAYERS).images == 18
    assert max(sizes) == 4


# -- out of memory -----------------------------------------------------------------------------------------


def full_from(batches: int, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memory be short from that batch on, for batches of `least` images and more."""
    call, seen = Computer.__call__, iter(range(1000))

    def computing(self: Computer, pixels: Tensor, gradients: bool = True) -> Computed:
        if self.batch_size >= least and next(seen) >= batches:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return call(self, pixels, gradients)

    monkeypatch.setattr(Computer, "__call__", computing)


def test_out_of_memory_midway_names_a_smaller_batch_with_which_the_run_resumes(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    run = [*command, "--output-dir", str(output), "--quiet"]
    full_from(1, 4, monkeypatch)
    assert main(run) == 3
    said = capsys.readouterr().err
    assert "cpu is out of memory. " in said
    assert "of 19 images are done and kept: the same command with a --batch-size below 4 resumes" in said
    run[run.index("--batch-size") + 1] = "2"
    assert main(run) == 0
    assert "batch_size 4 then, 2 now" in capsys.readouterr().err
    assert [environment["batch_size"] for environment in environments(output)] == [4, 2]
    assert main(["verify", str(output), "--quiet"]) == 0


def test_out_of_memory_at_single_images_names_no_smaller_batch(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*command, "--output-dir", str(tmp_path / "run"), "--quiet"]
    run[run.index("--batch-size") + 1] = "1"
    full_from(3, 1, monkeypatch)
    assert main(run) == 3
    said = capsys.readouterr().err
    assert "of 19 images are done and kept: the same command resumes once others have left it some\n" in said
    monkeypatch.undo()
    assert main(run) == 0


@pytest.mark.parametrize("compiles", ["off", "on"])
def test_a_run_that_is_resumed_on_a_smaller_gpu_computes_smaller_batches(
    compiles: str,
    command: list[str],
    stand_in: type[OnGpu],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing says how many images at once, and neither 4 nor 2 fit, nor does the compiler where there is no room."""
    run = [*command[:-4], "--output-dir", str(tmp_path / "run"), "--quiet", "--compile", compiles]
    stop_at(6, [*run, "--batch-size", "4"], monkeypatch)
    capsys.readouterr()

    def compiling(self: OnGpu) -> None:
        if self.batch_size > 1:
            raise compiled.CompileError("CUDA out of memory")
        self.engine = "compiled"

    monkeypatch.setattr(OnGpu, "compile", compiling)
    monkeypatch.setattr(cuda, "batch_that_fits", lambda *_: 64)
    call = OnGpu.__call__

    def full(self: OnGpu, pixels: Tensor, gradients: bool = True) -> Computed:
        if self.where == "cuda" and self.batch_size in (2, 4):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, pixels, gradients)

    monkeypatch.setattr(OnGpu, "__call__", full)
    monkeypatch.setattr(tuning, "CHECKED", 3)
    if compiles == "on":  # which is kept by a run that is begun with it
        run = run[:-2]
    assert main(run) == 0
    said = capsys.readouterr().err
    assert "cuda:0 has no memory for 4 images at once, as this run began: it computes 2" in said
    assert "cuda:0 has no memory for 2 images at once, as this run began: it computes 1" in said
    last = environments(tmp_path / "run")[-1]
    assert last["batch_size"] == 1
    assert last["engine"] == ("compiled" if compiles == "on" else "eager")


def test_a_batch_size_that_was_asked_for_does_not_give_way(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*command, "--output-dir", str(tmp_path / "run"), "--quiet"]
    stop_at(6, run, monkeypatch)
    capsys.readouterr()
    full_from(0, 4, monkeypatch)
    assert main(run) == 2
    assert "give a smaller --batch-size" in capsys.readouterr().err


# -- the command that decides ------------------------------------------------------------------------------

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--json", str(figures)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("There is no GPU here that PyTorch")
    assert done.stderr.count("\n") == 1
    assert not figures.exists()


@pytest.mark.parametrize(
    ("program", "end", "why"),
    [
        ("raise RuntimeError('CUDA error')", 60, "RuntimeError: CUDA error"),
        ("import os; os.abort()", 60, "it ended with -6"),
        ("import time; time.sleep(60)", 5, "no time was left for it"),
        ("", 0, "no time was left for it"),
    ],
)
def test_a_choice_that_fails_or_takes_too_long_costs_its_own_rows_alone(
    program: str, end: float, why: str, benchmark: Any
) -> None:
    row = benchmark.Row("layout", "contiguous", 12.5, now=True)
    printed = f"print({benchmark.json.dumps(benchmark.asdict(row))!r}, flush=True); {program}"
    started = time.monotonic()
    command = [sys.executable, "-c", printed]
    rows = list(benchmark.measured(command, "layout", 60, started + end, dict(os.environ)))
    assert rows[:-1] == ([row] if end else [])
    assert (rows[-1].value, rows[-1].note) == (None, why)
    assert time.monotonic() - started < 30


def test_what_is_best_is_said_against_what_the_code_has(benchmark: Any) -> None:
    row = benchmark.Row
    rows = [
        *(row("layout", "contiguous", 100.0, now=True), row("layout", "channels last", 150.0)),
        *(row("buffers", "new", 2.0, "ms", now=True), row("buffers", "kept", 1.0, "ms")),
        *(row("graph", "recorded", 100.0, now=True), row("graph", "launched", 101.0)),
        *(row("batch", "256", None, now=True, note="out of memory"), row("batch", "64", 10.0)),
        row("compiling", "for each", 0.5, "s", constant="COMPILING"),
    ]
    assert list(benchmark.judged(rows)) == [
        "layout: channels last is 1.50 times better than contiguous, which the code has now",
        "buffers: kept is 2.00 times better than new, which the code has now",
        "graph: stays, recorded",
        "batch: not decided, since too little of it was measured",
        f"COMPILING: 0.5 was measured, tuning.py has {tuning.COMPILING['cuda']}",
    ]
