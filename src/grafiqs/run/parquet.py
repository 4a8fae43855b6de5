"""scores.parquet: a row for each sample with scores, for data frames and databases; by pyarrow, which is an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grafiqs.datasets.dataset import Sample
from grafiqs.datasets.samples import COLUMNS as SAMPLE
from grafiqs.datasets.samples import columns_of
from grafiqs.disk import inside
from grafiqs.errors import RequestError, first_line
from grafiqs.shards import Shards

NAME = "scores.parquet"

PLACE = ("shard", "row")
"""The columns that say where the gradients of a sample are: in which file of each layer, and in which row of it."""


def need_pyarrow(what: str) -> None:
    """Raise RequestError, which says what to install, if pyarrow is missing, or cannot be loaded."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise RequestError(f"{what} needs pyarrow ({first_line(error)}): pip install 'grafiqs[store]'") from error


@contextmanager
def written(
    root: Path, columns: Mapping[str, type[float | int]], shards: Shards, has_gradients: bool = True
) -> Iterator[Callable[[int, Sample, Sequence[float]], None]]:
    r"""Write the table, which appears as a whole when the block ends well: what is given takes a row.

    That is called with index, sample and scores of each sample that has scores, in ascending order. Columns: identity,
    sample and path as strings; those of `columns`, float64 or, if they are int, int64; and, if there are gradients,
    PLACE, int32. Each shard that has rows is a row group. No more than a shard is held in memory. The same rows give
    the same bytes, by one version of pyarrow.

    Strings are UTF-8 in Parquet. What is not in a name, and so was read as a lone surrogate, is written as an escape:
    the byte 80 (hexadecimal) as the six characters \udc80. All other names are as they are; shard and row, or
    scores.csv, tell names apart that look alike then.

    Raises OSError when the file system does not take it.
    """
    import pyarrow as pa
    from pyarrow import parquet

    kinds = [pa.string()] * len(SAMPLE)
    kinds += [pa.int64() if issubclass(kind, int) else pa.float64() for kind in columns.values()]
    place = PLACE if has_gradients else ()
    schema = pa.schema(list(zip((*SAMPLE, *columns, *place), [*kinds, *(pa.int32() for _ in place)], strict=True)))
    rows: list[tuple[Any, ...]] = []
    of = -1

    def add(index: int, sample: Sample, scores: Sequence[float]) -> None:
        nonlocal of
        shard = shards.of(index)
        if rows and shard != of:
            flush()
        of = shard
        rows.append((*map(_utf8, columns_of(sample)), *scores, *((shard, len(rows)) if place else ())))

    def flush() -> None:
        arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
        writer.write_table(pa.table(arrays, schema), len(rows))
        rows.clear()

    with (
        inside.whole(root, NAME) as file,
        parquet.ParquetWriter(file, schema, use_dictionary=[SAMPLE[0]], store_schema=False) as writer,
    ):
        yield add
        if rows:
            flush()


def is_same(one: Path, other: Path) -> bool:
    """Whether two such tables hold the same rows in the same groups, in whatever bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        first, second = (parquet.ParquetFile(path) for path in (one, other))
        groups = first.num_row_groups
        return groups == second.num_row_groups and all(
            first.read_row_group(number).equals(second.read_row_group(number)) for number in range(groups)
        )
    except (OSError, pa.ArrowException):
        return False


def _utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
