"""GPU kernels of the selective scan; README.md says why they look as they do.

A program holds a tile of T steps, N_LANES states and W · J channels. The axis of time lies in registers, so a scan along
it is a plain chain of multiply-adds; channels and states lie across the lanes of a warp, and W counts its warps.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _pin(x):
    """Return x (rows, channels) as it is; the sum over an axis of one keeps its elements spread over all lanes.

    Without it the compiler moves what follows to where x has been copied to every lane, and computes it there each time.
    """
    return tl.sum(tl.expand_dims(x, 2), axis=2)


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), with log1p(e) = 2 artanh(e / (2 + e)), which keeps the digits of a small e."""
    e = tl.exp2(tl.abs(x) * -LOG2E)
    s = e / (2.0 + e)
    s2 = s * s
    q = s2 * 0.12144777737557888 + 0.10715369880199432
    q = q * s2 + 0.14308299124240875
    q = q * s2 + 0.19999444484710693
    q = q * s2 + 0.3333333730697632
    return tl.maximum(x, 0.0) + 2.0 * (s * s2 * q + s)


@triton.jit
def _logistic(x):
    return 1.0 / (1.0 + tl.exp2(x * -LOG2E))


@triton.jit
def _forth(a_1, h_1, p_1, c_1, a_2, h_2, p_2, c_2):
    """Join two stretches of h_t = a_t h_{t-1} + x_t; p = c h is what the last step got from the state before it."""
    return a_1 * a_2, a_2 * h_1 + h_2, c_2 * h_1 + p_2, c_2 * a_1


@triton.jit
def _back(a_2, e_2, g_2, c_2, a_1, e_1, g_1, c_1):
    """Join two stretches of g_t = x_t + e_{t+1}, e_t = a_t g_t, the later one first."""
    return a_1 * a_2, a_1 * e_2 + e_1, c_1 * e_2 + g_1, c_1 * a_2


@triton.jit
def _row(x, at, T: tl.constexpr):
    """Take one step of a tile. As integers, so that the zeros of the others cost no addition."""
    bits = tl.where((tl.arange(0, T) == at)[:, None, None, None], x.to(tl.int32, bitcast=True), 0)
    return tl.sum(bits, axis=0).to(tl.float32, bitcast=True)


@triton.jit
def _spread(x, T: tl.constexpr, W: tl.constexpr, J: tl.constexpr):
    """(T, channels) to (T, W, 1, J)."""
    return tl.reshape(x, [T, W, J])[:, :, None, :]


@triton.jit
def _sum_states(x, T: tl.constexpr, W: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr):
    """Sum x (T, W, N_LANES, J) to (T, W · J) in the way of `_sum_channels`."""
    x = tl.permute(x, [0, 1, 3, 2])
    if N_LANES == 8:
        x_0, x_1 = tl.split(tl.reshape(x, [T, W, J, 4, 2]))
        x = x_0 + x_1
    if N_LANES >= 4:
        x_0, x_1 = tl.split(tl.reshape(x, [T, W, J, 2, 2]))
        x = x_0 + x_1
    if N_LANES >= 2:
        x_0, x_1 = tl.split(x)
        x = x_0 + x_1
    return tl.reshape(x, [T, W * J])


@triton.jit
def _sum_channels(x, T: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr):
    """Sum x (T, W, N_LANES, J) to (T, N_LANES), halving the lanes of all steps at a time.

    A sum over the whole axis would be one chain of shuffles a step, each waiting for the one before.
    """
    x = tl.sum(x, axis=1)
    if J == 32:
        x_0, x_1 = tl.split(tl.reshape(x, [T, N_LANES, 16, 2]))
        x = x_0 + x_1
    if J >= 16:
        x_0, x_1 = tl.split(tl.reshape(x, [T, N_LANES, 8, 2]))
        x = x_0 + x_1
    if J >= 8:
        x_0, x_1 = tl.split(tl.reshape(x, [T, N_LANES, 4, 2]))
        x = x_0 + x_1
    if J >= 4:
        x_0, x_1 = tl.split(tl.reshape(x, [T, N_LANES, 2, 2]))
        x = x_0 + x_1
    return tl.sum(x, axis=2)


