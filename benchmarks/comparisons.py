"""A million comparisons and five methods, made up, to measure `grafiqs evaluate` on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COUNT = 1_000_000
METHODS = ("one", "two", "three", "four", "five")


def write_comparisons(folder: Path, people: int = 10_000, samples: int = 10) -> tuple[Path, Path]:
    """Scores and pairs as CSV, half of the pairs genuine; the first method predicts errors, the others nothing."""
    random = np.random.default_rng(0)
    first = random.integers(0, people * samples, COUNT)
    genuine = np.arange(COUNT) % 2 == 0
    own = first // samples * samples + (first + random.integers(1, samples, COUNT)) % samples
    other = (first + samples * random.integers(1, people, COUNT)) % (people * samples)
    second = np.where(genuine, own, other)
    quality = random.random((people * samples, len(METHODS)))
    worse = np.minimum(quality[first, 0], quality[second, 0])
    similarity = np.where(genuine, random.normal(0.55, 0.15, COUNT) + 0.2 * worse, random.normal(0, 0.12, COUNT))
    names = [f"person_{row // samples:05}/{row % samples:02}.jpg" for row in range(people * samples)]
    scores, pairs = folder / "scores.csv", folder / "pairs.csv"
    with scores.open("w", encoding="utf-8") as file:
        file.write(f"path,{','.join(METHODS)}\n")
        file.writelines(
            f"{name},{','.join(f'{value:.6f}' for value in row)}\n" for name, row in zip(names, quality, strict=True)
        )
    with pairs.open("w", encoding="utf-8") as file:
        file.write("a,b,genuine,similarity\n")
        file.writelines(
            f"{names[a]},{names[b]},{int(same)},{alike:.6f}\n"
            for a, b, same, alike in zip(first, second, genuine, similarity, strict=True)
        )
    return scores, pairs


def as_arrays(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """The same as arrays: similarity, genuine, and the pair quality of each method (comparisons, methods)."""
    names: dict[str, list[float]] = {}
    with (folder / "scores.csv").open(encoding="utf-8") as file:
        next(file)
        for line in file:
            name, *values = line.split(",")
            names[name] = [float(value) for value in values]
    similarity, genuine, quality = np.empty(COUNT), np.empty(COUNT, bool), np.empty((COUNT, len(METHODS)))
    with (folder / "pairs.csv").open(encoding="utf-8") as file:
        next(file)
        for row, line in enumerate(file):
            first, second, same, alike = line.split(",")
            similarity[row], genuine[row] = float(alike), same == "1"
            quality[row] = np.minimum(names[first], names[second])
    return similarity, genuine, quality
