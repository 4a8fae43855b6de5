"""The options of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.backbones.catalogue import LAYERS
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import option, settle


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Which run to copy, how, and where to. Raises RequestError when the values do not fit together.

    >>> ExportOptions(run="grafiqs_output", output="copy", store="shards").store
    'shards'
    """

    # fmt: off
    run: Path = option("run", "the finished run folder, which stays as it is", metavar="RUN")
    output: Path = option("run", "the folder of the copy, a run folder as well", metavar="OUT")

    store: str | None = option(
        "gradients", "how the gradients lie in the copy: tree, a .npy file a sample and layer; or shards, a "
        ".safetensors file a shard and layer (default: as in the run)", default=None, choices=("tree", "shards"))
    gradient_dtype: str | None = option(
        "gradients", "number format of the gradients in the copy; float16 halves them, scores stay exact (default: as "
        "in the run)", default=None, choices=("float32", "float16"))
    layers: tuple[str, ...] | None = option(
        "gradients", "the layers whose gradients are copied, comma-separated (default: all that the run has); all "
        "scores are", default=None, metavar="LAYERS")
    identities: Path | None = option(
        "subset", "a text file that names identities, one a line (none with a line break): their samples alone are "
        "copied (default: all)",
        default=None, metavar="FILE")

    overwrite: bool = option("output", "remove the run that OUT holds, and start over", default=False)
    quiet: bool = option("output", "print warnings and errors only", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        unknown = [layer for layer in self.layers or () if layer not in LAYERS]
        if unknown or self.layers == ():
            named = shown(", ".join(unknown)) or "no layer"
            raise RequestError(f"--layers names {named}: it takes any of {', '.join(LAYERS)}")
