"""Rotary positions."""

import torch
from torch import Tensor

__all__ = ["rotate"]


def rotate(x: Tensor, offset: int | Tensor = 0, *, base: float = 10_000.0) -> Tensor:
    """Turn queries or keys by their position (rotary positions; arXiv 2104.09864, section 3.2.2).

    Channels c and c + d_head/2 form a plane; at position p it is turned by the angle p · base^(−2c/d_head). The product
    of a turned query and a turned key depends on the difference of their positions only.

    Parameters
    ----------
    x : Tensor of shape (batch, seq_len, n_heads, d_head)
        Queries or keys; d_head is even.
    offset : int or Tensor, default 0
        Position of the first token, as a number or a tensor of one.
    base : float, default 10000
        Longest period over 2π, in tokens.

    Returns
    -------
    Tensor of shape (batch, seq_len, n_heads, d_head)
        The turned vectors, in the type of `x`.

    Examples
    --------
    >>> x = torch.randn(1, 6, 2, 8)
    >>> torch.allclose(rotate(x)[:, 4:], rotate(x[:, 4:], offset=4), atol=1e-6)
    True
    """
    seq_len, d_head = x.shape[1], x.shape[-1]
    # The angle is formed in float64: in float32 it is off by 0.03 rad at position 1e6.
    exponents = torch.arange(0, d_head, 2, device=x.device, dtype=torch.float64) / d_head
    positions = torch.arange(seq_len, device=x.device, dtype=torch.float64) + offset
    angles = torch.outer(positions, base**-exponents)[:, None, :]
    dtype = torch.promote_types(x.dtype, torch.float32)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).to(x.dtype)
