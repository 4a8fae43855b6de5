"""manifest.json: everything needed to do a run again and to check it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from grafiqs.backbones.catalogue import DIRECTIONS, EMBEDDING_NORM
from grafiqs.calibration.reference import holds_for
from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.disk.stated import compared
from grafiqs.disk.utf8 import need_utf8
from grafiqs.errors import RequestError
from grafiqs.options.extract import Options
from grafiqs.options.field import completed
from grafiqs.run import sections, subset_table
from grafiqs.run.sections import count, shard_size
from grafiqs.run.shard_file import MOST
from grafiqs.run.shard_store import ShardStore
from grafiqs.run.store import Store
from grafiqs.run.tree import GradientTree
from grafiqs.select import Subset
from grafiqs.shards import Shards, usual_size

Made = TypeVar("Made")

NAME = "manifest.json"
FORMAT = 9
"""Version of the run folder's layout."""

_LISTED = 8
"""The last version whose manifest lists the samples itself."""

_BEFORE = (6, 7, 8)
"""The versions before, which are read, too: the first two had no reference, and the first no directions, as its scores
were those at layers alone."""

METHOD = {
    "name": "GraFIQs",
    "source": "Kolf, Damer, Boutros, CVPRW 2024, arXiv 2404.12203",
    "loss": "1/K sum_k [mean_c (mu-M)^2 + mean_c (v-V)^2] over the K BatchNorm2d layers that count",
    "score": "sum |gradient|",
    "direction": "lower score = higher quality",
}

COMPARED = (
    "method",
    "options",
    "seeds",
    "weights_sha256",
    "backbone",
    "layers",
    "preprocessing",
    "computation",
    "reference",
    "gradients",
    "export",
)
"""The sections that two commands must share to belong to one run. Where data set and weights lie does not matter."""


