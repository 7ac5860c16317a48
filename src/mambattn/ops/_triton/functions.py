"""Functions of one number that the GPU kernels of several ops apply, in float32."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def sigmoid(x):
    """Give 1 / (1 + exp(−x))."""
    return 1.0 / (1.0 + tl.exp2(-LOG2_E * x))


@triton.jit
def softplus(x):
    """Give log(1 + exp(x)) to the last digits, for small step sizes too.

    With e = exp(−|x|) it is max(x, 0) + log1p(e), and log1p(e) = 2 artanh(s) with s = e / (2 + e) ≤ 1/3: a series in
    s² whose first term left out is below 1e-9. The hardware's logarithm loses every digit of a small e.
    """
    e = tl.exp2(-LOG2_E * tl.abs(x))
    s = e / (2.0 + e)
    square = s * s
    series = 1.0 / 15.0 + square * (1.0 / 17.0)
    series = 1.0 / 13.0 + square * series
    series = 1.0 / 11.0 + square * series
    series = 1.0 / 9.0 + square * series
    series = 1.0 / 7.0 + square * series
    series = 1.0 / 5.0 + square * series
    series = 1.0 / 3.0 + square * series
    return tl.maximum(x, 0.0) + 2.0 * s * (1.0 + square * series)
