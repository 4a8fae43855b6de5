"""The backbone that comes with the package, and its reference: for drawn faces only (MODEL_CARD.md says why)."""

from __future__ import annotations

from pathlib import Path

from grafiqs.backbones.catalogue import DEMO
from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

SHA256 = DEMO.sha256
"""Of the file that MODEL_CARD.md describes."""

REFERENCE_SHA256 = "875f5cf276054607ed15a3de9119bee13031465e67a3be3bb81b20f224b2679b"
"""Of the reference that it describes."""


def demo_backbone() -> Path:
    """The checkpoint that comes with the package: an iresnet18 with stages a quarter as wide, trained on drawn faces.

    Its scores mean something on drawn faces, and nothing on real ones.
    Raises RequestError when the file is not there, or is not the one that was shipped.

    >>> demo_backbone().name
    'backbone.safetensors'
    """
    return _shipped("backbone.safetensors", SHA256)


def demo_reference() -> Path:
    """What that backbone's scores are held against, for qualities from 0 to 100: those of 2,392 drawn faces.

    Its layer is block4. Raises RequestError as above.

    >>> demo_reference().name
    'reference.json'
    """
    return _shipped("reference.json", REFERENCE_SHA256)


def _shipped(name: str, sha256: str) -> Path:
    path, advice = Path(__file__).with_name(name), "install the package again"
    try:
        found = files.sha256(path)
    except OSError as error:
        raise RequestError(f"{shown(path)} of this package cannot be read ({error.strerror}): {advice}") from error
    if found != sha256:
        raise RequestError(f"{shown(path)} is damaged: its SHA-256 is {found}, not {sha256}; {advice}")
    return path
