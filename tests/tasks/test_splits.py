"""Every sequence is in exactly one split; the same arguments give the same draw."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from mambattn.tasks import TASKS, AssociativeRecall, MultiQueryRecall, SelectiveCopy
from mambattn.tasks._split import SPLITS, split_of


def all_associative(task, seq_len):
    body, n_ordinary = seq_len - task.queries, task.vocab - task.markers
    for ordinary in product(range(n_ordinary), repeat=body):
        for places in permutations(range(body - task.tau), task.queries):
            for markers in permutations(range(n_ordinary, task.vocab), task.queries):
                row = list(ordinary)
                for place, marker in zip(places, markers, strict=True):
                    row[place] = marker
                yield (*row, *markers)


def all_multi_query(task, seq_len):
    """One pair: the key stands at one of the slots, anything elsewhere."""
    half = task.vocab // 2
    for key, value in product(range(half), range(half, task.vocab)):
        for filler in product(range(task.vocab), repeat=seq_len - 2):
            for slot in range(0, seq_len - 3, 2):
                yield (key, value, *filler[:slot], key, *filler[slot + 1 :])


def all_copying(task, seq_len):
    noise, copy = task.vocab - 2, task.vocab - 1
    for body in product(range(noise + 1), repeat=seq_len - task.n_copied):
        if sum(token != noise for token in body) == task.n_copied:
            yield (*body, *[copy] * task.n_copied)


SPACES = [
    (AssociativeRecall(vocab=4), 5, all_associative),
    (AssociativeRecall(vocab=5, markers=3, queries=2, tau=2), 7, all_associative),
    (MultiQueryRecall(vocab=4, kv_pairs=1), 6, all_multi_query),
    (SelectiveCopy(vocab=5, n_copied=2), 7, all_copying),
]


@pytest.mark.parametrize(("task", "seq_len", "every"), SPACES)
def test_small_spaces_are_drawn_in_full_and_split_without_overlap(task, seq_len, every):
    drawn = {s: set(map(tuple, task.draw(20_000, seq_len, seed=0, split=s).tokens.tolist())) for s in SPLITS}
    assert not drawn["train"] & drawn["validation"]
    assert not drawn["train"] & drawn["test"]
    assert not drawn["validation"] & drawn["test"]
    assert set.union(*drawn.values()) == set(every(task, seq_len))


@pytest.mark.parametrize("name", TASKS)
def test_the_splits_have_their_shares(name):
    """Of sequences of all splits mixed in proportion, 6/8 are of the training split; counted over disjoint draws."""
    task = TASKS[name]
    tokens = torch.cat([task.draw(n, 32, seed=5, split=s).tokens for s, n in zip(SPLITS, (60, 10, 10), strict=True)])
    assert split_of(tokens).bincount().tolist() == [60, 10, 10]
    free = torch.randint(task.vocab, (40_000, 32), generator=torch.Generator().manual_seed(1))
    shares = split_of(free).bincount() / len(free)
    assert shares.tolist() == pytest.approx([6 / 8, 1 / 8, 1 / 8], abs=4.5 * (0.75 * 0.25 / 40_000) ** 0.5)


@pytest.mark.parametrize("name", TASKS)
def test_a_draw_is_pure(name):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = TASKS[name].draw(50, 40, seed=(7, 1), split="validation")
    torch.rand(3)
    torch.set_rng_state(before)
    second = TASKS[name].draw(50, 40, seed=(7, np.int64(1)), split="validation")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_all_that_is_given_changes_the_draw():
    def draw(task="recall", seq_len=40, **options):
        return TASKS[task].draw(6, seq_len, **{"seed": 0, **options}).tokens[:, :4].tolist()

    draws = [draw(), draw(seed=1), draw(seed=(0, 0)), draw(seq_len=41), draw(split="test"), draw(task="recall_delay")]
    assert all(a != b for a, b in permutations(draws, 2))
    assert draw(seed=(0,)) == draws[0]


def test_a_large_draw_is_put_together_from_several():
    batch = TASKS["induction"].draw(3000, 2048, seed=0)  # more tokens than are drawn at once
    assert batch.tokens.shape == (3000, 2048)
    assert len(batch.tokens.unique(dim=0)) == 3000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", TASKS)
def test_draws_on_a_gpu(name):
    task = TASKS[name]
    before = torch.cuda.get_rng_state()
    first, second = (task.draw(500, 64, seed=3, split="test", device="cuda") for _ in range(2))
    assert all(a.is_cuda and torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    on_cpu = first.tokens.cpu()
    assert torch.equal(split_of(on_cpu), torch.full((500,), SPLITS.index("test")))
    train = task.draw(500, 64, seed=3, device="cuda").tokens.cpu()
    assert len(torch.cat([on_cpu, train]).unique(dim=0)) == 1000
