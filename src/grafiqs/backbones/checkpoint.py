"""From a checkpoint file to the network that it holds."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grafiqs.backbones.backbone import Backbone, Norms, observed
from grafiqs.backbones.catalogue import BACKBONES, Family, family_of
from grafiqs.backbones.families import BUILDERS, Builder
from grafiqs.backbones.weights import first, fitted, read_weights
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.images.preprocessing import Preprocessing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, in eval mode, frozen, float32, on the CPU."""

    path: Path | None
    """The weights file; None if the network brought its own weights."""
    sha256: str
    """Of that file, or of the state dict."""
    backbone: str
    network: Backbone
    preprocessing: Preprocessing
    shapes: dict[str, tuple[int, ...]]
    """The shape (C, H, W) of one image's activation at each layer."""
    norms: Norms
    """Its BatchNorm2d."""
    family: Family | None = None
    """What is known of such networks, if anything."""
    code_sha256: str | None = None
    """Of the code of a third-party network."""

    @property
    def embedding_size(self) -> int:
        """The length of an embedding."""
        return self.network.embedding_size

    def source(self) -> dict[str, Any]:
        """What the network is, besides its weights, as JSON values."""
        return {
            "name": self.backbone,
            "blocks": list(self.network.blocks),
            "embedding_size": self.embedding_size,
            "norms": {"maps": self.norms.maps, "pixels": self.norms.pixels},
            "code_sha256": self.code_sha256,
        }


def load_checkpoint(path: Path, backbone: str | None = None) -> Checkpoint:
    """Load a known network from a .pth, .pt, .ckpt (PyTorch, `weights_only`) or .safetensors file.

    The state dict may be nested (in `state_dict`, `model`, ...) and its keys may carry a prefix (`module.`,
    `backbone.`, ...), whatever their names; family, depth, widths and embedding size are identified by the keys. Keys
    beside the network, such as training heads, are ignored with a log line.
    Raises RequestError when the file cannot be read without executing it, holds no known network, or another one
    than `backbone`, or when keys are missing, misshapen or not finite.

    >>> checkpoint = load_checkpoint(Path("weights.pth"))
    >>> checkpoint.backbone, checkpoint.shapes["block4"], str(checkpoint.preprocessing)
    ('iresnet18', (64, 7, 7), '112x112 RGB, mean 0.5 0.5 0.5, std 0.5 0.5 0.5')
    """
    found, sha256 = read_weights(path)
    builder, state, ignored = _network_keys(found, path)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights without elements, which are looked for below
            name, network = builder.build(state)
    except ValueError as error:
        raise RequestError(f"{shown(path)} {error}") from error
    if backbone is not None and backbone != name:
        raise RequestError(
            f"{shown(path)} is {_article(name)} (blocks {BACKBONES[name]}), not {_article(backbone)}: "
            f"give --backbone {name}, or leave --backbone out"
        )
    family = family_of(name)
    network.eval().requires_grad_(False)
    expected = network.state_dict()
    weights = fitted(state, expected, path)
    extra = ignored + sorted(state.keys() - expected.keys())
    if extra:
        log.info("Ignoring %d keys of %s beside the backbone: %s", len(extra), shown(path.name), first(extra))
    network.load_state_dict(weights, assign=True)
    try:
        seen = observed(network, family.preprocessing.size)
    except (RuntimeError, IndexError) as error:
        raise RequestError(f"{shown(path)} is {_article(name)} with stages of too few channels to compute") from error
    return Checkpoint(path, sha256, name, network, family.preprocessing, seen.shapes, seen.norms, family)


def _article(name: str) -> str:
    return f"{'a' if name.startswith('m') else 'an'} {name}"


def _network_keys(found: dict[str, Tensor], path: Path) -> tuple[Builder, dict[str, Tensor], list[str]]:
    """What builds the network, the network's own keys without their prefix, and the keys of everything else."""
    networks = [
        (builder, key.removesuffix(builder.anchor))
        for builder in BUILDERS
        for key in found
        if key.endswith(builder.anchor)
    ]
    networks = [(builder, prefix) for builder, prefix in networks if not prefix or prefix.endswith(".")]
    if not networks:
        keys = f"its keys begin with {first(list(found))}" if found else "it holds no tensors by name"
        raise RequestError(
            f"{shown(path)} holds no known network ({', '.join(BACKBONES)}; any other with BatchNorm2d "
            f"is available by --backbone package.module:factory): {keys}"
        )
    if len(networks) > 1:
        names = ", ".join(repr(prefix) for _, prefix in networks)
        raise RequestError(f"{shown(path)} holds {len(networks)} networks ({names}): save the one you want by itself")
    [(builder, prefix)] = networks
    state = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return builder, state, [key for key in found if not key.startswith(prefix)]
