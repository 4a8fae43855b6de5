"""Pickles that hold more than tensors: none is opened; what is said of them is how to save their weights alone."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections import deque
from pathlib import Path

from grafiqs.disk.names import shown

_NESTS = ("state_dict", "model_state_dict", "net_state_dict", "model", "net", "backbone")
"""Where weights usually stand in a checkpoint: as a state dict, or as a whole network."""

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How PyTorch's older files begin, of one pickle after another."""

_PREAMBLE = 4096
"""In this many bytes the first three end."""

_NETWORKS = (b"\x80\x02c", b"\x80\x02(X\x06\x00\x00\x00module")
"""How the pickle of a whole network begins, in newer and older files."""

_DICT = b"\x80\x02ccollections\nOrderedDict\n"
"""How that of a bare state dict begins."""


def how_to_save(path: Path, data: bytes, error: str) -> str:
    """That a file holds objects, which PyTorch's `error` names, and three lines of Python that save its weights alone.

    They open the file, which may run what is in it: that is for its owner to do, where it is trusted.
    """
    pickle = _pickled(data)
    found = re.search(r"GLOBAL ([\w.]+)", error)
    named = f" ({found[1]})" if found else ""
    what, taken = f"more than tensors{named}", "{name: one for name, one in found.items() if torch.is_tensor(one)}"
    nest = next((name for name in _NESTS if b"X" + len(name).to_bytes(4, "little") + name.encode() in pickle), None)
    if pickle.startswith(_NETWORKS) and not pickle.startswith(_DICT):
        what, taken = f"{what}, as a whole network does that torch.save(model) wrote", "found.state_dict()"
    elif nest is not None:
        inner = f'found["{nest}"]'
        taken = inner if nest.endswith("state_dict") else f'getattr({inner}, "state_dict", lambda: {inner})()'
    return (
        f"the weights {shown(path)} hold {what}, and opening them could run code, so they were not opened: on a "
        "machine where you trust the file, save its state_dict alone, and give that:\n"
        "  import torch\n"
        f"  found = torch.load({shown(ascii(path.name))}, map_location='cpu', weights_only=False)\n"
        f"  torch.save({taken}, 'weights.pth')"
    )


def _pickled(data: bytes) -> bytes:
    """The pickle that a PyTorch file consists of, besides its tensors; empty if it cannot be found."""
    try:
        if data.startswith(_LEGACY):
            file = io.BytesIO(data[:_PREAMBLE])
            for _ in range(3):  # a magic number, a version, and what the machine was
                deque(pickletools.genops(file), maxlen=0)
            return data[file.tell() :]
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return archive.read(name) if archive.getinfo(name).file_size <= len(data) else b""
    except Exception:  # noqa: BLE001 - damaged and hostile files fail in every way there is
        return b""
