"""Tables about the samples of a subset, in its order: each is written and read by one definition.

Whatever a command fills its folder with ends with the same kinds of tables: CSV files, lists of checksums that
`sha256sum -c` checks, and last of all SHA256SUMS, which makes the work finished.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from grafiqs.datasets.dataset import Sample
from grafiqs.datasets.samples import COLUMNS as SAMPLE
from grafiqs.datasets.samples import columns_of
from grafiqs.disk import files, inside
from grafiqs.disk.csv_row import csv_row
from grafiqs.faces.face import BOX, COLUMNS, TURN, Face
from grafiqs.run import sums
from grafiqs.run.journal import Aligned, Failed, Scored
from grafiqs.select import Subset

Value = TypeVar("Value")
Anything = Scored | Aligned | Failed

SUMS = "SHA256SUMS"
"""The checksums of all files of the folder; it is written last."""


@dataclass(frozen=True)
class Table:
    """A file with what it holds of each outcome, in the order of the subset."""

    name: str
    rows: Callable[[Sample, Any], Iterable[bytes]]
    """What it holds of an outcome: nothing, a row or several."""
    header: Callable[[int], bytes] = lambda _count: b""
    """What stands before all rows; of one length, however many samples are done."""


class CsvTable(Table, Generic[Value]):
    """A CSV file: rows of the sample's columns and of `columns`, those that an outcome has.

    `named` makes of a sample, and of the number of the value, the sample that the row is of. `later` are columns that
    the tables of earlier versions may lack: what they held is not read.
    """

    def __init__(
        self,
        name: str,
        columns: tuple[str, ...],
        rows_of: Callable[[Anything], Iterable[Sequence[object]]],
        from_row: Callable[[list[str]], Value],
        named: Callable[[Sample, int], Sample] = lambda sample, _number: sample,
        later: tuple[str, ...] = (),
    ) -> None:
        def rows(sample: Sample, outcome: Anything) -> Iterator[bytes]:
            for number, row in enumerate(rows_of(outcome)):
                yield csv_row(*columns_of(named(sample, number)), *row)

        super().__init__(name, rows, lambda _count: csv_row(*SAMPLE, *columns))
        self.columns = columns
        self._from_row = from_row
        self._later = later

    def read(self, folder: Path) -> Generator[tuple[tuple[str, ...], Value]]:
        """What identifies the sample, and its value, row by row.

        Raises ValueError for a file that is not such a table, and OSError when it cannot be read.
        """
        full = [*SAMPLE, *self.columns]
        with io.TextIOWrapper(files.opened(folder / self.name), "utf-8", "surrogateescape", newline="") as file:
            rows = csv.reader(file, strict=True)
            try:
                header = next(rows, None)
                kept = [place for place, name in enumerate(header or ()) if name not in self._later]
                if header not in (full, [name for name in full if name not in self._later]):
                    raise ValueError(f"{self.name} has other columns than {', '.join(full)}")
                for row in rows:
                    if len(row) != len(header):
                        raise ValueError(f"{self.name} line {rows.line_num} has {len(row)} columns")
                    values = [row[place] for place in kept]
                    yield tuple(values[: len(SAMPLE)]), self._from_row(values[len(SAMPLE) :])
            except csv.Error as error:
                raise ValueError(f"{self.name} line {rows.line_num}: {error}") from error


def sums_table(name: str, sums_of: Callable[[Sample, Any], Iterable[tuple[str, str]]]) -> Table:
    """A list of the (checksum, path) of what the outcomes that are done consist of."""
    return Table(
        name,
        lambda sample, outcome: (
            () if isinstance(outcome, Failed) else (sums.line(*each) for each in sums_of(sample, outcome))
        ),
    )


FAILURES = CsvTable[str](
    "failures.csv",
    ("reason",),
    lambda outcome: [[outcome.reason]] if isinstance(outcome, Failed) else [],
    lambda row: row[0],
)
"""What could not be done, and why."""


def faces_table(
    named: Callable[[Sample, int], Sample] = lambda sample, _number: sample, turns: bool = True
) -> CsvTable[list[float | None]]:
    """align.csv: box, score, turn and landmarks of every face that a sample was aligned by, and its crop if `named`.

    Earlier versions knew no turns; their tables are read all the same. What is read is the row of the face.
    """

    def faces(outcome: Anything) -> list[list[float | None]]:
        match outcome:
            case Aligned(crops=crops):
                return [crop.face for crop in crops]
            case Scored(face=face):
                return [face]
        return []

    return CsvTable(
        "align.csv",
        COLUMNS if turns else tuple(name for name in COLUMNS if name != TURN),
        lambda outcome: [Face.of_row(face).written() if turns else face for face in faces(outcome)],
        lambda row: [float(text) if text else None for text in row],
        named,
        (TURN,),
    )


FACES = faces_table()
"""align.csv where a sample has one face."""

IMAGE_SUMS = sums_table("SHA256SUMS.images", lambda sample, outcome: [(outcome.image_sha256, sample.location)])
"""The images that were read."""


def is_face(row: list[float | None]) -> bool:
    """Whether a row is that of a face: its landmarks are known, its box and score perhaps."""
    return len(row) == len(COLUMNS) - 1 and None not in row[len(BOX) :]


def write(
    folder: Path,
    there: Sequence[str],
    tables: Sequence[Table],
    own: Table,
    subset: Subset,
    outcomes: Iterable[Anything],
    into: Path | None = None,
    whole_files: Iterable[tuple[str, str]] = (),
    beside: Sequence[str] = (),
) -> Counter[type[Anything]]:
    """Write all tables of a finished folder from its outcomes, in the order of the samples; counts them by their kind.

    `own` is the list of the samples' own files, with the (checksum, path) of `whole_files` behind them, and of the
    tables and those that are `there` already, such as the manifest: the last file.
    All go `into` the folder, unless another one is named; so do files `beside` them, which are there when `outcomes`
    come to their end.
    """
    into = into or folder
    counts: Counter[type[Anything]] = Counter()
    with inside.whole(into, own.name) as last:
        with ExitStack() as stack:
            written: list[tuple[Table, IO[bytes]]] = [
                (table, stack.enter_context(inside.whole(into, table.name))) for table in tables
            ]
            for table, file in written:
                file.write(table.header(0))
            for outcome in outcomes:
                counts[type(outcome)] += 1
                sample = subset.samples[outcome.index]
                for table, file in [*written, (own, last)]:
                    file.writelines(table.rows(sample, outcome))
            for table, file in written:  # how many there are is known only now
                file.seek(0)
                file.write(table.header(counts.total() - counts[Failed]))
        last.writelines(sums.line(*each) for each in whole_files)
        for name in sorted((*there, *beside, *(table.name for table in tables))):
            last.write(sums.line(files.sha256((folder if name in there else into) / name), name))
    return counts
