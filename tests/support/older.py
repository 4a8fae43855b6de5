"""Runs as earlier versions left them, and tables of subsets as a forger would."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafiqs.disk.files import sha256
from grafiqs.run import finished, subset_table
from grafiqs.run import manifest as manifests
from grafiqs.run.journal import line

Rows = list[list[str]]


def as_earlier(run: Path, format: int = 8) -> Path:
    """Make a finished run what that version wrote: its manifest lists the samples.

    Of formats 6 and 7 that is so for runs without embeddings and reference, whose tables were the same.
    """
    document = json.loads((run / "manifest.json").read_bytes())
    samples: dict[str, dict[str, str]] = {}
    for sample in manifests.read(run).subset.samples:
        samples.setdefault(sample.identity, {})[sample.name] = sample.location
    subset = {key: value for key, value in document["subset"].items() if key != "table_sha256"}
    later = ["gradients", "export", "shard_size", "subset"]
    later += ["reference"] * (format <= 7) + ["directions"] * (format <= 6)
    options = {key: value for key, value in document["options"].items() if key not in ("store", "shard_size")}
    kept = {key: value for key, value in document.items() if key not in later}
    written = {**kept, "format": format, "options": options, "subset": {**subset, "samples": samples}}
    (run / "manifest.json").write_text(json.dumps(written, indent=1) + "\n")
    (run / "subset.csv.gz").unlink()
    _seal(run)
    return run


def stopped_earlier(run: Path, done: int) -> Path:
    """Make such a run one that was stopped with so many samples done: it has a journal, no tables, and no more files.

    Returns the journal.
    """
    manifest = manifests.read(run)
    outcomes = list(finished.read(run, manifest))
    journal = run / "progress.jsonl"
    journal.write_bytes(b"".join(map(line, outcomes[:done])))
    for name in finished.names(manifest):
        (run / name).unlink()
    for path in manifest.tree(run).paths(range(done, len(outcomes))):
        (run / path).unlink(missing_ok=True)
    return journal


def with_table(run: Path, change: Callable[[Rows], object], as_stated: bool = False) -> None:
    """Change the rows of the table of a run's subset, the first of which names the columns.

    Unless it is to be `as_stated`, manifest and checksums are made to fit, as a forger would.
    """
    rows = list(csv.reader(io.StringIO(gzip.decompress((run / subset_table.NAME).read_bytes()).decode())))
    change(rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with_bytes(run, text.getvalue().encode("utf-8", "surrogatepass"), as_stated)


def with_bytes(run: Path, table: bytes, as_stated: bool = False) -> None:
    """Put other bytes in the place of the table of a run's subset, compressed."""
    (run / subset_table.NAME).write_bytes(gzip.compress(table))
    if as_stated:
        return
    document: dict[str, Any] = json.loads((run / "manifest.json").read_bytes())
    document["subset"]["table_sha256"] = hashlib.sha256(table).hexdigest()
    samples = [row[:2] for row in csv.reader(io.StringIO(table.decode("utf-8", "replace")))][1:]
    named = "".join(f"{row[0]}\0{row[1]}\0" for row in samples if len(row) == 2)
    document["subset"] |= {"sha256": hashlib.sha256(named.encode()).hexdigest(), "count": len(samples)}
    (run / "manifest.json").write_text(json.dumps(document, indent=1) + "\n")
    _seal(run)


def _seal(run: Path) -> None:
    """Make SHA256SUMS fit the manifest and the table of the subset as they are now."""
    sums = {line[66:]: line[:64] for line in (run / "SHA256SUMS").read_text().splitlines()}
    for name in ("manifest.json", subset_table.NAME):
        if (run / name).exists():
            sums[name] = sha256(run / name)
        else:
            del sums[name]
    (run / "SHA256SUMS").write_text("".join(f"{checksum}  {path}\n" for path, checksum in sums.items()))
