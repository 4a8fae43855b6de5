"""Decide on a GPU: run its tests, then measure every choice of `grafiqs.compute.tuning` and around it.

    make gpu                                            (at most 8 minutes; writes gpu.json)
    python benchmarks/gpu.py --only batch --seconds 1800

Prints a table and, for each choice, what is best against what the code has now. Nothing is changed by it. Every choice
is measured by a process of its own, so that one that fails, or takes the GPU's memory, costs its own rows alone.
Time is bounded three ways: each process has a limit, and is killed at it; none begins when the whole time (--seconds)
is over, and rows that are missing for that reason are named; what needs compiling is compiled by several processes at
once. Weights and pictures are random, statistics recorded; medians of rounds, synchronised, after warming up.
Exit code 0; 1 if a test failed; 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from grafiqs import __version__
from grafiqs.backbones.catalogue import DEPTHS, LAYERS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.compute import compiled, cuda, devices, tuning
from grafiqs.compute.computer import Computer
from grafiqs.images.reading import THREADS, Reader, processes_for, read_ahead
from grafiqs.images.tensors import normalise

ROOT = Path(__file__).resolve().parents[1]
TIE = 1.03
"""A gain below this factor is not a reason to change anything."""

SECONDS = 1.5
"""How long one way is measured, at least, in rounds of a few batches."""

PREPARING = 200
"""Seconds that tests and compilers have, side by side, before anything is measured."""


@dataclass(frozen=True)
class Row:
    """One measured figure; `value` is None if it could not be measured, and `note` says why.

    `choice` is what is decided, `way` one side of it, `now` whether it is that of the code. `constant` is the name that
    such a figure has in `grafiqs.compute.tuning`.
    """

    choice: str
    way: str
    value: float | None
    unit: str = "images/s"
    now: bool = False
    note: str = ""
    constant: str = ""

    @property
    def more_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self.unit.endswith("/s")


@dataclass(frozen=True)
class Way:
    """A way of computing by a compiled program; what is not given is as the code has it now."""

    name: str
    precision: str = "float32"
    size: int = tuning.GPU_BATCH
    layout: torch.memory_format | None = None
    settings: tuple[tuple[str, bool], ...] = ()
    any_algorithm: bool = False
    """Whether cuDNN may take nondeterministic algorithms."""
    recorded: bool = True

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Compile and compute this way inside the block."""
        with ExitStack() as stack, patch.dict(cuda.SETTINGS, dict(self.settings)):
            if self.layout is not None:
                stack.enter_context(patch.object(tuning, "compiled_layout", Mock(return_value=self.layout)))
            if self.any_algorithm:
                stack.enter_context(patch.object(devices, "arithmetic", any_algorithm))
            if not self.recorded:
                stack.enter_context(patch.object(cuda, "_recorded", launched))
            yield

    def computer(self, network: IResNet) -> tuple[Computer, float]:
        """A compiled computer of this kind, and the seconds that compiling took."""
        computer = Computer(network, gpu(), self.size, LAYERS, precision=self.precision)
        return computer, timed(computer.compile)


arithmetic = devices.arithmetic


@contextmanager
def any_algorithm(precision: str = "float32") -> Iterator[None]:
    """The arithmetic of the package, but with cuDNN free to choose nondeterministic algorithms."""
    with arithmetic(precision):
        torch.backends.cudnn.deterministic = False  # what `arithmetic` found returns after it
        yield


def launched(run: Callable[..., tuple[Tensor, ...]], _pixels: Tensor, weights: list[Tensor]) -> compiled.Program:
    """A program that is launched kernel by kernel."""
    return lambda pixels: tuple(run(pixels, *weights))


