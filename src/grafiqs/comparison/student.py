"""Quantiles of Student's t, for intervals of the mean of a few runs."""

from __future__ import annotations

import math


def t_quantile(probability: float, degrees: int) -> float:
    """The value below which Student's t with `degrees` of freedom lies with this `probability` (0.5 to 1).

    Found by bisection of the angle atan(t / sqrt(degrees)), in which the distribution is a finite sum for whole
    degrees. Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.

    >>> round(t_quantile(0.975, 2), 6)
    4.302653
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise ValueError(f"no quantile at {probability} with {degrees} degrees of freedom")
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _central(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _central(angle: float, degrees: int) -> float:
    """The probability that |t| lies below sqrt(degrees) * tan(angle)."""
    cosine, odd = math.cos(angle), degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for number in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (number - 1) / number
        total += term
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if odd else total
