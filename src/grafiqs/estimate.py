"""What a run would take, in gigabytes and in time: the run itself, into nothing."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing, nullcontext
from itertools import count, cycle, islice
from pathlib import Path

from grafiqs.compute.computer import Computer
from grafiqs.compute.preparation import Ready, Task, build, prove
from grafiqs.faces.opencv import one_thread
from grafiqs.images.reading import Source, processes_for, read_ahead
from grafiqs.pipeline import computed_batches
from grafiqs.progress import duration
from grafiqs.run.manifest import Manifest

log = logging.getLogger(__name__)

_MEASURED = 1000
"""Samples that are read for the measurement, again and again."""


def log_estimate(manifest: Manifest, task: Task, ready: Ready, output_dir: Path) -> None:
    """Say how many files, how many gigabytes and how long a run would take; nothing is written."""
    samples = manifest.subset.samples
    compiles = ready.plan["engine"] == "compiled"
    known = compiles and ready.computer.was_compiled_before()
    if known:
        every = range(len(samples))
        ready, _ = prove(task, build(task, ready, every), every)
    with nullcontext() if task.reader.faces is None else one_thread():
        rate = images_per_second(ready.computer, task.reader, task.locations[:_MEASURED], bool(manifest.dumps))
    size = sum(manifest.store(output_dir).sizes.values()) * len(samples)
    output = Path(os.path.realpath(output_dir))
    free = shutil.disk_usage(next(folder for folder in (output, *output.parents) if folder.exists())).free
    log.info(
        "Dry run: %d images of %d identities; %d gradient files, %.2f GB (%.1f GB are free)",
        *(len(samples), manifest.subset.identities, _files(manifest), size / 1e9, free / 1e9),
    )
    log.info(
        "It would take about %s, at %.1f images a second if the disk keeps up.",
        *(duration(len(samples) / rate), rate),
    )
    if compiles and not known:
        log.info(
            "That is without compiling, which it would do first: a minute or two, and then less time for each image."
        )
    log.info("Nothing was written.")


def _files(manifest: Manifest) -> int:
    """How many files the gradients of a run lie in."""
    each = len(manifest.shards if manifest.has_parquet else manifest.subset.samples)
    return len(manifest.dumps) * each


def images_per_second(computer: Computer, reader: Source, locations: Sequence[str], gradients: bool) -> float:
    """How fast these images are read and computed on this machine: the pipeline itself, into nothing, for two seconds.

    Its first two batches do not count: they find nothing ready.
    """
    size = computer.batch_size
    batches = (range(start, start + size) for start in count(0, size))
    with closing(
        read_ahead(reader, cycle(locations), 2 * size, processes_for(computer.device, len(locations)))
    ) as reads:
        computed = computed_batches(reads, computer, batches, gradients=gradients)
        deque(islice(computed, 2 * size), maxlen=0)
        started, images = time.monotonic(), 0
        while images < size or time.monotonic() - started < 2:
            images += sum(1 for _ in islice(computed, size))
        return images / (time.monotonic() - started)
