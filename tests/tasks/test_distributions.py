"""What is drawn is drawn as the definition says: chi-square tests at fixed seeds."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mambattn.tasks import TASKS, MultiQueryRecall, SelectiveCopy
from mambattn.tasks._random import distinct, race

N = 20_000


def assert_uniform(values, n_cells):
    assert_drawn_from(values, np.full(n_cells, 1 / n_cells))


def assert_drawn_from(values, probabilities):
    counts = np.bincount(np.asarray(values).ravel(), minlength=len(probabilities))
    assert len(counts) == len(probabilities)
    assert len(counts) == 1 or chisquare(counts, probabilities * counts.sum()).pvalue > 1e-3


def test_ordered_choices_are_equally_likely():
    chosen = distinct(N, 3, 5, torch.Generator().manual_seed(0))
    cells = {choice: i for i, choice in enumerate(permutations(range(5), 3))}
    assert_uniform([cells[tuple(row)] for row in chosen.tolist()], 60)


def test_weighted_choices_are_drawn_one_after_the_other():
    weights = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    chosen = race(N, 2, weights, torch.Generator().manual_seed(0)).tolist()
    cells = {choice: i for i, choice in enumerate(permutations(range(4), 2))}
    w = weights.numpy() / 8
    assert_drawn_from([cells[tuple(row)] for row in chosen], np.array([w[a] * w[b] / (1 - w[a]) for a, b in cells]))


@pytest.mark.parametrize("name", ["induction", "recall", "delay", "recall_delay"])
def test_markers_stand_anywhere_and_answers_are_any_token(name):
    task, seq_len = TASKS[name], 32
    tokens, queries, targets = task.draw(N, seq_len, seed=0)
    body, n_ordinary = seq_len - task.queries, task.vocab - task.markers
    places = (tokens[:, :body] == tokens.gather(1, queries)[:, :1]).int().argmax(1)  # of the first marker asked
    assert_uniform(places, body - task.tau)
    assert_uniform(tokens[:, -1] - n_ordinary, task.markers)
    assert_uniform(targets[:, 0][targets[:, 0] < n_ordinary], n_ordinary)
    assert_uniform(tokens[:, 3][tokens[:, 3] < n_ordinary], n_ordinary)
    n_places = body - task.tau
    other = (task.queries - 1) / (n_places - 1) * max(0, n_places - task.tau) / n_places
    assert (targets[:, 0] >= n_ordinary).double().mean().item() == pytest.approx(other, abs=0.01)


def test_queries_come_in_any_order():
    task = TASKS["recall"]
    tokens, queries, _ = task.draw(N, 32, seed=0)
    asked = tokens.gather(1, queries)
    places = (tokens[:, None, :28] == asked[:, :, None]).int().argmax(2)
    cells = {order: i for i, order in enumerate(permutations(range(4)))}
    assert_uniform([cells[tuple(row)] for row in places.argsort(1).tolist()], 24)


@pytest.mark.parametrize("power_a", [0.01, 0.5, 1.0])
def test_the_first_key_is_asked_for_at_a_gap_of_the_power_law(power_a):
    tokens, queries, _ = MultiQueryRecall(vocab=64, kv_pairs=3, power_a=power_a).draw(N, 41, seed=0)
    first = (tokens.gather(1, queries) == tokens[:, :1]).int().argmax(1, keepdim=True)
    gaps = np.arange(1, 18)  # 35 tokens after the pairs hold 17 slots of two
    law = gaps ** (power_a - 1.0)
    assert_drawn_from((queries.gather(1, first) - 6) // 2, law / law.sum())


def test_keys_values_and_fillers_of_multi_query_recall():
    task = MultiQueryRecall(vocab=64, kv_pairs=3)
    tokens, queries, targets = task.draw(N, 41, seed=1)
    assert_uniform(tokens[:, 2], 32)
    assert_uniform(tokens[:, 3] - 32, 32)
    assert_uniform(targets[:, 1] - 32, 32)
    assert_uniform(tokens[:, 40], 64)  # no slot
    assert not (queries == 40).any()


def test_data_of_selective_copying_stands_anywhere():
    task = SelectiveCopy(vocab=8, n_copied=3)
    tokens, _, targets = task.draw(N, 15, seed=0)
    assert_uniform(targets[:, 0], 6)
    places = (tokens < 6).nonzero()[:, 1].reshape(N, 3)
    cells = {}
    for trio in permutations(range(12), 3):
        cells.setdefault(tuple(sorted(trio)), len(cells))
    assert_uniform([cells[tuple(row)] for row in places.tolist()], 220)
