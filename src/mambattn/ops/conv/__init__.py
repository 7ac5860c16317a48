"""The short causal convolution, one filter a channel."""

from mambattn.ops._dispatch import forward_only, register
from mambattn.ops._native.serves import missing, refuses
from mambattn.ops._triton import serves as triton
from mambattn.ops._vmap import lay_side_by_side
from mambattn.ops.conv.api import causal_conv1d, causal_conv1d_step
from mambattn.ops.conv.native import causal_conv1d_native
from mambattn.ops.conv.native_step import causal_conv1d_step_native
from mambattn.ops.conv.reference import causal_conv1d_reference, conv_advance
from mambattn.ops.conv.triton_backend import causal_conv1d_step_triton, causal_conv1d_triton
from mambattn.ops.conv.vectorised import causal_conv1d_torch

__all__ = ["causal_conv1d", "causal_conv1d_step"]

register("causal_conv1d", "reference", causal_conv1d_reference, "sequential loop, the definition")
register("causal_conv1d", "torch", causal_conv1d_torch, "sums of shifted products with their own backward, any device")
register(
    "causal_conv1d",
    "native",
    causal_conv1d_native,
    "plain C on the CPU, computes in float32",
    missing=missing,
    refuses=refuses,
    takes_any_type=True,
)

register("causal_conv1d_step", "reference", conv_advance, "tensor operations, the definition")
register("causal_conv1d_step", "torch", conv_advance, "the same tensor operations, any device")
register(
    "causal_conv1d_step",
    "native",
    causal_conv1d_step_native,
    "plain C on the CPU, computes in float32, gives no gradients",
    missing=missing,
    refuses=forward_only(refuses),
    takes_any_type=True,
)

register(
    "causal_conv1d",
    "triton",
    causal_conv1d_triton,
    "GPU kernels, compute in float32",
    missing=triton.missing,
    refuses=triton.refuses_above(8, "d_conv", argument=1),
    takes_any_type=True,
)
register(
    "causal_conv1d_step",
    "triton",
    causal_conv1d_step_triton,
    "GPU kernel, computes in float32, gives no gradients",
    missing=triton.missing,
    refuses=forward_only(triton.refuses),
    takes_any_type=True,
)

# x, weight, bias, state: members are channels.
lay_side_by_side("causal_conv1d", (2, 0, 0, 2), outputs=(2, 2))
lay_side_by_side("causal_conv1d_step", (1, 0, 0, 2), outputs=(1, 2))
