"""Backend "native" of the one-token step, forward only; a custom op of torch where a graph asks for one."""

import ctypes

import torch
from torch import Tensor

from mambattn.ops._native import library as native
from mambattn.ops._native.library import View

_ITEM = 1 << 16
"""States that are worth a thread: below, waking one takes longer than the work."""


class StepJob(ctypes.Structure):
    """The arguments of a step; the fields are those of csrc/step.h, in the same order."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "n_groups", "d_group", "d_state", "items", "dt_softplus", "next")
        ),
        *((name, View) for name in ("u", "dt", "z", "B", "C", "y")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "bias", "state", "new_state")),
    ]


def _run(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    state: Tensor,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor]:
    batch, d_inner = u.shape
    n_groups, d_state = B.shape[1:]
    y, new_state = u.new_empty(batch, d_inner), state.new_empty(state.shape, dtype=torch.float32)
    items = max(1, min(state.numel() // _ITEM, batch * n_groups))
    job = StepJob(batch, n_groups, d_inner // n_groups, d_state, items, dt_softplus)
    tokens = {"u": u, "dt": dt, "z": z, "B": B.float(), "C": C.float(), "y": y}
    floats = {"A": A, "D": D, "bias": dt_bias, "state": state, "new_state": new_state}
    native.current().step("mambattn_scan_step", job, items, tokens, floats)
    return y, new_state


_step = torch.library.custom_op("mambattn::selective_scan_step", _run, mutates_args=())


@_step.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, state, dt_softplus):
    return u.new_empty(u.shape), state.new_empty(state.shape, dtype=torch.float32)


def selective_scan_step_native(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    state: Tensor,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Run the C step; arguments and result are those of `selective_scan_step_reference`."""
    # Going through the dispatcher of torch takes as long as a small step, and only a graph needs it.
    step = _step if torch.compiler.is_compiling() else _run
    return step(u, dt, A, B, C, D, z, dt_bias, state, dt_softplus)
