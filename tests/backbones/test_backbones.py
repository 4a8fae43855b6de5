"""The networks that people have: their names, their layers, and their gradients against the oracle."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

import pytest
import torch
from torch import Tensor, nn

from grafiqs.backbones.backbone import Backbone, observed
from grafiqs.backbones.catalogue import BACKBONES, LAYERS
from grafiqs.backbones.fit import identified
from grafiqs.backbones.ir import ADAFACE, ADAFACE_BOTTLENECK, IRNet
from grafiqs.backbones.iresnet import IResNet
from grafiqs.backbones.mobilefacenet import (
    MobileFaceNet,
    MobileFaceNetInsightFace,
    MobileFaceNetReLU6,
    WideMobileFaceNet,
)
from grafiqs.gradients import image_gradients
from grafiqs.images.tensors import normalise, resized
from support import published
from support.making import REAL, picture, recorded_statistics
from support.oracle import largest_difference, oracle_gradients
from support.published import PUBLISHED

WIDTHS = (16, 16, 32, 48)
"""Stages whose squeezed channels are one, two and three; the first two alike, so that a shortcut has no weights."""

SLIM = (32, 32, 64, 64)
"""The same of units of three convolutions, with eight channels and more between them."""


class Pair(NamedTuple):
    """A network, the same written apart, and how many of its BatchNorm2d see single pixels."""

    build: Callable[[], Backbone]
    apart: Callable[[], nn.Module]
    pixels: int = 0


NETWORKS = {
    "iresnet": Pair(
        lambda: IResNet((2, 1, 1, 2), WIDTHS, embedding_size=32),
        lambda: published.IResNet((2, 1, 1, 2), WIDTHS, 32),
    ),
    "iresnet_se": Pair(
        lambda: IResNet((1, 2, 1, 1), WIDTHS, embedding_size=32, excitation=True),
        lambda: published.IResNet((1, 2, 1, 1), WIDTHS, 32, se=True),
    ),
    "magface": Pair(
        lambda: IResNet((1, 1, 2, 1), WIDTHS, embedding_size=32, epsilon=2e-5),
        lambda: published.IResNet((1, 1, 2, 1), WIDTHS, 32, eps=2e-5),
    ),
    "ir": Pair(
        lambda: IRNet((2, 1, 2, 1), False, WIDTHS, embedding_size=32),
        lambda: published.IR(published.evolve_parts, (2, 1, 2, 1), WIDTHS, 32, affine=True),
    ),
    "ir_se": Pair(
        lambda: IRNet((1, 2, 1, 1), True, WIDTHS, embedding_size=32),
        lambda: published.IR(published.evolve_parts, (1, 2, 1, 1), WIDTHS, 32, se=True, affine=True),
    ),
    "adaface": Pair(
        lambda: IRNet((1, 2, 1, 2), False, WIDTHS, 32, ADAFACE, affine=False),
        lambda: published.IR(published.adaface_parts, (1, 2, 1, 2), WIDTHS, 32),
    ),
    "adaface_se": Pair(
        lambda: IRNet((1, 1, 1, 2), True, WIDTHS, 32, ADAFACE, affine=False),
        lambda: published.IR(published.adaface_parts, (1, 1, 1, 2), WIDTHS, 32, se=True),
    ),
    "adaface_bottleneck": Pair(
        lambda: IRNet((2, 1, 2, 1), False, SLIM, 32, ADAFACE_BOTTLENECK, affine=False),
        lambda: published.IR(published.bottleneck_parts, (2, 1, 2, 1), SLIM, 32, stem=8),
    ),
    "adaface_bottleneck_se": Pair(
        lambda: IRNet((1, 1, 2, 1), True, SLIM, 32, ADAFACE_BOTTLENECK, affine=False),
        lambda: published.IR(published.bottleneck_parts, (1, 1, 2, 1), SLIM, 32, se=True, stem=8),
    ),
    "mobilefacenet": Pair(lambda: MobileFaceNet(32), lambda: published.BubbliiiingMobile(32), 2),
    "mobilefacenet_insightface": Pair(lambda: MobileFaceNetInsightFace(32), lambda: published.InsightFaceMobile(32), 1),
    "mobilefacenet_relu6": Pair(lambda: MobileFaceNetReLU6(32), lambda: published.FoamliuMobile(32), 2),
    "mbf": Pair(lambda: WideMobileFaceNet((1, 2, 1, 1), 1, 32), lambda: published.Mbf((1, 2, 1, 1), 1, 32), 1),
    "mbf_large": Pair(lambda: WideMobileFaceNet((2, 1, 1, 1), 2, 32), lambda: published.Mbf((2, 1, 1, 1), 2, 32), 1),
}

MOBILE = {"image": (3, 112, 112), "block1": (64, 28, 28), "block2": (128, 14, 14), "block3": (128, 7, 7)}


def faces(count: int) -> Tensor:
    return normalise(torch.stack([resized(picture(number)) for number in range(count)]))


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Both with the same weights, as factories that return what is there already."""
    build, apart, pixels = NETWORKS[request.param]
    network, other = recorded_statistics(build), apart().eval().requires_grad_(False)
    other.load_state_dict(network.state_dict())
    return Pair(lambda: network, lambda: other, pixels)


