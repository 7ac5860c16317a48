"""Linear maps through oneDNN on processors that torch's own matrix product does not suit."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn.ops._vmap import is_under_vmap

__all__ = ["Linear", "linear"]

_SMALLEST = 6_000_000
"""Products of two numbers in a call at least: below it, finding the kernel outweighs what it saves."""
_NARROWEST = 16
"""Rows and columns of each matrix at least: nothing is gained on narrower ones, which memory limits."""
_PARTS = 4
"""Parts that the rows of a population's member are cut into on a GPU."""


class Linear(nn.Linear):
    """torch's Linear, computed by `linear`.

    Parameters
    ----------
    in_features : int
        Width of the input.
    out_features : int
        Width of the output.
    bias : bool, default True
        Whether a learned bias is added.

    Examples
    --------
    >>> Linear(3, 2)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map the last axis.

        Parameters
        ----------
        input : Tensor of shape (..., in_features)
            Vectors.

        Returns
        -------
        Tensor of shape (..., out_features)
            The mapped vectors.
        """
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give x Wᵀ + b, by oneDNN where that is faster.

    The wheels of torch multiply float32 matrices with MKL, which takes its AVX2 kernels on AMD's processors, AVX-512 or
    not; oneDNN, in the same wheels, is about twice as fast there (forward 0.28 against 0.65 ms for 1792 × 64 × 256).
    Other types, small products, autocast and torch.compile go to `torch.nn.functional.linear`.

    Parameters
    ----------
    x : Tensor of shape (..., d_in)
        Vectors.
    weight : Tensor of shape (d_out, d_in)
        The map W.
    bias : Tensor of shape (d_out,) or None, default None
        The bias b.

    Returns
    -------
    Tensor of shape (..., d_out)
        The mapped vectors.

    Examples
    --------
    >>> linear(torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0]]))
    tensor([11.])
    """
    if x.ndim > 1 and is_under_vmap((weight,)):
        return _of_members(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
    if torch.compiler.is_compiling() or not _suits(x, weight):
        return F.linear(x, weight, bias)
    return _OneDNN.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])


def _of_members(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Give x Wᵀ + b for the rows x of a member under torch.vmap, as one batched product over members.

    More axes of x would repeat the weights for each of them. On a GPU the rows are cut into parts, though, which
    repeats the weights on purpose: their gradient is a sum over all rows, and in parts more of the GPU works on it
    (forward and backward of 15 members, 2048 rows, 128 × 64: 71 instead of 115 µs on an H100).
    """
    if weight.device.type != "cuda" or len(x) % _PARTS:
        return F.linear(x, weight, bias)
    y = torch.bmm(x.unflatten(0, (_PARTS, -1)), weight.T.expand(_PARTS, -1, -1)).flatten(0, 1)
    return y if bias is None else y + bias


def _suits(x: Tensor, weight: Tensor) -> bool:
    sides = (x.shape[:-1].numel(), *weight.shape)
    return (
        math.prod(sides) >= _SMALLEST
        and min(sides) >= _NARROWEST
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and _is_faster_here()
    )


@cache
def _is_faster_here() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    is_amd = cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()
    return is_amd and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _OneDNN(torch.autograd.Function):
    """x Wᵀ + b for matrices; the gradients are such products too, so they have gradients of their own."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (weight.is_contiguous() or weight.T.is_contiguous()):
            weight = weight.contiguous()  # a thousand times faster: oneDNN has no kernel for gaps in it
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        (gradient,) = gradients
        return (
            linear(gradient, weight.T) if for_x else None,
            # As (xᵀ g)ᵀ rather than gᵀ x, because oneDNN is faster at it.
            linear(x.T, gradient.T).T if for_weight else None,
            gradient.sum(0) if for_bias else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, weight = ctx.saved_tensors
        x_t, weight_t, bias_t = tangents
        terms = [] if bias_t is None else [bias_t.expand(len(x), -1)]
        terms += [] if x_t is None else [F.linear(x_t, weight)]
        terms += [] if weight_t is None else [F.linear(x, weight_t)]
        return torch.stack(terms).sum(0)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return torch.vmap(F.linear, in_dims)(*inputs), 0
