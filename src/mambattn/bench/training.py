"""Training steps of the default tabular model, a backend against another."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from mambattn.bench.cases import Case
from mambattn.configs import MambAttentionConfig, PreprocessingConfig, TrainerConfig
from mambattn.mixers.base import Mixer
from mambattn.tabular import build_network, make_preprocessor
from mambattn.training.device import autocast
from mambattn.training.optim import make_optimizer

__all__ = ["TrainingMeasurement", "measure_training", "table"]

_TEXTS = 8
_ROWS = 4096


@dataclass(frozen=True)
class TrainingMeasurement:
    """Training steps a second.

    Parameters
    ----------
    case : str
        Name of the case.
    contender : str
        The backend of the mixers.
    step_ms : float
        Median milliseconds of a step by the clock: forward, backward, clipping and AdamW.
    steps_per_second : float
        The same as a rate.
    ratios : dict of float
        How many times faster it is than each other backend.
    """

    case: str
    contender: str
    step_ms: float
    steps_per_second: float
    ratios: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as a dictionary for JSON.

        Returns
        -------
        dict
            Field names and values.
        """
        return asdict(self)


def table(n_features: int) -> pd.DataFrame:
    """Make a table: 8 columns of text and the others of numbers where there are 14 as in adult, else all of numbers.

    Parameters
    ----------
    n_features : int
        Columns.

    Returns
    -------
    pandas.DataFrame
        4096 rows.
    """
    generator = np.random.default_rng(0)
    n_texts = _TEXTS if n_features == 14 else 0
    columns: dict[str, Any] = {f"number {i}": generator.normal(size=_ROWS) for i in range(n_features - n_texts)}
    for i in range(n_texts):
        columns[f"text {i}"] = generator.choice([f"value {k}" for k in range(2 + 4 * i)], _ROWS)
    return pd.DataFrame(columns)


def _stepper(case: Case, backend: str, device: torch.device) -> Callable[[], None]:
    """Give a function that makes one training step."""
    config, trainer = MambAttentionConfig(), TrainerConfig()
    X = table(case["n_features"])
    y = np.arange(_ROWS) % 2
    preprocessor = make_preprocessor(config, PreprocessingConfig(), 0).fit(X, y)
    network = build_network(config, preprocessor, 2, torch.Generator().manual_seed(0)).to(device).train()
    for module in network.modules():
        if isinstance(module, Mixer) and hasattr(module, "backend"):
            setattr(module, "backend", backend)  # noqa: B010 - a plain attribute, which nn.Module's typing does not know
    rows = preprocessor.transform(X.iloc[: case["batch"]]).to(device)
    targets = torch.from_numpy(y[: case["batch"]]).to(device)
    optimizer = make_optimizer(network, trainer)
    parameters = list(network.parameters())
    context = autocast(trainer.precision, device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with context:
            outputs = network(rows)
        nn.functional.cross_entropy(outputs.float(), targets).backward()
        if trainer.grad_clip is not None:
            nn.utils.clip_grad_norm_(parameters, trainer.grad_clip)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def measure_training(case: Case, rounds: int, device: torch.device) -> list[TrainingMeasurement]:
    """Time training steps of the default MambAttention with the torch backend and with the one taken by itself.

    Parameters
    ----------
    case : Case
        One of op "training_step".
    rounds : int
        Steps timed of each, in turn, after two that are not.
    device : torch.device
        Where they run.

    Returns
    -------
    list of TrainingMeasurement
        One for each backend.
    """
    steps = {name: _stepper(case, name, device) for name in ("torch", "auto")}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if i >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        TrainingMeasurement(
            case=case.name,
            contender=name,
            step_ms=ms,
            steps_per_second=1e3 / ms,
            ratios={other: value / ms for other, value in medians.items() if other != name},
        )
        for name, ms in medians.items()
    ]
