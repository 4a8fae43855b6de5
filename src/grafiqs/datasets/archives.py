"""A .zip or .tar of identity folders, read in place."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, Protocol, TypeVar

from grafiqs.datasets.dataset import IMAGE_EXTENSIONS, Dataset, kinds
from grafiqs.datasets.layout import arranged
from grafiqs.datasets.left_out import CONTAINERS, LeftOut, nested
from grafiqs.datasets.members import Members
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError

Member = TypeVar("Member")


class Packed(Protocol[Member]):
    """An archive that was listed: ZipFile or TarFile."""

    form: str
    place: Path
    members: dict[str, Member]
    folders: dict[str, None]

    def read(self, member: Member) -> bytes:
        """The bytes of a member. Raises UnreadableSampleError, with the reason; OSError when the disk fails."""
        ...

    def refusal(self, images: list[Member]) -> str:
        """Why most of these images could not be read, and what to do; nothing if most can be."""
        ...


class Archive(Dataset, Generic[Member]):
    """The images in an archive; which folders are identities is told as in a folder (`layout.arranged`).

    Raises RequestError when it holds no image, or none that can be read.
    """

    def __init__(
        self,
        packed: Packed[Member],
        extensions: frozenset[str] = IMAGE_EXTENSIONS,
        flat: bool = False,
        depth: int | None = None,
    ) -> None:
        self.place, self.form = packed.place, packed.form
        self._packed = packed
        self._settings = (extensions, flat, depth)
        tree = Members(packed.members, packed.folders, extensions)
        self._left_out = tree.left_out
        self._arranged = arranged(tree, packed.place, flat, depth)
        self.identities, self.ignored = self._arranged.identities, self._arranged.ignored
        self.said = self._arranged.said
        if not self.identities:
            raise RequestError(_why_empty(packed, extensions, tree.left_out))
        refusal = packed.refusal([packed.members[path] for path in tree.images("")])
        if refusal:
            raise RequestError(f"{shown(self.place)} cannot be read in place: {refusal}")

    @property
    def left_out(self) -> LeftOut:
        """What the archive holds beside samples."""
        return self._left_out

    def samples(self, identity: str) -> tuple[str, ...]:
        """The images of one identity: POSIX paths inside it."""
        return self._arranged.samples(identity)

    def location(self, identity: str, path: str) -> str:
        """Where an image lies, relative to the folder that all images lie in."""
        return self._arranged.location(identity, path)

    def read(self, location: str) -> bytes:
        """The bytes of an image. Raises UnreadableSampleError, with the reason."""
        member = self._packed.members.get(self._arranged.top + location)
        if member is None:
            raise UnreadableSampleError("is not in the archive")
        try:
            return self._packed.read(member)
        except OSError as error:
            raise UnreadableSampleError(f"cannot be read: {error.strerror}") from error

    def __reduce__(self) -> tuple[object, ...]:
        return _opened, (type(self._packed), self.place, *self._settings)


def _opened(
    kind: type[Packed[Member]], place: Path, extensions: frozenset[str], flat: bool, depth: int | None
) -> Archive[Member]:
    """The archive as it was, in another process."""
    return Archive(kind(place), extensions, flat, depth)  # type: ignore[call-arg]  # both kinds take their place


def _why_empty(packed: Packed[Member], extensions: frozenset[str], left_out: LeftOut) -> str:
    """What to say of an archive without images."""
    empty = f"{shown(packed.place)} holds no image ({kinds(extensions)})"
    if not packed.members and not packed.folders:
        return f"{shown(packed.place)} is empty: there are no files in it; check --image-path"
    inner = nested(Members(packed.members, (), CONTAINERS).images(""), unpack=True)
    return f"{empty}: {inner}" if inner else f"{empty}{left_out.instead()}"
