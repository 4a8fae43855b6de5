"""The page of a run of many images: how long it takes to build and to open, and how smoothly its gallery scrolls."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from grafiqs.backbones.catalogue import DEPTHS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.demo.identity import Identity

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.browser import Visit, started
from support.pages import run_of

Figure = tuple[str, float, str]

SIZES: tuple[tuple[int, int], ...] = ((1280, 900), (390, 844))
"""The windows that it is opened in, in pixels."""

_SCROLL = """
(step) => new Promise((done) => {
  const box = document.querySelector(".gallery");
  const frames = [];
  let tiles = 0;
  let last = performance.now();
  box.scrollTop = 0;
  const go = (now) => {
    frames.push(now - last);
    last = now;
    tiles = Math.max(tiles, document.querySelectorAll(".tile").length);
    box.scrollTop += step;
    if (frames.length < 120) requestAnimationFrame(go);
    else done({ frames: frames.slice(1), tiles });
  };
  requestAnimationFrame(go);
})
"""
"""Scrolls the gallery in 120 frames; says how long each took, and how many faces were in the document."""

_STEP = 60
"""Pixels a frame: 3,600 a second at 60 frames, as a fast hand scrolls."""


def figures(folder: Path, count: int) -> Iterator[Figure]:
    """Name, value and unit of each figure, of a run of `count` images with gradients at four layers."""
    run = _run(folder, count)
    began = time.perf_counter()
    _grafiqs("report", run, "--quiet")
    yield f"the page of {count:,} images, the command", time.perf_counter() - began, "s"
    page = run / "report.html"
    values = run_of(page)
    yield "... its size", page.stat().st_size / 1e6, "MB"
    yield "... faces on it", len(values["faces"]), "faces"
    yield "... faces with heat maps", len(values["maps"]), "faces"
    with started() as browser:
        for width, height in SIZES:
            began = time.perf_counter()
            with Visit(browser, page, width, height) as visit:
                visit.page.locator(".tile img").first.wait_for()
                yield f"... until it is open, {width} pixels wide", time.perf_counter() - began, "s"
                visit.page.locator(".gallery").scroll_into_view_if_needed()
                seen = visit.page.evaluate(_SCROLL, _STEP)
                frames = sorted(seen["frames"])
                yield "... a frame as the gallery is scrolled fast, median", statistics.median(frames), "ms"
                yield "... ... 95 % of them take at most", frames[int(0.95 * len(frames))], "ms"
                yield "... faces in the document, at most", seen["tiles"], "faces"


def _run(folder: Path, count: int) -> Path:
    """A run of drawn faces, each of which is there many times in another light, by a narrow network."""
    torch.manual_seed(0)
    network = IResNet(DEPTHS["iresnet18"], (8, 16, 32, 64), 32)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    torch.save(network.state_dict(), folder / "narrow.pth")
    rng = np.random.default_rng(0)
    drawn = [Identity(0, number).face(sample).image for number in range(20) for sample in range(10)]
    for number in range(count):
        face = drawn[number % len(drawn)].astype(np.float32)
        place = folder / "many" / f"person_{number % len(drawn) // 2:03}" / f"{number:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        lit = np.clip(face * rng.uniform(0.5, 1.3) + rng.normal(0, 4, face.shape), 0, 255)
        Image.fromarray(lit.astype(np.uint8)).save(place, quality=92)
    run = folder / "run"
    layers = ("--layers", "image,block2,block3,block4,loss")
    _grafiqs(
        "extract", "--image-path", folder / "many", "--weights", folder / "narrow.pth", "--output-dir", run, *layers
    )
    return run


def _grafiqs(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "grafiqs", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
