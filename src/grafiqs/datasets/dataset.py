"""What every data set gives, whatever it lies in: names at hand, and the bytes of a sample when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from grafiqs.datasets.left_out import LeftOut
from grafiqs.disk.names import shown

IMAGE_EXTENSIONS = frozenset(
    ("apng", "avif", "bmp", "dib", "gif", "j2c", "j2k", "jfif", "jif", "jp2", "jpc", "jpe", "jpeg", "jpf", "jpg",
     "jpx", "mpo", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp")
)  # fmt: skip
"""The file extensions that make a file a sample, in lower case; files are matched in either case."""

MAX_BYTES = 2**28
"""A sample with more bytes is refused before it is read."""

MAX_PATH = 4096
"""A path with more characters is not a sample's: no file system takes it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: its identity, its name, unique within the identity, and its POSIX path relative to the data set."""

    identity: str
    name: str
    location: str


class Pair(NamedTuple):
    """Two samples that a data set wants compared, by location, and whether they are of the same identity."""

    first: str
    second: str
    same: bool


class Readable(Protocol):
    """What gives the bytes of samples, from several threads and forked processes at once. It can be pickled."""

    def read(self, location: str) -> bytes:
        """The encoded image, as it is stored. Raises UnreadableSampleError, with the reason."""

    def reading(self) -> Readable:
        """What reads the same in another process, with as little to send there as can be."""
        return self


class Dataset(Readable, Protocol):
    """A face data set: identities, their samples, and what each sample holds.

    `place` is the file or folder it was opened from; `form` what it is, in words; `root` what locations are
    relative to, for people. `identities` are in code-point order of their NFC names, or the one unnamed identity ("").
    `ignored` counts images that belong to no identity, and `left_out` what was met beside images. `said` states how it
    was read where that could have been otherwise, as one line for the log, or is empty.
    """

    form: str
    place: Path
    identities: tuple[str, ...]
    ignored: int = 0
    pairs: Sequence[Pair] = ()
    said: str = ""

    @property
    def root(self) -> Path:
        """What a location is relative to."""
        return self.place

    @property
    def left_out(self) -> LeftOut:
        """What was met so far that is no sample."""
        return LeftOut()

    def samples(self, identity: str) -> tuple[str, ...]:
        """The samples of one identity: POSIX paths inside it, in code-point order (NFC).

        Raises RequestError when they cannot be listed.
        """

    def location(self, identity: str, path: str) -> str:
        """Where a sample lies: a POSIX path relative to the data set."""
        return f"{identity}/{path}" if identity else path


def too_large(size: int) -> str:
    """Why a sample of so many bytes is not read."""
    return f"the file has {size:,} bytes, more than {MAX_BYTES:,}"


def kinds(extensions: frozenset[str]) -> str:
    """The extensions that samples may have, for people."""
    return shown(", ".join(sorted(extension or "without extension" for extension in extensions)))
