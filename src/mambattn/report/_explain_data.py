"""What the page of an explanation holds for its script, and the check that it is all of one input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mambattn._errors import ShapeError
from mambattn.plots import as_array, kind_color, promise
from mambattn.report._pack import pack

if TYPE_CHECKING:
    from mambattn.explain.joint import JointEffects
    from mambattn.explain.order import OrderEffects
    from mambattn.explain.results import Attribution, Flow, LayerMap
    from mambattn.explain.tables import RowExplanation

__all__ = ["check_one_input", "script_data"]


def check_one_input(
    batch: int,
    n_sources: int,
    names: Sequence[Sequence[str]],
    maps: Sequence[LayerMap],
    flow: Flow | None,
    attributions: Sequence[Attribution],
    rows: Sequence[str],
    values: Sequence[Sequence[Any]] | None,
    *,
    explained: RowExplanation | None,
    joint: JointEffects | None,
    order: OrderEffects | None,
) -> None:
    """Raise `ShapeError` unless all are of one batch and one number of positions."""
    given: list[tuple[str, tuple[int, int]]] = [("names", (batch, len(row))) for row in names]
    given += [("names", (len(names), n_sources))] if len(names) > 1 else []
    given += [("maps", (len(one.values), size)) for one in maps for size in one.values.shape[2:]]
    given += [("flow", (flow.values.shape[1], flow.values.shape[3]))] if flow is not None else []
    given += [("rows", (len(rows), n_sources))]
    given += [("explained", (len(explained.outputs), len(explained.tokens)))] if explained is not None else []
    given += [("joint", (len(joint.values), n_sources))] if joint is not None else []
    given += [("order", (order.outputs.shape[1], n_sources))] if order is not None else []
    # A class token has no score and no value.
    short = [("attributions", len(one.values), one.values.shape[1]) for one in attributions]
    short += [("values", len(values), len(row)) for row in values] if values is not None else []
    given += [(name, (n_rows, n_sources if size <= n_sources else size)) for name, n_rows, size in short]
    for name, shape in given:
        if shape != (batch, n_sources):
            raise ShapeError(
                f"`{name}` must be of {batch} rows and {n_sources} positions, as the first map is, however it is of "
                f"{shape[0]} and {shape[1]}. Use results of one input."
            )


def script_data(
    names: Sequence[Sequence[str]],
    maps: Sequence[LayerMap],
    flow: Flow | None,
    attributions: Sequence[Attribution],
    values: Sequence[Sequence[Any]] | None,
) -> str:
    """Return what the page's script shows as JSON that may stand in an element."""
    data = {
        "names": names,
        "values": None if values is None else [[_text(value) for value in row] for row in values],
        "layers": [_layer(one) for one in maps],
        "flow": None if flow is None else _flow(flow, maps),
        "attributions": [_attribution(one) for one in attributions],
    }
    # Of all characters of JSON only this one could end the element.
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _layer(one: LayerMap) -> dict[str, Any]:
    return {
        "layer": one.layer,
        "kind": one.kind,
        "color": kind_color(one.kind),
        "labels": list(one.labels),
        "maps": [[pack(matrix) for matrix in as_array(values)] for values in one.values],
    }


def _flow(flow: Flow, maps: Sequence[LayerMap]) -> dict[str, Any]:
    kinds = {one.layer: f"{one.layer} {one.kind}" for one in maps}
    return {
        "layers": [kinds.get(layer, str(layer)) for layer in flow.layers],
        "positions": list(flow.positions),
        "maps": [[pack(matrix) for matrix in as_array(layer)] for layer in flow.values],
    }


def _attribution(one: Attribution) -> dict[str, Any]:
    return {
        "method": one.method,
        "values": [[_number(value) for value in row] for row in as_array(one.values)],
        "promises": [promise(one, row) for row in range(len(one.values))],
    }


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if abs(value) < float("inf") else None


def _text(value: Any) -> str:
    return "missing" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