@triton.jit
def scan_forward(
    u_p, dt_p, z_p, A_p, B_p, C_p, D_p, bias_p, reset_p, y_p, states_p, final_p, span_p,
    u_batch, u_time, dt_batch, dt_time, z_batch, z_time, B_batch, B_time, B_group, C_batch, C_time, C_group,
    y_batch, y_time,
    seq_len, d_inner, d_group, d_state, n_groups, n_blocks, n_chunks, chunk_tiles, n_tiles, n_slots, first_chunk, n_run,
    T: tl.constexpr, W: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr,
    EVERY: tl.constexpr, SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr,
    HAS_RESET: tl.constexpr, HAS_INITIAL: tl.constexpr, SAVE: tl.constexpr, ONLY_STATES: tl.constexpr,
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
        if SAVE:
            slot = (chunk * chunk_tiles + tile) * (T // EVERY)
        else:
            slot = chunk
        if ONLY_STATES:
            is_there = tile > 0
        elif HAS_INITIAL:
            is_there = tile >= 0
        else:
            is_there = chunk + tile > 0
        n_old = tl.where(is_there, d_state, 0)
        A_at = A_p + d_4 * d_state
        state_at = states_p + (b * n_slots + slot) * d_state * d_inner + d_4
        is_tn = is_t[:, None] & (lane < d_state)[None, :]
        next_B = tl.load(B_p + t_1 * B_time + lane[None, :], is_tn, 0.0)
        next_C = tl.load(C_p + t_1 * C_time + lane[None, :], is_tn, 0.0)
        lane_4 = lane[None, :, None]
        next_A = tl.load(A_at + lane_4, (lane_4 < d_state) & is_d_4, 0.0)
        next_h = tl.load(state_at + lane_4 * d_inner, (lane_4 < n_old) & is_d_4, 0.0)
        u = _pin(next_u.to(tl.float32))
        dt = _pin(next_dt.to(tl.float32))
        if HAS_Z and not ONLY_STATES:
            z = tl.load(z_p + t_1 * z_time + d[None, :], is_td, 0.0)
        t_2 = t_1 + T
        is_td_2 = (t + T < seq_len)[:, None] & is_d[None, :]
        next_u = tl.load(u_p + t_2 * u_time + d[None, :], is_td_2, 0.0)
        next_dt = tl.load(dt_p + t_2 * dt_time + d[None, :], is_td_2, 0.0)
        if HAS_BIAS:
            dt += bias
        if SOFTPLUS:
            dt = _softplus(dt)
        # A step beyond the end neither decays the state nor writes to it.
        dt = tl.where(is_t[:, None], dt, 0.0)
        if ONLY_STATES:
            span += tl.sum(dt, axis=0)
        dt_4 = _spread(dt, T, W, J)
        dtu_4 = _spread(dt * u, T, W, J)
        total = tl.zeros([T, W, N_LANES, J], tl.float32)
        for n_0 in range(0, d_state, N_LANES):
            A = next_A * LOG2E
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
            next_h = tl.load(state_at + m_4 * d_inner, (m_4 < n_old) & is_d_4, 0.0)
            a = tl.exp2(dt_4 * A[None])
            if HAS_RESET:
                reset = tl.load(reset_p + b * seq_len + t, is_t, 0)
                a = tl.where((reset > 0)[:, None, None, None], 0.0, a)
            x = dtu_4 * B
            x = tl.where(first, a * h_0[None] + x, x)
            _, h, _, _ = tl.associative_scan((a, x, x, a), 0, _forth)
            last = _row(h, T - 1, T)
            state_p = state_at + n_4 * d_inner
            if ONLY_STATES:
                tl.store(state_p, last, (n_4 < d_state) & is_d_4)
            else:
                total += h * C
                if SAVE:
                    for k in tl.static_range(T // EVERY - 1):
                        n_max = tl.where(slot + k + 1 < n_slots, d_state, 0)
                        to = state_p + (k + 1) * d_state * d_inner
                        tl.store(to, _row(h, (k + 1) * EVERY - 1, T), (n_4 < n_max) & is_d_4)
                # The state after a chunk is already there, made by the pass over chunks: it is not written twice.
                n_max = tl.where(tile < here - 1, d_state, 0)
                if SAVE:
                    state_p += (T // EVERY) * d_state * d_inner
                    n_max = tl.where(slot + T // EVERY < n_slots, n_max, 0)
                tl.store(state_p, last, (n_4 < n_max) & is_d_4)
                n_max = tl.where(chunk * chunk_tiles + tile == n_tiles - 1, d_state, 0)
                tl.store(final_p + (b * d_state + n_4) * d_inner + d_4, last, (n_4 < n_max) & is_d_4)
        if not ONLY_STATES:
            y = _sum_states(total, T, W, N_LANES, J)
            if HAS_D:
                y += D * u
            if HAS_Z:
                z = _pin(z.to(tl.float32))
                y *= z * _logistic(z)
            tl.store(y_p + t_1 * y_time + d[None, :], y, is_td)
        tl.debug_barrier()  # the state was written by other threads than those that read it next
    if ONLY_STATES:
        tl.store(span_p + (b * n_chunks + chunk) * d_inner + d, span, is_d)


@triton.jit
def pass_states(
    own_p, span_p, keep_p, A_p, entry_p,
    d_inner, d_state, n_chunks, n_slots, slot_step,
    HAS_ENTRY: tl.constexpr, HAS_KEEP: tl.constexpr, BACK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Carry a state from chunk to chunk: exp(A Σ dt) times what enters a chunk, and the chunk's own, enters the next."""
    blocks = tl.cdiv(d_state * d_inner, BLOCK)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    i = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    is_i = i < d_state * d_inner
    n, d = i // d_inner, i % d_inner
    A = tl.load(A_p + d * d_state + n, is_i, 0.0) * LOG2E
    chunk = n_chunks - 1 if BACK else 0
    state = tl.zeros([BLOCK], tl.float32)
    if HAS_ENTRY:
        state = tl.load(entry_p + (b * n_slots + chunk * slot_step) * d_state * d_inner + i, is_i, 0.0)
    for _ in range(n_chunks - 1):
        decay = tl.exp2(A * tl.load(span_p + (b * n_chunks + chunk) * d_inner + d, is_i, 0.0))
        if HAS_KEEP:
            decay = tl.where(tl.load(keep_p + b * n_chunks + chunk) > 0, decay, 0.0)
        state = decay * state + tl.load(own_p + (b * n_chunks + chunk) * d_state * d_inner + i, is_i, 0.0)
        chunk += -1 if BACK else 1
        tl.store(entry_p + (b * n_slots + chunk * slot_step) * d_state * d_inner + i, state, is_i)


@triton.jit
def scan_backward(
    u_p, dt_p, z_p, A_p, B_p, C_p, D_p, bias_p, reset_p, dy_p, states_p, carry_p, span_p,
    du_p, ddt_p, dz_p, dA_p, dB_p, dC_p, dD_p, dbias_p,
    u_batch, u_time, dt_batch, dt_time, z_batch, z_time, B_batch, B_time, B_group, C_batch, C_time, C_group,
    dy_batch, dy_time, du_batch, du_time,
    seq_len, d_inner, d_group, d_state, n_groups, n_blocks, n_chunks, chunk_tiles, n_tiles, n_slots, first_chunk, n_run, batch,
    T: tl.constexpr, W: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr,
    SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr,
    HAS_RESET: tl.constexpr, HAS_INITIAL: tl.constexpr, HAS_FINAL: tl.constexpr, ONLY_CARRY: tl.constexpr,
):  # fmt: skip
    """Go back over one chunk: make the states of a tile again from the one kept, then the gradients."""
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
    first, end = (step == 0)[:, None, None, None], (step == T - 1)[:, None, None, None]
    part = b * n_chunks + chunk
    span = tl.zeros([W * J], tl.float32)
    dD = tl.zeros([W * J], tl.float32)
    dbias = tl.zeros([W * J], tl.float32)
    u_p += b * u_batch
    dt_p += b * dt_batch
    z_p += b * z_batch
    dy_p += b * dy_batch
    B_p += b * B_batch + group * B_group
    C_p += b * C_batch + group * C_group
    lane = tl.arange(0, N_LANES)
    if HAS_BIAS:
        bias = tl.load(bias_p + d, is_d, 0.0)[None, :]
    if HAS_D:
        D = tl.load(D_p + d, is_d, 0.0)[None, :]
    lane_4 = lane[None, :, None]
    here = tl.minimum(chunk_tiles, n_tiles - chunk * chunk_tiles)
    # What the next round of a loop needs is asked for a round ahead: memory answers while this one computes.
    t = (chunk * chunk_tiles + here - 1) * T + step
    is_td = (t < seq_len)[:, None] & is_d[None, :]
    t_1 = t.to(tl.int64)[:, None]
    next_u = tl.load(u_p + t_1 * u_time + d[None, :], is_td, 0.0)
    next_dt = tl.load(dt_p + t_1 * dt_time + d[None, :], is_td, 0.0)
    next_dy = tl.load(dy_p + t_1 * dy_time + d[None, :], is_td, 0.0)
    for back in range(here):
        tile = chunk * chunk_tiles + here - 1 - back
        t = tile * T + step
        is_t = t < seq_len
        is_td = is_t[:, None] & is_d[None, :]
        t_1 = t.to(tl.int64)[:, None]
        if ONLY_CARRY:
            is_there = back > 0
        elif HAS_FINAL:
            is_there = back >= 0
        else:
            is_there = back + n_chunks - 1 - chunk > 0
        n_carry = tl.where(is_there, d_state, 0)
        n_state = d_state
        if not HAS_INITIAL:
            n_state = tl.where(tile > 0, d_state, 0)
        n_so_far = tl.where(back > 0, d_state, 0)
        A_at = A_p + d_4 * d_state
        carry_at = carry_p + part * d_state * d_inner + d_4
        state_at = states_p + (b * n_slots + tile) * d_state * d_inner + d_4
        dA_at = dA_p + part * d_state * d_inner + d_4
        is_tn = is_t[:, None] & (lane < d_state)[None, :]
        next_C = tl.load(C_p + t_1 * C_time + lane[None, :], is_tn, 0.0)
        next_A = tl.load(A_at + lane_4, (lane_4 < d_state) & is_d_4, 0.0)
        next_e = tl.load(carry_at + lane_4 * d_inner, (lane_4 < n_carry) & is_d_4, 0.0)
        if not ONLY_CARRY:
            next_B = tl.load(B_p + t_1 * B_time + lane[None, :], is_tn, 0.0)
            next_h = tl.load(state_at + lane_4 * d_inner, (lane_4 < n_state) & is_d_4, 0.0)
            next_dA = tl.load(dA_at + lane_4 * d_inner, (lane_4 < n_so_far) & is_d_4, 0.0)
        u = _pin(next_u.to(tl.float32))
        raw = _pin(next_dt.to(tl.float32))
        dy = _pin(next_dy.to(tl.float32))
        t_2 = t_1 - T
        is_td_2 = (t >= T)[:, None] & is_d[None, :]
        next_u = tl.load(u_p + t_2 * u_time + d[None, :], is_td_2, 0.0)
        next_dt = tl.load(dt_p + t_2 * dt_time + d[None, :], is_td_2, 0.0)
        next_dy = tl.load(dy_p + t_2 * dy_time + d[None, :], is_td_2, 0.0)
        if HAS_BIAS:
            raw += bias
        dt = raw
        if SOFTPLUS:
            dt = _softplus(raw)
        dt = tl.where(is_t[:, None], dt, 0.0)
        slope = dy
        if HAS_Z:
            z = _pin(tl.load(z_p + t_1 * z_time + d[None, :], is_td, 0.0).to(tl.float32))
            sigma = _logistic(z)
            slope = dy * sigma * (1.0 + z * (1.0 - sigma))
            dy *= z * sigma
        dt_4 = _spread(dt, T, W, J)
        dy_4 = _spread(dy, T, W, J)
        if ONLY_CARRY:
            span += tl.sum(dt, axis=0)
        dtu_4 = _spread(dt * u, T, W, J)
        sum_y = tl.zeros([T, W, N_LANES, J], tl.float32)
        sum_gB = tl.zeros([T, W, N_LANES, J], tl.float32)
        sum_qA = tl.zeros([T, W, N_LANES, J], tl.float32)
        for n_0 in range(0, d_state, N_LANES):
            n_4 = n_0 + lane_4
            is_nd = (n_4 < d_state) & is_d_4
            n = n_0 + N_LANES + lane
            m_4 = n_4 + N_LANES
            is_tm = is_t[:, None] & (n < d_state)[None, :]
            A = next_A
            C = next_C[:, None, :, None]
            e_in = next_e
            next_C = tl.load(C_p + t_1 * C_time + n[None, :], is_tm, 0.0)
            next_A = tl.load(A_at + m_4, (m_4 < d_state) & is_d_4, 0.0)
            next_e = tl.load(carry_at + m_4 * d_inner, (m_4 < n_carry) & is_d_4, 0.0)
            if not ONLY_CARRY:
                B = next_B[:, None, :, None]
                h_0 = next_h
                dA = next_dA
                next_B = tl.load(B_p + t_1 * B_time + n[None, :], is_tm, 0.0)
                next_h = tl.load(state_at + m_4 * d_inner, (m_4 < n_state) & is_d_4, 0.0)
                next_dA = tl.load(dA_at + m_4 * d_inner, (m_4 < n_so_far) & is_d_4, 0.0)
            a = tl.exp2(dt_4 * (A * LOG2E)[None])
            if HAS_RESET:
                reset = tl.load(reset_p + b * seq_len + t, is_t, 0)
                a = tl.where((reset > 0)[:, None, None, None], 0.0, a)
            x = dy_4 * C
            x = tl.where(end, x + e_in[None], x)
            # In the order of the scan that runs back; a flip along registers costs nothing.
            a_back, x_back = tl.flip(a, 0), tl.flip(x, 0)
            one = tl.full([T, W, N_LANES, J], 1.0, tl.float32)
            _, e, g, _ = tl.associative_scan((a_back, a_back * x_back, x_back, one), 0, _back)
            tl.store(carry_at + n_4 * d_inner, _row(e, T - 1, T), is_nd)
            if not ONLY_CARRY:
                g = tl.flip(g, 0)
                x = dtu_4 * B
                from_0 = a * h_0[None]
                zero = tl.zeros([T, W, N_LANES, J], tl.float32)
                _, h, p, _ = tl.associative_scan(
                    (a, tl.where(first, from_0 + x, x), tl.where(first, from_0, zero), a), 0, _forth
                )
                q = g * p
                if HAS_Z:
                    sum_y += h * C
                sum_gB += g * B
                sum_qA += q * A[None]
                tl.store(dA_at + n_4 * d_inner, dA + tl.sum(q * dt_4, axis=0), is_nd)
                at = (((block % n_blocks * batch + b) * seq_len + t_1) * n_groups + group) * d_state
                m = n_0 + lane
                is_tn = is_t[:, None] & (m < d_state)[None, :]
                tl.store(dC_p + at + m[None, :], _sum_channels(h * dy_4, T, N_LANES, J), is_tn)
                tl.store(dB_p + at + m[None, :], _sum_channels(g * dtu_4, T, N_LANES, J), is_tn)
        if not ONLY_CARRY:
            gB = _sum_states(sum_gB, T, W, N_LANES, J)
            ddt = _sum_states(sum_qA, T, W, N_LANES, J) + u * gB
            if SOFTPLUS:
                ddt *= _logistic(raw)
            du = dt * gB
            if HAS_D:
                du += D * dy
                dD += tl.sum(dy * u, axis=0)
            out = b * du_batch + t_1 * du_time + d[None, :]
            if HAS_BIAS:
                dbias += tl.sum(tl.where(is_t[:, None], ddt, 0.0), axis=0)
            tl.store(ddt_p + out, ddt, is_td)
            tl.store(du_p + out, du, is_td)
            if HAS_Z:
                y = _sum_states(sum_y, T, W, N_LANES, J)
                if HAS_D:
                    y += D * u
                tl.store(dz_p + out, slope * y, is_td)
        tl.debug_barrier()  # the carry was written by other threads than those that read it next
    if ONLY_CARRY:
        tl.store(span_p + part * d_inner + d, span, is_d)
    elif HAS_D:
        tl.store(dD_p + part * d_inner + d, dD, is_d)
    if not ONLY_CARRY and HAS_BIAS:
        tl.store(dbias_p + part * d_inner + d, dbias, is_d)
