"""Which network a file holds: every naming is held against its keys, whole, and the one that fits is taken."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import family_of
from grafiqs.backbones.families import NAMINGS, Naming
from grafiqs.backbones.prefixes import chosen
from grafiqs.backbones.relatives import ROUTE, another_form
from grafiqs.backbones.weights import first
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

_DAMAGE = 0.1
"""The largest share of a network's keys that may be missing or misshapen in a damaged one; beyond it is another."""

_NEAR = 1 / 3
"""The smallest share of keys, of a network's or of a file's, that they have in common if they are called near."""

_TRIED = 8
"""The most places in a file at which networks are looked for: those with the most landmarks."""


@dataclass(frozen=True)
class Fit:
    """A known network, and how the keys at one place of a file compare with its own."""

    prefix: str
    """What stands before its keys in the file."""
    name: str
    network: Backbone
    state: dict[str, Tensor]
    """The keys at that place, without the prefix."""
    lacking: list[str]
    misshapen: list[str]
    foreign: list[str]
    """Keys within the network's modules that it has no place for."""
    beside: list[str]
    """Keys beside its modules, such as heads."""
    size: int
    """How many keys the network has, without counters."""

    @property
    def is_exact(self) -> bool:
        """Whether it is this network."""
        return not (self.lacking or self.misshapen or self.foreign)

    @property
    def is_damaged(self) -> bool:
        """Whether it is this network but for a few keys, and not a relative, which has others in their place."""
        modules = {key.partition(".")[0] for key in self.state}
        replaced = self.beside and any(key.partition(".")[0] not in modules for key in self.lacking)
        return not (self.foreign or replaced) and len(self.lacking) + len(self.misshapen) <= _DAMAGE * self.size

    @property
    def distance(self) -> float:
        """How far it is from this network, as a share of its keys."""
        return (len(self.lacking) + len(self.misshapen) + len(self.foreign)) / self.size

    @property
    def likeness(self) -> float:
        """The share of names that it has in common with this network, of those of the smaller one."""
        common = self.size - len(self.lacking)
        return common / min(self.size, common + len(self.foreign) + len(self.beside)) if common else 0.0

    @property
    def is_told_by_parent(self) -> bool:
        """Whether the name before its keys is that of the family's publisher."""
        return _parent(self.prefix) == family_of(self.name).parent != ""

    @property
    def is_told_by_prefix(self) -> bool:
        """Whether the names before its keys are those of the family's publisher, all of them."""
        prefix = family_of(self.name).prefix
        return prefix != "" and f".{self.prefix}".endswith(f".{prefix}")


def identified(
    found: Mapping[str, Tensor], path: Path, backbone: str | None, key: str | None
) -> tuple[Fit, str | None]:
    """The network that a file's tensors are, and the path of names that tells it from others in the file, if any.

    `key` chooses among several; `backbone` among those of the same keys. What is nearly a known network is taken for
    that network, damaged. Raises RequestError when there is no network, or several, or a relative of a known one.
    """
    fits = _fits(found, backbone, key)
    at = {fit.prefix: fit for fit in reversed(fits)}
    networks = [prefix for prefix, fit in at.items() if fit.is_exact or fit.is_damaged]
    if not networks:
        raise RequestError(_unknown(found, next(iter(fits), None), path))
    prefix = chosen(networks, key, path)
    fit = at[prefix]
    form = another_form(fit.network, fit.state)
    if form:
        raise RequestError(f"{shown(path)} is {article(fit.name)} {form}")
    return fit, prefix.removesuffix(".") if len(networks) > 1 else None


def article(name: str) -> str:
    """The name of a network, with its article."""
    return f"{'a' if name.startswith('m') else 'an'} {name}"


