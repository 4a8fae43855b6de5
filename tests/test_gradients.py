"""The fast gradients against the oracle, layer by layer and image by image."""

from __future__ import annotations

import copy
from functools import cache
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

import grafiqs.gradients
from grafiqs.backbones.backbone import observed
from grafiqs.backbones.catalogue import DEPTHS, LAYERS, WIDTHS
from grafiqs.backbones.iresnet import IResNet
from grafiqs.gradients import gradient_scores, image_gradients, image_losses, measured, statistics_loss
from grafiqs.images.tensors import normalise, resized
from support.making import picture, random_network
from support.oracle import largest_difference, oracle_gradients, oracle_losses, recorded_branches

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Largest relative L2 difference of any image's gradient at any layer."""


def faces(count: int) -> Tensor:
    pixels = torch.stack([resized(picture(100 + number)) for number in range(count)])
    return normalise(pixels, dtype=torch.float64)


random = cache(random_network)
"""Networks that both types are tried on; read only."""


@pytest.fixture(scope="module")
def network() -> IResNet:
    return random_network()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_agrees_with_one_image_at_a_time(network: IResNet, count: int, dtype: torch.dtype) -> None:
    typed = copy.deepcopy(network).to(dtype)
    with recorded_branches(typed) as branches:
        found = image_gradients(typed, faces(count).to(dtype))
    assert tuple(found) == LAYERS
    assert {layer: tuple(gradient.shape[1:]) for layer, gradient in found.items()} == observed(
        network, (112, 112)
    ).shapes
    assert largest_difference(found, oracle_gradients(network, faces(count), branches)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_permuted_batch_and_a_partial_last_one_agree(network: IResNet, dtype: torch.dtype) -> None:
    seven = faces(7)
    typed = copy.deepcopy(network).to(dtype)
    permuted = seven[torch.tensor([3, 0, 6, 2, 5, 1, 4])]
    padded = torch.cat([seven[4:], torch.zeros(1, 3, 112, 112, dtype=torch.float64)])
    for batch, count in ((permuted, 7), (padded, 3)):
        with recorded_branches(typed) as branches:
            found = image_gradients(typed, batch.to(dtype))
        own = {layer: gradient[:count] for layer, gradient in found.items()}
        assert largest_difference(own, oracle_gradients(network, batch[:count], branches)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("backbone", DEPTHS)
def test_every_depth_agrees(backbone: str, dtype: torch.dtype) -> None:
    deep = random(backbone)
    typed = copy.deepcopy(deep).to(dtype)
    with recorded_branches(typed) as branches:
        found = image_gradients(typed, faces(2).to(dtype))
    assert largest_difference(found, oracle_gradients(deep, faces(2), branches)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_published_widths_agree(dtype: torch.dtype) -> None:
    wide = random("iresnet18", WIDTHS, embedding_size=512)
    typed = copy.deepcopy(wide).to(dtype)
    with recorded_branches(typed) as branches:
        found = image_gradients(typed, faces(2).to(dtype))
    assert largest_difference(found, oracle_gradients(wide, faces(2), branches)) < TOLERANCE[dtype]


@pytest.mark.parametrize("layers", [c for size in (1, 2, 3) for c in combinations(LAYERS, size)])
def test_a_choice_of_layers_gives_the_same_gradients(network: IResNet, layers: tuple[str, ...]) -> None:
    two = faces(2).float()
    every = image_gradients(network, two)
    some = image_gradients(network, two, layers)
    assert tuple(some) == layers
    assert all(torch.equal(some[layer], every[layer]) for layer in layers)


@pytest.mark.parametrize(
    ("layer", "norms"), [("image", 30), ("block1", 22), ("block2", 15), ("block3", 8), ("block4", 1)]
)
def test_a_layer_needs_only_what_comes_after_it(
    network: IResNet, layer: str, norms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Tensor] = []

    def counted(u: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        taken.append(u)
        return statistics_loss(u, norm)

    monkeypatch.setattr(grafiqs.gradients, "statistics_loss", counted)
    image_gradients(network, faces(1).float(), (layer,))
    assert len(taken) == norms
    assert all(u.requires_grad for u in taken)


def losses_of_its_pass(network: IResNet, batch: Tensor) -> Tensor:
    """The losses (B,) of what the network's own forward pass gives in its type, summed in float64."""
    terms: list[Tensor] = []

    def see(norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        u = inputs[0].double().flatten(2)
        mean, variance = u.mean(2) - norm.running_mean, u.var(2, unbiased=False) - norm.running_var
        terms.append((mean**2).mean(1) + (variance**2).mean(1))

    handles = [norm.register_forward_hook(see) for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]
    network(batch)
    for handle in handles:
        handle.remove()
    return torch.stack(terms).mean(0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layers", [(), ("image",), ("block2", "block3"), ("block4",), LAYERS])
def test_the_loss_is_that_of_the_oracle_whatever_gradients_are_taken(
    network: IResNet, layers: tuple[str, ...], dtype: torch.dtype
) -> None:
    typed, batch = copy.deepcopy(network).to(dtype), faces(3).to(dtype)
    found = measured(typed, batch, layers, losses=True)
    assert found.losses is not None
    assert found.losses.dtype == torch.float64
    if dtype == torch.float64:
        torch.testing.assert_close(found.losses, oracle_losses(network, faces(3)), rtol=1e-12, atol=0)
    else:  # the network's own rounding, which differs by processor, is in both
        torch.testing.assert_close(found.losses, losses_of_its_pass(typed, batch), rtol=2e-7, atol=0)
    without = image_gradients(typed, batch, layers) if layers else {}
    assert all(torch.equal(found.gradients[layer], without[layer]) for layer in layers)


def test_the_loss_alone_is_a_forward_pass(network: IResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.autograd, "grad", refused)
    one, eight = faces(1).float(), torch.cat([faces(1).float(), torch.randn(7, 3, 112, 112)])
    assert not image_losses(network.float(), one).requires_grad
    torch.testing.assert_close(image_losses(network, eight)[:1], image_losses(network, one), rtol=1e-6, atol=0)


def test_what_follows_the_last_statistics_does_not_run() -> None:
    cut = random_network()
    expected = image_gradients(cut, faces(1).float())
    del cut.fc, cut.features
    found = image_gradients(cut, faces(1).float())
    assert all(torch.equal(found[layer], expected[layer]) for layer in LAYERS)


class Hasty(nn.Module):
    """A block whose output is changed in place by what comes after it, as many networks do to save memory."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.after = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.block(x))  # type: ignore[no-any-return]


def test_activations_that_are_changed_in_place_keep_their_gradient() -> None:
    """The gradient is that of the block's output before the change: none where the change cut it off."""
    network = random_network()
    expected = image_gradients(network, faces(2).float(), ("block2",))["block2"]
    network.layer2 = Hasty(network.layer2)  # type: ignore[assignment]
    hasty = image_gradients(network, faces(2).float(), ("block2",))["block2"]
    network.blocks = ("layer1", "layer2.block", "layer3", "layer4")
    for layers in (("block2",), LAYERS):
        found = image_gradients(network, faces(2).float(), layers)["block2"]
        outputs = network.layer2.block(network.layer1(network.prelu(network.bn1(network.conv1(faces(2).float())))))  # type: ignore[operator]
        torch.testing.assert_close(found, torch.where(outputs > 0, hasty, 0), rtol=1e-5, atol=0)
    assert not torch.equal(found, expected)


def test_it_does_not_matter_whether_graphs_are_on(network: IResNet) -> None:
    expected = image_gradients(network, faces(1).float())
    for mode in (torch.no_grad(), torch.enable_grad()):
        with mode:
            before = torch.is_grad_enabled()
            found = image_gradients(network, faces(1).float(), LAYERS)
            assert torch.is_grad_enabled() == before
        assert all(torch.equal(found[layer], expected[layer]) for layer in LAYERS)


def test_block4_follows_its_closed_form(network: IResNet) -> None:
    double = copy.deepcopy(network).double()
    three = faces(3)
    x = double.prelu(double.bn1(double.conv1(three)))
    for stage in (double.layer1, double.layer2, double.layer3, double.layer4):
        x = stage(x)
    norm, count = double.bn2, 7 * 7
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mu = x.mean((2, 3), keepdim=True)
    v = ((x - mu) ** 2).mean((2, 3), keepdim=True)
    mean, variance = norm.running_mean.view(-1, 1, 1), norm.running_var.view(-1, 1, 1)
    slope = 2 * (mu - mean) / count + 4 * (v - variance) * (x - mu) / count
    expected = slope / norm.num_features / 30  # an iresnet18 has 30 BatchNorm2d
    found = image_gradients(double, three, ("block4",))["block4"]
    assert float((found - expected).norm() / expected.norm()) < 1e-12


def test_the_gradient_is_the_slope_of_the_loss(network: IResNet) -> None:
    """Central differences of the loss itself, which autograd has no part in."""
    double = copy.deepcopy(network).double()
    image = faces(1)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(x: Tensor) -> float:
        terms: list[float] = []

        def collect(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            assert isinstance(norm, nn.BatchNorm2d)
            terms.append(float(statistics_loss(arguments[0], norm)))

        handles = [m.register_forward_pre_hook(collect) for m in double.modules() if isinstance(m, nn.BatchNorm2d)]
        double(x)
        for handle in handles:
            handle.remove()
        return sum(terms) / len(terms)

    step = 1e-7
    slope = (loss(image + step * direction) - loss(image - step * direction)) / (2 * step)
    found = float((image_gradients(double, image)["image"] * direction).sum())
    assert found == pytest.approx(slope, rel=1e-4)


def test_neighbours_and_position_do_not_change_a_bit(network: IResNet) -> None:
    eight = faces(8).float()
    alone = {layer: gradient[0] for layer, gradient in image_gradients(network, eight).items()}
    for place in range(8):
        others = torch.rand(8, 3, 112, 112, generator=torch.Generator().manual_seed(place)) * 2 - 1
        others[place] = eight[0]
        found = image_gradients(network, others)
        assert all(torch.equal(found[layer][place], alone[layer]) for layer in LAYERS)


def test_the_score_is_the_sum_of_absolute_values_in_float64() -> None:
    gradient = torch.randn(3, 8, 56, 56, generator=torch.Generator().manual_seed(0))
    found = gradient_scores(gradient)
    assert found.dtype == torch.float64
    expected = [sum(abs(value) for value in image.flatten().tolist()) for image in gradient]
    assert found.tolist() == pytest.approx(expected, rel=1e-13)


def test_no_hook_and_no_graph_stay_behind(network: IResNet) -> None:
    found = image_gradients(network, faces(1).float())
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert not any(gradient.requires_grad for gradient in found.values())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_are_computed_under_no_grad_too(network: IResNet) -> None:
    one = faces(1).float()
    with torch.no_grad():
        found = image_gradients(network, one)
    assert torch.equal(found["image"], image_gradients(network, one)["image"])
