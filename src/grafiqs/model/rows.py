"""Results as text, one after the other: a table to read, CSV, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from grafiqs.disk.csv_row import csv_row
from grafiqs.disk.names import encoded, shown
from grafiqs.faces.face import Face
from grafiqs.model.result import Result

_FACE = ("face_x", "face_y", "face_width", "face_height", "face_score", "face_turn")
_NUMBER = 11
"""Columns of a number in a table to read."""


class Table:
    """Lines to read, each as soon as it is known: quality, face and scores first, as paths have any length."""

    def __init__(
        self, names: Sequence[str], qualities: Sequence[str], layer: str | None, limited: bool, with_faces: bool
    ) -> None:
        self.names = names
        self.qualities = qualities
        self.has_quality = layer in qualities
        self.limited = limited
        self.with_faces = with_faces

    def head(self) -> Iterator[bytes]:
        """What stands before all rows."""
        columns = [*(["quality"] if self.has_quality else []), *(["face"] if self.with_faces else [])]
        cells = [f"{name:>{16 if name == 'face' else 7}}" for name in columns]
        yield encoded("  ".join([*cells, *(f"{name:>{_wide(name)}}" for name in self.names), "photo"]) + "\n")

    def row(self, result: Result, short: Sequence[str]) -> Iterator[bytes]:
        """What is said of a photo; `short` is why it falls short."""
        cells = []
        if self.has_quality:
            cells.append(f"{'-' if result.quality_score is None else result.quality_score:>7}")
        if self.with_faces:
            cells.append(f"{_box(result.face):>16}")
        for name in self.names:
            number = f"{result.scores[name]:#.5g}" if name in result.scores else "-"
            cells.append(f"{number:>{_wide(name)}}")
        again = ("TAKE AGAIN", *short) if short else ()
        said = shown(result.error or "; ".join((*again, *result.remarks)))
        yield encoded("  ".join([*cells, shown(result.path or "") + (said and ": ") + said]) + "\n")

    def end(self) -> Iterator[bytes]:
        """What stands behind all rows."""
        return iter(())


class Csv(Table):
    """A row a photo, with all that is known of it; empty where it is not."""

    def head(self) -> Iterator[bytes]:
        """The names of the columns."""
        quality = [*(["quality"] if self.has_quality else []), *(f"quality_{name}" for name in self.qualities)]
        again = ["take_again"] if self.limited else []
        yield csv_row("path", *quality, *self.names, *(_FACE if self.with_faces else ()), *again, "remarks", "error")

    def row(self, result: Result, short: Sequence[str]) -> Iterator[bytes]:
        """The values of a photo."""
        quality = [result.quality.get(name, "") for name in self.qualities]
        if self.has_quality:
            quality.insert(0, _or_empty(result.quality_score))
        face = result.face
        where = (*(face.box or [""] * 4), _or_empty(face.score), face.turn) if face else [""] * len(_FACE)
        yield csv_row(
            result.path or "",
            *quality,
            *(result.scores.get(name, "") for name in self.names),
            *(where if self.with_faces else ()),
            *(["; ".join(short)] if self.limited else []),
            "; ".join(result.remarks),
            result.error or "",
        )


class Json(Table):
    """One list of objects, a line each."""

    _begun = False

    def head(self) -> Iterator[bytes]:
        """The beginning of the list."""
        yield b"["

    def row(self, result: Result, short: Sequence[str]) -> Iterator[bytes]:
        """The object of a photo."""
        again = {"take_again": list(short)} if self.limited else {}
        found = {
            "path": result.path,
            "scores": dict(result.scores),
            "quality": dict(result.quality) if self.qualities and not result.error else None,
            "quality_score": result.quality_score,
            "layer": result.layer,
            "face": None if result.face is None else _face(result.face),
            **again,
            "remarks": list(result.remarks),
            "error": result.error,
        }
        yield (b",\n" if self._begun else b"\n") + json.dumps(found).encode()
        self._begun = True

    def end(self) -> Iterator[bytes]:
        """The end of the list."""
        yield b"\n]\n"


FORMATS = {"table": Table, "csv": Csv, "json": Json}


def _wide(name: str) -> int:
    return max(_NUMBER, len(name))


def _or_empty(value: Any) -> Any:
    return "" if value is None else value


def _box(face: Face | None) -> str:
    if face is None or face.box is None:
        return "-"
    x, y, width, height = map(round, face.box)
    return f"{width}x{height}+{x}+{y}"


def _face(face: Face) -> dict[str, Any]:
    points = [[x, y] for x, y in zip(face.points[::2], face.points[1::2], strict=True)]
    return {"box": face.box and list(face.box), "score": face.score, "turn": face.turn, "landmarks": points}
