"""From pixels to gradients and scores on one device: as the science is written, or compiled."""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import LAYERS, LOSS
from grafiqs.compute import compiled, cuda, devices, tuning
from grafiqs.errors import RequestError, first_line
from grafiqs.gradients import gradient_scores, measured
from grafiqs.images.preprocessing import USUAL, Preprocessing
from grafiqs.images.tensors import normalise

Embeddings = Literal["none", "plain", "flip"]
"""Which embeddings are computed: none, those of the images, or these plus those of their mirror images."""


ONE_AT_A_TIME = threading.RLock()
"""Number formats are settings of the whole process: of several threads, one computes."""


class Step(nn.Module):
    """What is computed for one batch, whether it runs as it is or is compiled: `scores` names some of SCORES."""

    def __init__(
        self,
        network: Backbone,
        scores: tuple[str, ...],
        preprocessing: Preprocessing,
        memory_format: torch.memory_format,
        embeddings: Embeddings = "none",
        norms: str = "maps",
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.network = network
        self.scores = scores
        self.layers = tuple(name for name in scores if name in LAYERS)
        self.preprocessing = preprocessing
        self.memory_format = memory_format
        self.norms = norms
        self.precision = precision

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, H, W) -> the gradient at each layer (B, C, H', W'), the scores (B, scores) float64, embeddings.

        The embeddings (B, embedding_size) are those that were asked for, or left out.
        """
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        x = normalise(pixels, self.preprocessing, dtype).contiguous(memory_format=self.memory_format)
        found, losses, features = measured(self.network, x, self.layers, self.norms, LOSS in self.scores)
        columns = [gradient_scores(gradient) for gradient in found.values()]
        if losses is not None:
            columns.append(losses)
        results = (*(gradient.float().contiguous() for gradient in found.values()), torch.stack(columns, dim=1))
        if self.embeddings == "none":
            return results
        embedding = self.network.head(features)
        if self.embeddings == "flip":
            embedding = embedding + self.network(x.flip(3))
        return (*results, embedding.float().contiguous())

    def extra_repr(self) -> str:
        """What makes this step besides its network, for the name of its compiled form."""
        return (
            f"{self.scores}, {self.preprocessing}, {self.memory_format}, embeddings: {self.embeddings}, "
            f"norms: {self.norms}, {self.precision}"
        )


@dataclass(frozen=True)
class Computed:
    """The results of one batch, in the CPU's memory; a GPU may still be copying until `wait` returns.

    `gradients` (B, C, H, W) float32 by layer, none if they were not asked for; `scores` (B, scores) float64;
    `embeddings` (B, embedding_size) float32, if the computer is made for them.
    """

    gradients: dict[str, Tensor]
    scores: Tensor
    embeddings: Tensor | None = None
    arrival: cuda.Arrival | None = None

    def wait(self) -> None:
        """Return when everything has arrived."""
        if self.arrival is not None:
            self.arrival.wait()


class Computer:
    """A network on its device, computing batches of one size in one precision."""

    def __init__(
        self,
        network: Backbone,
        device: torch.device,
        batch_size: int,
        scores: tuple[str, ...],
        preprocessing: Preprocessing = USUAL,
        precision: str = "float32",
        embeddings: Embeddings = "none",
        norms: str = "maps",
    ) -> None:
        self.device = device
        self.batch_size = batch_size
        self.precision = precision
        placed = devices.placed(network, device, precision, network.known)
        plain = tuning.plain_layout(device, precision) if network.known else torch.contiguous_format
        self._step = Step(placed, scores, preprocessing, plain, embeddings, norms, precision)
        self._names = (*self._step.layers, "scores", *(["embeddings"] if embeddings != "none" else []))
        self._run: compiled.Program = self._step
        self._copying = cuda.stream(device) if device.type == "cuda" else None
        self.in_flight = 0 if self._copying is None else 1
        """Batches that can be under way beside the one whose results are being looked at."""

    def blank(self) -> Tensor:
        """A batch of black images, in memory that a GPU copies from while it computes."""
        shape = (self.batch_size, 3, *self._step.preprocessing.size)
        return torch.zeros(shape, dtype=torch.uint8, device="cpu", pin_memory=self.device.type == "cuda")

    def __call__(self, pixels: Tensor, gradients: bool = True) -> Computed:
        """uint8 images (batch_size, 3, H, W) -> their scores and, if `gradients`, their gradients.

        Other gradients never leave the device. On a GPU this returns while it is at work.
        """
        with ONE_AT_A_TIME, devices.usual_settings(), devices.arithmetic(self.precision), torch.no_grad():
            found = self._run(pixels.to(self.device, non_blocking=True))
            wanted = dict(zip(self._names, found, strict=True))
            if not gradients:
                wanted = {name: value for name, value in wanted.items() if name not in self._step.layers}
            arrival = None
            if self._copying is not None:
                wanted, arrival = cuda.fetched(wanted, self._copying)
        scores, embeddings = wanted.pop("scores"), wanted.pop("embeddings", None)
        return Computed(wanted, scores, embeddings, arrival)

    def compile(self) -> None:
        """Compute by a compiled program from now on.

        Raises CompileError or NoFolderError, with nothing changed, if that is not possible.
        """
        with ONE_AT_A_TIME, devices.arithmetic(self.precision):
            self._run = compiled.program(*self._compiled())

    def was_compiled_before(self) -> bool:
        """Whether the compiled program lies on the disk, so that `compile` takes a moment."""
        return compiled.is_known(*self._compiled())

    def _compiled(self) -> tuple[Step, Tensor, bool]:
        """What is compiled, for which pixels, and whether only its trace tells what it computes."""
        step = copy.copy(self._step)
        known = step.network.known
        if known:
            step.memory_format = tuning.compiled_layout(self.device, self.precision)
        return step, self.blank().to(self.device), not known

    def warm_up(self) -> float:
        """Compute one batch of nothing; returns the seconds it took.

        Raises RequestError when the device cannot do it.
        """
        started = time.monotonic()
        try:
            self(self.blank(), gradients=False).wait()
        except Exception as error:  # a GPU out of memory, or a network that does not take so many
            raise self.cannot(error) from error
        return time.monotonic() - started

    def cannot(self, error: Exception) -> RequestError:
        """What to say when the device cannot compute a batch."""
        return RequestError(
            f"{self.device} cannot compute {self.batch_size} images at once ({first_line(error)}): "
            "give a smaller --batch-size, or another --device"
        )
