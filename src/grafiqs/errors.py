"""How a command ends when it cannot go on, and the exit code of each ending."""

from __future__ import annotations


class RequestError(ValueError):
    """What was asked for cannot be done, and nothing was written (exit code 2)."""

    exit_code = 2


class StoppedError(RuntimeError):
    """The run stopped before its end; what was done is kept and can be resumed (exit code 3)."""

    exit_code = 3


class UnreadableSampleError(Exception):
    """A sample that cannot be read; the message is the reason, in one line. The others are not affected."""


def first_line(error: BaseException) -> str:
    """What an exception of a library says, cut to one line; its type if it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
