"""Every option, once: its name, its default, its help. Command line, API and manifest read this list."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from grafiqs.backbones.catalogue import BACKBONES, LAYERS, NORMS
from grafiqs.errors import RequestError
from grafiqs.images.preprocessing import USUAL
from grafiqs.names import shown
from grafiqs.utf8 import need_utf8

MAX_BATCH = 1024
"""The largest batch: beyond it no device gains, and memory runs out."""

MAX_SIDE = 4096
"""The longest side of a network's input, in pixels."""

MAX_MEAN = 10
"""The largest mean or standard deviation of a channel whose values lie between 0 and 1, generously."""

MAX_FACES = 10_000_000
"""The most faces of one drawing: 200 gigabytes, and more than a day's work."""

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy takes."""


def path(text: str) -> Path:
    """A path that is not empty. Raises ValueError when it is."""
    if not text:
        raise ValueError("a path cannot be empty")
    return Path(text)


class _Backbones(tuple[str, ...]):
    """The names of all known networks, and of any other: package.module:factory."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and ":" in name)


def words(text: str) -> tuple[str, ...]:
    """The words of a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a list, with commas or spaces between them. Raises ValueError for anything else, or none."""
    words = text.replace(",", " ").split()
    return tuple(float(word) for word in words or [text])


def size(text: str) -> tuple[int, int]:
    """'112x96' -> (112, 96). Raises ValueError for anything else."""
    height, width = text.lower().split("x")
    return int(height), int(width)


