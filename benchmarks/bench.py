"""Measure on this machine: start-up, selection, drawing, gradients against one image at a time, and whole runs.

    make bench                                          (about five minutes)
    .venv/bin/python benchmarks/bench.py --files 100000 --json bench.json

Prints a table; ratios come from one run with both sides on the same inputs, medians of several rounds. Weights and
pictures are random: the work is the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from grafiqs import devices
from grafiqs.backbones.catalogue import DEPTHS, LAYERS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.demo.faces import Identity
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.run import files


@dataclass(frozen=True)
class Row:
    """One measured figure."""

    what: str
    value: float
    unit: str


SCAN = """
import sys
from pathlib import Path
from grafiqs.scan import scan
dataset = scan(Path(sys.argv[1])) if sys.argv[1:] else None
kept = [dataset.samples(identity) for identity in dataset.identities] if dataset else []
"""
"""A program that scans a data set and keeps all names; without one, what starting such a program takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="iresnet50", choices=DEPTHS)
    parser.add_argument("--files", type=int, default=1_000_000, help="files of the data set that is scanned")
    parser.add_argument("--images", type=int, default=96, help="images of the whole runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    device = devices.resolve("auto")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, devices.exact_arithmetic():
        rows += start_up(options.rounds)
        rows += selection(Path(folder) / "names", options.files)
        rows += drawing(Path(folder))
        network = IResNet(DEPTHS[options.backbone]).eval().requires_grad_(False)
        weights = Path(folder) / "weights.pth"
        torch.save(network.state_dict(), weights)
        rows += gradient_rates(network, device, options.rounds)
        rows += whole_runs(Path(folder), weights, options.images)
    machine = devices.environment(device)
    print(f"{options.backbone}, 112x112, float32; {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for row in rows:
        print(f"{row.what:72} {row.value:10.2f} {row.unit}")
    if options.json:
        figures = {"machine": machine, "backbone": options.backbone, "rows": [vars(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def start_up(rounds: int) -> list[Row]:
    def run() -> None:
        grafiqs("--help")

    return [Row("grafiqs --help", median(run, rounds), "s")]


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


def gradient_rates(network: IResNet, device: torch.device, rounds: int) -> list[Row]:
    """All layers, scores only: batches against one image at a time, round by round in turn."""
    size = devices.BATCH_SIZE[device.type]
    plain, placed = copy.deepcopy(network).to(device), devices.placed(network, device)
    images = torch.rand((size, 3, 112, 112), generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    batch = images.contiguous(memory_format=devices.memory_format(device))

    def one_at_a_time() -> None:
        for number in range(8):
            scored(plain, images[number : number + 1], LAYERS)

    sides: dict[str, tuple[Callable[[], None], int]] = {
        "one at a time": (one_at_a_time, 8),
        f"batches of {size}, all layers": (lambda: scored(placed, batch, LAYERS), size),
        f"batches of {size}, block4 alone": (lambda: scored(placed, batch, ("block4",)), size),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, (side, count) in sides.items():
            times[name].append(timed(side) / count)
    alone, *others = (seconds[1:] for seconds in times.values())  # the first round warms up
    rows = [
        Row(f"gradients on {device}, {name}", 1 / statistics.median(s[1:]), "images/s") for name, s in times.items()
    ]
    for name, seconds in zip(list(sides)[1:], others, strict=True):
        ratio = statistics.median(one / other for one, other in zip(alone, seconds, strict=True))
        rows.append(Row(f"... {name}, against one at a time", ratio, "x"))
    return rows


def scored(network: IResNet, images: torch.Tensor, layers: tuple[str, ...]) -> None:
    for gradient in image_gradients(network, images, layers).values():
        gradient_scores(gradient).cpu()


def whole_runs(folder: Path, weights: Path, count: int) -> list[Row]:
    """The command from start to end, start-up and loading included, with and without dumps."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "faces" / f"identity_{number % 8}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(path)
    common = ["extract", "--image-path", str(folder / "faces"), "--weights", str(weights), "--quiet"]
    dump, scores = folder / "dump", folder / "scores"
    with_dumps = timed(lambda: grafiqs(*common, "--output-dir", str(dump)))
    without = timed(lambda: grafiqs(*common, "--output-dir", str(scores), "--no-dump-gradients"))
    written = sum(path.stat().st_size for path in dump.rglob("*.npy"))
    checking = timed(lambda: grafiqs("verify", str(dump), "--quiet"))
    return [
        Row(f"whole run of {count} images with dumps", count / with_dumps, "images/s"),
        Row("... gradients written", written / with_dumps / 1e6, "MB/s"),
        Row(f"whole run of {count} images without dumps", count / without, "images/s"),
        Row("verify", count / checking, "images/s"),
        Row("the disk: one large file", disk_rate(folder / "large"), "MB/s"),
    ]


def disk_rate(path: Path) -> float:
    data = np.zeros(2**26, dtype=np.uint8)

    def write() -> None:
        with files.whole(path) as file:
            file.write(data.data)

    return data.nbytes / median(write, 3) / 1e6


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
