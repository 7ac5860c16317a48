"""Backend "native" of attention, for short sequences: the C code as custom ops of torch, with fakes and autograd."""

import ctypes

import torch
from torch import Tensor

from mambattn.ops._custom import dense, join_autograd
from mambattn.ops._dispatch import Request
from mambattn.ops._native import library as native
from mambattn.ops._native import serves
from mambattn.ops._native.library import View, view
from mambattn.ops.attend.reference import attention_weights

_LONGEST = 1024
_SHORT = 128
"""Tokens up to which a head's matrices lie in the cache of a core."""


class Job(ctypes.Structure):
    """The arguments of attention; the fields are those of csrc/attend.h, in the same order."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                *("batch", "seq_len", "n_heads", "n_kv_heads", "d_head"),
                *("left", "right", "seed", "drop", "next"),
            )
        ),
        *((name, ctypes.c_double) for name in ("scale", "keep")),
        *((name, View) for name in ("q", "k", "v", "y", "dy", "dq", "dk", "dv")),
    ]


def refuses(request: Request) -> str | None:
    """Say why a call cannot be served, or give None."""
    _, _, n_global, _, _ = request.options
    q = request.tensors[0]
    assert q is not None
    if n_global:
        return f"it has no global tokens, however n_global={n_global}"
    if q.shape[1] > _LONGEST:
        return f"it serves up to {_LONGEST} tokens, however seq_len={q.shape[1]}"
    return serves.refuses(request)


def suits(request: Request) -> bool:
    """Say whether this is faster than torch's kernel, as measured.

    With dropout torch has no kernel on a CPU and forms the weights one operation at a time. Without, its kernel is as
    good on long sequences, wide heads and few of them, and better on windows. A call of this costs a little more.
    """
    _, window, _, _, dropout_p = request.options
    q = request.tensors[0]
    assert q is not None
    batch, seq_len, n_heads, d_head = q.shape
    if dropout_p:
        return batch * n_heads * seq_len**2 >= 1024 and (seq_len <= _SHORT or window is None)
    return seq_len <= _SHORT and d_head <= 16 and batch * n_heads >= 128


def _run(
    kernel: str, sequences: dict[str, Tensor], left: int, right: int, scale: float, p: float, seed: Tensor
) -> None:
    batch, seq_len, n_heads, d_head = sequences["q"].shape
    n_kv_heads = sequences["k"].shape[2]
    job = Job(batch, seq_len, n_heads, n_kv_heads, d_head, left, right, int(seed), round(p * 2**32))
    job.scale, job.keep = scale, 1 / (1 - p)
    alive = {name: dense(x) for name, x in sequences.items()}
    for name, x in alive.items():
        setattr(job, name, view(x))
    library = native.current()
    library.run(kernel, job, batch * n_kv_heads, library.ask("mambattn_attend_scratch", job))


@torch.library.custom_op("mambattn::attention_forward", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, seed: Tensor, left: int, right: int, scale: float, dropout_p: float
) -> Tensor:
    y = q.new_empty(q.shape)
    _run("mambattn_attend_forward", {"q": q, "k": k, "v": v, "y": y}, left, right, scale, dropout_p, seed)
    return y


@_forward.register_fake
def _(q, k, v, seed, left, right, scale, dropout_p):
    return q.new_empty(q.shape)


@torch.library.custom_op("mambattn::attention_backward", mutates_args=())
def _backward(
    dy: Tensor, q: Tensor, k: Tensor, v: Tensor, seed: Tensor, left: int, right: int, scale: float, dropout_p: float
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    sequences = {"q": q, "k": k, "v": v, "dy": dy, "dq": dq, "dk": dk, "dv": dv}
    _run("mambattn_attend_backward", sequences, left, right, scale, dropout_p, seed)
    return dq, dk, dv


@_backward.register_fake
def _(dy, q, k, v, seed, left, right, scale, dropout_p):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _defined(
    q: Tensor, k: Tensor, v: Tensor, seed: Tensor, left: int, right: int, scale: float, dropout_p: float
) -> Tensor:
    """Give the same in operations of torch, with the same weights dropped."""
    weights = attention_weights(q, k, causal=right < left, window=left + 1, scale=scale)
    if dropout_p:
        # With equal logits and the identity as values, the output shows what is kept.
        batch, seq_len, n_heads, _ = q.shape
        identity = torch.eye(seq_len)[None, :, None].expand(batch, -1, n_heads, -1)
        same = torch.zeros(batch, seq_len, n_heads, seq_len)
        kept = seq_len * _forward(same, same, identity, seed, seq_len, seq_len, scale, dropout_p)
        weights = weights * kept.transpose(1, 2)
    values = v.to(weights.dtype).repeat_interleave(q.shape[2] // v.shape[2], dim=2)
    return torch.einsum("bhij,bjhd->bihd", weights, values).to(q.dtype)


join_autograd(_forward, _backward, lambda *given: (_defined(*given),), tensors=4, settings=4, outputs=1)


def attention_native(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool,
    window: int | None,
    n_global: int,
    scale: float,
    dropout_p: float,
) -> Tensor:
    """Run the C code; the arguments are those of `mambattn.ops.attention`, checked and without global tokens."""
    left = (q.shape[1] if window is None else min(window, q.shape[1])) - 1
    seed = torch.randint(2**63 - 1, ()) if dropout_p else torch.zeros((), dtype=torch.int64)
    return _forward(q, k, v, seed, left, 0 if causal else left, scale, dropout_p)