@pytest.mark.parametrize("norms", ["maps", "all"])
def test_the_oracle_agrees(pair: Pair, norms: str) -> None:
    """The oracle runs the network that was written apart."""
    network, apart = copy.deepcopy(pair.build()).double(), copy.deepcopy(pair.apart()).double()
    batch = faces(2).double()
    expected = oracle_gradients(cast(Backbone, apart), batch, norms=norms)
    reached = ("image", "block1", "block2", "block3") if pair.pixels and norms == "maps" else LAYERS
    assert tuple(expected) == reached
    assert largest_difference(image_gradients(network, batch, norms=norms), expected) < 1e-9
    if norms == "all":
        return
    for layer in reached:
        alone = image_gradients(network, batch[:1], (layer,), norms)
        assert largest_difference(alone, {layer: expected[layer][:1]}) < 1e-9
    embeddings = network(batch)
    assert embeddings.shape == (2, 32)
    torch.testing.assert_close(embeddings, apart(batch), rtol=1e-9, atol=1e-12)


def test_norms_that_see_single_pixels_count_if_all_do(pair: Pair) -> None:
    network, batch = pair.build(), faces(2)
    seen = observed(network, (112, 112))
    assert seen.norms.pixels == pair.pixels
    assert seen.norms.maps + seen.norms.pixels == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    maps, every = (image_gradients(network, batch, ("image",), norms)["image"] for norms in ("maps", "all"))
    assert torch.equal(maps, every) == (not pair.pixels)
    assert seen.norms.layers["all"] == LAYERS
    if pair.pixels:
        assert seen.norms.layers["maps"] == LAYERS[:-1]
        with pytest.raises(ValueError, match="no BatchNorm2d that counts comes after block4"):
            image_gradients(network, batch, ("block4",))


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_and_shapes_are_those_that_are_published(name: str) -> None:
    """Those of the networks that were written apart, in their published sizes."""
    with torch.device("meta"):
        state = PUBLISHED[name]().state_dict()
    prefix = "features." if name.startswith("magface") else ""
    fit, _ = identified({prefix + key: value for key, value in state.items()}, Path("a.pth"), None, None)
    assert (fit.name, fit.is_exact, fit.beside) == (name, True, [])
    found = {key: value.shape for key, value in fit.network.state_dict().items()}
    assert found == {key: value.shape for key, value in state.items()}


def test_every_network_is_written_apart() -> None:
    assert sorted(PUBLISHED) == sorted(BACKBONES)


@pytest.mark.parametrize("name", ["iresnet_se", "ir", "adaface_bottleneck_se", "mobilefacenet", "mobilefacenet_relu6"])
def test_channels_that_are_off_give_finite_gradients(name: str) -> None:
    """Their learned variance falls to 5.6e-45 in published weights."""
    network = recorded_statistics(NETWORKS[name].build)
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


@pytest.mark.parametrize("name", ["mobilefacenet", "mobilefacenet_insightface", "mobilefacenet_relu6"])
def test_the_layers_of_a_mobilefacenet(name: str) -> None:
    found = image_gradients(recorded_statistics(NETWORKS[name].build), faces(1), norms="all")
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
