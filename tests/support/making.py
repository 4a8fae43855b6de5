"""What the tests make for themselves: pictures, data sets, checkpoints, command lines."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from grafiqs.backbones.catalogue import DEPTHS
from grafiqs.backbones.checkpoint import Checkpoint
from grafiqs.backbones.iresnet import IResNet
from grafiqs.demo.identity import Identity
from grafiqs.disk.files import sha256
from grafiqs.images.tensors import normalise, resized

Network = TypeVar("Network", bound=nn.Module)

NARROW = (8, 16, 32, 64)
"""Stage widths of the networks that tests run: fast, and every code path of the wide ones."""

REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
"""Real faces and weights, where they lie beside the checkout."""


@cache
def person(number: int) -> Identity:
    """A drawn identity."""
    return Identity(0, number)


@cache
def picture(seed: int, size: tuple[int, int] = (112, 112)) -> NDArray[np.uint8]:
    """A drawn face as RGB picture (H, W, 3), different for every seed: a thousand samples of each identity."""
    face = Image.fromarray(person(seed // 1000).face(seed % 1000).image)
    return np.array(face.resize(size[::-1], Image.Resampling.BICUBIC))


def make_faces(root: Path, counts: dict[str, int], suffix: str = ".png") -> Path:
    """A data set of `counts[identity]` drawn faces in each identity's folder, named 0, 1, 2, ..."""
    for place, (identity, count) in enumerate(counts.items()):
        (root / identity).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(picture(1000 * place + number)).save(root / identity / f"{number}{suffix}")
    return root


def random_network(
    backbone: str = "iresnet18",
    widths: tuple[int, int, int, int] = NARROW,
    seed: int = 0,
    embedding_size: int = 32,
    pixels: torch.Tensor | None = None,
) -> IResNet:
    """A network of random weights whose BatchNorm statistics are recorded from pictures, in eval mode.

    `pixels` (B, 3, 112, 112) uint8 are those pictures; made-up ones where there are none.
    """
    return recorded_statistics(lambda: IResNet(DEPTHS[backbone], widths, embedding_size), seed, pixels)


def recorded_statistics(build: Callable[[], Network], seed: int = 0, pixels: torch.Tensor | None = None) -> Network:
    """The same of the network that `build` makes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0.25)
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.momentum = None
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, std=0.1)
        if pixels is None:
            pixels = torch.stack([resized(picture(number)) for number in range(16)])
        with torch.no_grad():
            network.train()(normalise(pixels))
    return network.eval().requires_grad_(False)


def widths_of(checkpoint: Checkpoint) -> tuple[int, ...]:
    """The channels of a network's four stages."""
    return tuple(shape[0] for layer, shape in checkpoint.shapes.items() if layer != "image")


def grafiqs(*arguments: object, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "grafiqs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False)


def checked(text: bytes) -> bytes:
    """A line of a journal, with the checksum of what it states."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path inside it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_progress(run: Path) -> dict[str, bytes]:
    """Every file of a run but for those that say who is at work on it."""
    return {path: data for path, data in tree(run).items() if not path.startswith(("progress/", "progress.part/"))}


def fill_disk_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to this file, before it has its name, meets the error of a full disk."""
    usual = os.open

    def opened(name: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = name if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), name)
        if str(place) == f"{path}.part":
            return usual("/dev/full", os.O_WRONLY)
        return usual(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def sums_of(path: Path) -> dict[str, str]:
    """A list of checksums without escaped names: {path: checksum}."""
    return {line[66:]: line[:64] for line in path.read_text().splitlines()}


def sealed_again(run: Path) -> None:
    """Make SHA256SUMS fit the files as they are now, as a forger would."""
    lines = (run / "SHA256SUMS").read_text().splitlines()
    (run / "SHA256SUMS").write_text("".join(f"{sha256(run / line[66:])}  {line[66:]}\n" for line in lines))
