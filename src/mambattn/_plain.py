"""Results as plain data and as plain text."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console

__all__ = ["PlainData", "as_text", "json_ready"]


def json_ready(value: Any) -> Any:
    """Turn a result into JSON-ready values; JSON has no NaN and no infinity, so these become None.

    Parameters
    ----------
    value : object
        A dataclass, mapping, list, tuple or plain value.

    Returns
    -------
    object
        Dataclasses and mappings as dicts with text as keys, lists and tuples as lists.

    Examples
    --------
    >>> json_ready({8: (0.5, float("nan"))})
    {'8': [0.5, None]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_ready(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class PlainData:
    """What dataclasses of results share."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values; what is no number or not finite becomes None.

        Returns
        -------
        dict
            The fields.
        """
        return json_ready(self)


def as_text(renderable: Any, width: int = 80) -> str:
    """Draw what rich can draw as text without colours, as ``print`` wants it.

    Parameters
    ----------
    renderable : object
        What a rich console would print.
    width : int, default 80
        Columns.

    Returns
    -------
    str
        The lines, without spaces behind them.

    Examples
    --------
    >>> from rich.panel import Panel
    >>> print(as_text(Panel.fit("0.97")))
    ╭──────╮
    │ 0.97 │
    ╰──────╯
    """
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False, highlight=False).print(renderable)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
