"""What a data set holds, by names alone: its form is identified by its path, and no image is opened."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from grafiqs.datasets import lists
from grafiqs.datasets.archives import Archive
from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, Dataset, kinds
from grafiqs.datasets.folders import Folders
from grafiqs.datasets.image_file import ImageFile
from grafiqs.datasets.left_out import CONTAINERS, TABLES, UNPACKED_BY, LeftOut, nested
from grafiqs.datasets.lists import ListedFiles
from grafiqs.datasets.readings import Wanted
from grafiqs.datasets.records import Records
from grafiqs.datasets.shards import open_tars
from grafiqs.datasets.verification import VerificationSet
from grafiqs.datasets.zip_file import ZipFile
from grafiqs.disk.names import EXTENSIONS, extension, in_order, shown
from grafiqs.disk.utf8 import need_utf8
from grafiqs.errors import RequestError

_LISTS = ", ".join(f".{kind}" for kind in lists.EXTENSIONS)
_FORMS = (
    f"a folder of identity folders or of images, a list of images ({_LISTS}), a .zip or .tar of identity folders, "
    "webdataset's .tar shards, insightface's .rec or .bin, or one image"
)

_SHORT = ("tgz", "tbz2", "tbz", "txz", "tzst")
"""What .tar.gz and its like are called for short."""


def scan(
    place: Path,
    extensions: tuple[str, ...] = (),
    flat: bool = False,
    root: Path | None = None,
    path_column: str | None = None,
    identity_column: str | None = None,
    identity_depth: int | None = None,
) -> Dataset:
    """Open the data set at `place`: its identities are listed now, their samples when asked for.

    A folder with a `train.rec` in it is an insightface training set, and one of .tar files without images is
    webdataset's. `extensions` limits the samples to these file extensions (without the dot; "" for files without one;
    none: IMAGE_EXTENSIONS, or all that a list names). `flat` makes the whole data set one unnamed identity, as does a
    folder with images and no directories of images. `root` is where the paths in a list begin, `path_column` and
    `identity_column` which of its columns those and the identities are, by name or number from 1, or what names the
    identities in labels; `identity_depth` is the level of the folders that are identities (1: directly in `place`).
    Raises RequestError when there is no such data set, or when it cannot be listed or holds nothing.
    """
    need_utf8()
    if not os.path.exists(place):
        raise RequestError(f"the data set {shown(place)} does not exist or cannot be reached: check --image-path")
    if extension(place.name) not in lists.EXTENSIONS:
        for value, says in (
            (root, "--root says where the paths in a list begin"),
            (path_column, "--path-column says which column of a list has the paths"),
        ):
            if value is not None:
                raise RequestError(f"{says}, and {shown(place)} is not a list ({_LISTS})")
    if root is not None and not os.path.isdir(root):
        raise RequestError(f"--root {shown(root)} is not a folder that can be reached")
    wanted = frozenset(extensions) or IMAGE_EXTENSIONS
    if os.path.isfile(place / "train.rec"):
        place /= "train.rec"
    elif os.path.isdir(place):
        found = Folders(place, wanted, flat, identity_depth)
        if found.identities:
            _refuse_column(place, identity_column)
            return found
        shards = _shards_in(place)
        if shards:
            return open_tars(place, shards, wanted, flat, identity_depth, identity_column)
        place = _records_in(place, wanted, found.left_out)
    if not os.path.isfile(place):
        raise RequestError(f"the data set {shown(place)} is neither a folder nor a file: check --image-path")
    kind = extension(place.name)
    if kind in UNPACKED_BY or kind in ("7z", "rar"):
        raise RequestError(_unpack(place))
    if kind not in (*lists.EXTENSIONS, "tar"):
        _refuse_column(place, identity_column)
    if kind == "zip":
        return Archive(ZipFile(place), wanted, flat, identity_depth)
    if kind == "tar":
        return open_tars(place, ("",), wanted, flat, identity_depth, identity_column)
    if kind in lists.EXTENSIONS:
        wanted_columns = Wanted(path_column, identity_column, kind == "lst", flat, identity_depth)
        return ListedFiles(place, root, frozenset(extensions) or None, wanted_columns)
    if identity_depth is not None:
        raise RequestError(
            f"--identity-depth is the level of folders that are identities: {shown(place)} has no folders"
        )
    if kind in ("rec", "idx", "bin") and extensions:
        raise RequestError(f"--image-extension does not go with {shown(place)}, whose images have no names")
    match kind:
        case "rec":
            return Records(place, flat)
        case "idx":
            return Records(place.with_suffix(".rec"), flat)
        case "bin":
            return VerificationSet(place)
        case kind if kind in wanted:
            return ImageFile(place)
    raise RequestError(_of_no_known_kind(place, bool(extensions)))


def _refuse_column(place: Path, column: str | None) -> None:
    """Raise RequestError if a column is named for a data set that has none."""
    if column is not None:
        raise RequestError(
            f"--identity-column names a column of a list or a field of webdataset's labels: {shown(place)} has none"
        )


def _of_no_known_kind(place: Path, limited: bool) -> str:
    """What to do with a file that nothing takes; `limited` by --image-extension, perhaps."""
    kind, what = extension(place.name), f"the data set {shown(place)} is a file of no known kind"
    if kind in TABLES:
        return f"the data set {shown(place)} is a table that is not read: save it as CSV, and give that"
    if kind in IMAGE_EXTENSIONS and limited:
        return f"{what} here, as --image-extension does not name {kind}: name it, or leave that out"
    if kind in EXTENSIONS - {"npy"} - IMAGE_EXTENSIONS:
        return f"the data set {shown(place)} is a picture in a format that is not read: convert it to PNG or JPEG"
    named = shown(kind) if kind else "."
    if_so = f"if this is an image, give --image-extension {named}; if it is a list, call it .txt"
    return f"{what}: --image-path takes {_FORMS}; {if_so}"


def _unpack(place: Path) -> str:
    """How to make a data set of a compressed file."""
    kind = extension(place.name)
    if kind not in UNPACKED_BY:
        return f"{shown(place)} cannot be read in place: unpack it, and give the folder as --image-path"
    plain = place.with_name(place.name[: -len(kind) - 1] + (".tar" if kind in _SHORT else ""))
    return (
        f"{shown(place)} is compressed, and would be unpacked again for every image: unpack it once, by "
        f"`{UNPACKED_BY[kind]} {shlex.quote(shown(place))}`, and give {shown(plain)} as --image-path"
    )


def _shards_in(folder: Path) -> tuple[str, ...]:
    """The .tar files of a folder that holds no image, if there is no other data set in it."""
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    if any(extension(name) in CONTAINERS - {"tar"} for name in names):
        return ()
    return in_order(name for name in names if extension(name) == "tar")


def _records_in(folder: Path, extensions: frozenset[str], left_out: LeftOut) -> Path:
    """The one .rec file of a folder that holds no image."""
    found = [name for name in os.listdir(folder) if extension(name) == "rec"]
    if len(found) == 1:
        return folder / found[0]
    if found:
        raise RequestError(f"{shown(folder)} holds {len(found)} .rec files: give one of them as --image-path")
    inner = nested(Folders(folder, CONTAINERS, flat=True).images(""))
    empty = f"the data set {shown(folder)} holds no identity folder and no image ({kinds(extensions)})"
    raise RequestError(f"{empty}: {inner}" if inner else empty + left_out.instead())
