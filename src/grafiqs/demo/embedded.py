"""The backbone that comes with the package: for drawn faces only (MODEL_CARD.md says why)."""

from __future__ import annotations

from pathlib import Path

from grafiqs.backbones.catalogue import DEMO
from grafiqs.disk.files import sha256
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

SHA256 = DEMO.sha256
"""Of the file that MODEL_CARD.md describes."""


def demo_backbone() -> Path:
    """The checkpoint that comes with the package: an iresnet18 with stages a quarter as wide, trained on drawn faces.

    Its scores mean something on drawn faces, and nothing on real ones.
    Raises RequestError when the file is not there, or is not the one that was shipped.

    >>> demo_backbone().name
    'backbone.safetensors'
    """
    path = Path(__file__).with_name("backbone.safetensors")
    advice = "install the package again"
    try:
        found = sha256(path)
    except OSError as error:
        raise RequestError(f"the demo backbone {shown(path)} cannot be read ({error.strerror}): {advice}") from error
    if found != SHA256:
        raise RequestError(
            f"the demo backbone {shown(path)} is damaged: its SHA-256 is {found}, not {SHA256}; {advice}"
        )
    return path


def demo_reference() -> Path:
    """What the scores of that backbone on drawn faces are held against, for qualities from 0 to 100."""
    return Path(__file__).with_name("reference.json")
