"""scores.parquet: what others read there, and that it is there as a whole or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from grafiqs.datasets.dataset import Sample
from grafiqs.disk.files import sha256
from grafiqs.errors import RequestError
from grafiqs.run import parquet
from grafiqs.run.parquet import need_pyarrow
from grafiqs.shards import Shards

COLUMNS: dict[str, type[float | int]] = {"block4": float, "quality": int}
SAMPLES = [Sample(f"id{number // 3}", f"{number}", f"id{number // 3}/{number}.png") for number in range(10)]


def write(root: Path, indices: list[int], samples: list[Sample] = SAMPLES) -> Path:
    with parquet.written(root, COLUMNS, Shards(len(samples), 4)) as add:
        for index in indices:
            add(index, samples[index], [index + 0.1, 10 * index])
    return root / parquet.NAME


def test_a_row_for_each_sample_with_scores_and_a_group_for_each_shard(tmp_path: Path) -> None:
    from pyarrow.parquet import ParquetFile

    path = write(tmp_path, [0, 2, 3, 8, 9])  # all of shard 1 failed
    with ParquetFile(path) as file:
        assert {field.name: str(field.type) for field in file.schema_arrow} == {
            **dict.fromkeys(("identity", "sample", "path"), "string"),
            "block4": "double",
            "quality": "int64",
            "shard": "int32",
            "row": "int32",
        }
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [3, 2]
        assert file.read().to_pylist() == [
            {
                "identity": SAMPLES[index].identity,
                "sample": SAMPLES[index].name,
                "path": SAMPLES[index].location,
                "block4": index + 0.1,
                "quality": 10 * index,
                "shard": index // 4,
                "row": row,
            }
            for index, row in ((0, 0), (2, 1), (3, 2), (8, 0), (9, 1))
        ]


def test_without_gradients_there_are_no_places_of_them(tmp_path: Path) -> None:
    from pyarrow.parquet import ParquetFile

    with parquet.written(tmp_path, COLUMNS, Shards(10, 4), has_gradients=False) as add:
        for index in (0, 3, 4):
            add(index, SAMPLES[index], [0.5, 1])
    with ParquetFile(tmp_path / parquet.NAME) as file:
        assert file.schema_arrow.names == ["identity", "sample", "path", *COLUMNS]
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [2, 1]


def test_no_rows_are_a_table_all_the_same(tmp_path: Path) -> None:
    from pyarrow.parquet import read_table

    assert read_table(write(tmp_path, [])).column_names == ["identity", "sample", "path", *COLUMNS, "shard", "row"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    sums = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        sums.append(sha256(write(tmp_path / name, list(range(10)))))
    assert len(set(sums)) == 1


def test_names_of_any_bytes_are_escaped_and_never_fail(tmp_path: Path) -> None:
    from pyarrow.parquet import read_table

    odd = [
        Sample(os.fsdecode(b"a\x80"), "\ud800", os.fsdecode(b"\xff/\xfe.png")),
        Sample("e\u0301\0\n", "\U0001f600", ""),
    ]
    found = read_table(write(tmp_path, [0, 1], odd)).select(["identity", "sample", "path"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("a\\udc80", "\\ud800", "\\udcff/\\udcfe.png"),
        ("e\u0301\0\n", "\U0001f600", ""),
    ]


def test_it_appears_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def stopped() -> None:
        with parquet.written(tmp_path, COLUMNS, Shards(10, 4)) as add:
            for index in range(10):
                add(index, SAMPLES[index], [0.5, 1])
            assert [path.name for path in tmp_path.iterdir()] == [f"{parquet.NAME}.part"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda name, flags, *rest, **named: (
            usual("/dev/full", os.O_WRONLY)
            if str(name) == f"{parquet.NAME}.part"
            else usual(name, flags, *rest, **named)
        ),
    )
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, list(range(10)))
    assert not (tmp_path / parquet.NAME).exists()


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    need_pyarrow("--store shards")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    with pytest.raises(RequestError, match=r"^--store shards needs pyarrow .*: pip install 'grafiqs\[store\]'$"):
        need_pyarrow("--store shards")
