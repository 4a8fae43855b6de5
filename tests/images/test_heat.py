"""Where heat maps say the gradients are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from grafiqs.backbones.checkpoint import load_checkpoint
from grafiqs.demo.embedded import demo_backbone
from grafiqs.demo.identity import Identity
from grafiqs.faces.template import LANDMARKS
from grafiqs.gradients import image_gradients
from grafiqs.images.heat import heat_map
from grafiqs.images.tensors import normalise

SIDE = 112
NEAR = 4
"""Pixels from the edge of the bar."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def maps() -> tuple[NDArray[np.bool_], dict[str, list[NDArray[np.float32]]]]:
    """Where the edge of a bar over the eyes is, and the heat maps of twelve faces that are covered by it."""
    middle = round(LANDMARKS[:2, 1].mean())
    (left, _), (right, _) = LANDMARKS[:2].round().astype(int)
    box = (left - 20, middle - 9, right + 20, middle + 9)
    faces = []
    for number in range(12):
        face = Identity(11, number).face(0).image.copy()
        cv2.rectangle(face, box[:2], box[2:], (18, 18, 20), -1)
        faces.append(torch.from_numpy(face).permute(2, 0, 1))
    network = load_checkpoint(demo_backbone()).network
    gradients = image_gradients(network, normalise(torch.stack(faces)))
    y, x = np.mgrid[:SIDE, :SIDE]
    beyond = np.maximum(np.maximum(box[0] - x, x - box[2]), np.maximum(box[1] - y, y - box[3]))
    found = {
        layer: [heat_map(gradients[layer][number].numpy(), (SIDE, SIDE)) for number in range(12)]
        for layer in ("image", "block1", "block2")
    }
    return np.abs(beyond) <= NEAR, found


@pytest.mark.parametrize(("layer", "share"), [("block1", 0.5), ("block2", 0.75)])
def test_the_strongest_gradients_of_a_covered_face_lie_at_the_edge_of_the_bar(
    layer: str, share: float, maps: tuple[NDArray[np.bool_], dict[str, list[NDArray[np.float32]]]]
) -> None:
    edge, found = maps
    assert edge.mean() < 0.15  # of all pixels
    strongest = [edge[heat >= np.quantile(heat, 0.99)].mean() for heat in found[layer]]
    assert np.mean(strongest) > share


def test_all_gradients_of_a_covered_face_are_larger_there(
    maps: tuple[NDArray[np.bool_], dict[str, list[NDArray[np.float32]]]],
) -> None:
    edge, found = maps
    for heats in found.values():
        for heat in heats:
            assert heat[edge].mean() > 1.1 * heat[~edge].mean()
