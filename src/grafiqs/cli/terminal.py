"""What a command says, and where: messages, warnings, results, and what happens when an output is closed or full."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from grafiqs.errors import RequestError, StoppedError

log = logging.getLogger("grafiqs")


def log_to_terminal(quiet: bool = False, results_on_stdout: bool = False) -> None:
    """Let the package's log speak on the terminal; if `quiet`, its warnings and errors alone."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    log.handlers = [_Terminal(results_on_stdout)]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False
    # The decoder warns on standard error of what the failures table says better.
    warnings.filterwarnings("ignore", module="PIL")


class _Terminal(logging.Handler):
    """What a run says: to standard output, or if results go there, to standard error; warnings always there."""

    def __init__(self, results_on_stdout: bool) -> None:
        super().__init__()
        self._results_on_stdout = results_on_stdout

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            warn(f"grafiqs: {record.getMessage()}")
        else:
            stream = sys.stderr if self._results_on_stdout else sys.stdout
            say(record.getMessage(), stream, "fix that, and the same command resumes")


def say(text: str, stream: TextIO | None, advice: str = "") -> None:
    """Print a line to standard output, or if results go there, to standard error; to none, if that is closed."""
    if stream is not None:
        with _taken(advice):
            print(text, file=stream, flush=True)


def warn(text: str) -> None:
    """Print a line to standard error, if that is there and takes it."""
    try:
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:  # its disk is full: there is nobody left to tell, but for the exit code
        silence(2)


def write(pieces: Iterable[bytes], advice: str = "") -> None:
    """Write results to standard output."""
    if sys.stdout is None:
        raise RequestError(f"standard output is closed{advice and ': ' + advice}")
    with _taken(advice):
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()


@contextmanager
def _taken(advice: str) -> Iterator[None]:
    """End the command with a sentence if standard output takes no more: its disk is full, say."""
    try:
        yield
    except BrokenPipeError:  # its reader is gone, and nothing is said of that
        raise
    except OSError as error:
        silence(1)
        raise StoppedError(f"cannot write to standard output: {error.strerror}{advice and '; ' + advice}") from error


def silence(*outputs: int) -> None:
    """Keep Python from trying again, at its exit, to write what nobody takes."""
    with open(os.devnull, "wb") as nowhere:
        for output in outputs:
            os.dup2(nowhere.fileno(), output)
