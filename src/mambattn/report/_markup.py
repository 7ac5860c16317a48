"""Small pieces of HTML; text is escaped here, but for the arguments `html`, `parts` and `body`, which are HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from mambattn.plots import LETTER_COLORS
from mambattn.schedule import LETTERS

__all__ = ["cell", "facts", "page", "readable", "schedule_boxes", "section", "table"]

_WIDE = ' class="wide"'
_LONG = 30
"""Characters of a name and its value that fit side by side in a column."""


def section(anchor: str, title: str, *parts: str) -> str:
    """Return a section with a heading; `parts` are HTML."""
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>\n'
        + "\n".join(parts)
        + "\n</section>"
    )


def cell(
    text: str, *, value: float | None = None, html: str | None = None, head: bool = False, share: float | None = None
) -> str:
    """Return a table cell: its text, or HTML in its place, the number to sort it by, and how much colour it has.

    `share` is from −1, all blue, to 1, all orange, where the page has colours for signs.
    """
    tag = 'th scope="row"' if head else "td"
    tone = "" if share is None else " against" if share < 0 else " for"
    color = "" if share is None else f' style="--share:{abs(share):.3g}"'
    number = "" if value is None else f' class="number{tone}" data-value="{value!r}"{color}'
    return f"<{tag}{number}>{escape(text) if html is None else html}</{'th' if head else 'td'}>"


def table(name: str, caption: str, columns: Mapping[str, str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table that the page's script makes sortable; `columns` are headings and what each one means."""
    heads = "".join(
        f'<th scope="col" title="{escape(meaning)}"><button type="button">{escape(column)}</button></th>'
        for column, meaning in columns.items()
    )
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0"><table class="sortable">'
        f"<caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def facts(values: Mapping[str, str]) -> str:
    """Return names and values as a description list; a long value gets a line of its own."""
    items = (
        f"<div{_WIDE if len(name) + len(value) > _LONG else ''}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in values.items()
    )
    return f"<dl>{''.join(items)}</dl>"


def readable(values: Mapping[str, Any]) -> dict[str, str]:
    """Spell names and values out: lists with commas, mappings entry by entry, nothing as a dash."""

    def text(value: Any) -> str:
        if value is None or value in ((), [], {}, ""):
            return "–"
        if isinstance(value, (list, tuple)):
            return ", ".join(map(text, value))
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    spelled: dict[str, str] = {}
    for name, value in values.items():
        label = name.removeprefix("n_").replace("_", " ")
        if isinstance(value, Mapping):
            spelled |= {f"{label}: {inner}": given for inner, given in readable(value).items()}
        else:
            spelled[label] = text(value)
    return spelled


def schedule_boxes(schedule: str) -> str:
    """Return a schedule as a row of coloured letters."""
    spelled = ", ".join(LETTERS[letter] for letter in schedule)
    boxes = "".join(f'<i style="background:{LETTER_COLORS[letter]}">{escape(letter)}</i>' for letter in schedule)
    label = f'aria-label="{escape(schedule)}: {escape(spelled)}" title="{escape(spelled)}"'
    return f'<span class="schedule" role="img" {label}>{boxes}</span>'


def page(title: str, body: str, *, extra: str | None = None) -> str:
    """Return a whole page with its style and script inside, and those of its own named `extra` behind them."""
    here = files("mambattn.report")
    style, script = (
        "".join(here.joinpath(f"{name}.{kind}").read_text(encoding="utf-8") for name in ("page", extra) if name)
        for kind in ("css", "js")
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{body}
<script>
{script}</script>
</body>
</html>
"""
