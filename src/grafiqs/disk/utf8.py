"""Names of files are the bytes on the disk read as UTF-8, whatever the locale.

A Python that reads them otherwise gives them another order and other hashes, and finds no file that a manifest names.
"""

from __future__ import annotations

import os
import sys

from grafiqs.errors import RequestError


def need_utf8() -> None:
    """Raise RequestError when this Python reads names of files in another encoding."""
    if not _names_are_utf8():
        raise RequestError(
            f"this Python reads names of files in the locale's encoding, {sys.getfilesystemencoding()}, which would "
            "change the subset: start it with -X utf8, or set PYTHONUTF8=1"
        )


def in_utf8() -> None:
    """Begin this process again, in Python's UTF-8 mode, when it reads names of files in another encoding.

    The terminal keeps the locale's encoding. Does nothing when -X utf8 was given: if it is 0, names are refused.
    """
    if "utf8" in sys._xoptions:
        if sys.flags.utf8_mode:
            _hold_ctrl_c(False)
    elif not _names_are_utf8() and sys.executable:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one begins
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.getfilesystemencoding()}:backslashreplace")
        _hold_ctrl_c(True)
        try:
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same command
        except OSError:  # names are refused, then
            _hold_ctrl_c(False)


def _names_are_utf8() -> bool:
    return sys.getfilesystemencoding() == "utf-8"


def _hold_ctrl_c(hold: bool) -> None:
    """Keep Ctrl-C waiting while Python begins, which would answer it with a traceback; or let it come."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK, {signal.SIGINT})
