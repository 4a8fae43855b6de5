"""A small run is what it was: its files by their checksums, its scores to nine digits, whatever moves in the code.

In float64, with gradients rounded to float16, the bytes are those of every machine. The values were written down once
(2026-11-26), and no test writes them again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from grafiqs import open_run
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.cli import main
from support.making import NARROW, sums_of

pytestmark = pytest.mark.usefixtures("one_thread")

FACES = {"ann": 3, "b, c": 2, "d\u00e9": 2}

SUBSET = "858c1607c4bf8717d8fe3a56830859201fe8de2ca34ecd821a92672cbd5e614f"
WEIGHTS = "b721ef960dd28f3059e64840e8826a0dba84e3e6867a4840ad95f6737661d50c"
FILES = {
    "image/": "f6907df0419110db52f834a1e09edbcd4865aa180bb1c2624237a66e71b8c00b",
    "block1/": "d536124b444ce4cee2d528d1a93bc3ac16c6e67e50c2491102b6fb8639c3ad0d",
    "block2/": "1cbda3e9792c92b1ca2710f9c0d8273ada10147074b86f652458ddbc9ab80137",
    "block3/": "7dc83820dd64b048525c95407c4661705a7a551b9cf5ce38886f71ab642ad393",
    "block4/": "bf9cebcea5909ef205af0bd07613c632c77aa698cf11aab25688ec8e9daaeec6",
    "failures.csv": "ae21f5f9424964756afe26e2be2d419f663048533cb5bab180b6a1935ea38958",
    "SHA256SUMS.images": "7cf5387859183f26ba2fccb18a4cf61550ae569260870e1472285140414ebef1",
    "embeddings.npy": "4f8e8f256ea9b42be8e6969764f80f9111bd81b6b7f531e7d7fd362fc4871818",
}
"""SHA-256 of files, and of the lines of SHA256SUMS of a layer's gradients."""

SCORES = [
    (1.6895405302623585, 1.3201382433128124, 0.7548570523748802, 0.34401355000389394, 0.056407302102766635),
    (1.786622366818491, 1.3862044795211088, 0.7949964403933771, 0.37363497549665137, 0.06172897225683025),
    (1.7202212912856139, 1.3484242252128047, 0.7682981454488294, 0.35911229203603, 0.05830482049696288),
    (1.6947983875853865, 1.3351231504220744, 0.7531285230965497, 0.35444237809327594, 0.05775382469563435),
    (1.705721777632272, 1.3333858097164302, 0.7648635028439463, 0.3587246558447422, 0.05769073744399019),
    (1.6478768243400728, 1.2765269647290907, 0.7328227676989022, 0.3405478252284124, 0.05600341892755301),
    (1.7518298364548257, 1.3684009870422467, 0.7920807978004409, 0.3672419580558379, 0.06065932455353468),
]
"""Of each image: at the image and at block1 to block4."""


def value(name: str, like: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """A weight that no version of PyTorch draws otherwise."""
    if name == "features.weight":
        return torch.ones_like(like)
    if not like.is_floating_point():
        return like
    if like.ndim > 1:
        drawn = random.normal(0, like[0].numel() ** -0.5, tuple(like.shape))
        return torch.tensor(drawn, dtype=like.dtype)
    if name.endswith("running_var"):
        return torch.full_like(like, 4.0)
    if name.endswith("weight") and ("bn" in name or "downsample" in name):
        return torch.full_like(like, 1.5)
    return torch.full_like(like, 0.25 if "prelu" in name else 0.0)


def test_a_small_run_is_what_it_was(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(5))
    for identity, count in FACES.items():
        (tmp_path / "faces" / identity).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (112, 112, 3), np.uint8)
            path = tmp_path / "faces" / identity / f"{number}.ppm"
            path.write_bytes(b"P6 112 112 255\n" + pixels.tobytes())
    (tmp_path / "faces" / "ann" / "9.png").write_bytes(b"no image")
    random = np.random.Generator(np.random.PCG64(6))
    state = IResNet((2, 2, 2, 2), NARROW).state_dict()
    weights = {name: value(name, like, random).contiguous() for name, like in state.items()}
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    command = ["extract", "--image-path", tmp_path / "faces", "--weights", tmp_path / "weights.safetensors", "--quiet"]
    command += ["--precision", "float64", "--gradient-dtype", "float16", "--embeddings", "--batch-size", "4"]
    assert main([*map(str, command), "--device", "cpu", "--output-dir", str(tmp_path / "run")]) == 1

    run = open_run(tmp_path / "run")
    assert run.manifest.subset.sha256 == SUBSET
    assert run.manifest.weights_sha256 == WEIGHTS
    sums = sums_of(tmp_path / "run" / "SHA256SUMS")
    for name, expected in FILES.items():
        lines = "".join(f"{checksum}  {path}\n" for path, checksum in sorted(sums.items()) if path.startswith(name))
        data = lines.encode() if name.endswith("/") else (tmp_path / "run" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == expected, name
    found = np.array([[row[layer] for layer in LAYERS] for row in run.scores])
    np.testing.assert_allclose(found, SCORES, rtol=1e-9, atol=0)