NOW = Way("as it is now")
COST = "deterministic, a promise"
PROGRAMS: list[tuple[str, Way]] = [
    ("float32 layout", Way("contiguous, the compiler may change it", settings=(("layout_optimization", True),))),
    ("float32 layout", Way("channels last", layout=torch.channels_last)),
    (COST, Way("the compiler times kernels", settings=(("deterministic", False),))),
    (
        COST,
        Way("... and cuDNN takes any algorithm", settings=(("deterministic", False),), any_algorithm=True),
    ),
    ("CUDA graph", Way("launched kernel by kernel", recorded=False)),
]
PRECISIONS = ("float32", "tf32", "bfloat16")
SIZES = tuple(sorted({64, 128, 256, 512, tuning.GPU_BATCH}, key=lambda size: (size != tuning.GPU_BATCH, -size % 512)))
BATCHES = {precision: [Way(f"batches of {size}", precision, size) for size in SIZES] for precision in PRECISIONS}
COMPILED = [*(way for ways in zip(*BATCHES.values(), strict=True) for way in ways), *(way for _, way in PROGRAMS)]
"""All that are compiled before anything is measured."""


# -- what each process measures ----------------------------------------------------------------------------


def compiling() -> Iterator[Row]:
    """The compiler, alone on the machine, and the rule by which a run decides whether compiling pays."""
    network = random_network()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    _, seconds = NOW.computer(network)
    yield Row("compiling", f"float32, batches of {NOW.size}", seconds, "s")
    yield Row("compiling", "... for each BatchNorm2d", seconds / norms, "s", constant="COMPILING")


def programs() -> Iterator[Row]:
    """How a program is made: layout, algorithms, recording."""
    network = random_network()
    usual = speed(NOW, network)
    for choice in dict.fromkeys(choice for choice, _ in PROGRAMS):
        yield Row(choice, NOW.name, now=True, **usual)
        for other, way in PROGRAMS:
            if other == choice:
                yield Row(choice, way.name, **speed(way, network))


def batch(precision: str) -> Iterator[Row]:
    """How many images at once; scores alone, and with dumps."""
    network = random_network()
    for way in BATCHES[precision]:
        now = way.size == tuning.GPU_BATCH
        yield Row(f"batch, {precision}", way.name, now=now, **speed(way, network))
        yield Row(f"batch, {precision}, with dumps", way.name, now=now, **speed(way, network, dumps=True))


def engine() -> Iterator[Row]:
    """What a run does before it knows whether compiling pays: the plain way, and its memory."""
    network = random_network()
    free, _ = torch.cuda.mem_get_info(gpu())
    few = Computer(network, gpu(), tuning.CHECKED, LAYERS)
    fits = cuda.batch_that_fits(gpu(), few.warm_up, tuning.CHECKED)
    yield Row("choosing a batch", f"what fits, of {free / 2**30:.0f} GiB free", fits, "images")
    plain = Computer(network, gpu(), fits, LAYERS)
    pixels = random_pixels(fits)
    torch.cuda.reset_peak_memory_stats()
    first = timed(lambda: plain(pixels).wait())
    peak = torch.cuda.max_memory_allocated()
    later = statistics.median(timed(lambda: plain(pixels).wait()) for _ in range(5))
    yield Row("choosing a batch", "of the free memory, the plain way takes", peak / free, "x", constant="GPU_SHARE")
    yield Row("choosing the engine", "the first plain batch, which is timed", first, "s")
    yield Row("choosing the engine", "a later plain batch, which is meant", later, "s")
    plain_rate = rate(plain)
    torch.cuda.empty_cache()
    fast = speed(NOW, network)
    yield Row("choosing the engine", f"plain, batches of {fits}", plain_rate)
    yield Row("choosing the engine", "compiled", **fast)
    gain = None if fast["value"] is None else fast["value"] / plain_rate
    yield Row("choosing the engine", "compiled against plain", gain, "x", constant="GAIN")


