"""A copy of a finished run: its gradients in another store or number format, of fewer layers, of some identities."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.disk import files, inside
from grafiqs.disk.names import key, shown
from grafiqs.disk.utf8 import need_utf8
from grafiqs.errors import RequestError, StoppedError, UnreadableSampleError
from grafiqs.images.reading import THREADS
from grafiqs.options.export import ExportOptions
from grafiqs.progress import progress_bar
from grafiqs.run import finished
from grafiqs.run import manifest as manifests
from grafiqs.run.finished import SCORES
from grafiqs.run.folder import RunFolder, output_of
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.parquet import need_pyarrow
from grafiqs.run.store import Store
from grafiqs.run.summary import Summary
from grafiqs.run.tables import FAILURES
from grafiqs.select import of_identities
from grafiqs.workers.ahead import mapped

log = logging.getLogger(__name__)


def export_run(options: ExportOptions) -> Summary:
    """Copy a finished run as `options` say; a copy that was stopped in the same folder is resumed.

    Raises RequestError when there is no finished run, or the copy cannot be made of it, with nothing written, and
    StoppedError when a gradient of the run is not what it was, with everything done so far kept.

    >>> from grafiqs import Options, extract_gradients
    >>> _ = extract_gradients(Options(image_path="faces", weights="weights.pth", output_dir="run", quiet=True))
    >>> export_run(ExportOptions(run="run", output="block4", layers=["block4"], quiet=True)).scored
    14
    """
    folder, output = options.run, output_of(options.output, "OUT")
    manifest = manifests.read(folder)
    if not finished.is_finished(folder):
        raise RequestError(f"the run in {shown(folder)} is not finished: the command that began it resumes it")
    finished.need_unchanged(folder, manifest)
    for one, other in ((folder, options.output), (options.output, folder)):
        if Path(os.path.realpath(one)).is_relative_to(os.path.realpath(other)):
            raise RequestError(f"{shown(options.output)} and {shown(folder)} lie in each other: give another OUT")
    output.refuse_foreign()
    if (options.store or manifest.gradients["store"]) == "shards":
        need_pyarrow("--store shards")
    copy = _copied(manifest, options)
    log.info("Copying %s", _said(manifest, copy))
    reference = finished.reference_of(folder, manifest)
    with RunFolder(options.output, copy, options.overwrite, argument="OUT").opened() as run:
        run.need_room()
        if len(run.pending()):
            for environment in manifest.environments:
                run.begin(environment)
        with run.working():
            _copy(run, folder, manifest, options.quiet)
            counts = run.finish(reference)
    if counts is None:
        raise StoppedError(f"{shown(options.output)} is not whole yet: the same command does the rest")
    log.info("%d images have scores, %d have none: %s", counts[Scored], counts[Failed], shown(options.output / SCORES))
    lost = counts[Failed] - _failed(folder, copy)
    if lost:
        log.warning("%d images lost their scores; %s says why", lost, shown(options.output / FAILURES.name))
    return Summary(options.output, counts[Scored], counts[Failed], lost=lost)


def _failed(folder: Path, copy: Manifest) -> int:
    """How many samples of the copy have no score in the run."""
    own = {sample.identity for sample in copy.subset.samples}  # all samples of an identity are copied, or none
    with closing(FAILURES.read(folder)) as failures:
        return sum(identity in own for (identity, *_), _ in failures)


def _copied(manifest: Manifest, options: ExportOptions) -> Manifest:
    """The manifest of the copy. Raises RequestError when there can be none."""
    there, layers = manifest.gradients, list(manifest.dumps)
    if missing := [layer for layer in options.layers or () if layer not in layers]:
        have = ", ".join(layers) or "none: it was made with --no-dump-gradients"
        raise RequestError(f"{shown(options.run)} has no gradients of {', '.join(missing)}; it has {have}")
    dtype = options.gradient_dtype or there["dtype"]
    if there["dtype"] == "float16" and dtype == "float32":
        raise RequestError(
            f"the gradients of {shown(options.run)} are float16: what was rounded off does not come back; leave "
            "--gradient-dtype out, or make the run again"
        )
    subset, pairs, named = manifest.subset, manifest.pairs, manifest.export.get("identities")
    if options.identities is not None:
        names = _identities(options.identities)
        subset = of_identities(manifest.subset, names)
        there_names = {key(sample.identity) for sample in subset.samples}
        if absent := [name for name in names if key(name) not in there_names]:
            raise RequestError(
                f"{shown(options.run)} has no samples of {', '.join(shown(f'{each!r:.80}') for each in absent[:3])}"
            )
        named = sorted(names)
        locations = {sample.location for sample in subset.samples}
        pairs = [pair for pair in pairs if locations.issuperset(pair[:2])]
    return replace(
        manifest,
        gradients={
            "dumps": [layer for layer in layers if options.layers is None or layer in options.layers],
            "dtype": dtype,
            "store": options.store or there["store"],
        },
        options={**manifest.options, "gradient_dtype": dtype, "store": options.store or there["store"]},
        export={"manifest_sha256": files.sha256(options.run / manifests.NAME), "identities": named},
        subset=subset,
        pairs=pairs,
    )


def _identities(path: Path) -> list[str]:
    """The identities that a file names, one a line. Raises RequestError when it cannot be read, or names none."""
    need_utf8()
    try:
        text = files.read(path).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise RequestError(f"cannot read {shown(path)}: {error.strerror}") from error
    lines = (line.removesuffix("\r") for line in text.split("\n"))  # and at no other character: names may have it
    names = list(dict.fromkeys(line for line in lines if line))
    if not names:
        raise RequestError(f"{shown(path)} names no identity: it takes one a line")
    return names


def _said(there: Manifest, copy: Manifest) -> str:
    """What is copied, in words."""
    samples, of = len(copy.subset.samples), len(there.subset.samples)
    some = f"{samples} of {of} images" if samples < of else f"{of} images"
    layers = ", ".join(copy.dumps) or "no layer"
    ways = [f"{name} to {other}" for name, other in _changes(there.gradients, copy.gradients)] or ["as they are"]
    return f"{some}; gradients of {layers}: {', '.join(ways)}"


def _changes(there: dict[str, Any], here: dict[str, Any]) -> Iterator[tuple[str, str]]:
    return ((there[name], here[name]) for name in ("store", "dtype") if there[name] != here[name])


# -- copying ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copier:
    """What copies the gradients of one sample, and checks them on the way."""

    there: Store
    there_layers: tuple[str, ...]
    run: RunFolder

    def __call__(self, pair: tuple[int, Outcome]) -> Outcome:
        """The outcome of a sample in the copy, its gradients written; may run on any thread.

        Raises StoppedError when a gradient is no longer what it was.
        """
        index, outcome = pair
        if isinstance(outcome, Failed):
            return replace(outcome, index=index)
        copy = self.run.manifest
        checksums = dict(zip(self.there_layers, outcome.files_sha256, strict=True))
        gradients: dict[str, NDArray[Any]] = {}
        for layer in copy.dumps:
            try:
                gradient = self.there.verified(layer, outcome.index, checksums[layer])  # "": of a file that is damaged
            except UnreadableSampleError as error:
                raise StoppedError(
                    f"a gradient is not what it was when the run finished: {error}. {self.run.kept()}; 'grafiqs "
                    "verify' says more"
                ) from error
            with np.errstate(over="ignore"):
                gradients[layer] = gradient.astype(copy.dtype, copy=False)
            if not np.isfinite(gradients[layer]).all():
                return Failed(index, f"its gradient at {layer} is too large for {copy.dtype}")
        self.run.hold(index)
        try:
            return replace(outcome, index=index, files_sha256=self.run.store.write(index, gradients))
        except OSError as error:
            if error.errno in inside.NAME_ERRORS:
                return Failed(index, f"its gradient cannot be written: {error.strerror}")
            raise


def _copy(run: RunFolder, folder: Path, manifest: Manifest, quiet: bool) -> None:
    """Copy what is pending, in the order of the samples."""
    copier = _Copier(manifest.store(folder), manifest.dumps, run)
    total, left = run.total(), len(run.pending())
    if left < total:
        log.info("Resuming: %d of %d images are done already", total - left, total)
    with (
        ThreadPoolExecutor(THREADS) as pool,
        closing(finished.read(folder, manifest, "known")) as outcomes,
        closing(mapped(pool, copier, _pending(run, manifest, outcomes), 4 * THREADS)) as done,
        progress_bar(total, total - left, quiet) as bar,
    ):
        for outcome in done:
            run.record(outcome)
            bar.update()


def _pending(run: RunFolder, manifest: Manifest, outcomes: Iterable[Outcome]) -> Iterator[tuple[int, Outcome]]:
    """The samples that the copy lacks, with their outcomes in the run; shards are claimed as their turn comes."""
    if run.counts is not None:
        return
    theirs, own, every = manifest.subset.samples, run.manifest.subset.samples, iter(outcomes)
    for number in run.claimed():
        for index in run.manifest.shards.samples(number):
            wanted = own[index]
            outcome = next(every)
            while theirs[outcome.index] != wanted:  # both are in one order
                outcome = next(every)
            if run.is_pending(index):
                yield index, outcome
