"""What the results share: JSON-ready values, and hints at names."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["hint", "plain"]


def plain(value: Any) -> Any:
    """Turn a result into JSON-ready values; JSON has no NaN and no infinity, so these become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def hint(name: str, known: Iterable[str]) -> str:
    """Say which name was probably meant, or which there are."""
    names = [str(each) for each in known]
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(names)}."