def copies() -> Iterator[Row]:
    """What goes to the GPU and comes back: buffers, types of numbers."""
    size = tuning.GPU_BATCH
    shape = (size, 3, 112, 112)
    fixed = [torch.zeros(shape, dtype=torch.uint8, pin_memory=True) for _ in range(3)]
    taken = iter(range(10**9))

    def there(pixels: Tensor) -> None:
        pixels.to(gpu(), non_blocking=True)
        torch.cuda.synchronize()

    new = often(lambda: there(torch.zeros(shape, dtype=torch.uint8, pin_memory=True)))
    kept = often(lambda: there(fixed[next(taken) % 3].zero_()))
    yield Row("buffers of pixels", "a new pinned one for every batch", 1000 * new, "ms", now=True)
    yield Row("buffers of pixels", "three pinned ones, in turn", 1000 * kept, "ms")

    gradients = torch.randn(size, 413_952, device=gpu())
    back = [torch.empty(gradients.shape, pin_memory=True) for _ in range(2)]

    def new_back() -> None:
        gradients.to("cpu", non_blocking=True)
        torch.cuda.synchronize()

    def kept_back() -> None:
        back[next(taken) % 2].copy_(gradients, non_blocking=True)
        torch.cuda.synchronize()

    first = timed(new_back)
    yield Row("buffers of gradients", "a new pinned one, the first time", 1000 * first, "ms")
    yield Row("buffers of gradients", "a new pinned one for every batch", 1000 * often(new_back), "ms", now=True)
    yield Row("buffers of gradients", "two pinned ones, in turn", 1000 * often(kept_back), "ms")
    clone = often(gradients.clone)
    yield Row("buffers of gradients", "of that, the clone on the GPU", 1000 * clone, "ms")

    half = torch.empty(gradients.shape, dtype=torch.float16, pin_memory=True)

    def on_device() -> None:
        half.copy_(gradients.half(), non_blocking=True)
        torch.cuda.synchronize()

    with ThreadPoolExecutor(THREADS) as pool:

        def on_cpu() -> None:
            kept_back()
            list(pool.map(lambda row: row.astype(np.float16), back[0].numpy()))

        yield Row("float16 dumps", "converted on the CPU's threads", 1000 * often(on_cpu), "ms", now=True)
        yield Row("float16 dumps", "converted on the GPU", 1000 * often(on_device), "ms")


def waiting() -> Iterator[Row]:
    """What a thread does while the GPU is at work."""
    computer, _ = NOW.computer(random_network())
    usual = tuning.BLOCKING_WAIT
    for blocking in (False, True):
        with patch.object(tuning, "BLOCKING_WAIT", blocking):
            name = "sleeping" if blocking else "spinning"
            now = blocking == usual
            used, started = time.process_time(), time.perf_counter()
            found = rate(computer)
            share = (time.process_time() - used) / (time.perf_counter() - started)
            yield Row("waiting", name, found, now=now)
            yield Row("waiting: processors in use", name, share, "processors", now=now)


def reading() -> Iterator[Row]:
    """How many processes decode images."""
    from grafiqs.datasets.scan import scan

    count = 6000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "faces")
        folder.mkdir()
        generator = np.random.default_rng(0)
        for number in range(200):  # of 6,000, by as many links
            Image.fromarray(generator.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        reader = Reader(scan(Path(name)))
        locations = [f"faces/{number % 200}.png" for number in range(count)]
        cores, allowed = os.cpu_count() or 1, len(os.sched_getaffinity(0))
        usual = processes_for(gpu(), count)
        numbers = {usual: "as it is now", 0: "threads", allowed - 2: "of affinity", cores - 2: "of cpu_count"}
        for processes in dict.fromkeys((usual, 0, allowed - 2, cores - 2, 8, 4)):
            if processes >= 0:
                started, first = time.perf_counter(), 0.0
                for number, _ in enumerate(read_ahead(reader, locations, 2 * tuning.GPU_BATCH, processes)):
                    if number == 0:
                        first = time.perf_counter()
                seconds = time.perf_counter() - first
                note = f"{numbers.get(processes, '')}; the first image after {first - started:.1f} s".lstrip("; ")
                way = f"{processes} processes" if processes else f"{THREADS} threads"
                yield Row("reading", way, count / seconds, now=processes == usual, note=note)


CHOICES: dict[str, tuple[Callable[[], Iterator[Row]], int]] = {
    "compiling": (compiling, 150),
    "programs": (programs, 120),
    "batch-float32": (lambda: batch("float32"), 90),
    "batch-bfloat16": (lambda: batch("bfloat16"), 90),
    "batch-tf32": (lambda: batch("tf32"), 90),
    "waiting": (waiting, 45),
    "copies": (copies, 45),
    "engine": (engine, 60),
    "reading": (reading, 60),
}
"""What each process measures, and for how many seconds at most; the most important first."""


# -- how it measures ---------------------------------------------------------------------------------------


def gpu() -> torch.device:
    return torch.device("cuda", 0)


def random_network() -> IResNet:
    """An iresnet50 of random weights whose statistics were recorded from random pictures, on the GPU."""
    torch.manual_seed(0)
    network = IResNet(DEPTHS["iresnet50"])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, 0.25)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = None
    with torch.no_grad():
        network.to(gpu()).train()(normalise(random_pixels(16).to(gpu())))
    return network.eval().requires_grad_(False)


