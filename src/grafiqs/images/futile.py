"""A run in which nothing can be read is refused before it begins, not when all of it has failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped

FIRST = 100
"""How many samples must fail for one reason, all of them if there are fewer."""


def refuse_futile(attempt: Callable[[str], str | None], locations: Sequence[str]) -> None:
    """Raise RequestError when the first of the samples all fail, for one reason: most likely so do the others.

    `attempt` says why a sample fails, or None; it is asked by several threads. Numbers in a reason do not count. The
    first sample that does not fail, or fails for another reason, ends it: as a rule, one is read.
    """
    tried = locations[:FIRST]
    reason = attempt(tried[0])
    if reason is None:
        return
    threads = processors.usable()
    with ThreadPoolExecutor(threads) as pool, closing(mapped(pool, attempt, tried[1:], threads)) as others:
        if any(other is None or _without_numbers(other) != _without_numbers(reason) for other in others):
            return
    if len(tried) == 1:
        which = "the only image fails"
    else:
        these = f"all {len(tried)}" if len(tried) == len(locations) else f"the first {len(tried)} of {len(locations):,}"
        which = f"{these} images fail for one reason"
    raise RequestError(
        f"{which}: {shown(reason)} ({shown(tried[0])}): mend that first; with --keep-going the command goes on, and "
        "what fails are rows in failures.csv"
    )


def _without_numbers(reason: str) -> str:
    """A reason without what differs from image to image: how many bytes are missing, say."""
    return re.sub(r"\d+", "", reason)
