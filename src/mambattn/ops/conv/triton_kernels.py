"""GPU kernels of `causal_conv1d`, which read each number from memory once, with the taps unrolled.

The forward takes tiles of tokens × channels; a tap reads the tile again some tokens earlier, out of the first-level
cache. The backward walks along time with what the taps reach in registers: a tile would have to shift gradients along
time, and to add up those of the taps across threads.
"""

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
    y = tl.zeros([T, D], tl.float32)
    if bias_p is not None:
        y += tl.load(bias_p + channels, mask=channels < d_inner, other=0.0)[None, :]
    for lag in tl.static_range(K):
        x = _inputs(x_p, past_p, tokens - lag, channels, x_t, past_t, seq_len, d_inner, K)
        if run_p is not None:
            x = tl.where((_run(run_p, tokens, seq_len) == _run(run_p, tokens - lag, seq_len))[:, None], x, 0.0)
        y += x * _tap(weight_p, channels, lag, d_inner, K)[None, :]
    if SILU:
        y *= sigmoid(y)
    inside = (tokens < seq_len)[:, None] & (channels < d_inner)[None, :]
    tl.store(y_p + (row * seq_len + tokens)[:, None] * d_inner + channels[None, :], y, mask=inside)


@triton.jit
def _input(x_p, past_p, token, channels, x_t, past_t, seq_len, is_channel, K: tl.constexpr):
    """Load the inputs of one token; those of negative tokens are the initial state, or 0."""
    inside = is_channel & (token >= 0) & (token < seq_len)
    x = tl.load(x_p + tl.cast(token, tl.int64) * x_t + channels, mask=inside, other=0.0).to(tl.float32)
    if past_p is not None:
        before = is_channel & (token < 0) & (token > -K)
        at = past_p + tl.cast(token + (K - 1), tl.int64) * past_t + channels
        x += tl.load(at, mask=before, other=0.0).to(tl.float32)
    return x


@triton.jit
def conv_backward(
    x_p, weight_p, bias_p, past_p, run_p, dy_p, dx_p, dpast_p, dweight_p, dbias_p,
    x_b, x_t, past_b, past_t, dy_b, dy_t, seq_len, d_inner, n_channel_blocks, n_time_blocks, n_tokens,
    K: tl.constexpr, D: tl.constexpr, UNROLL: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Go through a block of time, first token to last, with the last K inputs and gradients of sums in registers.

    The block owns n_tokens inputs, and the tokens after it that read them are gone through once more. The first block
    begins with the initial state.
    """
    channels, block, row = _locate(n_channel_blocks, n_time_blocks, D)
    is_channel = channels < d_inner
    x_p += row * x_b
    dy_p += row * dy_b
    dx_p += row * seq_len * d_inner
    if past_p is not None:
        past_p += row * past_b
        dpast_p += row * (K - 1) * d_inner
    if run_p is not None:
        run_p += row * seq_len
    first = block * n_tokens
    if past_p is not None:
        first -= K - 1
    stop = tl.minimum(first + n_tokens, seq_len)
    zero = tl.zeros([D], tl.float32)
    bias = zero
    if bias_p is not None:
        bias = tl.load(bias_p + channels, mask=is_channel, other=0.0)
    # Tuples by lag: taps and their gradients; and inputs, gradients of sums and sequences, the current token's first.
    taps, dtaps, xs, dys, runs = (), (), (), (), ()
    for lag in tl.static_range(K):
        taps += (_tap(weight_p, channels, lag, d_inner, K),)
        dtaps += (zero,)
        xs += (_input(x_p, past_p, first - 1 - lag, channels, x_t, past_t, seq_len, is_channel, K),)
        dys += (zero,)
        runs += (0 if run_p is None else _run(run_p, first - 1 - lag, seq_len),)
    dbias = zero
    for start in range(first, stop + K - 1, UNROLL):
        for step in tl.static_range(UNROLL):
            token = start + step
            x = _input(x_p, past_p, token, channels, x_t, past_t, seq_len, is_channel, K)
            xs = (x,) + xs[: K - 1]  # noqa: RUF005, no star for the compiler
            runs = (0 if run_p is None else _run(run_p, token, seq_len),) + runs[: K - 1]  # noqa: RUF005
            inside = is_channel & (token >= 0) & (token < seq_len)
            dy = tl.load(dy_p + tl.cast(token, tl.int64) * dy_t + channels, mask=inside, other=0.0).to(tl.float32)
            if SILU:
                y = bias
                for lag in tl.static_range(K):
                    if run_p is None:
                        y += taps[lag] * xs[lag]
                    else:
                        y += taps[lag] * tl.where(runs[lag] == runs[0], xs[lag], 0.0)
                gate = sigmoid(y)
                dy *= gate * (1.0 + y * (1.0 - gate))
            dys = (dy,) + dys[: K - 1]  # noqa: RUF005
            own = tl.where(token < stop, dy, 0.0)
            dbias += own
            # All tokens that read the oldest one are in.
            dx = zero
            added = ()
            for lag in tl.static_range(K):
                later = dys[K - 1 - lag]
                before = xs[lag]
                if run_p is not None:
                    later = tl.where(runs[K - 1 - lag] == runs[K - 1], later, 0.0)
                    before = tl.where(runs[lag] == runs[0], before, 0.0)
                dx += taps[lag] * later
                added += (dtaps[lag] + own * before,)
            dtaps = added
            oldest = token - (K - 1)
            owned = is_channel & (oldest >= first) & (oldest < stop)
            tl.store(dx_p + tl.cast(oldest, tl.int64) * d_inner + channels, dx, mask=owned & (oldest >= 0))
            if past_p is not None:
                at = dpast_p + (oldest + (K - 1)) * d_inner + channels
                tl.store(at, dx, mask=owned & (oldest < 0))
    part = row * n_time_blocks + block
    for lag in tl.static_range(K):
        tl.store(dweight_p + (part * K + (K - 1 - lag)) * d_inner + channels, dtaps[lag], mask=is_channel)
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
