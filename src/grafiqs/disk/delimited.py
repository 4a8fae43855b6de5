"""Text tables as people have them: their encoding, and their rows, split in any of the usual ways."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import IO

WHOLE, FIRST_BLANK, LAST_BLANK = "whole lines", "the first blank", "the last blank"

SPLITS = {
    ",": "commas",
    WHOLE: WHOLE,
    ";": "semicolons",
    "\t": "tabs",
    " ": "blanks",
    FIRST_BLANK: FIRST_BLANK,
    LAST_BLANK: LAST_BLANK,
}
"""How a line can be split into cells, and what people call it."""

_BLANKS = re.compile(r"[ \t]+")


def _at_blanks(line: str) -> list[str]:
    """The cells of a line between blanks; those in quotes may hold some."""
    plain = line.strip(" \t")
    if '"' in plain:
        with suppress(csv.Error):
            return next(csv.reader([plain.replace("\t", " ")], delimiter=" ", skipinitialspace=True, strict=True))
    return _BLANKS.split(plain)


_CUT: dict[str, Callable[[str], list[str]]] = {
    " ": _at_blanks,
    FIRST_BLANK: lambda line: _BLANKS.split(line.strip(" \t"), 1),
    LAST_BLANK: lambda line: [part[::-1] for part in _BLANKS.split(line.strip(" \t")[::-1], 1)][::-1],
}

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The marks with which texts begin, the longer first."""

_LONGEST = 2**17
"""Characters of a line: no path is as long."""

_PADDED = 100
"""Lines that are looked at to see whether commas have blanks behind them."""


class TableError(ValueError):
    """A table cannot be read; the message begins with the line."""


class TextTable:
    """The rows of a text table; `source` opens its bytes, each time anew.

    It is UTF-8, in which other bytes stay what they are, or what a mark at its beginning says. Blank lines are no
    rows. A comma or semicolon that has a blank behind it everywhere, and tabs and blanks in a row, are one separator;
    blanks beside tabs belong to them.
    """

    def __init__(self, source: Callable[[], IO[bytes]]) -> None:
        self._source = source
        with source() as file:
            start = file.read(4)
        self.encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")

    def rows(self, split: str) -> Iterator[tuple[int, list[str]]]:
        """Every row: its line, from 1 on, and its cells. Raises TableError at the line that cannot be read."""
        with self._text() as text:
            if split in (",", ";", "\t"):
                yield from _separated(text, split, self._is_padded(split))
                return
            for number, line in _numbered(text):
                plain = line.rstrip("\r\n")
                cells = _CUT[split](plain) if split != WHOLE else [plain]
                if any(cells):
                    yield number, cells

    def _text(self) -> io.TextIOWrapper:
        errors = "surrogateescape" if self.encoding.startswith("utf-8") else "strict"
        return io.TextIOWrapper(self._source(), self.encoding, errors, newline="")

    def _is_padded(self, separator: str) -> bool:
        """Whether every separator has a blank behind it."""
        with self._text() as text:
            lines = [line for _, line in islice(_numbered(text), _PADDED) if separator in line]
        return bool(lines) and not any(re.search(f"{separator}(?! )", line) for line in lines)


def _numbered(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers, from 1 on."""
    number = 0
    try:
        while line := text.readline(_LONGEST):
            number += 1
            if len(line) == _LONGEST:
                raise TableError(f"line {number} has more than {_LONGEST:,} characters")
            if "\0" in line:
                raise TableError(
                    f"line {number} holds a NUL character: a table is text in UTF-8, or in UTF-16 with its mark"
                )
            yield number, line
    except UnicodeError as error:
        raise TableError(f"line {number + 1} is not text in {text.encoding}") from error


def _separated(text: io.TextIOWrapper, separator: str, padded: bool) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader((line for _, line in _numbered(text)), delimiter=separator, skipinitialspace=padded, strict=True)
    try:
        for row in rows:
            if any(row):
                yield rows.line_num, [cell.strip(" ") for cell in row] if separator == "\t" else row
    except csv.Error as error:
        raise TableError(f"line {rows.line_num} is not a line of a table: {error}") from error
