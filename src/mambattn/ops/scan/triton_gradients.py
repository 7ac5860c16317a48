"""GPU kernel of the selective scan, backward; README.md says why it looks as it does."""

import triton
import triton.language as tl

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus
from mambattn.ops.scan.triton_kernels import forth, halve, pin, row, spread, sum_states


@triton.jit
def _back(a_2, e_2, g_2, c_2, a_1, e_1, g_1, c_1):
    """Join two stretches of g_t = x_t + e_{t+1}, e_t = a_t g_t, the later one first."""
    return a_1 * a_2, a_1 * e_2 + e_1, c_1 * e_2 + g_1, c_1 * a_2


@triton.jit
def _sum_channels(x, T: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr):
    """Sum x (T, W, N_LANES, J) over the channels, to (T, N_LANES)."""
    x = tl.sum(x, axis=1)
    if J == 32:
        x = halve(tl.reshape(x, [T, N_LANES, 16, 2]))
    if J >= 16:
        x = halve(tl.reshape(x, [T, N_LANES, 8, 2]))
    if J >= 8:
        x = halve(tl.reshape(x, [T, N_LANES, 4, 2]))
    if J >= 4:
        x = halve(tl.reshape(x, [T, N_LANES, 2, 2]))
    return tl.sum(x, axis=2)


@triton.jit
def scan_backward(
    u_p, dt_p, z_p, A_p, B_p, C_p, D_p, bias_p, reset_p, dy_p, states_p, carry_p, span_p,
    du_p, ddt_p, dz_p, dA_p, dB_p, dC_p, dD_p, dbias_p,
    u_batch, u_time, dt_batch, dt_time, z_batch, z_time, B_batch, B_time, B_group, C_batch, C_time, C_group,
    dy_batch, dy_time, du_batch, du_time,
    seq_len, d_inner, d_group, d_state, n_groups, n_blocks, n_chunks, chunk_tiles, n_tiles, n_slots, first_chunk, n_run,
    batch,
    T: tl.constexpr, W: tl.constexpr, N_LANES: tl.constexpr, J: tl.constexpr,
    SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_Z: tl.constexpr,
    HAS_RESET: tl.constexpr, ONLY_CARRY: tl.constexpr,
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
        A_at = A_p + d_4 * d_state
        carry_at = carry_p + part * d_state * d_inner + d_4
        state_at = states_p + (b * n_slots + tile) * d_state * d_inner + d_4
        dA_at = dA_p + part * d_state * d_inner + d_4
        is_tn = is_t[:, None] & (lane < d_state)[None, :]
        next_C = tl.load(C_p + t_1 * C_time + lane[None, :], is_tn, 0.0)
        next_A = tl.load(A_at + lane_4, (lane_4 < d_state) & is_d_4, 0.0)
        next_e = tl.load(carry_at + lane_4 * d_inner, (lane_4 < d_state) & is_d_4, 0.0)
        if not ONLY_CARRY:
            next_B = tl.load(B_p + t_1 * B_time + lane[None, :], is_tn, 0.0)
            next_h = tl.load(state_at + lane_4 * d_inner, (lane_4 < d_state) & is_d_4, 0.0)
            next_dA = tl.load(dA_at + lane_4 * d_inner, (lane_4 < d_state) & is_d_4, 0.0)
        u = pin(next_u.to(tl.float32))
        raw = pin(next_dt.to(tl.float32))
        dy = pin(next_dy.to(tl.float32))
        t_2 = t_1 - T
        is_td_2 = (t >= T)[:, None] & is_d[None, :]
        next_u = tl.load(u_p + t_2 * u_time + d[None, :], is_td_2, 0.0)
        next_dt = tl.load(dt_p + t_2 * dt_time + d[None, :], is_td_2, 0.0)
        next_dy = tl.load(dy_p + t_2 * dy_time + d[None, :], is_td_2, 0.0)
        if HAS_BIAS:
            raw += bias
        dt = raw
        if SOFTPLUS:
            dt = softplus(raw)
        dt = tl.where(is_t[:, None], dt, 0.0)
        slope = dy
        if HAS_Z:
            z = pin(tl.load(z_p + t_1 * z_time + d[None, :], is_td, 0.0).to(tl.float32))
            sigma = sigmoid(z)
            slope = dy * sigma * (1.0 + z * (1.0 - sigma))
            dy *= z * sigma
        dt_4 = spread(dt, T, W, J)
        dy_4 = spread(dy, T, W, J)
        if ONLY_CARRY:
            span += tl.sum(dt, axis=0)
        dtu_4 = spread(dt * u, T, W, J)
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
            next_e = tl.load(carry_at + m_4 * d_inner, (m_4 < d_state) & is_d_4, 0.0)
            if not ONLY_CARRY:
                B = next_B[:, None, :, None]
                h_0 = next_h
                dA = next_dA
                next_B = tl.load(B_p + t_1 * B_time + n[None, :], is_tm, 0.0)
                next_h = tl.load(state_at + m_4 * d_inner, (m_4 < d_state) & is_d_4, 0.0)
                next_dA = tl.load(dA_at + m_4 * d_inner, (m_4 < d_state) & is_d_4, 0.0)
            a = tl.exp2(dt_4 * (A * LOG2_E)[None])
            if HAS_RESET:
                reset = tl.load(reset_p + b * seq_len + t, is_t, 0)
                a = tl.where((reset > 0)[:, None, None, None], 0.0, a)
            x = dy_4 * C
            x = tl.where(end, x + e_in[None], x)
            # In the order of the scan that runs back; a flip along registers costs nothing.
            a_back, x_back = tl.flip(a, 0), tl.flip(x, 0)
            one = tl.full([T, W, N_LANES, J], 1.0, tl.float32)
            _, e, g, _ = tl.associative_scan((a_back, a_back * x_back, x_back, one), 0, _back)
            tl.store(carry_at + n_4 * d_inner, row(e, T - 1, T), is_nd)
            if not ONLY_CARRY:
                g = tl.flip(g, 0)
                x = dtu_4 * B
                from_0 = a * h_0[None]
                zero = tl.zeros([T, W, N_LANES, J], tl.float32)
                _, h, p, _ = tl.associative_scan(
                    (a, tl.where(first, from_0 + x, x), tl.where(first, from_0, zero), a), 0, forth
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
            gB = sum_states(sum_gB, T, W, N_LANES, J)
            ddt = sum_states(sum_qA, T, W, N_LANES, J) + u * gB
            if SOFTPLUS:
                ddt *= sigmoid(raw)
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
                y = sum_states(sum_y, T, W, N_LANES, J)
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
