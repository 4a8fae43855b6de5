"""Finished runs with any scores, written without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from grafiqs.datasets.dataset import Sample
from grafiqs.datasets.samples import Samples
from grafiqs.disk.names import encoded
from grafiqs.run import finished, subset_table
from grafiqs.run import manifest as manifests
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.sections import directions
from grafiqs.select import Subset

Scores = Mapping[str, Sequence[float] | None]
"""The scores of a sample, by its path, "identity/sample.png"; None for one that could not be scored."""


def write_run(
    folder: Path,
    like: Manifest,
    scores: Scores,
    images: str = "",
    embeddings: Mapping[str, Sequence[float]] | None = None,
    **changes: Any,
) -> Path:
    """Write a run as `like`, which has scores alone, of other samples; `images` says what these are made of.

    `embeddings` are by path, too, and make it a run that has them.
    """
    samples = tuple(_sample(path) for path in sorted(scores))
    identities = len({sample.identity for sample in samples})
    subset = Subset(Samples(samples), identities, identities, identities, ())
    gradients = {**like.gradients, "dumps": []}
    manifest = replace(like, **{**changes, "subset": subset, "pairs": [], "gradients": gradients})
    if embeddings is not None:
        size = len(next(iter(embeddings.values())))
        manifest = replace(
            manifest,
            options={**manifest.options, "embeddings": True},
            backbone={**manifest.backbone, "embedding_size": size},
        )
    manifest = replace(manifest, directions=directions(manifest.layers, embeddings=embeddings is not None))
    folder.mkdir(parents=True)
    (folder / manifests.NAME).write_bytes(encoded("".join(manifest.to_json())))
    subset_table.write(folder, subset)
    finished.write(folder, manifest, _outcomes(samples, scores, images, embeddings or {}))
    return folder


def _sample(path: str) -> Sample:
    identity, name = path.removesuffix(".png").split("/", 1)
    return Sample(identity, name, path)


def _outcomes(
    samples: Sequence[Sample], scores: Scores, images: str, embeddings: Mapping[str, Sequence[float]]
) -> Iterator[Outcome]:
    for index, sample in enumerate(samples):
        own = scores[sample.location]
        checksum = hashlib.sha256(encoded(f"{images}{sample.location}")).hexdigest()
        vector = base64.b64encode(np.asarray(embeddings.get(sample.location, ()), "<f4").tobytes()).decode()
        yield Failed(index, "no image") if own is None else Scored(index, checksum, list(own), [], [], vector)
