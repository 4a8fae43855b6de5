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
    `parsed` raises ValueError, TypeError, KeyError or AttributeError.
    """
    need_utf8()
    try:
        document = json.loads(files.read(path))
        if document.pop("format") != version:
            raise ValueError(f"it has another format than {version}, which this version of grafiqs reads")
        return parsed(document)
    except OSError as error:
        raise RequestError(f"cannot read {shown(path)}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{shown(path)} is damaged ({shown(error)}): give another {argument}, or remove that folder by hand"
        ) from error
