"""A GPU kernel that does hardly anything but exponentials; imported only where triton is."""

import triton
import triton.language as tl


@triton.jit
def exponentiate(out_p, rounds, BLOCK: tl.constexpr):
    """Sum 2^x over changing x ≤ 0 in each lane, so many rounds."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = -(at % 16).to(tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for _ in range(rounds):
        total += tl.exp2(x)
        x -= 0.001
    tl.store(out_p + at, total)
