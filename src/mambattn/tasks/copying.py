"""Selective copying: repeat the data, skip the noise."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from mambattn.configs._base import check_number
from mambattn.tasks._random import distinct
from mambattn.tasks.base import Batch, Task

__all__ = ["SelectiveCopy"]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SelectiveCopy(Task):
    """Data tokens stand at random places among noise; at the end they are asked for, in order.

    The last id of the vocabulary is the copy marker, the one before it noise, all others are data. `n_copied` data
    tokens, drawn uniformly and with repetition, stand at different places, drawn uniformly from the first
    ``seq_len - n_copied``; the other places hold noise. The last `n_copied` tokens are copy markers: the target at the
    i-th is the i-th data token.

    Parameters
    ----------
    vocab : int, default 16
        Number of tokens, noise and copy marker included.
    n_copied : int, default 8
        Number of data tokens. The source copies 16 in sequences of 4096.

    Raises
    ------
    ConfigError
        If a setting is out of range.

    Notes
    -----
    The source is arXiv 2312.00752, section 4.1.1; the sizes that it used are in its appendix E.1.

    Examples
    --------
    Data is 0 to 3, noise is 4, and 5 asks:

    >>> tokens, queries, targets = SelectiveCopy(vocab=6, n_copied=3).draw(1, 12, seed=8)
    >>> tokens
    tensor([[4, 2, 4, 4, 4, 4, 0, 4, 1, 5, 5, 5]])
    >>> queries, targets
    (tensor([[ 9, 10, 11]]), tensor([[2, 0, 1]]))
    """

    vocab: int = 16
    n_copied: int = 8

    NAMED: ClassVar = {"selective_copy": {}}

    def __post_init__(self) -> None:
        """Check the settings one by one."""
        super().__post_init__()
        check_number(self, "n_copied", low=1, integer=True)

    @property
    def n_queries(self) -> int:
        """Number of answers asked for in a sequence."""
        return self.n_copied

    @property
    def chance(self) -> float:
        """Accuracy of always guessing one data token."""
        return 1 / (self.vocab - 2)

    @property
    def min_length(self) -> int:
        """Shortest sequence: the data and its copy, without noise."""
        return 2 * self.n_copied

    def _sample(self, n: int, seq_len: int, generator: torch.Generator) -> Batch:
        body, device = seq_len - self.n_copied, generator.device
        data = torch.randint(self.vocab - 2, (n, self.n_copied), generator=generator, device=device)
        places = distinct(n, self.n_copied, body, generator).sort(1).values
        tokens = torch.full((n, seq_len), self.vocab - 2, device=device).scatter_(1, places, data)
        tokens[:, body:] = self.vocab - 1
        return Batch(tokens, torch.arange(body, seq_len, device=device).expand(n, self.n_copied), data)
