"""Lines of CSV files, as every table of ours has them."""

from __future__ import annotations

import csv
from types import SimpleNamespace
from typing import Any, cast

from grafiqs.disk.names import encoded

# A writer that gives each row back; a name with either character of its line end is quoted.
_ROWS: Any = csv.writer(cast(Any, SimpleNamespace(write=str)), lineterminator="\r\n")


def csv_row(*values: object) -> bytes:
    r"""A line of a CSV file.

    >>> csv_row("ann, b.", 0, 0.5)
    b'"ann, b.",0,0.5\n'
    """
    return encoded(str(_ROWS.writerow(values)).removesuffix("\r\n") + "\n")
