"""The labels beside the images in webdataset's shards: which there are, and the identities that they name."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from grafiqs.datasets.layout import aside, is_sample
from grafiqs.datasets.readings import IDENTITIES, plain
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.datasets.tar_file import Extent, TarFile, read_extent
from grafiqs.disk.names import extension, shown
from grafiqs.errors import RequestError, UnreadableSampleError

log = logging.getLogger(__name__)

CLASS, RECORD = "cls", "json"
"""The kinds of labels: text, or a JSON object with the identity in one of its fields."""

_MOST = {CLASS: 2**12, RECORD: 2**20}
"""The most bytes of a label."""

_LONGEST = 255
"""The most bytes of an identity's name: it becomes a folder's."""

_FIELDS = 20
"""The most fields of a label that an error lists."""


class Labels:
    """The labels in `tars`: `key.cls` or `key.json` beside `key.jpg`, the key being the path up to the first dot of
    its last part; or, if there is none, beside an image whose name has more dots, the same with only its last
    extension off (`m.00abc_0.jpg`, `m.00abc_0.cls`). If no image has any of these, `key.output.cls` beside
    `key.input.png`, whatever stands between, if it is the same everywhere.

    `kind` is the ending of the labels that name the identities (`cls`, `json`, `output.cls`), or empty if none do, and
    `note` then says why. If there are both, .cls does. In a .json, it is the field `column`, or the only one that is
    called as identities are (`readings.IDENTITIES`). `ignored` counts images without a label as `rows` meets them.
    Raises RequestError when it cannot be told which label or field it is, or when there are labels and none lies
    beside an image, and no folders name identities.
    """

    def __init__(
        self, place: Path, tars: Mapping[str, TarFile], extensions: frozenset[str], column: str | None
    ) -> None:
        self.place, self.tars, self.extensions = place, tars, extensions
        self.kind = self.note = ""
        self.ignored = self.images = 0
        self._column = column
        self._first: dict[str, tuple[str, str]] = {}
        if column is None and not any(map(_is_label, chain.from_iterable(tar.members for tar in tars.values()))):
            return
        folders: set[str] = set()
        for shard, tar in tars.items():
            labels, images = self._members(tar)
            self.images += len(images)
            folders.update(image.rpartition("/")[0] for image in images)
            self._find(shard, labels, images)
        if not self._first:
            self._find_others()
        classes, records = self._endings(CLASS), self._endings(RECORD)
        if column is not None and _kind(column) == CLASS:
            self.kind = column
        elif column is not None:
            self.kind = self._only(records) or RECORD
        elif classes:
            self.kind = self._only(classes)
        elif len(records) > 1 and RECORD not in records and "" not in folders:
            self.note = f"the labels beside the images are not read: {_listed([f'.{ending}' for ending in records])}"
        elif records:
            self.kind = self._only(records)
            self._choose("" not in folders)
        elif self.images:
            self._refuse_strays("" not in folders and len(folders) > 1)
        if self.kind and self.kind not in self._first:
            others = f"; what they have: {_listed([f'.{ending}' for ending in self._first])}" if self._first else ""
            raise RequestError(
                f"--identity-column {shown(column)}: no image in {shown(place)} has a .{shown(self.kind)} beside "
                f"it{others}"
            )

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Every labelled image: shard, member, identity, and the member's path without the identity's folder.

        Raises RequestError for a label that cannot be read, or names what cannot be an identity.
        """
        for shard, tar in self.tars.items():
            identities: dict[str, str | None] = {}
            labels, images = self._members(tar)
            with closing(SharedFile(tar.place)) as file:
                for member in images:
                    label = _beside(labels, member, self.kind)
                    if label is not None and label not in identities:
                        identities[label] = self._identity(tar, label, file, tar.members[label])
                    identity = None if label is None else identities[label]
                    if identity is None:
                        self.ignored += 1
                    else:
                        yield shard, member, identity, member.removeprefix(f"{identity}/")

    def check(self, identities: int) -> None:
        """What is to be said of the labels once all are read.

        Raises RequestError if fewer than half of the images have one; a warning is logged if no two share one.
        """
        labelled = self.images - self.ignored
        if 2 * labelled < self.images:
            raise RequestError(
                f"only {labelled} of {self.images} images in {shown(self.place)} have {self._called()}: "
                f"{self._fields()}--identity-depth 1 takes their folders as identities, --flat-structure all as one"
            )
        if labelled == identities > 1:
            log.warning(
                "warning: every image in %s has another %s: that may not be its identity (--identity-column)",
                *(shown(self.place), self._called()),
            )

    def said(self) -> str:
        """How the identities were told, for the log."""
        is_class = _kind(self.kind) == CLASS
        beside = f" (--identity-column: a field of their .{RECORD})" if is_class and self._endings(RECORD) else ""
        return (
            f"webdataset, {len(self.tars)} .tar with {self.images} images: the identity is {self._called()}{beside}; "
            "--identity-depth 1 takes the folders in them"
        )

    def others(self) -> Iterator[str]:
        """The members that are neither images nor labels beside some."""
        for tar in self.tars.values():
            labels, images = self._members(tar)
            beside = {_beside(labels, image, ending) for image in images for ending in self._first}
            for member in tar.members:
                if member not in beside and aside(member) is None and not is_sample(member, self.extensions):
                    yield member

    def _members(self, tar: TarFile) -> tuple[dict[str, str], list[str]]:
        """The .cls and .json of a .tar, by their paths with the extension in lower case, and its images."""
        labels, images = {}, []
        for member in tar.members:
            if is_sample(member, self.extensions):
                images.append(member)
            elif _is_label(member):
                stem, _, kind = member.rpartition(".")
                labels[f"{stem}.{kind.lower()}"] = member
        return labels, images

    def _find(self, shard: str, labels: dict[str, str], images: list[str]) -> None:
        """Note the first label of each kind that lies beside an image."""
        asked = self._column if self._column is not None and _kind(self._column) == CLASS else CLASS
        for ending in dict.fromkeys((*_MOST, asked)):
            if ending not in self._first:
                found = (label for image in images if (label := _beside(labels, image, ending)) is not None)
                if (first := next(found, None)) is not None:
                    self._first[ending] = shard, first

    def _find_others(self) -> None:
        """Note the first label of each kind that has more than its extension behind its key, if that is an image's."""
        for shard, tar in self.tars.items():
            labels, images = self._members(tar)
            keys = {key_of(image) for image in images}
            for path, member in labels.items():
                if (key := key_of(path)) in keys:
                    self._first.setdefault(path[len(key) + 1 :], (shard, member))

    def _endings(self, kind: str) -> list[str]:
        """The endings of labels of one kind that there are beside images."""
        return [ending for ending in self._first if _kind(ending) == kind]

    def _only(self, endings: list[str]) -> str:
        """The one ending of labels, if there are some. Raises RequestError for several, none of which is plain."""
        plain = [ending for ending in endings if ending in _MOST]
        if len(endings) > 1 and not plain:
            raise RequestError(
                f"the images in {shown(self.place)} have several labels: {_listed([f'.{each}' for each in endings])}: "
                f"name one that ends with .{CLASS} by --identity-column, or take the folders as identities by "
                "--identity-depth 1, all images as one by --flat-structure"
            )
        return next(iter(plain or endings), "")

    def _refuse_strays(self, in_folders: bool) -> None:
        """Raise RequestError for labels that lie beside no image, unless they may be about folders of images."""
        strays = [
            member for tar in self.tars.values() for member in tar.members if _is_label(member) and not aside(member)
        ]
        if in_folders:
            strays = [member for member in strays if extension(member) == CLASS]
        if strays:
            raise RequestError(
                f"{shown(self.place)} holds {len(strays)} .{CLASS} or .{RECORD} (such as {shown(strays[0])}), and no "
                f"image has one of its name beside it ({CLASS} or {RECORD} for jpg): name them as the images, or leave "
                "the labels unread by --identity-depth 1, which takes folders as identities, or --flat-structure, all "
                "images as one"
            )

    def _choose(self, in_folders: bool) -> None:
        """Tell the field of the identity by the first label."""
        fields = self._first_fields()
        known = [name for name in fields if plain(name) in IDENTITIES]
        if len(known) == 1:
            self._column = known[0]
        elif known or not in_folders:
            which = f"several fields that may be the identity ({_listed(known)})" if known else "no known field for it"
            raise RequestError(
                f"the .{RECORD} beside the images in {shown(self.place)} have {which}: {self._fields()}name it by "
                "--identity-column, or take all images as one by --flat-structure"
            )
        else:
            self.kind = ""
            self.note = (
                f"the .{RECORD} beside the images name no identity, and are not read ({self._fields()}"
                "--identity-column takes one)"
            )

    def _first_fields(self) -> dict[str, Any]:
        kinds = self._endings(RECORD)
        shard, member = self._first[RECORD if RECORD in kinds else kinds[0]]
        tar = self.tars[shard]
        with closing(SharedFile(tar.place)) as file:
            return self._record(tar, member, file, tar.members[member])

    def _fields(self) -> str:
        """The fields of the first .json, as the beginning of a sentence."""
        return f"its fields are {_listed(list(self._first_fields()))}; " if self._endings(RECORD) else ""

    def _called(self) -> str:
        kind = f"the .{shown(self.kind)}"
        return kind if _kind(self.kind) == CLASS else f"the field {shown(self._column)} of {kind}"

    def _identity(self, tar: TarFile, member: str, file: SharedFile, extent: Extent) -> str | None:
        """The identity that a label names; None if its field is not there."""
        if _kind(self.kind) == CLASS:
            value: Any = self._text(tar, member, file, extent)
        else:
            value = self._record(tar, member, file, extent).get(self._column or "")
        if value is None:
            return None
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        name = value.strip() if isinstance(value, str) else ""
        if name in ("", ".", "..") or "/" in name or not name.isprintable() or len(name.encode()) > _LONGEST:
            raise RequestError(
                f"{shown(tar.place)}: {shown(member)} says {shown(repr(value)[:80])}, which cannot be the name of an "
                "identity: mend it, or take the folders by --identity-depth 1"
            )
        return name

    def _record(self, tar: TarFile, member: str, file: SharedFile, extent: Extent) -> dict[str, Any]:
        """The JSON object in a member."""
        text = self._text(tar, member, file, extent)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unreadable(tar, member, f"is not JSON ({shown(error)})") from error
        if not isinstance(found, dict):
            raise _unreadable(tar, member, "is no JSON object")
        return found

    def _text(self, tar: TarFile, member: str, file: SharedFile, extent: Extent) -> str:
        """The text in a member."""
        most = _MOST[extension(member)]
        if extent[1] > most:
            raise _unreadable(tar, member, f"has {extent[1]:,} bytes, more than {most:,}")
        try:
            return read_extent(file, extent).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _unreadable(tar, member, "is not text in UTF-8") from error
        except (UnreadableSampleError, OSError) as error:
            raise _unreadable(tar, member, f"cannot be read ({error})") from error


def _unreadable(tar: TarFile, member: str, why: str) -> RequestError:
    return RequestError(
        f"{shown(tar.place)}: {shown(member)}, the label of an image, {why}: mend it, or take the folders by "
        "--identity-depth 1"
    )


def _is_label(member: str) -> bool:
    return member[-5:].lower().endswith((".cls", ".json"))


def _kind(ending: str) -> str:
    """The extension of a label's ending: 'output.cls' -> 'cls'."""
    return ending.rpartition(".")[2]


def key_of(member: str) -> str:
    """The key of a member, its path up to the first dot of its last part: 'a/b.left.JPG' -> 'a/b'."""
    folder, slash, name = member.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _beside(labels: Mapping[str, str], image: str, ending: str) -> str | None:
    """The label with this ending that lies beside an image: that of its key, or else of its name with all its dots."""
    return labels.get(f"{key_of(image)}.{ending}") or labels.get(f"{image.rpartition('.')[0]}.{ending}")


def _listed(names: list[str]) -> str:
    """Some names of fields, for people."""
    rest = f" and {len(names) - _FIELDS} more" if len(names) > _FIELDS else ""
    return ", ".join(shown(name)[:60] for name in names[:_FIELDS]) + rest
