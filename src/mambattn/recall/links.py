"""The links of a claimed order, and what the seeds say about each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError
from mambattn._plain import PlainData
from mambattn.recall import _table
from mambattn.recall.architectures import parse_architecture
from mambattn.recall.claims import CHAIN, MARGIN, MIN_SEEDS, judge, parse_chain
from mambattn.recall.statistics import t_interval

if TYPE_CHECKING:
    from mambattn.recall.results import Results

__all__ = ["Link", "Links", "measure_links"]


@dataclass(frozen=True)
class Link(PlainData):
    """One claim on one task, and the verdict; see `judge` for what the words mean.

    Parameters
    ----------
    task : str
        Name of the task.
    left : str
        Architecture on the left of the claim.
    claim : {"<", "≈"}
        What is claimed.
    right : str
        Architecture on the right.
    n : int
        Seeds that both have.
    difference : float
        Mean over these seeds of the right one's score minus the left one's; NaN where there are none.
    low, high : float
        95 % interval of it, by Student's t; NaN for fewer than two seeds.
    verdict : {"holds", "reversed", "tie", "undecided"}
        The answer.
    reason : str
        Why, in a few words.
    """

    task: str
    left: str
    claim: str
    right: str
    n: int
    difference: float
    low: float
    high: float
    verdict: str
    reason: str


@dataclass(frozen=True)
class Links(_table.Printed):
    """Every link of a chain on every task; it prints itself, with ``print`` and on a rich console.

    Parameters
    ----------
    links : tuple of Link
        Task by task, in the order of the chain.
    lengths : tuple of int
        Lengths whose mean accuracy is a seed's score.
    """

    links: tuple[Link, ...]
    lengths: tuple[int, ...]

    def __iter__(self) -> Iterator[Link]:
        return iter(self.links)

    def __len__(self) -> int:
        return len(self.links)

    def _draw(self, width: int) -> Iterator[RenderableType]:
        return _table.draw_links(self, width)


def measure_links(results: Results, chain: str | None, lengths: Sequence[int] | None) -> Links:
    """Judge each link of a chain on every task; the arguments are those of `Results.links`.

    Parameters
    ----------
    results : Results
        What was measured.
    chain : str or None
        The claim; None is the published one.
    lengths : sequence of int or None
        Lengths to score by; None is all beyond the training length.

    Returns
    -------
    Links
        Task by task, in the order of the chain.

    Raises
    ------
    ConfigError
        If the chain cannot be read or names an architecture that is not in the study, or a length was not tested.
    """
    claims, scored = _claims(results, chain), _lengths(results, lengths)
    found = (_measure(results, task, *claim, scored) for task in results.settings["tasks"] for claim in claims)
    return Links(tuple(found), scored)


def _claims(results: Results, chain: str | None) -> Sequence[tuple[str, str, str]]:
    archs = results.settings["archs"]
    if chain is None:
        meant = {_meaning(name): name for name in archs}
        own = [
            (meant.get(_meaning(left)), claim, meant.get(_meaning(right))) for left, claim, right in parse_chain(CHAIN)
        ]
        return [(left, claim, right) for left, claim, right in own if left and right]
    claims = parse_chain(chain)
    for name in (name for left, _, right in claims for name in (left, right)):
        if name not in archs:
            hint = did_you_mean(name, archs, otherwise=f"There are {', '.join(archs)}.")
            raise ConfigError(
                f"`chain` must link architectures of the study, however chain={chain!r} names {name!r}.{hint}"
            )
    return claims


def _meaning(name: str) -> Any:
    """Give what is the same for a named architecture and its schedule: "mamba" is "MM"."""
    try:
        return parse_architecture(name).meaning
    except ConfigError:  # a name of one's own
        return name


def _lengths(results: Results, lengths: Sequence[int] | None) -> tuple[int, ...]:
    tested, train_length = results.settings["lengths"], results.settings.get("train_length")
    mend = f"Use some of {', '.join(map(str, tested))}."
    if lengths is None:
        if train_length is None:
            raise ConfigError(
                f"`lengths` must be given where no training length is known, however lengths=None. {mend}"
            )
        return tuple(length for length in tested if length > train_length)
    if not len(lengths) or len(set(lengths)) < len(lengths) or not set(lengths) <= set(tested):
        raise ConfigError(
            f"`lengths` must be different lengths that were tested, however lengths={list(lengths)}. {mend}"
        )
    return tuple(int(length) for length in lengths)


def _measure(results: Results, task: str, left: str, claim: str, right: str, lengths: Sequence[int]) -> Link:
    unfinished = [arch for arch in (left, right) if not results.is_finished(task, arch)]
    if unfinished or not lengths:
        why = f"{' and '.join(unfinished)} unfinished" if unfinished else "nothing tested beyond the training length"
        return Link(task, left, claim, right, 0, math.nan, math.nan, math.nan, "undecided", why)
    scores = [
        {row.seed: math.fsum(row.accuracy[length] for length in lengths) / len(lengths) for row in rows}
        for rows in (results.rows_of(task, left), results.rows_of(task, right))
    ]
    differences = [scores[1][seed] - scores[0][seed] for seed in sorted(scores[0].keys() & scores[1].keys())]
    n = len(differences)
    difference = math.fsum(differences) / n if n else math.nan
    low, high = t_interval(differences) if n else (math.nan, math.nan)
    if n < MIN_SEEDS:
        verdict, why = "undecided", f"paired seeds: {n}, needed: {MIN_SEEDS}"
    else:
        verdict = judge(claim, low, high)
        why = _reason(verdict, claim, right if difference > 0 else left)
    unsolved = [said for arch in (left, right) if (said := _unsolved(results, task, arch))]
    if unsolved:
        why += f" ({', '.join(unsolved)})"
    return Link(task, left, claim, right, n, difference, low, high, verdict, why)


def _unsolved(results: Results, task: str, arch: str) -> str:
    """Name an architecture most of whose seeds lack the task where they trained: its fall says little of length."""
    solved = [row.solved for row in results.rows_of(task, arch)]
    return f"{arch} solved {sum(solved)}/{len(solved)}" if 2 * sum(solved) < len(solved) else ""


def _reason(verdict: str, claim: str, ahead: str) -> str:
    if verdict == "undecided":
        return "interval too wide"
    if verdict == "tie" or (verdict, claim) == ("holds", "≈"):
        return f"within ±{MARGIN}"
    return f"{ahead} ahead"
