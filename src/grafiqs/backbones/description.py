"""What is known of backbones, and what a checkpoint is, for people and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grafiqs.backbones.catalogue import FAMILIES, LAYERS, TOLD, Family, published
from grafiqs.disk.names import shown
from grafiqs.images.preprocessing import Preprocessing

_WIDTH = 14
"""Of the first column."""


def known() -> list[dict[str, Any]]:
    """All families of networks that are known, as JSON values."""
    return [{**_family(family), "published": [asdict(one) for one in family.published]} for family in FAMILIES]


def known_lines() -> Iterator[str]:
    """The same in lines for people."""
    for family in FAMILIES:
        yield f"{', '.join(family.names)}"
        yield _line("", family.title)
        yield _line("input", f"{family.preprocessing} ({family.input_from})")
        yield _line("told", family.told)
        yield _line("block1-block4", _blocks(family.blocks, family.shapes))
        yield _line("embedding", family.embedding_size)
        yield from (_line("weights from", source) for source in family.sources)
        if family.caution:
            yield _line("caution", family.caution)
        for one in family.published:
            yield _line("known", f"{one.name} ({one.source}, {one.licence}): {one.accuracy}")
            yield _line("", f"SHA-256 {one.sha256}")
        yield ""
    yield "Any other network with BatchNorm2d: --backbone package.module:factory --blocks NAME,NAME,NAME,NAME"


def describe(path: Path, key: str | None = None) -> dict[str, Any]:
    """What the checkpoint at `path` is, as JSON values; `key` chooses one of several networks in it.

    Raises RequestError as `load_checkpoint` does.
    """
    from grafiqs.backbones.checkpoint import load_checkpoint  # loads torch, which the list of networks need not
    from grafiqs.backbones.weights import check_file

    checkpoint = load_checkpoint(check_file(path, "FILE"), key=key)
    one = published(checkpoint.sha256)
    family = {} if checkpoint.family is None else _family(checkpoint.family)
    return {
        **family,
        "path": str(path),
        "sha256": checkpoint.sha256,
        "backbone": checkpoint.backbone,
        "weights_key": checkpoint.weights_key,
        "published": None if one is None else asdict(one),
        "input": {**_input(checkpoint.preprocessing), "told": checkpoint.told, "assumed": checkpoint.assumed},
        "blocks": _layers(checkpoint.network.blocks, [checkpoint.shapes[layer] for layer in LAYERS[1:]]),
        "embedding_size": checkpoint.embedding_size,
        "batch_norms": {"maps": checkpoint.norms.maps, "pixels": checkpoint.norms.pixels},
        "layers": list(checkpoint.norms.layers["maps"]),
        "statistics": checkpoint.norms.said("maps"),
        "parameters": sum(weight.numel() for weight in checkpoint.network.parameters()),
    }


def described(found: dict[str, Any]) -> Iterator[str]:
    """What `describe` found, in lines for people."""
    yield f"{shown(found['path'])}: {found['backbone']}"
    yield _line("", found["title"])
    yield _line("SHA-256", found["sha256"])
    one = found["published"]
    if one:
        yield _line("known", f"{one['name']} ({one['source']}, {one['licence']}): {one['accuracy']}")
    else:
        yield _line("known", "no: weights of this family come from")
        yield from (_line("", f"  {source}") for source in found["sources"])
    told = TOLD[found["input"]["told"]]
    yield _line("input", f"{found['input']['text']} ({told})")
    names, shapes = zip(*((block["module"], block["shape"]) for block in found["blocks"].values()), strict=True)
    yield _line("block1-block4", _blocks(names, shapes))
    yield _line("embedding", found["embedding_size"])
    if found["caution"]:
        yield _line("caution", found["caution"])
    yield _line("statistics", found["statistics"])
    yield _line("gradients at", ", ".join(found["layers"]))
    yield _line("size", f"{found['parameters']:,} parameters")


def _family(family: Family) -> dict[str, Any]:
    return {
        "title": family.title,
        "names": list(family.names),
        "input": _input(family.preprocessing),
        "input_from": family.input_from,
        "told": family.told,
        "blocks": _layers(family.blocks, family.shapes),
        "embedding_size": family.embedding_size,
        "sources": list(family.sources),
        "caution": family.caution,
    }


def _input(preprocessing: Preprocessing) -> dict[str, Any]:
    return {**asdict(preprocessing), "text": str(preprocessing)}


def _layers(names: tuple[str, ...], shapes: Any) -> dict[str, Any]:
    """Module and shape of block1 to block4."""
    return {
        layer: {"module": name, "shape": list(shape)}
        for layer, name, shape in zip(LAYERS[1:], names, shapes, strict=True)
    }


def _blocks(names: Any, shapes: Any) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in zip(names, shapes, strict=True))


def _line(name: str, value: object) -> str:
    return f"  {name:{_WIDTH}}{value}"
