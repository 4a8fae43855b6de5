"""Lists of numbers that are drawn at random: each field of a dataclass states how, and they are drawn in its order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Drawn = TypeVar("Drawn", bound="DataclassInstance")


def drawn(kind: type[Drawn], rng: np.random.Generator, **known: Any) -> Drawn:
    """Draw all the fields of a list, but for those that are known already."""
    for each in fields(kind):
        if each.name not in known:
            known[each.name] = each.metadata["rule"](rng, known)
    return kind(**known)


def by(rule: Callable[[np.random.Generator, Mapping[str, Any]], Any]) -> Any:
    """A field that is drawn by a rule, which is given what was drawn before it."""
    return field(metadata={"rule": rule})


def between(low: float, high: float, least: float = -np.inf) -> Any:
    """A number from `low` to `high`; `least`, if it is less than that."""
    return by(lambda rng, _: max(least, low + (high - low) * float(rng.random())))


def bell(spread: float, limit: float, middle: float = 0) -> Any:
    """A number around `middle`, at most `limit` away from it."""
    return by(lambda rng, _: middle + float(np.clip(spread * rng.standard_normal(), -limit, limit)))


def whole(count: int) -> Any:
    """A whole number from 0 on, below `count`."""
    return by(lambda rng, _: int(rng.integers(count)))
