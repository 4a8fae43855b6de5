"""What an option is: one field of a dataclass, with its help and its rules; its type says how it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from grafiqs.disk.names import shown
from grafiqs.disk.utf8 import need_utf8
from grafiqs.errors import RequestError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def option(
    group: str,
    help: str,
    *,
    default: Any = dataclasses.MISSING,
    metavar: str | None = None,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    bounds: str | None = None,
    requires: tuple[str, ...] = (),
    which: str = "",
    excludes: Mapping[str, str | None] = MappingProxyType({}),
    decides: bool = True,
    later: bool = False,
    adds: bool = False,
) -> Any:
    """One option, to be used as the field of a dataclass whose `__post_init__` calls `settle`.

    `minimum` and `maximum` hold for a number, or for each of a list; `bounds` is the sentence that says so.
    `requires` names the options without which this one makes no sense, and `which` says what they are to it.
    `excludes` names those that contradict it, each with the one value that does not: "{}" in it stands for this one's.
    `decides` says whether it changes what a run writes, so that a run is bound to its value; `later` that runs of
    earlier versions do not state it, and had its default. `adds` says that a list of words that is given again is added
    to, instead of taking the place of what was given before.
    """
    rules = dict(locals())
    return dataclasses.field(default=rules.pop("default"), metadata=rules)


def flag(name: str) -> str:
    """The command line's spelling of an option."""
    return "--" + name.replace("_", "-")


def written(value: Any, kind: Any = None) -> str:
    """A value of an option of this kind as it is written on the command line: a size with an x, else with commas."""
    if not isinstance(value, tuple | list):
        return str(value)
    words = [f"{each:g}" if isinstance(each, float) else str(each) for each in value]
    is_size = kind != tuple[int, ...] and all(isinstance(each, int) for each in value)
    return ("x" if is_size else ",").join(words)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, tuple):
        return list(value)
    return value.as_posix() if isinstance(value, Path) else value


def completed(options: type[DataclassInstance], stated: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a run states, with the defaults of options that came later than it, in the order of the list."""
    fields = dataclasses.fields(options)
    values = {field.name: plain(field.default) for field in fields if field.metadata["later"]} | dict(stated)
    return {field.name: values.pop(field.name) for field in fields if field.name in values} | values


SEED: dict[str, Any] = {
    "metavar": "SEED",
    "minimum": 0,
    "maximum": 2**32 - 1,  # of NumPy
    "bounds": "a seed lies between {minimum} and {maximum}",
}
"""The rules of every seed."""

SIZE: dict[str, Any] = {
    "metavar": "HxW",
    "minimum": 1,
    "maximum": 4096,
    "bounds": "sides lie between {minimum} and {maximum}",
}
"""The rules of the size of a network's input, in pixels."""


# -- reading -----------------------------------------------------------------------------------------------


def path(text: str) -> Path:
    """A path that is not empty. Raises ValueError when it is."""
    if not text:
        raise ValueError("a path cannot be empty")
    return Path(text)


def words(text: str) -> tuple[str, ...]:
    """The words of a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a list, with commas or spaces between them. Raises ValueError for anything else, or none."""
    words = text.replace(",", " ").split()
    return tuple(float(word) for word in words or [text])


def integers(text: str) -> tuple[int, ...]:
    """The whole numbers of a comma-separated list. Raises ValueError for anything else, or none between commas."""
    return tuple(int(word) for word in text.split(","))


def size(text: str) -> tuple[int, int]:
    """'112x96' -> (112, 96). Raises ValueError for anything else."""
    height, width = text.lower().split("x")
    return int(height), int(width)


_READERS: dict[Any, Callable[[str], Any]] = {
    Path: path,
    tuple[str, ...]: words,
    tuple[float, ...]: numbers,
    tuple[int, ...]: integers,
    tuple[int, int]: size,
}
"""What reads an option of each type; any other type reads it itself."""


def readers(options: type[DataclassInstance]) -> dict[str, Callable[[str], Any]]:
    """What reads the text of each option in a list of them; it raises ValueError for a text that cannot be."""
    kinds = {name: _given_kind(kind) for name, kind in get_type_hints(options).items()}
    return {name: _READERS.get(kind, kind) for name, kind in kinds.items()}


def _given_kind(kind: Any) -> Any:
    """The type of an option if it is given: X of X | None."""
    return next(one for one in get_args(kind) if one is not NoneType) if isinstance(kind, UnionType) else kind


# -- checking ----------------------------------------------------------------------------------------------


def settle(options: DataclassInstance) -> None:
    """Check every value of a list of options, and make it what its field states: text a Path, a list a tuple.

    Raises RequestError for a value of another type, and for one that breaks a rule of its option.
    """
    need_utf8()
    kinds = get_type_hints(type(options))
    fields = {field.name: field for field in dataclasses.fields(options)}
    for name, field in fields.items():
        object.__setattr__(options, name, _checked(field, kinds[name], getattr(options, name)))
    given = {name: value for name, value in vars(options).items() if value != fields[name].default}
    for name in given:
        _check_others(name, given, fields[name].metadata, kinds)


def _checked(field: dataclasses.Field[Any], kind: Any, value: Any) -> Any:
    """The value of an option, in its type. Raises RequestError for one that cannot be, whatever the others are."""
    name, rules = flag(field.name), field.metadata
    if value == "" and _given_kind(kind) is Path:
        raise RequestError(f"{name} is empty: it takes a path")
    if not _is_of(value, kind):
        raise RequestError(f"{name} is {shown(repr(value))}: that is not of type {field.type}")
    if value is None:
        return None
    if rules["choices"] and value not in rules["choices"]:
        raise RequestError(f"{name} is {shown(value)}: it must be one of {', '.join(rules['choices'])}")
    least, most = rules["minimum"], rules["maximum"]
    every = value if isinstance(value, tuple | list) else (value,)
    for holds, sentence in (
        (least is None or all(each >= least for each in every), "it must be at least {minimum}"),
        (most is None or all(each <= most for each in every), "it must be at most {maximum}"),
    ):
        if not holds:
            raise RequestError(f"{name} is {written(value, kind)}: {(rules['bounds'] or sentence).format(**rules)}")
    kind = _given_kind(kind)
    return tuple(map(get_args(kind)[0], value)) if get_origin(kind) is tuple else kind(value)


def _check_others(name: str, given: Mapping[str, Any], rules: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise RequestError if an option lacks one that it requires, or meets one that it excludes."""
    if not all(given.get(other) for other in rules["requires"]):
        raise RequestError(f"{flag(name)} needs {' and '.join(map(flag, rules['requires']))}, {rules['which']}")
    for other, same in rules["excludes"].items():
        if other in given and (same is None or given[other] != same.format(given[name])):
            values = {one: shown(written(given[one], kinds[one])) for one in (name, other)}
            both = (flag(one) + (given[one] is not True) * f" {text}" for one, text in values.items())
            raise RequestError(f"{' and '.join(both)} contradict each other: give one of them")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value has the type of its option; a path may be given as text, and no truth value is a number."""
    if isinstance(kind, UnionType):
        return any(_is_of(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        of, *rest = get_args(kind)
        listed = isinstance(value, tuple | list) and all(_is_of(each, of) for each in value)
        return listed and (rest == [...] or len(value) == 1 + len(rest))
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, float | int)
    return isinstance(value, kind) or (kind is Path and isinstance(value, str))
