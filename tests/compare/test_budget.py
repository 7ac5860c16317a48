"""The arithmetic of the time limit, on a clock of its own."""

import heapq

import pytest

from mambattn.compare._budget import SHORTEST, Budget, fair_share


@pytest.mark.parametrize(
    ("remaining", "busy", "n_fits", "n_after", "expected"),
    [
        (100, [0], 5, 0, 20),
        (100, [0, 0], 15, 0, 100 / 8),
        (100, [0, 0], 4, 0, 50),
        (100, [0, 0], 1, 0, 100),
        (100, [0, 50], 3, 0, 50),
        (100, [0, 100], 5, 0, 20),
        (100, [0, 0], 4, 1, 100 / 3),
        (100, [0], 5, 1, 100 / 6),
        (0, [0], 3, 0, 0),
        (-5, [0, 0], 3, 0, 0),
    ],
)
def test_fair_share(remaining, busy, n_fits, n_after, expected):
    assert fair_share(remaining, busy, n_fits, n_after) == pytest.approx(expected)


@pytest.mark.parametrize("n_workers", [1, 2, 3])
@pytest.mark.parametrize("n_fits", [1, 4, 7, 15])
def test_fair_share_is_the_longest_that_has_room(n_workers, n_fits):
    busy = [0.0, 3.0, 11.0][:n_workers]
    share = fair_share(60, busy, n_fits)

    def ends(length):
        free = list(busy)
        heapq.heapify(free)
        for _ in range(n_fits):
            heapq.heappush(free, heapq.heappop(free) + length)
        return max(free)

    assert ends(share) <= 60 + 1e-9
    assert ends(share * 1.001) > 60


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def simulate(limit, n_workers, needs, *, around=0.0, n_after=0, names=None):
    """Play a comparison: fit i trains for `needs[i]` seconds or for what it is given; return the shares and the end."""
    clock = Clock()
    budget = Budget(limit, n_workers, clock=clock)
    names = names or ["net"] * len(needs)
    given, running, i = [], [], 0
    while i < len(needs) or running:
        while i < len(needs) and len(running) < n_workers:
            seconds = budget.start(i, names[i:], n_after)
            given.append(seconds)
            heapq.heappush(running, (clock.now + min(needs[i], seconds) + around, i))
            i += 1
        clock.now, done = heapq.heappop(running)
        cut = needs[done] >= given[done]
        budget.finish(done, names[done], around if cut else None)
    return given, clock.now - 1000.0


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_fits_that_are_all_cut_get_the_same_and_end_in_time(n_workers):
    given, end = simulate(120, n_workers, [1e9] * 15)
    assert end <= 120
    assert end >= 120 * 0.9
    assert max(given) <= 1.06 * min(given)


def test_what_quick_fits_leave_goes_to_the_slow_ones_in_equal_parts():
    given, end = simulate(120, 2, [1.0] * 6 + [1e9] * 9)
    assert given[0] == pytest.approx(0.97 * 120 / 8)
    slow = given[6:]
    assert min(slow) > 0.97 * (120 - 3) / 5 - 0.1
    assert max(slow) <= 1.06 * min(slow)
    assert end <= 120


def test_what_fits_need_beside_training_is_learned():
    _, end = simulate(120, 2, [1e9] * 16, around=1.5)
    assert end <= 121.5


def test_models_that_predict_slowly_train_as_long_as_the_others():
    clock = Clock()
    budget = Budget(100, 1, clock=clock)
    trained = {"slow": [], "fast": []}
    names = ["slow", "fast"] * 4
    for i, name in enumerate(names):
        seconds = budget.start(i, names[i:])
        overhead = 5.0 if name == "slow" else 0.0
        clock.now += seconds + overhead
        trained[name].append(seconds)
        budget.finish(i, name, overhead)
    assert budget.elapsed() == pytest.approx(100, abs=0.5)
    later = trained["slow"][1:] + trained["fast"][1:]
    assert max(later) <= 1.02 * min(later)


def test_time_is_left_for_what_comes_after():
    given, end = simulate(100, 2, [1e9] * 4, n_after=1)
    assert end <= 100 - 0.97 * 100 / 3
    clock = Clock()
    budget = Budget(100, 2, clock=clock)
    clock.now += end
    assert budget.start("refit", ["net"]) >= given[0]


def test_time_of_earlier_runs_counts_and_no_fit_gets_nothing():
    clock = Clock()
    budget = Budget(100, 1, spent=60.0, clock=clock)
    assert budget.elapsed() == 60
    assert budget.start("a", ["a", "b"]) == pytest.approx(0.97 * 20)
    clock.now += 1000
    budget.finish("a", "a")
    assert budget.start("b", ["b"]) == SHORTEST
    assert Budget(None, 1).start("a", ["a"]) is None
