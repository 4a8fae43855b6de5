"""The tables of a finished run, all in the order of the subset, written and read a row at a time.

scores.csv, failures.csv, GraFIQs_<layer>.txt (the field's "path score"), align.csv and embeddings.npy where they were
asked for, a row for each of scores.csv, and two lists that `sha256sum -c` checks: SHA256SUMS (the run folder) and
SHA256SUMS.images (the images that were read).
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from grafiqs import npy
from grafiqs.face import BOX, POINTS
from grafiqs.formats.dataset import Sample
from grafiqs.names import encoded, shown
from grafiqs.run import files
from grafiqs.run.journal import NAME as JOURNAL
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import NAME as MANIFEST
from grafiqs.run.manifest import Manifest
from grafiqs.select import Subset

SCORES = "scores.csv"
FAILURES = "failures.csv"
SUMS = "SHA256SUMS"
IMAGE_SUMS = "SHA256SUMS.images"
FACES = "align.csv"
EMBEDDINGS = "embeddings.npy"

SAMPLE = ("identity", "sample", "path")
"""The columns that tell a sample, in every table."""


def field_format(layer: str) -> str:
    """The name of a layer's table in the format of the field."""
    return f"GraFIQs_{layer}.txt"


def names(manifest: Manifest) -> tuple[str, ...]:
    """The tables of a finished run; SUMS, the last to be written, makes it finished."""
    asked = [name for name, there in ((FACES, manifest.aligns), (EMBEDDINGS, manifest.embeds)) if there]
    return (SCORES, FAILURES, *map(field_format, manifest.layers), *asked, IMAGE_SUMS, SUMS)


@dataclass(frozen=True)
class Counts:
    """How many samples of a run were scored, and how many could not be."""

    scored: int
    failed: int


def write(folder: Path, manifest: Manifest, outcomes: Iterable[Outcome], into: Path | None = None) -> Counts:
    """Write all tables of the run in `folder` from its outcomes, which come in the order of the samples.

    They go `into` the run folder, unless another folder is named.
    """
    into = into or folder
    counts = {Scored: 0, Failed: 0}
    with ExitStack() as stack:
        sums = stack.enter_context(files.whole(into / SUMS))
        with ExitStack() as tables:
            scores, failures, image_sums = (
                tables.enter_context(files.whole(into / name)) for name in (SCORES, FAILURES, IMAGE_SUMS)
            )
            texts = {layer: tables.enter_context(files.whole(into / field_format(layer))) for layer in manifest.layers}
            faces = tables.enter_context(files.whole(into / FACES)) if manifest.aligns else None
            embeddings = tables.enter_context(files.whole(into / EMBEDDINGS)) if manifest.embeds else None
            if faces:
                faces.write(face_header())
            if embeddings:
                embeddings.write(_embeddings_header(manifest, 0))
            scores.write(csv_row(*SAMPLE, *manifest.layers))
            failures.write(csv_row(*SAMPLE, "reason"))
            for outcome in outcomes:
                counts[type(outcome)] += 1
                sample = manifest.subset.samples[outcome.index]
                columns = columns_of(sample)
                if isinstance(outcome, Failed):
                    failures.write(csv_row(*columns, outcome.reason))
                    continue
                scores.write(csv_row(*columns, *outcome.scores))
                image_sums.write(sum_row(outcome.image_sha256, sample.location))
                for layer, score in zip(manifest.layers, outcome.scores, strict=True):
                    texts[layer].write(text_row(manifest, sample.location, score))
                if faces:
                    faces.write(face_row(sample, outcome.face))
                if embeddings:
                    embeddings.write(base64.b64decode(outcome.embedding))
                for layer, checksum in zip(manifest.dumps, outcome.files_sha256, strict=True):
                    sums.write(sum_row(checksum, f"{layer}/{sample.output}"))
            if embeddings:  # how many there are is known only now
                embeddings.seek(0)
                embeddings.write(_embeddings_header(manifest, counts[Scored]))
        for name in sorted((MANIFEST, *names(manifest))):
            if name != SUMS:
                sums.write(sum_row(files.sha256((folder if name == MANIFEST else into) / name), name))
    return Counts(counts[Scored], counts[Failed])


def is_finished(folder: Path) -> bool:
    """Whether the run in `folder` came to its end."""
    return (folder / SUMS).exists() and not (folder / JOURNAL).exists()


def read(folder: Path, manifest: Manifest) -> Iterator[Outcome]:
    """The outcomes of a finished run, from its tables, in the order of the samples.

    Raises ValueError when the tables do not list every sample once and in order, or contradict each other, and
    OSError when one cannot be read.
    """
    with ExitStack() as stack:
        scored = rows(stack, folder / SCORES, manifest.layers)
        failed = rows(stack, folder / FAILURES, ("reason",))
        image_sums, sums = (stack.enter_context((folder / name).open("rb")) for name in (IMAGE_SUMS, SUMS))
        faces = rows(stack, folder / FACES, (*BOX, *POINTS)) if manifest.aligns else None
        embeddings = stack.enter_context((folder / EMBEDDINGS).open("rb")) if manifest.embeds else None
        header = embeddings.read(len(_embeddings_header(manifest, 0))) if embeddings else b""
        score, failure = next(scored, None), next(failed, None)
        count = 0
        for index, sample in enumerate(manifest.subset.samples):
            columns = list(columns_of(sample))
            if score is not None and score[:3] == columns:
                yield Scored(
                    index,
                    _checksum(image_sums, IMAGE_SUMS, sample.location),
                    [float(value) for value in score[3:]],
                    [_checksum(sums, SUMS, f"{layer}/{sample.output}") for layer in manifest.dumps],
                    _face(faces, columns) if faces else [],
                    _embedding(embeddings, manifest) if embeddings else "",
                )
                score = next(scored, None)
                count += 1
            elif failure is not None and failure[:3] == columns:
                yield Failed(index, failure[3])
                failure = next(failed, None)
            else:
                place = shown(sample.location)
                raise ValueError(f"neither {SCORES} nor {FAILURES} has the row of {place} where it should stand")
        if embeddings and (embeddings.read(1) or header != _embeddings_header(manifest, count)):
            raise ValueError(f"{EMBEDDINGS} does not hold {count} embeddings, a row for each of {SCORES}")
        surplus = next(faces, None) if faces else None
        for name, row in ((SCORES, score), (FAILURES, failure), (FACES, surplus)):
            if row is not None:
                raise ValueError(f"{name} has a row too many: {shown(', '.join(row[:3]))}")


