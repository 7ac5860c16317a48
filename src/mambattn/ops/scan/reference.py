"""The definition of the selective scan and of its step: a sequential loop over time, differentiated by autograd."""

import torch
from torch import Tensor

__all__ = ["advance", "selective_scan_reference", "selective_scan_step_reference", "step_size"]


def step_size(dt: Tensor, dt_bias: Tensor | None, dt_softplus: bool) -> Tensor:
    """Give the step size that the recurrence uses: softplus(dt + dt_bias), either part on request.

    Parameters
    ----------
    dt : Tensor
        Raw step sizes (..., d_inner).
    dt_bias : Tensor or None
        Added to them (d_inner,).
    dt_softplus : bool
        Whether softplus is applied; without the cut-off at 20 of torch's own softplus, which is off by 2e-9.

    Returns
    -------
    Tensor
        The step sizes, of the shape of `dt`.
    """
    if dt_bias is not None:
        dt = dt + dt_bias
    return torch.logaddexp(dt, torch.zeros_like(dt)) if dt_softplus else dt


def advance(u_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Take one step of the recurrence, for a step size ready to use and without D and z.

    Parameters
    ----------
    u_t : Tensor
        Input (batch, d_inner).
    dt_t : Tensor
        Step size (batch, d_inner).
    A : Tensor
        Decay rates (d_inner, d_state).
    B_t : Tensor
        Input map (batch, n_groups, d_state).
    C_t : Tensor
        Output map, of the shape of `B_t`.
    state : Tensor
        State before the step (batch, d_inner, d_state).

    Returns
    -------
    tuple of Tensor
        Output (batch, d_inner) and new state.
    """
    B_t, C_t = (x.repeat_interleave(u_t.shape[1] // x.shape[1], dim=1) for x in (B_t, C_t))
    state = torch.exp(dt_t[:, :, None] * A) * state + (dt_t * u_t)[:, :, None] * B_t
    return (C_t * state).sum(-1), state


def selective_scan_reference(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    return_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Run the recurrence token by token; see `mambattn.ops.selective_scan` for the equation and the shapes.

    Parameters
    ----------
    u : Tensor
        Input (batch, seq_len, d_inner).
    dt : Tensor
        Raw step sizes, of the shape of `u`.
    A : Tensor
        Decay rates (d_inner, d_state).
    B : Tensor
        Input map (batch, seq_len, n_groups, d_state).
    C : Tensor
        Output map, of the shape of `B`.
    D : Tensor or None
        Skip (d_inner,).
    z : Tensor or None
        Gate, of the shape of `u`.
    dt_bias : Tensor or None
        Added to `dt` (d_inner,).
    initial_state : Tensor or None
        State before the first token (batch, d_inner, d_state).
    seq_idx : Tensor or None
        Number of the sequence that each token belongs to (batch, seq_len).
    dt_softplus : bool
        Whether softplus is applied to the step size.
    reverse : bool
        Whether the scan starts at the last token.
    return_final_state : bool
        Whether the state after the last step is returned.

    Returns
    -------
    tuple of Tensor and Tensor or None
        The output, of the shape of `u`, and the final state (batch, d_inner, d_state) if asked for.
    """
    batch, seq_len, d_inner = u.shape
    dt = step_size(dt, dt_bias, dt_softplus)
    state = u.new_zeros(batch, d_inner, A.shape[1]) if initial_state is None else initial_state
    outputs: dict[int, Tensor] = {}
    previous = None
    for t in reversed(range(seq_len)) if reverse else range(seq_len):
        if seq_idx is not None and previous is not None:
            starts = seq_idx[:, t] != seq_idx[:, previous]
            state = state.masked_fill(starts[:, None, None], 0.0)
        outputs[t], state = advance(u[:, t], dt[:, t], A, B[:, t], C[:, t], state)
        previous = t
    y = torch.stack([outputs[t] for t in range(seq_len)], dim=1)
    if D is not None:
        y = y + D * u
    if z is not None:
        y = y * torch.nn.functional.silu(z)
    return y, state if return_final_state else None


def selective_scan_step_reference(
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
    """Take one step of the recurrence with all that belongs to it; see `mambattn.ops.selective_scan_step`.

    Parameters
    ----------
    u : Tensor
        Input (batch, d_inner).
    dt : Tensor
        Raw step sizes, of the shape of `u`.
    A : Tensor
        Decay rates (d_inner, d_state).
    B : Tensor
        Input map (batch, n_groups, d_state).
    C : Tensor
        Output map, of the shape of `B`.
    D : Tensor or None
        Skip (d_inner,).
    z : Tensor or None
        Gate, of the shape of `u`.
    dt_bias : Tensor or None
        Added to `dt` (d_inner,).
    state : Tensor
        State before the step (batch, d_inner, d_state).
    dt_softplus : bool
        Whether softplus is applied to the step size.

    Returns
    -------
    tuple of Tensor
        The output, of the shape of `u`, and the new state.
    """
    y, state = advance(u, step_size(dt, dt_bias, dt_softplus), A, B, C, state)
    if D is not None:
        y = y + D * u
    if z is not None:
        y = y * torch.nn.functional.silu(z)
    return y, state
