"""GPU kernels of the selective scan, forward; README.md says why they look as they do.

A program is one warp and holds a tile of T steps, N_LANES states and W · J channels. Time and W lie in registers, so a
scan is a plain chain of multiply-adds in each lane; states and the J channels lie across the lanes.
"""

import triton
import triton.language as tl

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus


@triton.jit
def pin(x):
    """Return x (rows, channels) as it is; the sum over an axis of one keeps its elements spread over all lanes.

    Without it the compiler moves what follows to where x has been copied to every lane, and computes it in each.
    """
    return tl.sum(tl.expand_dims(x, 2), axis=2)


@triton.jit
def forth(a_1, h_1, p_1, c_1, a_2, h_2, p_2, c_2):
    """Join two stretches of h_t = a_t h_{t-1} + x_t; p = c h is what the last step got from the state before it."""
    return a_1 * a_2, a_2 * h_1 + h_2, c_2 * h_1 + p_2, c_2 * a_1


@triton.jit
def row(x, at, T: tl.constexpr):
    """Take one step of a tile. As integers, so that the zeros of the others cost no addition."""
    bits = tl.where((tl.arange(0, T) == at)[:, None, None, None], x.to(tl.int32, bitcast=True), 0)
    return tl.sum(bits, axis=0).to(tl.float32, bitcast=True)


@triton.jit
def spread(x, T: tl.constexpr, W: tl.constexpr, J: tl.constexpr):
    """(T, channels) to (T, W, 1, J)."""
    return tl.reshape(x, [T, W, J])[:, :, None, :]


@triton.jit
def halve(x):
    """Sum x over its last axis, of two. Lanes exchange what they do not hold, so that both halves go on working.

    A sum over all lanes at once would be a chain of shuffles for each step, every one of which waits for the last.
    """
    x_0, x_1 = tl.split(x)
    return x_0 + x_1


@triton.jit
def sum_states(x, T: tl.constexpr, W: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr):
    """Sum x (T, W, N_LANES, J) over the states, to (T, W · J)."""
    x = tl.permute(x, [0, 1, 3, 2])
    if N_LANES == 8:
        x = halve(tl.reshape(x, [T, W, J, 4, 2]))
    if N_LANES >= 4:
        x = halve(tl.reshape(x, [T, W, J, 2, 2]))
    if N_LANES >= 2:
        x = halve(x)
    return tl.reshape(x, [T, W * J])


