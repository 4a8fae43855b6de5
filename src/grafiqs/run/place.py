"""Where the data set of a finished run is now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from grafiqs.datasets.lists import ListedFiles
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError


def place_of(
    data_set: dict[str, Any], had_root: bool, image_path: Path | None, root: Path | None
) -> tuple[Path, Path | None]:
    """Where the data set is looked for, and where the paths in its list begin; those that are given, or as it was.

    Raises RequestError for a place that is given, and holds nothing.
    """
    place, is_list = image_path or Path(data_set["place"]), data_set["form"] == ListedFiles.form
    if root is not None and not (is_list and os.path.isdir(root)):
        why = "it is not a folder that can be reached" if is_list else "the data set of this run is not a list"
        raise RequestError(f"--root {shown(root)} is not where the paths in a list begin: {why}")
    if image_path is not None and not os.path.exists(image_path):
        raise RequestError(f"the data set {shown(image_path)} does not exist: check --image-path")
    if root is None and had_root and not os.path.isdir(place):
        root = Path(data_set["root"])
    return place, root
