"""Each answer is found again from the tokens alone, by a solver that knows only the definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambattn.tasks import TASKS, AssociativeRecall, MultiQueryRecall, SelectiveCopy


def solve(task, row):
    """Return the positions asked and their answers."""
    if isinstance(task, AssociativeRecall):
        body = row[: -task.queries]
        asked = range(len(body), len(row))
        return list(asked), [body[body.index(row[q]) + task.tau] for q in asked]
    if isinstance(task, SelectiveCopy):
        asked = [i for i, token in enumerate(row) if token == task.vocab - 1]
        return asked, [token for token in row if token < task.vocab - 2]
    pairs = dict(zip(row[: 2 * task.kv_pairs : 2], row[1 : 2 * task.kv_pairs : 2], strict=True))
    asked = [q for q in range(2 * task.kv_pairs, len(row) - 1, 2) if row[q] in pairs]
    return asked, [pairs[row[q]] for q in asked]


def assert_solved(task, batch):
    """The solver finds what is asked and its answers; in MQAR a filler may look like a query, so that it finds more."""
    tokens, queries, targets = batch
    assert len(tokens) == len(queries) == len(targets)
    assert queries.shape[1] == targets.shape[1] == task.n_queries
    for row, asked, answers in zip(tokens.tolist(), queries.tolist(), targets.tolist(), strict=True):
        found = dict(zip(*solve(task, row), strict=True))
        assert [found[q] for q in asked] == answers
        assert asked == sorted(set(asked))
        assert isinstance(task, MultiQueryRecall) or list(found) == asked


@st.composite
def associative(draw):
    queries = draw(st.integers(1, 6))
    markers = draw(st.integers(queries, 20))
    tau = draw(st.integers(1, 9))
    return AssociativeRecall(vocab=markers + draw(st.integers(3, 20)), markers=markers, queries=queries, tau=tau)


@st.composite
def multi_query(draw):
    kv_pairs = draw(st.integers(1, 12))
    vocab = draw(st.integers(max(4, 2 * kv_pairs), 9000))
    return MultiQueryRecall(vocab=vocab, kv_pairs=kv_pairs, power_a=draw(st.floats(0.001, 1)))


copying = st.builds(SelectiveCopy, vocab=st.integers(4, 40), n_copied=st.integers(3, 20))
long_enough = st.integers(6, 60)  # for each split to have sequences


@settings(max_examples=150, deadline=None)
@given(st.one_of(associative(), copying), long_enough, st.integers(0, 2**40), st.sampled_from(["train", "test"]))
def test_answers_follow_from_the_tokens(task, extra, seed, split):
    assert_solved(task, task.draw(4, task.min_length + extra, seed=seed, split=split))


@settings(max_examples=100, deadline=None)
@given(multi_query(), long_enough, st.integers(0, 2**40))
def test_answers_of_multi_query_recall(task, extra, seed):
    batch = task.draw(4, task.min_length + extra, seed=seed)
    assert_solved(task, batch)
    k, half = task.kv_pairs, task.vocab // 2
    for row, asked in zip(batch.tokens.tolist(), batch.queries.tolist(), strict=True):
        assert sorted(row[q] for q in asked) == sorted(row[: 2 * k : 2])
        assert max(row[: 2 * k : 2]) < half <= min(row[1 : 2 * k : 2])
        assert len(set(row[: 2 * k : 2])) == len(set(row[1 : 2 * k : 2])) == k


@settings(max_examples=100, deadline=None)
@given(associative(), long_enough, st.integers(0, 2**40))
def test_a_body_holds_each_marker_asked_once_and_no_other(task, extra, seed):
    tokens, queries, _ = task.draw(4, task.min_length + extra, seed=seed)
    for row, asked in zip(tokens.tolist(), queries.tolist(), strict=True):
        markers = [token for token in row[: -task.queries] if token >= task.vocab - task.markers]
        assert sorted(markers) == sorted(row[q] for q in asked)
        assert len(set(markers)) == task.queries


@pytest.mark.parametrize("name", TASKS)
def test_the_shortest_length_has_sequences(name):
    task = TASKS[name]
    batch = task.draw(8, task.min_length, seed=0)
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < task.vocab
    assert all(part.dtype == torch.int64 for part in batch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", TASKS)
def test_answers_of_a_draw_on_a_gpu(name):
    batch = TASKS[name].draw(200, 100, seed=0, device="cuda")
    assert_solved(TASKS[name], batch)


@pytest.mark.parametrize("name", TASKS)
def test_chance_is_the_accuracy_of_the_best_constant(name):
    """Over long sequences, the most frequent answer is right as often as chance says, and no more."""
    task = TASKS[name]
    targets = task.draw(1500, 256, seed=0).targets.flatten()
    share = targets.bincount(minlength=task.vocab) / len(targets)
    held_out = task.draw(1500, 256, seed=1).targets.flatten()
    accuracy = (held_out == share.argmax()).double().mean().item()
    assert accuracy == pytest.approx(task.chance, abs=4.5 * math.sqrt(task.chance / len(held_out)))
