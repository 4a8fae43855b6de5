"""Any network with BatchNorm2d: made by code of the user's own, its parts named by the user."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone, Norms, Observer
from grafiqs.backbones.catalogue import LAYERS, Preprocessing
from grafiqs.backbones.checkpoint import Checkpoint
from grafiqs.backbones.weights import first, fitted, read_weights
from grafiqs.errors import RequestError
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.names import shown

log = logging.getLogger(__name__)

_COUPLED = 1e-3
"""What differs by more than this share of itself beside another image: the images are not independent."""


class ForeignBackbone(Backbone):
    """A network whose making is unknown; all of it is its trunk."""

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
            raise TypeError(f"it gives {_what(found)} for {len(image)} images, not a tensor of as many embeddings")
        return found


def load_factory(
    factory: str,
    blocks: tuple[str, ...],
    weights: Path | None,
    preprocessing: Preprocessing,
    layers: Sequence[str] | None = None,
    norms: str = "maps",
) -> Checkpoint:
    """The network that `package.module:factory` makes when it is called, ready for gradients at `layers`.

    Without `layers`, for those at all layers that have one; `norms` says which BatchNorm2d count.

    The module is imported, and found in the current folder too; this runs its code. `blocks` are the names, in the
    network, of the four modules whose outputs are block1 to block4. `weights` is a file with a state dict for it;
    without one, the network keeps the weights that it is made with.
    Raises RequestError when there is no such code or it fails, when the weights do not fit, and when the network cannot
    give these gradients: a probe runs it once.
    """
    network = _made(factory)
    sha256 = _state_sha256(network) if weights is None else _load(network, weights)
    backbone = ForeignBackbone(network, blocks).eval()
    shapes, counted = _probed(backbone, factory, preprocessing, layers, norms)
    code = _code_sha256(network, factory)
    return Checkpoint(weights, sha256, factory, backbone, preprocessing, shapes, counted, code_sha256=code)


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
                network.eval()  # one by one: a network of others' making need not return itself
                network.requires_grad_(False)
                network.cpu()
                network.float()
    except (Exception, SystemExit) as error:  # code of others fails in every way there is
        raise RequestError(f"{what} cannot be had: {_reason(error)}") from error
    if not isinstance(network, nn.Module):
        raise RequestError(f"{what} gives {_what(network)}, not a torch.nn.Module")
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


def _load(network: nn.Module, weights: Path) -> str:
    """Give the network the weights of a file, whose keys may carry a prefix; returns the file's SHA-256."""
    found, sha256 = read_weights(weights)
    expected = _state(network)
    anchor = next((key for key, value in expected.items() if value.is_floating_point()), "")
    counts = {
        prefix: sum(prefix + key in found for key in expected)
        for prefix in ("", *(key.removesuffix(anchor) for key in found if key.endswith(f".{anchor}")))
    }
    prefix, *others = [prefix for prefix, count in counts.items() if count == max(counts.values())]
    if others and counts[prefix]:
        names = ", ".join(repr(name) for name in (prefix, *others))
        raise RequestError(f"{shown(weights)} holds {1 + len(others)} such networks ({names}): save one by itself")
    state = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    chosen = fitted(state, expected, weights)
    extra = [key for key in found if not (key.startswith(prefix) and key.removeprefix(prefix) in expected)]
    if extra:
        log.info("Ignoring %d keys of %s beside the backbone: %s", len(extra), shown(weights.name), first(extra))
    network.load_state_dict(chosen, strict=False)  # all is there: what is not is no weight
    return sha256


