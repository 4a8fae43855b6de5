"""How a run computes: chosen once, and kept when a run is resumed; proved against the reference at every start.

ready = choose(task, kept)                        # fills in what the options leave unset
ready = build(task, ready, pending)               # compiled if it is to be, its first batch computed
ready, environment = prove(task, ready, pending)  # held against the reference, which takes its place if need be
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import torch

from grafiqs.backbones.checkpoint import Checkpoint
from grafiqs.compute import cuda, devices, tuning
from grafiqs.compute.compiled import CompileError
from grafiqs.compute.computer import Computed, Computer, Embeddings
from grafiqs.compute.programs import NoFolderError
from grafiqs.compute.selfcheck import Differences, differences
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.opencv import opencv_version
from grafiqs.images.reading import THREADS, Read, Source
from grafiqs.options.compute import ComputeOptions
from grafiqs.shards import Shards

log = logging.getLogger(__name__)

_LOOKED_AT = 256
"""Samples that are searched for the first batch with a readable image."""


@dataclass(frozen=True)
class Task:
    """What is to be computed: which scores by which network, of which samples, on which device."""

    checkpoint: Checkpoint
    device: torch.device
    scores: tuple[str, ...]
    reader: Source
    locations: Sequence[str]
    shards: Shards
    options: ComputeOptions
    """Precision, compiling, batch size, statistics and embeddings as they were asked for."""

    def preprocessing(self) -> dict[str, Any]:
        """What decides the pixels that the network is given, as JSON values."""
        faces = self.reader.faces
        return {**self.checkpoint.preprocessing.source(), "alignment": None if faces is None else faces.source()}

    def computer(self, batch_size: int, precision: str = "float32", control: bool = False) -> Computer:
        """What computes batches of this size; a `control` on the CPU, with a network of its own."""
        network, options = self.checkpoint.network, self.options
        embeddings: Embeddings = "none"
        if options.embeddings:
            embeddings = "flip" if options.flip else "plain"
        return Computer(
            copy.deepcopy(network) if control else network,
            torch.device("cpu") if control else self.device,
            batch_size,
            self.scores,
            self.checkpoint.preprocessing,
            precision,
            embeddings,
            options.norms,
        )


@dataclass(frozen=True)
class Batch:
    """Images that were read, and their results: the readable ones of the samples from `start` on."""

    start: int
    reads: dict[int, Read | UnreadableSampleError]
    computed: Computed
    sought: int
    """The first of the samples that were searched for it."""
    seconds: float
    """How long computing it took."""


@dataclass(frozen=True)
class Ready:
    """What computes a run, what it is held against, and its first batch, if that is computed already."""

    plan: dict[str, Any]
    """How it is to compute, as the manifest says it: engine, precision, device and batch size."""
    is_resumed: bool
    """Whether the plan is that of a run that began before."""
    computer: Computer
    reference: Computer
    """The plain way, which computes a few images at once."""
    control: Computer | None
    """The plain way on the CPU, if another device computes."""
    engine: str = "eager"
    """The engine that there is now: not compiled if that is not possible."""
    first: Batch | None = None

    @property
    def is_proved(self) -> bool:
        """Whether there is something that it is held against."""
        return self.control is not None or self.plan["engine"] != "eager" or not self.is_reference

    @property
    def is_reference(self) -> bool:
        """Whether what computes is the plain way itself."""
        return self.engine == "eager" and self.computer.precision in ("float32", "float64")


def choose(task: Task, kept: dict[str, Any]) -> Ready:
    """How a run is to compute. `kept` is the computation of the run that is resumed, or empty.

    Raises RequestError when the device cannot do it.
    """
    options, device = task.options, task.device
    asked = {"precision": options.precision, "device": device.type}
    kept = kept if kept.items() >= asked.items() else {}
    control = None
    if device.type != "cpu":  # made first: another computer moves the network
        exact = "float64" if options.precision == "float64" else "float32"
        control = task.computer(tuning.CONTROLLED, exact, control=True)
    known = options.batch_size or int(kept.get("batch_size", 0))
    reference = task.computer(min(tuning.CHECKED, known or tuning.CHECKED))
    if not known:
        on_cpu = device.type == "cpu"
        known = tuning.CPU_BATCH if on_cpu else cuda.batch_that_fits(device, reference.warm_up, tuning.CHECKED)
    computer = task.computer(known, options.precision)
    engine, first = _engine(task, kept, computer)
    plan = {"engine": engine, **asked, "batch_size": computer.batch_size}
    return Ready(plan, bool(kept), computer, reference, control, first=first)


def build(task: Task, ready: Ready, pending: Sequence[int], compiles: bool = True) -> Ready:
    """The same, compiled if it is to be, with the first batch of what is pending computed.

    A batch size that the run was begun with gives way if this device has no memory for it.
    Raises RequestError when the device cannot do it, or cannot compile although that was asked for.
    """
    while True:
        if compiles and ready.plan["engine"] == "compiled":
            ready = _compiled(task, ready)
        computer = ready.computer
        try:
            return replace(ready, first=_first_batch(task, computer, pending, ready.first))
        except RequestError as error:
            size = computer.batch_size
            full = isinstance(error.__cause__, torch.OutOfMemoryError)
            if not full or size == 1 or not ready.is_resumed or task.options.batch_size is not None:
                raise
        fits = cuda.batch_that_fits(task.device, ready.reference.warm_up, tuning.CHECKED)
        smaller = task.computer(max(1, min(size // 2, fits)), computer.precision)
        ready = replace(ready, computer=smaller, engine="eager", first=None)
        log.warning(
            "warning: %s has no memory for %d images at once, as this run began: it computes %d",
            *(task.device, size, smaller.batch_size),
        )


def to_be_looked_at(task: Task, ready: Ready, pending: Sequence[int]) -> Sequence[int]:
    """Of which samples the first batch is to be computed.

    What is held against the reference is always the same, whatever is pending, so that what is said of it is, too.
    """
    return range(len(task.locations)) if ready.is_proved else pending


def prove(task: Task, ready: Ready, pending: Sequence[int]) -> tuple[Ready, dict[str, Any]]:
    """Compare the first batch with the reference; returns what computes the run, and what a manifest says of it.

    That is the reference itself, if what was to compute lies too far from it. Raises RequestError when a device
    computes something else than the CPU.
    """
    seen = _compared(task, ready)
    way = ready.engine, ready.computer.precision
    if seen is not None and (beyond := seen.beyond(way[1])):
        _refuse_wrong_device(task, ready, beyond)
        log.warning(
            "warning: the computation, %s in %s, differs from the reference in %s: the reference computes this "
            "run, which takes longer",
            *(*way, ", ".join(beyond)),
        )
        plain = replace(ready, computer=task.computer(ready.computer.batch_size), engine="eager", first=None)
        ready = build(task, plain, pending, compiles=False)
        again = _compared(task, ready)
        _refuse_wrong_device(task, ready, [] if again is None else again.beyond(ready.computer.precision))
    elif seen is not None and seen.images == 0:
        reason = "no image can be read" if ready.first is None else "no image has a finite score"
        log.warning("warning: the computation, %s in %s, could not be checked: %s", *way, reason)
    elif seen is not None:
        log.info(
            "Checked: the computation, %s in %s, agrees with the reference (scores within %.1g on %d images)",
            *(*way, max(seen.scores.values()), seen.images),
        )
    return ready, {
        **devices.environment(task.device),
        **({} if task.reader.faces is None else {"opencv": opencv_version()}),
        "engine": ready.engine,
        "precision": ready.computer.precision,
        "batch_size": ready.computer.batch_size,
        "self_check": seen and asdict(seen),
    }


def is_same_in_any_order(ready: Ready) -> bool | None:
    """Whether the images of the first batch have the same results, to the bit, in other places of it.

    None if there is no such batch. Nothing promises it of every device.
    """
    if ready.first is None:
        return None
    there = ready.first.computed
    here = ready.computer(_pixels(ready.computer, ready.first.start, ready.first.reads).roll(1, 0))
    here.wait()
    pairs = [
        (there.scores, here.scores),
        *((there.gradients[layer], here.gradients[layer]) for layer in here.gradients),
    ]
    if there.embeddings is not None and here.embeddings is not None:
        pairs.append((there.embeddings, here.embeddings))
    return all(torch.equal(one.roll(1, 0).view(torch.uint8), other.view(torch.uint8)) for one, other in pairs)


def _engine(task: Task, kept: dict[str, Any], computer: Computer) -> tuple[str, Batch | None]:
    """What was asked for; left unset, what the run began with, or what will be done sooner.

    If that takes the first batch, it is returned, too.
    """
    options, count = task.options, len(task.locations)
    if options.compile != "auto":
        return "compiled" if options.compile == "on" else "eager", None
    if kept:
        return str(kept["engine"]), None
    if not task.checkpoint.network.known or options.precision == "float64":
        return "eager", None
    if computer.was_compiled_before():
        return "compiled" if count > tuning.BATCHES * computer.batch_size else "eager", None
    first = _first_batch(task, computer, range(count))
    seconds = first.seconds / computer.batch_size if first else 0.0
    compiling = task.checkpoint.norms.maps * tuning.COMPILING[task.device.type]
    gain = tuning.GAIN[task.device.type, options.precision]
    pays = count * seconds * (1 - 1 / gain) > compiling
    return "compiled" if pays else "eager", first


def _compiled(task: Task, ready: Ready) -> Ready:
    """The same, compiled; or as it is, with a warning, if that is not possible.

    Raises RequestError if compiling was asked for, and fails.
    """
    try:
        ready.computer.compile()
    except (CompileError, NoFolderError) as error:
        if isinstance(error, CompileError) and task.options.compile == "on":
            raise RequestError(f"the computation cannot be compiled here ({error}): leave --compile on out") from error
        log.warning("warning: the computation is not compiled (%s): it runs as it is, which takes longer", error)
        return replace(ready, engine="eager")
    return replace(ready, engine="compiled", first=None)  # what was computed before was computed without


def _first_batch(task: Task, computer: Computer, pending: Sequence[int], known: Batch | None = None) -> Batch | None:
    """The first batch of what is pending with an image that can be read, computed; None if there is none.

    `known` is one that was computed before. Raises RequestError when the device cannot compute it.
    """
    size = computer.batch_size
    if (
        known
        and (known.sought, len(known.computed.scores)) == (pending[0], size)
        and [*known.reads] == [*task.shards.batch_of(known.start, size)]
    ):
        return known
    with ThreadPoolExecutor(THREADS) as pool:
        looked_at = islice(pending, max(_LOOKED_AT, size))
        for batch in dict.fromkeys(task.shards.batch_of(int(index), size) for index in looked_at):
            every = pool.map(task.reader, [task.locations[index] for index in batch])
            reads = dict(zip(batch, every, strict=True))
            if any(isinstance(image, Read) for image in reads.values()):
                break
        else:
            return None
    pixels = _pixels(computer, batch.start, reads)
    started = time.monotonic()
    try:
        computed = computer(pixels)
        computed.wait()
    except Exception as error:  # a GPU out of memory, or a network that does not take so many
        raise computer.cannot(error) from error
    return Batch(batch.start, reads, computed, int(pending[0]), time.monotonic() - started)


def _pixels(computer: Computer, start: int, reads: Mapping[int, Read | UnreadableSampleError]) -> torch.Tensor:
    """The readable ones of the images from `start` on, in their places in a batch."""
    pixels = computer.blank()
    for index, image in reads.items():
        if isinstance(image, Read):
            pixels[index - start] = torch.from_numpy(image.pixels)
    return pixels


def _compared(task: Task, ready: Ready) -> Differences | None:
    """How far the first batch lies from the reference, and from the control; None if it is the reference."""
    references: list[tuple[Computer, int]] = []
    if not ready.is_reference:
        every = ready.computer.batch_size if task.device.type == "cuda" else tuning.CHECKED
        references.append((ready.reference, every))
    if ready.control is not None:
        references.append((ready.control, tuning.CONTROLLED))
    if not references:
        return None
    seen = Differences.none(task.scores)
    if ready.first is not None:
        read = {place: each for place, each in enumerate(ready.first.reads.values()) if isinstance(each, Read)}
        places, pixels = list(read), torch.stack([torch.from_numpy(each.pixels) for each in read.values()])
        for reference, most in references:
            row = torch.linspace(0, len(places) - 1, min(most, len(places))).round().long()
            some = [places[number] for number in row.tolist()]
            seen = seen.and_those(differences(ready.first.computed, some, pixels[row], reference, task.scores))
    return seen


def _refuse_wrong_device(task: Task, ready: Ready, beyond: list[str]) -> None:
    """Raise RequestError if it is the plain way itself, on a GPU, that differs."""
    if beyond and ready.is_reference:
        raise RequestError(
            f"{task.device} computes something else than the CPU ({', '.join(beyond)}): give --device cpu"
        )
