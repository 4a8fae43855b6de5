"""Files that are no checkpoints: each is refused by its name, told by its content, with what to do."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from grafiqs.backbones.checkpoint import load_checkpoint
from grafiqs.backbones.weights import check_file
from grafiqs.errors import RequestError
from support.making import random_network


def field(number: int, *parts: bytes) -> bytes:
    """A field of a protobuf message that holds bytes."""
    data = b"".join(parts)
    return varint(number << 3 | 2) + varint(len(data)) + data


def number(place: int, value: int) -> bytes:
    return varint(place << 3) + varint(value)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def onnx() -> bytes:
    graph = field(1, field(1, b"x"), field(2, b"y"), field(4, b"Conv")) + field(2, b"torch_jit")
    return number(1, 8) + field(2, b"pytorch") + field(3, b"2.1") + field(7, graph) + field(8, number(2, 17))


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.zeros(3))
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights/net.pth"))
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 261\n"
OTHERS = "get the PyTorch checkpoint (.pth, .pt, .ckpt or .safetensors) of that network"

FORMS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "are empty: get the file again"),
    "onnx": (
        onnx(),
        f"folded into weights: GraFIQs cannot be computed from it; {OTHERS}",
    ),
    "git lfs": (LFS, "a pointer to a file that Git LFS has not fetched: fetch the file itself (git lfs pull)"),
    "git-annex": (
        b"/annex/objects/SHA256E-s261--4d7a2146.pth\n",
        "a pointer to a file that git-annex has not fetched: fetch the file itself (git annex get)",
    ),
    "git-annex, a link as text": (b"../.git/annex/objects/Xq/1z/SHA256E-s261--4d/SHA256E-s261--4d", "git annex get"),
    "git lfs, with a mark of its encoding": (b"\xef\xbb\xbf" + LFS, "(git lfs pull)"),
    "git-annex, a link as text of Windows": (b"..\\.git\\annex\\objects\\Xq\\SHA256E-s261--4d.pth", "git annex get"),
    "dvc": (
        b"outs:\n- md5: 4d7a2146\n  size: 261\n  path: net.pth\n",
        "a pointer to a file that DVC has not fetched: fetch the file itself (dvc pull)",
    ),
    "an answer in JSON": (
        b'{"error": {"code": 404, "message": "File not found"}}',
        "a text in JSON, such as servers answer in the place of a file: get the file again",
    ),
    "index of shards": (
        b'{"metadata": {}, "weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-1.safetensors"}}',
        "whose tensors are in m-1.safetensors, m-2.safetensors: put their tensors together in one file, and give that",
    ),
    "index of one file": (
        b'{"weight_map": {"a": "m.safetensors", "b": "m.safetensors"}}',
        "the index of a checkpoint whose tensors are in m.safetensors: give that",
    ),
    "exported program": (
        zipped(
            {"net/data/weights/weight_0": b"1", "net/data/sample_inputs/model.pt": b"", "net/archive_format": b"pt2"}
        ),
        "a program of torch.export: on a machine where you trust it, save its state_dict alone",
    ),
    "page": (b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>", "are a web page or other text in tags"),
    "page of a drive": (b"<html><head><title>Google Drive - Virus scan warning</title>", "get the file again"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), f"an HDF5 file, as Keras and TensorFlow write them: {OTHERS}"),
    "keras archive": (zipped({"config.json": b"{}", "model.weights.h5": b""}), f"a .keras archive: {OTHERS}"),
    "frozen graph": (
        field(1, field(1, b"input"), field(2, b"Placeholder")) + field(1, field(1, b"a")) + field(4, number(1, 27)),
        f"a network of TensorFlow: {OTHERS}",
    ),
    "saved model": (number(1, 1) + field(2, field(2, b"graph")), f"a network of TensorFlow: {OTHERS}"),
    "index": (b"\0\0\1\2" + bytes(40) + bytes.fromhex("57fb808b247547db"), "the index of a TensorFlow checkpoint"),
    "lite": (b"\x1c\0\0\0TFL3" + bytes(50), "a TensorFlow Lite network"),
    "caffe": (field(1, b"MobileFaceNet") + field(100, field(1, b"data")), f"a network of Caffe: {OTHERS}"),
    "old caffe": (field(1, b"VGG") + field(2, b"data") + field(2, b"conv"), f"a network of Caffe: {OTHERS}"),
    "mxnet": (struct.pack("<QQ", 0x112, 0) + bytes(40), f"a .params file of MXNet: {OTHERS}"),
    "npz": (npz(), f"an .npz archive of NumPy: {OTHERS}"),
    "npy": (npy(), "an array of NumPy"),
    "zip of checkpoints": (
        zipped({"a.pth": b"1", "b/c.pth": b"2", "README.md": b""}),
        "a zip archive that holds 2 such files: unpack it, and give the checkpoint in it",
    ),
    "another zip": (zipped({"README.md": b""}), "a zip archive: unpack it"),
    "tar": (tarred(), "a tar archive: unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "a gzip archive: unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(30), "a 7z archive: unpack it"),
}
"""What a file holds, and what is said of it."""


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_refused_by_its_name_whatever_it_is_called(form: str, name: str, tmp_path: Path) -> None:
    data, said = FORMS[form]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RequestError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"the weights {path} are ")
    assert said in message
    assert len(message.splitlines()) == 1


def script(_: dict[str, Tensor]) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_archive_is_told_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(script({}))
    with pytest.raises(RequestError, match="are a TorchScript archive, whose code runs when it is opened"):
        load_checkpoint(path)


WRITERS: dict[str, Callable[[dict[str, Tensor]], bytes]] = {
    "safetensors": safetensors.torch.save,
    "torch": lambda state: written(state, True),
    "legacy torch": lambda state: written(state, False),
}


def written(state: dict[str, Tensor], zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("name", ["net.onnx", "net.safetensors", "net.pth"])
@pytest.mark.parametrize("form", WRITERS)
def test_a_checkpoint_is_read_whatever_it_is_called(form: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(WRITERS[form](dict(random_network(widths=(2, 3, 4, 5), embedding_size=7).state_dict())))
    assert load_checkpoint(path).backbone == "iresnet18"


def test_a_link_to_what_git_annex_has_not_fetched_is_told_from_a_wrong_path(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.symlink_to("../.git/annex/objects/Xq/1z/SHA256E-s261--4d.pth/SHA256E-s261--4d.pth")
    with pytest.raises(
        RequestError, match=r"are a link to a file that git-annex has not fetched: .*\(git annex get\)$"
    ):
        check_file(path)


@pytest.mark.parametrize("length", [*range(1, 12), 40])
def test_a_part_of_an_onnx_network_is_not_taken_for_a_checkpoint(length: int, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx()[:length])
    with pytest.raises(RequestError, match=r"net\.onnx are "):
        load_checkpoint(path)
