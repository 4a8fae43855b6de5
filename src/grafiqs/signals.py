"""Ctrl-C and SIGTERM while a command is at work: heard at once, and never lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

_ECHO = 1.0
"""Seconds within which a second signal is the first one again: `timeout` and schedulers send it twice."""


class Stop(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM, which ends a command as cleanly."""


class Signals:
    """What is heard, from `listen` to `restore`.

    The first signal raises Stop. That may be caught on the way, by a library or where Python calls back, so `check`
    raises it again. Further signals do not disturb the cleaning up; one that is too late for an echo is answered as if
    nobody listened. What was ignored before stays so.
    """

    def __init__(self) -> None:
        self.heard = 0
        """The number of the first signal; 0 when there was none."""
        self._since = 0.0
        self._raises = False
        self._found: dict[int, Any] = {}
        self._unraisable = sys.unraisablehook

    def listen(self) -> None:
        """Take over; outside the main thread, which alone hears, this does nothing."""
        global _listening
        _listening = self
        with suppress(ValueError):
            for number in _NUMBERS:
                found = signal.getsignal(number)
                if found not in (signal.SIG_IGN, None):
                    signal.signal(number, self._hear)
                    self._found[number] = found
        sys.unraisablehook = self._passed_over
        self._raises = True
        self.check()

    def again(self) -> None:
        """Take over again, after a library that answers signals itself."""
        with suppress(ValueError):
            for number in self._found:
                signal.signal(number, self._hear)
        self.check()

    def rest(self) -> None:
        """Raise nothing any more; what is heard is still remembered."""
        self._raises = False

    def restore(self) -> None:
        """Let those answer that answered before."""
        global _listening
        self.rest()
        sys.unraisablehook = self._unraisable
        while self._found:
            signal.signal(*self._found.popitem())
        _listening = None

    def check(self) -> None:
        """Raise Stop when a signal was heard."""
        if self.heard and self._raises:
            raise Stop

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.heard:
            self._since = time.monotonic()
            self.heard = number
            self.check()
        elif time.monotonic() - self._since > _ECHO:
            found = self._found.get(number, signal.SIG_DFL)
            if callable(found):
                found(number, frame)
            else:
                signal.signal(number, found)
                os.kill(os.getpid(), number)

    def _passed_over(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Stop where Python cannot raise it, as in a `__del__`, is not a fault: `check` raises it again."""
        if not isinstance(unraisable.exc_value, Stop):
            self._unraisable(unraisable)


_listening: Signals | None = None


def listen_again() -> None:
    """Hear signals again, after a library that took them over."""
    if _listening is not None:
        _listening.again()


def check() -> None:
    """Raise Stop when a signal was heard and what it raised was caught on the way."""
    if _listening is not None:
        _listening.check()
