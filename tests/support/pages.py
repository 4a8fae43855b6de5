"""What a page holds, read back from its file."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def values_of(page: Path) -> dict[str, Any]:
    """The values of a page."""
    text = page.read_text("utf-8")
    begin = '<script id="data" type="application/json">'
    (_, data) = text.split(begin)
    values: dict[str, Any] = json.loads(data.partition("</script>")[0])
    return values


def run_of(page: Path) -> dict[str, Any]:
    """The one run of a page."""
    (run,) = values_of(page)["runs"]
    assert isinstance(run, dict)
    return run


def picture_of(text: str) -> NDArray[np.uint8]:
    """A thumbnail."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def map_of(run: dict[str, Any], row: int, layer: str) -> NDArray[np.uint8]:
    """A heat map, as levels of 0 to 255."""
    place = list(run["sizes_of_maps"]).index(layer)
    data = base64.b64decode(run["maps"][str(row)][place])
    return np.frombuffer(data, np.uint8).reshape(run["sizes_of_maps"][layer])
