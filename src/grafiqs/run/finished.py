"""The tables of a finished run: scores.csv and all beside it, written and read a row at a time.

GraFIQs_<layer>.txt is the field's "path score"; align.csv and embeddings.npy are there if they were asked for, with
a row for each of scores.csv; and a copy of the reference if the scores have qualities.
"""

from __future__ import annotations

import base64
import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from grafiqs.calibration.reference import NAME as REFERENCE
from grafiqs.calibration.reference import Reference, read_reference
from grafiqs.datasets.dataset import Sample
from grafiqs.datasets.samples import columns_of
from grafiqs.disk import files, npy
from grafiqs.disk.names import encoded, shown
from grafiqs.errors import RequestError
from grafiqs.run import journal, parquet, shard_journals, subset_table, sums, tables
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import NAME as MANIFEST
from grafiqs.run.manifest import Manifest
from grafiqs.run.tables import (
    FACES,
    FAILURES,
    IMAGE_SUMS,
    SUMS,
    Anything,
    CsvTable,
    Table,
    faces_table,
    sums_table,
)

SCORES = "scores.csv"
EMBEDDINGS = "embeddings.npy"
REPORT = "report.html"
"""A page that shows the run, made from it afterwards: it may lie there, and is not part of the run."""

PAGE_MARK = '<meta name="generator" content="grafiqs report">'
"""Where it begins, a page that shows runs has this, by which it is known from any other file."""


def scores_of(manifest: Manifest, reference: Reference | None) -> CsvTable[list[float]]:
    """scores.csv: a column for each score; what is read are those that were computed, and nothing made of them."""
    row = row_of(manifest, reference)
    return CsvTable(
        SCORES,
        tuple(manifest.directions),
        lambda outcome: [row(outcome)] if isinstance(outcome, Scored) else [],
        lambda row: [float(text) for text in row[: len(manifest.layers)]],
    )


def row_of(manifest: Manifest, reference: Reference | None) -> Callable[[Scored], list[float]]:
    """What makes the row of a sample: its scores, the norm of its embedding and its qualities, as the directions are.

    `reference` is that of the run, if it has one.
    """
    names = manifest.scores

    def row(scored: Scored) -> list[float]:
        found = [*scored.scores, *([embedding_norm(scored.embedding)] if manifest.has_embedding_norm else [])]
        if reference is None:
            return found
        return [*found, *reference.qualities(dict(zip(names, found, strict=True))).values()]

    return row


def embedding_norm(embedding: str) -> float:
    """The length of an embedding that the journal holds.

    >>> embedding_norm(base64.b64encode(np.float32([3, 4]).tobytes()).decode())
    5.0
    """
    return length(vector(embedding))


def length(embedding: NDArray[np.float32]) -> float:
    """The length of an embedding (size,), without a rounding on the way."""
    return math.sqrt(math.fsum(number * number for number in embedding.tolist()))


def vector(embedding: str) -> NDArray[np.float32]:
    """The numbers of an embedding that the journal holds."""
    return np.frombuffer(base64.b64decode(embedding), "<f4")


def sums_of(manifest: Manifest) -> Table:
    """SHA256SUMS: the gradient files; tables and manifest stand behind them."""
    store = manifest.store(Path())
    return sums_table(SUMS, lambda _, scored: store.sums_of(scored.index, scored.files_sha256))


def _field_format(manifest: Manifest, layer: str) -> Table:
    """GraFIQs_<layer>.txt: path and score; a line break in the path becomes an escape."""
    place = list(manifest.layers).index(layer)
    replaced, by = manifest.options["path_replace"], manifest.options["path_replace_with"] or ""

    def rows(sample: Sample, outcome: Anything) -> Iterator[bytes]:
        if isinstance(outcome, Scored):
            path = f"{manifest.data_set['path_prefix']}/{sample.location}"
            path = path.replace(replaced, by) if replaced else path
            path = path.replace("\r", "\\r").replace("\n", "\\n")
            yield encoded(f"{path} {outcome.scores[place]}\n")

    return Table(f"GraFIQs_{layer}.txt", rows)


def _embeddings(manifest: Manifest) -> Table:
    """embeddings.npy: float32 (N, size), a row for each of scores.csv."""
    return Table(
        EMBEDDINGS,
        lambda _, outcome: [base64.b64decode(outcome.embedding)] if isinstance(outcome, Scored) else [],
        lambda count: npy.header((count, manifest.embedding_size), "float32"),
    )


def _reference(reference: Reference | None) -> Table:
    """reference.json: byte by byte what the run was given."""
    return Table(REFERENCE, lambda _sample, _outcome: (), lambda _count: b"" if reference is None else reference.file)


