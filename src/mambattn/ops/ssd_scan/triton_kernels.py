"""GPU kernels of `ssd`; README.md has the derivation and says why the work is cut as it is.

A program owns one head of one row, or a part of its channels. Tokens are taken Q at a time by matrix products, in the
type DOT and with sums in float32; j is the token that writes, i the one that reads. Every state is (channel, state).
"""

# pyright: reportGeneralTypeIssues=false
# A call of a kernel's part looks to it like one from outside, which never returns.

import triton
import triton.language as tl

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus


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


@triton.jit
def _chunk_decays(dt_p, high_p, low_p, run_p, start, offsets, seq_len, Q: tl.constexpr):
    """Give a chunk's step sizes, its running sums, and what survives: up to each token, after it, and across the chunk.

    A token beyond the end has a step size of 0: it neither decays the state nor writes to it.
    """
    inside = start + offsets < seq_len
    end = tl.minimum(start + Q, seq_len) - 1
    dt = tl.load(dt_p + start + offsets, mask=inside, other=0.0)
    total = tl.load(high_p + end)
    high = tl.load(high_p + start + offsets, mask=inside, other=total)
    low = high
    rest = total - high
    if low_p is not None:
        low_total = tl.load(low_p + end)
        low = tl.load(low_p + start + offsets, mask=inside, other=low_total)
        rest += low_total - low
    from_start, to_end, across = tl.exp2(high), tl.exp2(rest), tl.exp2(total)
    if run_p is not None:
        before = tl.load(run_p + tl.maximum(start - 1, 0))
        last = tl.load(run_p + end)
        run = _runs(run_p, start, offsets, seq_len)
        from_start = tl.where(run == before, from_start, 0.0)
        to_end = tl.where(run == last, to_end, 0.0)
        across = tl.where(before == last, across, 0.0)
    return dt, high, low, from_start, to_end, across


@triton.jit
def _runs(run_p, start, offsets, seq_len):
    """Give the numbers of a chunk's sequences; past the end it does not matter which."""
    return tl.load(run_p + start + offsets, mask=start + offsets < seq_len, other=0)


@triton.jit
def _token(p, token, stride):
    """Give where a token lies. Offsets within its chunk, and within a state, take 32 bits, and so fewer registers."""
    return p + tl.cast(token, tl.int64) * stride


@triton.jit
def _rows(p, start, offsets, stride, columns, n_tokens, n_columns, DOT: tl.constexpr):
    """Load a tile (token, column), with zeros where there is nothing."""
    inside = (start + offsets < n_tokens)[:, None] & (columns < n_columns)[None, :]
    at = offsets[:, None] * stride + columns[None, :]
    return tl.load(_token(p, start, stride) + at, mask=inside, other=0.0).to(DOT)


@triton.jit
def _states_of(p, index, n_heads, head, d_head, d_state, channels, states):
    """Give where the states of a head lie in (…, n_heads, d_head, d_state), and which of them exist."""
    inside = (channels < d_head)[:, None] & (states < d_state)[None, :]
    return p + (index * n_heads + head) * d_head * d_state + (channels[:, None] * d_state + states[None, :]), inside


