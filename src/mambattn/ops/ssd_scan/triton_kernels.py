"""GPU kernels of `ssd`; README.md has the derivation and says why the work is cut as it is.

A program owns one head of one row, or a part of its channels. Tokens are taken Q at a time by matrix products, in the
type DOT and with sums in float32; j is the token that writes, i the one that reads. Every state is (channel, state).
"""

import triton
import triton.language as tl

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus
from mambattn.ops.ssd_scan.triton_parts import chunk_decays, rows_of, runs_of, states_of, token_at

__all__ = ["decays", "forward", "join_segments", "sweep"]


@triton.jit
def decays(
    raw_p, A_p, bias_p, dt_p, high_p, low_p, raw_b, raw_t, raw_h, seq_len, n_heads, n_head_blocks,
    Q: tl.constexpr, H: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Give the step sizes of a chunk and the running sum of its decays' log2, each as (batch, n_heads, seq_len).

    Differences of two running sums lose the digits that the sums have in common. In float64 they have enough of them;
    what float32 cannot hold of a sum is its low part, which products in half precision do without.
    """
    pid = tl.program_id(0)
    heads = pid % n_head_blocks * H + tl.arange(0, H)
    n_chunks = tl.cdiv(seq_len, Q)
    tokens = pid // n_head_blocks % n_chunks * Q + tl.arange(0, Q)
    row = (pid // (n_head_blocks * n_chunks)).to(tl.int64)
    is_head = heads < n_heads
    inside = (tokens < seq_len)[:, None] & is_head[None, :]
    at = tokens.to(tl.int64)[:, None] * raw_t + heads[None, :] * raw_h
    dt = tl.load(raw_p + row * raw_b + at, mask=inside, other=0.0).to(tl.float32)
    if bias_p is not None:
        dt += tl.load(bias_p + heads, mask=is_head, other=0.0)[None, :]
    if SOFTPLUS:
        dt = softplus(dt)
    out = (row * n_heads + heads[None, :]) * seq_len + tokens[:, None]
    tl.store(dt_p + out, dt, mask=inside)
    A = tl.load(A_p + heads, mask=is_head, other=0.0)[None, :]
    # 2^-1e4 is 0, and sums of such stay finite.
    if low_p is not None:
        total = tl.cumsum(tl.maximum(dt.to(tl.float64) * A * LOG2_E, -1e4), 0)
        high = total.to(tl.float32)
        tl.store(low_p + out, (total - high.to(tl.float64)).to(tl.float32), mask=inside)
    else:
        high = tl.cumsum(tl.maximum(dt * (A * LOG2_E), -1e4), 0)
    tl.store(high_p + out, high, mask=inside)


@triton.jit
def _locate(n_parts, n_heads, n_segments):
    """Give the part of the channels, head, segment and row of this program; neighbours share B and C."""
    pid = tl.program_id(0)
    part = pid % n_parts
    head = (pid // n_parts % n_heads).to(tl.int64)
    segment = pid // (n_parts * n_heads) % n_segments
    row = (pid // (n_parts * n_heads * n_segments)).to(tl.int64)
    return part, head, segment, row


@triton.jit
def forward(
    x_p, dt_p, high_p, low_p, B_p, C_p, D_p, z_p, entering_p, run_p, y_p, final_p,
    x_b, x_t, x_h, B_b, B_t, B_g, C_b, C_t, C_g, D_h, D_d, z_b, z_t, z_h,
    seq_len, segment_len, n_segments, n_heads, heads_a_group, d_head, d_state, n_parts,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr,
    DOT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Go through the chunks of a segment, first to last, with the state in registers."""
    part, head, segment, row = _locate(n_parts, n_heads, n_segments)
    group = head // heads_a_group
    channels, states, offsets = part * P + tl.arange(0, P), tl.arange(0, N), tl.arange(0, Q)
    in_head = channels < d_head
    x_p += row * x_b + head * x_h
    at = (row * n_heads + head) * seq_len
    dt_p += at
    high_p += at
    if low_p is not None:
        low_p += at
    B_p += row * B_b + group * B_g
    C_p += row * C_b + group * C_g
    y_p += (row * seq_len * n_heads + head) * d_head
    if run_p is not None:
        run_p += row * seq_len
    state = tl.zeros([P, N], tl.float32)
    if entering_p is not None:
        state_at, is_state = states_of(
            entering_p, row * n_segments + segment, n_heads, head, d_head, d_state, channels, states
        )
        state = tl.load(state_at, mask=is_state, other=0.0)
    if D_p is not None:
        D = tl.load(D_p + head * D_h + channels * D_d, mask=in_head, other=0.0)
    last = tl.minimum((segment + 1) * segment_len, seq_len)
    for start in tl.range(segment * segment_len, last, Q, num_stages=STAGES):
        tokens = start + offsets
        x = rows_of(x_p, start, offsets, x_t, channels, seq_len, d_head, DOT)
        B = rows_of(B_p, start, offsets, B_t, states, seq_len, d_state, DOT)
        C = rows_of(C_p, start, offsets, C_t, states, seq_len, d_state, DOT)
        dt, high, low, from_start, to_end, across = chunk_decays(dt_p, high_p, low_p, run_p, start, offsets, seq_len, Q)
        # (i, j). What is masked is masked before the exponential, which the other half would overflow.
        segments = high[:, None] - high[None, :]
        if low_p is not None:
            segments += low[:, None] - low[None, :]
        reads = offsets[:, None] >= offsets[None, :]
        if run_p is not None:
            run = runs_of(run_p, start, offsets, seq_len)
            reads = reads & (run[:, None] == run[None, :])
        within = tl.exp2(tl.where(reads, segments, float("-inf"))) * dt[None, :]
        scores = tl.dot(C, tl.trans(B), input_precision=PRECISION) * within
        y = tl.dot(C, tl.trans(state).to(DOT), input_precision=PRECISION) * from_start[:, None]
        y = tl.dot(scores.to(DOT), x, acc=y, input_precision=PRECISION)
        if D_p is not None:
            y += x.to(tl.float32) * D[None, :]
        inside = (tokens < seq_len)[:, None] & in_head[None, :]
        if z_p is not None:
            z = rows_of(z_p + row * z_b + head * z_h, start, offsets, z_t, channels, seq_len, d_head, tl.float32)
            y *= z * sigmoid(z)
        y_at = offsets[:, None] * (n_heads * d_head) + channels[None, :]
        tl.store(token_at(y_p, start, n_heads * d_head) + y_at, y, mask=inside)
        written = (x.to(tl.float32) * (dt * to_end)[:, None]).to(DOT)
        state = tl.dot(tl.trans(written), B, acc=state * across, input_precision=PRECISION)
    if final_p is not None:
        state_at, is_state = states_of(final_p, row, n_heads, head, d_head, d_state, channels, states)
        tl.store(state_at, state, mask=is_state & (last == seq_len))


@triton.jit
def sweep(
    value_p, dt_p, high_p, low_p, key_p, entering_p, run_p, leaving_p, kept_p, chunks_p,
    value_b, value_t, value_h, key_b, key_t, key_g,
    seq_len, segment_len, n_segments, n_heads, heads_a_group, d_head, d_state, n_parts,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, REVERSE: tl.constexpr,
    DOT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Carry a state over a segment: values x and keys B give states; dy and C, last to first, give their gradients.

    It leaves the state after the segment and what survives of the one that entered, or the state that each chunk meets.
    """
    part, head, segment, row = _locate(n_parts, n_heads, n_segments)
    group = head // heads_a_group
    channels, states, offsets = part * P + tl.arange(0, P), tl.arange(0, N), tl.arange(0, Q)
    value_p += row * value_b + head * value_h
    at = (row * n_heads + head) * seq_len
    dt_p += at
    high_p += at
    if low_p is not None:
        low_p += at
    key_p += row * key_b + group * key_g
    if run_p is not None:
        run_p += row * seq_len
    state = tl.zeros([P, N], tl.float32)
    here = row * n_segments + segment
    if entering_p is not None:
        state_at, is_state = states_of(entering_p, here, n_heads, head, d_head, d_state, channels, states)
        state = tl.load(state_at, mask=is_state, other=0.0)
    kept = 1.0
    first = segment * segment_len // Q
    n_chunks = tl.cdiv(tl.minimum(segment_len, seq_len - segment * segment_len), Q)
    for step in tl.range(n_chunks, num_stages=STAGES):
        chunk = first + step
        if REVERSE:
            chunk = first + n_chunks - 1 - step
        start = chunk * Q
        value = rows_of(value_p, start, offsets, value_t, channels, seq_len, d_head, DOT)
        key = rows_of(key_p, start, offsets, key_t, states, seq_len, d_state, DOT)
        dt, _, _, from_start, to_end, across = chunk_decays(dt_p, high_p, low_p, run_p, start, offsets, seq_len, Q)
        if chunks_p is not None:
            met = row * tl.cdiv(seq_len, Q) + chunk
            met_at, is_met = states_of(chunks_p, met, n_heads, head, d_head, d_state, channels, states)
            tl.store(met_at, state, mask=is_met)
        weight = dt * to_end
        if REVERSE:
            weight = from_start
        value = (value.to(tl.float32) * weight[:, None]).to(DOT)
        state = tl.dot(tl.trans(value), key, acc=state * across, input_precision=PRECISION)
        kept *= across
    if leaving_p is not None:
        state_at, is_state = states_of(leaving_p, here, n_heads, head, d_head, d_state, channels, states)
        tl.store(state_at, state, mask=is_state)
    if kept_p is not None:
        tl.store(kept_p + here * n_heads + head, kept)


@triton.jit
def join_segments(states_p, kept_p, initial_p, n_segments, n_heads, d_all, REVERSE: tl.constexpr, BLOCK: tl.constexpr):
    """Turn the states that leave each segment when none enters into those that enter, in place."""
    n_blocks = tl.cdiv(d_all, BLOCK)
    pid = tl.program_id(0)
    element = pid % n_blocks * BLOCK + tl.arange(0, BLOCK)
    head = pid // n_blocks % n_heads
    row = (pid // (n_blocks * n_heads)).to(tl.int64)
    inside = element < d_all
    state = tl.zeros([BLOCK], tl.float32)
    if initial_p is not None:
        state = tl.load(initial_p + (row * n_heads + head) * d_all + element, mask=inside, other=0.0)
    for index in range(n_segments):
        segment = index
        if REVERSE:
            segment = n_segments - 1 - index
        at = (row * n_segments + segment) * n_heads + head
        own = tl.load(states_p + at * d_all + element, mask=inside, other=0.0)
        tl.store(states_p + at * d_all + element, state, mask=inside)
        state = tl.load(kept_p + at) * state + own
