"""From a checkpoint file to a network, without executing anything that the file holds."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from grafiqs.backbones.catalogue import DEPTHS, WIDTHS, layer_shapes
from grafiqs.backbones.iresnet import IResNet
from grafiqs.errors import RequestError
from grafiqs.names import shown

log = logging.getLogger(__name__)

_NESTS = ("state_dict", "model_state_dict", "net_state_dict", "model", "net", "backbone")
"""Where training scripts put the network's state dict inside what they save."""

_ANCHOR = "layer1.0.bn1.weight"
"""A key that every iresnet has: what stands before it is the prefix of the whole network."""


@dataclass(frozen=True)
class Checkpoint:
    """A network as its checkpoint describes it, in eval mode with frozen float32 weights on the CPU."""

    path: Path
    sha256: str
    backbone: str
    widths: tuple[int, int, int, int]
    embedding_size: int
    network: IResNet

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """The shape (C, H, W) of one image's gradient at each layer."""
        return layer_shapes(self.widths)


def load_checkpoint(path: Path, backbone: str | None = None) -> Checkpoint:
    """Load an iresnet from a .pth, .pt, .ckpt (PyTorch, `weights_only`) or .safetensors file.

    The state dict may be nested (`state_dict`, `model`, ...) and its keys may carry a prefix (`module.`,
    `backbone.`, ...); depth, widths and embedding size are told from its keys. Keys beside the network, such
    as training heads, are ignored with a log line.
    Raises RequestError when the file cannot be read without executing it, holds no iresnet, holds another one
    than `backbone`, or when keys are missing, misshapen or not finite.
    """
    state, ignored = _network_keys(_read(path), path)
    name, depths = _depths(state, path)
    if backbone is not None and backbone != name:
        raise RequestError(
            f"{shown(path)} is an {name} (blocks {depths}), not an {backbone}: "
            f"give --backbone {name}, or leave --backbone out"
        )
    widths = _widths(state)
    embedding_size = len(state["fc.bias"]) if state.get("fc.bias", torch.zeros(())).ndim == 1 else 512
    with torch.device("meta"):
        network = IResNet(DEPTHS[name], widths, embedding_size)
    expected = network.state_dict()
    _check_keys(state, expected, path)
    for key, value in expected.items():  # older checkpoints lack the batch counters, which nothing here reads
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros_like(value, device="cpu"))
    extra = ignored + sorted(state.keys() - expected.keys())
    if extra:
        log.info("Ignoring %d keys of %s beside the backbone: %s", len(extra), shown(path.name), _first(extra))
    weights = {key: _as(state[key], value) for key, value in expected.items()}
    network.load_state_dict(weights, assign=True)
    network.eval().requires_grad_(False)
    return Checkpoint(path, _sha256(path), name, widths, embedding_size, network)


def check_file(path: Path | None) -> Path:
    """The path of a checkpoint that exists. Raises RequestError otherwise, before any other work is done."""
    if path is None:
        raise RequestError("--weights is needed: the checkpoint of the face recognition network")
    if not os.path.exists(path):
        raise RequestError(f"the weights {shown(path)} do not exist or cannot be reached: check --weights")
    if not os.path.isfile(path):
        raise RequestError(f"the weights {shown(path)} are no file: --weights takes a checkpoint file")
    return path


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers fail on hostile files in every way there is
        raise RequestError(_why_unread(path, error)) from error
    if not isinstance(content, Mapping):
        raise RequestError(f"{shown(path)} holds a {type(content).__name__}, not a state dict")
    return content


def _why_unread(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot read the weights {shown(path)}: {error.strerror}"
    if "weights_only" in str(error) or "Unsupported" in str(error):
        return (
            f"the weights {shown(path)} hold more than tensors, and opening them could run code, so they were not "
            "opened: on a machine where you trust the file, save its state_dict alone, best as .safetensors"
        )
    reason = shown(str(error).strip().splitlines()[0][:200]) if str(error).strip() else type(error).__name__
    return f"the weights {shown(path)} are no whole PyTorch or safetensors checkpoint ({reason})"


def _network_keys(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The network's own keys without their prefix, and the keys of everything else."""
    found = _tensors(content)
    prefixes = [key.removesuffix(_ANCHOR) for key in found if key.endswith(_ANCHOR)]
    prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
    if not prefixes:
        keys = f"its keys begin with {_first(list(found))}" if found else "it holds no tensors by name"
        raise RequestError(f"{shown(path)} holds no iresnet (no key {_ANCHOR}): {keys}")
    if len(prefixes) > 1:
        names = ", ".join(repr(prefix) for prefix in prefixes)
        raise RequestError(f"{shown(path)} holds {len(prefixes)} networks ({names}): save the one you want by itself")
    prefix = prefixes[0]
    state = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return state, [key for key in found if not key.startswith(prefix)]


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The first mapping, from the outside in, that names tensors."""
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if any(key.endswith(_ANCHOR) for key in tensors):
        return tensors
    for nest in _NESTS:
        inner = content.get(nest)
        if isinstance(inner, Mapping):
            found = _tensors(inner)
            if found:
                return found
    return tensors


def _depths(state: dict[str, Tensor], path: Path) -> tuple[str, tuple[int, ...]]:
    depths = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")}) for stage in range(1, 5)
    )
    for name, known in DEPTHS.items():
        if known == depths:
            return name, depths
    raise RequestError(f"{shown(path)} has stages of {depths} blocks: no iresnet known here ({', '.join(DEPTHS)})")


def _widths(state: dict[str, Tensor]) -> tuple[int, int, int, int]:
    """The stages' channels; the published ones where the key is missing, which the check of the keys then names."""
    weights = (state.get(f"layer{stage}.0.bn3.weight") for stage in range(1, 5))
    first, second, third, fourth = (
        published if weight is None or weight.ndim != 1 else len(weight)
        for weight, published in zip(weights, WIDTHS, strict=True)
    )
    return first, second, third, fourth


def _check_keys(state: dict[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
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
    strange = [key for key in expected if not state[key].is_floating_point() or state[key].layout != torch.strided]
    if strange:
        raise RequestError(f"{shown(path)} has {len(strange)} keys that are no plain float tensors: {_first(strange)}")
    broken = [key for key in expected if not torch.isfinite(state[key]).all()]
    if broken:
        raise RequestError(f"{shown(path)} has {len(broken)} keys with values that are not finite: {_first(broken)}")


def _as(value: Tensor, like: Tensor) -> Tensor:
    """The weight in the type and place that the network wants, cut loose from the file."""
    return value.detach().to(like.dtype, copy=True).contiguous()


def _first(keys: list[str]) -> str:
    return ", ".join(shown(key) for key in keys[:3]) + (", ..." if len(keys) > 3 else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