@triton.jit
def _locate(n_parts, n_heads, n_segments):
    """Give the part of the channels, head, segment and row of this program; neighbours share B and C."""
    pid = tl.program_id(0)
    part = pid % n_parts
    head = pid // n_parts % n_heads
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
    """Go through the chunks of a segment, first to last, with the state (state, channel) in registers."""
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
    state = tl.zeros([N, P], tl.float32)
    if entering_p is not None:
        state_at, is_state = _states_of(
            entering_p, row * n_segments + segment, n_heads, head, d_head, d_state, channels, states
        )
        state = tl.load(tl.trans(state_at), mask=tl.trans(is_state), other=0.0)
    if D_p is not None:
        D = tl.load(D_p + head * D_h + channels * D_d, mask=in_head, other=0.0)
    last = tl.minimum((segment + 1) * segment_len, seq_len)
    for start in tl.range(segment * segment_len, last, Q, num_stages=STAGES):
        tokens = start + offsets
        x = _rows(x_p, start, offsets, x_t, channels, seq_len, d_head, DOT)
        B = _rows(B_p, start, offsets, B_t, states, seq_len, d_state, DOT)
        C = _rows(C_p, start, offsets, C_t, states, seq_len, d_state, DOT)
        dt, high, low, from_start, to_end, across = _chunk_decays(
            dt_p, high_p, low_p, run_p, start, offsets, seq_len, Q
        )
        # (i, j). What is masked is masked before the exponential, which the other half would overflow.
        segments = high[:, None] - high[None, :]
        if low_p is not None:
            segments += low[:, None] - low[None, :]
        reads = offsets[:, None] >= offsets[None, :]
        if run_p is not None:
            run = _runs(run_p, start, offsets, seq_len)
            reads = reads & (run[:, None] == run[None, :])
        within = tl.exp2(tl.where(reads, segments, float("-inf"))) * dt[None, :]
        scores = tl.dot(C, tl.trans(B), input_precision=PRECISION) * within
        y = tl.dot(C, state.to(DOT), input_precision=PRECISION) * from_start[:, None]
        y = tl.dot(scores.to(DOT), x, acc=y, input_precision=PRECISION)
        if D_p is not None:
            y += x.to(tl.float32) * D[None, :]
        inside = (tokens < seq_len)[:, None] & in_head[None, :]
        if z_p is not None:
            z = _rows(z_p + row * z_b + head * z_h, start, offsets, z_t, channels, seq_len, d_head, tl.float32)
            y *= z * sigmoid(z)
        y_at = offsets[:, None] * (n_heads * d_head) + channels[None, :]
        tl.store(_token(y_p, start, n_heads * d_head) + y_at, y, mask=inside)
        written = (x.to(tl.float32) * (dt * to_end)[:, None]).to(DOT)
        state = tl.dot(tl.trans(B), written, acc=state * across, input_precision=PRECISION)
    if final_p is not None:
        state_at, is_state = _states_of(final_p, row, n_heads, head, d_head, d_state, channels, states)
        tl.store(tl.trans(state_at), state, mask=tl.trans(is_state) & (last == seq_len))


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
        state_at, is_state = _states_of(entering_p, here, n_heads, head, d_head, d_state, channels, states)
        state = tl.load(state_at, mask=is_state, other=0.0)
    kept = 1.0
    first = segment * segment_len // Q
    n_chunks = tl.cdiv(tl.minimum(segment_len, seq_len - segment * segment_len), Q)
    for step in tl.range(n_chunks, num_stages=STAGES):
        chunk = first + step
        if REVERSE:
            chunk = first + n_chunks - 1 - step
        start = chunk * Q
        value = _rows(value_p, start, offsets, value_t, channels, seq_len, d_head, DOT)
        key = _rows(key_p, start, offsets, key_t, states, seq_len, d_state, DOT)
        dt, _, _, from_start, to_end, across = _chunk_decays(dt_p, high_p, low_p, run_p, start, offsets, seq_len, Q)
        if chunks_p is not None:
            met = row * tl.cdiv(seq_len, Q) + chunk
            met_at, is_met = _states_of(chunks_p, met, n_heads, head, d_head, d_state, channels, states)
            tl.store(met_at, state, mask=is_met)
        weight = dt * to_end
        if REVERSE:
            weight = from_start
        value = (value.to(tl.float32) * weight[:, None]).to(DOT)
        state = tl.dot(tl.trans(value), key, acc=state * across, input_precision=PRECISION)
        kept *= across
    if leaving_p is not None:
        state_at, is_state = _states_of(leaving_p, here, n_heads, head, d_head, d_state, channels, states)
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


