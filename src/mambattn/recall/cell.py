"""One cell of a study: a task and an architecture, all seeds and learning rates trained as one population."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn.recall.architectures import parse_architecture
from mambattn.recall.network import RecallNetwork
from mambattn.recall.study import Study
from mambattn.tasks import Batch, Task, parse_task
from mambattn.training.optim import cosine
from mambattn.training.population import Population, PopulationAdam
from mambattn.training.seeding import seeded

__all__ = ["CellTraining", "Tally", "make_network", "members_of", "training_batches"]

_BLOCK = 100
"""Training steps whose sequences are drawn at once."""
_TEST_TOKENS = {"cpu": 1 << 16}
_TEST_TOKENS_ELSEWHERE = 1 << 20
"""Tokens that all members together read at once in a test."""

_LARGE = 1 << 15
"""Numbers of a member's tokens from which on a CPU is faster with one member after the other."""

_log = logging.getLogger(__name__)


class Tally(NamedTuple):
    """What a test has counted so far; plain numbers, so that it can be kept as JSON to the bit.

    Parameters
    ----------
    n : int
        Sequences read.
    right : list of float
        Of each member, queries answered rightly.
    loss : list of float
        Of each member, the sum of the cross-entropies in nats.
    """

    n: int
    right: list[float]
    loss: list[float]

    def means(self, n_asked: int) -> tuple[list[float], list[float]]:
        """Give accuracy and mean loss of each member.

        Parameters
        ----------
        n_asked : int
            Queries of all sequences.

        Returns
        -------
        tuple of list of float
            Accuracies and losses.
        """
        return [x / n_asked for x in self.right], [x / n_asked for x in self.loss]


def members_of(study: Study) -> tuple[tuple[int, float], ...]:
    """List the members of a cell: seed and learning rate, seed by seed.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    tuple of (int, float)
        One pair a member.
    """
    return tuple((seed, lr) for seed in study.seeds for lr in study.lrs)


def make_network(study: Study, task: Task, arch: str, seed: int) -> RecallNetwork:
    """Draw the network that a seed starts with.

    Parameters
    ----------
    study : Study
        The study.
    task : Task
        Whose tokens it reads.
    arch : str
        Its architecture.
    seed : int
        The seed; learning rates of one seed start alike.

    Returns
    -------
    RecallNetwork
        The network, on the CPU.
    """
    with seeded(seed):
        return RecallNetwork(
            parse_architecture(arch),
            vocab=task.vocab,
            max_length=max(*study.lengths, study.train_length),
            train_length=study.train_length,
            d_model=study.d_model,
            n_heads=study.n_heads,
            d_state=study.d_state,
            norm_position=study.norm_position,
            mlp=study.mlp,
        )


def training_batches(study: Study, task: Task, seed: int, block: int, device: torch.device | str = "cpu") -> Batch:
    """Draw the sequences of a block of training steps.

    Parameters
    ----------
    study : Study
        The study.
    task : Task
        The task.
    seed : int
        The member's seed; all architectures see the same sequences.
    block : int
        Number of the block, from 0.
    device : torch.device or str, default "cpu"
        Where they are drawn.

    Returns
    -------
    Batch
        Tensors (n_steps, batch, ...).
    """
    drawn = task.draw(_BLOCK * study.batch, study.train_length, seed=(seed, block), split="train", device=device)
    return Batch(*(x.unflatten(0, (_BLOCK, study.batch)) for x in drawn))


