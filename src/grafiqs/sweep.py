"""Many runs whose subsets differ in their seeds: what they share is computed once, and lies on the disk once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from grafiqs.calibration.reference import Reference
from grafiqs.compute import devices
from grafiqs.compute.preparation import build, is_same_in_any_order, prove, to_be_looked_at
from grafiqs.compute.tools import tools
from grafiqs.datasets.dataset import Dataset, Sample
from grafiqs.datasets.samples import Locations, Samples
from grafiqs.disk.names import order, shown
from grafiqs.errors import RequestError, StoppedError
from grafiqs.estimate import log_estimate
from grafiqs.extract import work_off
from grafiqs.options.compute import MAX_BATCH
from grafiqs.options.extract import Options
from grafiqs.options.sweep import SweepOptions
from grafiqs.planning import Planned, given_reference, of_subset, plan
from grafiqs.printed import table
from grafiqs.progress import progress_bar
from grafiqs.run import manifest as manifests
from grafiqs.run import sweep as sweeps
from grafiqs.run.aligned import unfinished
from grafiqs.run.folder import RunFolder
from grafiqs.run.journal import Failed, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.sharing import Shared, Source, shared
from grafiqs.run.summary import Summary
from grafiqs.run.sweep import POOL, TABLE, Sweep, SweepFolder, again, counts_of
from grafiqs.run.tables import FAILURES
from grafiqs.select import Subset, left_out, open_dataset, select, why_empty

log = logging.getLogger(__name__)


@devices.kept_memory()
@devices.usual_settings()
def extract_subsets(options: SweepOptions) -> list[Summary] | None:
    """Make the runs that `options` describe; a sweep that was stopped in the same folder is resumed.

    Returns None after a dry run. Raises RequestError when the request is wrong, with nothing written, and
    StoppedError when the sweep cannot go on, with everything done so far kept.

    >>> given = {"image_path": "faces", "weights": "weights.pth", "samples_per_identity": 2, "quiet": True}
    >>> runs = extract_subsets(SweepOptions(random_seeds=[222, 444], **given))
    >>> runs[0]
    Summary(output_dir=PosixPath('grafiqs_sweep/samples-222'), scored=8, failed=0)
    """
    root = options.output_dir
    device, faces = tools(options)
    reference = given_reference(options)
    output = sweeps.output_of(root)
    output.refuse_inside(options.image_path)
    output.refuse_foreign()

    # Choose: which subsets, and what they hold in all.
    dataset = open_dataset(options)
    if (line := unfinished(options.image_path)) is not None:
        log.warning("warning: %s", line)
    runs = options.runs()
    subsets = _chosen(options, runs, dataset)
    every = _united(subsets.values(), {sample for subset in subsets.values() for sample in subset.samples})
    for level, text in _said(options, dataset, subsets, every):
        log.log(level, "%s", text)

    # Plan: a run of all that is to be computed, and one for each subset, which differ in nothing else.
    kept = sweeps.read(root).shared["computation"] if not options.overwrite and output.is_used() else None
    pool = replace(runs[min(runs)], output_dir=root / POOL)  # whichever was named first
    planned = plan(pool, device, faces, dataset, every, kept, reference)
    if options.dry_run:
        log_estimate(planned.manifest, planned.task, planned.ready, root)
        return None
    common = planned.manifest
    if kept is not None and (size := kept["batch_size"]) != (now := common.computation["batch_size"]):
        log.warning(
            "warning: this sweep computed %d images at once until now, and computes %d from now on; its runs keep %d, "
            "and 'environments' in each manifest says which it was",
            *(size, now, size),
        )
        common = replace(common, computation={**common.computation, "batch_size": size})
    of = {name: of_subset(common, run, dataset, subsets[name]) for name, run in runs.items()}

    # Write: compute what no run has yet, then give each run what is its own.
    with SweepFolder(root, Sweep.of(of), options.overwrite).opened() as sweep:
        done = _done(sweep, of, dataset, options)
        with ExitStack() as stack:
            computed = _computed(sweep, planned, done, stack, options.quiet)
            with sweep.working():
                summaries = _distributed(sweep, of, done, computed, options, reference)
                if computed is not None:
                    computed.discard()
        with suppress(OSError):
            (root / POOL).rmdir()
        with sweep.working():
            named = zip(of, summaries, strict=True)
            sweep.finish({name: counts_of(of[name], run.scored, run.failed) for name, run in named})
    _conclude(root, summaries, next(iter(of.values())).better)
    return summaries


# -- choosing ----------------------------------------------------------------------------------------------


def _chosen(options: SweepOptions, runs: Mapping[str, Options], dataset: Dataset) -> dict[str, Subset]:
    """The subset of each run. Raises RequestError when one is empty, or there are too few identities."""
    needed = (options.num_identities or 0) * (options.replicates or 0)
    if options.disjoint:
        each = options.samples_per_identity or 1
        enough = [name for name in dataset.identities if not options.strict or len(dataset.samples(name)) >= each]
        there = len(enough) - options.skip_identities
        if there < needed:
            strictly = f" with at least {each} samples" * options.strict
            skipped = f", after the {options.skip_identities} to be skipped" * (options.skip_identities > 0)
            raise RequestError(
                f"{options.replicates} replicates of {options.num_identities} identities that share none need "
                f"{needed}, and {shown(dataset.place)} has {max(there, 0)}{strictly}{skipped}: lower --replicates or "
                "--num-identities"
            )
    subsets = {name: select(dataset, run) for name, run in runs.items()}
    for name, subset in subsets.items():
        if not subset.samples:
            raise RequestError(f"{name}: {why_empty(dataset, subset, runs[name])}")
    return subsets


def _united(subsets: Iterable[Subset], samples: set[Sample]) -> Subset:
    """A subset of these samples, which are of several others."""
    ordered = sorted(samples, key=lambda sample: (order(sample.identity), order(sample.name), sample.location))
    identities = len({sample.identity for sample in samples})
    available = max(subset.available for subset in subsets)
    return Subset(Samples(ordered), identities, identities, available, ())


def _said(
    options: SweepOptions, dataset: Dataset, subsets: Mapping[str, Subset], every: Subset
) -> Iterator[tuple[int, str]]:
    """What is to be said of the subsets, a line each, with its level in the log."""
    yield from left_out(dataset)
    if options.random_identity_selection:
        yield logging.INFO, "Identities are drawn at random, by the identity selection seeds."
    dropped = 0 if options.allow_insufficient_samples or options.strict else 1
    rows = [
        (name, *(f"{n:,}" for n in (subset.identities, dropped * len(subset.insufficient), len(subset.samples))))
        for name, subset in subsets.items()
    ]
    for line in table(("", "identities", "left out", "images"), rows):
        yield logging.INFO, line
    if any(row[2] != "0" for row in rows):
        yield (
            logging.INFO,
            f"Left out: identities with fewer than {options.samples_per_identity} samples, by name in manifest.json",
        )
    names: dict[str, list[str]] = {}
    for name, subset in subsets.items():
        names.setdefault(subset.sha256, []).append(name)
    for same in names.values():
        if len(same) > 1:
            yield (
                logging.WARNING,
                f"warning: these are the same subset: {', '.join(same[:5])}{', ...' * (len(same) > 5)}",
            )
    total = sum(len(subset.samples) for subset in subsets.values())
    yield (
        logging.INFO,
        f"{total:,} images in {len(subsets)} subsets, {len(every.samples):,} images to compute, each once",
    )


# -- computing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Done:
    """What the run folders hold already, and what they lack."""

    held: int
    """How many samples they hold in all."""
    shared: Shared
    """What they can take from each other."""
    lacking: int
    """How many samples they lack, each run's counted."""
    needed: frozenset[Sample]
    """Those that have to be computed."""


