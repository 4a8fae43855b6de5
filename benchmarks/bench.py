"""Measure on this machine: gradients against one image at a time, whole runs, memory, start-up, selection, drawing.

    make bench                                          (about half an hour on two cores; writes bench.json)
    .venv/bin/python benchmarks/bench.py --only gradients --images 64 --batches 8,16

Prints a table and writes it as JSON too. Ratios come from one run with both sides on the same inputs, in turn, medians
of all rounds. Weights and pictures are random: the work is the same. On a GPU it measures the GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import product, starmap
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

import in_hand
import many
import page_of_many
import stores
from comparisons import COUNT, METHODS, as_arrays, write_comparisons
from grafiqs.backbones.catalogue import DEPTHS, LAYERS
from grafiqs.backbones.checkpoint import load_checkpoint
from grafiqs.backbones.iresnet import IResNet
from grafiqs.compute import devices, tuning
from grafiqs.compute.computer import Computed, Computer
from grafiqs.demo.embedded import demo_backbone
from grafiqs.demo.identity import Identity
from grafiqs.disk import files
from grafiqs.evaluate import edc, operating_points
from grafiqs.extract import extract_gradients
from grafiqs.options.extract import Options


@dataclass(frozen=True)
class Row:
    """One measured figure."""

    what: str
    value: float
    unit: str


PARTS = ("gradients", "runs", "start", "memory", "names", "drawing", "evaluation", "model", "page", "stores", "many")

SCAN = """
import sys
from pathlib import Path
from grafiqs.datasets.scan import scan
dataset = scan(Path(sys.argv[1])) if sys.argv[1:] else None
kept = [dataset.samples(identity) for identity in dataset.identities] if dataset else []
"""
"""A program that scans a data set and keeps all names; without one, what starting such a program takes."""

ONE_AT_A_TIME = """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from grafiqs.backbones.catalogue import DEPTHS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.gradients import gradient_scores, image_gradients
faces, weights, backbone, device = sys.argv[1:]
network = IResNet(DEPTHS[backbone])
network.load_state_dict(torch.load(weights, weights_only=True))
network.eval().requires_grad_(False).to(device)
for path in sorted(Path(faces).rglob("*.png")):
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].to(device)
    gradients = image_gradients(network, (pixels / 255 - 0.5) / 0.5)
    print(path, *(gradient_scores(gradient).item() for gradient in gradients.values()), flush=True)
"""
"""A program that scores a data set as research scripts do: plain, one image at a time, nothing checked or kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part alone; may be repeated")
    parser.add_argument("--backbone", default="iresnet50", choices=DEPTHS)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--images", type=int, default=256, help="images that every way computes, at least")
    parser.add_argument("--batches", help="batch sizes, comma-separated (default: 8,16; 64,256 on a GPU)")
    parser.add_argument("--run-images", type=int, help="images of the whole runs (default: 256; 50000 on a GPU)")
    parser.add_argument("--start-images", default="100,400,2000", help="images of the runs whose first score is timed")
    parser.add_argument("--files", type=int, default=1_000_000, help="files of the data set that is scanned")
    parser.add_argument("--page-images", type=int, default=10_000, help="images of the run that a page shows")
    parser.add_argument("--samples", type=int, default=1_000_000, help="samples of the largest run, of scores alone")
    parser.add_argument("--detector", type=Path, help="a YuNet model (.onnx), by which the model's photos are aligned")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="the file of figures")
    options = parser.parse_args()
    device = devices.resolve(options.device)
    on_gpu = device.type == "cuda"
    batches = [int(size) for size in (options.batches or ("64,256" if on_gpu else "8,16")).split(",")]
    machine = {**devices.environment(device), "cores": os.cpu_count(), "date": date.today().isoformat()}
    print(f"{options.backbone}, 112x112; {', '.join(f'{key} {value}' for key, value in machine.items())}", flush=True)
    figures: dict[str, Any] = {"machine": machine, "backbone": options.backbone, "rows": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = random_network(options.backbone)
        weights = folder / "weights.pth"
        torch.save(network.state_dict(), weights)
        run_images = options.run_images or (50_000 if on_gpu else 256)
        measurements: list[tuple[str, Callable[[], Iterable[Row]]]] = [
            ("gradients", lambda: gradient_rates(network, device, batches, options.images)),
            ("runs", lambda: whole_runs(folder, weights, device, run_images)),
            ("runs", lambda: pipeline_alone(folder, weights, device)),
            ("start", lambda: beginnings(folder, weights, options.backbone, device, options.start_images)),
            ("memory", lambda: memory(folder)),
            ("names", start_up),
            ("names", lambda: selection(folder / "names", options.files)),
            ("drawing", lambda: drawing(folder)),
            ("evaluation", lambda: evaluation(folder)),
            ("model", lambda: starmap(Row, in_hand.figures(folder, weights, device, options.detector))),
            ("page", lambda: starmap(Row, page_of_many.figures(folder, options.page_images))),
            ("stores", lambda: starmap(Row, stores.figures(folder))),
            ("many", lambda: starmap(Row, many.figures(folder, options.samples))),
        ]
        for part, measure in measurements:
            if part in (options.only or PARTS):
                for row in measure():
                    print(f"{row.what:84} {row.value:10.2f} {row.unit}", flush=True)
                    figures["rows"].append(vars(row))
                options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def random_network(backbone: str) -> IResNet:
    """A network of random weights, whose statistics were recorded from random pictures, as a trained one has them."""
    network = IResNet(DEPTHS[backbone])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 112, 112))
    return network.eval().requires_grad_(False)