class CellTraining:
    """Trains the members of a cell together.

    Parameters
    ----------
    study : Study
        The study.
    task : str
        Name of the task.
    arch : str
        Name of the architecture.
    device : torch.device
        Where to train.
    dtype : torch.dtype, default torch.float32
        Type of the weights.
    """

    def __init__(
        self, study: Study, task: str, arch: str, device: torch.device, *, dtype: torch.dtype = torch.float32
    ) -> None:
        self.study = study
        self.task = parse_task(task)
        self.device = device
        members = members_of(study)
        networks = {seed: make_network(study, self.task, arch, seed).to(device, dtype) for seed in study.seeds}
        n_numbers = study.batch * study.train_length * study.d_model
        self.population = Population(
            [networks[seed] for seed, _ in members], apart=device.type == "cpu" and n_numbers >= _LARGE
        )
        self.adam = PopulationAdam(
            self.population,
            torch.tensor([lr for _, lr in members], dtype=torch.float64),
            study.steps,
            _SCHEDULES[study.lr_schedule],
            betas=study.betas,
            clip=study.clip,
        )
        self.n_done = self._n_start = 0
        self.loss = torch.zeros(len(members), device=device, dtype=dtype)
        self._block: Batch | None = None
        self._replay: Callable[[], None] | None = None

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of `PopulationAdam.state`.

        Parameters
        ----------
        state : mapping of str to Tensor
            The state.
        """
        self.adam.load_state(state)
        self.n_done = self._n_start = int(self.adam.step_number)
        if self.n_done % _BLOCK:
            self._draw(self.n_done // _BLOCK)

    def step(self) -> None:
        """Take the next training step."""
        if self.n_done % _BLOCK == 0:
            self._draw(self.n_done // _BLOCK)
        if self.device.type == "cuda" and self.n_done == self._n_start:
            self._replay = self._capture()
        if self._replay is None:
            self._advance()
        else:
            self._replay()
        self.n_done += 1

    def measure(self, members: Sequence[int], seq_len: int, n: int, split: str) -> tuple[list[float], list[float]]:
        """Test members on sequences that all of them share.

        Parameters
        ----------
        members : sequence of int
            Which ones.
        seq_len : int
            Tokens of a sequence.
        n : int
            Number of sequences.
        split : {"validation", "test"}
            Of which part of all sequences.

        Returns
        -------
        accuracy : list of float
            Of each member, the share of the queries answered rightly.
        loss : list of float
            Of each member, the mean cross-entropy in nats.
        """
        *_, tally = self.tallies(members, seq_len, n, split)
        return tally.means(n * self.task.n_queries)

    def tallies(
        self, members: Sequence[int], seq_len: int, n: int, split: str, before: Tally | None = None
    ) -> Iterator[Tally]:
        """Test members a few sequences at a time, so that a long test can be kept and go on.

        Parameters
        ----------
        members, seq_len, n, split
            As in `measure`.
        before : Tally or None, default None
            Where an earlier test came to.

        Yields
        ------
        Tally
            What there is so far; the last one is of all `n` sequences.
        """
        batch = self.task.draw(n, seq_len, seed=0, split=split, device=self.device)
        weights = self.population.weights.detach()[list(members)]
        limit = _TEST_TOKENS.get(self.device.type, _TEST_TOKENS_ELSEWHERE)
        n_rows = max(1, limit // (len(members) * seq_len))
        tally = before or Tally(0, [0.0] * len(members), [0.0] * len(members))
        while tally.n < n:
            here = slice(tally.n, min(tally.n + n_rows, n))
            tokens, queries, targets = (x[here].expand(len(members), -1, -1) for x in batch)
            with torch.no_grad():
                logits = self.population(tokens, queries, weights=weights)
                right = (logits.argmax(-1) == targets).double().sum((1, 2))
                loss = _cross_entropy(logits, targets).double().sum((1, 2))
            tally = Tally(here.stop, _added(tally.right, right), _added(tally.loss, loss))
            yield tally

    def _draw(self, block: int) -> None:
        drawn = [training_batches(self.study, self.task, seed, block, self.device) for seed in self.study.seeds]
        stacked = Batch(*(torch.stack(x, dim=1) for x in zip(*drawn, strict=True)))
        if self._block is None:
            self._block = stacked
        else:  # in place: a captured step reads this memory
            for old, new in zip(self._block, stacked, strict=True):
                old.copy_(new)

    def _advance(self) -> None:
        """Take a step from what lies on the device alone, so that it can be captured."""
        assert self._block is not None
        now = self.adam.step_number % _BLOCK
        n_lrs = len(self.study.lrs)
        tokens, queries, targets = (x.index_select(0, now)[0].repeat_interleave(n_lrs, dim=0) for x in self._block)
        loss = _cross_entropy(self.population(tokens, queries), targets).mean((1, 2))
        (gradient,) = torch.autograd.grad(loss.sum(), self.population.weights)
        self.adam.step(gradient)
        self.loss.copy_(loss.detach())

    def _capture(self) -> Callable[[], None] | None:
        """Make a CUDA graph of a step; where that does not work, None, and steps go on one launch at a time."""
        before = {name: tensor.clone() for name, tensor in self.adam.state().items()}
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        try:
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self._advance()
                    self.adam.load_state(before)  # a step beyond the last would look beyond the schedule
            torch.cuda.current_stream(self.device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._advance()
        except RuntimeError as error:
            _log.warning("A training step could not be captured as a CUDA graph and runs launch by launch: %s", error)
            self.adam.load_state(before)
            return None
        self.adam.load_state(before)
        return graph.replay


def _added(before: list[float], more: Tensor) -> list[float]:
    return [a + b for a, b in zip(before, more.tolist(), strict=True)]


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Give the losses (members, batch, queries) of logits (members, batch, queries, vocab)."""
    return F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none").view_as(targets)


_SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "constant": lambda share: 1.0}
