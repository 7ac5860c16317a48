"""What a cell chooses, on which draws, and what counts as solved."""

import math
from types import SimpleNamespace

import pytest

from mambattn.recall import outcome
from mambattn.recall.cell import Tally


def member(lr: float, accuracy: float, loss: float | None) -> dict:
    return {"lr": lr, "accuracy": accuracy, "loss": loss}


@pytest.mark.parametrize(
    ("members", "best"),
    [
        ([member(1e-3, 0.9, 1.0), member(1e-2, 0.8, 0.1)], 1e-3),
        ([member(1e-3, 1.0, 0.2), member(1e-2, 1.0, 0.1)], 1e-2),
        ([member(1e-3, 1.0, 0.1), member(1e-2, 1.0, None)], 1e-3),
        ([member(1e-3, 0.9, 0.1), member(1e-3, 0.9, 0.1), member(1e-2, 1.0, 0.1), member(1e-2, 0.7, 0.1)], 1e-3),
    ],
)
def test_the_rate_is_the_best_over_seeds_and_among_equals_that_of_the_smallest_loss(members, best):
    assert outcome._best_rate((1e-3, 1e-2), members) == best


def test_the_rate_is_chosen_on_the_validation_draw_and_solved_means_99_percent(tiny):
    study = tiny(n_validation=40, n_test=200, lrs=(1e-3, 1e-2))
    asked = []

    def tallies(members, seq_len, n, split, before=None):
        asked.append((tuple(members), seq_len, n, split))
        right = {"validation": [10.0, 40.0, 10.0, 40.0], "test": [198.0, 197.0]}[split]
        yield Tally(n, right, [math.nan] * len(right))

    training = SimpleNamespace(tallies=tallies, task=SimpleNamespace(n_queries=1))
    kept = SimpleNamespace(training=training, tests={}, save=lambda: None, save_if_due=lambda: None)
    rows, members = outcome._test(study, "induction", "mamba", kept, math.inf)
    assert asked == [
        ((0, 1, 2, 3), 16, 40, "validation"),
        *(((1, 3), length, 200, "test") for length in study.lengths),
    ]
    assert [row.lr for row in rows] == [1e-2, 1e-2]
    assert [row.solved for row in rows] == [True, False]
    assert [row.accuracy[16] for row in rows] == [0.99, 0.985]
    assert [m["loss"] for m in members] == [None] * 4
