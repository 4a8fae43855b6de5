"""The options of `extract`."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.compute import ComputeOptions
from grafiqs.options.field import option, plain
from grafiqs.options.subset import SubsetOptions

MAX_SHARD = 2**20
"""The most samples in a shard."""


@dataclass(frozen=True, kw_only=True)
class Options(ComputeOptions, SubsetOptions):
    """What to extract, from what, into what. Raises RequestError when the values do not fit together.

    >>> Options(image_path="faces", num_identities=24, samples_per_identity=40).deciding()["random_seed"]
    42
    >>> Options(image_path="faces", num_identities=0)
    Traceback (most recent call last):
    grafiqs.errors.RequestError: --num-identities is 0: it must be at least 1
    """

    # fmt: off
    dump_gradients: bool = option(
        "gradients", "write the gradients to files; without them only the scores are written", default=True)
    gradient_dtype: str = option(
        "gradients", "number format of the gradient files; float16 halves them, scores stay exact",
        default="float32", choices=("float32", "float16"))
    store: str = option(
        "gradients", "how the gradients lie: tree, a .npy file a sample and layer; or shards, a .safetensors file a "
        "shard and layer, for millions of images", default="tree", choices=("tree", "shards"), later=True)

    output_dir: Path = option(
        "output", "the run folder; a run that was stopped there is resumed",
        default=Path("grafiqs_output"), metavar="DIR", decides=False)
    path_replace: str | None = option(
        "output", "replace this text in the image paths of GraFIQs_<layer>.txt", default=None, metavar="TEXT")
    path_replace_with: str | None = option(
        "output", "... with this text (default: with nothing)", default=None, metavar="TEXT",
        requires=("path_replace",), which="the text to be replaced")
    shard_size: int | None = option(
        "output", "samples in a shard, which one process does as a whole, in whole batches (default: about a 64th of "
        "all, from 64 to 1024)", default=None, metavar="N", minimum=1, maximum=MAX_SHARD, decides=False)
    part: str | None = option(
        "output", "do one part of the run alone, such as 3/16, beside other processes that do the others, on any "
        "machine that sees the run folder; whoever ends last writes the tables", default=None, metavar="K/N",
        decides=False, excludes={"overwrite": None, "dry_run": None})
    engine: str = option(
        "cluster", "who computes: this process (local), or the workers of a Ray cluster (ray), one a GPU, or one for "
        "every few cores; all of them need to see the data set, the weights and the run folder",
        default="local", choices=("local", "ray"), decides=False, excludes={"part": None, "dry_run": None})
    ray_address: str | None = option(
        "cluster", "the cluster: auto for the one that this machine belongs to, or host:port (default: one is started "
        "on this machine, and ended)", default=None, metavar="ADDRESS", decides=False, requires=("engine",),
        which="which is to be ray")
    ray_cpus: int = option(
        "cluster", "the cores of a worker, and its threads", default=4, metavar="N", minimum=1, decides=False,
        requires=("engine",), which="which is to be ray")

    reference: Path | None = option(
        "output", "write qualities from 0 to 100 beside the scores, by this reference.json, which 'grafiqs calibrate' "
        "makes", default=None, metavar="FILE", decides=False)
    keep_going: bool = option(
        "output", "go on if the first hundred images all fail, instead of stopping before the first",
        default=False, decides=False)
    overwrite: bool = option(
        "output", "remove the run that the run folder holds, whatever its options, and start over",
        default=False, decides=False)
    dry_run: bool = option(
        "output", "say how many images, how many gigabytes and how long, and write nothing",
        default=False, decides=False, excludes={"quiet": None})
    quiet: bool = option(
        "output", "print warnings and errors only", default=False, decides=False)
    # fmt: on

    def __post_init__(self) -> None:
        SubsetOptions.__post_init__(self)
        self._check_computation()
        object.__setattr__(self, "path_replace", self.path_replace or None)
        _ = self.share

    @property
    def share(self) -> tuple[int, int] | None:
        """The part to do, counted from 1, and how many there are; None if that is all of it.

        >>> Options(image_path="faces", part="3/16").share
        (3, 16)
        """
        if self.part is None:
            return None
        match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", self.part)
        number, parts = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= parts:
            said = shown(f"{self.part:.40}")
            raise RequestError(f"--part is {said}: it takes K/N, part K of N from 1 to N, such as 3/16")
        return number, parts

    def deciding(self) -> dict[str, Any]:
        """The options that decide what a run writes, as JSON values."""
        values = {field.name: plain(getattr(self, field.name)) for field in fields(self) if field.metadata["decides"]}
        return {**values, "identity_selection_seed": self.identity_seed}


DECIDING = frozenset(field.name for field in fields(Options) if field.metadata["decides"])
"""The options that decide what a run writes."""
