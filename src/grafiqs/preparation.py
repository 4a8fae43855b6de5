"""How a run computes: chosen once, kept by whoever goes on with it, and proved against the reference at every start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from grafiqs import devices
from grafiqs.backbones.checkpoint import Checkpoint
from grafiqs.compiled import CompileError
from grafiqs.computer import Computer, Embeddings
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.opencv import opencv_version
from grafiqs.options import Options
from grafiqs.programs import NoFolderError
from grafiqs.reading import Reader
from grafiqs.selfcheck import IMAGES, differences

log = logging.getLogger(__name__)

BATCH_SIZE = 8
"""Images computed at once on a CPU: more gain nothing there."""

MAX_BATCH_SIZE = 256
"""The most that are chosen on a GPU."""

GAIN = 1.5
"""How much faster a compiled program is, at least, than the plain way (measured on CPUs: 1.5 to 1.9)."""

SECONDS = 1.3, 0.17
"""Compiling takes this long for each BatchNorm2d of the network, the first time and later (measured on two cores)."""

_LOOKED_AT = 256
"""Samples among which the self-check looks for images that can be read."""


class Preparation:
    """What a run does before its first image.

    `kept` is the `computation` of the run that is gone on with, or empty: what options leave open is as it was there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        options: Options,
        reader: Reader,
        locations: Sequence[str],
        kept: dict[str, Any],
    ) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._options = options
        self._reader = reader
        self._locations = locations
        asked = {"precision": options.precision, "device": device.type}
        self._kept = kept if kept.items() >= asked.items() else {}
        known = options.batch_size or int(self._kept.get("batch_size", 0))
        self.reference = self._made(min(IMAGES, known or IMAGES))
        """The plain way, which what computes is held against; it computes a few images at once."""
        batch_size = known or self._batch_size()
        self.computer = self._made(batch_size, options.precision)
        """What computes the run, once `environment` has found it right; until then, what is to."""
        self.computation = {"engine": self._engine(), **asked, "batch_size": batch_size}
        """How the run is to compute, as its manifest says it."""

    def environment(self) -> dict[str, Any]:
        """Get ready to compute; returns what a manifest says of the machine, and of how it computes here.

        Raises RequestError when the device cannot do it, or cannot compile although that was asked for.
        """
        engine, precision = self._compiled(), self._options.precision
        self.computer.warm_up()
        seen = None
        if (engine, precision) != ("eager", "float32"):
            seen = differences(self.computer, self.reference, self._first_images())
            beyond = seen.beyond(precision)
            what = f"the computation, {engine} in {precision},"
            if beyond:
                log.warning(
                    "warning: %s differs from the reference in %s: the reference computes this run, which takes longer",
                    *(what, ", ".join(beyond)),
                )
                engine, precision = "eager", "float32"
                self.computer = self._made(self.computer.batch_size)
                self.computer.warm_up()
            elif seen.images == 0:
                log.warning("warning: %s could not be checked: no image has a finite score", what)
            else:
                worst = max(seen.scores.values())
                log.info(
                    "Checked: %s agrees with the reference (scores within %.1g on %d images)", what, worst, seen.images
                )
        return {
            **devices.environment(self._device),
            **({} if self._reader.faces is None else {"opencv": opencv_version()}),
            "engine": engine,
            "precision": precision,
            "self_check": seen and asdict(seen),
        }

    def _made(self, batch_size: int, precision: str = "float32") -> Computer:
        embeddings: Embeddings = "none"
        if self._options.embeddings:
            embeddings = "flip" if self._options.flip else "plain"
        layers = self._options.layers
        return Computer(
            self._checkpoint.network,
            self._device,
            batch_size,
            layers,
            self._checkpoint.preprocessing,
            precision,
            embeddings,
        )

    def _batch_size(self) -> int:
        """Images computed at once where nobody says."""
        if self._device.type == "cpu":
            return BATCH_SIZE
        return min(MAX_BATCH_SIZE, devices.batch_that_fits(self._device, self.reference.warm_up, IMAGES))

    def _engine(self) -> str:
        """What was asked for; left open, what the run began with, or what will be done sooner."""
        if self._options.compile != "auto":
            return "compiled" if self._options.compile == "on" else "eager"
        if self._kept:
            return str(self._kept["engine"])
        if not self._checkpoint.network.known:
            return "eager"
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in self._checkpoint.network.modules())
        cost = norms * SECONDS[self.computer.was_compiled_before()]
        for _ in range(2):  # the first call takes longer than all others
            seconds = self.reference.warm_up() / self.reference.batch_size
            if len(self._locations) * seconds * (1 - 1 / GAIN) <= cost:
                return "eager"
        return "compiled"

    def _compiled(self) -> str:
        """Compile the computation where it is to be; returns the engine that there is now."""
        if self.computation["engine"] == "eager":
            return "eager"
        before = self.computer.was_compiled_before()
        log.info(
            "Compiling the computation%s",
            " (it was before)" if before else ": a minute or two, once for all runs like this",
        )
        try:
            self.computer.compile()
        except CompileError as error:
            if self._options.compile == "on":
                raise RequestError(
                    f"the computation cannot be compiled here ({error}): leave --compile on out"
                ) from error
            return self._plain(error)
        except NoFolderError as error:
            return self._plain(error)
        return "compiled"

    def _plain(self, error: Exception) -> str:
        """The engine that there is if compiling is not possible, and a warning that says why."""
        log.warning("warning: the computation is not compiled (%s): it runs as it is, which takes longer", error)
        return "eager"

    def _first_images(self) -> Tensor:
        """The first images that can be read, uint8 (N, 3, H, W); a black one where there are none."""
        found = []
        for location in self._locations[:_LOOKED_AT]:
            image = self._reader(location)
            if not isinstance(image, UnreadableSampleError):
                found.append(torch.from_numpy(image.pixels))
            if len(found) == self.reference.batch_size:
                break
        return torch.stack(found) if found else self.reference.blank()[:1]
