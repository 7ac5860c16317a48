"""Functions of one number that the GPU kernels of several ops apply, in float32."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def sigmoid(x):
    """Give 1 / (1 + exp(−x))."""
    return 1.0 / (1.0 + tl.exp2(x * -LOG2_E))


@triton.jit
def softplus(x):
    """Give log(1 + exp(x)) to the last digits, for small step sizes too.

    With e = exp(−|x|) it is max(x, 0) + log1p(e), and log1p(e) = 2 artanh(s) with s = e / (2 + e) ≤ 1/3: a polynomial
    in s² that is off by 1e-10. The hardware's logarithm loses every digit of a small e.
    """
    e = tl.exp2(tl.abs(x) * -LOG2_E)
    s = e / (2.0 + e)
    square = s * s
    series = square * 0.12144777737557888 + 0.10715369880199432
    series = square * series + 0.14308299124240875
    series = square * series + 0.19999444484710693
    series = square * series + 0.3333333730697632
    return tl.maximum(x, 0.0) + 2.0 * (s * square * series + s)
