"""Backend "triton" of `causal_conv1d`: the launches, as custom ops of torch with fake tensors and autograd."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops._custom import begins, dense, join_autograd
from mambattn.ops._triton.launch import launch, power
from mambattn.ops.conv.reference import causal_conv1d_reference

_TILE = 64  # tokens of a tile
_CHANNELS = 64  # channels of a tile
_BACKWARD_CHANNELS = 128  # of one program of the backward, which is a warp
_BACKWARD_TOKENS = 128  # that it owns: each program adds one more share of the taps' gradient
_UNROLL = 8  # tokens whose loads are under way at a time
_STEP_CHANNELS = 256


def _weights(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return weight.float().contiguous(), None if bias is None else bias.float().contiguous()


def _strides(x: Tensor | None) -> tuple[int, ...]:
    return (0, 0) if x is None else x.stride()[:2]


def _width(d_inner: int, most: int) -> int:
    return min(most, power(max(d_inner, 16)))


@torch.library.custom_op("mambattn::causal_conv1d_triton_forward", mutates_args=())
def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor | None, run: Tensor | None, silu: bool
) -> Tensor:
    from mambattn.ops.conv.triton_kernels import conv_forward  # triton is needed from here on, not before

    x, past = dense(x), None if past is None else dense(past)
    batch, seq_len, d_inner = x.shape
    y = x.new_empty(x.shape)
    tile, width = min(_TILE, power(seq_len)), _width(d_inner, _CHANNELS)
    blocks = -(-d_inner // width), -(-seq_len // tile)
    launch(
        conv_forward,
        batch * blocks[0] * blocks[1],
        *(x, *_weights(weight, bias), past, run, y, *_strides(x), *_strides(past), seq_len, d_inner, *blocks),
        K=weight.shape[1],
        T=tile,
        D=width,
        SILU=silu,
        num_warps=4,
    )
    return y


@_forward.register_fake
def _(x, weight, bias, past, run, silu):
    return x.new_empty(x.shape)


@torch.library.custom_op("mambattn::causal_conv1d_triton_backward", mutates_args=())
def _backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor | None, run: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from mambattn.ops.conv.triton_kernels import conv_backward

    dy, x, past = dense(dy), dense(x), None if past is None else dense(past)
    batch, seq_len, d_inner = x.shape
    d_conv = weight.shape[1]
    n_all = seq_len + (0 if past is None else d_conv - 1)
    width, n_tokens = _width(d_inner, _BACKWARD_CHANNELS), min(n_all, _BACKWARD_TOKENS)
    n_parts = -(-n_all // n_tokens)
    blocks = -(-d_inner // width), n_parts
    dx = x.new_empty(x.shape)
    dpast = x.new_empty(0, d_conv - 1, d_inner) if past is None else past.new_empty(past.shape)
    dweight, dbias = (torch.empty(batch * n_parts, k, d_inner, device=x.device) for k in (d_conv, 1))
    launch(
        conv_backward,
        batch * blocks[0] * blocks[1],
        *(x, *_weights(weight, bias), past, run, dy, dx, None if past is None else dpast, dweight, dbias),
        *(*_strides(x), *_strides(past), *_strides(dy), seq_len, d_inner, *blocks, n_tokens),
        K=d_conv,
        D=width,
        UNROLL=_UNROLL,
        SILU=silu,
        num_warps=1,
    )
    dweight = dweight.sum(0).T.to(weight.dtype).contiguous()
    return dx, dweight, x.new_empty(0) if bias is None else dbias.sum((0, 1)).to(bias.dtype), dpast


@_backward.register_fake
def _(dy, x, weight, bias, past, run, silu):
    dense = torch.contiguous_format
    return (
        *(torch.empty_like(tensor, memory_format=dense) for tensor in (x, weight)),
        x.new_empty(0) if bias is None else torch.empty_like(bias, memory_format=dense),
        x.new_empty(0, weight.shape[1] - 1, x.shape[2])
        if past is None
        else torch.empty_like(past, memory_format=dense),
    )


def _definition(
    x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor | None, run: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    return causal_conv1d_reference(x, weight, bias, past, run, "silu" if silu else None)


join_autograd(_forward, _backward, _definition, tensors=5, settings=1, outputs=1)


def causal_conv1d_triton(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    activation: str | None,
) -> tuple[Tensor, Tensor]:
    """Run the GPU kernels; arguments and result are those of `causal_conv1d_reference`."""
    run = None
    if seq_idx is not None:
        run = begins(seq_idx).cumsum(1, dtype=torch.int32)
    y = _forward(x, weight, bias, initial_state, run, activation == "silu")
    return y, _final_state(x, initial_state, run, weight.shape[1] - 1)


def _final_state(x: Tensor, initial_state: Tensor | None, run: Tensor | None, n_past: int) -> Tensor:
    """Give the last inputs of the last sequence."""
    seq_len = x.shape[1]
    if seq_len < n_past:
        x = pad(x, (0, 0, n_past, 0)) if initial_state is None else torch.cat([initial_state.to(x.dtype), x], dim=1)
        run = None if run is None else pad(run, (n_past, 0))
    past = x[:, x.shape[1] - n_past :]
    return past if run is None else past * (run[:, run.shape[1] - n_past :] == run[:, -1:])[..., None]


@torch.library.custom_op("mambattn::causal_conv1d_step_triton", mutates_args=())
def _step(x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    from mambattn.ops.conv.triton_kernels import conv_step

    x, past = dense(x), dense(past)
    batch, d_inner = x.shape
    y, queue = x.new_empty(x.shape), past.new_empty(past.shape)
    width = _width(d_inner, _STEP_CHANNELS)
    blocks = -(-d_inner // width)
    launch(
        conv_step,
        batch * blocks,
        *(x, *_weights(weight, bias), past, y, queue, x.stride(0), *_strides(past), d_inner, blocks),
        K=weight.shape[1],
        D=width,
        SILU=silu,
        num_warps=2,
    )
    return y, queue


@_step.register_fake
def _(x, weight, bias, past, silu):
    return x.new_empty(x.shape), past.new_empty(past.shape)


def causal_conv1d_step_triton(
    x_t: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, activation: str | None
) -> tuple[Tensor, Tensor]:
    """Take one token on the GPU; arguments and result are those of `conv_advance`."""
    return _step(x_t, weight, bias, state, activation == "silu")
