"""What the crops of an alignment are called, and where they lie: one of each photo, or one of every face."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from grafiqs.datasets.dataset import Sample
from grafiqs.disk import inside

EXTENSION = ".png"

_NUMBERED = re.compile(r"(.*_)[0-9]+", re.DOTALL)
"""What may be the name of a further crop: all before its number."""


class Crops:
    """The crops of a subset's samples, by the number of the face: the first has the name of its sample.

    The others have that name, `_`, and the number from 1 on; with more underscores where another sample, or a folder,
    has such a name already, so that no two crops share one, whatever faces there are.
    """

    def __init__(self, samples: Sequence[Sample], every_face: bool = False) -> None:
        self.every_face = every_face
        self._folders = {str(above) for sample in samples for above in PurePosixPath(path_of(sample)).parents}
        self._prefixes = _prefixes(samples, self._folders) if every_face else {}

    def of(self, sample: Sample, number: int = 0) -> Sample:
        """The crop of a face, as a sample of its own in the place of its photo's."""
        return replace(sample, name=f"{self._prefixes[sample]}{number}") if number else sample

    def path(self, sample: Sample, number: int = 0) -> str:
        """POSIX path of a crop, relative to the folder of all."""
        return path_of(self.of(sample, number))

    def is_folder(self, sample: Sample) -> bool:
        """Whether a folder of other samples has the name of a sample's crop: whichever of the two came first."""
        return path_of(sample) in self._folders

    def found(self, root: Path, sample: Sample, begin: int = 0) -> list[str]:
        """The crops of a sample that may lie in a folder, from the number `begin` on; the first may be missing."""
        paths = [self.path(sample)] if begin == 0 else []
        number = max(1, begin)
        while self.every_face and inside.size(root, self.path(sample, number)) is not None:
            paths.append(self.path(sample, number))
            number += 1
        return paths

    def remove(self, root: Path, sample: Sample, begin: int = 0) -> None:
        """Remove the crops of a sample from the number `begin` on, the last one first: so that none is left behind."""
        for path in reversed(self.found(root, sample, begin)):
            inside.remove(root, path)


def path_of(sample: Sample) -> str:
    """POSIX path of a crop, relative to the folder of all."""
    return _plain_path(sample) + EXTENSION


def _plain_path(sample: Sample) -> str:
    return f"{sample.identity}/{sample.name}" if sample.identity else sample.name


def _prefixes(samples: Sequence[Sample], folders: Iterable[str]) -> dict[Sample, str]:
    """What stands before the number in the names of a sample's further crops; no two samples share a path with it."""
    taken = set(_numbered(map(_plain_path, samples))) | set(_numbered(path.removesuffix(EXTENSION) for path in folders))
    prefixes = {}
    for sample in samples:
        underscores = "_"
        while _plain_path(sample) + underscores in taken:
            underscores += "_"
        taken.add(_plain_path(sample) + underscores)
        prefixes[sample] = sample.name + underscores
    return prefixes


def _numbered(paths: Iterable[str]) -> Iterator[str]:
    """What stands before the number in those paths that end with an underscore and one."""
    return (match[1] for match in map(_NUMBERED.fullmatch, paths) if match)