def _option(
    group: str,
    help: str,
    *,
    default: Any = dataclasses.MISSING,
    parse: Callable[[str], Any] = str,
    metavar: str | None = None,
    choices: tuple[str, ...] | None = None,
    decides: bool = True,
) -> Any:
    """One option. `decides` says whether it changes what a run writes, so that a run is bound to its value."""
    metadata = {
        "group": group,
        "help": help,
        "parse": parse,
        "metavar": metavar,
        "choices": choices,
        "decides": decides,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class DataSetOptions:
    """The data set to work on."""

    # fmt: off
    image_path: Path = _option(
        "data set", "the data set: a folder of identity folders or of images, a list of images (.txt, .csv: path or "
        "path,identity a line), a .zip or .tar of identity folders, insightface's train.rec or a .bin of it",
        parse=path, metavar="PATH")
    root: Path | None = _option(
        "data set", "where the paths in a list begin (default: the list's folder)",
        default=None, parse=path, metavar="DIR")
    image_extension: tuple[str, ...] = _option(
        "data set", "take only files with these extensions, e.g. jpg or png,jpg (default: every known image format, "
        "or all that a list names)",
        default=(), parse=words, metavar="EXT")
    flat_structure: bool = _option(
        "data set", "the data set has no identities: take all its images as one", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        _check_kinds(self)
        object.__setattr__(self, "image_path", Path(self.image_path))
        object.__setattr__(self, "root", None if self.root is None else Path(self.root))
        extensions = tuple(sorted({word.lower().lstrip(".*") for word in self.image_extension}))
        object.__setattr__(self, "image_extension", extensions)


@dataclass(frozen=True, kw_only=True)
class Options(DataSetOptions):
    """What to extract, from what, into what. Raises RequestError when the values do not fit together."""

    # fmt: off
    num_identities: int | None = _option(
        "subset", "take at most N identities: the first N by name, or N drawn (default: all)",
        default=None, parse=int, metavar="N")
    samples_per_identity: int | None = _option(
        "subset", "draw M samples of each identity (default: all); identities with fewer are left out and listed",
        default=None, parse=int, metavar="M")
    random_seed: int = _option(
        "subset", "seed of the sample draw and of the random, NumPy and PyTorch generators",
        default=42, parse=int, metavar="SEED")
    identity_selection_seed: int | None = _option(
        "subset", "seed of the identity draw (default: the value of --random-seed)",
        default=None, parse=int, metavar="SEED")
    random_identity_selection: bool = _option(
        "subset", "draw the N identities at random instead of taking the first N", default=False)
    allow_insufficient_samples: bool = _option(
        "subset", "keep identities with fewer than M samples, with what they have", default=False)
    strict: bool = _option(
        "subset", "choose only among identities with at least M samples, and stop unless there are exactly N x M",
        default=False)

    weights: Path | None = _option(
        "backbone", "the checkpoint: .pth, .pt, .ckpt or .safetensors; nothing in it is executed. A run needs one, but "
        "for a package.module:factory that brings its own weights",
        default=None, parse=path, metavar="FILE", decides=False)
    backbone: str | None = _option(
        "backbone", "the network (default: the checkpoint tells): one that 'grafiqs backbones' lists, or "
        "package.module:factory for any other; that code is imported, from this folder too, and run",
        default=None, metavar="NAME", choices=_Backbones((*BACKBONES, "package.module:factory")), decides=False)
    blocks: tuple[str, ...] = _option(
        "backbone", "the four modules of a package.module:factory whose outputs are block1 to block4, e.g. "
        "layer1,layer2,layer3,layer4", default=(), parse=words, metavar="NAMES", decides=False)
    input_size: tuple[int, int] | None = _option(
        "backbone", "height and width that a package.module:factory takes (default: 112x112)",
        default=None, parse=size, metavar="HxW", decides=False)
    mean: tuple[float, ...] = _option(
        "backbone", "what is subtracted from each channel of the image in [0, 1], in the order fed: a number or three "
        "(default: the network's own, else 0.5)", default=(), parse=numbers, metavar="MEAN", decides=False)
    std: tuple[float, ...] = _option(
        "backbone", "what it is divided by then (default: the network's own, else 0.5)",
        default=(), parse=numbers, metavar="STD", decides=False)
    channel_order: str | None = _option(
        "backbone", "the colour order fed to the network (default: the network's own, which is rgb for all published "
        "ones)", default=None, choices=("rgb", "bgr"), decides=False)
    bgr2rgb: bool = _option(
        "backbone", "feed RGB: accepted for older scripts, it is the default here", default=False, decides=False)
    align: Path | None = _option(
        "backbone", "align ordinary photos first, with the faces that this YuNet detector (.onnx) finds in them; "
        "without it, images are taken for aligned crops", default=None, parse=path, metavar="ONNX", decides=False)

    layers: tuple[str, ...] | None = _option(
        "gradients", f"where to take gradients, comma-separated, any of {','.join(LAYERS)}; "
        "only what they need is computed (default: all that have one)", default=None, parse=words, metavar="LAYERS")
    norms: str = _option(
        "gradients", "which BatchNorm2d count: those that see maps, or all, those that see a single pixel among them",
        default="maps", choices=NORMS)
    dump_gradients: bool = _option(
        "gradients", "write the gradients as .npy files; without them only the scores are written", default=True)
    gradient_dtype: str = _option(
        "gradients", "number format of the gradient files; float16 halves them, scores stay exact",
        default="float32", choices=("float32", "float16"))
    embeddings: bool = _option(
        "gradients", "write the embeddings, too: embeddings.npy, a row for each of scores.csv", default=False)
    flip: bool = _option(
        "gradients", "add the mirrored image's embedding to each", default=False)

    output_dir: Path = _option(
        "output", "the run folder; a run that was stopped there goes on",
        default=Path("grafiqs_output"), parse=path, metavar="DIR", decides=False)
    path_replace: str | None = _option(
        "output", "replace this text in the image paths of GraFIQs_<layer>.txt", default=None, metavar="TEXT")
    path_replace_with: str | None = _option(
        "output", "... by this text (default: by nothing)", default=None, metavar="TEXT")
    overwrite: bool = _option(
        "output", "remove the run that the run folder holds, whatever its options, and begin anew",
        default=False, decides=False)
    dry_run: bool = _option(
        "output", "say how many images, how many gigabytes and how long, and write nothing",
        default=False, decides=False)
    quiet: bool = _option(
        "output", "print warnings and errors only", default=False, decides=False)

    device: str = _option(
        "device", "auto (a GPU when there is one), cpu, cuda, or cuda:N",
        default="auto", metavar="DEVICE", decides=False)
    gpu: int | None = _option(
        "device", "the same as --device cuda:N", default=None, parse=int, metavar="N", decides=False)
    batch_size: int | None = _option(
        "device", "images computed at once (default: 8 on a CPU, what its memory holds on a GPU)", default=None,
        parse=int, metavar="B", decides=False)
    precision: str = _option(
        "device", "what convolutions multiply: float32; tf32, faster on a GPU; bfloat16, fastest where the device has "
        "it, its scores lie within half a percent; statistics and sums stay float32. Or all in float64: slow, and the "
        "same to nine digits on every machine",
        default="float32", choices=("float32", "tf32", "bfloat16", "float64"), decides=False)
    compile: str = _option(
        "device", "compile the computation first: a minute or two, once, then up to twice as fast; auto does where "
        "the run is long enough", default="auto", choices=("auto", "on", "off"), decides=False)
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_identities", "samples_per_identity", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"{flag(name)} is {value}: it must be at least 1")
        if self.batch_size is not None and self.batch_size > MAX_BATCH:
            raise RequestError(f"--batch-size is {self.batch_size}: it is at most {MAX_BATCH}")
        for name in ("random_seed", "identity_selection_seed"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MAX_SEED:
                raise RequestError(f"{flag(name)} is {value}: a seed lies between 0 and {MAX_SEED}")
        if self.gpu is not None and self.gpu < 0:
            raise RequestError(f"--gpu is {self.gpu}: GPUs are counted from 0")
        if self.gpu is not None and self.device not in ("auto", f"cuda:{self.gpu}"):
            raise RequestError(f"--gpu {self.gpu} and --device {self.device} contradict each other: give one of them")
        unknown = [layer for layer in self.layers or () if layer not in LAYERS]
        if unknown or self.layers == ():
            raise RequestError(
                f"--layers names {shown(', '.join(unknown)) or 'no layer'}: it takes any of {', '.join(LAYERS)}"
            )
        self._check_backbone()
        if self.flip and not self.embeddings:
            raise RequestError("--flip needs --embeddings, which it adds to")
        if self.bgr2rgb and self.channel_order == "bgr":
            raise RequestError("--bgr2rgb and --channel-order bgr contradict each other: give one of them")
        if self.path_replace_with is not None and not self.path_replace:
            raise RequestError("--path-replace-with needs --path-replace, the text to be replaced")
        if self.precision == "float64" and self.compile == "on":
            raise RequestError(
                "--precision float64 is the reference itself, which is not compiled: leave --compile out"
            )
        if self.dry_run and self.quiet:
            raise RequestError("--dry-run and --quiet contradict each other: what a dry run says is all it does")
        if self.strict and (self.num_identities is None or self.samples_per_identity is None):
            raise RequestError(
                "--strict needs --num-identities and --samples-per-identity, the numbers it holds you to"
            )
        if self.strict and self.allow_insufficient_samples:
            raise RequestError("--strict and --allow-insufficient-samples contradict each other: give one of them")
        normalised = {
            **{name: tuple(getattr(self, name)) for name in ("blocks", "mean", "std")},
            "input_size": None if self.input_size is None else tuple(self.input_size),
            "align": None if self.align is None else Path(self.align),
            "path_replace": self.path_replace or None,
            "weights": None if self.weights is None else Path(self.weights),
            "output_dir": Path(self.output_dir),
            "layers": None if self.layers is None else tuple(layer for layer in LAYERS if layer in self.layers),
        }
        for name, value in normalised.items():
            object.__setattr__(self, name, value)

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
        if self.input_size is not None:
            _check_size(self.input_size)
        for name, above in (("mean", -math.inf), ("std", 0)):
            values = getattr(self, name)
            if len(values) not in (0, 1, 3) or not all(above < value < math.inf for value in values):
                one = "one number above 0" if name == "std" else "one number"
                raise RequestError(f"{flag(name)} is {_listed(values)}: it takes {one}, or three")
            if any(abs(value) > MAX_MEAN for value in values):
                raise RequestError(
                    f"{flag(name)} is {_listed(values)}: it is for images whose values lie between 0 and 1; where "
                    "yours is for 0 to 255, divide it by 255"
                )

    @property
    def is_factory(self) -> bool:
        """Whether the backbone is code of the user's own, named as package.module:factory."""
        return ":" in (self.backbone or "")

    @property
    def identity_seed(self) -> int:
        """The seed of the identity draw: its own where one is given, otherwise the random seed."""
        return self.random_seed if self.identity_selection_seed is None else self.identity_selection_seed

    def deciding(self) -> dict[str, Any]:
        """The options that decide what a run writes, as JSON values."""
        values = {field.name: _plain(getattr(self, field.name)) for field in OPTIONS if field.name in DECIDING}
        return {**values, "identity_selection_seed": self.identity_seed}


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Which faces to draw, and into what. Raises RequestError when a value cannot be."""

    # fmt: off
    output: Path = _option("output", "the folder of the data set, new or empty", parse=path, metavar="OUT")
    contact_sheet: Path | None = _option(
        "output", "a picture of the first faces (.png, .jpg): an identity in each row",
        default=None, parse=path, metavar="FILE")
    quiet: bool = _option("output", "print warnings and errors only", default=False)

    identities: int = _option("faces", "how many identities", default=40, parse=int, metavar="N")
    samples_per_identity: int = _option(
        "faces", "how many samples of each identity; the second identity has only a third of them",
        default=30, parse=int, metavar="M")
    degraded: float = _option(
        "faces", "the share of the samples with one degradation, from 0 to 1", default=0.5, parse=float,
        metavar="SHARE")
    seed: int = _option("faces", "another seed, other people", default=0, parse=int, metavar="SEED")
    # fmt: on

    def __post_init__(self) -> None:
        _check_kinds(self)
        for name in ("identities", "samples_per_identity"):
            if getattr(self, name) < 1:
                raise RequestError(f"{flag(name)} is {getattr(self, name)}: it must be at least 1")
        faces = self.identities * self.samples_per_identity
        if faces > MAX_FACES:
            raise RequestError(f"--identities x --samples-per-identity is {faces:,}: it is at most {MAX_FACES:,}")
        if not 0 <= self.degraded <= 1:
            raise RequestError(f"--degraded is {self.degraded}: a share lies between 0 and 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"--seed is {self.seed}: a seed lies between 0 and {MAX_SEED}")
        for name in ("output", "contact_sheet"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        if self.contact_sheet is None:
            return
        if self.contact_sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise RequestError(f"--contact-sheet is {shown(self.contact_sheet)}: its name must end in .png or .jpg")
        if Path(os.path.realpath(self.contact_sheet)).is_relative_to(os.path.realpath(self.output)):
            sheet = shown(self.contact_sheet)
            raise RequestError(f"--contact-sheet is {sheet}: that lies among the faces, put it elsewhere")


@dataclass(frozen=True, kw_only=True)
class AlignOptions(DataSetOptions):
    """What to align, by what, into what. Raises RequestError when the values do not fit together."""

    # fmt: off
    output: Path = _option("output", "the folder of the aligned crops, new or empty", parse=path, metavar="OUT")
    detector: Path | None = _option(
        "landmarks", "a YuNet face detector (.onnx), which finds the faces and their landmarks",
        default=None, parse=path, metavar="ONNX")
    landmarks: Path | None = _option(
        "landmarks", "a table of landmarks instead (.csv): columns path, x1, y1 to x5, y5 (the eyes, the tip of the "
        "nose, the corners of the mouth; left in the picture first), as in an align.csv, or those eleven without names",
        default=None, parse=path, metavar="CSV")
    input_size: tuple[int, int] = _option(
        "crops", "height and width of the crops; the template is as high as they are, and in their middle",
        default=USUAL.size, parse=size, metavar="HxW")
    overwrite: bool = _option(
        "output", "remove the crops that the folder holds, and begin anew", default=False)
    quiet: bool = _option("output", "print warnings and errors only", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.detector is not None and self.landmarks is not None:
            raise RequestError("--detector and --landmarks contradict each other: give one of them")
        if self.detector is None and self.landmarks is None:
            raise RequestError(
                "aligning needs landmarks: give --detector, a YuNet model (.onnx), or --landmarks, a table of them"
            )
        _check_size(self.input_size)
        object.__setattr__(self, "input_size", tuple(self.input_size))
        for name in ("output", "detector", "landmarks"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))


OPTIONS = dataclasses.fields(Options)


def flag(name: str) -> str:
    """The command line's spelling of an option."""
    return "--" + name.replace("_", "-")


DECIDING = frozenset(field.name for field in OPTIONS if field.metadata["decides"])
"""The options that decide what a run writes."""


def _check_size(sides: tuple[int, int]) -> None:
    """Raise RequestError for an input size that cannot be."""
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise RequestError(f"--input-size is {'x'.join(map(str, sides))}: sides lie between 1 and {MAX_SIDE}")


def _check_kinds(options: DataSetOptions | DrawOptions) -> None:
    """Raise RequestError for a value that is not of its option's type, or not one of its choices."""
    need_utf8()
    types = get_type_hints(type(options))
    for field in dataclasses.fields(options):
        choices, value = field.metadata["choices"], getattr(options, field.name)
        if value == "" and types[field.name] in (Path, Path | None):
            raise RequestError(f"{flag(field.name)} is empty: it takes a path")
        if not _is_of(value, types[field.name]):
            raise RequestError(f"{flag(field.name)} is {shown(repr(value))}: that is no {field.type}")
        if choices and value is not None and value not in choices:
            raise RequestError(f"{flag(field.name)} is {shown(value)}: it is one of {', '.join(choices)}")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value has the type of its option; a path may be given as text, and no truth value is a number."""
    if get_origin(kind) is UnionType:
        return any(_is_of(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        of, *rest = get_args(kind)
        listed = isinstance(value, tuple | list) and all(_is_of(each, of) for each in value)
        return listed and (rest == [...] or len(value) == 1 + len(rest))
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, float | int)
    return isinstance(value, kind) or (kind is Path and isinstance(value, str))


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value.as_posix() if isinstance(value, Path) else value
