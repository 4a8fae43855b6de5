"""What is given by name on the command line: name=path, or a path that names itself."""

from __future__ import annotations

import os.path
from collections.abc import Iterable
from pathlib import Path

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError


def named(texts: Iterable[str], what: str) -> dict[str, Path]:
    """Paths by name, in their order; one without a name is called as its file or folder is.

    What is there under the whole text is that path, with its "=".
    Raises RequestError, with `what` they are, when two have one name, or a name or path is empty.

    >>> named(["runs/one", "other=runs/two"], "RUNS")
    {'one': PosixPath('runs/one'), 'other': PosixPath('runs/two')}
    """
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or "/" in name or os.path.lexists(text):
            name, path = Path(text).name or text, text
        if not name or not path:
            raise RequestError(f"{shown(text)!r} is not a name and a path: write name=path")
        if name in found:
            raise RequestError(
                f"two {what} are called {shown(name)}: give one of them a name, as in other={shown(path)}"
            )
        found[name] = Path(path)
    return found
