"""Which runs a sweep makes of its seeds, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from grafiqs.errors import RequestError
from grafiqs.options.extract import Options
from grafiqs.options.sweep import SweepOptions


def options(**given: Any) -> SweepOptions:
    return SweepOptions(image_path="faces", **given)  # type: ignore[arg-type]  # it takes text, too


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ({"random_seeds": [5, 4]}, [(None, 5, 0), (None, 4, 0)]),
        ({"identity_selection_seeds": [1, 2]}, [(1, 42, 0), (2, 42, 0)]),
        ({"identity_selection_seeds": [1, 2], "random_seeds": [3, 4]}, [(1, 3, 0), (2, 4, 0)]),
        ({"identity_selection_seeds": [1], "random_seeds": [3, 4]}, [(1, 3, 0), (1, 4, 0)]),
        (
            {"identity_selection_seeds": [1, 2], "random_seeds": [3, 4], "crossed": True},
            [(1, 3, 0), (1, 4, 0), (2, 3, 0), (2, 4, 0)],
        ),
        ({"replicates": 2, "random_seed": 7}, [(None, 7, 0), (None, 8, 0)]),
        ({"replicates": 2, "identity_selection_seed": 7}, [(7, 42, 0), (8, 43, 0)]),
        ({"replicates": 3, "disjoint": True, "num_identities": 5}, [(None, 42, 0), (None, 42, 5), (None, 42, 10)]),
        (
            {
                "replicates": 2,
                "disjoint": True,
                "num_identities": 5,
                "skip_identities": 3,
                "identity_selection_seed": 9,
            },
            [(9, 42, 3), (9, 42, 8)],
        ),
    ],
)
def test_each_run_has_its_seeds(given: dict[str, Any], seeds: list[tuple[int | None, int, int]]) -> None:
    runs = options(**given).runs()
    assert [(run.identity_selection_seed, run.random_seed, run.skip_identities) for run in runs.values()] == seeds
    assert [run.output_dir.as_posix() for run in runs.values()] == [f"grafiqs_sweep/{name}" for name in runs]
    assert len({type(run) for run in runs.values()} | {Options}) == 1
    drawn = "identity_selection_seeds" in given or "disjoint" in given
    assert {run.random_identity_selection for run in runs.values()} == {drawn}


def test_the_names_say_the_seeds() -> None:
    assert list(options(random_seeds=[1]).runs()) == ["samples-1"]
    assert list(options(random_seeds=[1], random_identity_selection=True).runs()) == ["identities-1_samples-1"]
    disjoint = options(replicates=2, disjoint=True, num_identities=5).runs()
    assert list(disjoint) == ["identities-42_skip-0_samples-42", "identities-42_skip-5_samples-42"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "a sweep needs seeds: give --random-seeds, --identity-selection-seeds or both, or --replicates"),
        ({"random_seeds": [1, 2, 1]}, "--random-seeds names 1 twice: that would be the same subset again"),
        ({"random_seeds": "1,,2"}, "--random-seeds is '1,,2': that is not"),
        ({"random_seeds": [1, -2]}, "--random-seeds is 1,-2: a seed lies between 0 and 4294967295"),
        (
            {"random_seeds": [1, 2, 3], "identity_selection_seeds": [1, 2]},
            "2 --identity-selection-seeds and 3 --random-seeds make no pairs",
        ),
        (
            {"random_seeds": [1, 2], "random_seed": 3},
            "--random-seeds 1,2 and --random-seed 3 contradict each other: give one of them",
        ),
        (
            {"replicates": 2, "random_seeds": [1, 2]},
            "--replicates 2 and --random-seeds 1,2 contradict each other: give one of them",
        ),
        (
            {"replicates": 2, "random_seed": 2**32 - 1},
            "--random-seed is 4294967296: a seed lies between 0 and 4294967295",
        ),
        ({"disjoint": True}, "--disjoint needs --replicates and --num-identities, how many, and how large"),
        (
            {"crossed": True, "random_seeds": [1]},
            "--crossed needs --random-seeds and --identity-selection-seeds, which it combines",
        ),
    ],
)
def test_what_makes_no_sweep_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as refused:
        options(**given)
    assert str(refused.value).startswith(sentence)