def random_pixels(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 112, 112), dtype=torch.uint8)


def speed(way: Way, network: IResNet, dumps: bool = False) -> dict[str, Any]:
    """The images a second of a way, as a row's `value`, and a `note`; or why there are none."""
    torch.cuda.reset_peak_memory_stats()
    try:
        with way.chosen():
            computer, seconds = way.computer(network)
            found = rate(computer, dumps)
        peak = torch.cuda.max_memory_reserved() / 2**30
        return {"value": found, "note": f"{peak:.1f} GiB, ready after {seconds:.0f} s"}
    except Exception as error:  # noqa: BLE001 - a GPU out of memory, a compiler that fails
        return {"value": None, "note": reason(error)}
    finally:
        computer = None  # type: ignore[assignment]
        gc.collect()
        torch.cuda.empty_cache()


def rate(computer: Computer, dumps: bool = False) -> float:
    """Images a second in rounds of four batches, one of them under way while another is fetched, as in a run."""
    pixels = computer.blank()
    pixels.copy_(random_pixels(len(pixels)))

    def four() -> None:
        before = computer(pixels, dumps)
        for _ in range(3):
            now = computer(pixels, dumps)
            before.wait()
            before = now
        before.wait()

    return 4 * len(pixels) / often(four)


def often(work: Callable[[], object]) -> float:
    """The median seconds of a piece of work."""
    for _ in range(2):
        timed(work)
    times: list[float] = []
    while len(times) < 5 or (sum(times) < SECONDS and len(times) < 500):
        times.append(timed(work))
    return statistics.median(times)


def timed(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


# -- all of them -------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("tests", *CHOICES), action="append", help="this alone; may be repeated")
    parser.add_argument("--seconds", type=float, default=480, help="how long all may take (default: 480)")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the file of figures")
    parser.add_argument("--in-process", choices=CHOICES, help=argparse.SUPPRESS)
    parser.add_argument("--compile", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"There is no GPU here that PyTorch {torch.__version__} can use: nothing was measured.", file=sys.stderr)
        return 2
    if options.in_process:
        for row in CHOICES[options.in_process][0]():
            print(json.dumps(asdict(row)), flush=True)
        return 0
    if options.compile is not None:
        with COMPILED[options.compile].chosen():
            COMPILED[options.compile].computer(random_network())
        return 0
    return everything(options.only or ("tests", *CHOICES), time.monotonic() + options.seconds, options.json)


def everything(parts: tuple[str, ...], end: float, path: Path) -> int:
    """Run the tests and every choice, print, and write the figures."""
    machine = {
        "device": torch.cuda.get_device_name(gpu()),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "processors": os.cpu_count(),
        "date": date.today().isoformat(),
    }
    print(f"iresnet50, 112x112; {', '.join(f'{key} {value}' for key, value in machine.items())}", flush=True)
    rows: list[Row] = []
    tests: dict[str, Any] = {"code": None, "said": "not run"}

    def write() -> None:
        verdicts = list(map(str, judged(rows)))
        figures = {"machine": machine, "tests": tests, "rows": [asdict(row) for row in rows], "verdicts": verdicts}
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

    def measure(name: str) -> None:
        for row in measured([sys.executable, __file__, "--in-process", name], name, CHOICES[name][1], end, places):
            rows.append(row)
            print(said(row), flush=True)
        write()

    with tempfile.TemporaryDirectory() as folder:
        places = surroundings(Path(folder))
        if "compiling" in parts:
            measure("compiling")
        with ThreadPoolExecutor(6) as pool:
            until = min(end, time.monotonic() + PREPARING)
            tested = pool.submit(tested_on_the_gpu, until, places) if "tests" in parts else None
            if any(name.startswith(("programs", "batch")) for name in parts):
                for number in range(len(COMPILED)):  # a GPU too small for one has it compiled all the same
                    pool.submit(run, [sys.executable, __file__, "--compile", str(number)], PREPARING, until, places)
            if tested is not None:
                tests = tested.result()
        print(f"GPU tests: {tests['said']}", flush=True)
        for name in CHOICES:
            if name in parts and name != "compiling":
                measure(name)
    for verdict in judged(rows):
        print(verdict)
    write()
    print(f"Written to {path}")
    return int(tests["code"] not in (0, None))


def surroundings(folder: Path) -> dict[str, str]:
    """The variables of every process: the package beside this file, and no program that was compiled before.

    A machine to which the package was only copied lacks what its installation says of it, which runs ask for.
    """
    if not any(importlib.metadata.distributions(name="grafiqs")):
        about = folder / "installed" / f"grafiqs-{__version__}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: grafiqs\nVersion: {__version__}\n", encoding="utf-8"
        )
    paths = [ROOT / "src", ROOT / "tests", folder / "installed", *filter(None, [os.environ.get("PYTHONPATH")])]
    (folder / "programs").mkdir(mode=0o700)
    others = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    return {**others, "PYTHONPATH": os.pathsep.join(map(str, paths)), "XDG_CACHE_HOME": str(folder / "programs")}


