"""The page of a recall study."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mambattn.plots import delay_sweeps
from mambattn.report._markup import facts, page, readable, section
from mambattn.report._recall_panels import arch_colors, curves_section, sweeps_section
from mambattn.report._recall_sections import links_section, runs, table_section
from mambattn.report._recall_words import command, headline, longest, measured, train_length

if TYPE_CHECKING:
    from mambattn.recall.results import Results

__all__ = ["recall_page", "write_recall_report"]


def recall_page(results: Results, *, chains: Sequence[str] = ()) -> str:
    """Return a recall study as one self-contained HTML page.

    Who holds at the longest length, accuracy over length and over the delay with lines to pick, the table, the verdicts
    on the claimed chain, every run, the settings and the command. Style, script and figures are inside; nothing is
    fetched.

    Parameters
    ----------
    results : mambattn.recall.Results
        The result.
    chains : sequence of str, default ()
        Orders to judge, as `Results.links` takes them; by default the published one. Results that do not say the
        training length have none judged.

    Returns
    -------
    str
        The page.

    Raises
    ------
    ConfigError
        If a chain cannot be judged; see `Results.links`.

    Examples
    --------
    >>> from mambattn.recall.results import Results, Row
    >>> rows = [Row("recall", "mamba", seed, 1e-3, 4000, True, {32: 1.0, 64: 0.9 + seed / 50}) for seed in (0, 1)]
    >>> "recall: none; the highest is Mamba (0.910)." in recall_page(Results.from_rows(rows))
    True
    """
    summary = results.table()
    title = "Who recalls beyond the training length?"
    has_sweep = delay_sweeps(results) and longest(results) > train_length(results)
    judged = [results.links(chain) for chain in chains or (None,)] if train_length(results) else []
    links = [link for each in judged for link in each]
    body = [
        curves_section(results, summary),
        *([sweeps_section(results)] if has_sweep else []),
        table_section(results, summary),
        *([links_section(links, judged[0].lengths)] if links else []),
        section("runs", "Every run", runs(results)),
        _facts(results, chains),
    ]
    header = (
        f'<header><p class="kicker">mambattn · the recall study</p><h1>{escape(title)}</h1>'
        f'<p class="summary">{escape(measured(results))}</p>{headline(results, summary, links)}</header>'
    )
    footer = "<footer>Made by mambattn. This page fetches nothing.</footer>"
    main = f'<main style="{arch_colors(results.settings["archs"])}">'
    whole = f"{header}\n{main}\n" + "\n".join(body) + f"\n</main>\n{footer}"
    return page(title, whole, extra="recall")


def write_recall_report(results: Results, path: str | Path, *, chains: Sequence[str] = ()) -> None:
    """Write the page of a recall study.

    Parameters
    ----------
    results : mambattn.recall.Results
        The result.
    path : str or Path
        The file.
    chains : sequence of str, default ()
        Orders to judge, as in `recall_page`.

    Raises
    ------
    ConfigError
        If a chain cannot be judged; see `Results.links`.
    """
    Path(path).write_text(recall_page(results, chains=chains), encoding="utf-8")


def _facts(results: Results, chains: Sequence[str]) -> str:
    return section(
        "facts",
        "Settings",
        facts(readable(results.settings)),
        "<h3>Run it again</h3>",
        f"<pre><code>{escape(command(results.settings, chains))}</code></pre>",
        "<p>Add <code>--out</code> and a folder for the rows, the figures and this page.</p>",
    )
