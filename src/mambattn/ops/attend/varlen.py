"""Sliding windows on a GPU: torch's flash kernel for batches of sequences, which skips the keys out of reach."""

from __future__ import annotations

import torch
from torch import Tensor

from mambattn.ops._dispatch import constant_when_compiled

_MAX_HEAD = 256


def varlen_serves(q: Tensor, n_global: int, dropout_p: float) -> bool:
    """Say whether `attend_varlen` takes a call; q is (batch, seq_len, n_heads, d_head), of the type of k and v.

    The kernel knows neither global tokens nor, from Python, dropout; it loads eight half-precision numbers at once.
    """
    batch, *_, d_head = q.shape
    return (
        q.device.type == "cuda"
        and q.dtype in (torch.bfloat16, torch.float16)
        and n_global == 0
        and dropout_p == 0
        and d_head % 8 == 0
        and d_head <= _MAX_HEAD
        and batch > 0
        and _has_kernel(q.device.index)
    )


@constant_when_compiled
def _has_kernel(device: int | None) -> bool:
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(device) >= (8, 0)


def attend_varlen(q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int, scale: float) -> Tensor:
    """Let each token of q (batch, seq_len, n_heads, d_head) read those less than ``window`` away."""
    # Here, because it loads torch's compiler, which takes as long as torch itself.
    from torch.nn.attention.varlen import varlen_attn

    batch, seq_len, n_heads, _ = q.shape
    if k.shape[2] != n_heads:
        # By hand, as torch 2.11 takes no grouped heads here.
        k, v = (tensor.repeat_interleave(n_heads // k.shape[2], dim=2) for tensor in (k, v))
    q, k, v = ((x if x.stride(-1) == 1 else x.contiguous()).flatten(0, 1) for x in (q, k, v))
    starts = torch.arange(0, (batch + 1) * seq_len, seq_len, device=q.device, dtype=torch.int32)
    reach = (window - 1, 0 if causal else window - 1)
    y = varlen_attn(q, k, v, starts, starts, seq_len, seq_len, scale=scale, window_size=reach)
    assert isinstance(y, Tensor)
    return y.unflatten(0, (batch, seq_len))