def _fits(found: Mapping[str, Tensor], backbone: str | None, key: str | None) -> list[Fit]:
    """Every naming at every place where one of its landmarks is, the nearest first."""
    votes = Counter(
        (naming, name.removesuffix(mark))
        for naming in NAMINGS
        for mark in naming.landmarks
        for name in found
        if name.endswith(mark)
    )
    places = [(naming, prefix) for (naming, prefix), _ in votes.most_common() if not prefix or prefix.endswith(".")]
    prefixes = dict.fromkeys(prefix for _, prefix in places)
    tried = set(sorted(prefixes, key=lambda prefix: f".{key}." not in f".{prefix}")[:_TRIED])
    fits = [
        _fit(naming, prefix, found)
        for naming, prefix in places
        if prefix in tried
        and (naming.family is None or backbone in naming.family.names or _parent(prefix) == naming.family.parent)
    ]

    def rank(fit: Fit) -> tuple[float, bool, bool]:
        return fit.distance, fit.name != backbone, not fit.is_told_by_parent

    return sorted(fits, key=rank)


def _fit(naming: Naming, prefix: str, found: Mapping[str, Tensor]) -> Fit:
    state = {key[len(prefix) :]: value for key, value in found.items() if key.startswith(prefix)}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights without elements, which are refused when they are to compute
        name, network = naming.build(state)
    expected = {key: value.shape for key, value in network.state_dict().items() if value.is_floating_point()}
    known = network.state_dict().keys()
    modules = {key.partition(".")[0] for key in known}
    others = [key for key in state if key not in known]
    return Fit(
        prefix=prefix,
        name=name,
        network=network,
        state=state,
        lacking=[key for key in expected if key not in state],
        misshapen=[
            f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
            for key, shape in expected.items()
            if key in state and state[key].shape != shape
        ],
        foreign=[key for key in others if key.partition(".")[0] in modules],
        beside=[key for key in others if key.partition(".")[0] not in modules],
        size=len(expected),
    )


def _parent(prefix: str) -> str:
    """The last name before a network's keys that is not the wrapper of a parallel computation."""
    return next((name for name in reversed(prefix.split(".")) if name not in ("", "module")), "")


def _unknown(found: Mapping[str, Tensor], nearest: Fit | None, path: Path) -> str:
    """Why a file is not a known network, and what to do."""
    if not found:
        return f"{shown(path)} holds no tensors by name: it is not a checkpoint of a network"
    if not any(key.endswith("running_var") for key in found):
        return (
            f"{shown(path)} holds a network without statistics of BatchNorm (running_mean, running_var; its keys begin "
            f"with {first(list(found))}): GraFIQs cannot be computed from it"
        )
    if (nearest is None or nearest.likeness < _NEAR) and _only_after_linear(found):
        return (
            f"{shown(path)} holds a network whose BatchNorm all follow linear layers (BatchNorm1d), without a "
            f"BatchNorm2d (its keys begin with {first(list(found))}): GraFIQs cannot be computed from it"
        )
    why = f"its keys begin with {first(list(found))}"
    if nearest is not None and nearest.likeness >= _NEAR:
        why = f"nearest: {nearest.name}{_differences(nearest)}"
    return f"{shown(path)} is not one of the networks known here ({why}): {ROUTE}"


def _only_after_linear(found: Mapping[str, Tensor]) -> bool:
    """Whether every BatchNorm comes next after the matrix of a linear layer, and none after a convolution."""
    before, after = 0, set()
    for key, value in found.items():
        before = value.ndim if value.ndim > 1 else before
        if key.endswith("running_var"):
            after.add(before)
    return after == {2}


def _differences(fit: Fit) -> str:
    """How a file differs from the network that it is nearest to."""
    more = fit.foreign + (fit.beside if fit.lacking else [])
    parts = []
    if fit.lacking:
        parts.append(f"has {len(fit.lacking)} keys that this lacks: {first(fit.lacking)}")
    if more:
        parts.append(f"lacks {len(more)} that this has: {first(more)}")
    if fit.misshapen:
        parts.append(f"has {len(fit.misshapen)} of another shape: {first(fit.misshapen)}")
    return f", which {', and '.join(parts)}" if parts else ""