def of(manifest: Manifest, reference: Reference | None = None) -> list[Table]:
    """The tables of a run, but for SHA256SUMS; without its `reference` they can be named, and not be written."""
    texts = [_field_format(manifest, layer) for layer in manifest.layers]
    faces = [faces_table(turns="turns" in manifest.preprocessing["alignment"])] if manifest.aligns else []
    embeddings = [_embeddings(manifest)] if manifest.embeds else []
    references = [_reference(reference)] if manifest.reference else []
    return [scores_of(manifest, reference), FAILURES, *texts, *faces, *embeddings, *references, IMAGE_SUMS]


def names(manifest: Manifest) -> tuple[str, ...]:
    """The tables of a run; SHA256SUMS, the last to be written, makes it finished."""
    tables_too = (*(table.name for table in of(manifest)), *([parquet.NAME] if manifest.has_parquet else []))
    return (*stated(manifest), *tables_too, SUMS)


def stated(manifest: Manifest) -> tuple[str, ...]:
    """The tables that are there from the beginning on."""
    return () if manifest.lists_samples else (subset_table.NAME,)


def write(
    folder: Path,
    manifest: Manifest,
    outcomes: Iterable[Outcome],
    reference: Reference | None = None,
    into: Path | None = None,
    whole_files: Iterable[tuple[str, str]] = (),
) -> Counter[type[Anything]]:
    """Write all tables of the run in `folder` from its outcomes, in the order of the samples; counts them by kind.

    `reference` is that of the run, if it has one. They go `into` the run folder, unless another folder is named.
    `whole_files` are the (SHA-256, path) of files that hold the gradients of several samples.
    """
    every = of(manifest, reference)
    there = (MANIFEST, *stated(manifest))
    beside: tuple[str, ...] = ()
    if manifest.has_parquet:
        outcomes, beside = _with_parquet(into or folder, manifest, reference, outcomes), (parquet.NAME,)
    return tables.write(folder, there, every, sums_of(manifest), manifest.subset, outcomes, into, whole_files, beside)


def _with_parquet(
    folder: Path, manifest: Manifest, reference: Reference | None, outcomes: Iterable[Outcome]
) -> Iterator[Outcome]:
    """The same outcomes; when the last was taken, scores.parquet is in the folder, too."""
    row, columns = row_of(manifest, reference), {name: _kind(manifest, name) for name in manifest.directions}
    with parquet.written(folder, columns, manifest.shards, bool(manifest.dumps)) as add:
        for outcome in outcomes:
            if isinstance(outcome, Scored):
                add(outcome.index, manifest.subset.samples[outcome.index], row(outcome))
            yield outcome


def _kind(manifest: Manifest, name: str) -> type[float | int]:
    """The type of a column: scores are fractions, qualities whole numbers."""
    return float if name in manifest.scores else int


def reference_of(folder: Path, manifest: Manifest) -> Reference | None:
    """The reference of a finished run, None if it has none. Raises ValueError if it is not there as it was given."""
    if not manifest.reference:
        return None
    found = read_reference(folder / REFERENCE)  # a RequestError is a ValueError
    if found.source(manifest.scores) != manifest.reference:
        raise ValueError(f"{REFERENCE} is not the reference that {MANIFEST} names")
    return found


def is_finished(folder: Path) -> bool:
    """Whether the run in `folder` is finished."""
    at_work = (folder / journal.NAME).exists() or shard_journals.is_there(folder)
    return (folder / SUMS).exists() and not at_work


def is_page(path: Path) -> bool:
    """Whether a file is a page that shows runs. Raises OSError when it cannot be read."""
    if path.is_symlink() or not path.is_file():
        return False
    with files.opened(path) as file:
        return PAGE_MARK.encode() in file.read(4096)


def refuse_inside_run(folder: Path, argument: str = "--output-dir") -> None:
    """Raise RequestError when a folder to write to is, or lies in, that of a finished run, which holds nothing else."""
    place = Path(os.path.realpath(folder))
    for above in (place, *place.parents):
        if files.exists(above / MANIFEST) and is_finished(above):
            raise RequestError(
                f"the output folder {shown(folder)} lies in the run folder {shown(above)}, which 'verify' would no "
                f"longer pass: give another {argument}"
            )


def need_folder(folder: Path, argument: str = "--output-dir") -> None:
    """Raise RequestError when files cannot be written to `folder`, or should not be, as it is a run's."""
    refuse_inside_run(folder, argument)
    place = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise RequestError(f"cannot write to {shown(folder)}: give another {argument}")


