"""Rows of a table, explained with a saved model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambattn._errors import ConfigError
from mambattn.cli._explained import Explained, layer_maps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mambattn.cli._explain_scores import MethodScore
    from mambattn.explain.estimator import TableInput
    from mambattn.explain.joint import JointEffects
    from mambattn.explain.order import OrderEffects

__all__ = ["explain_table"]

_N_ORDERS = 20
_N_PAIRED = 12
"""Columns, the most important ones, of which all pairs are measured."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread: on the small tensors of tables more cost more than they bring, most on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def explain_table(
    model: str,
    data: str,
    *,
    target: str | None,
    method: str,
    n_rows: int,
    background: str | None,
    evaluate: bool,
    seed: int,
    say: Callable[[str], None],
) -> Explained:
    """Explain rows of a file, spread evenly over it; `say` is told what is going on."""
    import numpy as np

    from mambattn.cli._model_table import read_model_table
    from mambattn.explain.estimator import column_positions, network_of, table_input
    from mambattn.explain.flow import receptive_field
    from mambattn.explain.joint import joint_effects
    from mambattn.explain.order import order_effects
    from mambattn.explain.tables import explain_rows
    from mambattn.explain.trace import trace
    from mambattn.models import load

    say("reading the model and the table")
    estimator = _loaded(load, model)
    network_of(estimator)
    schema = estimator.preprocessor_.schema
    frame = read_model_table(data, schema)
    others = frame if background is None else read_model_table(background, schema)
    picked = np.unique(np.linspace(0, len(frame) - 1, min(n_rows, len(frame))).round().astype(int))
    chosen = frame.iloc[picked]
    if len(others) == 1 and background is None:
        raise ConfigError(f"{data} has a single row, which would be compared with itself. Give --background FILE.")
    say("explaining the rows")
    rows = explain_rows(estimator, chosen, target=target, method=method, background=others, seed=seed)
    say("reading the columns in other orders")
    order = order_effects(estimator, chosen, _N_ORDERS, target=target, background=others, seed=seed)
    say("measuring pairs of columns")
    strongest = [rows.names[i] for i in rows.importance.argsort(descending=True)[:_N_PAIRED].tolist()]
    joint = joint_effects(estimator, chosen, strongest, target=target, background=others)
    given = table_input(estimator, chosen, target, others)
    scores = _scores(estimator, given, seed, say) if evaluate else ()
    found, places = rows.attribution, column_positions(given.network)
    compared = background or data
    facts = {
        "model": f"{type(estimator).__name__}, {estimator.n_parameters_:,} parameters, schedule {estimator.schedule_}",
        "rows": f"{len(chosen):,} of {len(frame):,}, spread evenly over {Path(data).name}",
        "explained": _explained(estimator, target),
        "method": f"{method}, compared with the mean token of each column over {Path(compared).name}",
        "completeness error": f"{found.completeness_error.max().item():.1e} at most",
        "absorbed by biases and constants": f"{found.absorbed.median().item():.0%} (median)",
        "strongest pair": _pair(joint),
        "order of the columns": _order(order),
    }
    return Explained(
        title=f"What {type(estimator).__name__} looks at",
        names=rows.tokens,
        maps=tuple(
            replace(one, values=one.values[..., places, :][..., places])
            for one in layer_maps(trace(given.network, given.tokens))
        ),
        flow=rows.flow,
        attribution=found,
        reaches=receptive_field(given.network, given.tokens),
        labels=tuple(
            f"row {at + 1}: predicts {_said(said)}" for at, said in zip(picked, rows.predictions, strict=True)
        ),
        facts=facts,
        scores=scores,
        rows=rows,
        order=order,
        joint=joint,
    )


def _loaded(load: Callable[[str], Any], model: str) -> Any:
    if Path(model).is_dir():
        raise ConfigError(
            f"{model} is a folder, however rows of a table are explained with a model file. Give the file that "
            "`mambattn fit` wrote, or --text for a language model of transformers."
        )
    return load(model)


def _said(prediction: Any) -> str:
    return f"{prediction:.4g}" if isinstance(prediction, float) else str(prediction)


def _explained(estimator: Any, target: str | None) -> str:
    if not hasattr(estimator, "classes_"):
        return "the prediction, in units of the target from its mean"
    margin = "log-odds" if len(estimator.classes_) == 2 else "margin over the other classes"
    return f"the {margin} of {'the predicted class' if target is None else f'class {target}'}"


def _pair(joint: JointEffects) -> str:
    """Name the two columns whose interaction is the strongest."""
    if len(joint.names) < 2:
        return "none, as there is one column"
    pairs = itertools.combinations(range(len(joint.names)), 2)
    i, j = max(pairs, key=lambda pair: float(joint.strength[pair]))
    return f"{joint.names[i]} and {joint.names[j]}, {joint.strength[i, j]:.3g} beyond what each does alone"


def _order(order: OrderEffects) -> str:
    """Say how much other orders change."""
    if len(order.names) < 2:
        return "there is one column"
    moved = f"{order.spread[0]:.3g}" if math.isnan(order.share) else f"{order.share:.1%} of its spread over rows"
    return (
        f"in {_N_ORDERS} other orders the output moves by {moved}, and the importance keeps a rank correlation of "
        f"{order.agreement.mean():.2f}"
    )


def _scores(estimator: Any, given: TableInput, seed: int, say: Callable[[str], None]) -> tuple[MethodScore, ...]:
    """Score every method on the same rows."""
    from mambattn.cli._explain_scores import methods_of, score_methods
    from mambattn.explain.estimator import column_positions

    n_columns, positions = len(given.names), column_positions(given.network)
    reads_last = estimator.model_config_.pooling_method in ("last", "cls")

    def read_from(network: nn.Module, flow: Tensor) -> Tensor:
        read = flow[:, -1] if reads_last else flow.mean(1)
        return read[:, positions[:n_columns]]

    methods = methods_of(given.tokens, given.score, given.baseline, read_from)
    index = given.index if hasattr(estimator, "classes_") else None
    return score_methods(
        methods, given.network, given.tokens, given.score, given.baseline, index=index, seed=seed, say=say
    )
