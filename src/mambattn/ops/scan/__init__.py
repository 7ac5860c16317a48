"""The selective scan of Mamba-1: definition, vectorised torch and compiled backends."""

from mambattn.ops._dispatch import register
from mambattn.ops._native.serves import missing, refuses
from mambattn.ops.scan.api import selective_scan, selective_scan_step
from mambattn.ops.scan.native import selective_scan_native
from mambattn.ops.scan.reference import selective_scan_reference
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
