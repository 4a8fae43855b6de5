"""A reference as a file: written, read back, damaged, and held to the network and input that it was made of."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grafiqs.backbones.catalogue import DIRECTIONS
from grafiqs.calibration.distribution import Distribution
from grafiqs.calibration.reference import Reference, holds_for, read_reference
from grafiqs.errors import RequestError
from support.commands import RED

Document = dict[str, Any]

PREPROCESSING = {"size": [112, 112], "channel_order": "rgb", "mean": [0.5] * 3, "std": [0.5] * 3, "alignment": None}


def asked(**others: Any) -> Document:
    given: Document = {
        "weights_sha256": "a" * 64,
        "backbone": {"name": "iresnet18", "embedding_size": 512, "code_sha256": None},
        "norms": "maps",
        "loss": "1/K",
        "preprocessing": PREPROCESSING,
        "precision": "float32",
        "flip": False,
    }
    return holds_for(**{**given, **others})


def reference(layer: str | None = "image", count: int = 1000, **others: Any) -> Reference:
    drawn = np.random.default_rng(5).normal(size=(3, count))
    scores = dict(zip(("image", "loss", "embedding_norm"), drawn, strict=True))
    row = {"quality": "image", "direction": "lower", "pauc_normalised": 0.5, "ci_low": None, "ci_high": None}
    row |= {"predicts": True, "reversed": False}
    return Reference(
        {name: Distribution.of(values) for name, values in scores.items()},
        {name: DIRECTIONS[name] for name in scores},
        layer,
        [row],
        asked(**others),
        {"images": count},
    )


def written(path: Path, change: Callable[[Document], object] = lambda _: None) -> Path:
    document = json.loads(reference().to_json())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    made = reference()
    (tmp_path / "one.json").write_bytes(made.file)
    found = read_reference(tmp_path / "one.json")
    assert found == made
    assert found.sha256 == made.sha256 == hashlib.sha256((tmp_path / "one.json").read_bytes()).hexdigest()
    other = read_reference(written(tmp_path / "other.json"))  # on one line: another file, and its bytes are kept
    assert other == made
    assert other.file == (tmp_path / "other.json").read_bytes() != made.file


def test_each_of_a_thousand_scores_has_its_own_percentile() -> None:
    scores = np.random.default_rng(5).normal(size=1000)
    found = reference()
    for rank, score in enumerate(np.sort(scores)):
        share = (rank + 0.5) / 1000
        assert found.quality("image", float(score)) == round(100 * (1 - share))
    assert found.quality("image", float(scores.min()) - 1) == 100
    assert found.quality("image", float(scores.max()) + 1) == 0
    assert found.quality("embedding_norm", 1e6) == 100  # higher is better


def test_qualities_have_the_names_of_their_columns() -> None:
    scores = {"image": 0.0, "block1": 0.0, "embedding_norm": 9.0}
    found = reference().qualities(scores)
    assert list(found) == ["quality_image", "quality_embedding_norm", "quality"]
    assert found["quality"] == found["quality_image"]
    assert found["quality_embedding_norm"] == 100
    assert list(reference(None).qualities(scores)) == ["quality_image", "quality_embedding_norm"]
    assert list(reference("loss").qualities(scores)) == ["quality_image", "quality_embedding_norm"]


def quantiles(document: Document) -> list[Any]:
    found: list[Any] = document["distributions"]["image"]["quantiles"]
    return found


DAMAGE: dict[str, Callable[[Document], object]] = {
    "another format": lambda it: it.update(format=2),
    "no format": lambda it: it.pop("format"),
    "a key too many": lambda it: it.update(data="x"),
    "a key too few": lambda it: it.pop("about"),
    "quantiles that fall": lambda it: quantiles(it).reverse(),
    "a quantile too few": lambda it: quantiles(it).pop(),
    "a quantile that is no number": lambda it: quantiles(it).__setitem__(5, math.nan),
    "a quantile without end": lambda it: quantiles(it).__setitem__(-1, math.inf),
    "a huge quantile": lambda it: quantiles(it).__setitem__(-1, 1e200),
    "a huge whole number": lambda it: quantiles(it).__setitem__(-1, 10**400),
    "a quantile as text": lambda it: quantiles(it).__setitem__(-1, "9"),
    "a quantile that is true": lambda it: quantiles(it).__setitem__(-1, True),
    "quantiles that are none": lambda it: it["distributions"]["image"].update(quantiles=5),
    "a count of one": lambda it: it["distributions"]["image"].update(count=1),
    "a count as text": lambda it: it["distributions"]["image"].update(count="9"),
    "no distributions": lambda it: it.update(distributions={}, directions={}),
    "distributions in a list": lambda it: it.update(distributions=[]),
    "an unknown score": lambda it: it["distributions"].update(mine=it["distributions"].pop("image")),
    "the other direction": lambda it: it["directions"].update(image="higher"),
    "a layer without scores": lambda it: it.update(layer="block1"),
    "a layer in a list": lambda it: it.update(layer=["image"]),
    "a ranking that is none": lambda it: it.update(ranking={}),
    "a row without an area": lambda it: it["ranking"][0].pop("pauc_normalised"),
    "an area as text": lambda it: it["ranking"][0].update(ci_low="0"),
    "an area that is no number": lambda it: it["ranking"][0].update(ci_low=float("nan")),
    "a ranking of another score": lambda it: it["ranking"][0].update(quality="block9"),
    "a verdict that is none": lambda it: it["ranking"][0].update(predicts="yes"),
    "a count beyond all": lambda it: it["distributions"]["image"].update(count=10**400),
    "what it holds for": lambda it: it["holds_for"].pop("norms"),
    "weights that are no text": lambda it: it["holds_for"].update(weights_sha256=5),
    "preprocessing that is none": lambda it: it["holds_for"].update(preprocessing=[]),
    "a flip that is none": lambda it: it["holds_for"].update(flip="no"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_reference_is_refused(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "reference.json", DAMAGE[name])
    with pytest.raises(RequestError, match=r"reference\.json is damaged .*made by 'grafiqs calibrate'"):
        read_reference(path)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"no JSON", b"\xff\xfe", b"5", b'{"format": 1}', b'{"format":' + b"[" * 100_000]
)
def test_a_file_that_is_no_reference_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_bytes(data)
    with pytest.raises(RequestError, match="made by 'grafiqs calibrate'"):
        read_reference(tmp_path / "reference.json")


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe")
    for name, why in {"huge": "larger", "pipe": "not a regular file", "gone": "No such file", ".": "directory"}.items():
        with pytest.raises(RequestError, match=f"{why}.*made by 'grafiqs calibrate'"):
            read_reference(tmp_path / name)


OTHERS: dict[str, tuple[Document, str]] = {
    "weights": ({"weights_sha256": "b" * 64}, "weights_sha256: a.*b"),
    "norms": ({"norms": "all"}, "norms: maps in the reference, all here"),
    "loss": ({"loss": "another"}, "loss: 1/K"),
    "network": ({"backbone": {"name": "mbf"}}, "backbone.name: iresnet18"),
    "one of several networks": (
        {"backbone": {**asked()["backbone"], "weights_key": "ema."}},
        "backbone.weights_key: None in the reference, ema. here",
    ),
    "colours": ({"preprocessing": {**PREPROCESSING, "channel_order": "bgr"}}, "preprocessing.channel_order: rgb"),
    "mean": ({"preprocessing": {**PREPROCESSING, "mean": [0.4] * 3}}, "preprocessing.mean"),
    "size": ({"preprocessing": {**PREPROCESSING, "size": [112, 96]}}, "preprocessing.size"),
    "alignment": (
        {"preprocessing": {**PREPROCESSING, "alignment": {"detector": "YuNet"}}},
        "preprocessing.alignment: None",
    ),
    "flip": ({"flip": True}, "flip: False in the reference, True here"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_it_is_refused_where_it_does_not_hold(what: str) -> None:
    others, said = OTHERS[what]
    with pytest.raises(RequestError, match=rf"mine\.json does not hold.*\n(.*\n)*  - {said}"):
        reference().refuse_other(asked(**others), Path("mine.json"))
    assert reference().differences(asked()) == []
    with pytest.raises(RequestError) as caught:
        reference().refuse_other(asked(**others), "mine.json")
    assert ("--any-alignment" in str(caught.value)) is (what == "alignment")


def test_what_a_reference_says_is_printed_harmlessly(tmp_path: Path) -> None:
    path = written(tmp_path / "reference.json", lambda it: it["holds_for"].update(backbone={RED: RED}, norms=RED))
    with pytest.raises(RequestError, match="does not hold") as caught:
        read_reference(path).refuse_other(asked(), path)
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).count("\n  - ") == str(caught.value).count("\n")


def test_it_holds_in_another_precision_without_embeddings_and_however_aligned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reference().refuse_other(asked(), Path("mine.json"))
    reference().refuse_other(asked(flip=None), Path("mine.json"))
    assert caplog.messages == []
    reference().refuse_other(asked(precision="bfloat16"), Path("mine.json"))
    assert "made in float32, here bfloat16 is asked for" in caplog.text
    caplog.clear()
    reference().refuse_other(asked(precision="float64"), Path("mine.json"))
    assert caplog.messages == []
    aligned = {"preprocessing": {**PREPROCESSING, "alignment": {"detector": "YuNet"}}}
    anyhow = reference(any_alignment=True)
    for given in ({}, aligned):
        assert anyhow.differences(asked(**given)) == []
    assert anyhow.differences(asked(preprocessing={**PREPROCESSING, "mean": [0.4] * 3})) != []
