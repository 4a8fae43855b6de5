"""From a checkpoint file to a network, without executing anything that the file holds."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from grafiqs.backbones.backbone import Backbone, layer_shapes
from grafiqs.backbones.catalogue import BACKBONES, Preprocessing
from grafiqs.backbones.families import FAMILIES, Family
from grafiqs.errors import RequestError
from grafiqs.names import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A network as its checkpoint describes it, in eval mode with frozen float32 weights on the CPU."""

    path: Path
    sha256: str
    backbone: str
    network: Backbone
    preprocessing: Preprocessing
    shapes: dict[str, tuple[int, ...]]
    """The shape (C, H, W) of one image's gradient at each layer."""

    @property
    def embedding_size(self) -> int:
        """The length of an embedding."""
        return self.network.embedding_size


def load_checkpoint(path: Path, backbone: str | None = None) -> Checkpoint:
    """Load a known network from a .pth, .pt, .ckpt (PyTorch, `weights_only`) or .safetensors file.

    The state dict may be nested (in `state_dict`, `model`, ...) and its keys may carry a prefix (`module.`,
    `backbone.`, ...), whatever their names; family, depth, widths and embedding size are told from the keys. Keys
    beside the network, such as training heads, are ignored with a log line.
    Raises RequestError when the file cannot be read without executing it, holds no known network, or another one
    than `backbone`, or when keys are missing, misshapen or not finite.
    """
    data = _bytes(path)
    family, state, ignored = _network_keys(_content(data, path), path)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights without elements, which are looked for below
            name, network = family.build(state)
    except ValueError as error:
        raise RequestError(f"{shown(path)} {error}") from error
    if backbone is not None and backbone != name:
        raise RequestError(
            f"{shown(path)} is {_article(name)} (blocks {BACKBONES[name]}), not {_article(backbone)}: "
            f"give --backbone {name}, or leave --backbone out"
        )
    network.eval().requires_grad_(False)
    expected = network.state_dict()
    _check_shapes(state, expected, path)
    for key, value in expected.items():  # older checkpoints lack the batch counters, which nothing here reads
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros(value.shape, dtype=value.dtype))
    extra = ignored + sorted(state.keys() - expected.keys())
    if extra:
        log.info("Ignoring %d keys of %s beside the backbone: %s", len(extra), shown(path.name), _first(extra))
    weights = {key: _as(state[key], value) for key, value in expected.items()}
    _check_values(weights, path)
    try:
        shapes = layer_shapes(network, family.preprocessing.size)  # nothing is computed: it has no weights yet
    except (RuntimeError, IndexError) as error:
        raise RequestError(f"{shown(path)} is {_article(name)} with stages of too few channels to compute") from error
    network.load_state_dict(weights, assign=True)
    return Checkpoint(path, hashlib.sha256(data).hexdigest(), name, network, family.preprocessing, shapes)


def _article(name: str) -> str:
    return f"{'a' if name.startswith('m') else 'an'} {name}"


def check_file(path: Path | None) -> Path:
    """The path of a checkpoint that exists. Raises RequestError otherwise, before any other work is done."""
    if path is None:
        raise RequestError("--weights is needed: the checkpoint of the face recognition network")
    if not os.path.exists(path):
        raise RequestError(f"the weights {shown(path)} do not exist or cannot be reached: check --weights")
    if not os.path.isfile(path):
        raise RequestError(f"the weights {shown(path)} are no file: --weights takes a checkpoint file")
    return path


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the weights {shown(path)}: {error.strerror}") from error


def _content(data: bytes, path: Path) -> Mapping[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of, the error says
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # hostile data make the readers fail in every way there is
        raise RequestError(_why_unread(path, error)) from error
    if not isinstance(content, Mapping):
        raise RequestError(f"{shown(path)} holds a {type(content).__name__}, not a state dict")
    return content


def _why_unread(path: Path, error: Exception) -> str:
    text = str(error)
    refused = isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in text
    if refused or "TorchScript" in text:
        return (
            f"the weights {shown(path)} hold more than tensors, and opening them could run code, so they were not "
            "opened: on a machine where you trust the file, save its state_dict alone, best as .safetensors"
        )
    reason = shown(text.strip().partition("\n")[0][:200]) or type(error).__name__
    if "weights_only" in text:
        reason = "its bytes cannot be read as tensors"  # PyTorch's advice at this point is to run what the file holds
    return (
        f"the weights {shown(path)} are no whole PyTorch or safetensors checkpoint ({reason}): get the file again, or, "
        "if it holds more than tensors, save its state_dict alone on a machine where you trust it"
    )


def _network_keys(content: Mapping[Any, Any], path: Path) -> tuple[Family, dict[str, Tensor], list[str]]:
    """The network's family, its own keys without their prefix, and the keys of everything else."""
    found = dict(_tensors(content))
    networks = [
        (family, key.removesuffix(family.anchor)) for family in FAMILIES for key in found if key.endswith(family.anchor)
    ]
    networks = [(family, prefix) for family, prefix in networks if not prefix or prefix.endswith(".")]
    if not networks:
        keys = f"its keys begin with {_first(list(found))}" if found else "it holds no tensors by name"
        raise RequestError(f"{shown(path)} holds no network that is known here ({', '.join(BACKBONES)}): {keys}")
    if len(networks) > 1:
        names = ", ".join(repr(prefix) for _, prefix in networks)
        raise RequestError(f"{shown(path)} holds {len(networks)} networks ({names}): save the one you want by itself")
    [(family, prefix)] = networks
    state = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return family, state, [key for key in found if not key.startswith(prefix)]


def _tensors(content: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that is reached by names alone, with those names joined by dots; each mapping is entered once."""
    entered: set[int] = set()
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    while waiting:
        prefix, mapping = waiting.pop()
        if id(mapping) in entered:
            continue
        entered.add(id(mapping))
        for key, value in mapping.items():
            if isinstance(key, str) and isinstance(value, Tensor):
                yield prefix + key, value
            elif isinstance(key, str) and isinstance(value, Mapping):
                waiting.append((f"{prefix}{key}.", value))


def _check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    expected = {key: value for key, value in expected.items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in state]
    if missing:
        raise RequestError(f"{shown(path)} lacks {len(missing)} keys of its network: {_first(missing)}")
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if state[key].shape != value.shape
    ]
    if wrong:
        raise RequestError(f"{shown(path)} has {len(wrong)} keys of another shape: {_first(wrong)}")
    strange = [key for key in expected if not _is_plain(state[key])]
    if strange:
        raise RequestError(f"{shown(path)} has {len(strange)} keys that are no plain float tensors: {_first(strange)}")


def _is_plain(value: Tensor) -> bool:
    return value.is_floating_point() and value.layout == torch.strided and value.device.type == "cpu"


def _check_values(weights: Mapping[str, Tensor], path: Path) -> None:
    broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise RequestError(f"{shown(path)} has {len(broken)} keys with values that are not finite: {_first(broken)}")


def _as(value: Tensor, like: Tensor) -> Tensor:
    """The weight in the type and place that the network wants, cut loose from the file."""
    return value.detach().to(like.dtype, copy=True).contiguous()


def _first(keys: list[str]) -> str:
    return ", ".join(shown(key) for key in keys[:3]) + (", ..." if len(keys) > 3 else "")
