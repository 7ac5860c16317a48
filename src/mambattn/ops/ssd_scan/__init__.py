"""State-space duality, the recurrence of Mamba-2."""

from mambattn.ops._dispatch import register
from mambattn.ops.ssd_scan.api import ssd, ssd_step
from mambattn.ops.ssd_scan.reference import ssd_advance, ssd_reference
from mambattn.ops.ssd_scan.vectorised import ssd_torch

__all__ = ["ssd", "ssd_step"]

register("ssd", "reference", ssd_reference, "sequential loop, the definition")
register("ssd", "torch", ssd_torch, "matrix products over chunks with their own backward, any device")

register("ssd_step", "reference", ssd_advance, "tensor operations, the definition")
register("ssd_step", "torch", ssd_advance, "the same tensor operations, any device")
