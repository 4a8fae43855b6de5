"""What is known of the backbones before one is built: names, layers, input, and where weights come from. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from grafiqs.images.preprocessing import IMAGENET, USUAL, Preprocessing

LAYERS = ("image", "block1", "block2", "block3", "block4")
"""Where gradients are taken: the preprocessed input and the output activations of the four stages."""

NORMS = ("maps", "all")
"""Which BatchNorm2d count: those that see maps of more than one pixel, or all."""

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
"""Residual blocks in each of the four stages of an iresnet."""

IR_DEPTHS: dict[str, tuple[int, int, int, int]] = {"ir_50": (3, 4, 14, 3), "ir_100": (3, 13, 30, 3)}
"""The same of an IR network."""

MOBILE_DEPTHS = (5, 7, 3)
"""The bottlenecks of a MobileFaceNet at strides 4, 8 and 16."""


def with_excitation(name: str) -> str:
    """The name of the same iresnet or IR network with squeeze and excitation."""
    return name.replace("ir_", "ir_se_") if name in IR_DEPTHS else f"{name}_se"


BACKBONES: dict[str, tuple[int, ...]] = {
    **DEPTHS,
    **{with_excitation(name): depths for name, depths in DEPTHS.items()},
    **IR_DEPTHS,
    **{with_excitation(name): depths for name, depths in IR_DEPTHS.items()},
    **dict.fromkeys(("mobilefacenet", "mobilefacenet_relu6"), MOBILE_DEPTHS),
}
"""The networks that are known by name, and how many blocks each of their stages has."""

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages of every published iresnet and IR network."""


def ir_blocks(depths: tuple[int, ...]) -> tuple[str, ...]:
    """The last units of the four stages of an IR network, which stand in one row."""
    return tuple(f"body.{end - 1}" for end in accumulate(depths))


@dataclass(frozen=True)
class Published:
    """A checkpoint that is known by its bytes."""

    sha256: str
    name: str
    source: str
    licence: str
    accuracy: str


@dataclass(frozen=True)
class Family:
    """A family of networks, and what is known of it."""

    title: str
    names: tuple[str, ...]
    blocks: tuple[str, ...]
    """The modules whose outputs are block1 to block4."""
    shapes: tuple[tuple[int, int, int], ...]
    """Channels, height and width of block1 to block4, in published networks."""
    embedding_size: int
    """In published networks."""
    sources: tuple[str, ...]
    """Where weights of this family come from, each with the licence that its publisher states."""
    preprocessing: Preprocessing = USUAL
    published: tuple[Published, ...] = ()
    caution: str | None = None
    """What was seen of their scores that users should know."""


_RESIDUAL_SHAPES = ((64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7))
_MOBILE_SHAPES = ((64, 28, 28), (128, 14, 14), (128, 7, 7), (512, 7, 7))

IRESNET = Family(
    title="the residual networks of ArcFace, with or without squeeze and excitation",
    names=tuple(name for depth in DEPTHS for name in (depth, with_excitation(depth))),
    blocks=("layer1", "layer2", "layer3", "layer4"),
    shapes=_RESIDUAL_SHAPES,
    embedding_size=512,
    sources=(
        "deepinsight/insightface, recognition/arcface_torch: code MIT, models for non-commercial research only",
        "fdbtrs/ElasticFace (iresnet100): CC BY-NC-SA 4.0",
    ),
)
_IR = tuple(
    Family(
        title=f"IR and IR-SE of face.evoLVe, {sum(depths)} units",
        names=(name, with_excitation(name)),
        blocks=ir_blocks(depths),
        shapes=_RESIDUAL_SHAPES,
        embedding_size=512,
        sources=("ZhaoJ9014/face.evoLVe: MIT",),
    )
    for name, depths in IR_DEPTHS.items()
)
MOBILEFACENET = Family(
    title="MobileFaceNet with PReLU",
    names=("mobilefacenet",),
    blocks=("conv_3", "conv_4", "conv_5", "prelu"),
    shapes=_MOBILE_SHAPES,
    embedding_size=128,
    caution="on real faces with the published weights, `image` follows blur, darkness and covered eyes; block2 and "
    "block3 follow blur alone",
    sources=("bubbliiiing/arcface-pytorch: MIT",),
    published=(
        Published(
            sha256="4c08e11a0a2bbf299910210da647c7d8105c348f4c533868e1710dbcf7b22480",
            name="arcface_mobilefacenet.pth, trained on CASIA-WebFace",
            source="bubbliiiing/arcface-pytorch",
            licence="MIT",
            accuracy="98.33 % on LFW fold 1",
        ),
    ),
)
MOBILEFACENET_RELU6 = Family(
    title="MobileFaceNet with ReLU6",
    names=("mobilefacenet_relu6",),
    blocks=("features.4", "features.11", "features.14", "conv2"),
    shapes=_MOBILE_SHAPES,
    embedding_size=128,
    caution="on real faces with the published weights, `image` to block3 follow blur, darkness and covered eyes; "
    "block2 darkness less than the others",
    sources=("foamliu/MobileFaceNet: Apache-2.0",),
    preprocessing=IMAGENET,
    published=(
        Published(
            sha256="90a00ba1d8b0b688af3deb731ed53dca582e6106805d1bc3cfdef55f570493f4",
            name="mobilefacenet.pt",
            source="foamliu/MobileFaceNet",
            licence="Apache-2.0",
            accuracy="99.67 % on LFW fold 1",
        ),
    ),
)

FAMILIES = (IRESNET, *_IR, MOBILEFACENET, MOBILEFACENET_RELU6)


def family_of(name: str) -> Family:
    """The family of a network that is known by name."""
    return next(family for family in FAMILIES if name in family.names)


def published(sha256: str) -> Published | None:
    """The known checkpoint with this SHA-256."""
    return next((known for family in FAMILIES for known in family.published if known.sha256 == sha256), None)
