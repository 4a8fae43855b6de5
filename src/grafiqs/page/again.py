"""The command that makes a run again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from grafiqs.calibration.reference import NAME as REFERENCE
from grafiqs.disk.names import shown
from grafiqs.images.futile import FIRST
from grafiqs.options.extract import Options
from grafiqs.options.field import flag, plain
from grafiqs.run.manifest import Manifest
from grafiqs.run.results import Run

DETECTOR = "detector.onnx"
"""What stands for the detector's file, as a run states its checksum alone."""


def command(run: Run) -> str:
    """The command that makes a run again, if data set, weights and reference lie as they did; in a folder beside it.

    What the backbone is fed is stated in full, so that it does not depend on what is known of the backbone.
    A detector is called `DETECTOR`: its checksum is in the manifest, and its path is not.
    """
    asked = dict(_asked(run))
    words = ["grafiqs", "extract"]
    for field in fields(Options):
        value = asked.get(field.name)
        if field.name in asked and value is not None and value != plain(field.default):
            words += _words(field.name, value)
    return " ".join(map(_quoted, words))


def notes(run: Run) -> Iterator[str]:
    """What has to be known beside the command, a sentence each."""
    manifest = run.manifest
    alignment = manifest.preprocessing["alignment"]
    if alignment is not None:
        yield f"{DETECTOR} stands for the detector whose file has the SHA-256 {alignment['sha256']}."
    if manifest.export:
        some = " of some identities" * (manifest.export["identities"] is not None)
        yield (
            f"This run was copied from that one{some}, by 'grafiqs export': its gradients are of "
            f"{', '.join(manifest.dumps) or 'no layer'}, {manifest.dtype}, --store {manifest.gradients['store']}."
        )
    if ":" in manifest.backbone["name"]:
        yield f"It is to be run where Python finds {shown(manifest.backbone['name'].partition(':')[0])}."
    given, data_set = manifest.data_set["path_prefix"], manifest.data_set
    if given != data_set["root"]:
        yield (
            f"The data set was named {shown(given)}, and here it is named in full: manifest.json and the paths in "
            "GraFIQs_<layer>.txt say so, and all else is the same."
        )


def _quoted(word: str) -> str:
    r"""A word as a shell takes it; what does not print as escapes, which bash and zsh know.

    >>> print(_quoted("two words"), _quoted("a\nb"))
    'two words' $'a\x0ab'
    """
    if word.isprintable():
        return shlex.quote(word)
    plain_ones = set(range(0x20, 0x7F)) - set(b"'\\")
    return "$'" + "".join(chr(byte) if byte in plain_ones else f"\\x{byte:02x}" for byte in os.fsencode(word)) + "'"


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag(name) if value else "--no-" + flag(name).removeprefix("--")]
    between = "x" if name == "input_size" else ","
    none = "." if name == "image_extension" else ""  # files without one
    text = between.join(str(each) or none for each in value) if isinstance(value, list) else str(value)
    return [f"{flag(name)}={text}"] if text.startswith("-") else [flag(name), text]


def _asked(run: Run) -> Iterator[tuple[str, Any]]:
    """What each option is to be."""
    manifest = run.manifest
    yield from manifest.options.items()
    if not manifest.options["random_identity_selection"]:
        yield "identity_selection_seed", None  # nothing is drawn by it
    if manifest.options["root"] is not None:
        yield "root", manifest.data_set["root"]
    yield "image_path", manifest.data_set["place"]
    yield (
        "keep_going",
        bool(run.failures) and all(sample.location in run.failures for sample in manifest.subset.samples[:FIRST]),
    )
    yield "output_dir", os.path.realpath(run.folder) + "_again"
    yield "weights", manifest.weights or None
    yield from _network(manifest)
    if manifest.reference:
        yield "reference", os.path.join(os.path.realpath(run.folder), REFERENCE)
    computed = manifest.computation
    yield "batch_size", computed["batch_size"]
    yield "precision", computed["precision"]
    yield "compile", "on" if computed["engine"] == "compiled" else "off"
    yield "device", str(computed["device"]).partition(":")[0]


def _network(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    backbone, given = manifest.backbone, manifest.preprocessing
    yield "weights_key", backbone.get("weights_key")
    yield "backbone", backbone["name"]
    if ":" in backbone["name"]:
        yield "blocks", backbone["blocks"]
        yield "input_size", given["size"]
    yield "channel_order", given["channel_order"]
    for name in ("mean", "std"):
        values = given[name]
        yield name, values[:1] if len(set(values)) == 1 else values
    if given["alignment"] is not None:
        yield "align", DETECTOR
