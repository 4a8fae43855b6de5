"""How far long work has come, for people who wait: a bar on standard error, and times in words."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from grafiqs.signals import check


def progress_bar(total: int, done: int, quiet: bool, unit: str = "images") -> tqdm[Any]:
    """A bar of images, or another unit, with the time left; where no terminal shows it, a line every half minute."""
    return _Bar(
        total=total,
        initial=done,
        unit=f" {unit}",
        disable=quiet or done == total or sys.stderr is None,
        mininterval=0.2 if sys.stderr is not None and sys.stderr.isatty() else 30,
        dynamic_ncols=True,
        file=_StandardError(),
    )


class _Bar(tqdm):  # type: ignore[type-arg]  # which it takes for a type checker alone
    """A bar that checks at every step for a signal that was missed."""

    def update(self, n: float | None = 1) -> bool | None:
        check()
        return super().update(n)


class _StandardError:
    """Standard error, for a bar that is not worth a failure: what a full disk does not take is left out."""

    def write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except BrokenPipeError:
            raise
        except OSError:
            pass

    def flush(self) -> None:
        """Nothing: everything is written at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def duration(seconds: float) -> str:
    """A time in words: '1 h 2 min', '3 min 4 s' or '5 s'."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
