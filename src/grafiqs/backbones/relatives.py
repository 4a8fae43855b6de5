"""Networks that are a known one but for what they take or give: images of another size, one channel, another head."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from torch import Size, Tensor

from grafiqs.backbones.backbone import Backbone

ROUTE = "any other network with BatchNorm2d goes by --backbone package.module:factory --blocks NAME,NAME,NAME,NAME"
"""What to do with a network that is not known."""

_SIDE = 7
"""Of the maps that the head of a network for 112x112 images is given."""

_STRIDE = 16
"""Pixels of the image in one of those maps, in each direction."""


def another_form(network: Backbone, state: Mapping[str, Tensor]) -> str | None:
    """What weights that are nearly the network's are instead, with what to do; None if it is not one of these."""
    expected = {key: value.shape for key, value in network.state_dict().items() if value.is_floating_point()}
    wrong = [key for key, shape in expected.items() if key in state and state[key].shape != shape]
    lacking = [key for key in expected if key not in state]
    stem, end = next(iter(expected)), _end(network, expected)
    forms, size, others = [], "", []
    for key in wrong:
        if key == stem and state[key].ndim == 4 and state[key].shape[0] == expected[key][0]:
            forms.append(f"that takes {_channels(state[key].shape[1])}")
        elif key in end and (maps := _maps(state[key].shape, expected[key])):
            size = "" if len(maps) == 1 else f"{maps[0] * _STRIDE}x{maps[1] * _STRIDE}"
            forms.append(f"for images of {size or 'another size than 112x112'}")
        elif key in end and len(expected[key]) > 1:
            others.append(_module(key))
        else:
            return None
    if lacking:
        modules = dict.fromkeys(_module(key) for key in lacking)
        whole = not any(_module(key) in modules for key in expected.keys() & state.keys())
        if len(lacking) == 1 or not whole or not end.issuperset(lacking):
            return None
        without = any(len(expected[key]) > 1 for key in lacking)
        forms.append(f"that has {'no' if without else 'another'} head (it lacks {', '.join(modules)})")
    elif others:
        forms.append(f"that has another head ({', '.join(others)})")
    if not forms:
        return None
    return f"{' and '.join(forms)}, which is not known here: {ROUTE}{f' --input-size {size}' if size else ''}"


def _end(network: Backbone, expected: Mapping[str, Size]) -> set[str]:
    """The keys after those of block4."""
    keys = list(expected)
    last = max(place for place, key in enumerate(keys) if key.startswith(f"{network.blocks[-1]}."))
    within = {block.partition(".")[0] for block in network.blocks}
    return {key for key in keys[last + 1 :] if key.partition(".")[0] not in within}


def _maps(found: Size, expected: Size) -> tuple[int, ...]:
    """Height and width of the maps that a weight of the head is for, or their product; empty if that is not it."""
    if len(found) != len(expected) or found[0] != expected[0]:
        return ()
    if len(found) == 4 and tuple(expected[2:]) == (_SIDE, _SIDE) and found[1] == expected[1]:
        return tuple(found[2:])
    if len(found) != 2 or expected[1] % _SIDE**2 or not expected[1]:
        return ()
    pixels, rest = divmod(found[1], expected[1] // _SIDE**2)
    if pixels < 2 or rest:  # of one pixel, it is a mean of the maps, for images of any size
        return ()
    side = isqrt(pixels)
    return (side, side) if side**2 == pixels else (pixels,)


def _module(key: str) -> str:
    return key.rpartition(".")[0]


def _channels(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}, not 3"
