"""What is known of the backbones before one is built: names, layers, input, and where weights come from. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

from grafiqs.images.preprocessing import IMAGENET, USUAL, Preprocessing

LAYERS = ("image", "block1", "block2", "block3", "block4")
"""Where gradients are taken: the preprocessed input and the output activations of the four stages."""

LOSS = "loss"
SCORES = (*LAYERS, LOSS)
"""What an image is scored by: its gradient at each layer, and the loss itself, which has no gradient."""

EMBEDDING_NORM = "embedding_norm"
"""The score that an embedding gives."""

DIRECTIONS = {**dict.fromkeys(SCORES, "lower"), EMBEDDING_NORM: "higher"}
"""Whether the lower or the higher score means higher quality."""

QUALITY = "quality"
"""The quality from 0 to 100 by the layer that a reference names; a higher one is better."""

QUALITIES = {name: f"{QUALITY}_{name}" for name in DIRECTIONS}
"""What the quality by each score is called."""

NORMS = ("maps", "all")
"""Which BatchNorm2d count: those that see maps of more than one pixel, or all."""

TOLD = {
    "sha256": "this very file is published",
    "prefix": "the names before its keys are its publisher's",
    "parent": "assumed: the name before its keys is its publisher's, and that of others, too",
    "keys": "assumed: its keys do not say what it was trained on",
    "option": "as asked for",
    "default": "assumed: nothing was asked for",
}
"""How the input of a network may be known."""

Depths = tuple[int, int, int, int]

DEPTHS: dict[str, Depths] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
"""Residual units in each of the four stages of an iresnet."""

MAGFACE_DEPTHS: dict[str, Depths] = {f"magface_{name}": DEPTHS[name] for name in tuple(DEPTHS)[:4]}
"""The same of MagFace's."""

IR_DEPTHS: dict[str, Depths] = {"ir_50": (3, 4, 14, 3), "ir_100": (3, 13, 30, 3), "ir_152": (3, 8, 36, 3)}
"""The same of face.evoLVe's IR networks."""

ADAFACE_DEPTHS: dict[str, Depths] = {
    "adaface_ir_18": (2, 2, 2, 2),
    "adaface_ir_34": (3, 4, 6, 3),
    "adaface_ir_50": (3, 4, 14, 3),
    "adaface_ir_100": (3, 13, 30, 3),
}
"""The same of AdaFace's, as far as their units have two convolutions."""

ADAFACE_BOTTLENECK_DEPTHS: dict[str, Depths] = {"adaface_ir_152": (3, 8, 36, 3), "adaface_ir_200": (3, 24, 36, 3)}
"""The same of AdaFace's whose units have three."""

MOBILE_DEPTHS = (5, 7, 3)
"""The bottlenecks of a MobileFaceNet at strides 4, 8 and 16."""

MBF_DEPTHS: dict[str, Depths] = {"mbf": (1, 4, 6, 2), "mbf_large": (2, 8, 12, 4)}
"""The bottlenecks of insightface's MobileFaceNets before stride 4, and after the first of each of the three stages."""


def with_excitation(name: str) -> str:
    """The name of the same iresnet or IR network with squeeze and excitation."""
    return name.replace("ir_", "ir_se_") if "ir_" in name else f"{name}_se"


_MOBILE = ("mobilefacenet", "mobilefacenet_insightface", "mobilefacenet_relu6")