@triton.jit
def _block(seq_len, n_heads, heads_a_group, n_parts, n_blocks, heads_a_block, Q: tl.constexpr):
    """Give the chunk, group and row of a program, and its share of the group's heads (or parts of heads)."""
    n_chunks = tl.cdiv(seq_len, Q)
    n_groups = n_heads // heads_a_group
    pid = tl.program_id(0)
    block = pid % n_blocks
    group = pid // n_blocks % n_groups
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
    block, group, chunk, row, first, stop = _block(seq_len, n_heads, heads_a_group, n_parts, n_blocks, heads_a_block, Q)
    start, n_chunks = chunk * Q, tl.cdiv(seq_len, Q)
    states, offsets = tl.arange(0, N), tl.arange(0, Q)
    tokens = start + offsets
    is_token = tokens < seq_len
    if run_p is not None:
        run_p += row * seq_len
    B = _rows(B_p + row * B_b + group * B_g, start, offsets, B_t, states, seq_len, d_state, DOT)
    C = _rows(C_p + row * C_b + group * C_g, start, offsets, C_t, states, seq_len, d_state, DOT)
    products = tl.dot(B, tl.trans(C), input_precision=PRECISION).to(DOT)
    reads = offsets[:, None] <= offsets[None, :]
    if run_p is not None:
        run = _runs(run_p, start, offsets, seq_len)
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
        dt, high, low, _, to_end, _ = _chunk_decays(dt_p + at, high_p + at, low_at, run_p, start, offsets, seq_len, Q)
        segments = high[None, :] - high[:, None]
        if low_p is not None:
            segments += low[None, :] - low[:, None]
        within = tl.exp2(tl.where(reads, segments, float("-inf")))
        x = _rows(x_p + row * x_b + head * x_h, start, offsets, x_t, channels, seq_len, d_head, DOT)
        dy = _rows(dy_p + row * dy_b + head * dy_h, start, offsets, dy_t, channels, seq_len, d_head, DOT)
        here = row * n_chunks + chunk
        state_at, is_state = _states_of(d_states_p, here, n_heads, head, d_head, d_state, channels, states)
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
        tl.store(d_dt_p + part * (batch * seq_len * n_heads).to(tl.int64) + at + tokens, d_dt, mask=is_token)
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
    batch, seq_len, n_heads, heads_a_group, d_head, d_state, n_parts, n_blocks, heads_a_block,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Give the gradients of one chunk by the state that enters, which is read and may leave, and by what joins it."""
    block, group, chunk, row, first, stop = _block(seq_len, n_heads, heads_a_group, n_parts, n_blocks, heads_a_block, Q)
    start, n_chunks = chunk * Q, tl.cdiv(seq_len, Q)
    states, offsets = tl.arange(0, N), tl.arange(0, Q)
    tokens = start + offsets
    if run_p is not None:
        run_p += row * seq_len
    C = _rows(C_p + row * C_b + group * C_g, start, offsets, C_t, states, seq_len, d_state, DOT)
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
        dt, _, _, from_start, to_end, across = _chunk_decays(
            dt_p + at, high_p + at, low_at, run_p, start, offsets, seq_len, Q
        )
        x = _rows(x_p + row * x_b + head * x_h, start, offsets, x_t, channels, seq_len, d_head, DOT)
        dy = _rows(dy_p + row * dy_b + head * dy_h, start, offsets, dy_t, channels, seq_len, d_head, DOT)
        here = row * n_chunks + chunk
        state_at, is_state = _states_of(states_p, here, n_heads, head, d_head, d_state, channels, states)
        state = tl.load(state_at, mask=is_state, other=0.0)
        state_at, _ = _states_of(d_states_p, here, n_heads, head, d_head, d_state, channels, states)
        d_state_after = tl.load(state_at, mask=is_state, other=0.0)
        weighted = x.to(tl.float32) * (dt * to_end)[:, None]
        dB = tl.dot(weighted.to(DOT), d_state_after, acc=dB, input_precision=PRECISION)
        weighted = dy.to(tl.float32) * from_start[:, None]
        dC = tl.dot(weighted.to(DOT), state, acc=dC, input_precision=PRECISION)
        carried = tl.sum(weighted * tl.dot(C, tl.trans(state), input_precision=PRECISION), 1)
        whole = tl.sum(state.to(tl.float32) * d_state_after.to(tl.float32)) * across
        d_decay = whole + tl.cumsum(carried, 0, reverse=True)
        d_dt = d_decay * tl.load(A_p + head)
        d_dt_at = part * (batch * seq_len * n_heads).to(tl.int64) + at + tokens
        tl.store(d_dt_p + d_dt_at, d_dt, mask=tokens < seq_len)
        sums_at = ((row * n_chunks + chunk) * n_heads + head) * n_parts + part
        tl.store(dA_p + sums_at, tl.sum(d_decay * dt, 0))
    n_groups = n_heads // heads_a_group
    _store_keys(dB_p, dB, block, batch, row, start, offsets, group, n_groups, seq_len, states, d_state)
    _store_keys(dC_p, dC, block, batch, row, start, offsets, group, n_groups, seq_len, states, d_state)
