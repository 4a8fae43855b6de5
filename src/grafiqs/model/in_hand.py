"""`grafiqs.load`: a model in the hand. It computes as `extract` does, by the same parts."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast, overload

import torch

from grafiqs.backbones.catalogue import EMBEDDING_NORM
from grafiqs.calibration.reference import Reference, holds_for, read_reference
from grafiqs.compute import devices
from grafiqs.compute.computer import ONE_AT_A_TIME
from grafiqs.compute.network import load_network, scores_of
from grafiqs.compute.preparation import Batch, Ready, Task, build, choose, prove
from grafiqs.compute.tools import tools
from grafiqs.demo.embedded import demo_backbone, demo_reference
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.face import Faces
from grafiqs.images.decoding import Picture
from grafiqs.images.reading import THREADS, Read
from grafiqs.model.given import Given, check_kind, held, name_of, prepared
from grafiqs.model.result import Result
from grafiqs.options.compute import ComputeOptions
from grafiqs.options.field import words
from grafiqs.pipeline import Measured, computed_batches
from grafiqs.run.finished import length
from grafiqs.run.journal import Failed
from grafiqs.run.manifest import METHOD
from grafiqs.shards import one_shard
from grafiqs.workers.ahead import mapped

log = logging.getLogger(__name__)

_Seen = Read | UnreadableSampleError
_Held = Given | Picture | UnreadableSampleError


@dataclass(frozen=True)
class _Known:
    """Images that were read already, by their numbers."""

    images: Sequence[_Seen]
    faces: Faces | None

    def __call__(self, location: str) -> _Seen:
        return self.images[int(location)]


class _Way:
    """What computes batches of one size: chosen when it is made, proved by the first images that it is given."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._ready: Ready = choose(task, {})
        self._is_proved = False
        self._proving = threading.Lock()
        self.size = self._ready.computer.batch_size

    def begun(self, start: int, images: Sequence[_Seen]) -> tuple[Ready, Batch | None]:
        """What computes, and, if that was proved by these images, their results."""
        with self._proving:
            if self._is_proved:
                return self._ready, None
            every = list(map(str, range(len(images))))
            task = replace(
                self._task, reader=_Known(images, self._task.reader.faces), locations=every, shards=one_shard(every)
            )
            ready, _ = prove(task, build(task, self._ready, range(len(images))), range(len(images)))
            self._ready, self._is_proved = replace(ready, first=None), True
            if self.size == 1:  # each result before the next image is asked for
                ready.computer.in_flight = 0
            if ready.first is None:  # none of them can be read
                return self._ready, None
            reads = {start + place: image for place, image in ready.first.reads.items()}
            return self._ready, replace(ready.first, start=start, reads=reads)


