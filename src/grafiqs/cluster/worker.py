"""A worker of a cluster: Ray makes one of it on some node."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, StoppedError
from grafiqs.options.extract import Options
from grafiqs.run import shard_journals
from grafiqs.run.summary import Summary

Extract = Callable[[Options], Summary | None]
"""What does a run, or a part of it, in one process; it can be pickled."""

_LATE = 15.0
"""Seconds after which a file system shows at the latest, on another machine, that a file was made."""

_OWN = frozenset(("grafiqs.extract", "grafiqs.run.folder"))
"""The logs that speak of this worker alone, but for warnings; what else is said is true of the whole run."""

_KNOWN = "grafiqs.select"
"""The log that says what the driver has said already."""


@dataclass(frozen=True)
class Found:
    """What a worker came to: its summary, or why it could not do its work."""

    node: str
    summary: Summary | None = None
    why: str | None = None
    is_refused: bool = False


class Worker:
    """What does shards of the run that `options` describe.

    `folder` is that in which the command was given. In the run folder lies a `claim` of the process that began the run,
    which starts with the bytes of `sign`.
    """

    def __init__(self, options: Options, extract: Extract, folder: str, claim: str, sign: bytes) -> None:
        self._options = options
        self._extract = extract
        self._folder = folder
        self._claim = claim
        self._sign = sign
        self._said = _Said()
        logger = logging.getLogger("grafiqs")
        logger.handlers, logger.propagate = [self._said], False
        logger.setLevel(logging.INFO)

    def who(self) -> tuple[str, int]:
        """The host and the process."""
        return socket.gethostname(), os.getpid()

    def said(self) -> list[tuple[int, str]]:
        """What it has said since it was asked last: levels and lines of the log."""
        return self._said.taken()

    def work(self) -> Found:
        """Do shards of the run until there are no more."""
        node = f"node {socket.gethostname()}"
        try:
            self._look_around()
            return Found(node, summary=self._extract(self._options))
        except (RequestError, StoppedError) as error:
            return Found(node, why=str(error), is_refused=isinstance(error, RequestError))

    def _look_around(self) -> None:
        """Raise RequestError unless this node sees the same folders as the one where the run was begun."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise RequestError(
                f"it does not see the folder {shown(self._folder)}, in which the command was given "
                f"({error.strerror}): all nodes need a file system that they share"
            ) from error
        ends = time.monotonic() + _LATE
        while not self._sees_sign():
            if time.monotonic() > ends:
                raise RequestError(
                    f"it does not see the run folder {shown(self._options.output_dir)} as the machine does on which "
                    "the command was given: workers write to it, so it has to lie on a file system that all nodes share"
                )
            time.sleep(0.2)

    def _sees_sign(self) -> bool:
        with suppress(OSError):
            return files.read(self._options.output_dir / shard_journals.NAME / self._claim).startswith(self._sign)
        return False


class _Said(logging.Handler):
    """What is said, kept until somebody listens."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != _KNOWN and (record.name not in _OWN or record.levelno >= logging.WARNING):
            self._lines.append((record.levelno, record.getMessage()))

    def taken(self) -> list[tuple[int, str]]:
        lines = self._lines[:]  # more may be added meanwhile
        del self._lines[: len(lines)]
        return lines
