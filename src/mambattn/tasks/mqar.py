"""Multi-query associative recall, as in Zoology."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from mambattn._errors import ConfigError
from mambattn.configs._base import check_number
from mambattn.tasks._random import distinct, race
from mambattn.tasks.base import Batch, Task

__all__ = ["MultiQueryRecall"]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class MultiQueryRecall(Task):
    """Pairs of a key and a value come first; later each key comes once again and asks for its value.

    The first ``2 · kv_pairs`` tokens are key, value, key, value, …: different keys from the first half of the
    vocabulary, different values from the second half. In the rest of the sequence every second place, counted from
    its first, is a slot g = 1, 2, …; the key of each pair in turn takes a free slot with probability proportional to
    ``g ** (power_a - 1)``, so that most keys are asked for soon and some late. All other places are filled with tokens
    drawn uniformly from the whole vocabulary; one may happen to be a key, but it is not asked for.

    Parameters
    ----------
    vocab : int, default 8192
        Number of tokens, keys and values together.
    kv_pairs : int, default 4
        Number of pairs, each asked for once. The source goes from 4 at length 64 to 64 at length 512.
    power_a : float, default 0.01
        The power law of the slots, in (0, 1]; at 1 all are equally likely.

    Raises
    ------
    ConfigError
        If a setting is out of range, or half of the vocabulary is smaller than `kv_pairs`.

    Notes
    -----
    The source is arXiv 2312.04927 ("Zoology"), the synthetic task MQAR with random tokens between the queries.

    Examples
    --------
    Keys are below 10, values are not. The pairs are (2, 13) and (7, 19); the 2 at place 10 is a filler.

    >>> tokens, queries, targets = MultiQueryRecall(vocab=20, kv_pairs=2).draw(1, 12, seed=6)
    >>> tokens
    tensor([[ 2, 13,  7, 19,  2,  1,  0, 12,  7,  4,  2,  8]])
    >>> queries, targets
    (tensor([[4, 8]]), tensor([[13, 19]]))
    """

    vocab: int = 8192
    kv_pairs: int = 4
    power_a: float = 0.01

    NAMED: ClassVar = {"mqar": {}}

    def __post_init__(self) -> None:
        """Check the settings one by one and together."""
        super().__post_init__()
        check_number(self, "kv_pairs", low=1, integer=True)
        check_number(self, "power_a", low=0, high=1, open_low=True)
        object.__setattr__(self, "power_a", float(self.power_a))  # 1 and 1.0 are equal, so their names must be
        if self.kv_pairs > self.vocab // 2:
            raise ConfigError(
                f"`kv_pairs` must be at most half of `vocab`, however kv_pairs={self.kv_pairs}, vocab={self.vocab}. "
                f"Use kv_pairs={self.vocab // 2}, or vocab={2 * self.kv_pairs} or more."
            )

    @property
    def n_queries(self) -> int:
        """Number of answers asked for in a sequence."""
        return self.kv_pairs

    @property
    def chance(self) -> float:
        """Accuracy of always guessing one value."""
        return 1 / (self.vocab - self.vocab // 2)

    @property
    def min_length(self) -> int:
        """Shortest sequence: the pairs, and a slot of two tokens for each."""
        return 4 * self.kv_pairs

    def _sample(self, n: int, seq_len: int, generator: torch.Generator) -> Batch:
        k, half, device = self.kv_pairs, self.vocab // 2, generator.device
        tokens = torch.randint(self.vocab, (n, seq_len), generator=generator, device=device)
        keys = distinct(n, k, half, generator)
        values = half + distinct(n, k, self.vocab - half, generator)
        gaps = torch.arange(1, (seq_len - 2 * k) // 2 + 1, device=device, dtype=torch.float64)
        slots, order = race(n, k, gaps ** (self.power_a - 1), generator).sort(1)
        queries = 2 * k + 2 * slots
        tokens[:, 0 : 2 * k : 2], tokens[:, 1 : 2 * k : 2] = keys, values
        tokens.scatter_(1, queries, keys.gather(1, order))
        return Batch(tokens, queries, values.gather(1, order))
