"""What a file is that is no checkpoint: each kind by its name, told by its content, with what to do about it."""

from __future__ import annotations

import codecs
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice

from grafiqs.disk.names import shown
from grafiqs.disk.unfetched import is_page, pointer

_CHECKPOINT = "get the PyTorch checkpoint (.pth, .pt, .ckpt or .safetensors) of that network"
_UNPACK = "unpack it, and give the checkpoint in it"

_STARTS = (
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras and TensorFlow write them: {_CHECKPOINT}"),
    (b"\x12\x01\x00\x00\x00\x00\x00\x00", f"a .params file of MXNet: {_CHECKPOINT}"),
    (b"\x93NUMPY", f"an array of NumPy: {_CHECKPOINT}"),
    (b"\x1f\x8b", f"a gzip archive: {_UNPACK}"),
    (b"\xfd7zXZ\x00", f"an xz archive: {_UNPACK}"),
    (b"BZh", f"a bzip2 archive: {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive: {_UNPACK}"),
    (b"7767517\n", f"a network of ncnn: {_CHECKPOINT}"),
)
"""What files of one kind begin with."""

_INDEX_SIZE = 10_000_000
"""In bytes: texts in JSON are shorter."""

_ONNX = (
    "an ONNX network, in which the statistics of BatchNorm2d are folded into weights: GraFIQs cannot be computed from "
    f"it; {_CHECKPOINT}"
)
_LEVELDB = bytes.fromhex("57fb808b247547db")
"""What ends the index of a TensorFlow checkpoint."""

_EXPORTED = ("/archive_format", "serialized_exported_program.json")
"""What a program of torch.export holds, in newer and older archives."""

_LONGEST_HEADER = 100_000_000
"""In bytes: safetensors takes no longer ones."""

_MOST_FIELDS = 100_000
"""As many parts of a protobuf message are looked at: networks have a few thousand."""

_WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".tar", ".onnx", ".h5")


def what_else(data: bytes) -> str | None:
    """What a file is, with advice, if it is of another kind than a checkpoint of tensors; None if it may be one."""
    if not data:
        return "empty: get the file again"
    for start, what in _STARTS:
        if data.startswith(start):
            return what
    tests: tuple[Callable[[bytes], str | None], ...] = (_page, pointer, _json, _zip, _tar, _flat, _protobuf)
    return next((found for test in tests if (found := test(data))), None)


def is_safetensors(data: bytes) -> bool:
    """Whether a file begins as .safetensors does: with the length of its header, and a brace."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < _LONGEST_HEADER


def _page(data: bytes) -> str | None:
    page = "a web page or other text in tags, which was saved in the place of the file: get the file again"
    return page if is_page(data) else None


def _json(data: bytes) -> str | None:
    start = data[:64].removeprefix(codecs.BOM_UTF8).lstrip()
    if not start.startswith((b"{", b"[")) or len(data) >= _INDEX_SIZE:
        return None
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    shards = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(shards, dict) or not shards:
        return "a text in JSON, such as servers answer in the place of a file: get the file again"
    names = sorted({shown(str(name)) for name in shards.values()})
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    what = "give that" if len(names) == 1 else "put their tensors together in one file, and give that"
    return f"the index of a checkpoint whose tensors are in {listed}: {what}"


def _zip(data: bytes) -> str | None:
    if not data.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - damaged and hostile archives fail in every way there is
        return None
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        return (
            "a TorchScript archive, whose code runs when it is opened: on a machine where you trust it, save its "
            "state_dict alone (torch.save(torch.jit.load(FILE, 'cpu').state_dict(), 'weights.pth'))"
        )
    if any(name.endswith(_EXPORTED) for name in names):
        return (
            "a program of torch.export: on a machine where you trust it, save its state_dict alone "
            "(torch.save(dict(torch.export.load(FILE).state_dict), 'weights.pth'))"
        )
    if any(name.endswith("data.pkl") for name in names):
        return None
    if any(name.endswith(".weights.h5") for name in names):
        return f"a .keras archive: {_CHECKPOINT}"
    if names and all(name.endswith(".npy") for name in names):
        return f"an .npz archive of NumPy: {_CHECKPOINT}"
    inside = [name for name in names if name.lower().endswith(_WEIGHTS)]
    holds = f" that holds {len(inside)} such files" if inside else ""
    return f"a zip archive{holds}: {_UNPACK}"


def _tar(data: bytes) -> str | None:
    if data[257:262] != b"ustar":
        return None
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            first = archive.next()
    except Exception:  # noqa: BLE001 - damaged and hostile archives fail in every way there is
        return None
    oldest = first is not None and first.name in ("sys_info", "pickle", "storages", "tensors")  # PyTorch's own, once
    return None if oldest else f"a tar archive: {_UNPACK}"


def _flat(data: bytes) -> str | None:
    if data[4:8] == b"TFL3":
        return f"a TensorFlow Lite network: {_CHECKPOINT}"
    return f"the index of a TensorFlow checkpoint: {_CHECKPOINT}" if data.endswith(_LEVELDB) else None


def _protobuf(data: bytes) -> str | None:
    """ONNX, TensorFlow and Caffe write their networks as protobuf messages, told by the numbers of their fields."""
    if data[0] not in (0x08, 0x0A):  # of the first field, which all of them begin with
        return None
    fields = set(islice(_fields(data), _MOST_FIELDS))
    if {1, 7, 8} <= fields <= {*range(1, 9), 14, 20, 25, 26}:
        return _ONNX
    saved, graph = data[0] == 0x08 and fields == {1, 2}, data[0] == 0x0A and {1, 4} <= fields <= {1, 2, 3, 4}
    if saved or graph:
        return f"a network of TensorFlow: {_CHECKPOINT}"
    if data[0] == 0x0A and 0 not in fields and (100 in fields or fields == {1, 2}):
        return f"a network of Caffe: {_CHECKPOINT}"
    return None


def _fields(data: bytes) -> Iterator[int]:
    """The numbers of the fields of a protobuf message; of anything else, none, or 0 at the place where it ends."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == 0:
            _, place = _varint(data, place)
        elif kind == 2:
            length, place = _varint(data, place)
            place += length
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        if kind in (3, 4, 6, 7) or place > len(data) or not tag >> 3:
            yield 0
            return
        yield tag >> 3


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, and the place after it."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(data):
            return 0, len(data) + 1
        value |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            return value, place
    return 0, len(data) + 1
