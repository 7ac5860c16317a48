"""What the GPU kernels of `ssd` share: the tiles of a chunk, and what survives in it."""

import triton
import triton.language as tl

__all__ = ["chunk_decays", "rows_of", "runs_of", "states_of", "token_at"]


@triton.jit
def chunk_decays(dt_p, high_p, low_p, run_p, start, offsets, seq_len, Q: tl.constexpr):
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
        run = runs_of(run_p, start, offsets, seq_len)
        from_start = tl.where(run == before, from_start, 0.0)
        to_end = tl.where(run == last, to_end, 0.0)
        across = tl.where(before == last, across, 0.0)
    return dt, high, low, from_start, to_end, across


@triton.jit
def runs_of(run_p, start, offsets, seq_len):
    """Give the numbers of a chunk's sequences; past the end it does not matter which."""
    return tl.load(run_p + start + offsets, mask=start + offsets < seq_len, other=0)


@triton.jit
def token_at(p, token, stride):
    """Give where a token lies. Offsets within its chunk, and within a state, take 32 bits, and so fewer registers."""
    return p + tl.cast(token, tl.int64) * stride


@triton.jit
def rows_of(p, start, offsets, stride, columns, n_tokens, n_columns, DOT: tl.constexpr):
    """Load a tile (token, column), with zeros where there is nothing."""
    inside = (start + offsets < n_tokens)[:, None] & (columns < n_columns)[None, :]
    at = offsets[:, None] * stride + columns[None, :]
    return tl.load(token_at(p, start, stride) + at, mask=inside, other=0.0).to(DOT)


@triton.jit
def states_of(p, index, n_heads, head, d_head, d_state, channels, states):
    """Give where the states of a head lie in (…, n_heads, d_head, d_state), and which of them exist."""
    inside = (channels < d_head)[:, None] & (states < d_state)[None, :]
    return p + (index * n_heads + head) * d_head * d_state + (channels[:, None] * d_state + states[None, :]), inside
