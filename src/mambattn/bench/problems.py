"""The inputs of each op, and what runs on them: its definition, plain loops and its backends."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu, softplus

from mambattn import ops
from mambattn.bench.cases import Case
from mambattn.bench.contender import Contender
from mambattn.ops.attend import attention_mask

__all__ = ["AXES", "TORCH", "contenders", "definition", "draw", "lean_loop", "sizes_of", "unbind_loop"]

TORCH = "torch"

AXES = {
    "selective_scan": {
        "u": "btd",
        "dt": "btd",
        "A": "dn",
        "B": "btn",
        "C": "btn",
        "D": "d",
        "z": "btd",
        "dt_bias": "d",
    },
    "selective_scan_step": {
        "u_t": "bd",
        "dt_t": "bd",
        "A": "dn",
        "B_t": "bn",
        "C_t": "bn",
        "D": "d",
        "state": "bdn",
        "z": "bd",
        "dt_bias": "d",
    },
    "ssd": {"x": "bthp", "dt": "bth", "A": "h", "B": "btgn", "C": "btgn", "D": "h", "dt_bias": "h"},
    "ssd_step": {
        "x_t": "bhp",
        "dt_t": "bh",
        "A": "h",
        "B_t": "bgn",
        "C_t": "bgn",
        "D": "h",
        "state": "bhpn",
        "dt_bias": "h",
    },
    "causal_conv1d": {"x": "btd", "weight": "dk", "bias": "d"},
    "causal_conv1d_step": {"x_t": "bd", "weight": "dk", "bias": "d", "state": "bcd"},
    "attention": {"q": "bthp", "k": "bthp", "v": "bthp"},
}
"""The tensors of each op and a letter for each of their axes; "b" is the batch and "t" the tokens."""

_LETTERS = {
    "b": "batch",
    "t": "seq_len",
    "d": "d_inner",
    "n": "d_state",
    "h": "n_heads",
    "p": "d_head",
    "k": "d_conv",
}


def sizes_of(case: Case, letters: str) -> tuple[int, ...]:
    """Give the sizes of axes.

    Parameters
    ----------
    case : Case
        Where they come from.
    letters : str
        The axes, as in `AXES`.

    Returns
    -------
    tuple of int
        One for each letter.
    """
    known: dict[str, Callable[[], int]] = {"g": lambda: 1, "c": lambda: case["d_conv"] - 1}
    return tuple(known[letter]() if letter in known else case[_LETTERS[letter]] for letter in letters)


def draw(case: Case, device: torch.device) -> dict[str, Tensor]:
    """Draw the inputs of a case, the same ones at each call: rates and step sizes as a new model has them.

    Parameters
    ----------
    case : Case
        One of any op but "training_step".
    device : torch.device
        Where they are wanted.

    Returns
    -------
    dict of Tensor
        By name. Sequences have the type of the case; weights, states and rates are float32.
    """
    generator = torch.Generator(device).manual_seed(0)
    dtype = getattr(torch, case.dtype)
    inputs = {}
    for name, letters in AXES[case.op].items():
        shape = sizes_of(case, letters)
        x = torch.randn(shape, generator=generator, device=device)
        if name == "A":
            x = -torch.arange(1.0, shape[-1] + 1, device=device).expand(shape).contiguous()
        if name == "dt_bias":
            x = x - 3
        inputs[name] = x.to(dtype) if letters[0] == "b" and name != "state" else x
    return inputs


def _options(case: Case) -> dict[str, Any]:
    if case.op == "attention":
        return {"causal": True, "window": case["window"]}
    if case.op.startswith("causal"):
        return {"activation": "silu"}
    return {"dt_softplus": True}


def definition(case: Case) -> Callable[..., Any]:
    """Give the reference backend as a function of the inputs.

    Parameters
    ----------
    case : Case
        One of any op but "training_step".

    Returns
    -------
    callable
        Its definition.
    """
    return partial(getattr(ops, case.op), **_options(case), backend="reference")


def unbind_loop(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor
) -> Tensor:
    """Scan in the usual way: form exp(dt A) and dt B u of all tokens, and loop over their ``unbind`` under autograd.

    Parameters
    ----------
    u, dt : Tensor
        Sequences (batch, seq_len, d_inner).
    A : Tensor
        Decay rates (d_inner, d_state).
    B, C : Tensor
        Maps (batch, seq_len, d_state).
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
    state = torch.zeros_like(gains[:, 0])
    states = []
    for decay, gain in zip(decays.unbind(1), gains.unbind(1), strict=True):
        state = decay * state + gain
        states.append(state)
    y = torch.einsum("btdn,btn->btd", torch.stack(states, 1), C.to(state.dtype))
    return ((y + D * u) * silu(z)).to(u.dtype)


def lean_loop(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor) -> Tensor:
    """Scan by the same loop, but form what a token needs when its turn comes: less memory, fewer page faults.

    Parameters
    ----------
    u, dt : Tensor
        Sequences (batch, seq_len, d_inner).
    A : Tensor
        Decay rates (d_inner, d_state).
    B, C : Tensor
        Maps (batch, seq_len, d_state).
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
    state = torch.zeros((u.shape[0], *A.shape), dtype=dt.dtype, device=u.device)
    outputs = []
    for u_t, dt_t, B_t, C_t in zip(u.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        state = torch.exp(dt_t[:, :, None] * A) * state + (dt_t * u_t)[:, :, None] * B_t[:, None]
        outputs.append((state * C_t[:, None]).sum(-1))
    return ((torch.stack(outputs, 1) + D * u) * silu(z)).to(u.dtype)


def _dense_window(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    mask = attention_mask(q.shape[1], causal=True, window=window, device=q.device)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, mask).transpose(1, 2)


def _loops(case: Case) -> list[Contender]:
    if case.op == "selective_scan":
        return [
            Contender("unbind loop", unbind_loop, forms_states=True, max_seq_len=2048),
            Contender("lean loop", lean_loop, forms_states=True, max_seq_len=2048),
        ]
    if case.op == "attention":
        return [Contender("dense mask", partial(_dense_window, window=case["window"]), max_seq_len=32768)]
    if case.op in ("ssd", "causal_conv1d"):
        return [Contender("loop", definition(case), max_seq_len=2048)]
    return []


def contenders(case: Case, device: torch.device) -> list[Contender]:
    """Give what is timed at a case besides peers: plain loops first, then the backends that are there.

    Parameters
    ----------
    case : Case
        One of any op but "training_step".
    device : torch.device
        Where it runs.

    Returns
    -------
    list of Contender
        The first is what the others are compared with.
    """
    there = {status.backend for status in ops.list_backends() if status.op == case.op and status.available}
    # Attention has kernels for some lengths alone: what is taken by itself is what counts.
    fast = "auto" if case.op == "attention" else "triton" if device.type == "cuda" else "native"
    backends = [name for name in (TORCH, fast) if name in {*there, "auto"}]
    options = _options(case)
    return _loops(case) + [
        Contender(name, partial(getattr(ops, case.op), **options, backend=name)) for name in backends
    ]
