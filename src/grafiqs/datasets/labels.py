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
from grafiqs.datasets.readings import IDENTITIES
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.datasets.tar_file import Extent, TarFile, read_extent
from grafiqs.disk.names import shown
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
    its last part.

    `kind` is that of the labels that name the identities, or empty if none do, and `note` then says why. If there are
    both, .cls does. In a .json, it is the field `column`, or the only one that is called as identities are
    (`lists.IDENTITIES`). `ignored` counts images without a label as `rows` meets them.
    Raises RequestError when it cannot be told which field it is, and no folders name identities.
    """

    def __init__(
        self, place: Path, tars: Mapping[str, TarFile], extensions: frozenset[str], column: str | None
    ) -> None:
        self.place, self.tars, self.extensions = place, tars, extensions
        self.kind = self.note = ""
        self.ignored = self.images = 0
        self._column = column
        self._counts = dict.fromkeys(_MOST, 0)
        self._first: dict[str, tuple[str, str]] = {}
        if column is None and not any(map(_is_label, chain.from_iterable(tar.members for tar in tars.values()))):
            return
        in_folders = True
        for shard, tar in tars.items():
            keys = set()
            for member in tar.members:
                if is_sample(member, extensions):
                    keys.add(_split(member)[0])
                    self.images += 1
                    in_folders = in_folders and "/" in member
            for member in tar.members:
                key, ending = _split(member)
                if ending in _MOST and key in keys:
                    self._counts[ending] += 1
                    self._first.setdefault(ending, (shard, member))
        if column == CLASS or (column is None and self._counts[CLASS]):
            self.kind = CLASS
        elif column is not None:
            self.kind = RECORD
        elif self._counts[RECORD]:
            self._choose(in_folders)
        if self.kind and not self._counts[self.kind]:
            raise RequestError(
                f"--identity-column {shown(column)}: no image in {shown(place)} has a .{self.kind} beside it"
            )

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Every labelled image: shard, member, identity, and the member's path without the identity's folder.

        Raises RequestError for a label that cannot be read, or names what cannot be an identity.
        """
        for shard, tar in self.tars.items():
            identities: dict[str, str] = {}
            keys = {_split(member)[0] for member in tar.members if is_sample(member, self.extensions)}
            with closing(SharedFile(tar.place)) as file:
                for member, extent in tar.members.items():
                    key, ending = _split(member)
                    if ending == self.kind and key in keys:
                        identity = self._identity(tar, member, file, extent)
                        if identity is not None:
                            identities[key] = identity
            for member in tar.members:
                if not is_sample(member, self.extensions):
                    continue
                identity = identities.get(_split(member)[0])
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
        beside = (
            f" (--identity-column: a field of their .{RECORD})" if self._counts[RECORD] and self.kind == CLASS else ""
        )
        return (
            f"webdataset, {len(self.tars)} .tar with {self.images} images: the identity is {self._called()}{beside}; "
            "--identity-depth 1 takes the folders in them"
        )

    def others(self) -> Iterator[str]:
        """The members that are neither images nor labels beside some."""
        for tar in self.tars.values():
            keys = {_split(member)[0] for member in tar.members if is_sample(member, self.extensions)}
            for member in tar.members:
                key, ending = _split(member)
                is_label = ending in _MOST and key in keys
                if not is_label and aside(member) is None and not is_sample(member, self.extensions):
                    yield member

    def _choose(self, in_folders: bool) -> None:
        """Tell the field of the identity by the first label."""
        fields = self._first_fields()
        known = [name for name in fields if name.lower().replace(" ", "_").replace("-", "_") in IDENTITIES]
        if len(known) == 1:
            self.kind, self._column = RECORD, known[0]
        elif known or not in_folders:
            which = f"several fields that may be the identity ({_listed(known)})" if known else "no known field for it"
            raise RequestError(
                f"the .{RECORD} beside the images in {shown(self.place)} have {which}: {self._fields()}name it by "
                "--identity-column, or take all images as one by --flat-structure"
            )
        else:
            self.note = (
                f"the .{RECORD} beside the images name no identity, and are not read ({self._fields()}"
                "--identity-column takes one)"
            )

    def _first_fields(self) -> dict[str, Any]:
        shard, member = self._first[RECORD]
        tar = self.tars[shard]
        with closing(SharedFile(tar.place)) as file:
            return self._record(tar, member, file, tar.members[member])

    def _fields(self) -> str:
        """The fields of the first .json, as the beginning of a sentence."""
        return f"its fields are {_listed(list(self._first_fields()))}; " if RECORD in self._first else ""

    def _called(self) -> str:
        return "the .cls" if self.kind == CLASS else f"the field {shown(self._column)} of the .{RECORD}"

    def _identity(self, tar: TarFile, member: str, file: SharedFile, extent: Extent) -> str | None:
        """The identity that a label names; None if its field is not there."""
        if self.kind == CLASS:
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
        most = _MOST[_split(member)[1]]
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


def _split(member: str) -> tuple[str, str]:
    """The key of a member, and what stands behind its dot, in lower case: 'a/b.left.JPG' -> 'a/b', 'left.jpg'."""
    folder, slash, name = member.rpartition("/")
    key, _, ending = name.partition(".")
    return folder + slash + key, ending.lower()


def _listed(names: list[str]) -> str:
    """Some names of fields, for people."""
    rest = f" and {len(names) - _FIELDS} more" if len(names) > _FIELDS else ""
    return ", ".join(shown(name)[:60] for name in names[:_FIELDS]) + rest
