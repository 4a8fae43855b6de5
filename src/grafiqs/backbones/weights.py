"""From a weights file to tensors, without executing anything that the file holds."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from grafiqs.backbones.forms import is_safetensors, what_else
from grafiqs.backbones.pickles import how_to_save, is_pickle
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Every tensor of a .pth, .pt, .ckpt (PyTorch, `weights_only`) or .safetensors file, and its SHA-256.

    A tensor's name is the path of names that leads to it, joined by dots: state dicts may be nested, and stand in lists
    by their number.
    Raises RequestError when the file cannot be read without executing it, or is not a state dict.
    """
    data = _bytes(path)
    return dict(_tensors(_content(data, path))), hashlib.sha256(data).hexdigest()


def fitted(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of a network whose state dict is `expected`, from those of a file, in type and place as there.

    Older files lack the batch counters, which nothing here reads.
    Raises RequestError when others are missing, misshapen, not plain float tensors, or not finite.
    """
    floating = {key: value for key, value in expected.items() if value.is_floating_point()}
    _check_shapes(state, floating, path)
    weights = {key: _as(state[key], value) for key, value in floating.items()}
    for key in expected.keys() - floating.keys():
        value = expected[key] if expected[key].device.type == "cpu" else torch.zeros(expected[key].shape)
        weights[key] = _as(state[key] if key in state and state[key].shape == value.shape else value, expected[key])
    _check_values(weights, path)
    return weights


def check_file(path: Path | None, argument: str = "--weights") -> Path:
    """The path of a checkpoint that exists, named by `argument`. Raises RequestError otherwise, before any work."""
    if path is None:
        raise RequestError("--weights is needed: the checkpoint of the face recognition network")
    if os.path.islink(path) and "/annex/objects/" in os.readlink(path).replace("\\", "/") and not os.path.exists(path):
        raise RequestError(
            f"the weights {shown(path)} are a link to a file that git-annex has not fetched: fetch it (git annex get)"
        )
    if not os.path.exists(path):
        raise RequestError(f"the weights {shown(path)} do not exist or cannot be reached: check {argument}")
    if not os.path.isfile(path):
        raise RequestError(f"the weights {shown(path)} are not a file: {argument} takes a checkpoint file")
    return path


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the weights {shown(path)}: {error.strerror}") from error


def _content(data: bytes, path: Path) -> Mapping[Any, Any] | list[Any] | tuple[Any, ...]:
    what = what_else(data)
    if what is not None:
        raise RequestError(f"the weights {shown(path)} are {what}")
    try:
        if is_safetensors(data):
            return safetensors.torch.load(data)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMBERS):
            warnings.simplefilter("ignore")  # the error says what torch warns of
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # hostile data make the readers fail in every way there is
        raise RequestError(_why_unread(path, data, error)) from error
    if not isinstance(content, Mapping | list | tuple):
        raise RequestError(
            f"{shown(path)} holds a {type(content).__name__}, not a state dict: save the network's with "
            "torch.save(network.state_dict(), FILE)"
        )
    return content


class _Number:
    """What stands in the place of a number of NumPy, or of its type: nothing here reads those."""

    def __init__(self, *_parts: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


_NUMBERS: list[Any] = [
    (_Number, name) for name in ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
]
"""What PyTorch may make of a pickle beside tensors and plain values, by the names that NumPy 1 and 2 write."""


def _why_unread(path: Path, data: bytes, error: Exception) -> str:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and ("Unsupported operand" not in text or is_pickle(data)):
        return how_to_save(path, data, text)
    reason = shown(text.strip().partition("\n")[0].partition(". ")[0][:200]) or type(error).__name__
    if data.startswith(b"PK") and not zipfile.is_zipfile(io.BytesIO(data)):
        reason = "the end of its zip archive is missing"
    elif "weights_only" in text or isinstance(error, KeyError):  # of which the text is a byte that it met
        reason = "its bytes cannot be read as tensors"  # PyTorch's advice at this point is to run what the file holds
    return (
        f"the weights {shown(path)} are not a whole PyTorch or safetensors checkpoint ({reason}): get the file again, "
        "or, if it holds more than tensors, save its state_dict alone on a machine where you trust it"
    )


def _tensors(content: Mapping[Any, Any] | list[Any] | tuple[Any, ...]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that has a name, by the names and numbers that lead to it; what holds others is entered once."""
    entered: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        prefix, holder = waiting.pop()
        if id(holder) in entered:
            continue
        entered.add(id(holder))
        for key, value in holder.items() if isinstance(holder, Mapping) else enumerate(holder):
            if isinstance(value, Tensor):
                if isinstance(key, str):
                    yield prefix + key, value
            elif isinstance(value, Mapping | list | tuple) and (
                isinstance(key, str) or not isinstance(holder, Mapping)
            ):
                waiting.append((f"{prefix}{key}.", value))


def _check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    missing = [key for key in expected if key not in state]
    if missing:
        raise RequestError(f"{shown(path)} lacks {len(missing)} keys of its network: {first(missing)}")
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if state[key].shape != value.shape
    ]
    if wrong:
        raise RequestError(f"{shown(path)} has {len(wrong)} keys of another shape: {first(wrong)}")
    strange = [key for key in expected if not _is_plain(state[key])]
    if strange:
        raise RequestError(f"{shown(path)} has {len(strange)} keys that are not plain float tensors: {first(strange)}")


def _is_plain(value: Tensor) -> bool:
    return value.is_floating_point() and value.layout == torch.strided and value.device.type == "cpu"


def _check_values(weights: Mapping[str, Tensor], path: Path) -> None:
    found = faults(weights)
    if found:
        raise RequestError(f"{shown(path)} has {found}")


def faults(weights: Mapping[str, Tensor]) -> str | None:
    """Which weights no network can have: those that are not finite, and negative variances; None if there are none."""
    floating = {key: value for key, value in weights.items() if value.is_floating_point()}
    broken = [key for key, value in floating.items() if not torch.isfinite(value).all()]
    if broken:
        return f"{len(broken)} keys with values that are not finite: {first(broken)}"
    negative = [key for key, value in floating.items() if key.endswith("running_var") and (value < 0).any()]
    if negative:
        return f"{len(negative)} keys with negative variances: {first(negative)}"
    return None


def _as(value: Tensor, like: Tensor) -> Tensor:
    """The weight in the type and place that the network wants, cut loose from the file."""
    return value.detach().to(like.dtype, copy=True).contiguous()


def first(keys: list[str]) -> str:
    """The first of many keys, for a message."""
    return ", ".join(shown(key) for key in keys[:3]) + (", ..." if len(keys) > 3 else "")
