"""Archives that tests make, and what data sets hold."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterable

from grafiqs.datasets.dataset import Dataset

Members = Iterable[tuple[str, bytes]]
"""Names, those of folders with a slash at the end, and what the files hold."""


class UnmarkedName(zipfile.ZipInfo):
    """A member whose name stands in the archive as the bytes it has on the disk, without the mark for UTF-8."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return os.fsencode(self.filename), self.flag_bits


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED, marked: bool = True) -> bytes:
    """A .zip file; its names are `marked` as UTF-8 where they are not ASCII, or not marked, as by `zip` and macOS."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            archive.writestr((zipfile.ZipInfo if marked else UnmarkedName)(name), data, method)
    return file.getvalue()


def tarred(members: Members, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A .tar file in one of tarfile's formats."""
    infos = []
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
        info.size = len(data)
        infos.append((info, data))
    return tar_of(infos, form)


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def contents(dataset: Dataset) -> dict[str, dict[str, bytes]]:
    """The bytes of every sample, by identity and path."""
    return {
        identity: {path: dataset.read(dataset.location(identity, path)) for path in dataset.samples(identity)}
        for identity in dataset.identities
    }
