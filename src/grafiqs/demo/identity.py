"""Drawn faces: an identity fixed by a seed and a number, and its samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from grafiqs.demo.degrade import YAW, Degradation, degrade, yaw_angle
from grafiqs.demo.drawn import drawn
from grafiqs.demo.head import Head, build_head
from grafiqs.demo.render import render
from grafiqs.demo.scene import Scene
from grafiqs.demo.traits import draw_traits

_TRAITS, _SCENE, _DEGRADATION, _HEAD = range(4)  # streams of random numbers, so that one does not move another


@dataclass(frozen=True)
class Face:
    """One picture and what it was drawn from."""

    image: NDArray[np.uint8]  # (112, 112, 3) RGB
    scene: Scene
    degradation: Degradation | None


class Identity:
    """A person who does not exist: identity `number` of `seed`, whatever else is drawn.

    `traits` are the numbers behind it. The first face takes some 40 ms, the others some 10 ms each.
    """

    def __init__(self, seed: int, number: int) -> None:
        self._key = (seed, number)
        self.traits = draw_traits(self._random(_TRAITS))

    @cached_property
    def _head(self) -> Head:
        return build_head(self.traits, self._random(_HEAD))

    def _random(self, stream: int, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([stream, *self._key, *numbers])

    def scene(self, sample: int, degradation: Degradation | None = None) -> Scene:
        """The circumstances of sample `sample`; a degradation changes none of them but the yaw, and that one only."""
        scene = drawn(Scene, self._random(_SCENE, sample))
        if degradation and degradation.kind == YAW:
            return replace(scene, yaw=math.copysign(yaw_angle(degradation.strength), scene.yaw))
        return scene

    def face(self, sample: int, degradation: Degradation | None = None) -> Face:
        """Sample `sample` of the identity: the same scene with and without a degradation."""
        scene = self.scene(sample, degradation)
        image = render(self._head, self.traits, scene)
        if degradation:
            image = degrade(image, degradation, self._random(_DEGRADATION, sample))
        return Face(image, scene, degradation)
