"""Train the demo's backbone, a narrow iresnet18, on drawn faces and on nothing else.

    .venv/bin/python training/train.py --output demo_backbone.safetensors
    .venv/bin/python training/train.py --cache faces.npz --steps 300     (a trial; the faces are drawn only once)

CosFace (Wang et al., CVPR 2018) on clean faces; the learning rate and the margin follow the steps and not the clock,
so that a machine repeats its own training to the byte. evaluate.py measures what comes out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from drawing import DEMO_SEED, EVALUATION_SEED, TRAINING_SEED, draw, positive
from grafiqs import RequestError
from grafiqs.backbones.catalogue import DEPTHS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.compute import devices, tuning
from grafiqs.compute.seeds import set_seeds
from grafiqs.demo.identity import Identity
from grafiqs.disk import files
from grafiqs.faces.template import SIZE
from grafiqs.images.tensors import normalise
from grafiqs.workers import processors

WIDTHS = (16, 32, 64, 128)
EMBEDDING_SIZE = 128
SCALE = 30.0
"""What CosFace multiplies the cosines by."""
MARGIN_RAMP = 0.25
"""The share of the steps over which the margin grows from 0."""
WARM_UP = 0.06
"""The share of the steps over which the learning rate grows from 0."""
MAX_SHIFT = 2
"""Pixels by which a face is moved at most, in each direction."""
MAX_GAIN = 0.1
"""By how much of itself a colour channel is made brighter or darker at most."""
REPORT_EVERY, SAVE_EVERY = 50, 500
"""Steps."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    identities: int
    faces: int
    steps: int
    batch_size: int
    margin: float
    weight_decay: float
    learning_rate: float
    seed: int
    output: Path
    threads: int
    device: str
    processes: int
    cache: Path | None


def main() -> None:
    """Draw, train, save."""
    options = parsed()
    torch.set_num_threads(options.threads)
    try:
        device = devices.resolve(options.device)
    except RequestError as error:
        raise SystemExit(str(error)) from None
    faces = clean_faces(options)
    set_seeds(options.seed)
    network = IResNet(DEPTHS["iresnet18"], WIDTHS, EMBEDDING_SIZE)
    use_quick_prelu(network)
    network = network.to(device).to(memory_format=tuning.compiled_layout(device, "bfloat16"))  # type: ignore[call-overload]
    train(network, faces, options, device)


def parsed() -> Options:
    """The options, or the end of the program if they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=positive, default=700)
    parser.add_argument("--faces", type=positive, default=20, help="of each identity (default 20)")
    parser.add_argument("--steps", type=positive, default=6000)
    parser.add_argument("--batch-size", type=positive, default=32)
    parser.add_argument("--margin", type=float, default=0.35, help="of CosFace, once it has grown (default 0.35)")
    parser.add_argument("--weight-decay", type=float, default=2e-3)
    parser.add_argument("--learning-rate", type=float, default=0.1, help="at its highest (default 0.1)")
    parser.add_argument("--seed", type=int, default=TRAINING_SEED, help="of identities and training (default 1)")
    parser.add_argument("--output", type=Path, default=Path("demo_backbone.safetensors"))
    parser.add_argument(
        "--threads", type=positive, default=1, help="of the training (default 1, fastest for this network)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--processes", type=positive, default=processors.usable(), help="that draw (default: one per core)"
    )
    parser.add_argument("--cache", type=Path, help="an .npz file that keeps the drawn faces for the next training")
    options = Options(**vars(parser.parse_args()))
    if options.seed in (DEMO_SEED, EVALUATION_SEED):
        parser.error(f"--seed {options.seed} draws the demo's or the evaluation's people, who must stay unseen")
    if not 1 < options.batch_size <= options.identities * options.faces:
        parser.error("--batch-size must be at least 2, and no more than there are faces")
    return options


def clean_faces(options: Options) -> NDArray[np.uint8]:
    """All faces, identity after identity: from the cache if there is one, else drawn."""
    parameters = {"seed": options.seed, "identities": options.identities, "faces": options.faces}
    if options.cache is not None and options.cache.exists():
        return cached_faces(options.cache, parameters)
    requests = [[(sample, None) for sample in range(options.faces)] for _ in range(options.identities)]
    faces = draw(options.seed, requests, options.processes)
    if options.cache is not None:
        with files.whole(options.cache) as file:
            np.savez(file, faces=faces, parameters=np.array(json.dumps(parameters)))
    return faces


def cached_faces(path: Path, parameters: dict[str, int]) -> NDArray[np.uint8]:
    """The faces that `path` keeps, if they are the ones that would be drawn now."""
    with np.load(path) as content:
        kept = json.loads(str(content["parameters"]))
        if kept != parameters:
            raise SystemExit(f"{path} keeps faces of {kept}, not of {parameters}: delete it, or name another --cache")
        faces: NDArray[np.uint8] = content["faces"]
    # The parameters do not tell a change of the drawing itself, so some faces are drawn again.
    for number in range(0, parameters["identities"], math.ceil(parameters["identities"] / 8)):
        if not np.array_equal(Identity(parameters["seed"], number).face(0).image, faces[number * parameters["faces"]]):
            raise SystemExit(f"{path} keeps faces that are drawn differently now: delete it, or name another --cache")
    return faces


class QuickPReLU(nn.PReLU):
    """PReLU from operations that are fast on a CPU, with the same output: PyTorch's own takes half of a step."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        slope = self.weight.to(x.dtype).view(-1, 1, 1)
        return functional.relu(x) - functional.relu(-x) * slope


