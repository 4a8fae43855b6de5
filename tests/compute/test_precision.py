"""Convolutions in bfloat16: plain ones alone, since what else a network of others does to its maps would be lost."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.factory import ForeignBackbone
from grafiqs.compute.computer import Computer
from grafiqs.compute.precision import RoundedConv2d, rounded
from grafiqs.compute.selfcheck import SCORES
from grafiqs.images.tensors import resized
from support.making import picture, recorded_statistics

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = 32
"""Enough that what is rounded up and what is rounded down make up for each other, as in real networks."""

Make = Callable[[int, int], nn.Module]
"""Makes what convolves maps of so many channels to maps of so many."""


def plain(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


class Stage(nn.Module):
    """A stage of a network: what convolves, and what comes after it everywhere."""

    def __init__(self, convolution: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = convolution
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.elu(self.norm(self.conv(x))), 2)


class Net(nn.Sequential):
    """Four stages, and a normalisation after them."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        channels = 3
        for number in range(4):
            self.add_module(f"stage{number}", Stage(make(channels, CHANNELS), CHANNELS))
            channels = CHANNELS
        self.add_module("norm", nn.BatchNorm2d(CHANNELS))


def scores(network: nn.Module, precision: str) -> Tensor:
    """The scores of four faces."""
    backbone = ForeignBackbone(network, ("stage0", "stage1", "stage2", "stage3"))
    pixels = torch.stack([resized(picture(number)) for number in range(4)])
    computer = Computer(backbone, torch.device("cpu"), 4, LAYERS, precision=precision)
    return computer(pixels, gradients=False).scores


def largest_difference(network: nn.Module) -> float:
    """How far scores in bfloat16 lie from those in float32, at most."""
    return float((scores(network, "bfloat16") / scores(network, "float32") - 1).abs().amax())


class Standardised(nn.Conv2d):
    """Its weights have no mean and one length, whatever they are."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / weight.std((1, 2, 3), keepdim=True) / 3
        return functional.conv2d(input, weight, self.bias, padding=1)


def older_weight_norm(before: int, after: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it goes one day
        convolution: nn.Module = nn.utils.weight_norm(plain(before, after))
    return convolution


def pruned(before: int, after: int) -> nn.Module:
    return prune.random_unstructured(plain(before, after), "weight", 0.5)  # type: ignore[no-any-return, no-untyped-call]


def hooked(before: int, after: int) -> nn.Module:
    convolution = plain(before, after)
    convolution.register_forward_hook(lambda _module, _inputs, output: output.roll(1, 2))
    return convolution


def hooked_before(before: int, after: int) -> nn.Module:
    convolution = plain(before, after)
    convolution.register_forward_pre_hook(lambda _module, inputs: inputs[0].square())
    return convolution


def hooked_behind(before: int, after: int) -> nn.Module:
    convolution = plain(before, after)
    convolution.register_full_backward_pre_hook(lambda _module, outputs: (2 * outputs[0],))  # type: ignore[index]
    return convolution


def replaced(before: int, after: int) -> nn.Module:
    convolution = plain(before, after)
    original = convolution.forward
    convolution.forward = lambda input: original(input).abs()  # type: ignore[method-assign]
    return convolution


NOT_PLAIN: dict[str, Make] = {
    "reflecting": lambda before, after: nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect"),
    "circular": lambda before, after: nn.Conv2d(before, after, 3, padding=1, padding_mode="circular"),
    "same": lambda before, after: nn.Conv2d(before, after, 3, padding="same"),
    "valid": lambda before, after: nn.Conv2d(before, after, 3, padding="valid"),
    "standardised": lambda before, after: Standardised(before, after, 3, padding=1),
    "weight norm": lambda before, after: parametrizations.weight_norm(plain(before, after)),
    "spectral norm": lambda before, after: parametrizations.spectral_norm(plain(before, after)),
    "older weight norm": older_weight_norm,
    "pruned": pruned,
    "hooked": hooked,
    "hooked before": hooked_before,
    "hooked on the way back": hooked_behind,
    "with another forward": replaced,
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_more_than_a_convolution_stays_as_it_is(name: str) -> None:
    network = recorded_statistics(lambda: Net(NOT_PLAIN[name]))
    assert not any(isinstance(module, RoundedConv2d) for module in rounded(network).modules())
    assert torch.equal(scores(network, "bfloat16"), scores(network, "float32"))


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_plain_convolutions_beside_it_are_rounded(name: str) -> None:
    makes = iter((plain, NOT_PLAIN[name], plain, NOT_PLAIN[name]))
    network = recorded_statistics(lambda: Net(lambda before, after: next(makes)(before, after)))
    kinds = [type(stage.conv) is RoundedConv2d for stage in list(rounded(network))[:4] if isinstance(stage, Stage)]
    assert kinds == [True, False, True, False]
    assert 0 < largest_difference(network) < SCORES["bfloat16"]


class Shared(Stage):
    """Its convolution has two names and stands in a list, and its weights are used without it."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(plain(channels_in, channels), channels)
        self.first = plain(channels, channels)
        self.second = self.first
        self.all = [self.first]

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        assert self.all[0] is self.first is self.second
        x = self.second(x) + self.all[0](x) + torch.stack([self.first(image) for image in x])
        return x + functional.conv2d(x, self.second.weight, self.second.bias, self.first.stride, self.second.padding)


def test_a_convolution_that_is_used_in_other_ways_stays_one_module() -> None:
    def build() -> Net:
        network = Net(plain)
        network.stage2 = Shared(CHANNELS, CHANNELS)
        network.stage3 = Shared(CHANNELS, CHANNELS)
        return network

    network = recorded_statistics(build)
    stage = rounded(network).stage3
    assert isinstance(stage, Shared)
    assert type(stage.first) is RoundedConv2d
    assert stage.second is stage.first is stage.all[0]
    assert 0 < largest_difference(network) < SCORES["bfloat16"]


def test_a_convolution_that_was_made_lazily_is_a_plain_one() -> None:
    def lazy(before: int, after: int) -> nn.Module:
        convolution = nn.LazyConv2d(after, 3, padding=1)
        convolution(torch.zeros(1, before, 8, 8))
        return convolution

    network = recorded_statistics(lambda: Net(lazy))
    assert sum(type(module) is RoundedConv2d for module in rounded(network).modules()) == 4
    assert 0 < largest_difference(network) < SCORES["bfloat16"]
