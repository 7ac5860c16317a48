"""Associative recall: what stood tau tokens after this marker?"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from mambattn._errors import ConfigError
from mambattn.configs._base import check_number
from mambattn.tasks._random import distinct
from mambattn.tasks.base import Batch, Task

__all__ = ["AssociativeRecall"]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class AssociativeRecall(Task):
    """Markers stand once each in random tokens; asked for is the token `tau` places after each.

    The last `markers` ids of the vocabulary are markers, the others ordinary tokens. The body, the first
    ``seq_len - queries`` tokens, is drawn uniformly from the ordinary tokens; then `queries` different markers, drawn
    from all markers, replace the tokens at different places p, drawn from those with ``p + tau`` inside the body. The
    last `queries` tokens are these markers again, in random order. The target at each is the body's token at
    ``p + tau``, whatever stands there: where there are several queries, it may be another marker.

    Four of them have names:

    ================  =======  =========  =========  =====
    name              `vocab`  `markers`  `queries`  `tau`
    ================  =======  =========  =========  =====
    ``induction``     16       1          1          1
    ``delay``         16       1          1          5
    ``recall``        32       16         4          1
    ``recall_delay``  32       16         4          5
    ================  =======  =========  =========  =====

    Parameters
    ----------
    vocab : int, default 16
        Number of tokens, markers included.
    markers : int, default 1
        How many of them are markers.
    queries : int, default 1
        Number of markers in a body, each asked for once.
    tau : int, default 1
        Places from a marker to its answer.

    Raises
    ------
    ConfigError
        If a setting is out of range, there are fewer than two ordinary tokens, or fewer markers than queries.

    Notes
    -----
    One marker and ``tau=1`` is the induction head task of arXiv 2312.00752, section 4.1.2; several markers follow the
    associative recall of arXiv 2212.14052, section 3.1. The delay `tau` is a generalisation of both.

    Examples
    --------
    Token 15 is the marker: it stands at place 3, and two places after it stands 7. Place 9 asks.

    >>> AssociativeRecall(tau=2).draw(1, 10, seed=10)
    Batch(tokens=tensor([[ 4, 12,  9, 15, 10,  7,  1,  5, 12, 15]]), queries=tensor([[9]]), targets=tensor([[7]]))

    Of the markers 4 to 7, two are drawn, 7 and 4. Here one stands right after the other, and so is its answer:

    >>> tokens, queries, targets = AssociativeRecall(vocab=8, markers=4, queries=2).draw(1, 12, seed=7)
    >>> tokens
    tensor([[2, 3, 0, 7, 4, 1, 3, 3, 3, 1, 7, 4]])
    >>> queries, targets
    (tensor([[10, 11]]), tensor([[4, 1]]))
    """

    vocab: int = 16
    markers: int = 1
    queries: int = 1
    tau: int = 1

    NAMED: ClassVar = {
        "induction": {},
        "recall": {"vocab": 32, "markers": 16, "queries": 4},
        "delay": {"tau": 5},
        "recall_delay": {"vocab": 32, "markers": 16, "queries": 4, "tau": 5},
    }

    def __post_init__(self) -> None:
        """Check the settings one by one and together."""
        super().__post_init__()
        check_number(self, "queries", low=1, integer=True)
        check_number(self, "tau", low=1, integer=True)
        check_number(self, "markers", low=1, high=self.vocab - 2, integer=True)
        if self.queries > self.markers:
            raise ConfigError(
                f"`queries` must be at most `markers`, however queries={self.queries}, markers={self.markers}. "
                f"Use queries={self.markers}, or markers={self.queries} or more."
            )

    @property
    def n_queries(self) -> int:
        """Number of answers asked for in a sequence."""
        return self.queries

    @property
    def chance(self) -> float:
        """Accuracy of always guessing one ordinary token, where no target is a marker, as in long sequences."""
        return 1 / (self.vocab - self.markers)

    @property
    def min_length(self) -> int:
        """Shortest sequence: as many places for markers as queries, `tau` tokens after them, and the queries."""
        return 2 * self.queries + self.tau

    def _sample(self, n: int, seq_len: int, generator: torch.Generator) -> Batch:
        body, device = seq_len - self.queries, generator.device
        n_ordinary = self.vocab - self.markers
        tokens = torch.randint(n_ordinary, (n, seq_len), generator=generator, device=device)
        places = distinct(n, self.queries, body - self.tau, generator)  # in random order, and so are the queries
        markers = n_ordinary + distinct(n, self.queries, self.markers, generator)
        tokens.scatter_(1, places, markers)
        tokens[:, body:] = markers
        queries = torch.arange(body, seq_len, device=device).expand(n, self.queries)
        return Batch(tokens, queries, tokens.gather(1, places + self.tau))