def read(folder: Path, manifest: Manifest, checksums: Literal["all", "known", "none"] = "all") -> Generator[Outcome]:
    """The outcomes of a finished run, from its tables, in the order of the samples.

    The `checksums` of gradients may be left out, or be those that are `known`: some stand in the files of the gradients
    themselves, and where one of these is gone or damaged, theirs are "".
    Raises ValueError when the tables do not list every sample once and in order, or contradict each other, and
    OSError when one cannot be read.
    """
    store = manifest.store(folder)
    with ExitStack() as stack:
        scores = stack.enter_context(closing(scores_of(manifest, None).read(folder)))
        failures = stack.enter_context(closing(FAILURES.read(folder)))
        faces = stack.enter_context(closing(FACES.read(folder))) if manifest.aligns else None
        image_sums, own_sums = (stack.enter_context(files.opened(folder / name)) for name in (IMAGE_SUMS.name, SUMS))
        checksums_of = (lambda _: []) if checksums == "none" else store.checksums_by(own_sums)
        embeddings = stack.enter_context(files.opened(folder / EMBEDDINGS)) if manifest.embeds else None
        header = embeddings.read(len(_embeddings(manifest).header(0))) if embeddings else b""
        scored, failed, count = next(scores, None), next(failures, None), 0
        for index, sample in enumerate(manifest.subset.samples):
            columns = columns_of(sample)
            if scored is not None and scored[0] == columns:
                known = checksums_of(index)
                if checksums == "all" and not all(known):
                    raise ValueError(f"the gradients of {shown(sample.location)} are gone, or damaged")
                yield Scored(
                    index,
                    sums.next_of(image_sums, sample.location),
                    scored[1],
                    known,
                    _face(next(faces, None), columns) if faces else [],
                    _embedding(embeddings, manifest) if embeddings else "",
                )
                scored = next(scores, None)
                count += 1
            elif failed is not None and failed[0] == columns:
                yield Failed(index, failed[1])
                failed = next(failures, None)
            else:
                place = shown(sample.location)
                raise ValueError(f"neither {SCORES} nor {FAILURES.name} has the row of {place} where it should stand")
        if embeddings and (embeddings.read(1) or header != _embeddings(manifest).header(count)):
            raise ValueError(f"{EMBEDDINGS} does not hold {count} embeddings, a row for each of {SCORES}")
        surplus = next(faces, None) if faces else None
        for name, row in ((SCORES, scored), (FAILURES.name, failed), (FACES.name, surplus)):
            if row is not None:
                raise ValueError(f"{name} has a row too many: {shown(', '.join(row[0]))}")


def derived(manifest: Manifest) -> tuple[str, ...]:
    """The tables that say again what others say, and so can be written anew."""
    texts = [_field_format(manifest, layer).name for layer in manifest.layers]
    return (*texts, *([parquet.NAME] if manifest.has_parquet else []))


def changed(folder: Path, manifest: Manifest) -> dict[str, str]:
    """The tables that are not what they were when the run was finished, and whether each was changed, or removed.

    SHA256SUMS is one of them if it has lines that are none, or does not state all tables: these then cannot be told.
    """
    own = {MANIFEST, *names(manifest)} - {SUMS}
    found: dict[str, str] = {}
    stated: dict[str, str] = {}
    with files.opened(folder / SUMS) as lines:
        for text in lines:
            checksum, path = sums.parsed(text)
            if not sums.is_line(text):
                found[SUMS] = "was changed"
            elif path in own:
                stated[path] = checksum
    if own - stated.keys():
        found[SUMS] = "was changed"
    for name in sorted(own):
        try:
            if files.sha256(folder / name) != stated.get(name) and name in stated:
                found[name] = "was changed"
        except FileNotFoundError:
            found[name] = "was removed"
    return found


def need_unchanged(folder: Path, manifest: Manifest) -> None:
    """Raise RequestError when a table of a finished run was changed since, or is gone."""
    try:
        if found := changed(folder, manifest):
            raise ValueError(", ".join(f"{name} {how} since it finished" for name, how in found.items()))
    except (OSError, ValueError) as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> RequestError:
    """What is said of a run when its tables cannot be read."""
    return RequestError(f"the run in {shown(folder)} is damaged ({files.reason(error)}): 'grafiqs verify' says more")


def whole_files(folder: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """The (SHA-256, path) of the files that hold the gradients of several samples, as SHA256SUMS states them.

    Raises ValueError when it does not state all of them, and OSError when it cannot be read.
    """
    names = manifest.store(Path()).whole_files()
    own = set(names)
    stated = [(checksum, path) for checksum, path in sums.read(folder / SUMS) if path in own] if names else []
    if [path for _, path in stated] != names:
        raise ValueError(f"{SUMS} does not list the files of the gradients in their order")
    return stated


def _face(row: tuple[tuple[str, ...], list[float | None]] | None, columns: tuple[str, ...]) -> list[float | None]:
    """The face in a row, which is to be this sample's."""
    if row is None or row[0] != columns:
        raise ValueError(f"{FACES.name} does not list the samples of {SCORES} in their order")
    return row[1]


def _embedding(file: IO[bytes], manifest: Manifest) -> str:
    """The next row, as the journal has it."""
    row = file.read(4 * manifest.embedding_size)
    if len(row) != 4 * manifest.embedding_size:
        raise ValueError(f"{EMBEDDINGS} has fewer rows than {SCORES}")
    return base64.b64encode(row).decode()