def _done(sweep: SweepFolder, of: Mapping[str, Manifest], dataset: Dataset, options: SweepOptions) -> _Done:
    """Look into every run folder. Raises RequestError when one holds anything else, or is in use."""
    held: dict[str, set[Sample]] = {}
    lacked: list[Sample] = []
    sweep.need_folders()
    for name, manifest in of.items():
        samples, folder = manifest.subset.samples, sweep.root / name
        pending: Iterable[int] = range(len(samples))
        if sweep.is_kept(name):
            with RunFolder(folder, manifest, overwritten_by=again(folder)).opened() as run:
                pending = run.pending().tolist()
            missing = set(pending)
            held[name] = {sample for index, sample in enumerate(samples) if index not in missing}
        lacked += [samples[index] for index in pending]
    wanted, there = set(lacked), set[Sample]().union(*held.values())
    found = shared(sweep.root, of, held, wanted, dataset, options.quiet)
    for those, what in (
        (found.changed, "the images of %s samples are not those that were scored before"),
        (found.damaged, "the gradient files of %s samples are not those that were written"),
    ):
        if those:
            log.warning(
                f"warning: {what}, in the runs that hold them: they are computed anew for the runs that lack them; "
                "'grafiqs verify' says which these are",
                f"{len(those):,}",
            )
    return _Done(len(there), found, len(lacked), frozenset(wanted - found.where.keys()))


