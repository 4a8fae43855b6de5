"""How a run computes: chosen once, and kept when a run is resumed; proved against the reference at every start."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from grafiqs import cuda, devices, tuning
from grafiqs.backbones.checkpoint import Checkpoint
from grafiqs.compiled import CompileError
from grafiqs.computer import Computed, Computer, Embeddings
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.opencv import opencv_version
from grafiqs.options import Options
from grafiqs.programs import NoFolderError
from grafiqs.reading import THREADS, Read, Reader
from grafiqs.selfcheck import Differences, differences

log = logging.getLogger(__name__)

_LOOKED_AT = 256
"""Samples among which the first batch is looked for that holds an image that can be read."""


@dataclass(frozen=True)
class Batch:
    """Images that were read, and what they came to: those of the samples from `start` on that can be read."""

    start: int
    reads: dict[int, Read | UnreadableSampleError]
    computed: Computed
    sought: int
    """The first of the samples among which it was sought."""
    seconds: float
    """What computing it took."""

    def images(self) -> tuple[list[int], Tensor]:
        """The places of its images, and their pixels (N, 3, H, W)."""
        read = {index - self.start: each for index, each in self.reads.items() if isinstance(each, Read)}
        pixels = [torch.from_numpy(each.pixels) for each in read.values()]
        return list(read), torch.stack(pixels) if pixels else torch.empty(0)


class Preparation:
    """What a run does before its first image is written.

    `kept` is the `computation` of the run that is resumed, or empty: it fills in what the options leave unset.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        options: Options,
        layers: tuple[str, ...],
        reader: Reader,
        locations: Sequence[str],
        kept: dict[str, Any],
    ) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._options = options
        self._layers = layers
        self._reader = reader
        self._locations = locations
        cpu = torch.device("cpu")
        self._control = None if device == cpu else self._made(tuning.CONTROLLED, _exact(options.precision), cpu)
        """The plain way on the CPU, with a network of its own: a GPU's is held against it."""
        asked = {"precision": options.precision, "device": device.type}
        self._kept = kept if kept.items() >= asked.items() else {}
        known = options.batch_size or int(self._kept.get("batch_size", 0))
        self.reference = self._made(min(tuning.CHECKED, known or tuning.CHECKED))
        """The plain way, which what computes is held against; it computes a few images at once."""
        batch_size = known or self._batch_size()
        self.computer = self._made(batch_size, options.precision)
        """What computes the run, once `environment` has found it right; until then, what is to."""
        self.first: Batch | None = None
        """The first batch of the run, computed already."""
        self.computation = {"engine": self._engine(), **asked, "batch_size": batch_size}
        """How the run is to compute, as its manifest says it."""

    def environment(self, pending: Sequence[int]) -> dict[str, Any]:
        """Get ready to compute what is pending; returns what a manifest says of the machine, and of how it computes.

        The first batch of it is computed, compared with the reference, and kept as `first`.
        Raises RequestError when the device cannot do it, or cannot compile although that was asked for.
        """
        precision = self._options.precision
        engine = self._begun(pending, precision)
        seen = self._compared(engine, precision)
        if seen is not None and (beyond := seen.beyond(precision)):
            self._refuse_wrong_device(engine, precision, beyond)
            log.warning(
                "warning: the computation, %s in %s, differs from the reference in %s: the reference computes this "
                "run, which takes longer",
                *(engine, precision, ", ".join(beyond)),
            )
            precision = "float32"
            self.computer = self._made(self.computer.batch_size)
            self.first = None
            engine = self._begun(pending, precision, compiles=False)
            again = self._compared(engine, precision)
            self._refuse_wrong_device(engine, precision, [] if again is None else again.beyond(precision))
        elif seen is not None and seen.images == 0:
            log.warning(
                "warning: the computation, %s in %s, could not be checked: %s",
                *(engine, precision, "no image can be read" if self.first is None else "no image has a finite score"),
            )
        elif seen is not None:
            log.info(
                "Checked: the computation, %s in %s, agrees with the reference (scores within %.1g on %d images)",
                *(engine, precision, max(seen.scores.values()), seen.images),
            )
        return {
            **devices.environment(self._device),
            **({} if self._reader.faces is None else {"opencv": opencv_version()}),
            "engine": engine,
            "precision": precision,
            "batch_size": self.computer.batch_size,
            "self_check": seen and asdict(seen),
        }

    def _refuse_wrong_device(self, engine: str, precision: str, beyond: list[str]) -> None:
        """Raise RequestError if it is the plain way itself, on a GPU, that differs."""
        if beyond and (engine, precision) == ("eager", _exact(precision)):
            raise RequestError(
                f"{self._device} computes something else than the CPU ({', '.join(beyond)}): give --device cpu"
            )

    def _made(self, batch_size: int, precision: str = "float32", device: torch.device | None = None) -> Computer:
        options, network = self._options, self._checkpoint.network
        embeddings: Embeddings = "none"
        if options.embeddings:
            embeddings = "flip" if options.flip else "plain"
        if device is not None:
            network = copy.deepcopy(network)
        return Computer(
            network,
            device or self._device,
            batch_size,
            self._layers,
            self._checkpoint.preprocessing,
            precision,
            embeddings,
            options.norms,
        )

    def _batch_size(self) -> int:
        """Images computed at once if nobody says."""
        if self._device.type == "cpu":
            return tuning.CPU_BATCH
        return cuda.batch_that_fits(self._device, self.reference.warm_up, tuning.CHECKED)

    def _engine(self) -> str:
        """What was asked for; left unset, what the run began with, or what will be done sooner."""
        options = self._options
        if options.compile != "auto":
            return "compiled" if options.compile == "on" else "eager"
        if self._kept:
            return str(self._kept["engine"])
        count = len(self._locations)
        if not self._checkpoint.network.known or options.precision == "float64":
            return "eager"
        if self.computer.was_compiled_before():
            return "compiled" if count > tuning.BATCHES * self.computer.batch_size else "eager"
        cost = self._checkpoint.norms.maps * tuning.COMPILING
        self.first = self._first_batch(range(count))
        seconds = self.first.seconds / self.computer.batch_size if self.first else 0.0
        return "compiled" if count * seconds * (1 - 1 / tuning.GAIN) > cost else "eager"

    def _begun(self, pending: Sequence[int], precision: str, compiles: bool = True) -> str:
        """Compile the computation if it is to be, and compute its first batch; returns the engine that there is now.

        A batch size that the run was begun with gives way if this device has no memory for it.
        Raises RequestError when the device cannot do it.
        """
        while True:
            engine = self._compiled() if compiles else "eager"
            try:
                self.first = self._first_batch(pending)
            except RequestError as error:
                size = self.computer.batch_size
                full = isinstance(error.__cause__, torch.OutOfMemoryError)
                if not full or size == 1 or not self._kept or self._options.batch_size is not None:
                    raise
            else:
                return engine
            fits = cuda.batch_that_fits(self._device, self.reference.warm_up, tuning.CHECKED)
            self.computer = self._made(max(1, min(size // 2, fits)), precision)
            log.warning(
                "warning: %s has no memory for %d images at once, as this run began: it computes %d",
                *(self._device, size, self.computer.batch_size),
            )

    def _compiled(self) -> str:
        """Compile the computation if it is to be; returns the engine that there is now."""
        if self.computation["engine"] == "eager":
            return "eager"
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
        self.first = None  # what was computed before was computed without
        return "compiled"

    def _plain(self, error: Exception) -> str:
        """The engine that there is if compiling is not possible, and a warning that says why."""
        log.warning("warning: the computation is not compiled (%s): it runs as it is, which takes longer", error)
        return "eager"

    def _first_batch(self, pending: Sequence[int]) -> Batch | None:
        """The first batch of what is pending with an image that can be read, computed; None if there is none.

        Raises RequestError when the device cannot compute it.
        """
        known = self.first
        if known and (known.sought, len(known.computed.scores)) == (pending[0], self.computer.batch_size):
            return known
        read = next(self._read_batches(pending), None)
        if read is None:
            return None
        start, reads = read
        pixels = self.computer.blank()
        for index, image in reads.items():
            if isinstance(image, Read):
                pixels[index - start] = torch.from_numpy(image.pixels)
        started = time.monotonic()
        try:
            computed = self.computer(pixels)
            computed.wait()
        except Exception as error:  # a GPU out of memory, or a network that does not take so many
            raise self.computer.cannot(error) from error
        return Batch(start, reads, computed, pending[0], time.monotonic() - started)

    def _read_batches(self, pending: Sequence[int]) -> Iterator[tuple[int, dict[int, Read | UnreadableSampleError]]]:
        """The first batches of what is pending, read, without those that hold no image which can be read."""
        size = self.computer.batch_size
        with ThreadPoolExecutor(THREADS) as pool:
            for start in dict.fromkeys(index - index % size for index in islice(pending, max(_LOOKED_AT, size))):
                batch = range(start, min(start + size, len(self._locations)))
                reads = dict(
                    zip(batch, pool.map(self._reader, [self._locations[index] for index in batch]), strict=True)
                )
                if any(isinstance(image, Read) for image in reads.values()):
                    yield start, reads

    def _compared(self, engine: str, precision: str) -> Differences | None:
        """How far the first batch lies from the reference, and on a GPU from the CPU; None if it is the reference."""
        references: list[tuple[Computer, int]] = []
        if (engine, precision) != ("eager", _exact(precision)):
            every = self.computer.batch_size if self._device.type == "cuda" else tuning.CHECKED
            references.append((self.reference, every))
        if self._control is not None:
            references.append((self._control, tuning.CONTROLLED))
        if not references:
            return None
        seen = Differences.none(self._layers)
        if self.first is not None:
            places, pixels = self.first.images()
            for reference, most in references:
                row = torch.linspace(0, len(places) - 1, min(most, len(places))).round().long()
                some = [places[number] for number in row.tolist()]
                seen = seen.and_those(differences(self.first.computed, some, pixels[row], reference, self._layers))
        return seen


def _exact(precision: str) -> str:
    """The precision of the plain way that a precision is held against on another device."""
    return "float64" if precision == "float64" else "float32"
