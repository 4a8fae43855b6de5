"""Which of several networks in one file is meant: told by the names before their keys."""

from __future__ import annotations

from pathlib import Path

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

_TOP = "."
"""How the network is named whose keys have no names before them."""


def chosen(prefixes: list[str], key: str | None, path: Path) -> str:
    """The one of several prefixes that `key` names: all its names, or some that follow one another.

    >>> chosen(["state_dict.module.", "ema.module."], "ema", Path("weights.pth"))
    'ema.module.'

    Without a key there must be one. Raises RequestError when none or several are meant, with those to choose from.
    """
    listed = ", ".join(sorted(shown(_named(prefix)) for prefix in prefixes))
    if key is None and len(prefixes) == 1:
        return prefixes[0]
    what = f"{shown(path)} holds {len(prefixes)} networks"
    if key is None:
        raise RequestError(f"{what}: choose one with --weights-key, one of {listed}")
    whole = [prefix for prefix in prefixes if _named(prefix) == key]
    found = whole or [prefix for prefix in prefixes if f".{key}." in f".{prefix}"]
    if len(found) == 1:
        return found[0]
    if len(prefixes) == 1:
        raise RequestError(
            f"{shown(path)} holds one network, at {listed}, which --weights-key {shown(key)} does not name"
        )
    names = f"{len(found)} of them" if found else "none of them"
    raise RequestError(f"{what}, and --weights-key {shown(key)} names {names}: give one of {listed}")


def _named(prefix: str) -> str:
    return prefix.removesuffix(".") or _TOP
