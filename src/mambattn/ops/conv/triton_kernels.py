"""GPU kernels of `causal_conv1d`: tiles of tokens × channels, the taps unrolled, each tile read from memory once.

A tap reads the tile again some tokens earlier, which the first-level cache serves.
"""

# pyright: reportGeneralTypeIssues=false
# A call of a kernel's part looks to it like one from outside, which never returns.

import triton
import triton.language as tl

from mambattn.ops._triton.functions import sigmoid


@triton.jit
def _locate(n_channel_blocks, n_time_blocks, D: tl.constexpr):
    """Give the channels, the block of time and the row of this program."""
    pid = tl.program_id(0)
    channels = pid % n_channel_blocks * D + tl.arange(0, D)
    block = pid // n_channel_blocks % n_time_blocks
    return channels, block, (pid // (n_channel_blocks * n_time_blocks)).to(tl.int64)


@triton.jit
def _inputs(x_p, past_p, tokens, channels, x_t, past_t, seq_len, d_inner, K: tl.constexpr):
    """Load inputs (token, channel); those of negative tokens are the initial state, or 0."""
    is_channel = (channels < d_inner)[None, :]
    inside = (tokens >= 0) & (tokens < seq_len)
    at = tokens.to(tl.int64)[:, None] * x_t + channels[None, :]
    x = tl.load(x_p + at, mask=inside[:, None] & is_channel, other=0.0).to(tl.float32)
    if past_p is not None:
        before = (tokens < 0) & (tokens > -K)
        at = (tokens + (K - 1)).to(tl.int64)[:, None] * past_t + channels[None, :]
        x += tl.load(past_p + at, mask=before[:, None] & is_channel, other=0.0).to(tl.float32)
    return x


@triton.jit
def _run(run_p, tokens, seq_len):
    """Give the number of each token's sequence; the initial state is of the first."""
    return tl.load(run_p + tl.maximum(tl.minimum(tokens, seq_len - 1), 0))


@triton.jit
def _tap(weight_p, channels, lag, d_inner, K: tl.constexpr):
    return tl.load(weight_p + channels * K + (K - 1 - lag), mask=channels < d_inner, other=0.0)


@triton.jit
def _sums(
    x_p, weight_p, bias_p, past_p, run_p, tokens, channels, x_t, past_t, seq_len, d_inner,
    K: tl.constexpr, T: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Give bias + Σ_lag taps_lag · x_{t − lag}, before the activation."""
    total = tl.zeros([T, D], tl.float32)
    if bias_p is not None:
        total += tl.load(bias_p + channels, mask=channels < d_inner, other=0.0)[None, :]
    for lag in tl.static_range(K):
        x = _inputs(x_p, past_p, tokens - lag, channels, x_t, past_t, seq_len, d_inner, K)
        if run_p is not None:
            x = tl.where((_run(run_p, tokens, seq_len) == _run(run_p, tokens - lag, seq_len))[:, None], x, 0.0)
        total += x * _tap(weight_p, channels, lag, d_inner, K)[None, :]
    return total


@triton.jit
def conv_forward(
    x_p, weight_p, bias_p, past_p, run_p, y_p,
    x_b, x_t, past_b, past_t, seq_len, d_inner, n_channel_blocks, n_time_blocks,
    K: tl.constexpr, T: tl.constexpr, D: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Give the outputs of one tile."""
    channels, block, row = _locate(n_channel_blocks, n_time_blocks, D)
    x_p += row * x_b
    if past_p is not None:
        past_p += row * past_b
    if run_p is not None:
        run_p += row * seq_len
    tokens = block * T + tl.arange(0, T)
    y = _sums(x_p, weight_p, bias_p, past_p, run_p, tokens, channels, x_t, past_t, seq_len, d_inner, K, T, D)
    if SILU:
        y *= sigmoid(y)
    inside = (tokens < seq_len)[:, None] & (channels < d_inner)[None, :]
    tl.store(y_p + (row * seq_len + tokens)[:, None] * d_inner + channels[None, :], y, mask=inside)


@triton.jit
def conv_backward(
    x_p, weight_p, bias_p, past_p, run_p, dy_p, dx_p, dpast_p, dweight_p, dbias_p,
    x_b, x_t, past_b, past_t, dy_b, dy_t, seq_len, d_inner, n_channel_blocks, n_time_blocks, n_tiles,
    K: tl.constexpr, T: tl.constexpr, D: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Give the gradients of some tiles and their share of the taps' and the bias's.

    A tile makes the gradients of T sums and has all that reach T − K + 1 inputs. The first one begins with the initial
    state.
    """
    OWN: tl.constexpr = T - K + 1
    channels, block, row = _locate(n_channel_blocks, n_time_blocks, D)
    is_channel = channels < d_inner
    x_p += row * x_b
    if past_p is not None:
        past_p += row * past_b
    if run_p is not None:
        run_p += row * seq_len
    offsets = tl.arange(0, T)
    lags = tl.arange(0, triton.next_power_of_2(K))
    dweight = tl.zeros([triton.next_power_of_2(K), D], tl.float32)
    dbias = tl.zeros([D], tl.float32)
    for tile in range(n_tiles):
        tokens = (block * n_tiles + tile) * OWN + offsets
        if past_p is not None:
            tokens -= K - 1
        own = offsets < OWN
        inside = (tokens >= 0) & (tokens < seq_len)
        dy_at = row * dy_b + tokens.to(tl.int64)[:, None] * dy_t + channels[None, :]
        dy = tl.load(dy_p + dy_at, mask=inside[:, None] & is_channel[None, :], other=0.0).to(tl.float32)
        if SILU:
            y = _sums(x_p, weight_p, bias_p, past_p, run_p, tokens, channels, x_t, past_t, seq_len, d_inner, K, T, D)
            gate = sigmoid(y)
            dy *= gate * (1.0 + y * (1.0 - gate))
        own_dy = tl.where(own[:, None], dy, 0.0)
        dbias += tl.sum(own_dy, 0)
        dx = tl.zeros([T, D], tl.float32)
        for lag in tl.static_range(K):
            x = _inputs(x_p, past_p, tokens - lag, channels, x_t, past_t, seq_len, d_inner, K)
            later = dy
            if lag > 0:
                later = tl.gather(dy, tl.broadcast_to(tl.minimum(offsets + lag, T - 1)[:, None], [T, D]), 0)
            if run_p is not None:
                run = _run(run_p, tokens, seq_len)
                x = tl.where((run == _run(run_p, tokens - lag, seq_len))[:, None], x, 0.0)
                later = tl.where((run == _run(run_p, tokens + lag, seq_len))[:, None], later, 0.0)
            dx += later * _tap(weight_p, channels, lag, d_inner, K)[None, :]
            dweight += tl.where((lags == K - 1 - lag)[:, None], tl.sum(own_dy * x, 0)[None, :], 0.0)
        at = (row * seq_len + tokens)[:, None] * d_inner + channels[None, :]
        tl.store(dx_p + at, dx, mask=(own & inside)[:, None] & is_channel[None, :])
        if past_p is not None:
            at = (row * (K - 1) + tokens + K - 1)[:, None] * d_inner + channels[None, :]
            tl.store(dpast_p + at, dx, mask=(own & (tokens < 0))[:, None] & is_channel[None, :])
    part = row * n_time_blocks + block
    at = (part * K + lags)[:, None] * d_inner + channels[None, :]
    tl.store(dweight_p + at, dweight, mask=(lags < K)[:, None] & is_channel[None, :])
    tl.store(dbias_p + part * d_inner + channels, dbias, mask=is_channel)


@triton.jit
def conv_step(
    x_p, weight_p, bias_p, past_p, y_p, queue_p, x_b, past_b, past_t, d_inner, n_channel_blocks,
    K: tl.constexpr, D: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Take one token of each row: its output, and the queue with the token in it and without the oldest."""
    channels, _, row = _locate(n_channel_blocks, 1, D)
    inside = channels < d_inner
    x = tl.load(x_p + row * x_b + channels, mask=inside, other=0.0)
    y = x.to(tl.float32) * _tap(weight_p, channels, 0, d_inner, K)
    if bias_p is not None:
        y += tl.load(bias_p + channels, mask=inside, other=0.0)
    queue_p += row * (K - 1) * d_inner + channels
    for i in tl.static_range(K - 1):
        past = tl.load(past_p + row * past_b + i * past_t + channels, mask=inside, other=0.0)
        y += past.to(tl.float32) * _tap(weight_p, channels, K - 1 - i, d_inner, K)
        if i > 0:
            tl.store(queue_p + (i - 1) * d_inner, past, mask=inside)
    if K > 1:
        tl.store(queue_p + (K - 2) * d_inner, x, mask=inside)
    if SILU:
        y *= sigmoid(y)
    tl.store(y_p + row * d_inner + channels, y, mask=inside)
