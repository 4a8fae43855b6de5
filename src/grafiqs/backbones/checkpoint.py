"""From a checkpoint file to the network that it holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafiqs.backbones.backbone import Backbone, Norms, batch_norms, is_fresh, observed
from grafiqs.backbones.catalogue import BACKBONES, TOLD, Family, family_of, published
from grafiqs.backbones.fit import Fit, article, identified
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
    told: str = "option"
    """How its input is known, one of TOLD."""
    weights_key: str | None = None
    """The names before its keys in a file of several networks."""

    @property
    def assumed(self) -> bool:
        """Whether its input is that of such networks, while these weights may have been trained on another."""
        return self.told in ("keys", "parent", "default")

    @property
    def embedding_size(self) -> int:
        """The length of an embedding."""
        return self.network.embedding_size

    def input(self) -> str:
        """What it is fed, in words, and, if that is assumed, which options say otherwise."""
        if not self.assumed:
            return str(self.preprocessing)
        network = "--backbone, " if self.told == "parent" else ""
        return f"{self.preprocessing} ({TOLD[self.told]}; {network}--channel-order, --mean and --std say otherwise)"

    def source(self) -> dict[str, Any]:
        """What the network is, besides its weights file, as JSON values."""
        return {
            **({} if self.weights_key is None else {"weights_key": self.weights_key}),
            "name": self.backbone,
            "blocks": list(self.network.blocks),
            "embedding_size": self.embedding_size,
            "norms": {"maps": self.norms.maps, "pixels": self.norms.pixels},
            "code_sha256": self.code_sha256,
        }


def load_checkpoint(path: Path, backbone: str | None = None, key: str | None = None) -> Checkpoint:
    """Load a known network from a .pth, .pt, .ckpt (PyTorch, `weights_only`) or .safetensors file.

    The state dict may be nested (in `state_dict`, `model`, ...) and its keys may carry a prefix (`module.`,
    `backbone.`, ...), whatever their names; family, depth, widths and embedding size are identified by the keys. Keys
    beside the network, such as training heads, are ignored with a log line. `key` chooses one of several networks, by
    the names before its keys.
    Raises RequestError when the file cannot be read without executing it, holds no known network, several, or another
    one than `backbone`, and when keys are missing, misshapen or not finite, variances are negative, or no statistics
    were ever learned.

    >>> checkpoint = load_checkpoint(Path("weights.pth"))
    >>> checkpoint.backbone, checkpoint.shapes["block4"], str(checkpoint.preprocessing)
    ('iresnet18', (64, 7, 7), '112x112 RGB, mean 0.5 0.5 0.5, std 0.5 0.5 0.5')
    """
    found, sha256 = read_weights(path)
    fit, chosen = identified(found, path, backbone, key)
    if backbone is not None and backbone != fit.name:
        raise RequestError(
            f"{shown(path)} is {article(fit.name)} (blocks {BACKBONES[fit.name]}), not {article(backbone)}: "
            f"give --backbone {fit.name}, or leave --backbone out"
        )
    family, network = family_of(fit.name), fit.network
    network.eval().requires_grad_(False)
    weights = fitted(fit.state, network.state_dict(), path)
    extra = [name for name in found if not name.startswith(fit.prefix)] + sorted(fit.beside)
    if extra:
        log.info("Ignoring %d keys of %s beside the backbone: %s", len(extra), shown(path.name), first(extra))
    network.load_state_dict(weights, assign=True)
    _check_statistics(network, path)
    try:
        seen = observed(network, family.preprocessing.size)
    except (RuntimeError, IndexError) as error:
        raise RequestError(
            f"{shown(path)} is {article(fit.name)} with stages of too few channels to compute"
        ) from error
    return Checkpoint(
        *(path, sha256, fit.name, network, family.preprocessing, seen.shapes, seen.norms, family),
        told=_told(sha256, family, fit),
        weights_key=chosen,
    )


def _told(sha256: str, family: Family, fit: Fit) -> str:
    """How the input of a network is known, one of TOLD."""
    if published(sha256):
        return "sha256"
    if fit.is_told_by_prefix:
        return "prefix"
    if fit.is_told_by_parent:
        return "parent"
    return "option" if family.parent else "keys"  # without its parent, it is what was asked for


def _check_statistics(network: Backbone, path: Path) -> None:
    """Raises RequestError when none of the BatchNorm2d ever learned statistics; warns when some did not."""
    norms = batch_norms(network)
    fresh = [name for name, norm in norms.items() if is_fresh(norm)]
    if len(fresh) == len(norms):
        raise RequestError(
            f"{shown(path)} holds {len(norms)} BatchNorm2d that never learned statistics (running_mean is 0 and "
            "running_var 1 in all of them): GraFIQs cannot be computed from it; give the weights of a trained network"
        )
    warn_of_fresh(fresh, len(norms), shown(path), "with these weights")


def warn_of_fresh(fresh: list[str], count: int, network: str, weights: str) -> None:
    """Warn of the BatchNorm2d, of so many in a network, that never learned statistics, if there are any."""
    if fresh:
        log.warning(
            "warning: %d of %d BatchNorm2d of %s have never learned statistics (%s): scores mean nothing %s",
            *(len(fresh), count, network, first(fresh), weights),
        )
