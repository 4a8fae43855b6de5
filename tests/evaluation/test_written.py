"""edc.json, read back: as it was written, or a sentence that says what is wrong with it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grafiqs import RequestError
from grafiqs.cli import main
from grafiqs.evaluate import EvaluateOptions, Evaluation, evaluate
from grafiqs.evaluation.written import lines, read, write
from grafiqs.run import manifest as manifests
from support.commands import RED
from support.made_runs import write_run

pytestmark = pytest.mark.usefixtures("one_thread")

Document = dict[str, Any]


@pytest.fixture(scope="module")
def run(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of thirty people with three samples each, two of which have no score."""
    folder = tmp_path_factory.mktemp("runs")
    command = ["extract", "--image-path", str(faces), "--weights", str(weights), "--layers", "block2,block4"]
    command += ["--no-dump-gradients", "--samples-per-identity", "2", "--device", "cpu", "--quiet"]
    assert main([*command, "--output-dir", str(folder / "like")]) == 0
    random = np.random.default_rng(4)
    scores: dict[str, list[float] | None] = {f"p{n // 3}/{n % 3}.png": random.random(2).tolist() for n in range(90)}
    vectors = {path: random.normal(size=4).tolist() for path in scores}
    scores["p3/1.png"] = scores["p7/0.png"] = None
    return write_run(folder / "run", manifests.read(folder / "like"), scores, embeddings=vectors)


def found(*scores: object, **options: Any) -> Evaluation:
    rates = {} if "starting_error" in options else {"fmr": (0.1, 0.2)}
    given = {"bootstrap": 5, "quiet": True, **rates, **options}
    return evaluate(EvaluateOptions(scores=tuple(map(str, scores)), **given))


@pytest.fixture(scope="module")
def document(run: Path) -> Document:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grafiqs.evaluate._STEPS", 10)
        return found(run, fmr=(0.2,), methods=("block2", "embedding_norm")).to_json()


def placed(document: Document, folder: Path) -> Path:
    (folder / "edc.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    "options",
    [{}, {"protocol": "rethreshold"}, {"bootstrap": 0}, {"starting_error": (0.0, 0.3)}, {"x_max": (1.0,)}],
)
def test_what_is_written_is_read_back(options: Document, run: Path, tmp_path: Path) -> None:
    """To the letter, as NaN does not equal itself; with errors of nothing, which leave areas undefined."""
    made = found(f"one={run}", f"two={run}", **options)
    write(made, tmp_path)
    for place in (tmp_path, tmp_path / "edc.json"):
        again = read(place)
        assert repr(again) == repr(made)
        assert again.to_json() == made.to_json() == json.loads((tmp_path / "edc.json").read_bytes())
        assert list(lines(again)) == list(lines(made))
    assert "nan" in repr(made)


def test_names_that_are_no_text_are_read_back(run: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"r\xff\nx")
    odd.symlink_to(run)
    made = found(odd, bootstrap=0)
    write(made, tmp_path)
    assert read(tmp_path).about["runs"][0]["folder"] == str(odd)


def test_keys_that_are_not_known_are_passed_over(document: Document, tmp_path: Path) -> None:
    more = deepcopy(document) | {"news": [{}]}
    more["curves"][0]["news"] = None
    assert read(placed(more, tmp_path)).to_json() == document


def test_an_earlier_version_says_so(document: Document, tmp_path: Path) -> None:
    earlier = {name: value for name, value in document.items() if name != "runs"}
    with pytest.raises(RequestError, match=r"earlier version of grafiqs.*run 'grafiqs evaluate' again"):
        read(placed(earlier, tmp_path))