def _computed(sweep: SweepFolder, planned: Planned, done: _Done, stack: ExitStack, quiet: bool) -> RunFolder | None:
    """The run of all images that no run folder has, computed; None if they have all.

    It is never finished: its journal and its gradients are what the runs are made of.
    """
    task, ready, manifest = planned.task, planned.ready, planned.manifest
    folder, overwrite = sweep.root / POOL, sweep.removed is not None
    if not overwrite and manifests.is_run(folder):
        subset = manifests.read(folder).subset
        if more := done.needed - {*subset.samples}:
            first = min(sample.location for sample in more)
            raise RequestError(
                f"the sweep in {shown(sweep.root)} was stopped, and what it was to compute lacks {len(more):,} images "
                f"that are asked for now, such as {shown(first)}: finish it first, with the seeds that it began with "
                "and images and runs as they were; or give up what it computed since its last run was finished: "
                f"rm -r {shown(folder)}, and the same command computes all that is missing"
            )
    elif done.needed:
        subset = _united([manifest.subset], set(done.needed))
    else:
        sweep.begin(None)
        return None
    if subset.samples != manifest.subset.samples:
        manifest = replace(manifest, subset=subset, pairs=[])
        task = replace(task, locations=Locations(subset.samples))
        ready = replace(ready, first=None)
    if done.held:
        log.info("Resuming: the runs hold %s of these images already", f"{done.held:,}")
    run = stack.enter_context(RunFolder(folder, manifest, overwrite).opened())
    pending = run.pending()[:MAX_BATCH].tolist() if done.needed else []
    has_links = sweep.has_links()
    run.need_room(run.room(done.lacking, gradients=not has_links) - sweep.freed())
    if not has_links:
        log.warning(
            "warning: this file system has no hard links: the gradients are copied into each run that holds them"
        )
    if not pending:
        sweep.begin(None)
        return run
    task = replace(task, shards=run.manifest.shards)
    look = to_be_looked_at(task, ready, pending)
    ready, environment = prove(task, build(task, ready, look), look)
    same = is_same_in_any_order(ready)
    if same is False:
        log.warning(
            "warning: on %s the last digits of an image's results depend on its place in the batch: these runs agree "
            "with single ones to rounding, not to the bit",
            task.device,
        )
    elif same:
        log.info("Checked: an image's results are the same, to the bit, in another place of the batch")
    sweep.begin(same)
    run.begin(environment)
    work_off(run, task, ready, quiet)
    return run


# -- distributing ------------------------------------------------------------------------------------------


def _distributed(
    sweep: SweepFolder,
    of: Mapping[str, Manifest],
    done: _Done,
    computed: RunFolder | None,
    options: SweepOptions,
    reference: Reference | None,
) -> list[Summary]:
    """Give each run the gradients and outcomes that it lacks, and finish it."""
    found: list[Summary] = []
    source = Source(sweep.root, of, done.shared.where, computed)
    with progress_bar(done.lacking, 0, options.quiet) as bar:
        for name, manifest in of.items():
            try:
                with RunFolder(sweep.root / name, manifest, options.overwrite).opened() as run:
                    samples = run.manifest.subset.samples
                    wanted = {samples[index]: index for index in run.pending().tolist()}
                    for environment in source.environments(wanted):
                        run.begin(environment)
                    run.claim_all()
                    for there, outcome in source.outcomes(wanted):
                        if isinstance(outcome, Scored):
                            run.manifest.tree(run.root).link(outcome.index, there)
                        run.record(outcome)
                        bar.update()
                    counts = run.finish(reference)
                    if counts is None:
                        raise StoppedError(f"{shown(run.root)} is not whole yet: the same command does the rest")
            except RequestError as error:  # before the first write it would be one
                cause, place = error.__cause__, shown(sweep.root / name)
                why = f"cannot write to {place}: {cause.strerror or cause}" if isinstance(cause, OSError) else error
                raise StoppedError(f"{why}. {sweep.kept()}: fix that, and the same command resumes") from error
            found.append(Summary(run.root, counts[Scored], counts[Failed]))
            sweep.finished += 1
    return found


def _conclude(root: Path, summaries: Sequence[Summary], better: str) -> None:
    """Say what there is now."""
    scored = sum(summary.scored for summary in summaries)
    total = scored + sum(summary.failed for summary in summaries)
    log.info(
        "%s of %s images of %d runs have scores: %s", f"{scored:,}", f"{total:,}", len(summaries), shown(root / TABLE)
    )
    log.info("%s", better)
    failed = [summary.output_dir for summary in summaries if summary.failed]
    if failed:
        log.warning(
            "%d images in %d runs have no score; %s of each run says why, such as %s",
            *(total - scored, len(failed), FAILURES.name, shown(failed[0] / FAILURES.name)),
        )
