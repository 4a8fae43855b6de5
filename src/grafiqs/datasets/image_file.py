"""One image file: a data set of one."""

from __future__ import annotations

from pathlib import Path

from grafiqs.datasets.dataset import Dataset, Readable
from grafiqs.datasets.folders import Files, read_file


class ImageFile(Dataset):
    """One image file as the only sample of the unnamed identity."""

    form = "image"
    identities = ("",)

    def __init__(self, place: Path) -> None:
        self.place = place

    @property
    def root(self) -> Path:
        """The folder that the image lies in."""
        return self.place.parent

    def samples(self, identity: str) -> tuple[str, ...]:
        """The name of the file."""
        del identity
        return (self.place.name,)

    def read(self, location: str) -> bytes:
        """The bytes of the file. Raises UnreadableSampleError, with the reason."""
        return read_file(self.root / location)

    def reading(self) -> Readable:
        """The folder of the image."""
        return Files(self.root)