def _state(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network, without what else its state dict may hold."""
    return {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}


def _state_sha256(network: nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every weight, in the order of the state dict."""
    digest = hashlib.sha256()
    for name, value in _state(network).items():
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


_sources: dict[str, tuple[ModuleType, bytes]] = {}
"""What modules were read from when they were first met: files may have changed since, without what was imported."""


def _code_sha256(network: nn.Module, factory: str) -> str:
    """SHA-256 over the source files of a network: of its factory, of its classes and theirs, and of what those use.

    Weights do not tell what a network does with them: a run that goes on with other code would be two runs. What they
    use is followed through the names in their modules, as far as these are the user's own: installed packages count
    where a class of the network comes from them, PyTorch and the standard library never.
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
        met[name], file = source
        if not {"site-packages", "dist-packages"} & set(file.parts):
            waiting += filter(_is_own, map(_module_of, list(vars(sys.modules[name]).values())))
    digest = hashlib.sha256()
    for name in sorted(met):
        digest.update(f"{name}\0{len(met[name])}\0".encode() + met[name])
    return digest.hexdigest()


def _source(name: str) -> tuple[bytes, Path] | None:
    """The source of an imported module, and its file; None for what comes with Python, PyTorch or this package."""
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
    return _sources[name][1], Path(file)


def _module_of(value: object) -> str:
    """The name of the module that a value is, or comes from; none where it does not say."""
    try:
        name = value.__name__ if isinstance(value, ModuleType) else value.__module__
    except Exception:  # noqa: BLE001 - what stands in a module of others may answer in any way
        return ""
    return name if isinstance(name, str) else ""


def _is_own(name: str) -> bool:
    """Whether a module is the user's own, no installed one."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not {"site-packages", "dist-packages"} & set(Path(file).parts)


# -- the probe ---------------------------------------------------------------------------------------------


def _probed(
    backbone: ForeignBackbone, factory: str, preprocessing: Preprocessing, layers: Sequence[str] | None, choice: str
) -> tuple[dict[str, tuple[int, ...]], Norms]:
    """The shape of every layer, and its BatchNorm2d, of which those of a choice count.

    Raises RequestError when the network cannot give the gradients at `layers`.
    """
    what = f"--backbone {shown(factory)}"
    _check_blocks(backbone, what)
    _check_statistics(backbone, what)
    images = torch.randn(2, 3, *preprocessing.size, generator=torch.Generator().manual_seed(0))
    seen = _Seen(backbone)
    try:
        with seen.watching(images):
            together = backbone(images.clone())
        alone = backbone(images[1:].clone())
    except Exception as error:
        height, width = preprocessing.size
        raise RequestError(
            f"{what} does not run on images of {height}x{width} (--input-size): {_reason(error)}"
        ) from error
    backbone.embedding_size = together.shape[1]
    norms = seen.check(layers, what, choice)
    layers = norms.layers[choice] if layers is None else layers
    coupled = "embedding" if _relative(together[1:], alone) > _COUPLED else None
    try:
        together, alone = (_scores(backbone, batch, layers, choice) for batch in (images, images[1:]))
    except Exception as error:
        reason = _reason(error)
        if "inplace operation" in reason:
            reason = "it changes in place (as x += y) what it needs on the way back: write x = x + y there"
        raise RequestError(f"{what} has no gradients at {', '.join(layers)}: {reason}") from error
    if not torch.allclose(together[1:], alone, rtol=_COUPLED, atol=0, equal_nan=True):
        coupled = "score"
    if coupled:
        raise RequestError(
            f"{what} gives an image another {coupled} beside another image, or a second time: in eval mode, images "
            "must not influence each other, and nothing may be random"
        )
    return seen.observer.shapes, norms


def _check_blocks(backbone: ForeignBackbone, what: str) -> None:
    names = [name for name, _ in backbone.network.named_modules(remove_duplicate=False) if name]
    unknown = [name for name in backbone.blocks if name not in names]
    if unknown:
        top = ", ".join(shown(name) for name in names if "." not in name) or "none"
        raise RequestError(f"{what} has no module {first(unknown)}; its modules are {top}, and those within them")


def _check_statistics(backbone: ForeignBackbone, what: str) -> None:
    norms = {name: module for name, module in backbone.network.named_modules() if isinstance(module, nn.BatchNorm2d)}
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
    broken = [
        key
        for key, value in _state(backbone.network).items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise RequestError(f"{what} has {len(broken)} weights that are not finite: {first(broken)}")
    fresh = [name for name, norm in norms.items() if not norm.running_mean.any() and (norm.running_var == 1).all()]  # type: ignore[union-attr]
    if fresh:
        log.warning(
            "warning: %d of %d BatchNorm2d of %s have never learned statistics (%s): scores mean nothing without "
            "trained weights (--weights)",
            *(len(fresh), len(norms), what, first(fresh)),
        )


class _Seen:
    """What one forward pass shows of a network: its blocks, and how often and in which order they run."""

    def __init__(self, backbone: ForeignBackbone) -> None:
        self._backbone = backbone
        self.observer = Observer()
        self._order: list[str] = []
        self._odd: dict[str, str] = {}
        self._without_gradients = False
        self._norms = {module: name for name, module in backbone.network.named_modules() if _is_norm(module)}

    @contextmanager
    def watching(self, images: Tensor) -> Iterator[None]:
        """Look on while the block runs the network on these images."""
        hooks = []
        self.observer.image(tuple(images.shape[1:]))
        try:
            for layer, name in zip(LAYERS[1:], self._backbone.blocks, strict=True):
                hooks.append(self._backbone.block(name).register_forward_hook(partial(self._ran, layer)))
            norms = [module for module in self._backbone.modules() if isinstance(module, nn.BatchNorm2d)]
            hooks += [norm.register_forward_pre_hook(self._normed) for norm in norms]
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _ran(self, layer: str, _block: nn.Module, _inputs: object, output: object) -> None:
        self._order.append(layer)
        if isinstance(output, Tensor) and output.ndim == 4 and output.dtype == torch.float32:
            self.observer.block(layer, output)
        else:
            self._odd[layer] = _what(output)

    def _normed(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._norms.pop(norm, None)  # what is left in the end never ran
        self._without_gradients |= not torch.is_grad_enabled()
        self.observer.norm(inputs[0])

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
    found = image_gradients(backbone, images, layers, norms)
    return torch.stack([gradient_scores(gradient) for gradient in found.values()], dim=1)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)


def _what(value: object) -> str:
    """What a value is, for a message."""
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"


def _reason(error: BaseException) -> str:
    """An exception of others' code in one line."""
    text = shown(" ".join(str(error).split())[:300])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
