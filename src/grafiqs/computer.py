"""From pixels to gradients and scores on one device: as the science is written, or compiled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from grafiqs import compiled, devices, images
from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import USUAL, Preprocessing
from grafiqs.errors import RequestError
from grafiqs.gradients import gradient_scores, gradients_and_features

Embeddings = Literal["none", "plain", "flip"]
"""Which embeddings are computed, too: those of the images, or with those of their mirror images added."""


class Step(nn.Module):
    """What is computed for one batch, whether it runs as it is or is compiled."""

    def __init__(
        self,
        network: Backbone,
        layers: tuple[str, ...],
        preprocessing: Preprocessing,
        memory_format: torch.memory_format,
        embeddings: Embeddings = "none",
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.network = network
        self.layers = layers
        self.preprocessing = preprocessing
        self.memory_format = memory_format

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) -> the gradient at each layer (B, C, H', W'), the scores (B, layers) float64, embeddings.

        The embeddings (B, embedding_size) are those that were asked for, or left out.
        """
        x = images.normalise(pixels, self.preprocessing).contiguous(memory_format=self.memory_format)
        found, features = gradients_and_features(self.network, x, self.layers)
        scores = torch.stack([gradient_scores(gradient) for gradient in found.values()], dim=1)
        results = (*(gradient.float().contiguous() for gradient in found.values()), scores)
        if self.embeddings == "none":
            return results
        embedding = self.network.head(features)
        if self.embeddings == "flip":
            embedding = embedding + self.network(x.flip(3))
        return (*results, embedding.float().contiguous())

    def extra_repr(self) -> str:
        """What makes this step besides its network, for the name of its compiled form."""
        return f"{self.layers}, {self.preprocessing}, {self.memory_format}, embeddings: {self.embeddings}"


@dataclass(frozen=True)
class Computed:
    """What one batch came to, in the CPU's memory; a GPU may still be copying until `wait` returns.

    `gradients` (B, C, H, W) float32 by layer, none where they were not asked for; `scores` (B, layers) float64;
    `embeddings` (B, embedding_size) float32, where the computer is made for them.
    """

    gradients: dict[str, Tensor]
    scores: Tensor
    embeddings: Tensor | None = None
    copied: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Return when everything has arrived."""
        if self.copied is not None:
            self.copied.synchronize()


class Computer:
    """A network on its device, computing batches of one size in one precision."""

    def __init__(
        self,
        network: Backbone,
        device: torch.device,
        batch_size: int,
        layers: tuple[str, ...],
        preprocessing: Preprocessing = USUAL,
        precision: str = "float32",
        embeddings: Embeddings = "none",
    ) -> None:
        self.device = device
        self.batch_size = batch_size
        self.layers = layers
        self.precision = precision
        self._size = preprocessing.size
        self._names = (*layers, "scores") if embeddings == "none" else (*layers, "scores", "embeddings")
        memory_format = devices.memory_format(device, precision) if network.known else torch.contiguous_format
        placed = devices.placed(network, device, memory_format, precision)
        self._step = Step(placed, layers, preprocessing, memory_format, embeddings)
        self._run: compiled.Program = self._step
        on_gpu = device.type == "cuda"
        self._copying = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self.in_flight = int(on_gpu)
        """Batches that can be under way beside the one whose results are being looked at."""

    def blank(self) -> Tensor:
        """A batch of black images, in memory that a GPU copies from while it computes."""
        shape = (self.batch_size, 3, *self._size)
        return torch.zeros(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")

    def __call__(self, pixels: Tensor, gradients: bool = True) -> Computed:
        """uint8 images (batch_size, 3, H, W) -> their scores, and their gradients unless nobody wants those.

        Gradients that nobody wants never leave the device. On a GPU this returns while it is at work.
        """
        with devices.arithmetic(self.precision), torch.no_grad():
            found = self._run(pixels.to(self.device, non_blocking=True))
            wanted = dict(zip(self._names, found, strict=True))
            if not gradients:
                wanted = {name: value for name, value in wanted.items() if name not in self.layers}
            copied = None
            if self._copying is not None:
                wanted, copied = _fetched(wanted, self._copying)
        scores, embeddings = wanted.pop("scores"), wanted.pop("embeddings", None)
        return Computed(wanted, scores, embeddings, copied)

    def compile(self) -> None:
        """Compute by a compiled program from now on. Raises CompileError, with nothing changed, if that cannot be."""
        with devices.arithmetic(self.precision):
            self._run = compiled.program(self._step, self.blank().to(self.device))

    def was_compiled_before(self) -> bool:
        """Whether the compiled program lies on the disk, so that `compile` takes seconds."""
        return compiled.is_known(self._step, self.blank().to(self.device))

    def warm_up(self) -> float:
        """Compute one batch of nothing; returns the seconds it took.

        Raises RequestError when the device cannot do it, so that it is known before anything is written.
        """
        started = time.monotonic()
        try:
            self(self.blank(), gradients=False).wait()
        except Exception as error:  # a GPU out of memory, or a network that does not take so many
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise RequestError(
                f"{self.device} cannot compute {self.batch_size} images at once ({reason}): "
                "give a smaller --batch-size, or another --device"
            ) from error
        return time.monotonic() - started


def _fetched(found: dict[str, Tensor], stream: torch.cuda.Stream) -> tuple[dict[str, Tensor], torch.cuda.Event]:
    """Copies on their way to the CPU, on a stream beside the computation, which may overwrite the originals."""
    own = {name: value.clone() for name, value in found.items()}
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        copies = {name: value.to("cpu", non_blocking=True) for name, value in own.items()}
        for value in own.values():
            value.record_stream(stream)
    return copies, stream.record_event()
