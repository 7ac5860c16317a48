"""The answer in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mambattn.plots import decimals, format_number, metric_label

if TYPE_CHECKING:
    from mambattn.compare.results import Comparison, ModelResult

__all__ = ["verdict"]

_ANSWERS = {"both": "Both", "mamba": "Mamba", "attention": "Attention"}
_NAMES = {"both": "the hybrid", "mamba": "Mamba", "attention": "attention"}
_STACKS = {"both": "hybrid stacks", "mamba": "pure Mamba stacks", "attention": "pure attention stacks"}
_RIVALS = {"boosting": "boosting", "linear": "the linear model", "network without mixer": None, "dummy": "guessing"}


@dataclass(frozen=True)
class _Lead:
    """How far one row is ahead of another, negative where it is behind, and the interval of it."""

    over: str
    over_of: int
    difference: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        return self.low > 0

    @property
    def is_behind(self) -> bool:
        return self.high < 0


def verdict(comparison: Comparison) -> str:
    """Answer in one line, with one more about the yardsticks where there are mixers to hold against them."""
    answer = " ".join(part for part in (_answer(comparison), _cut(comparison)) if part)
    return "\n".join(line for line in (answer, _yardsticks(comparison)) if line)


def _leads(comparison: Comparison, leader: str, others: Sequence[str]) -> dict[str, _Lead]:
    """Return the leader's lead over each other group, as far as such rows are there."""
    leads = {}
    for other in others:
        for name, sign in ((f"{leader} - {other}", 1), (f"{other} - {leader}", -1)):
            if name in comparison.contrasts:
                found = comparison.contrasts[name]
                ends = sorted([sign * found["ci_low"], sign * found["ci_high"]])
                row = "b" if sign > 0 else "a"
                leads[other] = _Lead(found[row], found[f"{row}_of"], sign * found["difference"], *ends)
    return leads


class _Words:
    """Writes the differences of one comparison with the same decimals; the first interval says what it is."""

    def __init__(self, comparison: Comparison) -> None:
        self._digits = decimals(row.mean for row in comparison.rows)
        self._named = False

    def number(self, value: float) -> str:
        return format_number(value, self._digits)

    def interval(self, low: float, high: float) -> str:
        kind = "" if self._named else "95 % interval "
        self._named = True
        return f"{kind}{self.number(low)} to {self.number(high)}"

    def ahead(self, lead: _Lead) -> str:
        return f"{self.number(lead.difference)} ({self.interval(lead.low, lead.high)})"

    def behind(self, lead: _Lead) -> str:
        return f"{self.number(-lead.difference)} ({self.interval(-lead.high, -lead.low)})"

    def level(self, lead: _Lead) -> str:
        return f"(difference {self.number(lead.difference)}, {self.interval(lead.low, lead.high)})"


def _listed(parts: Sequence[str]) -> str:
    """Join with commas, and the last with "and"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _chosen(name: str, of: int, family: str) -> str:
    """Name a row, and say so where it was picked from several on the same rows that it is judged by."""
    return name if of == 1 else f"{name} (the best of {of} {_STACKS[family]}, picked on these same rows)"


def _answer(comparison: Comparison) -> str:
    mixers: dict[str, list[ModelResult]] = {}
    for row in comparison.rows:
        if row.family in _ANSWERS:
            mixers.setdefault(row.family, []).append(row)
    if not mixers:
        return "No mixer was compared, so this says nothing about Mamba or attention."
    family, rows = next(iter(mixers.items()))
    leader = rows[0]
    if len(mixers) == 1:
        return (
            f"Only {_STACKS[family]} were compared ({_listed([row.model for row in rows])}), so this cannot say "
            "whether Mamba, attention or both suit the table."
        )
    leads = _leads(comparison, family, [other for other in _ANSWERS if other != family])
    certain = {other: lead for other, lead in leads.items() if lead.is_certain}
    open_ones = {other: lead for other, lead in leads.items() if not lead.is_certain}
    words = _Words(comparison)
    name = _chosen(leader.model, len(rows), family)
    metric = metric_label(comparison.metric)
    if not open_ones:
        sizes = [f"{_chosen(lead.over, lead.over_of, other)} by {words.ahead(lead)}" for other, lead in certain.items()]
        text = f"{_ANSWERS[family]}: in {metric}, {name} is ahead of {_listed(sizes)}."
    else:
        sides = _listed([_NAMES[each] for each in (family, *open_ones)])
        sizes = [
            f"over {_chosen(lead.over, lead.over_of, other)}, {words.ahead(lead)}," for other, lead in open_ones.items()
        ]
        text = f"Undecided between {sides}: in {metric}, {name} is ahead, but its lead {_listed(sizes)} may be chance."
        if certain:
            behind = [f"{lead.over} ({_NAMES[other]}) by {words.ahead(lead)}" for other, lead in certain.items()]
            text += f" It is ahead of {_listed(behind)}."
    absent = [_STACKS[other] for other in _ANSWERS if other not in mixers]
    return text + (f" No {_listed(absent)} were compared." if absent else "")


def _cut(comparison: Comparison) -> str:
    networks = [row for row in comparison.rows if row.family != "yardstick"]
    cut, fits = sum(row.n_cut for row in networks), sum(row.n_fits for row in networks)
    if not cut:
        return ""
    share = f"{cut} of {fits} network fits" if cut < fits else f"all {fits} network fits"
    return f"The time limit cut {share}, so more time may change this."


def _yardsticks(comparison: Comparison) -> str:
    """Say whether the mixers are worth it: against guessing, boosting, the linear model, other networks."""
    leads = _leads(comparison, "best mixer", list(_RIVALS))
    if not leads:
        return ""
    mixers = [row.model for row in comparison.rows if row.family in _ANSWERS]
    best = mixers[0] if len(mixers) == 1 else f"{mixers[0]}, the best of {len(mixers)} mixers on these rows,"
    names = {rival: _RIVALS[rival] or lead.over for rival, lead in leads.items()}
    words = _Words(comparison)
    guessing = leads.pop("dummy", None)
    if guessing is not None and not guessing.is_certain:
        return f"No mixer is shown to beat guessing: the lead of {mixers[0]} over the dummy is {words.ahead(guessing)}."
    behind = {rival: lead for rival, lead in leads.items() if lead.is_behind}
    level = {rival: lead for rival, lead in leads.items() if not lead.is_behind and not lead.is_certain}
    beaten = _listed([names[rival] for rival, lead in leads.items() if lead.is_certain])
    also = f" It beats {beaten}." if beaten else ""
    if behind:
        sizes = [f"{names[rival]} by {words.behind(lead)}" for rival, lead in behind.items()]
        return f"However, {best} is behind {_listed(sizes)}.{also}"
    if level:
        sizes = [f"{names[rival]} {words.level(lead)}" for rival, lead in level.items()]
        return f"{best} cannot be told apart from {_listed(sizes)}.{also}"
    return f"{best} beats {beaten} too." if beaten else ""
