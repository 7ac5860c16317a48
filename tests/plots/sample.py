"""A hand-made comparison: eight models, three folds, every number known."""

import numpy as np

from mambattn.compare.results import Comparison, FoldResult, ModelResult

FAMILIES = {
    "MambAttention": ("both", "MAMAMA"),
    "boosting": ("yardstick", None),
    "FTTransformer": ("attention", "A-A-A-A-"),
    "Mambular": ("mamba", "MMMM"),
    "MambAttention MMA": ("both", "MMA"),
    "MLP": ("no mixer", None),
    "linear": ("yardstick", None),
    "dummy": ("yardstick", None),
}
METRICS = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}
N_ROWS = 120


def make_comparison(
    task: str = "binary", *, name: str = "blood.csv", target: str = "ill", with_predictions: bool = True
) -> Comparison:
    rng = np.random.default_rng(7)
    is_regression = task == "regression"
    n_classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]
    y = rng.gamma(3.0, 60_000.0, N_ROWS) if is_regression else rng.integers(0, n_classes, N_ROWS)
    rows, folds, predictions = [], [], {}
    for place, (model, (family, schedule)) in enumerate(FAMILIES.items()):
        is_dummy, is_network = model == "dummy", family != "yardstick"
        mean = (
            47_210.0 + 1_503 * place + 60_000 * is_dummy if is_regression else 0.9873 - 0.0031 * place - 0.45 * is_dummy
        )
        sd = 900.0 if is_regression else 0.0042
        difference = -1_503.0 * place - 60_000 * is_dummy if is_regression else -0.0031 * place - 0.45 * is_dummy
        rows.append(
            ModelResult(
                model=model,
                family=family,
                schedule=schedule,
                mean=mean,
                sd=sd,
                difference=difference,
                ci_low=difference * 1.5 - sd / 2 if place else 0.0,
                ci_high=difference * 0.5 + sd / 2 if place else 0.0,
                n_parameters=61_234 + place if is_network else None,
                fit_seconds=3.21 * (place + 1),
                predict_seconds=0.0123 * (place + 1),
                n_cut=1 if model == "Mambular" else 0,
                n_fits=3,
            )
        )
        for fold in range(3):
            n_epochs = 12 + 2 * place + fold
            epochs = np.arange(n_epochs)
            val_loss = (0.1 + 0.6 * np.exp(-epochs / 4) + 0.002 * np.maximum(epochs - 9, 0)).tolist()
            history = {
                "train_loss": (0.05 + 0.6 * np.exp(-epochs / 4)).tolist(),
                "val_loss": val_loss,
                "lr": [3e-4] * n_epochs,
            }
            folds.append(
                FoldResult(
                    model=model,
                    fold=fold,
                    seed=0,
                    score=mean + sd * (fold - 1),
                    scores={METRICS[task]: mean + sd * (fold - 1)},
                    fit_seconds=3.21 * (place + 1),
                    predict_seconds=0.0123 * (place + 1),
                    n_parameters=61_234 + place if is_network else None,
                    n_epochs=n_epochs if is_network else None,
                    best_epoch=int(np.argmin(val_loss)) + 1 if is_network else None,
                    cut_by_time=model == "Mambular" and fold == 1,
                    budget_seconds=30.0 if is_network else None,
                    history=history if is_network else None,
                )
            )
        if is_regression:
            predictions[model] = y + rng.normal(0, mean, N_ROWS)
        else:
            noise = rng.dirichlet(np.ones(n_classes), N_ROWS)
            predictions[model] = 0.5 * noise + 0.5 * np.eye(n_classes)[y]
    classes = ["healthy", "ill", "unclear"][:n_classes]
    return Comparison(
        task=task,
        metric=METRICS[task],
        greater_is_better=not is_regression,
        data={
            "name": name,
            "target": target,
            "n_rows": N_ROWS,
            "n_features": 14,
            "n_categorical": 3,
            "n_missing": 17,
            "classes": classes,
        },
        settings={
            "models": list(FAMILIES),
            "folds": 3,
            "seeds": 1,
            "time_limit": 120.0,
            "random_state": 0,
            "device": "cpu",
            "preprocessing": {"numerical_preprocessing": "quantile", "categorical_columns": ["ward"]},
            "trainer": {"lr": 3e-4, "max_epochs": 50},
            "n_jobs": 2,
            "n_threads": 1,
            "n_draws": 2000,
            "level": 0.95,
        },
        machine={
            "python": "3.11.2",
            "mambattn": "0.1.0",
            "torch": "2.13.0",
            "processor": "x86_64",
            "n_cores": 2,
            "gpu": None,
        },
        rows=tuple(rows),
        folds=tuple(folds),
        contrasts={
            "both - mamba": {
                "a": "MambAttention",
                "b": "Mambular",
                "a_of": 2,
                "b_of": 1,
                "difference": 4509.0 if is_regression else 0.0093,
                "ci_low": 12.0 if is_regression else 0.0011,
                "ci_high": 9000.0 if is_regression else 0.0187,
            }
        },
        seconds=118.4,
        notes=("MambAttention MAM is the same stack as another row, so it has no row of its own.",),
        predictions={
            "index": np.arange(N_ROWS),
            "fold": np.arange(N_ROWS) % 3,
            "y": y,
            "classes": classes,
            "models": predictions,
        }
        if with_predictions
        else {},
    )
