"""Any network with BatchNorm2d: made by code of the user's own, its blocks named by the user."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.prefixes import chosen
from grafiqs.backbones.weights import first, fitted, read_weights
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

log = logging.getLogger(__name__)


class ForeignBackbone(Backbone):
    """A third-party network, of unknown architecture; all of it is its trunk."""

    known = False

    def __init__(self, network: nn.Module, blocks: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.blocks = blocks
        self.embedding_size = 0  # until it has been seen

    def block(self, name: str) -> nn.Module:
        """The module of that name in the network."""
        return self.network.get_submodule(name)

    def trunk(self, image: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) -> what the network gives for them: a tensor, or the first of several."""
        found: Any = self.network(image)
        while isinstance(found, tuple | list) and found:
            found = found[0]
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(image):
            raise TypeError(f"it gives {what_is(found)} for {len(image)} images, not a tensor of as many embeddings")
        return found


def make(
    factory: str, blocks: tuple[str, ...], weights: Path | None, key: str | None = None
) -> tuple[ForeignBackbone, str, str | None]:
    """The network that `package.module:factory` makes when it is called, and the SHA-256 of its weights.

    And the names that tell it from others in the same file, if there are any.

    The module is imported, and found in the current folder too; this runs its code. `blocks` are the names, in the
    network, of the four modules whose outputs are block1 to block4. `weights` is a file with a state dict for it;
    without one, the network keeps the weights that it is made with, and the SHA-256 is that of its state dict. `key`
    chooses among several networks in that file.
    Raises RequestError when there is no such code or it fails, and when the weights do not fit.
    """
    network = _made(factory)
    sha256, chosen_key = (_state_sha256(network), None) if weights is None else _load(network, weights, key)
    return ForeignBackbone(network, blocks).eval(), sha256, chosen_key


def _made(factory: str) -> nn.Module:
    """Import and call the factory."""
    module, _, name = factory.partition(":")
    what = f"--backbone {shown(factory)}"
    if not module or not name:
        raise RequestError(f"{what} does not name a factory: it takes package.module:factory")
    try:
        with _importable_here():
            found: Any = reduce(getattr, name.split("."), import_module(module))
            network = found if isinstance(found, nn.Module) else found()
            if isinstance(network, nn.Module):
                network.eval()  # one by one: a third-party network need not return itself
                network.requires_grad_(False)
                network.cpu()
                network.float()
    except (Exception, SystemExit) as error:  # third-party code fails in every way there is
        raise RequestError(f"{what} is not available: {reason(error)}") from error
    if not isinstance(network, nn.Module):
        raise RequestError(f"{what} gives {what_is(network)}, not a torch.nn.Module")
    return network


@contextmanager
def _importable_here() -> Iterator[None]:
    """Let modules in the current folder be imported, as `python -m` does."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _load(network: nn.Module, weights: Path, key: str | None) -> tuple[str, str | None]:
    """Give the network the weights of a file, whose keys may carry a prefix.

    Returns the file's SHA-256, and the names that tell the network from others in the file, if there are any.
    """
    found, sha256 = read_weights(weights)
    expected = state_of(network)
    anchor = next((name for name, value in expected.items() if value.is_floating_point()), "")
    counts = {
        prefix: sum(prefix + name in found for name in expected)
        for prefix in ("", *(name.removesuffix(anchor) for name in found if name.endswith(f".{anchor}")))
    }
    networks = [prefix for prefix, count in counts.items() if count == max(counts.values())]
    prefix = chosen(networks, key, weights) if counts[networks[0]] else ""
    state = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    fitting = fitted(state, expected, weights)
    extra = [name for name in found if not (name.startswith(prefix) and name.removeprefix(prefix) in expected)]
    if extra:
        log.info("Ignoring %d keys of %s beside the backbone: %s", len(extra), shown(weights.name), first(extra))
    network.load_state_dict(fitting, strict=False)  # no weight is missing: what is left out is not one
    return sha256, prefix.removesuffix(".") if len(networks) > 1 else None


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network, without what else its state dict may hold."""
    return {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}


def _state_sha256(network: nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every weight, in the order of the state dict."""
    digest = hashlib.sha256()
    for name, value in state_of(network).items():
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def what_is(value: object) -> str:
    """What a value is, for a message."""
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"


def reason(error: BaseException) -> str:
    """An exception of the user's code, in one line."""
    text = shown(" ".join(str(error).split())[:300])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
