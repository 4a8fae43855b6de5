"""The options of `draw-faces`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import SEED, option, settle

MAX_FACES = 10_000_000
"""The most faces of one drawing: 200 gigabytes, and more than a day's work."""


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Which faces to draw, and into what. Raises RequestError when a value cannot be.

    >>> DrawOptions(output="drawn", identities=2).samples_per_identity
    30
    """

    # fmt: off
    output: Path = option("output", "the folder of the data set, new or empty", metavar="OUT")
    contact_sheet: Path | None = option(
        "output", "a picture of the first faces (.png, .jpg): an identity in each row",
        default=None, metavar="FILE")
    quiet: bool = option("output", "print warnings and errors only", default=False)

    identities: int = option("faces", "how many identities", default=40, metavar="N", minimum=1)
    samples_per_identity: int = option(
        "faces", "how many samples of each identity; the second identity has only a third of them",
        default=30, metavar="M", minimum=1)
    degraded: float = option(
        "faces", "the share of the samples with one degradation, from 0 to 1", default=0.5, metavar="SHARE",
        minimum=0, maximum=1, bounds="a share lies between {minimum} and {maximum}")
    seed: int = option("faces", "another seed, other people", default=0, **SEED)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        faces = self.identities * self.samples_per_identity
        if faces > MAX_FACES:
            raise RequestError(f"--identities x --samples-per-identity is {faces:,}: it is at most {MAX_FACES:,}")
        if self.contact_sheet is None:
            return
        if self.contact_sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise RequestError(f"--contact-sheet is {shown(self.contact_sheet)}: its name must end in .png or .jpg")
        if Path(os.path.realpath(self.contact_sheet)).is_relative_to(os.path.realpath(self.output)):
            sheet = shown(self.contact_sheet)
            raise RequestError(f"--contact-sheet is {sheet}: that lies among the faces, put it elsewhere")
