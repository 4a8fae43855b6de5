"""Runs of millions of samples, scores alone, with everything real but what reads and computes the images.

python benchmarks/many.py make FOLDER COUNT          (a RecordIO set of COUNT records, 50 an identity)
python benchmarks/many.py run FOLDER OUT [SHARDS]    (a run of it; it is killed after so many shards)

The network is the small one of the demo: it is loaded, and stays idle.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from grafiqs.shards import Shards, usual_size

BATCH = 256

EACH = 50
"""Samples of an identity."""

_IMAGE = b"no image"

_RECORD = np.dtype(
    [
        ("magic", "<u4"),
        ("size", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("id", "<u8"),
        ("id2", "<u8"),
        ("data", f"S{len(_IMAGE)}"),
    ]
)


def make(folder: Path, count: int) -> None:
    """Write a RecordIO set of `count` records, none of them an image, with the index beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    identities = count // EACH

    def records(number: int) -> np.ndarray:
        made = np.zeros(number, _RECORD)
        made["magic"], made["size"], made["data"] = 0xCED7230A, _RECORD.itemsize - 8, _IMAGE
        return made

    with (folder / "train.rec").open("wb") as file:
        first = records(1)
        first["flag"], first["data"] = 2, struct.pack("<2f", count + 1, count + 1 + identities)
        file.write(first.tobytes())
        for start in range(0, count, 10**6):
            some = records(min(10**6, count - start))
            places = np.arange(start, start + len(some))
            some["label"], some["id"] = places // EACH, places + 1
            file.write(some.tobytes())
        ranges = records(identities)
        ranges["flag"], ranges["id"] = 2, np.arange(identities) + count + 1
        starts = np.arange(identities, dtype="<f4") * EACH + 1
        ranges["data"] = np.stack([starts, starts + EACH], axis=1).view("S8").ravel()
        file.write(ranges.tobytes())
    with (folder / "train.idx").open("w", encoding="ascii") as lines:
        lines.writelines(f"{key}\t{key * _RECORD.itemsize}\n" for key in range(1 + count + identities))


def run(folder: Path, output: Path, shards: int) -> None:
    """Make a run, or resume it; it kills itself after so many shards if any are named."""
    from grafiqs import extract
    from grafiqs.demo.embedded import demo_backbone
    from grafiqs.options.extract import Options
    from grafiqs.run.folder import RunFolder
    from grafiqs.run.journal import Scored

    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d ms: %(message)s", stream=sys.stdout)
    checksum = hashlib.sha256(_IMAGE).hexdigest()
    scores = np.random.default_rng(0).uniform(1, 1000, (1024, 6)).tolist()

    def outcomes(run: RunFolder, *_: Any) -> Iterator[Scored]:
        for done, number in enumerate(run.claimed()):
            if done == shards:
                os.kill(os.getpid(), signal.SIGKILL)
            for index in run.manifest.shards.samples(number):
                if run.is_pending(index):
                    yield Scored(index, checksum, scores[index % 1024], [], [], "")

    extract.outcomes = outcomes  # type: ignore[attr-defined,assignment]
    options = Options(
        image_path=folder, weights=demo_backbone(), output_dir=output, dump_gradients=False, batch_size=BATCH,
        keep_going=True, compile="off", quiet=True,
    )  # fmt: skip
    extract.extract_gradients(options)


def figures(folder: Path, count: int) -> Iterator[tuple[str, float, str]]:
    """What was measured: in words, the figure, its unit."""
    data, output, own = folder / "many", folder / "many_run", [sys.executable, __file__]
    subprocess.run([*own, "make", str(data), str(count)], check=True)
    what, most = f"{count:,} samples, scores alone", len(Shards(count, usual_size(count, BATCH))) - 1
    given = ["run", str(data), str(output)]
    _, seconds, said = _spent([*own, *given, str(most)])
    yield f"{what}: seconds to the first batch: names, draw, hashes, network", said["Computing"], "s"
    yield "... to the table of the subset, the manifest, and all shards but one", seconds - said["Computing"], "s"
    peak, seconds, said = _spent([*own, *given])
    yield "... seconds to resume, until the first sample", said["Resuming"], "s"
    yield "... to write the tables", seconds - said["Processed"], "s"
    yield "... peak memory, tables included", peak, "MB"
    for name in ("manifest.json", "subset.csv.gz", "scores.csv"):
        yield f"... {name}", (output / name).stat().st_size / 1e6, "MB"
    peak, seconds, _ = _spent(
        [sys.executable, "-m", "grafiqs", "select", "--image-path", str(data), "--output", os.devnull]
    )
    yield "select alone: the subset derived again", seconds, "s"
    yield "... peak memory", peak, "MB"
    peak, seconds, _ = _spent([sys.executable, "-m", "grafiqs", "verify", str(output), "--quiet"])
    yield "verify: the subset derived again, every record read, all tables written again and compared", seconds, "s"
    yield "... peak memory", peak, "MB"


_PARENT = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("0 ms: Peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code not in (0, -9))  # some kill themselves
"""
"""A small parent, which says how much memory its child had: a child starts with its parent's."""


def _spent(command: list[str]) -> tuple[float, float, dict[str, float]]:
    """Peak memory in MB, seconds, and the seconds after which it said something, by its first words."""
    started, peak, said = time.monotonic(), 0.0, dict[str, float]()
    with subprocess.Popen([sys.executable, "-c", _PARENT, *command], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            words = line.partition("ms: ")[2].split()
            if words[:1] == ["Peak"]:
                peak = int(words[1]) * 1024 / 1e6
            elif words:
                said[words[0].strip(":")] = time.monotonic() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak, time.monotonic() - started, said


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "make":
        make(Path(given[0]), int(given[1]))
    else:
        folder, output = map(Path, given[:2])
        run(folder, output, int(given[2]) if len(given) > 2 else -1)
