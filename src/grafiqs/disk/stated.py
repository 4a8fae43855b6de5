"""JSON documents that state what a command filled a folder with, read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.disk.utf8 import need_utf8
from grafiqs.errors import RequestError

Document = TypeVar("Document")


def stated(path: Path, version: int, parsed: Callable[[dict[str, Any]], Document], argument: str) -> Document:
    """What the document at `path` states, of this `version` of its format, as `parsed` makes it of the rest.

    Raises RequestError, which names the `argument` to give instead, when it cannot be read, is of another version, or
    `parsed` raises ValueError, TypeError, KeyError, AttributeError or OverflowError.
    """
    need_utf8()
    try:
        data = files.read(path)
    except OSError as error:
        raise RequestError(f"cannot read {shown(path)}: {error.strerror}") from error
    return understood(path, data, version, parsed, f"give another {argument}, or remove that folder by hand")


def understood(
    path: Path, data: bytes, version: int, parsed: Callable[[dict[str, Any]], Document], otherwise: str
) -> Document:
    """The same of the bytes of the document at `path`; `otherwise` says what to do if they are damaged."""
    need_utf8()
    try:
        document = json.loads(data.decode("utf-8"))
        found = document.pop("format")
        if type(found) is not int or found != version:
            raise ValueError(f"it has another format than {version}, which this version of grafiqs reads")
        return parsed(document)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise RequestError(f"{shown(path)} is damaged ({shown(error)}): {otherwise}") from error


def compared(name: str, there: Any, here: Any, words: tuple[str, str] = ("in the folder", "asked for")) -> list[str]:
    """What differs between two JSON values, a line each; `words` say where the one is, and the other."""
    if isinstance(there, dict) and isinstance(here, dict):
        keys = sorted(there.keys() | here.keys())
        return [line for key in keys for line in compared(f"{name}.{shown(key)}", there.get(key), here.get(key), words)]
    return [] if there == here else [f"{name}: {shown(there)} {words[0]}, {shown(here)} {words[1]}"]