def read_sums(path: Path) -> Iterator[tuple[str, str]]:
    """The (checksum, path) of every line of a list of checksums."""
    with path.open("rb") as lines:
        for line in lines:
            yield _parsed(line)


def changed(folder: Path, manifest: Manifest) -> list[str]:
    """The tables that no longer have the checksum they had when the run was finished."""
    own = {MANIFEST, *names(manifest)} - {SUMS}
    stated = {path: checksum for checksum, path in read_sums(folder / SUMS) if path in own}
    return [name for name in sorted(own) if stated.get(name) != files.sha256(folder / name)]


def subset_csv(subset: Subset) -> Iterator[bytes]:
    """A subset as CSV, in pieces: identity, sample, path."""
    yield csv_row(*SAMPLE)
    for sample in subset.samples:
        yield csv_row(*columns_of(sample))


def face_header() -> bytes:
    """The first line of align.csv."""
    return csv_row(*SAMPLE, *BOX, *POINTS)


def face_row(sample: Sample, face: list[float | None]) -> bytes:
    """A line of align.csv: box, score and landmarks of the face that a sample was aligned by."""
    return csv_row(*columns_of(sample), *("" if value is None else value for value in face))


def is_face(row: list[float | None]) -> bool:
    """Whether a row is that of a face: its landmarks are known, its box and score perhaps."""
    return len(row) == len(BOX + POINTS) and None not in row[len(BOX) :]


def text_row(manifest: Manifest, location: str, score: float) -> bytes:
    """A line of GraFIQs_<layer>.txt: path and score; a line break in the path becomes an escape."""
    path = f"{manifest.data_set['path_prefix']}/{location}"
    if manifest.options["path_replace"]:
        path = path.replace(manifest.options["path_replace"], manifest.options["path_replace_with"] or "")
    path = path.replace("\r", "\\r").replace("\n", "\\n")
    return encoded(f"{path} {score}\n")


def columns_of(sample: Sample) -> tuple[str, str, str]:
    """What tells a sample, in every table."""
    return sample.identity, sample.name, sample.location


class _Echo:
    """What a CSV writer writes to when its rows are wanted back."""

    def write(self, text: str) -> str:
        return text


_ROWS: Any = csv.writer(_Echo(), lineterminator="\r\n")  # so that a name with either character is quoted


def csv_row(*values: object) -> bytes:
    """A line of a table."""
    return encoded(str(_ROWS.writerow(values)).removesuffix("\r\n") + "\n")


# The format of GNU sha256sum: two spaces, and a leading backslash where the name is escaped.
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"))


def sum_row(checksum: str, path: str) -> bytes:
    """A line of a list of checksums."""
    escaped = path
    for plain, escape in _ESCAPES:
        escaped = escaped.replace(plain, escape)
    return encoded(f"{'' if escaped == path else chr(92)}{checksum}  {escaped}\n")


def _parsed(line: bytes) -> tuple[str, str]:
    text = line.decode("utf-8", "surrogateescape").removesuffix("\n")
    checksum, _, path = text.removeprefix("\\").partition("  ")
    if text.startswith("\\"):
        path = path.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
    return checksum, path


def rows(stack: ExitStack, path: Path, columns: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a table, after its header; each has every column."""
    header = [*SAMPLE, *columns]
    file = stack.enter_context(path.open(encoding="utf-8", errors="surrogateescape", newline=""))
    rows = csv.reader(file, strict=True)
    try:
        if next(rows, None) != header:
            raise ValueError(f"{path.name} has other columns than {', '.join(header)}")
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"{path.name} line {rows.line_num} has {len(row)} columns")
            yield row
    except csv.Error as error:
        raise ValueError(f"{path.name} line {rows.line_num}: {error}") from error


def _face(rows: Iterator[list[str]], columns: list[str]) -> list[float | None]:
    """The face in the next row, which is to be this sample's."""
    row = next(rows, None)
    if row is None or row[:3] != columns:
        raise ValueError(f"{FACES} does not list the samples of {SCORES} in their order")
    return [float(text) if text else None for text in row[3:]]


def _embeddings_header(manifest: Manifest, count: int) -> bytes:
    """What stands before the numbers of `count` embeddings; it has one length whatever the count."""
    return npy.header((count, manifest.embedding_size), "float32")


def _embedding(file: IO[bytes], manifest: Manifest) -> str:
    """The next row, as the journal has it."""
    row = file.read(4 * manifest.embedding_size)
    if len(row) != 4 * manifest.embedding_size:
        raise ValueError(f"{EMBEDDINGS} has fewer rows than {SCORES}")
    return base64.b64encode(row).decode()


def _checksum(lines: IO[bytes], name: str, path: str) -> str:
    checksum, found = _parsed(lines.readline())
    if found != path:
        raise ValueError(f"{name} does not list the samples of {SCORES} in their order")
    return checksum
