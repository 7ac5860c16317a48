"""``mambattn fit``: train one model and save it."""

from __future__ import annotations

import math
from pathlib import Path

import click

from mambattn.cli import _options
from mambattn.cli._group import note, say_how_to_resume
from mambattn.cli._values import configs_from, parse_settings

__all__ = ["fit"]

_MODELS = {
    "mambattention": "MambAttention",
    "mambular": "Mambular",
    "fttransformer": "FTTransformer",
    "resnet": "ResNet",
    "mlp": "MLP",
}


@click.command(short_help="Train one model on a table and save it.")
@click.argument("data")
@click.option("--target", metavar="COL", help="Column to predict; a bundled table knows its own.")
@click.option(
    "--model",
    type=click.Choice(list(_MODELS), case_sensitive=False),
    default="mambattention",
    show_default=True,
    help="Which model.",
)
@click.option(
    "--schedule",
    metavar="MMA",
    help="Layers of MambAttention: M Mamba, S Mamba-2, A attention, L local, G global + local, - MLP.",
)
@click.option(
    "--set",
    "settings",
    metavar="SECTION.FIELD=VALUE",
    multiple=True,
    help="A setting of model, trainer or preprocessing, such as model.d_model=32 (repeatable).",
)
@_options.task
@_options.drop
@_options.categorical
@_options.device
@_options.random_state
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("model.safetensors"),
    show_default=True,
    metavar="FILE",
    help="Where to save the model.",
)
def fit(
    data: str,
    target: str | None,
    model: str,
    schedule: str | None,
    settings: tuple[str, ...],
    task: str,
    drop: tuple[str, ...],
    categorical: tuple[str, ...],
    device: str,
    random_state: int,
    out: Path,
) -> None:
    """Train one model on a table, hold a share of its rows out to choose the best epoch and to score, and save it.

    DATA is a CSV or Parquet file, or one of breast_cancer, wine, digits and diabetes. Ctrl-C ends the training; the
    best weights so far are saved.

    \b
    mambattn fit houses.csv --target price --set trainer.lr=1e-3 --out price.safetensors
    mambattn fit wine --schedule MMA --set model.d_model=32
    """  # noqa: D301 - click reads the \b
    given = parse_settings(settings)
    if not out.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {str(out.parent)!r}.", param_hint="--out")

    import pandas as pd

    from mambattn import configs, models
    from mambattn._errors import DataError
    from mambattn.cli._oddities import note_oddities
    from mambattn.cli._tables import read_target_table
    from mambattn.compare import decide_task
    from mambattn.compare.metrics import metrics_of
    from mambattn.training import hold_out

    name = _MODELS[model]
    model_config, preprocessing, trainer = configs_from(
        given, getattr(configs, f"{name}Config"), schedule=schedule, categorical=categorical, device=device
    )
    table = read_target_table(data, target, drop=drop, categorical=categorical)
    note_oddities(table)
    kind, assumed = decide_task(table.y, table.target, task)
    for text in assumed:
        note(text)
    is_regression = kind == "regression"
    labels = table.y.to_numpy()
    train, held_out = hold_out(
        len(labels), trainer.val_size, random_state, None if is_regression else pd.factorize(labels)[0]
    )
    if len(train) == len(labels):
        raise DataError(
            f"Each class of the target {table.target!r} has one row, so that none can be held out to score. Merge "
            "classes, name another column with --target, or, for a quantity, use --task regression."
        )
    estimator = getattr(models, name + ("Regressor" if is_regression else "Classifier"))(
        model_config=model_config,
        preprocessing_config=preprocessing,
        trainer_config=trainer,
        random_state=random_state,
    )
    say_how_to_resume("Training had not begun, so no model was saved.")
    held_out_rows = table.X.iloc[held_out]
    estimator.fit(table.X.iloc[train], labels[train], X_val=held_out_rows, y_val=labels[held_out])
    estimator.save(out)

    if is_regression:
        wanted, predicted = labels[held_out], estimator.predict(held_out_rows)
    else:
        wanted = pd.Index(estimator.classes_).get_indexer(labels[held_out])
        predicted = estimator.predict_proba(held_out_rows)
        kind = "binary" if len(estimator.classes_) == 2 else "multiclass"
    scores = [f"{metric.name} {_figure(metric.score(wanted, predicted))}" for metric in metrics_of(kind)]
    history = estimator.history_
    click.echo(f"model       {type(estimator).__name__}, {estimator.n_parameters_:,} parameters")
    click.echo(f"schedule    {estimator.schedule_ or 'none: it has no mixer'}")
    click.echo(f"target      {table.target}, {kind}")
    click.echo(
        f"training    {len(train):,} rows, {len(history.val_loss)} epochs in {estimator.fit_seconds_:.1f} s, "
        f"stopped by {history.stopped_by}; best epoch {history.best_epoch}"
    )
    click.echo(f"validation  {', '.join(scores)}")
    click.echo(f"            on {len(held_out):,} held-out rows, which also chose the epoch: a little flattering")
    click.echo(f"saved       {out}")


def _figure(score: float) -> str:
    """Write a score with four decimals, and a small one, such as the error of a small target, with four figures."""
    if not math.isfinite(score):
        return "undefined"
    return f"{score:.4f}" if score == 0 or abs(score) >= 0.001 else f"{score:.4g}"
