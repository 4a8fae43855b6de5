"""Which faces a drawn data set holds: its names, its degradations, and faces.csv, all known before a face is drawn."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from grafiqs.demo.degrade import KINDS, Degradation
from grafiqs.demo.identity import Identity
from grafiqs.demo.scene import Scene
from grafiqs.demo.traits import Traits
from grafiqs.disk.csv_row import csv_row
from grafiqs.options.draw import DrawOptions

FACES = "faces.csv"
COLUMNS = (
    *("identity", "sample", "path", "degradation", "strength"),
    *(field.name for kind in (Scene, Traits) for field in fields(kind)),
)
"""The columns of faces.csv; what is degraded as "none" has strength 0."""

SHORT = 1
"""The number of the one identity that has only a third of the samples."""

_DRAWN_DEGRADATION = 4  # a stream of random numbers beside those of the faces


def identity_name(number: int) -> str:
    """The folder of an identity."""
    return f"person_{number:04}"


def sample_name(number: int) -> str:
    """A sample of an identity, without the extension."""
    return f"{number:04}"


def sample_count(options: DrawOptions, number: int) -> int:
    """How many samples an identity has."""
    everyone = options.samples_per_identity
    return max(1, everyone // 3) if number == SHORT else everyone


def face_count(options: DrawOptions) -> int:
    """How many faces there are in all."""
    short = sample_count(options, SHORT) - options.samples_per_identity if options.identities > SHORT else 0
    return options.identities * options.samples_per_identity + short


def draw_degradation(options: DrawOptions, number: int, sample: int) -> Degradation | None:
    """What is wrong with a sample: for a share of them one of KINDS, of a strength between 0.05 and 1."""
    rng = np.random.default_rng([_DRAWN_DEGRADATION, options.seed, number, sample])
    spoiled, kind, strength = rng.random(), int(rng.integers(len(KINDS))), rng.uniform(0.05, 1)
    return Degradation(list(KINDS)[kind], float(strength)) if spoiled < options.degraded else None


def face_path(number: int, sample: int) -> str:
    """Where a face lies: a POSIX path relative to the data set."""
    return f"{identity_name(number)}/{sample_name(sample)}.png"


def faces_csv(options: DrawOptions) -> Iterator[bytes]:
    """faces.csv, a line at a time: nothing is drawn for it."""
    yield csv_row(*COLUMNS)
    for number in range(options.identities):
        identity = Identity(options.seed, number)
        traits = asdict(identity.traits).values()
        for sample in range(sample_count(options, number)):
            wrong = draw_degradation(options, number, sample)
            scene = asdict(identity.scene(sample, wrong)).values()
            quality = (wrong.kind, wrong.strength) if wrong else ("none", 0.0)
            told = identity_name(number), sample_name(sample), face_path(number, sample)
            yield csv_row(*told, *quality, *scene, *traits)


def read_faces(root: Path) -> dict[str, Degradation | None]:
    """What faces.csv says is wrong with each face of a drawn data set, by its path."""
    with (root / FACES).open(encoding="utf-8", newline="") as table:
        return {
            row["path"]: Degradation(row["degradation"], float(row["strength"])) if float(row["strength"]) else None
            for row in csv.DictReader(table)
        }