class Model:
    """A network in the hand: an image in, its scores, gradients, embedding and face out. `grafiqs.load` makes it.

    `model(image)` is one Result, computed alone, as by `extract --batch-size 1`; an image that cannot be scored raises.
    `model([...])` and `model.stream(images)` give Results in order, computed in batches as `extract` does; one that
    cannot be scored has its `error`. The numbers are those of `extract`, bit for bit, for the same batch size, engine
    and precision.

    Several threads may use one model, or several: reading and aligning go on side by side, computing one at a time.
    Other processes need models of their own. `close()`, or the end of a with-statement, frees the device.

    >>> import grafiqs
    >>> with grafiqs.load("weights.pth", layers=["block4"], device="cpu") as model:
    ...     [result.error for result in model(["faces/ann/0.png", "no/such.png"])]
    [None, 'cannot be opened: No such file or directory']
    """

    def __init__(self, options: ComputeOptions, reference: Reference | str | os.PathLike[str] | None = None) -> None:
        is_demo = options.weights is None and not options.is_factory
        if is_demo:
            if options.backbone is not None:
                raise RequestError(f"--backbone {shown(options.backbone)} needs its weights: give --weights")
            options = replace(options, weights=demo_backbone())
            log.warning(
                "warning: without weights this is the backbone that comes with the package, which knows drawn faces "
                "only: of photos of people its scores and qualities say little; give the weights of a network"
            )
        device, faces = tools(options)
        checkpoint = load_network(options)
        log.info("Input: %s%s", checkpoint.input(), "" if faces is None else f", aligned by {faces}")
        self.scores = scores_of(options, checkpoint)
        """The names of the scores that are computed: layers and loss."""
        self.names = (*self.scores, *([EMBEDDING_NORM] if options.embeddings else []))
        """The names of all scores of a result."""
        self.device = device
        self.faces = faces
        self.input_size = checkpoint.preprocessing.size
        """Height and width of what the network is given, in pixels."""
        compiles = "on" if options.compile == "on" else "off"  # nobody knows how many images will come
        known, options = _Known([], faces), replace(options, compile=compiles)
        task = Task(checkpoint, device, self.scores, known, [], one_shard([]), options)
        self.reference = None if reference is None else _holding(reference, task, self.names)
        if is_demo and reference is None:
            try:
                self.reference = _holding(demo_reference(), task, self.names)
            except RequestError as error:
                log.warning("warning: there are no qualities: %s", error)
        self._task: Task | None = task
        self._ways: dict[int | None, _Way] = {}
        self._making = threading.Lock()

    @property
    def batch_size(self) -> int:
        """How many images of a list or stream are computed at once."""
        return self._way(None).size

    @overload
    def __call__(self, image: Given, *, gradients: bool = True) -> Result: ...  # type: ignore[overload-overlap]  # text

    @overload
    def __call__(self, image: Sequence[Given], *, gradients: bool = True) -> list[Result]: ...

    def __call__(self, image: Given | Sequence[Given], *, gradients: bool = True) -> Result | list[Result]:
        """Score an image, or a list of them. Without `gradients`, none leaves the device, and results hold none.

        Raises grafiqs.UnreadableSampleError when one image alone cannot be scored, TypeError or ValueError for what is
        no image whatever is in it, and RequestError when the device cannot compute, or the model is closed.
        """
        if isinstance(image, list | tuple):
            return list(self.stream(image, gradients=gradients))
        check_kind(image)
        [result] = self._results(
            self._way(1), iter([self._read((name_of(cast(Given, image)), held(cast(Given, image))))]), gradients
        )
        if result.error is not None:
            raise UnreadableSampleError(result.error)
        return result

    def stream(self, images: Iterable[Given], *, gradients: bool = True) -> Iterator[Result]:
        """Score images as they come, in order; about two batches are read ahead, if batches have more than one.

        Raises as a call does, but for images that cannot be scored: they have their `error`.
        """
        if isinstance(images, str | bytes | os.PathLike):
            raise TypeError("a stream is of many images: call the model with one, or give a list")
        way = self._way(None)

        def checked() -> Iterator[tuple[str | None, _Held]]:
            for image in images:
                check_kind(image)
                yield name_of(image), held(image)

        with ThreadPoolExecutor(THREADS) as pool:
            ahead = 2 * way.size if way.size > 1 else 1
            yield from self._results(way, mapped(pool, self._read, checked(), ahead), gradients)

    def close(self) -> None:
        """Free the device. The model cannot be used afterwards."""
        with self._making:
            self._task = None
            self._ways.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._task is None:
            return "<grafiqs model, closed>"
        return f"<grafiqs model: {self._task.checkpoint.backbone} on {self.device}, {', '.join(self.scores)}>"

    def _way(self, size: int | None) -> _Way:
        """What computes batches of this size; None stands for the one that was asked for, or suits the device."""
        with self._making:
            if self._task is None:
                raise RequestError("this model is closed: load it again")
            if size not in self._ways:
                options = self._task.options
                task = self._task if size is None else replace(self._task, options=replace(options, batch_size=size))
                way = _Way(task)
                self._ways[size] = self._ways[way.size] = self._ways.get(way.size, way)
            return self._ways[size]

    def _read(self, image: tuple[str | None, _Held]) -> tuple[str | None, _Seen]:
        name, own = image
        return name, prepared(own, self.input_size, self.faces)

    def _results(self, way: _Way, images: Iterator[tuple[str | None, _Seen]], gradients: bool) -> Iterator[Result]:
        """The results of images that were read, in their order."""
        names: dict[int, str | None] = {}
        reads: deque[_Seen] = deque()
        arrived: dict[int, Result] = {}

        def batches() -> Iterator[range]:
            """The batches as they come; their images wait in `reads`."""
            start = 0
            while chunk := list(islice(images, way.size)):
                batch = range(start, start + len(chunk))
                names.update(zip(batch, (name for name, _ in chunk), strict=True))
                reads.extend(image for _, image in chunk)
                yield batch
                start = batch.stop

        def in_order(found: Iterable[Measured | Failed]) -> Iterator[Result]:
            for one in found:
                arrived[one.index] = self._result(names[one.index], one)
                while (first := next(iter(names), None)) in arrived:
                    yield arrived.pop(first)
                    del names[first]

        rest = batches()
        for batch in rest:
            some = list(reads)
            if not any(isinstance(image, Read) for image in some):
                reads.clear()
                yield from in_order(Failed(index, str(why)) for index, why in zip(batch, some, strict=True))
                continue
            ready, first = way.begun(batch.start, some)
            if first is not None:
                reads.clear()
            waiting = iter(reads.popleft, None)
            found = computed_batches(waiting, ready.computer, chain([batch], rest), gradients, first=first)  # type: ignore[arg-type]
            try:
                yield from in_order(found)
            except torch.OutOfMemoryError as error:
                raise ready.computer.cannot(error) from error

    def _result(self, path: str | None, found: Measured | Failed) -> Result:
        if isinstance(found, Failed):
            return Result(path, found.reason)
        if why := found.flaw(self.scores):
            return Result(path, why)
        scores = dict(zip(self.scores, found.scores, strict=True))
        if found.embedding is not None:
            scores[EMBEDDING_NORM] = length(found.embedding)
        reference, read = self.reference, found.read
        known = [] if reference is None else [name for name in scores if name in reference.distributions]
        return Result(
            path,
            scores=scores,
            quality={} if reference is None else {name: reference.quality(name, scores[name]) for name in known},
            layer=None if reference is None else reference.layer,
            embedding=None if found.embedding is None else found.embedding.copy(),  # what is kept keeps no batch
            face=read.face,
            crop=read.pixels.transpose(1, 2, 0),
            size=read.size,
            remark=read.remark,
            dumps={layer: gradient.copy() for layer, gradient in found.gradients.items()},
        )


