"""What a data set holds, by names alone: its form is identified by its path, and no image is opened."""

from __future__ import annotations

import os
from pathlib import Path

from grafiqs.datasets import lists
from grafiqs.datasets.archives import TarArchive, ZipArchive
from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, Dataset
from grafiqs.datasets.folders import Folders
from grafiqs.datasets.lists import ListedFiles
from grafiqs.datasets.readings import Wanted
from grafiqs.datasets.records import Records
from grafiqs.datasets.verification import VerificationSet
from grafiqs.disk.names import extension, shown
from grafiqs.disk.utf8 import need_utf8
from grafiqs.errors import RequestError

_LISTS = ", ".join(f".{kind}" for kind in lists.EXTENSIONS)
_FORMS = (
    f"a folder of identity folders or of images, a list of images ({_LISTS}), a .zip or .tar of identity folders, "
    "or insightface's .rec or .bin"
)


def scan(
    place: Path,
    extensions: tuple[str, ...] = (),
    flat: bool = False,
    root: Path | None = None,
    path_column: str | None = None,
    identity_column: str | None = None,
) -> Dataset:
    """Open the data set at `place`: its identities are listed now, their samples when asked for.

    A folder with a `train.rec` in it is an insightface training set. `extensions` limits the samples to these file
    extensions (without the dot; none: IMAGE_EXTENSIONS, or all that a list names). `flat` makes the whole data set one
    unnamed identity, as does a folder with images and no directories. `root` is where the paths in a list begin, and
    `path_column` and `identity_column` say, by name or number from 1, which of its columns those are.
    Raises RequestError when there is no such data set, or when it cannot be listed or holds nothing.
    """
    need_utf8()
    if not os.path.exists(place):
        raise RequestError(f"the data set {shown(place)} does not exist or cannot be reached: check --image-path")
    if extension(place.name) not in lists.EXTENSIONS:
        for value, says in (
            (root, "--root says where the paths in a list begin"),
            (path_column, "--path-column says which column of a list has the paths"),
            (identity_column, "--identity-column says which column of a list has the identities"),
        ):
            if value is not None:
                raise RequestError(f"{says}, and {shown(place)} is not a list ({_LISTS})")
    if root is not None and not os.path.isdir(root):
        raise RequestError(f"--root {shown(root)} is not a folder that can be reached")
    wanted = frozenset(extensions) or IMAGE_EXTENSIONS
    if os.path.isfile(place / "train.rec"):
        place /= "train.rec"
    elif os.path.isdir(place):
        found = Folders(place, wanted, flat)
        if found.identities:
            return found
        place = _records_in(place, wanted)
    if not os.path.isfile(place):
        raise RequestError(f"the data set {shown(place)} is neither a folder nor a file: check --image-path")
    match extension(place.name):
        case kind if kind in lists.EXTENSIONS:
            said = Wanted(path_column, identity_column, kind == "lst", flat)
            return ListedFiles(place, root, frozenset(extensions) or None, said)
        case "zip":
            return ZipArchive(place, wanted, flat)
        case "tar":
            return TarArchive(place, wanted, flat)
        case "gz" | "bz2" | "xz" | "zst" | "tgz" | "tbz2" | "txz" | "7z" | "rar":
            raise RequestError(f"{shown(place)} cannot be read in place: unpack it, or pack it again as .zip or .tar")
        case "rec" | "idx" | "bin" if extensions:
            raise RequestError(f"--image-extension does not go with {shown(place)}, whose images have no names")
        case "rec":
            return Records(place, flat)
        case "idx":
            return Records(place.with_suffix(".rec"), flat)
        case "bin":
            return VerificationSet(place)
    raise RequestError(f"the data set {shown(place)} is a file of no known kind: --image-path takes {_FORMS}")


def _records_in(folder: Path, extensions: frozenset[str]) -> Path:
    """The one .rec file of a folder that holds no identity folder and no image."""
    found = [name for name in os.listdir(folder) if extension(name) == "rec"]
    if len(found) == 1:
        return folder / found[0]
    if found:
        raise RequestError(f"{shown(folder)} holds {len(found)} .rec files: give one of them as --image-path")
    kinds = shown(", ".join(sorted(extensions)))
    raise RequestError(
        f"the data set {shown(folder)} holds no identity folder and no image ({kinds}): check --image-path"
    )
