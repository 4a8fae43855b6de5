"""The network that options ask for, the input that it is given, and what it is scored by."""

from __future__ import annotations

import logging
from dataclasses import replace

from grafiqs.backbones.catalogue import LAYERS, LOSS
from grafiqs.backbones.checkpoint import Checkpoint, load_checkpoint
from grafiqs.backbones.weights import check_file
from grafiqs.compute.probe import load_factory
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.images.preprocessing import USUAL, Preprocessing
from grafiqs.options.compute import ComputeOptions

log = logging.getLogger(__name__)


def load_network(options: ComputeOptions) -> Checkpoint:
    """The network that `options` ask for, and the input that it is to be given; logs both.

    Raises RequestError when there is no such network.
    """
    checkpoint = _factory(options) if options.is_factory else _known(options)
    log.info(
        "Backbone: %s from %s (SHA-256 %s)",
        *(shown(checkpoint.backbone), shown(checkpoint.path or "its own weights"), checkpoint.sha256),
    )
    return checkpoint


def _known(options: ComputeOptions) -> Checkpoint:
    checkpoint = load_checkpoint(check_file(options.weights), options.backbone, options.weights_key)
    preprocessing = _changed(checkpoint.preprocessing, options)
    if preprocessing != checkpoint.preprocessing and not checkpoint.assumed:
        log.warning(
            "warning: %s is known to expect %s, and is given another input, as asked for",
            *(checkpoint.backbone, checkpoint.preprocessing),
        )
    return replace(checkpoint, preprocessing=preprocessing, told="option" if _asks(options) else checkpoint.told)


def _factory(options: ComputeOptions) -> Checkpoint:
    preprocessing = _changed(replace(USUAL, size=options.input_size or USUAL.size), options)
    checkpoint = load_factory(
        *(str(options.backbone), options.blocks, options.weights, preprocessing, options.layers, options.norms),
        key=options.weights_key,
    )
    return replace(checkpoint, told="option" if _asks(options) else "default")


def _changed(preprocessing: Preprocessing, options: ComputeOptions) -> Preprocessing:
    """The input that options ask for; what they leave open stays."""
    order = "rgb" if options.bgr2rgb else options.channel_order
    return preprocessing.changed(order, options.mean, options.std)


def _asks(options: ComputeOptions) -> bool:
    """Whether options say what the network is fed."""
    return bool(options.channel_order or options.bgr2rgb or options.mean or options.std)


def scores_of(options: ComputeOptions, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The scores of a run: those that were asked for, or all that there are; logs which layers have no gradient.

    Raises RequestError when a layer that was asked for has none.
    """
    log.info("Statistics: %s", checkpoint.norms.said(options.norms))
    reached = (*checkpoint.norms.layers[options.norms], LOSS)
    asked = options.layers or reached
    more = " (--norms all takes more of them)" if reached[:-1] != checkpoint.norms.layers["all"] else ""
    without = ", ".join(layer for layer in options.layers or LAYERS if layer not in reached)
    if without and options.layers:
        raise RequestError(
            f"no BatchNorm2d that counts comes after {without} in {shown(checkpoint.backbone)}: there is no gradient; "
            f"give --layers {','.join(reached)}{more}"
        )
    if without:
        log.info("Layers: %s; no BatchNorm2d that counts comes after %s%s", ", ".join(asked), without, more)
    return asked
