"""What a field says of an option is what holds for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grafiqs.errors import RequestError
from grafiqs.options.field import option, readers, settle, written


@dataclass(frozen=True, kw_only=True)
class Made:
    """A list of options of every type, with every rule."""

    place: Path | None = option("a", "", default=None)
    names: tuple[str, ...] = option("a", "", default=())
    shares: tuple[float, ...] = option("a", "", default=(), minimum=0, maximum=1)
    sides: tuple[int, int] | None = option("a", "", default=None, minimum=1, bounds="sides begin at {minimum}")
    count: int = option("a", "", default=1, minimum=1, maximum=9, requires=("names", "place"), which="what it counts")
    kind: str | None = option("a", "", default=None, choices=("one", "two"))
    number: int | None = option("a", "", default=None, excludes={"device": "gpu:{}"})
    device: str = option("a", "", default="any")
    loud: bool = option("a", "", default=False, excludes={"quiet": None})
    quiet: bool = option("a", "", default=False)

    def __post_init__(self) -> None:
        settle(self)


def test_values_take_the_type_of_their_field() -> None:
    made = Made(place="here", names=["a", "b"], shares=[1, 0.5], sides=[1, 2])  # type: ignore[arg-type]
    assert made == Made(place=Path("here"), names=("a", "b"), shares=(1.0, 0.5), sides=(1, 2))
    assert [type(share) for share in made.shares] == [float, float]
    assert Made() == Made(place=None, names=())


def test_text_is_read_by_the_type_of_the_field() -> None:
    texts = {"place": "here", "names": "a, b", "shares": "1 0.5", "sides": "1x2", "count": "3", "kind": "one"}
    values = {**texts, "place": Path("here"), "names": ("a", "b"), "shares": (1, 0.5), "sides": (1, 2), "count": 3}
    read = {name: readers(Made)[name](text) for name, text in texts.items()}
    assert read == values
    assert [written(read[name]) for name in ("names", "shares", "sides", "count")] == ["a,b", "1,0.5", "1x2", "3"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"place": ""}, "--place is empty: it takes a path"),
        ({"place": 3}, "--place is 3: that is not of type Path | None"),
        ({"names": "a"}, "--names is 'a': that is not of type tuple[str, ...]"),
        ({"sides": (1, 2, 3)}, "--sides is (1, 2, 3): that is not of type tuple[int, int] | None"),
        ({"loud": 1}, "--loud is 1: that is not of type bool"),
        ({"count": True}, "--count is True: that is not of type int"),
        ({"count": None}, "--count is None: that is not of type int"),
        ({"kind": "three"}, "--kind is three: it must be one of one, two"),
        ({"count": 0}, "--count is 0: it must be at least 1"),
        ({"count": 10}, "--count is 10: it must be at most 9"),
        ({"shares": (0.5, float("nan"))}, "--shares is 0.5,nan: it must be at least 0"),
        ({"sides": (0, 5)}, "--sides is 0x5: sides begin at 1"),
        ({"count": 2}, "--count needs --names and --place, what it counts"),
        ({"count": 2, "names": ("a",)}, "--count needs --names and --place, what it counts"),
        ({"loud": True, "quiet": True}, "--loud and --quiet contradict each other: give one of them"),
        ({"number": 1, "device": "gpu:0"}, "--number 1 and --device gpu:0 contradict each other: give one of them"),
    ],
)
def test_what_breaks_a_rule_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as refused:
        Made(**values)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "values",
    [
        {"count": 1},
        {"count": 2, "names": ("a",), "place": Path("here")},
        {"number": 1, "device": "gpu:1"},
        {"number": 1, "device": "any"},
        {"loud": True, "quiet": False},
        {"shares": (0.0, 1.0)},
    ],
)
def test_what_breaks_none_is_taken(values: dict[str, Any]) -> None:
    made = Made(**values)
    assert {name: getattr(made, name) for name in values} == values
