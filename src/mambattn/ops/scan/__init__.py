"""The selective scan of Mamba-1: definition, vectorised torch and compiled backends."""

from mambattn.ops._dispatch import forward_only, register
from mambattn.ops._native.serves import missing, refuses
from mambattn.ops._triton import serves as triton
from mambattn.ops._vmap import lay_side_by_side
from mambattn.ops.scan.api import selective_scan, selective_scan_step
from mambattn.ops.scan.native import selective_scan_native
from mambattn.ops.scan.native_step import selective_scan_step_native
from mambattn.ops.scan.reference import selective_scan_reference, selective_scan_step_reference
from mambattn.ops.scan.triton_backend import selective_scan_triton
from mambattn.ops.scan.triton_step import selective_scan_step_triton
from mambattn.ops.scan.vectorised import selective_scan_torch

__all__ = ["selective_scan", "selective_scan_step"]

register("selective_scan", "reference", selective_scan_reference, "sequential loop, the definition")
register(
    "selective_scan", "torch", selective_scan_torch, "blocks of tensor operations with their own backward, any device"
)
register(
    "selective_scan",
    "native",
    selective_scan_native,
    "plain C on the CPU, computes in float32",
    missing=missing,
    refuses=refuses,
    takes_any_type=True,
)

register(
    "selective_scan",
    "triton",
    selective_scan_triton,
    "GPU kernels, compute in float32",
    missing=triton.missing,
    refuses=triton.refuses,
    takes_any_type=True,
)

register("selective_scan_step", "reference", selective_scan_step_reference, "tensor operations, the definition")
register("selective_scan_step", "torch", selective_scan_step_reference, "the same tensor operations, any device")
register(
    "selective_scan_step",
    "native",
    selective_scan_step_native,
    "plain C on the CPU, computes in float32, gives no gradients",
    missing=missing,
    refuses=forward_only(refuses),
    takes_any_type=True,
)
register(
    "selective_scan_step",
    "triton",
    selective_scan_step_triton,
    "GPU kernel, computes in float32, gives no gradients",
    missing=triton.missing,
    refuses=forward_only(triton.refuses),
    takes_any_type=True,
)

# u, dt, A, B, C, D, z, dt_bias, state: members are groups of channels, each with its own B and C.
lay_side_by_side("selective_scan", (2, 2, 0, 2, 2, 0, 2, 0, 1), outputs=(2, 1))
lay_side_by_side("selective_scan_step", (1, 1, 0, 1, 1, 0, 1, 0, 1), outputs=(1, 1))