@dataclass(frozen=True)
class Manifest:
    """One run. Every section is plain JSON; `subset` is kept whole, with its hash, and lies in a table of its own.

    `pairs` are the comparisons that a verification set asks for, as [location, location, same identity], if the
    subset has both. `layers` are the scores that were computed, with the shapes of their gradients (the loss has none);
    `directions` says of every score of the run whether `lower` or `higher` ones mean higher quality. `data_set` says
    what the data set was (`form`), where it lay (`place`), what locations are relative to (`root`), and how that was
    given (`path_prefix`). `environments` names the versions and machines that the run was computed on, in order; one,
    unless a stopped run was resumed elsewhere. `computation` says how it was asked to compute, and each environment
    which engine and precision computed there, and how far they lay from the reference. `reference` says by which one
    the scores have qualities, `layer` which of them `quality` alone means, and `scores` which have one; it is empty
    without one. `gradients` says of which layers there are files (`dumps`), their `dtype`, and by which `store`
    they lie. `export` is empty unless the run was copied: then it says from which manifest (`manifest_sha256`), and of
    which `identities` alone, null if of all. `shard_size` is how many samples there are in a shard. `format` is that of
    the folder.
    """

    method: dict[str, str]
    options: dict[str, Any]
    seeds: dict[str, int]
    data_set: dict[str, str]
    weights: str
    weights_sha256: str
    backbone: dict[str, Any]
    layers: dict[str, list[int]]
    directions: dict[str, str]
    preprocessing: dict[str, Any]
    computation: dict[str, Any]
    reference: dict[str, Any]
    gradients: dict[str, Any]
    export: dict[str, Any]
    subset: Subset
    pairs: list[list[Any]]
    environments: list[dict[str, Any]]
    shard_size: int
    format: int = FORMAT

    @property
    def lists_samples(self) -> bool:
        """Whether manifest.json itself lists the samples, as it did in earlier versions."""
        return self.format <= _LISTED

    @property
    def shards(self) -> Shards:
        """The shards of the run."""
        return Shards(len(self.subset.samples), self.shard_size)

    @property
    def dumps(self) -> tuple[str, ...]:
        """The layers whose gradients are written to files."""
        return tuple(self.gradients["dumps"])

    @property
    def aligns(self) -> bool:
        """Whether pictures were aligned on the way."""
        return self.preprocessing["alignment"] is not None

    @property
    def embeds(self) -> bool:
        """Whether embeddings are written, too."""
        return bool(self.options["embeddings"])

    @property
    def has_embedding_norm(self) -> bool:
        """Whether the lengths of the embeddings are among the scores; in runs of the version before, they are not."""
        return EMBEDDING_NORM in self.directions

    @property
    def better(self) -> str:
        """Which scores are better, in a sentence."""
        norm = ", and a higher embedding_norm" * self.has_embedding_norm
        quality = " Qualities are from 0 to 100: a higher one is better." * bool(self.reference)
        return f"A lower score means higher quality{norm}.{quality}"

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores of the run, without qualities."""
        return tuple(name for name in self.directions if name in DIRECTIONS)

    def holds_for(self, any_alignment: bool = False) -> dict[str, Any]:
        """What a reference made of this run holds for, or one for it has to; with `any_alignment`, however aligned."""
        return holds_for(
            weights_sha256=self.weights_sha256,
            backbone=self.backbone,
            norms=self.options["norms"],
            loss=self.method["loss"],
            preprocessing=self.preprocessing,
            precision=self.precision,
            flip=self.options["flip"] if self.embeds else None,
            any_alignment=any_alignment,
        )

    @property
    def precision(self) -> str:
        """The precision that computed; another than that asked for, if the plain way took its place."""
        found = {str(known.get("precision")) for known in self.environments}
        return found.pop() if len(found) == 1 else str(self.computation["precision"])

    @property
    def has_parquet(self) -> bool:
        """Whether the scores are written as a Parquet table, too, which says in which shard and row gradients are."""
        return str(self.gradients["store"]) == "shards"

    @property
    def embedding_size(self) -> int:
        """The length of an embedding."""
        return int(self.backbone["embedding_size"])

    @property
    def dtype(self) -> str:
        """The NumPy type of the gradient files."""
        return str(self.gradients["dtype"])

    def store(self, root: Path) -> Store:
        """The gradients of the run in the folder `root`.

        Raises RequestError when its shards are too large for one file each.
        """
        if self.gradients["store"] == "tree":
            return self.tree(root)
        if self.shard_size > MOST:
            raise RequestError(
                f"shards of {self.shard_size} samples are too large for --store shards, where each is a file a layer: "
                f"--shard-size {MOST} at most, or --store tree"
            )
        return ShardStore(root, self._shapes, self.dtype, self.subset.samples, self.shards)

    def tree(self, root: Path) -> GradientTree:
        """Those gradients as files of their own."""
        return GradientTree(root, self._shapes, self.dtype, self.subset.samples)

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {layer: tuple(self.layers[layer]) for layer in self.dumps}

    def to_options(self, **others: Any) -> Options:
        """The options that made this run, with `others` that do not decide what it writes."""
        return Options(**{**self.options, **others})

    def differences(self, other: Manifest) -> list[str]:
        """What differs between this run and the `other` asked for, a line each."""
        found: list[str] = []
        if self.export and not other.export:
            found.append("it is a copy that 'grafiqs export' made, and which that alone resumes")
        if self.shard_size != other.shard_size:
            found.append(f"shard_size: {self.shard_size} in the folder, {other.shard_size} asked for")
        for section in COMPARED:
            found += compared(section, *(binding(getattr(run, section)) for run in (self, other)))
        return found + subset_differences(self.subset, other.subset)

    def continued_in(self, environment: dict[str, Any]) -> Manifest:
        """The same run, with `environment` among those it was computed in."""
        if any(not environment_differences(known, environment) for known in self.environments):
            return self
        return replace(self, environments=[*self.environments, environment])

    def to_json(self) -> Iterator[str]:
        """The text of manifest.json, in pieces."""
        document: dict[str, Any] = {"format": FORMAT}
        document |= {field.name: getattr(self, field.name) for field in fields(self) if field.name != "format"}
        document["subset"] = subset_table.statement(self.subset)
        yield from json.JSONEncoder(indent=1).iterencode(document)
        yield "\n"


def subset_differences(there: Subset, here: Subset) -> list[str]:
    """How one subset differs from another: one line, or none."""
    if there is here or there.samples == here.samples:
        return []
    theirs, own = set(there.samples), set(here.samples)
    gone = sorted(sample.location for sample in theirs - own)
    new = sorted(sample.location for sample in own - theirs)
    examples = [f"{shown(path)} is no longer in it" for path in gone[:3]]
    examples += [f"{shown(path)} is new in it" for path in new[:3]]
    return [f"subset: {len(gone)} samples gone, {len(new)} new ({'; '.join(examples)})"]


def environment_differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What differs between two environments, in words; the differences that self-checks saw do not count."""
    return [
        f"{key} {there.get(key)} then, {here.get(key)} now"
        for key in dict.fromkeys((*there, *here))
        if key != "self_check" and there.get(key) != here.get(key)
    ]


