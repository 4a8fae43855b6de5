"""The networks that people have: their names, their layers, and their gradients against the oracle."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone, observed
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.ir import IRNet
from grafiqs.backbones.iresnet import IResNet
from grafiqs.backbones.mobilefacenet import MobileFaceNet, MobileFaceNetReLU6
from grafiqs.gradients import image_gradients
from grafiqs.images.tensors import normalise, resized
from support.making import REAL, picture, recorded_statistics
from support.oracle import largest_difference, oracle_gradients

WIDTHS = (16, 16, 32, 48)
"""Stages whose squeezed channels are one, two and three; the first two alike, so that a shortcut has no weights."""

NETWORKS: dict[str, Callable[[], Backbone]] = {
    "iresnet_se": lambda: IResNet((1, 2, 1, 1), WIDTHS, embedding_size=32, excitation=True),
    "ir": lambda: IRNet((2, 1, 2, 1), False, WIDTHS, embedding_size=32),
    "ir_se": lambda: IRNet((1, 2, 1, 1), True, WIDTHS, embedding_size=32),
    "mobilefacenet": lambda: MobileFaceNet(32),
    "mobilefacenet_relu6": lambda: MobileFaceNetReLU6(32),
}

MOBILE = {"image": (3, 112, 112), "block1": (64, 28, 28), "block2": (128, 14, 14), "block3": (128, 7, 7)}


def faces(count: int) -> Tensor:
    return normalise(torch.stack([resized(picture(number)) for number in range(count)]))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Backbone:
    return recorded_statistics(NETWORKS[request.param])


@pytest.mark.parametrize("norms", ["maps", "all"])
def test_the_oracle_agrees(network: Backbone, norms: str) -> None:
    batch = faces(3).double()
    expected = oracle_gradients(network, batch, norms=norms)
    reached = ("image", "block1", "block2", "block3") if is_mobile(network) and norms == "maps" else LAYERS
    assert tuple(expected) == reached
    network = copy.deepcopy(network).double()
    assert largest_difference(image_gradients(network, batch, norms=norms), expected) < 1e-9
    for layer in reached:
        assert largest_difference(image_gradients(network, batch, (layer,), norms), expected) < 1e-9
    assert network(batch).shape == (3, 32)


def is_mobile(network: Backbone) -> bool:
    return isinstance(network, MobileFaceNet | MobileFaceNetReLU6)


def test_norms_that_see_single_pixels_count_if_all_do(network: Backbone) -> None:
    batch = faces(2)
    seen = observed(network, (112, 112))
    assert seen.norms.pixels == 2 * is_mobile(network)
    assert seen.norms.maps + seen.norms.pixels == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    maps, every = (image_gradients(network, batch, ("image",), norms)["image"] for norms in ("maps", "all"))
    assert torch.equal(maps, every) == (not is_mobile(network))
    assert seen.norms.layers["all"] == LAYERS
    if is_mobile(network):
        assert seen.norms.layers["maps"] == LAYERS[:-1]
        with pytest.raises(ValueError, match="no BatchNorm2d that counts comes after block4"):
            image_gradients(network, batch, ("block4",))


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_that_are_off_give_finite_gradients(name: str) -> None:
    """Their learned variance falls to 5.6e-45 in published weights."""
    network = recorded_statistics(NETWORKS[name])
    off = 0
    for before, after in pairwise(network.modules()):
        if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            assert after.running_var is not None
            assert after.running_mean is not None
            for values, value in ((before.weight, 0), (after.running_mean, 0), (after.running_var, 5.6e-45)):
                values[::4] = value
            off += 1
    assert off > 3
    found = image_gradients(network, torch.cat([faces(1), torch.zeros(1, 3, 112, 112)]), norms="all")
    assert all(gradient.isfinite().all() and gradient[0].any() for gradient in found.values())


@pytest.mark.parametrize("name", ["mobilefacenet", "mobilefacenet_relu6"])
def test_the_layers_of_a_mobilefacenet(name: str) -> None:
    found = image_gradients(recorded_statistics(NETWORKS[name]), faces(1), norms="all")
    assert {layer: tuple(gradient.shape[1:]) for layer, gradient in found.items()} == MOBILE | {"block4": (512, 7, 7)}


@pytest.mark.parametrize("excitation", [False, True])
def test_the_layers_of_an_ir(excitation: bool) -> None:
    with torch.device("meta"):
        network = IRNet((3, 4, 14, 3), excitation)
    assert network.blocks == ("body.2", "body.6", "body.20", "body.23")
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 1 + 24 * 2 + 3 + 1
    assert ("body.0.res_layer.5.fc1.weight" in network.state_dict()) == excitation


@pytest.mark.skipif(not REAL.is_dir(), reason="no real weights beside this checkout")
@pytest.mark.parametrize(
    ("build", "file", "prefix", "norms", "smallest_variance"),
    [
        (MobileFaceNetReLU6, "foamliu_mobilefacenet.pt", "", 51, 5.6e-45),
        (MobileFaceNet, "bubbliiiing_arcface_mobilefacenet.pth", "arcface.", 50, 1.9e-15),
    ],
)
def test_published_weights_fit(
    build: Callable[[], Backbone], file: str, prefix: str, norms: int, smallest_variance: float
) -> None:
    state = torch.load(REAL / "weights" / file, map_location="cpu", weights_only=True)
    network = build()
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    network.eval().requires_grad_(False)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == norms
    smallest = min(float(value.min()) for key, value in state.items() if key.endswith("running_var"))
    assert smallest == pytest.approx(smallest_variance, rel=0.02, abs=0)
    batch = faces(2)
    assert all(gradient.isfinite().all() for gradient in image_gradients(network, batch).values())
    expected = oracle_gradients(network, batch)
    network.double()
    assert largest_difference(image_gradients(network, batch.double()), expected) < 1e-9
