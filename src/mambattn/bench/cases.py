"""The cases: shapes of tables, recall studies and text, and what runs on them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from mambattn.ops import list_backends, selective_scan

__all__ = ["BASELINE", "CASES", "ScanCase", "contenders", "lean_loop", "unbind_loop"]

BASELINE = "unbind loop"


@dataclass(frozen=True)
class ScanCase:
    """A selective scan with softplus, D and z: forward, and gradients of all eight inputs, in float32.

    Parameters
    ----------
    name : str
        What the shape stands for.
    batch : int
        Sequences.
    d_inner : int
        Channels.
    seq_len : int
        Tokens.
    d_state : int
        States of a channel.
    is_default : bool
        Whether it runs without ``--all``.
    """

    name: str
    batch: int
    d_inner: int
    seq_len: int
    d_state: int
    is_default: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The sizes (batch, d_inner, seq_len, d_state)."""
        return self.batch, self.d_inner, self.seq_len, self.d_state

    def inputs(self) -> dict[str, Tensor]:
        """Draw the inputs, the same ones at each call; A is that of a new Mamba, -1 to -d_state.

        Returns
        -------
        dict of Tensor
            The tensor arguments of `mambattn.ops.selective_scan` by name.
        """
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        sequence = (self.batch, self.seq_len)
        return {
            "u": draw(*sequence, self.d_inner),
            "dt": draw(*sequence, self.d_inner),
            "A": -torch.arange(1.0, self.d_state + 1).repeat(self.d_inner, 1),
            "B": draw(*sequence, self.d_state),
            "C": draw(*sequence, self.d_state),
            "D": draw(self.d_inner),
            "z": draw(*sequence, self.d_inner),
            "dt_bias": draw(self.d_inner) - 3,
        }


CASES = (
    ScanCase("tables", 256, 128, 12, 128, is_default=True),
    ScanCase("recall", 64, 128, 64, 16, is_default=True),
    ScanCase("recall, long", 64, 128, 512, 16, is_default=False),
    ScanCase("text", 1, 1536, 2048, 16, is_default=False),
)


def unbind_loop(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor
) -> Tensor:
    """Scan in the usual way: form exp(dt A) and dt B u of all tokens, and loop over their ``unbind`` under autograd.

    Parameters
    ----------
    u : Tensor
        Input (batch, seq_len, d_inner).
    dt : Tensor
        Raw step sizes, of the shape of `u`.
    A : Tensor
        Decay rates (d_inner, d_state).
    B : Tensor
        Input map (batch, seq_len, d_state).
    C : Tensor
        Output map, of the shape of `B`.
    D : Tensor
        Skip (d_inner,).
    z : Tensor
        Gate, of the shape of `u`.
    dt_bias : Tensor
        Added to `dt` (d_inner,).

    Returns
    -------
    Tensor
        The output, of the shape of `u`.
    """
    dt = softplus(dt + dt_bias)
    decays = torch.exp(dt[..., None] * A)
    gains = (dt * u)[..., None] * B[:, :, None]
    state = u.new_zeros(u.shape[0], *A.shape)
    states = []
    for decay, gain in zip(decays.unbind(1), gains.unbind(1), strict=True):
        state = decay * state + gain
        states.append(state)
    y = torch.einsum("btdn,btn->btd", torch.stack(states, 1), C)
    return (y + D * u) * silu(z)


def lean_loop(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor) -> Tensor:
    """Scan by the same loop, but form what a token needs when its turn comes: less memory, fewer page faults.

    Parameters
    ----------
    u : Tensor
        Input (batch, seq_len, d_inner).
    dt : Tensor
        Raw step sizes, of the shape of `u`.
    A : Tensor
        Decay rates (d_inner, d_state).
    B : Tensor
        Input map (batch, seq_len, d_state).
    C : Tensor
        Output map, of the shape of `B`.
    D : Tensor
        Skip (d_inner,).
    z : Tensor
        Gate, of the shape of `u`.
    dt_bias : Tensor
        Added to `dt` (d_inner,).

    Returns
    -------
    Tensor
        The output, of the shape of `u`.
    """
    dt = softplus(dt + dt_bias)
    state = u.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for u_t, dt_t, B_t, C_t in zip(u.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        state = torch.exp(dt_t[:, :, None] * A) * state + (dt_t * u_t)[:, :, None] * B_t[:, None]
        outputs.append((state * C_t[:, None]).sum(-1))
    return (torch.stack(outputs, 1) + D * u) * silu(z)


def contenders() -> dict[str, Callable[..., Tensor]]:
    """Give what is timed: two plain loops, then the backends that are there.

    Returns
    -------
    dict of callable
        Functions of the inputs of a case, by name.
    """

    def with_backend(backend: str) -> Callable[..., Tensor]:
        return lambda **inputs: selective_scan(**inputs, dt_softplus=True, backend=backend)

    there = {status.backend for status in list_backends() if status.op == "selective_scan" and status.available}
    loops: dict[str, Callable[..., Tensor]] = {BASELINE: unbind_loop, "lean loop": lean_loop}
    return loops | {name: with_backend(name) for name in ("torch", "native") if name in there}