def tested_on_the_gpu(end: float, places: dict[str, str]) -> dict[str, Any]:
    """How the tests marked `gpu` ended."""
    if importlib.util.find_spec("pytest") is None:
        return {"code": None, "said": "not run, since pytest is not installed"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "tests/compute/test_gpu.py"),
    ]
    code, output, errors = run(command, PREPARING, end, places)
    if code is None:
        return {"code": 1, "said": f"stopped, after {PREPARING} s"}
    lines = (output + errors).strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    return {"code": code, "said": lines[-1] if lines else f"ended with {code}", "failed": failed}


def measured(command: list[str], name: str, limit: float, end: float, places: dict[str, str]) -> Iterator[Row]:
    """The rows that a process prints, and, if it fails, one that says why there are no more."""
    code, output, errors = run(command, limit, end, places)
    for line in output.splitlines():
        if line.startswith("{"):
            yield Row(**json.loads(line))
    if code != 0:
        last = (errors.strip().splitlines() or [f"it ended with {code}"])[-1]
        yield Row(name, "the rest", None, note="no time was left for it" if code is None else last)


def run(command: list[str], limit: float, end: float, places: dict[str, str]) -> tuple[int | None, str, str]:
    """Run a process for so many seconds at most: its code, None if its time was over, and what it printed till then."""
    left = min(limit, end - time.monotonic())
    if left <= 0:
        return None, "", ""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=places, cwd=ROOT, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its compilers, too
        return None, *process.communicate()
    return process.returncode, output, errors


def said(row: Row) -> str:
    """A line of the table."""
    value = "-" if row.value is None else f"{row.value:.4g}"
    return f"{row.choice:28} {row.way:44} {value:>10} {row.unit:10} {'now ' if row.now else '    '}{row.note}".rstrip()


def judged(rows: list[Row]) -> Iterator[str]:
    """For each choice, what is best against what the code has now; for each constant, what it should be."""
    for choice in dict.fromkeys(row.choice for row in rows if row.now):
        found = {row.way: row for row in rows if row.choice == choice and row.value}
        now = next((row for row in found.values() if row.now), None)
        if now is None or len(found) < 2:
            yield f"{choice}: not decided, since too little of it was measured"
            continue
        best = max(found.values(), key=lambda row: (row.value or 0) * (1 if row.more_is_better else -1))
        more, less = sorted(((best.value or 0), (now.value or 0)), reverse=True)
        if best is now or more / less < TIE:
            yield f"{choice}: stays, {now.way}"
        else:
            yield f"{choice}: {best.way} is {more / less:.2f} times better than {now.way}, which the code has now"
    for row in rows:
        if row.constant and row.value is not None:
            has = getattr(tuning, row.constant)
            if isinstance(has, dict):  # by device, or by device and precision
                has = has.get("cuda") or has["cuda", "float32"]
            yield f"{row.constant}: {row.value:.3g} was measured, tuning.py has {has}"


if __name__ == "__main__":
    sys.exit(main())
