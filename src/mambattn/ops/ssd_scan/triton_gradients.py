"""GPU kernels for the gradients of `ssd`, which take all chunks at once; README.md has the derivation.

j is the token that writes, i the one that reads. d_states are the gradients of the states that leave the chunks.
"""

import triton
import triton.language as tl

from mambattn.ops._triton.functions import sigmoid
from mambattn.ops.ssd_scan.triton_parts import chunk_decays, rows_of, runs_of, states_of

__all__ = ["state_gradients", "step_gradients", "token_gradients"]


@triton.jit
def _block(pid, seq_len, n_heads, heads_a_group, n_parts, n_blocks, heads_a_block, Q: tl.constexpr):
    """Give the chunk, group and row of a program, and its share of the group's heads (or parts of heads)."""
    n_chunks = tl.cdiv(seq_len, Q)
    n_groups = n_heads // heads_a_group
    block = pid % n_blocks
    group = (pid // n_blocks % n_groups).to(tl.int64)
    chunk = pid // (n_blocks * n_groups) % n_chunks
    row = (pid // (n_blocks * n_groups * n_chunks)).to(tl.int64)
    first = block * heads_a_block
    return block, group, chunk, row, first, tl.minimum(first + heads_a_block, heads_a_group * n_parts)


@triton.jit
def _store_keys(p, x, block, batch, row, start, offsets, group, n_groups, seq_len, states, d_state):
    """Store a share of dB or dC, which are (share, batch, seq_len, n_groups, d_state)."""
    p += (((block * batch + row) * seq_len + start) * n_groups + group) * d_state
    inside = (start + offsets < seq_len)[:, None] & (states < d_state)[None, :]
    tl.store(p + (offsets[:, None] * (n_groups * d_state) + states[None, :]), x, mask=inside)


@triton.jit
def token_gradients(
    x_p, dy_p, dt_p, high_p, low_p, A_p, B_p, C_p, D_p, run_p, d_states_p, dx_p, d_dt_p, dA_p, dB_p, dC_p, dD_p,
    x_b, x_t, x_h, dy_b, dy_t, dy_h, B_b, B_t, B_g, C_b, C_t, C_g, D_h, D_d,
    batch, seq_len, n_heads, heads_a_group, d_head, d_state, n_parts, n_blocks, heads_a_block,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Give the gradients of one chunk's tokens by what they write, to each other and to the state that leaves.

    A program goes through a block of a group's heads (or parts of heads). What each adds to dB and dC through the
    chunk's own tokens is gathered as (j, i).
    """
    pid = tl.program_id(0)
    block, group, chunk, row, first, stop = _block(
        pid, seq_len, n_heads, heads_a_group, n_parts, n_blocks, heads_a_block, Q
    )
    start, n_chunks = chunk * Q, tl.cdiv(seq_len, Q)
    states, offsets = tl.arange(0, N), tl.arange(0, Q)
    tokens = start + offsets
    is_token = tokens < seq_len
    if run_p is not None:
        run_p += row * seq_len
    B = rows_of(B_p + row * B_b + group * B_g, start, offsets, B_t, states, seq_len, d_state, DOT)
    C = rows_of(C_p + row * C_b + group * C_g, start, offsets, C_t, states, seq_len, d_state, DOT)
    products = tl.dot(B, tl.trans(C), input_precision=PRECISION).to(DOT)
    reads = offsets[:, None] <= offsets[None, :]
    if run_p is not None:
        run = runs_of(run_p, start, offsets, seq_len)
        reads = reads & (run[:, None] == run[None, :])
    d_products = tl.zeros([Q, Q], tl.float32)
    for index in range(first, stop):
        head = group * heads_a_group + index // n_parts
        part = index % n_parts
        channels = part * P + tl.arange(0, P)
        in_head = channels < d_head
        at = (row * n_heads + head) * seq_len
        low_at = low_p
        if low_p is not None:
            low_at = low_p + at
        dt, high, low, _, to_end, _ = chunk_decays(dt_p + at, high_p + at, low_at, run_p, start, offsets, seq_len, Q)
        segments = high[None, :] - high[:, None]
        if low_p is not None:
            segments += low[None, :] - low[:, None]
        within = tl.exp2(tl.where(reads, segments, float("-inf")))
        x = rows_of(x_p + row * x_b + head * x_h, start, offsets, x_t, channels, seq_len, d_head, DOT)
        dy = rows_of(dy_p + row * dy_b + head * dy_h, start, offsets, dy_t, channels, seq_len, d_head, DOT)
        here = row * n_chunks + chunk
        state_at, is_state = states_of(d_states_p, here, n_heads, head, d_head, d_state, channels, states)
        d_state_after = tl.load(state_at, mask=is_state, other=0.0)

        pairs = tl.dot(x, tl.trans(dy), input_precision=PRECISION) * within
        d_products += pairs * dt[:, None]
        pairs *= products
        read = tl.sum(pairs, 1)
        d_written = tl.dot(B, tl.trans(d_state_after), input_precision=PRECISION) * to_end[:, None]
        kept = tl.sum(d_written * x.to(tl.float32), 1)
        d_written = tl.dot((products * within).to(DOT), dy, acc=d_written, input_precision=PRECISION)

        # A token's decay acts on all that was written before it and is read by it or later: on pairs j < k ≤ i.
        later = offsets[:, None] < offsets[None, :]
        if low_p is not None:
            crossing = tl.cumsum(tl.where(later, pairs * dt[:, None], 0.0), 1, reverse=True)
            d_decay = tl.sum(tl.where(later, crossing, 0.0), 0) + (tl.cumsum(dt * kept, 0) - dt * kept)
        else:
            # One running sum in place of one for each j, which takes back what it added: good for half precision.
            change = dt * (read + kept) - tl.sum(pairs * dt[:, None], 0)
            d_decay = tl.cumsum(change, 0) - change
        d_dt = read + kept + d_decay * tl.load(A_p + head)
        tl.store(d_dt_p + part * tl.cast(batch, tl.int64) * seq_len * n_heads + at + tokens, d_dt, mask=is_token)
        sums_at = (row * n_chunks + chunk) * n_heads + head
        tl.store(dA_p + sums_at * n_parts + part, tl.sum(d_decay * dt, 0))
        dx = d_written * dt[:, None]
        if D_p is not None:
            D = tl.load(D_p + head * D_h + channels * D_d, mask=in_head, other=0.0)
            dx += dy.to(tl.float32) * D[None, :]
            dD = tl.sum(x.to(tl.float32) * dy.to(tl.float32), 0)
            tl.store(dD_p + sums_at * d_head + channels, dD, mask=in_head)
        dx_at = offsets[:, None] * (n_heads * d_head) + channels[None, :]
        tl.store(
            dx_p + ((row * seq_len + start) * n_heads + head) * d_head + dx_at,
            dx,
            mask=is_token[:, None] & in_head[None, :],
        )
    n_groups = n_heads // heads_a_group
    dB = tl.dot(d_products.to(DOT), C, input_precision=PRECISION)
    _store_keys(dB_p, dB, block, batch, row, start, offsets, group, n_groups, seq_len, states, d_state)
    dC = tl.dot(tl.trans(d_products).to(DOT), B, input_precision=PRECISION)
    _store_keys(dC_p, dC, block, batch, row, start, offsets, group, n_groups, seq_len, states, d_state)


@triton.jit
def state_gradients(
    x_p, dy_p, dt_p, high_p, low_p, A_p, C_p, run_p, states_p, d_states_p, d_dt_p, dA_p, dB_p, dC_p,
    x_b, x_t, x_h, dy_b, dy_t, dy_h, C_b, C_t, C_g,
    batch, seq_len, n_heads, heads_a_group, d_head, d_state, n_parts, n_blocks, heads_a_block, n_state_blocks,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Give the gradients of one chunk by the state that enters, which is read and may leave, and by what joins it.

    A program goes through a block of a group's heads, as above, and takes a block of their states.
    """
    pid = tl.program_id(0)
    state_block = pid % n_state_blocks
    block, group, chunk, row, first, stop = _block(
        pid // n_state_blocks, seq_len, n_heads, heads_a_group, n_parts, n_blocks, heads_a_block, Q
    )
    start, n_chunks = chunk * Q, tl.cdiv(seq_len, Q)
    states, offsets = state_block * N + tl.arange(0, N), tl.arange(0, Q)
    d_dt_p += tl.cast(state_block, tl.int64) * n_parts * batch * seq_len * n_heads
    dA_p += tl.cast(state_block, tl.int64) * batch * n_chunks * n_heads * n_parts
    tokens = start + offsets
    if run_p is not None:
        run_p += row * seq_len
    C = rows_of(C_p + row * C_b + group * C_g, start, offsets, C_t, states, seq_len, d_state, DOT)
    dB = tl.zeros([Q, N], tl.float32)
    dC = tl.zeros([Q, N], tl.float32)
    for index in range(first, stop):
        head = group * heads_a_group + index // n_parts
        part = index % n_parts
        channels = part * P + tl.arange(0, P)
        at = (row * n_heads + head) * seq_len
        low_at = low_p
        if low_p is not None:
            low_at = low_p + at
        dt, _, _, from_start, to_end, across = chunk_decays(
            dt_p + at, high_p + at, low_at, run_p, start, offsets, seq_len, Q
        )
        x = rows_of(x_p + row * x_b + head * x_h, start, offsets, x_t, channels, seq_len, d_head, DOT)
        dy = rows_of(dy_p + row * dy_b + head * dy_h, start, offsets, dy_t, channels, seq_len, d_head, DOT)
        here = row * n_chunks + chunk
        state_at, is_state = states_of(states_p, here, n_heads, head, d_head, d_state, channels, states)
        state = tl.load(state_at, mask=is_state, other=0.0)
        state_at, _ = states_of(d_states_p, here, n_heads, head, d_head, d_state, channels, states)
        d_state_after = tl.load(state_at, mask=is_state, other=0.0)
        weighted = x.to(tl.float32) * (dt * to_end)[:, None]
        dB = tl.dot(weighted.to(DOT), d_state_after, acc=dB, input_precision=PRECISION)
        weighted = dy.to(tl.float32) * from_start[:, None]
        dC = tl.dot(weighted.to(DOT), state, acc=dC, input_precision=PRECISION)
        carried = tl.sum(weighted * tl.dot(C, tl.trans(state), input_precision=PRECISION), 1)
        whole = tl.sum(state.to(tl.float32) * d_state_after.to(tl.float32)) * across
        d_decay = whole + tl.cumsum(carried, 0, reverse=True)
        d_dt = d_decay * tl.load(A_p + head)
        d_dt_at = part * tl.cast(batch, tl.int64) * seq_len * n_heads + at + tokens
        tl.store(d_dt_p + d_dt_at, d_dt, mask=tokens < seq_len)
        sums_at = ((row * n_chunks + chunk) * n_heads + head) * n_parts + part
        tl.store(dA_p + sums_at, tl.sum(d_decay * dt, 0))
    n_groups = n_heads // heads_a_group
    _store_keys(dB_p, dB, block, batch, row, start, offsets, group, n_groups, seq_len, states, d_state)
    _store_keys(dC_p, dC, block, batch, row, start, offsets, group, n_groups, seq_len, states, d_state)


@triton.jit
def step_gradients(
    d_dt_p, raw_p, bias_p, d_raw_p, dbias_p, raw_b, raw_t, raw_h, batch, seq_len, n_heads, n_head_blocks, n_parts,
    T: tl.constexpr, H: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Add up the parts of the step sizes' gradients (part, batch, n_heads, seq_len), and undo softplus and bias."""
    pid = tl.program_id(0)
    heads = pid % n_head_blocks * H + tl.arange(0, H)
    n_blocks = tl.cdiv(seq_len, T)
    tokens = pid // n_head_blocks % n_blocks * T + tl.arange(0, T)
    row = (pid // (n_head_blocks * n_blocks)).to(tl.int64)
    is_head = heads < n_heads
    inside = (tokens < seq_len)[:, None] & is_head[None, :]
    gradient = tl.zeros([T, H], tl.float32)
    for part in range(n_parts):
        at = ((part * batch + row) * n_heads + heads[None, :]) * seq_len + tokens[:, None]
        gradient += tl.load(d_dt_p + at, mask=inside, other=0.0)
    if SOFTPLUS:
        at = tokens.to(tl.int64)[:, None] * raw_t + heads[None, :] * raw_h
        raw = tl.load(raw_p + row * raw_b + at, mask=inside, other=0.0).to(tl.float32)
        if bias_p is not None:
            raw += tl.load(bias_p + heads, mask=is_head, other=0.0)[None, :]
        gradient *= sigmoid(raw)
    tl.store(d_raw_p + (row * seq_len + tokens[:, None]) * n_heads + heads[None, :], gradient, mask=inside)
    if bias_p is not None:
        block = row * n_blocks + pid // n_head_blocks % n_blocks
        tl.store(dbias_p + block * n_heads + heads, tl.sum(gradient, 0), mask=is_head)
