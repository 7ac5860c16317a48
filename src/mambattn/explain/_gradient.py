"""Where gradients are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["with_gradient"]


@contextmanager
def with_gradient() -> Iterator[None]:
    """Take gradients inside a ``with`` block, whatever modes it stands in.

    Yields
    ------
    None
        Nothing; the modes are restored at the end.

    Examples
    --------
    >>> with torch.inference_mode(), with_gradient():
    ...     torch.ones(1, requires_grad=True).exp().requires_grad
    True
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield
