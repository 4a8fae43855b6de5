"""How the families of networks are identified by the keys of their weights, and built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import (
    DEPTHS,
    IR_DEPTHS,
    WIDTHS,
    with_excitation,
)
from grafiqs.backbones.ir import IRNet
from grafiqs.backbones.iresnet import IResNet
from grafiqs.backbones.mobilefacenet import MobileFaceNet, MobileFaceNetReLU6

State = Mapping[str, Tensor]
"""The weights of a network by name, without the prefix that a checkpoint may give them."""


@dataclass(frozen=True)
class Builder:
    """What builds the networks of one naming. `anchor` is a key that all of them have and no others.

    `build` makes the network whose weights it is given, without weights of its own, and says its name; it raises
    ValueError, with the reason, when there is no such network.
    """

    anchor: str
    build: Callable[[State], tuple[str, Backbone]]


def _iresnet(state: State) -> tuple[str, Backbone]:
    depths = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")}) for stage in range(1, 5)
    )
    name = next((name for name, known in DEPTHS.items() if known == depths), None)
    if name is None:
        raise ValueError(f"has stages of {depths} blocks: not a known iresnet ({', '.join(DEPTHS)})")
    excitation = any(".se_block." in key for key in state)
    widths = _widths(state, [f"layer{stage}.0.bn3.weight" for stage in range(1, 5)])
    network = IResNet(DEPTHS[name], widths, _size(state, "fc.bias", 512), excitation)
    return with_excitation(name) if excitation else name, network


def _ir(state: State) -> tuple[str, Backbone]:
    count = len({key.split(".")[1] for key in state if key.startswith("body.")})
    name = next((name for name, depths in IR_DEPTHS.items() if sum(depths) == count), None)
    if name is None:
        raise ValueError(f"has {count} blocks: not a known IR network ({', '.join(IR_DEPTHS)})")
    excitation = any(".res_layer.5." in key for key in state)
    depths = IR_DEPTHS[name]
    ends = [sum(depths[:stage]) - 1 for stage in range(1, 5)]
    widths = _widths(state, [f"body.{end}.res_layer.4.weight" for end in ends])
    network = IRNet(depths, excitation, widths, _size(state, "output_layer.3.bias", 512))
    return with_excitation(name) if excitation else name, network


def _mobilefacenet(state: State) -> tuple[str, Backbone]:
    return "mobilefacenet", MobileFaceNet(_size(state, "last_bn.weight", 128))


def _mobilefacenet_relu6(state: State) -> tuple[str, Backbone]:
    return "mobilefacenet_relu6", MobileFaceNetReLU6(_size(state, "bn.weight", 128))


BUILDERS = (
    Builder("layer1.0.bn1.weight", _iresnet),
    Builder("body.0.res_layer.0.weight", _ir),
    Builder("conv_23.conv_dw.conv.weight", _mobilefacenet),
    Builder("gdconv.depthwise.weight", _mobilefacenet_relu6),
)


def _size(state: State, key: str, published: int) -> int:
    """The length of a vector; the published one if it is missing, which the check of the keys then names."""
    found = state.get(key)
    return published if found is None or found.ndim != 1 else len(found)


def _widths(state: State, keys: list[str]) -> tuple[int, int, int, int]:
    """The stages' channels, as the keys of their last normalisations have them."""
    first, second, third, fourth = (_size(state, key, published) for key, published in zip(keys, WIDTHS, strict=True))
    return first, second, third, fourth
