"""A run in which nothing can be read is refused before it begins, not when all of it has failed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped

FIRST = 100
"""How many samples must fail, all of them if there are fewer."""

_NAMED = 3
"""How many of the reasons are named."""


def refuse_futile(attempt: Callable[[str], str | None], locations: Sequence[str]) -> None:
    """Raise RequestError when the first of the samples all fail, whatever the reasons: most likely so do the others.

    `attempt` says why a sample fails, or None; it is asked by several threads. Numbers in a reason do not count. The
    first sample that does not fail ends it: as a rule, one is read.
    """
    tried = locations[:FIRST]
    reason = attempt(tried[0])
    if reason is None:
        return
    failed = [reason]
    threads = processors.usable()
    with ThreadPoolExecutor(threads) as pool, closing(mapped(pool, attempt, tried[1:], threads)) as others:
        for other in others:
            if other is None:
                return
            failed.append(other)
    raise RequestError(
        f"{_said(tried, failed, len(locations))}: mend that first; with --keep-going the command goes on, and what "
        "fails are rows in failures.csv"
    )


def _said(tried: Sequence[str], failed: list[str], total: int) -> str:
    """That all fail, and why: the most common reasons, each with the first sample that has it."""
    first: dict[str, str] = {}
    for location, reason in zip(tried, failed, strict=True):
        first.setdefault(_without_numbers(reason), f"{shown(reason)} ({shown(location)})")
    if total == 1:
        return f"the only image fails: {first.popitem()[1]}"
    these = f"all {total}" if len(tried) == total else f"the first {len(tried)} of {total:,}"
    if len(first) == 1:
        return f"{these} images fail for one reason: {first.popitem()[1]}"
    common = Counter(map(_without_numbers, failed)).most_common()
    named = "; ".join(f"{first[reason]}, {_times(count)}" for reason, count in common[:_NAMED])
    rest = sum(count for _, count in common[_NAMED:])
    return f"{these} images fail: {named}{f'; others, {_times(rest)}' if rest else ''}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _without_numbers(reason: str) -> str:
    """A reason without what differs from image to image: how many bytes are missing, say."""
    return re.sub(r"\d+", "", reason)