def start_up() -> list[Row]:
    return [Row("grafiqs --help", median(lambda: grafiqs("--help"), 5), "s")]


def selection(root: Path, count: int) -> list[Row]:
    """Scan and select from a data set of empty files, 100 in each identity, against what `find` takes to list them."""
    for number in range(count):
        folder = root / f"identity_{number // 100:06d}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number % 100:04d}.jpg").touch()
    listing, scanning = alternating(
        lambda: run_quietly("find", str(root), "-type", "f"), lambda: run_quietly(sys.executable, "-c", SCAN, str(root))
    )
    starting = median(lambda: run_quietly(sys.executable, "-c", SCAN), 3)
    everything = ["select", "--image-path", str(root), "--quiet"]
    few = [*everything, "--random-identity-selection", "--num-identities", "100", "--samples-per-identity", "50"]
    rows = [
        Row(f"find over {count:,} files", listing, "s"),
        Row("scan of all of them, every identity and sample, without the start of Python", scanning - starting, "s"),
        Row("... against find", (scanning - starting) / listing, "x"),
        Row("... its peak memory, Python's own included", peak_memory("-c", SCAN, str(root)), "MiB"),
        Row("grafiqs select of 100 identities x 50 samples among them", median(lambda: grafiqs(*few), 3), "s"),
        Row("grafiqs select of all of them", median(lambda: grafiqs(*everything), 3), "s"),
    ]
    return [*rows, Row("... its peak memory", peak_memory("-m", "grafiqs", *everything), "MiB")]


