"""Backend "native": the C convolution as two custom ops of torch, with fake tensors and autograd."""

import ctypes

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops._custom import begins, dense, join_autograd
from mambattn.ops._native import library as native
from mambattn.ops._native.library import View, pointer, view
from mambattn.ops.conv.reference import causal_conv1d_reference

_SEGMENT = 64
"""Tokens that are taken through the convolution at once: those of a block of channels stay in the cache."""
_PARTS = 16
"""Parts that the segments are cut into at most: for as many threads."""


class Job(ctypes.Structure):
    """The arguments of a convolution; the fields are those of csrc/conv.h, in the same order."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "seq_len", "d_inner", "d_conv", "segment", "parts", "silu", "next")
        ),
        *((name, View) for name in ("x", "y", "dout", "dx", "initial", "dinitial")),
        *((name, ctypes.c_void_p) for name in ("taps", "bias", "reach", "sums")),
    ]


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _reach(seq_idx: Tensor, d_past: int) -> Tensor:
    """Give how many tokens back each token may look; those of the first sequence see the tokens before it too."""
    place = torch.arange(d_past, d_past + seq_idx.shape[1], device=seq_idx.device)
    first = begins(seq_idx) * place
    return (place - first.cummax(1).values).clamp(max=d_past).to(torch.int32)


def _run(
    kernel: str, x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None, seq_idx: Tensor | None,
    silu: bool, **outputs: Tensor,
) -> Tensor:  # fmt: skip
    """Run a kernel on the inputs and other sequences by name; give the sums that the backward leaves, for each part."""
    batch, seq_len, d_inner = x.shape
    d_conv = weight.shape[1]
    segments = batch * -(-seq_len // _SEGMENT)
    parts = min(segments, _PARTS)
    job = Job(batch, seq_len, d_inner, d_conv, _SEGMENT, parts, silu)
    sums = torch.empty(parts if "dx" in outputs else 0, d_conv + 1, d_inner, dtype=torch.float32)
    floats = {"taps": weight.T, "bias": bias, "sums": sums}
    alive = {name: None if tensor is None else tensor.float().contiguous() for name, tensor in floats.items()}
    if seq_idx is not None:
        alive["reach"] = _reach(seq_idx, d_conv - 1)
    for name, tensor in alive.items():
        setattr(job, name, pointer(tensor))
    sequences = {"x": dense(x), **outputs}
    if initial_state is not None:
        sequences["initial"] = dense(initial_state)
    for name, tensor in sequences.items():
        setattr(job, name, view(tensor))
    library = native.current()
    library.run(kernel, job, parts * -(-d_inner // library.lanes), library.ask("mambattn_conv_scratch", job))
    return sums


@torch.library.custom_op("mambattn::causal_conv1d_forward", mutates_args=())
def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None, seq_idx: Tensor | None, silu: bool
) -> Tensor:
    y = _empty(x)
    _run("mambattn_conv_forward", x, weight, bias, initial_state, seq_idx, silu, y=y)
    return y


@_forward.register_fake
def _(x, weight, bias, initial_state, seq_idx, silu):
    return x.new_empty(x.shape)


@torch.library.custom_op("mambattn::causal_conv1d_backward", mutates_args=())
def _backward(
    dout: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    outputs = {"dout": dense(dout), "dx": _empty(x)}
    if initial_state is not None:
        outputs["dinitial"] = _empty(initial_state)
    sums = _run("mambattn_conv_backward", x, weight, bias, initial_state, seq_idx, silu, **outputs)
    sums = sums[0] if len(sums) == 1 else sums.sum(0)
    return (
        outputs["dx"],
        sums[:-1].T.to(weight.dtype, copy=True, memory_format=torch.contiguous_format),
        x.new_empty(0) if bias is None else sums[-1].to(bias.dtype, copy=True),
        outputs.get("dinitial", x.new_empty(0)),
    )


@_backward.register_fake
def _(dout, x, weight, bias, initial_state, seq_idx, silu):
    return (
        x.new_empty(x.shape),
        weight.new_empty(weight.shape),
        x.new_empty(0) if bias is None else bias.new_empty(bias.shape),
        x.new_empty(0) if initial_state is None else initial_state.new_empty(initial_state.shape),
    )


def _definition(
    x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor | None, run: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    return causal_conv1d_reference(x, weight, bias, past, run, "silu" if silu else None)


join_autograd(_forward, _backward, _definition, tensors=5, settings=1, outputs=1)


def _last_inputs(x: Tensor, initial_state: Tensor | None, seq_idx: Tensor | None, d_past: int) -> Tensor:
    """Give the d_past inputs at the end of the last sequence, after those of the initial state or zeros."""
    past = x[:, max(x.shape[1] - d_past, 0) :]
    missing = d_past - past.shape[1]
    if missing:
        before = None if initial_state is None else initial_state[:, -missing:].to(x.dtype)
        past = pad(past, (0, 0, missing, 0)) if before is None else torch.cat([before, past], 1)
    if seq_idx is not None:
        reach = _reach(seq_idx, d_past)[:, -1:] + 1
        past = past * (torch.arange(d_past, 0, -1) <= reach)[..., None]
    return past


def causal_conv1d_native(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    activation: str | None,
) -> tuple[Tensor, Tensor]:
    """Run the C convolution; arguments and result are those of `causal_conv1d_reference`."""
    y = _forward(x, weight, bias, initial_state, seq_idx, activation == "silu")
    return y, _last_inputs(x, initial_state, seq_idx, weight.shape[1] - 1)
