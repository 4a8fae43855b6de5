"""What the sections of a manifest can say, and are checked for when one is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from grafiqs.backbones.catalogue import DIRECTIONS, EMBEDDING_NORM, LAYERS, QUALITIES, QUALITY, SCORES
from grafiqs.disk.names import encoded
from grafiqs.options.compute import MAX_BATCH
from grafiqs.options.extract import DECIDING, MAX_SHARD, Options

if TYPE_CHECKING:
    from grafiqs.run.manifest import Manifest

_LARGEST = 2**16
"""The most channels, rows or columns of a layer."""

_DATA_SET = {"form", "place", "root", "path_prefix"}


def directions(layers: Iterable[str], embeddings: bool, reference: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The directions of the scores of a run, and of the qualities by its `reference`, in the order of its table."""
    found = {name: DIRECTIONS[name] for name in (*layers, *([EMBEDDING_NORM] if embeddings else []))}
    if reference:
        found |= {QUALITIES[name]: "higher" for name in reference["scores"]}
        found |= {QUALITY: "higher"} if reference["layer"] in reference["scores"] else {}
    return found


def gradients(options: Mapping[str, Any], layers: Iterable[str]) -> dict[str, Any]:
    """The gradients that a run with these options and layers writes."""
    dumped = [layer for layer in layers if layer in LAYERS] if options["dump_gradients"] else []
    return {"dumps": dumped, "dtype": options["gradient_dtype"], "store": options.get("store", "tree")}


def check(manifest: Manifest) -> None:
    """Raise ValueError, TypeError, KeyError or AttributeError for a manifest that no run can have."""
    asked = manifest.to_options().layers if manifest.options.keys() == DECIDING else ()
    if tuple(manifest.layers) != (tuple(filter(manifest.layers.__contains__, SCORES)) if asked is None else asked):
        raise ValueError("its options are not those of a run")
    shard_size(manifest.shard_size)
    if "alignment" not in manifest.preprocessing or not count(manifest.backbone["embedding_size"]):
        raise ValueError("it does not say what the network was given, or gives")
    for layer, shape in manifest.layers.items():
        if len(shape) != (3 if layer in LAYERS else 0) or not all(1 <= count(n) <= _LARGEST for n in shape):
            raise ValueError("its layers have other shapes than gradients have")
    of = manifest.reference
    if manifest.directions not in (directions(manifest.layers, embeds, of) for embeds in {False, manifest.embeds}):
        raise ValueError("its directions are not those of its scores")
    if of and not (isinstance(of["sha256"], str) and of["scores"] and {*of["scores"]} <= {*manifest.scores}):
        raise ValueError("it does not say by which reference its scores have qualities")
    encoded(json.dumps([manifest.data_set, manifest.options], ensure_ascii=False))  # lone surrogates cannot be written
    if manifest.data_set.keys() != _DATA_SET or not all(isinstance(text, str) for text in manifest.data_set.values()):
        raise ValueError("it does not say where its data set was")
    locations = {sample.location for sample in manifest.subset.samples} if manifest.pairs else set()
    if any(
        len(pair) != 3 or not locations.issuperset(pair[:2]) or type(pair[2]) is not bool for pair in manifest.pairs
    ):
        raise ValueError("its pairs are not of its samples")
    _check_gradients(manifest)
    check_computation(manifest.computation)
    if not manifest.environments or not all(isinstance(known, dict) for known in manifest.environments):
        raise ValueError("it names no environment")


def _check_gradients(manifest: Manifest) -> None:
    """Raise ValueError, TypeError or KeyError for gradients that a run cannot have."""
    stated, whole = manifest.gradients, gradients(manifest.options, manifest.layers)
    layers = [layer for layer in manifest.layers if layer in stated["dumps"] and layer in LAYERS]
    is_export = bool(manifest.export)
    if not is_export and stated != whole:
        raise ValueError("its gradients are not those that its options ask for")
    if stated.keys() != whole.keys() or stated["dumps"] != layers or not {*layers} <= {*whole["dumps"]}:
        raise ValueError("its gradients are not of its layers")
    for name, option in (("dtype", "gradient_dtype"), ("store", "store")):
        if stated[name] not in _choices(option):
            raise ValueError(f"its gradients have a {name} that is not known")
    if is_export:
        identities = manifest.export["identities"]
        if not isinstance(manifest.export["manifest_sha256"], str) or not (
            identities is None or (isinstance(identities, list) and all(isinstance(each, str) for each in identities))
        ):
            raise ValueError("it does not say what it was exported from")


def _choices(option: str) -> tuple[str, ...]:
    """The values that an option takes."""
    return tuple(next(field for field in fields(Options) if field.name == option).metadata["choices"])


def check_computation(computation: dict[str, Any]) -> None:
    """Raise ValueError when a run cannot have been computed so."""
    if computation.get("engine") not in ("eager", "compiled") or computation.get("precision") not in _choices(
        "precision"
    ):
        raise ValueError("it does not say how it was computed")
    if not 1 <= count(computation.get("batch_size")) <= MAX_BATCH:
        raise ValueError("it was computed in batches that cannot be")


def shard_size(value: object) -> int:
    """The size of shards. Raises ValueError for what cannot be."""
    if not 1 <= count(value) <= MAX_SHARD:
        raise ValueError("it does not say how many samples there are in a shard")
    return count(value)


def count(value: object) -> int:
    """A count. Raises ValueError for what is none."""
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{value!r} is not a count")
    return value
