"""Pickles that hold more than tensors: none is opened; what is said of them is how to save their weights alone."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections import deque
from itertools import islice
from pathlib import Path

from grafiqs.disk.names import shown

_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""What PyTorch's older files begin with, after the protocol: its number, pickled."""

_PROTOCOL = 2
"""The pickle protocol that PyTorch writes unless it is asked for another; it opens tensors alone in no later one."""

_LOOKED_AT = 1000
"""As many parts of a pickle are looked at: what is none goes wrong much earlier."""

_ADVICE = """\
import numpy, {modules}torch
flat = lambda one, at='': (
    flat(one.state_dict(), at) if isinstance(one, torch.nn.Module)
    else flat(dict(enumerate(one)), at) if isinstance(one, (list, tuple))
    else {{path: x for name in one for path, x in flat(one[name], f'{{at}}{{name}}.').items()}} if isinstance(one, dict)
    else {{at[:-1]: torch.tensor(one.astype('f4'))}} if isinstance(one, numpy.ndarray) and one.dtype.kind in 'fiu'
    else {{at[:-1]: one}} if torch.is_tensor(one) else {{}})
torch.save(flat({opened}), 'weights.pth')"""
"""Python that saves every tensor, array and network, wherever it stands in a file, by the names that lead to it.

Three statements without a blank line or an indented block, so that they can be pasted at a prompt."""


def how_to_save(path: Path, data: bytes, error: str) -> str:
    """That a file holds objects, which PyTorch's `error` names, and three lines of Python that save its weights alone.

    They open the file, which may run what is in it: that is for its owner to do, where it is trusted.
    """
    found = re.search(r"GLOBAL ([\w.]+)", error)
    named, protocol = f" ({found[1]})" if found else "", _protocol(data)
    file = shown(ascii(path.name))
    if not _is_pytorch(data):
        what = f"hold more than tensors{named}, in a pickle that PyTorch did not write"
        modules, opened = "pathlib, pickle, ", f"pickle.loads(pathlib.Path({file}).read_bytes(), encoding='latin1')"
    else:
        what = f"hold more than tensors{named}"
        if not named and protocol > _PROTOCOL:
            what = f"were saved with pickle_protocol={protocol} (save them again without pickle_protocol)"
        modules, opened = "", f"torch.load({file}, map_location='cpu', weights_only=False)"
    return (
        f"the weights {shown(path)} {what}, and opening them could run code, so they were not opened: on a machine "
        "where you trust the file, save its state_dict alone, and give that:\n"
        f"{_ADVICE.format(modules=modules, opened=opened)}"
    )


def is_pickle(data: bytes) -> bool:
    """Whether a file in which PyTorch meets what it does not know is a pickle all the same.

    One of its own is if it is of a later protocol; any other if its end is that of one, and its first parts are.
    """
    if _is_pytorch(data):
        return _protocol(data) > _PROTOCOL
    try:
        deque(islice(pickletools.genops(io.BytesIO(data)), _LOOKED_AT), maxlen=0)
    except Exception:  # noqa: BLE001 - damaged and hostile files fail in every way there is
        return False
    return data.endswith(pickle.STOP)


def _is_pytorch(data: bytes) -> bool:
    """Whether PyTorch wrote the file, in one of its three forms, and not pickle alone."""
    return data.startswith(b"PK\x03\x04") or _MAGIC in data[:32] or data[257:262] == b"ustar"


def _protocol(data: bytes) -> int:
    """That of the first pickle in a file; 0 in those which do not say it."""
    start = _pickled(data)[:2]
    return start[1] if len(start) == 2 and start[0] == 0x80 else 0


def _pickled(data: bytes) -> bytes:
    """The pickle in a zip archive of PyTorch's; any other file as it is; empty if it cannot be found."""
    if not data.startswith(b"PK\x03\x04"):
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return archive.read(name) if archive.getinfo(name).file_size <= len(data) else b""
    except Exception:  # noqa: BLE001 - damaged and hostile files fail in every way there is
        return b""
