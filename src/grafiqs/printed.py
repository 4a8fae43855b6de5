"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    r"""The lines of a table in columns: names at the left, figures at the right.

    >>> print(*table(["", "mean"], [["image", "9.5"], ["block1", "10.25"]]), sep="\n")
               mean
      image     9.5
      block1  10.25
    """
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        first, *others = row
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        yield "  " + "  ".join(cells).rstrip()
