"""What every task shares: a name, a check of the arguments, and draws that keep the splits apart."""

from __future__ import annotations

import abc
import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, NoReturn

import torch
from torch import Tensor

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError
from mambattn.configs._base import Config, check_number
from mambattn.tasks._random import make_generator
from mambattn.tasks._split import SPLITS, share, split_of

__all__ = ["Batch", "Task"]

_MOST_TOKENS = 2**22  # drawn at once: 32 MiB
_PATIENCE = 2**14  # sequences drawn before a split counts as empty


class Batch(NamedTuple):
    """Sequences, the positions at which a token is asked for, and the tokens to be given there.

    Parameters
    ----------
    tokens : Tensor of int64, (n, seq_len)
        The sequences.
    queries : Tensor of int64, (n, n_queries)
        Positions in the sequence, ascending in each row.
    targets : Tensor of int64, (n, n_queries)
        The right answer at each of them.
    """

    tokens: Tensor
    queries: Tensor
    targets: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Task(Config, abc.ABC):
    """Base of the tasks: settings that are checked when it is made, and a pure `draw`.

    Parameters
    ----------
    vocab : int
        Number of tokens, markers included: 4 to 2**20.
    """

    vocab: int

    NAMED: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What the class goes by: the settings that differ from its defaults, by name."""

    def __post_init__(self) -> None:
        """Check what all tasks have."""
        self._to_builtin()
        check_number(self, "vocab", low=4, high=2**20, integer=True)

    @property
    def name(self) -> str:
        """The text that `parse_task` turns into this task; equal tasks have the same one."""
        texts = []
        for name, changes in self.NAMED.items():
            named = type(self)(**changes)
            differing = (key for key in sorted(self.field_names()) if getattr(self, key) != getattr(named, key))
            texts.append([name, *(f"{key}={getattr(self, key)}" for key in differing)])
        return ":".join(min(texts, key=len))

    @property
    @abc.abstractmethod
    def n_queries(self) -> int:
        """Number of answers asked for in a sequence."""

    @property
    @abc.abstractmethod
    def chance(self) -> float:
        """Accuracy of the best guess without looking at the sequence."""

    @property
    @abc.abstractmethod
    def min_length(self) -> int:
        """Shortest sequence that holds the task."""

    @abc.abstractmethod
    def _sample(self, n: int, seq_len: int, generator: torch.Generator) -> Batch:
        """Draw sequences of any split."""

    def draw(
        self,
        n: int,
        seq_len: int,
        *,
        seed: int | tuple[int, ...],
        split: str = "train",
        device: str | torch.device = "cpu",
    ) -> Batch:
        """Draw sequences of one split.

        The splits share no sequence: each sequence is in one of them by a hash of its tokens (6/8 training, 1/8
        validation, 1/8 test), and a draw leaves out those of the others.

        Parameters
        ----------
        n : int
            How many.
        seq_len : int
            Number of tokens of each, queries included.
        seed : int or tuple of int
            Seed. The same arguments give the same batch on a device, in every process; no global generator is touched.
        split : {"train", "validation", "test"}, default "train"
            Which sequences.
        device : str or torch.device, default "cpu"
            Where to draw. Devices of different types give different sequences.

        Returns
        -------
        Batch
            Tokens (n, seq_len), queries (n, n_queries) and targets (n, n_queries).

        Raises
        ------
        ConfigError
            If an argument cannot hold, or the task has no sequence in the split at this length.

        Examples
        --------
        >>> from mambattn.tasks import parse_task
        >>> tokens, queries, targets = parse_task("recall").draw(64, 32, seed=(0, 1), split="test")
        >>> tokens.shape, queries.shape, targets.shape
        (torch.Size([64, 32]), torch.Size([64, 4]), torch.Size([64, 4]))
        """
        n, seq_len = _integer("n", n, 1), _integer("seq_len", seq_len, 1)
        if seq_len < self.min_length:
            raise ConfigError(
                f"`seq_len` must be at least {self.min_length} for the task {self.name}, however seq_len={seq_len}. "
                f"Use seq_len={self.min_length} or more, or another setting of the task."
            )
        if split not in SPLITS:
            hint = did_you_mean(split, SPLITS)
            raise ConfigError(f"`split` must be one of {', '.join(map(repr, SPLITS))}, however split={split!r}.{hint}")
        seeds = tuple(_integer("seed", part) for part in (seed if isinstance(seed, tuple) else (seed,)))
        generator = make_generator(device, self.name, seq_len, split, seeds)
        parts: list[Batch] = []
        n_drawn = n_kept = 0
        while n_kept < n:
            if not n_kept and n_drawn >= _PATIENCE:
                self._refuse_split(split, seq_len)
            n_more = math.ceil(1.1 * (n - n_kept) / share(split)) + 16
            batch = self._sample(min(n_more, max(1, _MOST_TOKENS // seq_len)), seq_len, generator)
            rows = (split_of(batch.tokens) == SPLITS.index(split)).nonzero()[: n - n_kept, 0]
            parts.append(Batch(*(part[rows] for part in batch)))
            n_drawn, n_kept = n_drawn + len(batch.tokens), n_kept + len(rows)
        return Batch(*map(torch.cat, zip(*parts, strict=True)))

    def _refuse_split(self, split: str, seq_len: int) -> NoReturn:
        raise ConfigError(
            f"`split` must have sequences, however split={split!r} has none among {_PATIENCE} of the task {self.name} "
            f"of seq_len={seq_len}: there are too few different ones. Use a larger seq_len or vocab."
        )


def _integer(name: str, value: Any, low: int | None = None) -> int:
    """Return the argument as an int, or raise `ConfigError` unless it is one, and not too small."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"`{name}` must be an integer, however {name}={value!r}. Use {name}={low or 0}.") from None
    if low is not None and number < low:
        raise ConfigError(f"`{name}` must be at least {low}, however {name}={number}. Use {name}={low} or more.")
    return number
