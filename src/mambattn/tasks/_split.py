"""Which sequences are for training, which for validation, which for the test: each belongs to one, by its tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["SPLITS", "share", "split_of"]

SPLITS = ("train", "validation", "test")
_EIGHTHS = (2, 1, *[0] * 6)  # bucket 0 is for the test, 1 for validation, 2 to 7 are for training
_PRIME = 65521


def share(split: str) -> float:
    """Return the share of all sequences that the split holds."""
    return _EIGHTHS.count(SPLITS.index(split)) / len(_EIGHTHS)


def split_of(tokens: Tensor) -> Tensor:
    """Return the split of each row, as an index into `SPLITS`: shape (n,).

    With fixed coefficients c the bucket of a row t is ``(Σ_i c_i t_i mod 65521) mod 8``, in exact integers: c < 2**16
    and vocab <= 2**20 keep the sum below 2**63 for any length that fits into memory. It depends on nothing else, so
    that no sequence can be in two splits.
    """
    seq_len = tokens.shape[1]
    words = np.random.SeedSequence(seq_len).generate_state(seq_len)  # specified to be the same in every version
    coefficients = torch.from_numpy(words.astype(np.int64) % (_PRIME - 1) + 1).to(tokens.device)
    bucket = (tokens * coefficients).sum(1) % _PRIME % len(_EIGHTHS)
    return torch.tensor(_EIGHTHS, device=tokens.device)[bucket]
