"""Backend "native" of the one-token step of the convolution, forward only; a custom op where a graph asks for one."""

import ctypes

import torch
from torch import Tensor

from mambattn.ops._custom import dense
from mambattn.ops._native import library as native
from mambattn.ops._native.library import View, pointer, token_view, view

_ITEM = 1 << 16
"""Products that are worth a thread: below, waking one takes longer than the work."""


class StepJob(ctypes.Structure):
    """The arguments of a step; the fields are those of csrc/step.h, in the same order."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "d_inner", "d_conv", "items", "silu", "next")),
        ("x", View),
        ("state", View),
        *((name, ctypes.c_void_p) for name in ("y", "new_state", "weight", "bias")),
    ]


def _run(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    batch, d_inner = x.shape
    d_conv = weight.shape[1]
    y, new_state = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, state))
    x, state = dense(x), dense(state)
    weight = weight.float().contiguous()
    bias = None if bias is None else bias.float().contiguous()
    library = native.current()
    items = max(1, min(batch * weight.numel() // _ITEM, -(-d_inner // library.lanes)))
    job = StepJob(
        *(batch, d_inner, d_conv, items, silu, 0, token_view(x), view(state)),
        *map(pointer, (y, new_state, weight, bias)),
    )
    library.run("mambattn_conv_step", job, items, d_conv * library.lanes)
    return y, new_state


_step = torch.library.custom_op("mambattn::causal_conv1d_step", _run, mutates_args=())


@_step.register_fake
def _(x, weight, bias, state, silu):
    return x.new_empty(x.shape), state.new_empty(state.shape)


def causal_conv1d_step_native(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, activation: str | None
) -> tuple[Tensor, Tensor]:
    """Run the C step; arguments and result are those of `conv_advance`, the new state in the type of the old one."""
    # Going through the dispatcher of torch takes as long as a small step, and only a graph needs it.
    step = _step if torch.compiler.is_compiling() else _run
    return step(x, weight, bias, state, activation == "silu")
