"""The options that say how images are computed: by which network, what for, on which device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from grafiqs.backbones.catalogue import BACKBONES, LAYERS, NORMS, SCORES
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import SIZE, flag, option, settle, written

MAX_BATCH = 1024
"""The largest batch: beyond it no device gains, and memory runs out."""

MAX_MEAN = 10
"""The largest mean or standard deviation of a channel whose values lie between 0 and 1, generously."""


class _Backbones(tuple[str, ...]):
    """The names of all known networks, and of any other: package.module:factory."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and ":" in name)


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """By which network images are scored, by what, on which device.

    Raises RequestError when the values do not fit together.
    """

    # fmt: off
    weights: Path | None = option(
        "backbone", "the checkpoint: .pth, .pt, .ckpt or .safetensors; nothing in it is executed. Needed, but "
        "for a package.module:factory that brings its own, and for 'score', which has a backbone for drawn faces",
        default=None, metavar="FILE", decides=False)
    weights_key: str | None = option(
        "backbone", "which of several networks in that file, such as the weights and their moving average: the names "
        "before its keys, or some of them; 'grafiqs backbones FILE' lists them", default=None, metavar="NAME",
        decides=False, requires=("weights",), which="the file that holds it")
    backbone: str | None = option(
        "backbone", "the network (default: the checkpoint tells): one that 'grafiqs backbones' lists, or "
        "package.module:factory for any other; that code is imported, from this folder too, and run",
        default=None, metavar="NAME", choices=_Backbones((*BACKBONES, "package.module:factory")), decides=False)
    blocks: tuple[str, ...] = option(
        "backbone", "the four modules of a package.module:factory whose outputs are block1 to block4, e.g. "
        "layer1,layer2,layer3,layer4", default=(), metavar="NAMES", decides=False)
    input_size: tuple[int, int] | None = option(
        "backbone", "height and width that a package.module:factory takes (default: 112x112)",
        default=None, decides=False, **SIZE)
    mean: tuple[float, ...] = option(
        "backbone", "mean of each channel of the image in [0, 1], in the order fed: one number or three "
        "(default: as the publishers of such networks feed them, else 0.5)", default=(), metavar="MEAN", decides=False)
    std: tuple[float, ...] = option(
        "backbone", "standard deviation of each channel (default: as above, else 0.5)",
        default=(), metavar="STD", decides=False)
    channel_order: str | None = option(
        "backbone", "the colour order fed to the network (default: as above, else rgb); weights do not say what they "
        "were trained on, so see what the log states", default=None, choices=("rgb", "bgr"), decides=False)
    bgr2rgb: bool = option(
        "backbone", "feed RGB: the same as --channel-order rgb, accepted for older scripts", default=False,
        decides=False, excludes={"channel_order": "rgb"})
    align: Path | None = option(
        "backbone", "align ordinary photos first, with the faces that this YuNet detector (.onnx) finds in them; "
        "without it, images count as aligned crops", default=None, metavar="ONNX", decides=False)

    layers: tuple[str, ...] | None = option(
        "gradients", f"what to score by, comma-separated: the gradients at any of {','.join(LAYERS)}, and the loss "
        "itself, which has no gradient; only what they need is computed, for the loss alone a forward pass (default: "
        "all that there are)", default=None, metavar="LAYERS")
    norms: str = option(
        "gradients", "which BatchNorm2d count: those that see maps, or all, with those that see a single pixel",
        default="maps", choices=NORMS)
    embeddings: bool = option(
        "gradients", "compute the embeddings, too, and their lengths as a score; a run has them in embeddings.npy, "
        "with the rows of scores.csv", default=False)
    flip: bool = option(
        "gradients", "add the mirrored image's embedding to each", default=False, requires=("embeddings",),
        which="which it adds to")

    device: str = option(
        "device", "auto (a GPU when there is one), cpu, cuda, or cuda:N",
        default="auto", metavar="DEVICE", decides=False)
    gpu: int | None = option(
        "device", "the same as --device cuda:N", default=None, metavar="N", decides=False,
        minimum=0, bounds="GPUs are counted from {minimum}", excludes={"device": "cuda:{}"})
    batch_size: int | None = option(
        "device", "images computed at once (default: 8 on a CPU, what its memory holds on a GPU; 1 if paths come on "
        "standard input)", default=None,
        metavar="B", decides=False, minimum=1, maximum=MAX_BATCH)
    precision: str = option(
        "device", "number format of convolutions: float32; tf32, faster on a GPU; bfloat16, fastest if the device has "
        "it, with scores within half a percent; statistics and sums stay float32. Or all in float64: slow, and the "
        "same to nine digits on every machine",
        default="float32", choices=("float32", "tf32", "bfloat16", "float64"), decides=False)
    compile: str = option(
        "device", "compile the computation first: a minute or two, once, then up to twice as fast; auto does if "
        "a run is long enough, and not for 'score'", default="auto", choices=("auto", "on", "off"), decides=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        self._check_computation()

    def _check_computation(self) -> None:
        self._check_backbone()
        unknown = [layer for layer in self.layers or () if layer not in SCORES]
        if unknown or self.layers == ():
            raise RequestError(
                f"--layers names {shown(', '.join(unknown)) or 'no layer'}: it takes any of {', '.join(SCORES)}"
            )
        if self.precision == "float64" and self.compile == "on":
            raise RequestError(
                "--precision float64 is the reference itself, which is not compiled: leave --compile out"
            )
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(name for name in SCORES if name in self.layers))

    def _check_backbone(self) -> None:
        if self.is_factory and len(self.blocks) != len(LAYERS) - 1:
            raise RequestError(
                f"--backbone {shown(self.backbone)} needs --blocks, four names of its modules with commas between "
                "them, in the order in which they run: their outputs are block1 to block4"
            )
        twice = [name for name in self.blocks if self.blocks.count(name) > 1]
        if twice:
            raise RequestError(f"--blocks names {shown(twice[0])} twice: block1 to block4 are four modules")
        for name in ("blocks", "input_size"):
            if getattr(self, name) and not self.is_factory:
                raise RequestError(
                    f"{flag(name)} is for a --backbone package.module:factory: a known network has its own"
                )
        for name, above in (("mean", -math.inf), ("std", 0)):
            values = getattr(self, name)
            if len(values) not in (0, 1, 3) or not all(above < value < math.inf for value in values):
                one = "one number above 0" if name == "std" else "one number"
                raise RequestError(f"{flag(name)} is {written(values)}: it takes {one}, or three")
            if any(abs(value) > MAX_MEAN for value in values):
                raise RequestError(
                    f"{flag(name)} is {written(values)}: it is for images whose values lie between 0 and 1; if "
                    "yours is for 0 to 255, divide it by 255"
                )

    @property
    def is_factory(self) -> bool:
        """Whether the backbone is code of the user's own, named as package.module:factory."""
        return ":" in (self.backbone or "")
