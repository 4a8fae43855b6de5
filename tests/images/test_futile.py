"""What nothing can be read of is refused before it begins."""

from __future__ import annotations

import threading

import pytest

from grafiqs.errors import RequestError
from grafiqs.images.futile import FIRST, refuse_futile


def tried(reasons: list[str | None]) -> list[int]:
    """Which of the samples that fail for these reasons are asked for."""
    asked: list[int] = []
    lock = threading.Lock()

    def attempt(location: str) -> str | None:
        with lock:
            asked.append(int(location))
        return reasons[int(location)]

    refuse_futile(attempt, [str(number) for number in range(len(reasons))])
    return sorted(asked)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "the only image fails: broken (0): mend that first; with --keep-going the command goes on"),
        (3, "all 3 images fail for one reason: broken (0): mend"),
        (100, "all 100 images fail for one reason: broken (0): mend"),
        (1500, "the first 100 of 1,500 images fail for one reason: broken (0): mend"),
    ],
)
def test_what_fails_for_one_reason_is_refused(count: int, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        tried(["broken"] * count)
    assert str(caught.value).startswith(said)


def test_numbers_in_a_reason_make_no_other() -> None:
    with pytest.raises(RequestError, match=r"truncated \(0 bytes missing\)"):
        tried([f"truncated ({number} bytes missing)" for number in range(40)])


def test_of_what_can_be_read_one_sample_is_asked_for() -> None:
    assert tried([None, *["broken"] * 300]) == [0]


def test_what_fails_for_several_reasons_is_refused_with_the_most_common() -> None:
    with pytest.raises(RequestError) as caught:
        tried([*["empty", "no image"] * 20, *["cut off (3)", "cut off (4)"] * 15, "odd", "odder"])
    assert str(caught.value).startswith(
        "all 72 images fail: cut off (3) (40), 30 times; empty (0), 20 times; no image (1), 20 times; others, 2 times: "
        "mend that first"
    )


@pytest.mark.parametrize("place", [1, 50, FIRST - 1])
def test_one_sample_that_does_not_fail_ends_it(place: int) -> None:
    reasons: list[str | None] = ["broken", "missing", "odd"] * 100
    reasons[place] = None
    asked = tried(reasons)
    assert asked == list(range(len(asked)))
    assert place < len(asked) <= FIRST


def test_only_the_first_are_asked_for() -> None:
    with pytest.raises(RequestError):
        tried([*["broken"] * FIRST, None])
