"""Draws of whole batches from a generator of its own, without a loop over rows."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from mambattn._errors import ConfigError

__all__ = ["distinct", "make_generator", "race"]


def make_generator(device: str | torch.device, *parts: object) -> torch.Generator:
    """Make a generator on the device, seeded by the text of the parts: the same in every process and version."""
    try:
        generator = torch.Generator(device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ConfigError(
            f"`device` must be a device that this machine has, however device={device!r}. Use device='cpu'."
        ) from error
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return generator.manual_seed(int.from_bytes(digest, "big"))


def distinct(n: int, k: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw k distinct integers below size a row, each ordered choice equally likely: shape (n, k).

    Digit i is drawn below size − i and means "the digit-th smallest of what digits 0 … i−1 have left" (the Lehmer
    code of the choice). Undoing the removals from the last to the first turns digits into integers.
    """
    left = torch.arange(size, size - k, -1, device=generator.device, dtype=torch.float64)
    drawn = torch.rand(n, k, generator=generator, device=generator.device, dtype=torch.float64)
    chosen = (drawn * left).long()
    for i in reversed(range(k - 1)):
        later = chosen[:, i + 1 :]
        later += later >= chosen[:, i : i + 1]
    return chosen


def race(n: int, k: int, weights: Tensor, generator: torch.Generator) -> Tensor:
    """Draw k distinct indices a row, one after the other in proportion to the weights left: shape (n, k).

    Index i arrives after an exponential time of rate weights[i]; the first k, in order of arrival, are such a draw.
    """
    times = torch.empty(n, len(weights), device=generator.device, dtype=torch.float64)
    times.exponential_(generator=generator).div_(weights)
    return times.topk(k, dim=1, largest=False).indices
