"""``mambattn predict``: a table in, predictions out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from mambattn.tabular import TableSchema

__all__ = ["predict"]


@click.command(short_help="Predict a table with a saved model.")
@click.argument("model")
@click.argument("data")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    default="-",
    show_default=True,
    metavar="FILE",
    help="Where to write CSV; - is standard output.",
)
@click.option("--proba", is_flag=True, help="Add a column with the probability of each class.")
def predict(model: str, data: str, out: str, proba: bool) -> None:
    """Predict every row of DATA (CSV or Parquet) with the model file MODEL, and write CSV with the rows in order.

    Columns are matched by name; further ones, such as the target, are not looked at.

    \b
    mambattn predict price.safetensors new.csv --out prices.csv
    """  # noqa: D301 - click reads the \b
    if out != "-" and not Path(out).absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {str(Path(out).parent)!r}.", param_hint="--out")

    import pandas as pd
    from sklearn.base import is_classifier

    from mambattn._errors import ConfigError
    from mambattn.cli._tables import read_table
    from mambattn.models import load

    estimator: Any = load(model)
    if proba and not is_classifier(estimator):
        raise ConfigError(
            f"--proba needs a classifier, however {model} holds a {type(estimator).__name__}. Leave it out."
        )
    schema = estimator.preprocessor_.schema
    frame = _matched(read_table(data), schema, data)
    _refuse_text(frame, schema, data)
    if not schema.named:
        frame = frame.set_axis(range(schema.n_columns), axis=1)
    result = pd.DataFrame({"prediction": estimator.predict(frame)})
    if proba:
        names = [f"probability_{label}" for label in estimator.classes_]
        result = pd.concat([result, pd.DataFrame(estimator.predict_proba(frame), columns=names)], axis=1)
    result.to_csv(sys.stdout if out == "-" else out, index=False)


def _matched(frame: pd.DataFrame, schema: TableSchema, data: str) -> pd.DataFrame:
    """Return the columns that the model was fitted on: by name, or by position where they had no names."""
    from mambattn._errors import DataError

    if not schema.named:
        if frame.shape[1] != schema.n_columns:
            raise DataError(
                f"{data} has {frame.shape[1]} columns, however the model was fitted on {schema.n_columns} columns "
                "without names. Give exactly these, in their order."
            )
        return frame.set_axis(schema.names, axis=1)
    missing = [name for name in schema.names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{data} lacks column {', '.join(map(repr, missing[:5]))}, which the model was fitted on. Add it, "
            "with empty cells where it is unknown."
        )
    return frame.loc[:, list(schema.names)]


def _refuse_text(frame: pd.DataFrame, schema: TableSchema, data: str) -> None:
    """Refuse text in a column of numbers by its first cell: one such cell makes the whole column of a CSV text."""
    from mambattn._errors import DataError

    for name in schema.numeric:
        if frame[name].dtype.kind not in "biuf":
            for row, cell in enumerate(frame[name].tolist(), start=1):
                if isinstance(cell, str) and not _is_number(cell):
                    raise DataError(
                        f"{data}: column {name!r} held numbers when the model was fitted, however row {row} holds "
                        f"{cell!r}. Use a number, or leave the cell empty."
                    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