@triton.jit
def scan_forward(
    u_p, dt_p, z_p, A_p, B_p, C_p, D_p, bias_p, reset_p, y_p, states_p, final_p, span_p,
    u_batch, u_time, dt_batch, dt_time, z_batch, z_time, B_batch, B_time, B_group, C_batch, C_time, C_group,
    y_batch, y_time,
    seq_len, d_inner, d_group, d_state, n_groups, n_blocks, n_chunks, chunk_tiles, n_tiles, n_slots, first_chunk, n_run,
    T: tl.constexpr, W: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr,
    EVERY: tl.constexpr, SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr,
    HAS_RESET: tl.constexpr, SAVE: tl.constexpr, ONLY_STATES: tl.constexpr,
):  # fmt: skip
    """Scan one chunk of one row of the batch for W · J channels.

    `states` (batch, n_slots, d_state, d_inner) holds the state that enters; with SAVE also those after every EVERY
    steps, else the running one. With ONLY_STATES no output is made: the state, from zero, and the sum of the step
    sizes are what a chunk contributes to the next.
    """
    pid = tl.program_id(0).to(tl.int64)
    block = (pid % (n_groups * n_blocks)).to(tl.int32)
    chunk = first_chunk + (pid // (n_groups * n_blocks) % n_run).to(tl.int32)
    b = pid // (n_groups * n_blocks) // n_run
    group = block // n_blocks
    j = block % n_blocks * (W * J) + tl.arange(0, W * J)
    j_4 = block % n_blocks * (W * J) + tl.arange(0, W)[:, None, None] * J + tl.arange(0, J)[None, None, :]
    d, d_4 = group * d_group + j, group * d_group + j_4
    is_d, is_d_4 = j < d_group, j_4 < d_group
    step = tl.arange(0, T)
    first = (step == 0)[:, None, None, None]
    u_p += b * u_batch
    dt_p += b * dt_batch
    z_p += b * z_batch
    y_p += b * y_batch
    B_p += b * B_batch + group * B_group
    C_p += b * C_batch + group * C_group
    span = tl.zeros([W * J], tl.float32)
    here = tl.minimum(chunk_tiles, n_tiles - chunk * chunk_tiles)
    lane = tl.arange(0, N_LANES)
    if HAS_BIAS:
        bias = tl.load(bias_p + d, is_d, 0.0)[None, :]
    if HAS_D:
        D = tl.load(D_p + d, is_d, 0.0)[None, :]
    # What the next round of a loop needs is asked for a round ahead: memory answers while this one computes.
    t = chunk * chunk_tiles * T + step
    is_td = (t < seq_len)[:, None] & is_d[None, :]
    next_u = tl.load(u_p + t.to(tl.int64)[:, None] * u_time + d[None, :], is_td, 0.0)
    next_dt = tl.load(dt_p + t.to(tl.int64)[:, None] * dt_time + d[None, :], is_td, 0.0)
    for tile in range(here):
        t = (chunk * chunk_tiles + tile) * T + step
        is_t = t < seq_len
        is_td = is_t[:, None] & is_d[None, :]
        t_1 = t.to(tl.int64)[:, None]
        slot = chunk
        if SAVE:
            slot = (chunk * chunk_tiles + tile) * (T // EVERY)
        A_at = A_p + d_4 * d_state
        state_at = states_p + (b * n_slots + slot) * d_state * d_inner + d_4
        is_tn = is_t[:, None] & (lane < d_state)[None, :]
        next_B = tl.load(B_p + t_1 * B_time + lane[None, :], is_tn, 0.0)
        next_C = tl.load(C_p + t_1 * C_time + lane[None, :], is_tn, 0.0)
        lane_4 = lane[None, :, None]
        next_A = tl.load(A_at + lane_4, (lane_4 < d_state) & is_d_4, 0.0)
        next_h = tl.load(state_at + lane_4 * d_inner, (lane_4 < d_state) & is_d_4, 0.0)
        u = pin(next_u.to(tl.float32))
        dt = pin(next_dt.to(tl.float32))
        if HAS_Z and not ONLY_STATES:
            z = tl.load(z_p + t_1 * z_time + d[None, :], is_td, 0.0)
        t_2 = t_1 + T
        is_td_2 = (t + T < seq_len)[:, None] & is_d[None, :]
        next_u = tl.load(u_p + t_2 * u_time + d[None, :], is_td_2, 0.0)
        next_dt = tl.load(dt_p + t_2 * dt_time + d[None, :], is_td_2, 0.0)
        if HAS_BIAS:
            dt += bias
        if SOFTPLUS:
            dt = softplus(dt)
        # A step beyond the end neither decays the state nor writes to it.
        dt = tl.where(is_t[:, None], dt, 0.0)
        if ONLY_STATES:
            span += tl.sum(dt, axis=0)
        dt_4 = spread(dt, T, W, J)
        dtu_4 = spread(dt * u, T, W, J)
        total = tl.zeros([T, W, N_LANES, J], tl.float32)
        for n_0 in range(0, d_state, N_LANES):
            A = next_A * LOG2_E
            B = next_B[:, None, :, None]
            C = next_C[:, None, :, None]
            h_0 = next_h
            n_4 = n_0 + lane_4
            n = n_0 + N_LANES + lane
            m_4 = n_4 + N_LANES
            is_tn = is_t[:, None] & (n < d_state)[None, :]
            next_B = tl.load(B_p + t_1 * B_time + n[None, :], is_tn, 0.0)
            if not ONLY_STATES:
                next_C = tl.load(C_p + t_1 * C_time + n[None, :], is_tn, 0.0)
            next_A = tl.load(A_at + m_4, (m_4 < d_state) & is_d_4, 0.0)
            next_h = tl.load(state_at + m_4 * d_inner, (m_4 < d_state) & is_d_4, 0.0)
            a = tl.exp2(dt_4 * A[None])
            if HAS_RESET:
                reset = tl.load(reset_p + b * seq_len + t, is_t, 0)
                a = tl.where((reset > 0)[:, None, None, None], 0.0, a)
            x = dtu_4 * B
            x = tl.where(first, a * h_0[None] + x, x)
            _, h, _, _ = tl.associative_scan((a, x, x, a), 0, forth)
            last = row(h, T - 1, T)
            state_p = state_at + n_4 * d_inner
            if ONLY_STATES:
                tl.store(state_p, last, (n_4 < d_state) & is_d_4)
            else:
                total += h * C
                if SAVE:
                    for k in tl.static_range(T // EVERY - 1):
                        n_max = tl.where(slot + k + 1 < n_slots, d_state, 0)
                        to = state_p + (k + 1) * d_state * d_inner
                        tl.store(to, row(h, (k + 1) * EVERY - 1, T), (n_4 < n_max) & is_d_4)
                # The state after a chunk is already there, made by the pass over chunks: it is not written twice.
                n_max = tl.where(tile < here - 1, d_state, 0)
                if SAVE:
                    state_p += (T // EVERY) * d_state * d_inner
                    n_max = tl.where(slot + T // EVERY < n_slots, n_max, 0)
                tl.store(state_p, last, (n_4 < n_max) & is_d_4)
                n_max = tl.where(chunk * chunk_tiles + tile == n_tiles - 1, d_state, 0)
                tl.store(final_p + (b * d_state + n_4) * d_inner + d_4, last, (n_4 < n_max) & is_d_4)
        if not ONLY_STATES:
            y = sum_states(total, T, W, N_LANES, J)
            if HAS_D:
                y += D * u
            if HAS_Z:
                z = pin(z.to(tl.float32))
                y *= z * sigmoid(z)
            tl.store(y_p + t_1 * y_time + d[None, :], y, is_td)
        tl.debug_barrier()  # the state was written by other threads than those that read it next
    if ONLY_STATES:
        tl.store(span_p + (b * n_chunks + chunk) * d_inner + d, span, is_d)


@triton.jit
def pass_states(
    own_p, span_p, keep_p, A_p, entry_p,
    d_inner, d_state, n_chunks, n_slots, slot_step,
    HAS_KEEP: tl.constexpr, BACK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Carry a state from chunk to chunk: exp(A Σ dt) times what enters one, and its own, enter the next."""
    blocks = tl.cdiv(d_state * d_inner, BLOCK)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    i = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    is_i = i < d_state * d_inner
    n, d = i // d_inner, i % d_inner
    A = tl.load(A_p + d * d_state + n, is_i, 0.0) * LOG2_E
    chunk = n_chunks - 1 if BACK else 0
    state = tl.load(entry_p + (b * n_slots + chunk * slot_step) * d_state * d_inner + i, is_i, 0.0)
    for _ in range(n_chunks - 1):
        decay = tl.exp2(A * tl.load(span_p + (b * n_chunks + chunk) * d_inner + d, is_i, 0.0))
        if HAS_KEEP:
            decay = tl.where(tl.load(keep_p + b * n_chunks + chunk) > 0, decay, 0.0)
        state = decay * state + tl.load(own_p + (b * n_chunks + chunk) * d_state * d_inner + i, is_i, 0.0)
        chunk += -1 if BACK else 1
        tl.store(entry_p + (b * n_slots + chunk * slot_step) * d_state * d_inner + i, state, is_i)
