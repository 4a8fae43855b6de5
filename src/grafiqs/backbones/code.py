"""Which code a network of the user's own consists of."""

from __future__ import annotations

import hashlib
import sys
from functools import reduce
from pathlib import Path
from types import ModuleType

from torch import nn

_sources: dict[str, tuple[ModuleType, bytes]] = {}
"""What modules were read from when they were first met: files may have changed since, without what was imported."""


def code_sha256(network: nn.Module, factory: str) -> str:
    """SHA-256 over the source files of a network: of its factory, of its classes and theirs, and of what those use.

    Weights do not tell what a network does with them: a run that is resumed with other code would be two runs, and
    what is changed between them is as often a helper as the class itself. So what they use is followed through the
    names in their modules, as far as these are the user's own: installed packages count if a class of the network
    comes from them, PyTorch and the standard library never.
    """
    module, _, name = factory.partition(":")
    made = reduce(getattr, name.split("."), sys.modules[module])
    classes = {kind for part in network.modules() for kind in type(part).__mro__}
    waiting = [module, *(thing.__module__ for thing in (made, *classes) if hasattr(thing, "__module__"))]
    met: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        source = None if name in met else _source(name)
        if source is None:
            continue
        met[name] = source
        if _is_own(name):
            waiting += filter(_is_own, map(_module_of, list(vars(sys.modules[name]).values())))
    digest = hashlib.sha256()
    for name in sorted(met):
        digest.update(f"{name}\0{len(met[name])}\0".encode() + met[name])
    return digest.hexdigest()


def _source(name: str) -> bytes | None:
    """The source of an imported module; None for what comes with Python, PyTorch or this package."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    top = name.partition(".")[0]
    if module is None or not file or top in sys.stdlib_module_names or top in ("torch", "grafiqs"):
        return None
    if name not in _sources or _sources[name][0] is not module:
        try:
            _sources[name] = module, Path(file).read_bytes()
        except OSError:
            return None
    return _sources[name][1]


def _module_of(value: object) -> str:
    """The name of the module that a value is, or comes from; empty if it does not say."""
    try:
        name = value.__name__ if isinstance(value, ModuleType) else value.__module__
    except Exception:  # noqa: BLE001 - what stands in a third-party module may answer in any way
        return ""
    return name if isinstance(name, str) else ""


def _is_own(name: str) -> bool:
    """Whether a module is the user's own, not an installed one."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not {"site-packages", "dist-packages"} & set(Path(file).parts)