def drawing(folder: Path) -> list[Row]:
    """Drawn faces on one core, building the identities included, and the whole demo."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)

    def draw() -> None:
        for number in range(4):
            identity = Identity(0, number)
            for sample in range(30):
                cv2.imencode(".png", identity.face(sample).image)

    rate = 4 * 30 / median(draw, 3)
    cv2.setNumThreads(threads)
    demo = timed(lambda: grafiqs("demo", "--output-dir", str(folder / "demo")))
    return [Row("drawn faces on one core", rate, "faces/s"), Row("grafiqs demo", demo, "s")]


def peak_memory(*arguments: str) -> float:
    """Peak resident memory of Python so called, in MiB, by a small parent: a child starts with its parent's."""
    program = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def gradient_rates(network: IResNet, device: torch.device, batches: list[int], count: int) -> list[Row]:
    """Scores alone: every way, precision and batch against one image at a time, round by round in turn."""
    devices.keep_all_memory()  # as the command does
    precisions = ["float32", "tf32", "bfloat16"] if device.type == "cuda" else ["float32"]
    if device.type == "cpu" and devices.cpu_has_bfloat16():
        precisions.append("bfloat16")
    pixels = torch.randint(0, 256, (max(batches), 3, 112, 112), dtype=torch.uint8)
    alone = Computer(copy.deepcopy(network), device, 1, LAYERS)
    singles = 8

    def one_at_a_time() -> None:
        for number in range(singles):
            alone(pixels[number : number + 1], gradients=False).wait()

    rows: list[Row] = []
    sides: dict[str, tuple[Callable[[], object], int]] = {"one at a time": (one_at_a_time, singles)}
    for size in batches:
        plain = Computer(network, device, size, LAYERS)
        sides[f"eager float32, batches of {size}"] = (both_ways(plain, pixels[:size]), size)
        for precision in precisions:
            for layers in (LAYERS, ("block4",)) if precision == "float32" else (LAYERS,):
                fast = Computer(network, device, size, layers, precision=precision)
                name = f"compiled {precision}, batches of {size}" + ("" if layers == LAYERS else ", block4 alone")
                rows.append(Row(f"{name}: compiling", timed(fast.compile), "s"))
                sides[name] = (both_ways(fast, pixels[:size]), size)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 + -(-count // singles)):
        for name, (side, images) in sides.items():
            times[name].append(timed(side) / images)
    times = {name: seconds[1:] for name, seconds in times.items()}  # the first round warms up
    floors = {
        (precision, size): floor(network, device, precision, size) for precision in precisions for size in batches
    }
    for name, seconds in times.items():
        rate = 1 / statistics.median(seconds)
        rows.append(Row(name, rate, "images/s"))
        if name != "one at a time":
            rows.append(Row(f"{name}: against one at a time", ratio(times["one at a time"], seconds), "x"))
        for (precision, size), most in floors.items():
            if name == f"compiled {precision}, batches of {size}":
                rows.append(Row(f"{name}: the convolutions alone", most, "images/s"))
                rows.append(Row(f"{name}: share of that", 100 * rate / most, "%"))
        if name.endswith("block4 alone"):
            every = times[name.removesuffix(", block4 alone")]
            rows.append(Row(f"{name}: against all layers, compiled", ratio(every, seconds), "x"))
    return rows


def both_ways(computer: Computer, pixels: torch.Tensor) -> Callable[[], object]:
    """Compute these images, and have their scores on the CPU."""
    return lambda: computer(pixels, gradients=False).wait()


def ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def floor(network: IResNet, device: torch.device, precision: str, size: int) -> float:
    """Images a second if there were nothing but the convolutions, forward and back to their inputs."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    shapes: Counter[tuple[tuple[int, ...], nn.Conv2d]] = Counter()
    kinds: dict[tuple[Any, ...], nn.Conv2d] = {}

    def seen(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        kind = (tuple(inputs[0].shape[1:]), tuple(module.weight.shape), module.stride)
        shapes[(inputs[0].shape[1:], kinds.setdefault(kind, module))] += 1

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_pre_hook(seen) for module in convolutions]
    network(torch.zeros(1, 3, 112, 112))
    for handle in handles:
        handle.remove()
    seconds = 0.0
    layout = tuning.compiled_layout(device, precision)
    with devices.arithmetic(precision), torch.no_grad():
        for (shape, module), count in shapes.items():
            x = torch.rand(size, *shape, device=device).to(dtype).contiguous(memory_format=layout)
            weight = module.weight.to(device).to(dtype).contiguous(memory_format=layout)
            settings = (module.stride, module.padding, module.dilation, False, (0, 0), 1)
            y = torch.ops.aten.convolution(x, weight, None, *settings)
            forward = partial(torch.ops.aten.convolution, x, weight, None, *settings)
            back = partial(torch.ops.aten.convolution_backward, y, x, weight, None, *settings, (True, False, False))
            seconds += count * (median(forward, 5) + median(back, 5))
    return size / seconds


def whole_runs(folder: Path, weights: Path, device: torch.device, count: int) -> list[Row]:
    """The command from start to end, compiled before, with and without dumps, against one image at a time."""
    faces = noise(folder / "faces", count)
    network = load_checkpoint(weights).network
    alone = Computer(network, device, 1, LAYERS)
    paths = sorted(faces.rglob("*.png"))[:32]

    def one_at_a_time() -> None:
        for path in paths:
            alone(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None], gradients=False).wait()

    single = len(paths) / median(one_at_a_time, 3)
    common = ["extract", "--image-path", str(faces), "--weights", str(weights), "--quiet", "--device", device.type]
    rows = []
    for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        ways = [*common, "--compile", "on", "--precision", precision]
        out = folder / f"run_{precision}"
        grafiqs(*ways, "--output-dir", str(folder / "first"), "--no-dump-gradients", "--num-identities", "1")
        shutil.rmtree(folder / "first")
        without = timed(lambda: grafiqs(*ways, "--output-dir", str(out / "scores"), "--no-dump-gradients"))  # noqa: B023
        with_dumps = timed(lambda: grafiqs(*ways, "--output-dir", str(out / "dumps")))  # noqa: B023
        written = sum(path.stat().st_size for path in (out / "dumps").rglob("*.npy"))
        disk = disk_rate(folder / "large")
        what = f"whole run of {count} images, compiled {precision}"
        rows += [
            Row(f"{what}, without dumps", count / without, "images/s"),
            Row("... against one at a time, images read", count / without / single, "x"),
            Row(f"{what}, with dumps", count / with_dumps, "images/s"),
            Row("... written", written / with_dumps / 1e9, "GB/s"),
            Row("... of what the disk takes in one large file", 100 * written / with_dumps / 1e9 / disk, "%"),
        ]
    checking = timed(lambda: grafiqs("verify", str(folder / "run_float32" / "dumps"), "--quiet"))
    return [Row("one at a time, images read", single, "images/s"), *rows, Row("verify", count / checking, "images/s")]


def beginnings(folder: Path, weights: Path, backbone: str, device: torch.device, counts: str) -> Iterator[Row]:
    """Time to the first score, and of the whole process, in small runs: compiled before or not, and one at a time."""
    run_quietly(sys.executable, "-c", "import cv2, grafiqs.extract")  # what the disk holds is in memory from here on
    for count in map(int, counts.split(",")):
        faces = noise(folder / f"start_{count}", count)
        places = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
        places["XDG_CACHE_HOME"] = str(folder / f"programs_{count}")  # empty before the first run
        alone = [sys.executable, "-c", ONE_AT_A_TIME, str(faces), str(weights), backbone, device.type]
        run = [sys.executable, "-m", "grafiqs", "extract", "--image-path", str(faces), "--weights", str(weights)]
        run += ["--device", device.type, "--compile", "on", "--no-dump-gradients", "--quiet", "--output-dir"]
        times: dict[str, tuple[float, float]] = {}
        for way in ("one at a time", "not compiled before", "compiled before"):
            output, printed = folder / f"{count} {way}", folder / f"{count} {way}.txt"
            command, told = ([*run, str(output)], output / "progress.jsonl") if times else (alone, printed)
            times[way] = first, whole = first_line(command, told, printed, places)
            yield Row(f"{count} images, {way}: to the first score", first, "s")
            yield Row(f"{count} images, {way}: the whole process", whole, "s")
            if way != "one at a time":
                yield Row("... against one at a time", times["one at a time"][1] / whole, "x")
        compiling = times["not compiled before"][0] - times["compiled before"][0]
        yield Row(f"{count} images: compiling, by how much later the first score is there", compiling, "s")


def first_line(command: list[str], told: Path, printed: Path, places: dict[str, str]) -> tuple[float, float]:
    """Seconds until a file holds a line, and until the process has ended; what that prints goes to another file."""
    start, first = time.perf_counter(), 0.0
    with printed.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, env=places)
        while process.poll() is None:
            with suppress(FileNotFoundError):  # it is not there yet, or not any more
                if not first and b"\n" in told.read_bytes():
                    first = time.perf_counter() - start
            time.sleep(0.01 if not first else 0.05)
    whole = time.perf_counter() - start
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return first or whole, whole


def noise(root: Path, count: int) -> Path:
    """A data set of `count` random pictures in 16 identities."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = root / f"identity_{number % 16}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(path)
    return root


class Idle(Computer):
    """A computer that has the results of its first batch ready for every other."""

    def __call__(self, pixels: torch.Tensor, gradients: bool = True) -> Computed:
        """What the first batch came to."""
        if not hasattr(self, "ready"):
            self.ready = super().__call__(pixels)
            self.ready.wait()
        return self.ready if gradients else Computed({}, self.ready.scores)


def pipeline_alone(folder: Path, weights: Path, device: torch.device) -> list[Row]:
    """What reading, writing and book-keeping allow around a network that costs nothing."""
    rows = []
    count = 4000
    faces = noise(folder / "idle_faces", count)
    for dumps in (False, True):
        options = Options(
            image_path=faces,
            weights=weights,
            output_dir=folder / f"idle_{dumps}",
            dump_gradients=dumps,
            device=device.type,
            compile="off",
            quiet=True,
        )
        with patch("grafiqs.compute.preparation.Computer", Idle):
            seconds = timed(lambda: extract_gradients(options))  # noqa: B023
        what = f"reading{', writing' if dumps else ''} and book-keeping alone, {count} images"
        rows.append(Row(what, count / seconds, "images/s"))
        if dumps:
            written = sum(path.stat().st_size for path in options.output_dir.rglob("*.npy")) / 1e9
            rows.append(Row("... written", written / seconds, "GB/s"))
            share = 100 * written / seconds / disk_rate(folder / "large")
            rows.append(Row("... of what the disk takes in one large file", share, "%"))
            shutil.rmtree(options.output_dir)
    return rows


def memory(folder: Path) -> list[Row]:
    """Peak memory of whole runs over few and over many images, with the small backbone that comes with the package."""
    rows = []
    common = ["--weights", str(demo_backbone()), "--quiet", "--overwrite", "--compile", "off"]  # alike in all runs
    for count in (1000, 4000):
        faces = noise(folder / f"faces_{count}", count)
        run = ["extract", "--image-path", str(faces), "--output-dir", str(folder / "memory"), *common]
        rows.append(Row(f"peak memory of a run over {count} images", peak_memory("-m", "grafiqs", *run), "MiB"))
    return rows


def evaluation(folder: Path) -> Iterator[Row]:
    """`grafiqs evaluate` of a million comparisons and five methods: from arrays, and the whole command."""
    scores, pairs = write_comparisons(folder)
    similarity, genuine, quality = as_arrays(folder)

    def curves() -> None:
        for column, rate in product(range(len(METHODS)), (0.01, 0.001)):
            edc(similarity, genuine, quality[:, column], fmr=rate).areas(0.3)
            operating_points(similarity, genuine, quality[:, column], fmr=rate)

    what = f"{COUNT:,} comparisons of {len(METHODS)} methods at 2 rates"
    yield Row(f"edc and operating_points of {what}", median(curves, 3), "s")
    command = ["evaluate", str(scores), "--pairs", str(pairs), "--direction", "higher", "--methods", ",".join(METHODS)]
    command += ["--no-plots", "--quiet", "--output-dir", str(folder / "evaluated")]
    for protocol in ("fixed", "rethreshold"):
        own = [*command, "--protocol", protocol]
        without = median(lambda: grafiqs(*own, "--bootstrap", "0"), 3)  # noqa: B023 - called at once
        yield Row(f"evaluate {what}, {protocol}: the whole command, which reads them from CSV", without, "s")
        yield Row("... with 1,000 rounds of the bootstrap", timed(lambda: grafiqs(*own)), "s")  # noqa: B023
    yield Row("peak memory of it", peak_memory("-m", "grafiqs", *command), "MiB")


def disk_rate(path: Path) -> float:
    """GB/s into one large file, written as the files of a run are."""
    data = np.zeros(2**28, dtype=np.uint8)

    def write() -> None:
        with files.whole(path) as file:
            file.write(data.data)

    return data.nbytes / median(write, 3) / 1e9


def alternating(*sides: Callable[[], Any], rounds: int = 5) -> list[float]:
    """The median time of each side, in seconds, after a round to warm up; the sides take turns."""
    for side in sides:
        side()
    times = [[timed(side) for side in sides] for _ in range(rounds)]
    return [statistics.median(own) for own in zip(*times, strict=True)]


def median(work: Callable[[], Any], rounds: int) -> float:
    work()
    return statistics.median(timed(work) for _ in range(rounds))


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def grafiqs(*arguments: str) -> None:
    run_quietly(sys.executable, "-m", "grafiqs", *arguments)


def run_quietly(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
