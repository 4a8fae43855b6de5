"""A network of the user's own, made and run once: can it give gradients, at which layers, for each image by itself?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Norms, Observer, batch_norms, is_fresh, watched
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.checkpoint import Checkpoint, warn_of_fresh
from grafiqs.backbones.code import code_sha256
from grafiqs.backbones.factory import ForeignBackbone, make, reason, state_of, what_is
from grafiqs.backbones.weights import faults, first
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.gradients import gradient_scores, measured
from grafiqs.images.preprocessing import Preprocessing

log = logging.getLogger(__name__)

_COUPLED = 1e-3
"""What differs by more than this share of itself beside another image: the images are not independent."""


def load_factory(
    factory: str,
    blocks: tuple[str, ...],
    weights: Path | None,
    preprocessing: Preprocessing,
    layers: Sequence[str] | None = None,
    norms: str = "maps",
    key: str | None = None,
) -> Checkpoint:
    """The network that `factory` makes (`grafiqs.backbones.factory.make`), ready for the scores `layers`.

    Without `layers`, for all that there are; `norms` says which BatchNorm2d count, `key` which of
    several networks in the file of weights is meant.
    Raises RequestError when it cannot be made, and when it cannot give these gradients: a probe runs it once.
    """
    backbone, sha256, chosen = make(factory, blocks, weights, key)
    what = f"--backbone {shown(factory)}"
    _check_blocks(backbone, what)
    _check_statistics(backbone, what, weights)
    images = torch.randn(2, 3, *preprocessing.size, generator=torch.Generator().manual_seed(0))
    seen = _Seen(backbone)
    seen.observer.image(tuple(images.shape[1:]))
    try:
        with watched(backbone, seen.block, seen.norm):
            together = backbone(images.clone())
        alone = backbone(images[1:].clone())
    except Exception as error:
        height, width = preprocessing.size
        raise RequestError(
            f"{what} does not run on images of {height}x{width} (--input-size): {reason(error)}"
        ) from error
    backbone.embedding_size = together.shape[1]
    layers = None if layers is None else [layer for layer in layers if layer in LAYERS]
    counted = seen.check(layers, what, norms)
    layers = counted.layers[norms] if layers is None else layers
    coupled = "embedding" if _relative(together[1:], alone) > _COUPLED else None
    try:
        together, alone = (_scores(backbone, batch, layers, norms) for batch in (images, images[1:]))
    except Exception as error:
        why = reason(error)
        if "inplace operation" in why:
            why = "it changes in place (as x += y) what it needs on the way back: write x = x + y there"
        raise RequestError(f"{what} has no gradients at {', '.join(layers)}: {why}") from error
    if not torch.allclose(together[1:], alone, rtol=_COUPLED, atol=0, equal_nan=True):
        coupled = "score"
    if coupled:
        raise RequestError(
            f"{what} gives an image another {coupled} beside another image, or a second time: in eval mode, images "
            "must not influence each other, and nothing may be random"
        )
    code, shapes = code_sha256(backbone.network, factory), seen.observer.shapes
    return Checkpoint(
        *(weights, sha256, factory, backbone, preprocessing, shapes, counted), code_sha256=code, weights_key=chosen
    )


def _check_blocks(backbone: ForeignBackbone, what: str) -> None:
    names = [name for name, _ in backbone.network.named_modules(remove_duplicate=False) if name]
    unknown = [name for name in backbone.blocks if name not in names]
    if unknown:
        top = ", ".join(shown(name) for name in names if "." not in name) or "none"
        raise RequestError(f"{what} has no module {first(unknown)}; its modules are {top}, and those within them")


def _check_statistics(backbone: ForeignBackbone, what: str, weights: Path | None) -> None:
    norms = batch_norms(backbone.network)
    others = [name for name, module in backbone.network.named_modules() if isinstance(module, nn.SyncBatchNorm)]
    if others:
        raise RequestError(
            f"{what} has {len(others)} SyncBatchNorm ({first(others)}): make BatchNorm2d of them, with the same "
            "weights and statistics, which compute the same in eval mode"
        )
    if not norms:
        raise RequestError(f"{what} has no BatchNorm2d: GraFIQs compares with the statistics that those have learned")
    bare = [name for name, norm in norms.items() if norm.running_mean is None or norm.running_var is None]
    if bare:
        raise RequestError(f"{what} has {len(bare)} BatchNorm2d without running statistics: {first(bare)}")
    found = faults(state_of(backbone.network))
    if found:
        raise RequestError(f"{what} has {found}")
    fresh = [name for name, norm in norms.items() if is_fresh(norm)]
    if fresh and weights is not None and len(fresh) == len(norms):
        raise RequestError(
            f"the weights {shown(weights)} hold no learned statistics for any of the {len(norms)} BatchNorm2d of {what}"
            ": GraFIQs cannot be computed from them; give the weights of a trained network"
        )
    advice = "without trained weights (--weights)" if weights is None else f"with the weights {shown(weights)}"
    warn_of_fresh(fresh, len(norms), what, advice)


class _Seen:
    """What one forward pass shows of a network: its blocks, and how often and in which order they run."""

    def __init__(self, backbone: ForeignBackbone) -> None:
        self._backbone = backbone
        self.observer = Observer()
        self._order: list[str] = []
        self._odd: dict[str, str] = {}
        self._without_gradients = False
        self._norms: dict[nn.Module, str] = {norm: name for name, norm in batch_norms(backbone.network).items()}

    def block(self, layer: str, output: object) -> None:
        """The block of a layer gives this output."""
        self._order.append(layer)
        if isinstance(output, Tensor) and output.ndim == 4 and output.dtype == torch.float32:
            self.observer.block(layer, output)
        else:
            self._odd[layer] = what_is(output)

    def norm(self, norm: nn.Module, u: Tensor) -> None:
        """A BatchNorm2d is given this input."""
        self._norms.pop(norm, None)  # what is left in the end never ran
        self._without_gradients |= not torch.is_grad_enabled()
        self.observer.norm(norm, u)

    def check(self, layers: Sequence[str] | None, what: str, choice: str) -> Norms:
        """The BatchNorm2d that ran. Raises RequestError, with what to do, when the blocks cannot be layers."""
        names = dict(zip(LAYERS[1:], self._backbone.blocks, strict=True))
        told = {layer: f"{layer} ({shown(name)})" for layer, name in names.items()}
        for layer, output in self._odd.items():
            raise RequestError(
                f"{told[layer]} of {what} gives {output}, not float32 maps (B, C, H, W): name another in --blocks"
            )
        for layer in names:
            if self._order.count(layer) != 1:
                runs = "runs several times" if layer in self._order else "never runs"
                raise RequestError(f"{told[layer]} of {what} {runs} for an image: name another module in --blocks")
        if self._order != list(names):
            order = ",".join(shown(names[layer]) for layer in self._order)
            raise RequestError(f"the blocks of {what} run in another order: give --blocks {order}")
        norms = self.observer.norms
        reached = norms.layers[choice]
        if not reached:
            seen = "sees more than single pixels (--norms all takes them)" if norms.pixels else "runs"
            raise RequestError(f"{what} has BatchNorm2d, but none of them {seen}")
        if self._without_gradients:
            raise RequestError(
                f"{what} runs without gradients: its forward must not be under no_grad or inference_mode"
            )
        if self._norms:
            names_left = first(list(self._norms.values()))
            log.warning("warning: %d BatchNorm2d of %s never run: %s", len(self._norms), what, names_left)
        late = [layer for layer in layers or () if layer not in reached]
        if late:
            others = " that counts (--norms all takes more)" if set(late) <= set(norms.layers["all"]) else ""
            raise RequestError(
                f"{', '.join(told.get(layer, layer) for layer in late)} of {what}: no BatchNorm2d{others} runs after "
                f"it, so that no gradient reaches it: name an earlier module in --blocks, or give --layers "
                f"{','.join(reached)}"
            )
        return norms


def _relative(found: Tensor, expected: Tensor) -> float:
    """The L2 difference, as a share of what is expected."""
    return float((found - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float32).tiny))


def _scores(backbone: ForeignBackbone, images: Tensor, layers: Sequence[str], norms: str) -> Tensor:
    found = measured(backbone, images, layers, norms, losses=True)
    losses = [] if found.losses is None else [found.losses]
    return torch.stack([*map(gradient_scores, found.gradients.values()), *losses], dim=1)
