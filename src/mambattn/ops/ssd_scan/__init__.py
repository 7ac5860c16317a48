"""State-space duality, the recurrence of Mamba-2."""

from mambattn.ops._dispatch import forward_only, register
from mambattn.ops._native.serves import missing, refuses
from mambattn.ops._triton import serves as triton
from mambattn.ops._vmap import lay_side_by_side
from mambattn.ops.ssd_scan.api import ssd, ssd_step
from mambattn.ops.ssd_scan.native import ssd_native
from mambattn.ops.ssd_scan.native_step import ssd_step_native
from mambattn.ops.ssd_scan.reference import ssd_advance, ssd_reference
from mambattn.ops.ssd_scan.triton_backend import ssd_triton
from mambattn.ops.ssd_scan.triton_step import ssd_step_triton
from mambattn.ops.ssd_scan.vectorised import ssd_torch

__all__ = ["ssd", "ssd_step"]

register("ssd", "reference", ssd_reference, "sequential loop, the definition")
register("ssd", "torch", ssd_torch, "matrix products over chunks with their own backward, any device")
register(
    "ssd",
    "native",
    ssd_native,
    "plain C on the CPU, computes in float32",
    missing=missing,
    refuses=refuses,
    takes_any_type=True,
)

register("ssd_step", "reference", ssd_advance, "tensor operations, the definition")
register("ssd_step", "torch", ssd_advance, "the same tensor operations, any device")
register(
    "ssd_step",
    "native",
    ssd_step_native,
    "plain C on the CPU, computes in float32, gives no gradients",
    missing=missing,
    refuses=forward_only(refuses),
    takes_any_type=True,
)

register(
    "ssd",
    "triton",
    ssd_triton,
    "GPU kernels, matrix products over chunks, sums in float32",
    missing=triton.missing,
    refuses=triton.refuses_above(triton.MAX_STATES, "d_state", argument=3),
    takes_any_type=True,
)
register(
    "ssd_step",
    "triton",
    ssd_step_triton,
    "GPU kernel, computes in float32, gives no gradients",
    missing=triton.missing,
    refuses=forward_only(triton.refuses),
    takes_any_type=True,
)

# x, dt, A, B, C, D, z, dt_bias, state: members are groups of heads, each with its own B and C.
lay_side_by_side("ssd", (2, 2, 0, 2, 2, 0, 2, 0, 1), outputs=(2, 1))
lay_side_by_side("ssd_step", (1, 1, 0, 1, 1, 0, 1, 0, 1), outputs=(1, 1))
