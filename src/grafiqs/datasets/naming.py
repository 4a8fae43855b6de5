"""How the samples of a list that names identities are called."""

from __future__ import annotations

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from grafiqs.disk.names import key, shown, without_extension
from grafiqs.errors import RequestError


def named(listed: Mapping[str, str | None], stated: Mapping[str, str], place: Path) -> dict[str, dict[str, str]]:
    """The locations of the list at `place`, by identity and path inside it.

    `listed` has the identity of each, or None, and `stated` the names that some samples have.

    A path counts from the folder of its identity on, if it leads through one, and else from the folder on that all
    paths of the identity lie in: neither where a list's paths begin nor its other identities change a name. If an
    identity has folders in several places, those above stand before, as `layout.arranged` has it. Names that are one in
    NFC are one identity.
    Raises RequestError when two paths would be one sample.
    """
    spelt: dict[str, str] = {}
    own: defaultdict[str, list[str]] = defaultdict(list)
    depths: Counter[int] = Counter()
    for location, name in listed.items():
        identity = spelt.setdefault(key(name or ""), name or "")
        own[identity].append(location)
        depths.update(depth for depth, folder in enumerate(location.split("/")[:-1]) if folder == identity)
    usual = min(depths, key=lambda depth: (-depths[depth], depth), default=0)
    found: dict[str, dict[str, str]] = {}
    for identity, locations in own.items():
        names = found[identity] = {}
        for location, inside in zip(locations, _inside(identity, locations, usual), strict=True):
            path = _path_of(stated[location], location) if location in stated else inside
            if names.setdefault(path, location) != location:
                raise RequestError(
                    f"{shown(place)} lists {shown(location)}, which would be the same sample of {shown(identity)} as "
                    f"{shown(names[path])}: leave one of them out"
                )
    return found


def _inside(identity: str, locations: Sequence[str], usual: int) -> list[str]:
    """The paths inside an identity, whose folder lies `usual`-ly so deep."""
    cut = [_cut(location.split("/"), identity, usual) for location in locations]
    above = {parent for parent, _ in cut if parent is not None}
    if any(parent is None for parent, _ in cut):
        common = _common(locations)
        return [location.removeprefix(common) for location in locations]
    common = _common(above)
    apart = len(above) > 1
    return [(parent or "").removeprefix(common) * apart + inside for parent, inside in cut]


def _cut(parts: list[str], identity: str, usual: int) -> tuple[str | None, str]:
    """The folders above the identity's own in a path, None if it has none, and what is behind it."""
    folders = parts[:-1]
    if identity not in folders:
        return None, ""
    depth = usual if folders[usual : usual + 1] == [identity] else folders.index(identity)
    return "".join(f"{folder}/" for folder in parts[:depth]), "/".join(parts[depth + 1 :])


def _common(paths: Iterable[str]) -> str:
    """The folder, with a slash, that all paths lie in; nothing if there is none."""
    common = os.path.commonpath([posixpath.dirname(path) for path in paths])
    return f"{common}/" if common else ""


def _path_of(sample: str, location: str) -> str:
    """The path that gives a sample this name."""
    ending = location[len(without_extension(location)) :]
    return sample if sample.endswith(ending) else sample + ending
