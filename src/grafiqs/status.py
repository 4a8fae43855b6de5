"""How far a run has come, in lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterator

from grafiqs.disk.names import shown
from grafiqs.printed import table
from grafiqs.progress import duration
from grafiqs.run.state import InFlight, State

_RANGES = 20
"""Ranges of shards that are named."""

_REASONS = 5
"""Reasons for failures that are listed one by one."""


def report(state: State) -> Iterator[str]:
    """The lines of `grafiqs status`."""
    share = state.done / max(1, state.total)
    yield (
        f"{'Finished' if state.is_finished else 'At work'}: {state.done:,} of {state.total:,} images are done "
        f"({share:.1%}), {state.scored:,} with scores, {state.failed:,} failed"
    )
    if not state.is_finished:
        yield f"Shards: {state.shards_done:,} of {state.shards:,} are done"
        yield from _in_flight(state)
        yield from _not_begun(state)
        yield from _left(state)
    for count, reason in state.reasons[:_REASONS]:
        yield f"Failed: {count:,} x {shown(reason)}"
    if len(state.reasons) > _REASONS:
        yield f"Failed: {sum(count for count, _ in state.reasons[_REASONS:]):,} for other reasons"


def _in_flight(state: State) -> Iterator[str]:
    held = [each for each in state.in_flight if each.is_alive]
    silent = [each for each in state.in_flight if not each.is_abandoned and not each.is_alive]
    given_back = len(state.in_flight) - len(held) - len(silent)
    if held:
        yield f"In flight: {len(held):,} shards"
        yield from table(("shard", "images", "by", "part", "since", "last sign, ago"), [_row(each) for each in held])
    for each in silent:
        _, _, who, _, since, quiet = _row(each)
        then = "the next command takes it over"
        if each.holder is not None and each.holder.alone:
            then = "if it stands still, end it: it holds the folder, and the next command goes on"
        whom = "who it is, not known" if each.holder is None else f"{who}, since {since}"
        yield f"No sign of the one at shard {each.number} ({whom}) for {quiet}: {then}"
    if given_back:
        yield f"Stopped in the middle: {given_back:,} shards, which the next command takes up"


def _not_begun(state: State) -> Iterator[str]:
    if state.left:
        named = [str(first) if first == last else f"{first}-{last}" for first, last in state.left[:_RANGES]]
        more = ", ..." if len(state.left) > _RANGES else ""
        yield f"Not begun: shards {', '.join(named)}{more}"


def _tables(each: InFlight | None) -> str:
    """How far the tables are."""
    if each is None or each.is_abandoned:
        return "the tables are still to be written: the same command does that"
    _, _, who, _, since, quiet = _row(each)
    whom = "somebody who is not known" if each.holder is None else f"{who}, since {since}"
    if each.is_alive:
        return f"the tables are being written by {whom} (last sign {quiet} ago)"
    return f"the tables were to be written by {whom}, of whom there was no sign for {quiet}: the same command does that"


def _row(each: InFlight) -> tuple[str, ...]:
    holder = each.holder
    who = "not known" if holder is None else f"process {holder.process} of {shown(holder.host)}"
    since = "" if holder is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    part = "" if holder is None else shown(holder.words.get("part", "all"))
    return str(each.number), f"{each.done}/{each.total}", who, part, since, duration(each.quiet)


def _left(state: State) -> Iterator[str]:
    if state.damaged:
        named = ", ".join(map(str, state.damaged[:_RANGES])) + ", ..." * (len(state.damaged) > _RANGES)
        yield f"Damaged: what says that shards are done ({named}): whoever is to write the tables does them again"
    if state.shards_done == state.shards:
        yield f"All shards are done; {_tables(state.tables)}"
    elif state.seconds_left is not None:
        yield f"Time left: about {duration(state.seconds_left)}, with those who are at work now"
    elif all(each.is_abandoned for each in state.in_flight):
        yield "Nobody is at work: the command that began the run does all that is left, without --part"
    elif not any(each.is_alive for each in state.in_flight):
        yield "Nobody is known to be at work"
    elif state.shards_done:
        yield "Time left: not known"
    else:
        yield "Time left: not known before the first shard is done"
