"""``mambattn predict``: a table in, predictions out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

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
    from mambattn.cli._model_table import read_model_table
    from mambattn.models import load

    estimator: Any = load(model)
    if proba and not is_classifier(estimator):
        raise ConfigError(
            f"--proba needs a classifier, however {model} holds a {type(estimator).__name__}. Leave it out."
        )
    frame = read_model_table(data, estimator.preprocessor_.schema)
    result = pd.DataFrame({"prediction": estimator.predict(frame)})
    if proba:
        names = [f"probability_{label}" for label in estimator.classes_]
        result = pd.concat([result, pd.DataFrame(estimator.predict_proba(frame), columns=names)], axis=1)
    result.to_csv(sys.stdout if out == "-" else out, index=False)
