"""Rows of a leaderboard that fit in no time, and small tables."""

import numpy as np
import pandas as pd
import pytest

from mambattn.compare._candidates import Yardstick
from mambattn.training import History


class StubModel:
    """A network's double: it predicts from the first column, more or less well, and reports a history."""

    n_parameters_ = 7

    def __init__(self, settings, noise, before_fit):
        self.settings = settings
        self.noise = noise
        self.before_fit = before_fit

    def fit(self, X, y):
        self.before_fit(self)
        self.history_ = History(
            train_loss=[1.0, 0.5],
            val_loss=[1.0, 0.6],
            lr=[0.1, 0.1],
            seconds=[0.1, 0.2],
            best_epoch=2,
            stopped_by="patience",
        )
        return self

    def predict_proba(self, X):
        rng = np.random.default_rng(self.settings.seed)
        p = 1 / (1 + np.exp(-X.iloc[:, 0].to_numpy() - self.noise * rng.normal(size=len(X))))
        return np.stack([1 - p, p], axis=1)

    def save(self, path):
        path.write_text(f"noise {self.noise}")


class StubNetwork:
    """A row that makes `StubModel`."""

    is_network = True

    def __init__(self, name, schedule, family, *, noise=1.0, before_fit=lambda model: None):
        self.name, self.schedule, self.family, self.noise, self.before_fit = name, schedule, family, noise, before_fit

    def build(self, settings):
        return StubModel(settings, self.noise, self.before_fit)

    def describe(self):
        return {"name": self.name, "noise": self.noise}


@pytest.fixture
def stub_network():
    return StubNetwork


@pytest.fixture
def stubs():
    return (
        StubNetwork("Hybrid", "MA", "both", noise=0.1),
        StubNetwork("Mamba", "MM", "mamba", noise=1.0),
        StubNetwork("Attention", "A-", "attention", noise=2.0),
        Yardstick("dummy"),
        Yardstick("linear"),
    )


@pytest.fixture
def table():
    """90 rows, a number with gaps, a text, a bool; the target depends on the first column."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=90)
    frame = pd.DataFrame(
        {
            "x": x,
            "gaps": np.where(rng.random(90) < 0.2, np.nan, rng.normal(size=90)),
            "text": rng.choice(["a", "b", "c"], 90),
            "flag": rng.random(90) < 0.5,
        }
    )
    return frame, pd.Series(np.where(x + 0.5 * rng.normal(size=90) > 0, "yes", "no"), name="answer")