BACKBONES: dict[str, tuple[int, ...]] = {
    **{
        each: depths
        for known in (DEPTHS, IR_DEPTHS, ADAFACE_DEPTHS, ADAFACE_BOTTLENECK_DEPTHS)
        for name, depths in known.items()
        for each in (name, with_excitation(name))
    },
    **MAGFACE_DEPTHS,
    **dict.fromkeys(_MOBILE, MOBILE_DEPTHS),
    **MBF_DEPTHS,
}
"""The networks that are known by name, and how many blocks each of their stages has."""

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages of every published iresnet and IR network whose units have two convolutions."""

BOTTLENECK_WIDTHS = (256, 512, 1024, 2048)
"""The same if they have three."""


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
    input_from: str = ""
    """Where its publisher feeds that input."""
    prefix: str = ""
    """The names before a network's own keys by which its publisher is told; other names before them are as good as
    none. With the first of them alone, this family is still the likeliest.

    Without these, keys tell the architecture alone, and that the weights were trained on this input is assumed.
    """
    published: tuple[Published, ...] = ()
    caution: str | None = None
    """What was seen of their scores, or of their input, that users should know."""

    @property
    def parent(self) -> str:
        """The first of the names before the keys."""
        return self.prefix.partition(".")[0]

    @property
    def told(self) -> str:
        """In words, how a checkpoint is told to be of this family, and what of that is assumed."""
        if self.prefix:
            return f"by its keys, and {self.prefix} before them; with {self.parent} alone, the input is assumed"
        return "by its keys; the input is assumed"


def _maps(widths: tuple[int, ...], sides: tuple[int, ...] = (56, 28, 14, 7)) -> tuple[tuple[int, int, int], ...]:
    return tuple((width, side, side) for width, side in zip(widths, sides, strict=True))


_MOBILE_SIDES = (28, 14, 7, 7)
_BGR = Preprocessing(channel_order="bgr")

DEMO = Published(
    sha256="e15697179729b5fe3abe926ba451ffd6bfb4f9dd5c2803de2b59a9727b2a42ee",
    name="backbone.safetensors, trained on drawn faces",
    source="this package",
    licence="Apache-2.0",
    accuracy="means nothing on real faces",
)
"""The checkpoint that comes with the package."""

IRESNET = Family(
    title="the residual networks of ArcFace, with or without squeeze and excitation",
    names=tuple(name for depth in DEPTHS for name in (depth, with_excitation(depth))),
    blocks=("layer1", "layer2", "layer3", "layer4"),
    shapes=_maps(WIDTHS),
    embedding_size=512,
    input_from="deepinsight/insightface, recognition/arcface_torch/inference.py",
    sources=(
        "deepinsight/insightface, recognition/arcface_torch: code MIT, models for non-commercial research only",
        "fdbtrs/ElasticFace (iresnet100): CC BY-NC-SA 4.0",
        "fdbtrs/CR-FIQA (iresnet50, iresnet100): no licence stated",
    ),
    published=(DEMO,),
    caution="nizhib/pytorch-insightface gives its networks (34, 50, 100) the same keys, with an epsilon of 2e-5, not "
    "1e-5, as magface_iresnet has, and feeds std 0.5 * 256 / 255: --std 0.50196",
)
MAGFACE = Family(
    title="MagFace's iresnet, on colours between 0 and 1",
    names=tuple(MAGFACE_DEPTHS),
    blocks=IRESNET.blocks,
    shapes=IRESNET.shapes,
    embedding_size=512,
    preprocessing=Preprocessing("bgr", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    input_from="IrvingMeng/MagFace, inference/gen_feat.py",
    prefix="features.module.",
    sources=("IrvingMeng/MagFace: MIT",),
)
_IR = tuple(
    Family(
        title=f"IR and IR-SE of face.evoLVe, {sum(depths)} units",
        names=(name, with_excitation(name)),
        blocks=ir_blocks(depths),
        shapes=_maps(WIDTHS),
        embedding_size=512,
        input_from="ZhaoJ9014/face.evoLVe, util/extract_feature_v1.py",
        sources=("ZhaoJ9014/face.evoLVe: MIT", *("HuangYG123/CurricularFace: MIT",) * (name == "ir_100")),
        caution="TreB1eN/InsightFace_Pytorch gives its networks the same keys, and feeds BGR: --channel-order bgr",
    )
    for name, depths in IR_DEPTHS.items()
)
_ADAFACE = tuple(
    Family(
        title=f"IR and IR-SE of AdaFace and CVLface, {sum(depths)} units of {convolutions} convolutions",
        names=(name, with_excitation(name)),
        blocks=ir_blocks(depths),
        shapes=_maps(widths),
        embedding_size=512,
        preprocessing=_BGR,
        input_from="mk-minchul/AdaFace, inference.py",
        sources=(
            "mk-minchul/AdaFace: MIT",
            "mk-minchul/CVLface: MIT, and the licence of the data set that a network was trained on",
        ),
        caution="Tencent/TFace gives its networks the same keys, and feeds RGB; a file of CVLface says color_space in "
        "the model.yaml beside it: --channel-order rgb",
    )
    for known, widths, convolutions in (
        (ADAFACE_DEPTHS, WIDTHS, "two"),
        (ADAFACE_BOTTLENECK_DEPTHS, BOTTLENECK_WIDTHS, "three"),
    )
    for name, depths in known.items()
)
MOBILEFACENET = Family(
    title="MobileFaceNet with PReLU",
    names=("mobilefacenet",),
    blocks=("conv_3", "conv_4", "conv_5", "prelu"),
    shapes=_maps((64, 128, 128, 512), _MOBILE_SIDES),
    embedding_size=128,
    caution="on real faces with the published weights, `image` follows blur, darkness and covered eyes; block2 and "
    "block3 follow blur alone",
    input_from="bubbliiiing/arcface-pytorch, utils/utils.py",
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
    shapes=_maps((64, 128, 128, 512), _MOBILE_SIDES),
    embedding_size=128,
    caution="on real faces with the published weights, `image` to block3 follow blur, darkness and covered eyes; "
    "block2 darkness less than the others",
    sources=("foamliu/MobileFaceNet: Apache-2.0",),
    preprocessing=IMAGENET,
    input_from="foamliu/MobileFaceNet, data_gen.py",
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

MOBILEFACENET_INSIGHTFACE = Family(
    title="MobileFaceNet with PReLU and a linear layer at its end",
    names=("mobilefacenet_insightface",),
    blocks=("conv_3", "conv_4", "conv_5", "conv_6_sep"),
    shapes=MOBILEFACENET.shapes,
    embedding_size=512,
    preprocessing=_BGR,
    input_from="TreB1eN/InsightFace_Pytorch, data/data_pipe.py",
    sources=("TreB1eN/InsightFace_Pytorch: MIT",),
    caution="many repositories carry this network, and some of them feed RGB: --channel-order rgb",
)
MBF = Family(
    title="insightface's MobileFaceNet, published twice as wide",
    names=("mbf",),
    blocks=("layers.3", "layers.5", "layers.7", "conv_sep"),
    shapes=_maps((128, 256, 256, 512), _MOBILE_SIDES),
    embedding_size=512,
    input_from=IRESNET.input_from,
    sources=IRESNET.sources[:1],
)
_MBF_LARGE = replace(
    MBF,
    title="insightface's MobileFaceNet, twice as deep, published four times as wide",
    names=("mbf_large",),
    shapes=_maps((256, 512, 512, 512), _MOBILE_SIDES),
)

FAMILIES = (
    *(IRESNET, MAGFACE, *_IR, *_ADAFACE),
    *(MOBILEFACENET, MOBILEFACENET_INSIGHTFACE, MOBILEFACENET_RELU6, MBF, _MBF_LARGE),
)


def family_of(name: str) -> Family:
    """The family of a network that is known by name."""
    return next(family for family in FAMILIES if name in family.names)


def published(sha256: str) -> Published | None:
    """The known checkpoint with this SHA-256."""
    return next((known for family in FAMILIES for known in family.published if known.sha256 == sha256), None)
