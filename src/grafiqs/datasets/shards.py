"""webdataset's shards: the images in one or several .tar files, which share their names with labels."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from grafiqs.datasets.archives import Archive
from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, Dataset, Readable, kinds
from grafiqs.datasets.labels import Labels, key_of
from grafiqs.datasets.layout import Arrangement, arranged, is_sample
from grafiqs.datasets.left_out import LeftOut
from grafiqs.datasets.members import Members
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.datasets.tar_file import Extent, TarFile, read_extent
from grafiqs.disk.names import in_order, shown
from grafiqs.errors import RequestError, UnreadableSampleError

log = logging.getLogger(__name__)

_Row = tuple[str, str, str, str]
"""A sample as it is found: shard, member, identity, path inside that."""


def open_tars(
    place: Path,
    shards: Sequence[str] = ("",),
    extensions: frozenset[str] = IMAGE_EXTENSIONS,
    flat: bool = False,
    depth: int | None = None,
    column: str | None = None,
) -> Dataset:
    """The data set in the .tar at `place`, or in those that are called `shards` in the folder `place`, taken together.

    The identities are the labels beside the images, if there are any (`labels.Labels`), `column` saying which; or, with
    `flat` or a `depth` too, the folders, told as in a folder. Raises RequestError when that cannot be told.
    """
    tars = {}
    for shard in shards:
        tars[shard] = TarFile(place / shard)
        if shard:
            tars[shard].close()  # there may be more shards than files that may be open
    if column is not None and (flat or depth is not None):
        raise RequestError("--identity-column names a label: with --flat-structure or --identity-depth none is read")
    by_folder = flat or depth is not None
    labels = None if by_folder else Labels(place, tars, extensions, column)
    if labels is not None and labels.kind:
        found = Shards(place, tars, labels.rows())
        found.ignored, found.said = labels.ignored, labels.said()
        found.left_out.add(labels.others())
        labels.check(len(found.identities))
        return found
    note = "" if labels is None else labels.note
    if shards == ("",):
        archive = Archive(tars[""], extensions, flat, depth)
        archive.said = "; ".join(filter(None, (archive.said, note)))
        if archive.identities == ("",) and not flat:
            _warn_of_bare_images(place, tars, extensions)
        return archive
    return _together(place, tars, extensions, flat, depth, note)


class Shards(Dataset):
    """The images in one or several .tar files, as `rows` name them.

    If several shards have a sample of one name for an identity, the name of the shard stands before it. A location is
    the member's path, behind the shard if `place` is a folder of them. Raises RequestError for samples that cannot be
    told apart.
    """

    form = "webdataset"

    def __init__(
        self, place: Path, tars: dict[str, TarFile], rows: Iterable[_Row], identities: Iterable[str] = ()
    ) -> None:
        self.place = place
        self._left_out = LeftOut()
        self._extents: dict[str, tuple[str, Extent]] = {}
        self._samples: dict[str, dict[str, str]] = {identity: {} for identity in identities}
        found: defaultdict[str, defaultdict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
        for shard, member, identity, inside in rows:
            found[identity][inside].append((shard, member))
        for identity, samples in found.items():
            own = self._samples[identity] = {}
            for inside, places in samples.items():
                for shard, member in places:
                    name = inside if len(places) == 1 else f"{shard.removesuffix('.tar')}/{inside}"
                    location = f"{shard}/{member}" if shard else member
                    if own.setdefault(name, location) != location:
                        raise RequestError(
                            f"{shown(place)}: {shown(location)} would be the same sample of {shown(identity)} as "
                            f"{shown(own[name])}: leave one of them out"
                        )
                    self._extents[location] = shard, tars[shard].members[member]
        self.identities = in_order(self._samples)

    @property
    def left_out(self) -> LeftOut:
        """What the shards hold beside images and labels."""
        return self._left_out

    def samples(self, identity: str) -> tuple[str, ...]:
        """The samples of one identity, in order."""
        return in_order(self._samples[identity])

    def location(self, identity: str, path: str) -> str:
        """The shard, and the member in it."""
        return self._samples[identity][path]

    def read(self, location: str) -> bytes:
        """The bytes of an image. Raises UnreadableSampleError, with the reason."""
        return self.reading().read(location)

    def reading(self) -> Readable:
        """Where the members lie, without their samples."""
        return _Members(self.place, self._extents)


@dataclass(frozen=True)
class _Members(Readable):
    """Members of shards, by location. A shard is opened for each, so that any number of shards can be read."""

    place: Path
    extents: dict[str, tuple[str, Extent]]

    def read(self, location: str) -> bytes:
        """The bytes of a member. Raises UnreadableSampleError, with the reason."""
        if location not in self.extents:
            raise UnreadableSampleError("is not in the shards")
        shard, extent = self.extents[location]
        try:
            with closing(SharedFile(self.place / shard)) as file:
                return read_extent(file, extent)
        except OSError as error:
            raise UnreadableSampleError(f"cannot be read: {error.strerror}") from error


def _together(
    place: Path, tars: dict[str, TarFile], extensions: frozenset[str], flat: bool, depth: int | None, note: str
) -> Shards:
    """Several .tar files without labels: one tree of folders."""
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for shard, tar in tars.items():
        for member in tar.members:
            holders[member].append(shard)
    tree = Members(holders, {folder for tar in tars.values() for folder in tar.folders}, extensions)
    told = arranged(tree, place, flat, depth)
    if not told.identities:
        raise RequestError(
            f"the {len(tars)} .tar files in {shown(place)} hold no image ({kinds(extensions)}){tree.left_out.instead()}"
        )
    found = Shards(place, tars, _rows(told, holders), told.identities)
    found.ignored = told.ignored
    found.left_out.files, found.left_out.folders = tree.left_out.files, tree.left_out.folders
    several = f"{len(tars)} .tar files without labels in {shown(place)} are read as one"
    first = several if len(tars) > 1 else f"the one .tar file in {shown(place)} has no labels"
    found.said = "; ".join(filter(None, (first, note, told.said)))
    if told.identities == ("",) and not flat:
        _warn_of_bare_images(place, tars, extensions)
    return found


def _warn_of_bare_images(place: Path, tars: dict[str, TarFile], extensions: frozenset[str]) -> None:
    """Say that nothing names identities, and what lies beside every image, if anything does, as it may be labels."""
    what = f"{len(tars)} .tar files" if len(tars) > 1 else shown(place / next(iter(tars)))
    beside = ", ".join(f".{shown(ending)}" for ending in _beside_every_image(tars, extensions))
    log.warning(
        "warning: the images in %s lie in no folders and have no labels (.cls or .json): all are one unnamed identity. "
        "%s%s--flat-structure confirms",
        what,
        f"Each has a file beside it that is not read as a label ({beside}): if that names its identity, call it .cls. "
        * bool(beside),
        "If each .tar is an identity, unpack each into a folder of its name; " * (len(tars) > 1),
    )


def _beside_every_image(tars: dict[str, TarFile], extensions: frozenset[str]) -> list[str]:
    """The endings that files with the name, or the key, of an image have, if there are as many as images."""
    images = 0
    endings: Counter[str] = Counter()
    for tar in tars.values():
        names: set[str] = set()
        for member in tar.members:
            if is_sample(member, extensions):
                images += 1
                names.update((member.rpartition(".")[0], key_of(member)))
        for member in tar.members:
            if not is_sample(member, extensions):
                name = next((name for name in (member.rpartition(".")[0], key_of(member)) if name in names), None)
                if name is not None:
                    endings[member[len(name) + 1 :]] += 1
    return sorted(ending for ending, count in endings.items() if count >= images)


def _rows(told: Arrangement, holders: dict[str, list[str]]) -> Iterator[_Row]:
    """The samples that folders tell, each in every shard that has it."""
    for identity in told.identities:
        for inside in told.samples(identity):
            member = told.top + told.location(identity, inside)
            for shard in holders[member]:
                yield shard, member, identity, inside
