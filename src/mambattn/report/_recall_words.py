"""What the page of a recall study says in words: the headline, what was measured, and the command."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from mambattn.plots import arch_label
from mambattn.recall.study import PRESETS, Study
from mambattn.report._recall_panels import number

if TYPE_CHECKING:
    from mambattn.recall.links import Link
    from mambattn.recall.results import Results
    from mambattn.recall.summary import Summary

__all__ = ["command", "headline", "longest", "measured", "train_length"]

_HOLDS = 0.95
"""Mean accuracy at the longest length from which an architecture is said to hold."""


def longest(results: Results) -> int:
    return max(results.settings["lengths"])


def train_length(results: Results) -> int:
    return results.settings.get("train_length") or 0


def measured(results: Results) -> str:
    """Say in a sentence or two what was measured."""
    settings = results.settings
    parts = [
        _count(settings["tasks"], "task"),
        _count(settings["archs"], "architecture"),
        _count({row.seed for row in results.rows}, "seed"),
    ]
    trained = []
    if "steps" in settings:
        trained.append(f"for {settings['steps']:,} steps")
    if train_length(results):
        trained.append(f"on sequences of {train_length(results):,} tokens")
    if "lrs" in settings:
        rates = _listed([f"{rate:g}" for rate in settings["lrs"]])
        trained.append(
            f"with the best of the learning rates {rates}" if len(settings["lrs"]) > 1 else f"at rate {rates}"
        )
    tested = f"tested at {_listed([f'{length:,}' for length in settings['lengths']])} tokens."
    return f"{' × '.join(parts)}, {' '.join(['trained', *trained]) + '; ' if trained else ''}{tested}"


def headline(results: Results, summary: Summary, links: Sequence[Link]) -> str:
    """Say who holds at the longest length, task by task, what became of the claimed order, and what is unfinished."""
    tasks, archs = results.settings["tasks"], results.settings["archs"]
    ends = {(one.task, one.arch): one.lengths[-1].mean for one in summary if one.finished}
    everywhere = [arch for arch in archs if all(ends.get((task, arch), 0) >= _HOLDS for task in tasks)]
    who = _listed([arch_label(arch) for arch in everywhere]) or "No architecture"
    where = f"at {longest(results):,} tokens"
    if 0 < train_length(results) < longest(results):
        where += f", {longest(results) / train_length(results):.3g} times the training length"
    on = f"on {tasks[0]}" if len(tasks) == 1 else "on both tasks" if len(tasks) == 2 else f"on all {len(tasks)} tasks"
    gist = f"{who} {'hold' if len(everywhere) > 1 else 'holds'} {on}"
    lines = [_on_task(task, {arch: ends[task, arch] for arch in archs if (task, arch) in ends}) for task in tasks]
    if links:
        lines.append(_judged(links))
    cut = [f"{one.task}: {arch_label(one.arch)}" for one in summary if not one.finished]
    if cut:
        lines.append(
            f"Unfinished, and therefore in no figure, number or verdict: {'; '.join(cut)}. The same command goes on."
        )
    spans = "".join(f"<span>{escape(line)}</span>" for line in lines)
    return (
        f'<p class="verdict"><strong>{escape(gist)}</strong> {escape(where)}: a mean accuracy over seeds of at least '
        f"{_HOLDS}.{spans}</p>"
    )


def _on_task(task: str, ends: Mapping[str, float]) -> str:
    """Say who holds on a task, and who comes next."""
    ranked = sorted(ends, key=lambda arch: -ends[arch])
    named = [f"{arch_label(arch)} ({number(ends[arch])})" for arch in ranked]
    n_holding = sum(value >= _HOLDS for value in ends.values())
    holding, others = named[:n_holding], named[n_holding:]
    if not named:
        return f"{task}: nothing finished."
    if not holding:
        return f"{task}: none; the highest is {others[0]}."
    following = f"; next is {others[0]}" if others else ""
    return f"{task}: {_listed(holding)} hold{'s' if n_holding == 1 else ''}{following}."


def _judged(links: Sequence[Link]) -> str:
    """Count the verdicts on the claimed order."""
    counts = Counter(link.verdict for link in links)
    verdicts = ("holds", "reversed", "tie", "undecided")
    spelled = ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts if counts[verdict])
    return f"{_count(links, 'link')} of the claimed order: {spelled}."


def command(settings: Mapping[str, Any], chains: Sequence[str]) -> str:
    """Write the command that repeats the study: the preset, what differs from it, and the chains."""
    known = [preset for preset in PRESETS if preset == settings.get("preset")]
    start = Study(**{name: value for preset in known for name, value in PRESETS[preset].items()}).to_dict()
    words = ["mambattn", "recall", *(word for preset in known for word in ("--preset", preset))]
    for name, usual in start.items():
        if name != "preset" and name in settings and _text(settings[name]) != _text(usual):
            words += _option(name, settings[name])
    return shlex.join([*words, *(word for chain in chains for word in ("--chain", chain))])


def _option(name: str, value: Any) -> list[str]:
    """Write a setting as the command takes it: seeds from 0 on are a number, and one seed has a comma."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if name == "seeds":
        is_count = list(value) == list(range(len(value)))
        return ["--seeds", str(len(value)) if is_count else _text(value) + "," * (len(value) == 1)]
    return [f"--{flag}", "none" if value is None else _text(value)]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _listed(parts: Sequence[str]) -> str:
    """Join with commas, and the last with "and"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _count(things: Any, what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"
