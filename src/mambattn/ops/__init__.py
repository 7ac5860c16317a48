"""Pure functions under the mixers: scans, convolution and attention, each with a definition and faster backends."""

from mambattn.ops._dispatch import BackendStatus, list_backends
from mambattn.ops.attend import AttentionState, attention, attention_init_state, attention_step
from mambattn.ops.conv import causal_conv1d, causal_conv1d_step
from mambattn.ops.scan import selective_scan, selective_scan_step
from mambattn.ops.ssd_scan import ssd, ssd_step

__all__ = [
    "AttentionState",
    "BackendStatus",
    "attention",
    "attention_init_state",
    "attention_step",
    "causal_conv1d",
    "causal_conv1d_step",
    "list_backends",
    "selective_scan",
    "selective_scan_step",
    "ssd",
    "ssd_step",
]
