"""Pictures of many faces, for people who would rather look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.demo.degrade import Degradation
from grafiqs.demo.plan import draw_degradation, face_path, sample_count
from grafiqs.disk.files import whole
from grafiqs.disk.names import shown
from grafiqs.errors import StoppedError
from grafiqs.faces.template import SIZE
from grafiqs.options.draw import DrawOptions

Picture = NDArray[np.uint8]

SHEET_ROWS, SHEET_COLUMNS = 8, 9
"""Identities and samples of a contact sheet, at most."""

CAPTION = 15  # pixels below a tile
MARGIN = 4
PAPER, INK = 255, (40, 40, 40)


def words(degradation: Degradation | None) -> str:
    """A degradation as a person says it: 'low resolution 0.4', or 'clean'."""
    return f"{degradation.kind.replace('_', ' ')} {degradation.strength:.1f}" if degradation else "clean"


def tile(face: Picture, caption: str = "") -> Picture:
    """A picture (112, 112, 3) with a line of text below it."""
    framed = np.full((SIZE + CAPTION, SIZE, 3), PAPER, np.uint8)
    framed[:SIZE] = face
    return written(framed, caption, (2, SIZE + 11), 0.34)


def heading(width: int, text: str) -> Picture:
    """A strip with a line of text."""
    return written(np.full((24, width, 3), PAPER, np.uint8), text, (4, 17), 0.5)


def written(picture: Picture, text: str, place: tuple[int, int], size: float) -> Picture:
    """The picture with text (ASCII) whose first letter stands at `place`."""
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)
    return picture


def arranged(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Tiles side by side, rows below each other, with margins; short rows end in paper."""
    edges = ((MARGIN // 2, MARGIN // 2), (MARGIN // 2, MARGIN // 2), (0, 0))
    bands = [np.concatenate([np.pad(one, edges, constant_values=PAPER) for one in row], axis=1) for row in rows]
    width = max(band.shape[1] for band in bands)
    filled = [np.pad(band, ((0, 0), (0, width - band.shape[1]), (0, 0)), constant_values=PAPER) for band in bands]
    return np.concatenate(filled)


def contact_sheet(options: DrawOptions) -> NDArray[np.uint8]:
    """A picture of the first faces of a drawn data set: a row for each identity, and below a face what is wrong."""
    rows = []
    for number in range(min(options.identities, SHEET_ROWS)):
        row = []
        for sample in range(min(sample_count(options, number), SHEET_COLUMNS)):
            wrong = draw_degradation(options, number, sample)
            row.append(tile(load(options.output / face_path(number, sample)), words(wrong)))
        rows.append(row)
    return arranged(rows)


def load(path: Path) -> Picture:
    """Read a drawn picture as RGB. Raises StoppedError when it is not a picture."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None or picture.shape != (SIZE, SIZE, 3):
        raise StoppedError(f"{shown(path)} is damaged: the same command draws it again")
    return np.asarray(picture[..., ::-1])


def save(picture: Picture, path: Path) -> None:
    """Write an RGB picture; the extension says how. Raises StoppedError when that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            file.write(cv2.imencode(path.suffix, picture[..., ::-1])[1].tobytes())
    except OSError as error:
        raise StoppedError(
            f"cannot write {shown(path)}: {error.strerror}; fix that, and the same command resumes"
        ) from error
