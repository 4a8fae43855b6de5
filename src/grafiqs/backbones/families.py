"""How the networks of each naming are found in a file, and built as wide and deep as their keys say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import (
    ADAFACE_BOTTLENECK_DEPTHS,
    ADAFACE_DEPTHS,
    BOTTLENECK_WIDTHS,
    DEPTHS,
    IR_DEPTHS,
    MAGFACE,
    MAGFACE_DEPTHS,
    MBF_DEPTHS,
    WIDTHS,
    Depths,
    Family,
    with_excitation,
)
from grafiqs.backbones.ir import ADAFACE, ADAFACE_BOTTLENECK, FACE_EVOLVE, IRNet
from grafiqs.backbones.iresnet import IResNet
from grafiqs.backbones.mobilefacenet import (
    MobileFaceNet,
    MobileFaceNetInsightFace,
    MobileFaceNetReLU6,
    WideMobileFaceNet,
)
from grafiqs.backbones.residual import UnitForm

State = Mapping[str, Tensor]
"""The weights of a network by name, without the prefix that a checkpoint may give them."""


@dataclass(frozen=True)
class Naming:
    """The networks whose parts have the same names.

    `landmarks` are some of their keys: where a file has one of them, such a network may begin. `build` makes the
    network of this naming that is nearest to the weights it is given, without weights of its own, and says its name:
    whether they fit is for others to judge. `family` is that of a naming whose keys a more usual one has, too: it is
    only for files with its parent, and for those who ask for it.
    """

    landmarks: tuple[str, ...]
    build: Callable[[State], tuple[str, Backbone]]
    family: Family | None = None


def _iresnet(state: State) -> tuple[str, Backbone]:
    name, depths = _nearest(DEPTHS, _stages_of_iresnet(state))
    excitation = any(".se_block." in key for key in state)
    network = IResNet(depths, *_sizes_of_iresnet(state), excitation)
    return with_excitation(name) if excitation else name, network


def _magface(state: State) -> tuple[str, Backbone]:
    name, depths = _nearest(MAGFACE_DEPTHS, _stages_of_iresnet(state))
    return name, IResNet(depths, *_sizes_of_iresnet(state), epsilon=2e-5)


def _stages_of_iresnet(state: State) -> tuple[int, ...]:
    return tuple(_count(state, f"layer{stage}.") for stage in range(1, 5))


def _sizes_of_iresnet(state: State) -> tuple[tuple[int, int, int, int], int]:
    widths = tuple(
        _length(state, rf"layer{stage}\.\d+\.bn3\.\w+", width) for stage, width in enumerate(WIDTHS, start=1)
    )
    return widths, _length(state, r"features\.\w+|fc\.bias", 512)  # type: ignore[return-value]


def _face_evolve(state: State) -> tuple[str, Backbone]:
    return _ir(state, IR_DEPTHS, FACE_EVOLVE, ".res_layer.5.fc")


def _adaface(state: State) -> tuple[str, Backbone]:
    if any(".res_layer.8." in key for key in state):
        return _ir(state, ADAFACE_BOTTLENECK_DEPTHS, ADAFACE_BOTTLENECK, ".se_block.", BOTTLENECK_WIDTHS)
    return _ir(state, ADAFACE_DEPTHS, ADAFACE, ".se_block.")


def _ir(
    state: State, known: Mapping[str, Depths], form: UnitForm, excited: str, published: tuple[int, ...] = WIDTHS
) -> tuple[str, Backbone]:
    """An IR network of units of that form; `excited` is in the keys of those with squeeze and excitation."""
    count = _count(state, "body.")
    name, depths = min(known.items(), key=lambda each: abs(sum(each[1]) - count))
    excitation = any(excited in key for key in state)
    last = len(form.parts(1, form.narrowing, 1)) - 1
    ends = [sum(depths[:stage]) for stage in range(5)]
    widths = tuple(
        _length(state, rf"body\.({'|'.join(map(str, range(start, end)))})\.res_layer\.{last}\.\w+", width)
        for start, end, width in zip(ends, ends[1:], published, strict=False)
    )
    size = _length(state, r"output_layer\.4\.\w+|output_layer\.3\.bias", 512)
    affine = not state.keys().isdisjoint(("output_layer.4.weight", "output_layer.4.bias"))
    network = IRNet(depths, excitation, widths, size, form, affine)  # type: ignore[arg-type]
    return with_excitation(name) if excitation else name, network


def _mobilefacenet(state: State) -> tuple[str, Backbone]:
    return "mobilefacenet", MobileFaceNet(_length(state, r"last_bn\.\w+", 128))


def _mobilefacenet_insightface(state: State) -> tuple[str, Backbone]:
    return "mobilefacenet_insightface", MobileFaceNetInsightFace(_length(state, r"bn\.\w+", 512))


def _mobilefacenet_relu6(state: State) -> tuple[str, Backbone]:
    return "mobilefacenet_relu6", MobileFaceNetReLU6(_length(state, r"bn\.\w+|conv3\.bias", 128))


def _mbf(state: State) -> tuple[str, Backbone]:
    counts = (1, *(_count(state, f"layers.{number}.layers.") for number in (3, 5, 7)))
    name, depths = _nearest(MBF_DEPTHS, counts)
    scale = max(1, _length(state, r"layers\.0\.layers\.1\.\w+", 128) // 64)
    return name, WideMobileFaceNet(depths, scale, _length(state, r"features\.layers\.3\.\w+", 512))


_RESIDUAL_LANDMARKS = tuple(f"layer{stage}.{unit}.conv1.weight" for stage in (1, 2, 3, 4) for unit in (0, 1))
_IR_LANDMARKS = tuple(f"body.{unit}.res_layer.0.weight" for unit in range(8))
_MOBILE_LANDMARKS = tuple(f"conv_{stage}.conv_dw.conv.weight" for stage in (23, 34, 45))

NAMINGS = (
    Naming(_RESIDUAL_LANDMARKS, _iresnet),
    Naming(_RESIDUAL_LANDMARKS, _magface, MAGFACE),
    Naming(_IR_LANDMARKS, _face_evolve),
    Naming(_IR_LANDMARKS, _adaface),
    Naming(_MOBILE_LANDMARKS, _mobilefacenet),
    Naming(_MOBILE_LANDMARKS, _mobilefacenet_insightface),
    Naming(tuple(f"features.{number}.conv.1.0.weight" for number in (0, 5, 10)), _mobilefacenet_relu6),
    Naming(tuple(f"layers.{number}.layers.1.layers.0.weight" for number in (2, 4, 6)), _mbf),
)
"""Every naming; of those that fit the same keys, the usual one first."""


def _nearest(known: Mapping[str, Depths], counts: Iterable[int]) -> tuple[str, Depths]:
    """The network whose stages have as many blocks as counted, or nearly so."""
    found = tuple(counts)
    return min(known.items(), key=lambda each: sum(abs(a - b) for a, b in zip(each[1], found, strict=True)))


def _count(state: State, prefix: str) -> int:
    """How many numbers follow the prefix in keys."""
    return len({key[len(prefix) :].partition(".")[0] for key in state if key.startswith(prefix)})


def _length(state: State, pattern: str, published: int) -> int:
    """The length that most vectors have whose keys match the pattern whole; the published one if there are none."""
    matches = re.compile(pattern).fullmatch
    lengths = Counter(len(value) for key, value in state.items() if value.ndim == 1 and matches(key))
    return lengths.most_common(1)[0][0] if lengths else published
