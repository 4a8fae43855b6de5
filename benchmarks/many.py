"""Runs of millions of samples, with everything real but the network and the pixels: scores alone.

python benchmarks/many.py make FOLDER COUNT          (a RecordIO set of COUNT records, 50 an identity)
python benchmarks/many.py run FOLDER WEIGHTS OUT [SHARDS]  (a run of it; it is killed after so many shards)
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import torch

EACH = 50
"""Samples of an identity."""

_RECORD = np.dtype(
    [
        ("magic", "<u4"),
        ("size", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("id", "<u8"),
        ("id2", "<u8"),
        ("data", "S8"),
    ]
)


def make(folder: Path, count: int) -> None:
    """Write a RecordIO set of `count` records, none of them an image, with the index beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    identities = count // EACH

    def records(number: int) -> np.ndarray:
        made = np.zeros(number, _RECORD)
        made["magic"], made["size"], made["data"] = 0xCED7230A, _RECORD.itemsize - 8, b"no image"
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


def run(folder: Path, weights: Path, output: Path, shards: int) -> None:
    """Make a run, or resume it; it kills itself after so many shards, if any are named."""
    from grafiqs.compute.computer import Computed, Computer
    from grafiqs.extract import extract_gradients
    from grafiqs.images.reading import Read, Reader
    from grafiqs.images.remarks import Remark
    from grafiqs.options.extract import Options
    from grafiqs.run.shard_journals import Open, ShardJournals

    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d ms: %(message)s", stream=sys.stdout)
    pixels, remark = np.zeros((3, 112, 112), np.uint8), Remark(one_colour=False, bits=None)
    scores = torch.rand(1024, 6, dtype=torch.float64)

    def read(_self: Reader, location: str) -> Read:
        return Read(pixels, hashlib.sha256(location.encode()).hexdigest(), (112, 112), remark)

    def compute(self: Computer, _pixels: torch.Tensor, _gradients: bool = True) -> Computed:
        return Computed({}, scores[: self.batch_size])

    close, left = ShardJournals.close_shard, [shards]

    def closed(self: ShardJournals, shard: Open, files: list[tuple[str, str]]) -> None:
        close(self, shard, files)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Reader.__call__, Computer.__call__, ShardJournals.close_shard = read, compute, closed  # type: ignore[method-assign,assignment]
    options = Options(
        image_path=folder, weights=weights, output_dir=output, dump_gradients=False, batch_size=256, keep_going=True,
        compile="off", quiet=True,
    )  # fmt: skip
    extract_gradients(options)


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "make":
        make(Path(given[0]), int(given[1]))
    else:
        folder, weights, output = map(Path, given[:3])
        run(folder, weights, output, int(given[3]) if len(given) > 3 else -1)