def use_quick_prelu(network: nn.Module) -> None:
    """Replace every PReLU of `network`; the names in its state dict stay."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.PReLU):
                setattr(module, name, QuickPReLU(child.num_parameters))


class CosFace(nn.Module):
    """The training head: a direction for every identity, and the cosines of the embeddings with all of them."""

    def __init__(self, identities: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(identities, EMBEDDING_SIZE)))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, EMBEDDING_SIZE) -> (B, identities)."""
        return functional.linear(functional.normalize(embeddings), functional.normalize(self.weight))

    @staticmethod
    def loss(cosines: Tensor, labels: Tensor, margin: float) -> Tensor:
        """The cross entropy after `margin` is taken off the cosine with the right identity."""
        hindered = cosines - margin * functional.one_hot(labels, cosines.shape[1])
        return functional.cross_entropy(SCALE * hindered, labels)


def train(network: IResNet, faces: NDArray[np.uint8], options: Options, device: torch.device) -> None:
    """Run all steps; the network is saved now and then, and at the end."""
    head = CosFace(options.identities).to(device)
    optimizer = sgd([network, head], options)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, options.steps))
    report = Report(options)
    random = np.random.default_rng(options.seed)
    order = shuffled(len(faces), options.batch_size, random)
    for step in range(options.steps):
        rows = next(order)
        images = (
            augmented(faces[rows], random)
            .to(device)
            .contiguous(memory_format=tuning.compiled_layout(device, "bfloat16"))
        )
        labels = torch.from_numpy(rows // options.faces).to(device)
        # Convolutions run in bfloat16; parameters, the statistics of the BatchNorms and the loss stay float32.
        with torch.autocast(device.type, torch.bfloat16):
            embeddings = network(images)
        cosines = head(embeddings.float())
        loss = head.loss(cosines, labels, options.margin * min(1.0, step / (MARGIN_RAMP * options.steps)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        report.add(step + 1, loss.detach(), cosines.detach().argmax(1) == labels)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == options.steps:
            save(network, options)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes, SHA-256 {files.sha256(options.output)}")


def sgd(modules: list[nn.Module], options: Options) -> torch.optim.SGD:
    """Nesterov SGD over `modules`; what is one number per channel (BatchNorm, PReLU, bias) does not decay."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9, nesterov=True)


def learning_rate_share(step: int, steps: int) -> float:
    """How much of the highest learning rate a step gets: a straight rise, then half a cosine down to 0."""
    rise = WARM_UP * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (steps - rise))


def shuffled(count: int, size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of `size` rows without end: every row once in each round, but for a last few that fill no batch."""
    while True:
        rows = random.permutation(count)
        for start in range(0, count - size + 1, size):
            yield rows[start : start + size]


def augmented(faces: NDArray[np.uint8], random: np.random.Generator) -> Tensor:
    """(B, 112, 112, 3) RGB -> (B, 3, 112, 112) in [-1, 1]: mirrored by chance, shifted, and each channel scaled."""
    edge = (MAX_SHIFT, MAX_SHIFT)
    padded = np.pad(faces, ((0, 0), edge, edge, (0, 0)), mode="edge")
    corners = random.integers(0, 2 * MAX_SHIFT, (len(faces), 2), endpoint=True)
    moved = np.stack([face[y : y + SIZE, x : x + SIZE] for face, (y, x) in zip(padded, corners, strict=True)])
    mirrored = random.random(len(faces)) < 0.5
    moved[mirrored] = moved[mirrored, :, ::-1]
    gains = random.uniform(1 - MAX_GAIN, 1 + MAX_GAIN, (len(faces), 1, 1, 3)).astype(np.float32)
    pixels = torch.from_numpy(moved * gains).clamp(max=255)
    return normalise(pixels.permute(0, 3, 1, 2))


class Report:
    """Loss and accuracy since the last line, and how fast it goes."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.losses: list[Tensor] = []
        self.hits: list[Tensor] = []
        self.start = self.last = time.perf_counter()

    def add(self, step: int, loss: Tensor, hits: Tensor) -> None:
        """Note a step; print a line now and then."""
        self.losses.append(loss)
        self.hits.append(hits)
        if step % REPORT_EVERY == 0 or step == self.options.steps:
            self.line(step)

    def line(self, step: int) -> None:
        """Print the line. Ends the program when the loss is not a number, which nothing repairs."""
        loss = float(torch.stack(self.losses).mean())
        accuracy = float(torch.cat(self.hits).float().mean())
        now = time.perf_counter()
        rate = torch.cat(self.hits).numel() / (now - self.last)
        left = (now - self.start) / step * (self.options.steps - step)
        print(
            f"step {step}/{self.options.steps}  loss {loss:.3f}  accuracy {accuracy:.1%}  "
            f"{rate:.0f} images/s  {left / 60:.1f} min left",
            flush=True,
        )
        if not math.isfinite(loss):
            raise SystemExit("the loss is not finite: lower --learning-rate")
        self.losses, self.hits, self.last = [], [], now


def save(network: IResNet, options: Options) -> None:
    """Write the network as it is shipped: convolutions and fc in float16, everything else in float32."""
    state = {
        key: value.detach().to("cpu", torch.float16 if value.ndim > 1 else torch.float32).contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    metadata = {"format": "pt", "name": "grafiqs demo backbone", "training_seed": str(options.seed)}
    with files.whole(options.output) as file:
        file.write(metadata_in_order(safetensors.torch.save(state, metadata)))


def metadata_in_order(data: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: the library shuffles it, and equal weights hash equal."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    return data[:8] + text.ljust(end - 8) + data[end:]


if __name__ == "__main__":
    main()