def is_run(folder: Path) -> bool:
    """Whether a folder has the manifest of a run. Raises RequestError when that cannot be seen."""
    return files.exists(folder / NAME)


def read(folder: Path, known: Subset | None = None) -> Manifest:
    """The manifest of the run in `folder`.

    Its subset is the `known` one, if it states that to the last path; otherwise the table of the subset is read.
    Raises RequestError when there is no manifest that can be trusted.
    """
    return _made(folder, lambda document: _parsed(folder, document, known))


def shards_of(folder: Path) -> Shards:
    """The shards of the run in `folder`; its samples are not read.

    Raises RequestError when there is no manifest that can be trusted.
    """
    return _made(
        folder, lambda document: Shards(count(document["subset"]["count"]), shard_size(document["shard_size"]))
    )


def _made(folder: Path, make: Callable[[dict[str, Any]], Made]) -> Made:
    """What is made of the document of a run. Raises RequestError when there is none that can be trusted."""
    need_utf8()
    path = folder / NAME
    try:
        document = json.loads(files.read(path))
        found = document["format"]
        if type(found) is not int:
            raise ValueError("its format is not a number")
        if found in (FORMAT, *_BEFORE):
            return make(_up_to_date(document))
    except _LostError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        why = f"it has no {NAME}" if os.path.isdir(folder) else "it is not a folder"
        why = why if os.path.lexists(folder) else "it does not exist"
        raise RequestError(f"{shown(folder)} is not a run folder: {why}") from error
    except OSError as error:
        raise RequestError(f"cannot read {shown(path)}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{shown(path)} is damaged, and not the manifest of a run ({shown(error)}): a run without it cannot be "
            "read or resumed; make it again, in another folder"
        ) from error
    raise RequestError(
        f"{shown(folder)} holds a run of another version of grafiqs (format {found}; this one reads {FORMAT}): "
        "read it with that version, or give another folder"
    )


class _LostError(RequestError):
    """The table of the subset is not there, or not the one that the manifest states."""


def _up_to_date(document: dict[str, Any]) -> dict[str, Any]:
    """A document of an earlier version with what it did not state."""
    if document["format"] <= 7:
        document["reference"] = {}
    if document["format"] <= 6:
        document["directions"] = sections.directions(document["layers"], embeddings=False)
    if document["format"] <= _LISTED:
        document["gradients"] = sections.gradients(document["options"], document["layers"])
        document["export"] = {}
        document["shard_size"] = usual_size(document["subset"]["count"], document["computation"]["batch_size"])
    return document


def _parsed(folder: Path, document: dict[str, Any], known: Subset | None) -> Manifest:
    """The manifest that a JSON document states, and its table.

    Raises ValueError, TypeError, KeyError or AttributeError when they state none, and OSError when the table cannot be
    read.
    """
    stated = document.pop("subset")
    if document["format"] <= _LISTED:
        subset = subset_table.from_listed(stated)
    elif known is not None and subset_table.is_stated(known, stated):
        subset = known
    else:
        subset_table.need_statement(stated)
        try:
            subset = subset_table.read(folder, stated)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise _LostError(
                f"{shown(folder / subset_table.NAME)} cannot be used ({shown(why)}), and without it nobody knows the "
                "samples of the run: bring it back, or make the run again in another folder"
            ) from error
    document["options"] = completed(Options, document["options"])
    manifest = Manifest(**document, subset=subset)
    for name, kind in get_type_hints(Manifest).items():
        if not isinstance(getattr(manifest, name), get_origin(kind) or kind):
            raise ValueError(f"its {name} is not of type {kind}")
    sections.check(manifest)
    return manifest


def binding(section: Any) -> Any:
    """What of a section binds a run.

    The batch size does not: with another one, it is another environment. Nor do the layers as they were asked for:
    those that were taken have a section of their own.
    """
    if not isinstance(section, dict):
        return section
    return {key: value for key, value in section.items() if key not in ("batch_size", "layers")}