def _holding(given: Reference | str | os.PathLike[str], task: Task, scores: Sequence[str]) -> Reference:
    """The reference that is given. Raises RequestError when it does not hold for this computation."""
    reference = given if isinstance(given, Reference) else read_reference(Path(given))
    log.info("Reference: %s", reference.said())
    options = task.options
    asked = holds_for(
        weights_sha256=task.checkpoint.sha256,
        backbone=task.checkpoint.source(),
        norms=options.norms,
        loss=METHOD["loss"],
        preprocessing=task.preprocessing(),
        precision=options.precision,
        flip=options.flip if options.embeddings else None,
    )
    reference.need_holding(asked, scores, "given" if isinstance(given, Reference) else Path(given))
    return reference


def load(
    weights: str | os.PathLike[str] | None = None,
    *,
    reference: Reference | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Model:
    """Load a network, to score images by: a file of weights, or the backbone for drawn faces that comes with grafiqs.

    `reference` is what `grafiqs calibrate` made of a run: with it, results have a quality from 0 to 100. The `options`
    are those of `extract` that say how images are computed, as ComputeOptions lists them: backbone, align (a face
    detector, for ordinary photos), layers, norms, embeddings, flip, device, batch_size, precision, compile ("auto" does
    not compile here), and what a network of your own needs.
    Raises RequestError when they do not fit together, or something cannot be read.

    >>> import grafiqs
    >>> model = grafiqs.load("weights.pth", device="cpu")
    >>> result = model("faces/ann/0.png")
    >>> sorted(result.scores)
    ['block1', 'block2', 'block3', 'block4', 'image', 'loss']
    >>> result.gradients("block4").shape, result.heat_map("image").shape
    ((64, 7, 7), (112, 112))
    """
    for name, value in options.items():
        if name in ("layers", "blocks") and isinstance(value, str):
            options[name] = words(value)
        elif name in ("mean", "std") and isinstance(value, int | float):
            options[name] = (value,)
        elif name == "device" and isinstance(value, torch.device):
            options[name] = str(value)
    known = [each.name for each in fields(ComputeOptions)]
    if unknown := [name for name in options if name not in known]:
        raise TypeError(f"load has no option {unknown[0]!r}; it takes reference, {', '.join(known)}")
    for name, given, kinds in (
        ("weights", weights, str | os.PathLike),
        ("reference", reference, str | os.PathLike | Reference),
    ):
        if given is not None and not isinstance(given, kinds):
            raise TypeError(f"{name} is the path of a file; this is of type {type(given).__name__}")
    with ONE_AT_A_TIME, devices.usual_settings():
        return Model(ComputeOptions(weights=None if weights is None else Path(weights), **options), reference)