def places(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where the values of a document are: of lists of rows the last one alone, of numbers the middle one."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, own in value.items():
            yield from places(own, *path, key)
    elif isinstance(value, list) and value:
        place = len(value) - 1 if isinstance(value[0], dict) else len(value) // 2
        yield from places(value[place], *path, place)


def parent(document: Document, path: tuple[str | int, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]  # type: ignore[index]
    return document


NULLABLE = {"eer", "threshold", "fmr_reached", "e0", "pauc", "pauc_mean", "pauc_normalised", "pauc_relative"}
NULLABLE |= {"difference", "ci_low", "ci_high", "e0_low", "e0_high", "score_threshold", "quality_threshold", "worst"}

ANYTHING: list[Any] = ["x", "", RED, True, None, 5, -1, 0.5, [], {}, [[]], [None], [RED], {"": {}}]
NOTHING: list[Any] = [math.nan, math.inf, -math.inf, 10**400, "\ud800"]


def kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def is_refused(document: Document, folder: Path) -> bool:
    try:
        read(placed(document, folder))
    except RequestError as error:
        said = str(error)
        assert said.isprintable(), said
        assert "evaluate" in said
        assert len(said) < 1000
        return True
    return False


def test_a_key_that_is_missing_is_refused(document: Document, tmp_path: Path) -> None:
    count = 0
    for path in places(document):
        if isinstance(path[-1], str) and path[0] != "scores":
            broken = deepcopy(document)
            del parent(broken, path)[path[-1]]
            assert is_refused(broken, tmp_path), path
            count += 1
    assert count > 60


def test_a_value_of_another_kind_is_refused(document: Document, tmp_path: Path) -> None:
    for path in places(document):
        broken = deepcopy(document)
        home = parent(broken, path)
        was, key = home[path[-1]], path[-1] if isinstance(path[-1], str) else path[-2]
        for other in (*ANYTHING, *NOTHING):
            home[path[-1]] = other
            refused = is_refused(broken, tmp_path)
            is_free = other is None and key in NULLABLE
            is_free |= was is None and kind(other) is float and key in NULLABLE  # a figure that was undefined
            if kind(other) is not kind(was) and not is_free:
                assert refused, (path, other)
            if any(other is one for one in NOTHING):
                assert refused, (path, other)
        home[path[-1]] = was
    assert not is_refused(broken, tmp_path)


def curve(document: Document) -> Document:
    own: Document = document["curves"][0]
    return own


PARTS = ("results", "curves", "operating_points", "differences")

DAMAGE: dict[str, Callable[[Document], object]] = {
    "another format": lambda it: it.update(format=2),
    "a step too few": lambda it: curve(it)["discarded"].pop(),
    "an error rate too many": lambda it: curve(it)["error_rate"].append(0.1),
    "a score too few": lambda it: curve(it)["score_threshold"].pop(),
    "steps that fall": lambda it: curve(it)["discarded"].reverse(),
    "a step twice": lambda it: curve(it)["discarded"].__setitem__(2, curve(it)["discarded"][1]),
    "a share beyond all": lambda it: curve(it)["discarded"].__setitem__(-1, 1.5),
    "a share below nothing": lambda it: curve(it)["discarded"].__setitem__(0, -0.5),
    "more than nothing at first": lambda it: curve(it)["discarded"].__setitem__(0, 1e-9),
    "an error rate beyond all": lambda it: curve(it)["error_rate"].__setitem__(3, 1.01),
    "no steps": lambda it: curve(it).update(discarded=[], error_rate=[], score_threshold=[]),
    "scores the wrong way round": lambda it: curve(it)["score_threshold"].__setitem__(
        slice(1, None), curve(it)["score_threshold"][:0:-1]
    ),
    "a score where nothing is discarded": lambda it: curve(it)["score_threshold"].__setitem__(0, 1e9),
    "no scores": lambda it: curve(it).update(score_threshold=None),
    "scores of moving thresholds": lambda it: curve(it).update(protocol="rethreshold"),
    "all moving": lambda it: [row.update(protocol="rethreshold") for row in it["curves"] + it["results"]],
    "results of another protocol": lambda it: [row.update(protocol="rethreshold") for row in it["results"]],
    "an unknown protocol": lambda it: [row.update(protocol="mine") for row in it["curves"] + it["results"]],
    "an unknown error": lambda it: [
        row.update(error="eer") for row in it["curves"] + it["results"] if row["error"] == "fmr"
    ],
    "an unknown direction": lambda it: it["methods"][0].update(direction="up"),
    "curves of one error": lambda it: it.update(curves=[row for row in it["curves"] if row["error"] == "fnmr"]),
    "no target": lambda it: [row.update(fmr=None) for part in PARTS for row in it[part]],
    "no curves": lambda it: it.update(curves=[]),
    "a curve too few": lambda it: it["curves"].pop(),
    "a curve twice": lambda it: it["curves"].append(curve(it)),
    "a curve of another method": lambda it: curve(it).update(quality="mine"),
    "a method without rows": lambda it: it["methods"].append({"quality": "mine", "direction": "lower"}),
    "a method twice": lambda it: it["methods"].append(it["methods"][0]),
    "no method": lambda it: it.update(methods=[], runs=[], results=[], curves=[], operating_points=[], differences=[]),
    "a result too few": lambda it: it["results"].pop(),
    "a result twice": lambda it: it["results"].append(it["results"][0]),
    "an operating point too few": lambda it: it["operating_points"].pop(),
    "an operating point of another target": lambda it: it["operating_points"][0].update(fmr=0.3),
    "another target for all points": lambda it: [row.update(fmr=0.3) for row in it["operating_points"]],
    "two targets in one": lambda it: [row.update(starting_error=0.3) for part in PARTS for row in it[part]],
    "differences of others": lambda it: it["differences"][0].update(first="mine"),
    "differences of another target": lambda it: it["differences"][0].update(fmr=0.3),
    "no error but fmr": lambda it: it.update(
        {part: [row for row in it[part] if row["error"] == "fmr"] for part in ("results", "curves")}
    ),
    "a quality beyond": lambda it: it["operating_points"][0].update(quality_threshold=101),
    "a run that was not given": lambda it: it["runs"][0].update(name="mine"),
    "a run twice": lambda it: it["runs"].append(it["runs"][0]),
    "a prefix of another": lambda it: it["runs"][0].update(prefix="mine/"),
    "a run without its prefix": lambda it: it["scores"].update(mine="mine.txt"),
    "scores of no method": lambda it: it["runs"][0]["scores"].append("block1"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_evaluation_is_refused(name: str, document: Document, tmp_path: Path) -> None:
    broken = deepcopy(document)
    DAMAGE[name](broken)
    assert broken != document
    with pytest.raises(RequestError, match=r"edc\.json is damaged \(.*: 'grafiqs evaluate' writes such a file"):
        read(placed(broken, tmp_path))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"5", b"null", b'"x"', b"no JSON", b"\xff\xfe", b"{}", b'{"format": 1}', b'{"format": true}'),
        *(b'{"format":' + b"[" * 100_000, b'{"format": 1, "curves":' + b'{"a":' * 100_000, b'{"format": 1, "x": NaN'),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "edc.json").write_bytes(data)
    with pytest.raises(RequestError, match=r"edc\.json is damaged .*'grafiqs evaluate' writes such a file"):
        read(tmp_path)


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder" / "edc.json").mkdir(parents=True)
    whys = {"huge": "larger", "pipe": "not a regular file", "gone": "No such file", "folder": "directory"}
    for name, why in (whys | {".": "No such file"}).items():
        with pytest.raises(RequestError, match=f"{why}.*'grafiqs evaluate' writes such a file"):
            read(tmp_path / name)
