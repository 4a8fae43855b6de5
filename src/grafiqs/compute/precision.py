"""Convolutions in bfloat16, where rounding does not move the scores."""

from __future__ import annotations

import copy
from typing import Any, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn

EXACT_SIDE = 28
"""Maps with sides of this many pixels and more are convolved in float32 in the forward pass.

What is rounded early moves the statistics of everything after it: with these convolutions, a third of the forward
work, in bfloat16 too, scores moved by up to 3 %; without them, by up to 0.4 %. Gradients can be rounded anywhere.
"""

_HELD = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_buffers", "_modules"),
)
"""Where PyTorch keeps what is hung on a module."""

Network = TypeVar("Network", bound=nn.Module)


def rounded(network: Network) -> Network:
    """A copy of `network` whose plain convolutions multiply bfloat16 numbers, except in the forward pass on large maps.

    They still take and give float32, and add up in it. The copy gives gradients of its inputs alone, not of weights.
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if _is_plain(module):
            module.__class__ = RoundedConv2d  # it stays the module that the network knows, by any of its names
            module.register_buffer("rounded", module.weight.detach().to(torch.bfloat16))
    return network


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module convolves, with zeros around its input, and nothing else.

    Subclasses, reparametrisations, hooks and replaced methods may change its weights, what it is given, or what it
    gives.
    """
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module._parameters.keys() == {"weight", "bias"}
        and module.weight.dtype == torch.float32
        and not any(vars(module)[held] for held in _HELD)
        and not any(hasattr(nn.Conv2d, name) for name in vars(module))
    )


class RoundedConv2d(nn.Conv2d):
    """A convolution with a rounded copy of its weights beside them."""

    rounded: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), float32."""
        if input.ndim != 4:  # an image by itself
            return super().forward(input)
        settings = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)
        arguments = (input, self.weight, self.rounded, self.bias, settings)
        return cast(Tensor, _Convolution.apply(*arguments))  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    """Forward in one precision, back to the input in another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, exact: Tensor, rounded: Tensor, bias: Tensor | None, settings: Any) -> Tensor:
        ctx.save_for_backward(x, rounded)
        ctx.settings = settings
        if min(x.shape[2:]) >= EXACT_SIDE:
            return cast(Tensor, torch.ops.aten.convolution(x, exact, bias, *settings))
        y: Tensor = torch.ops.aten.convolution(x.to(rounded.dtype), rounded, None, *settings).float()
        return y if bias is None else y + bias.view(-1, 1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, rounded = ctx.saved_tensors
        shaped = torch.empty_like(x, dtype=rounded.dtype)  # the gradient of the input asks for no more than its shape
        found, _, _ = torch.ops.aten.convolution_backward(
            gradient.to(rounded.dtype), shaped, rounded, None, *ctx.settings, (True, False, False)
        )
        return found.float(), None, None, None, None
