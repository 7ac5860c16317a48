"""A run: the same rows wherever its cells are trained, nothing touched that is not its own, and its refusals."""

import json
import math
import random
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mambattn._errors import BackendUnavailableError, ConfigError, DataError
from mambattn.recall import Watcher, cell, outcome, pool, run, running


class Notes(Watcher):
    """Writes down what it is told, and the checkpoints there are at that time."""

    def __init__(self, out=None):
        self.out = out
        self.said = []
        self.n_checkpoints = []

    def _look(self):
        if self.out is not None:
            self.n_checkpoints.append(len(list((self.out / "checkpoints").iterdir())))

    def begin(self, n_cells, n_kept):
        self.said.append((n_cells, n_kept))

    def step(self, task, arch, n_done, n_steps):
        self._look()
        self.said.append((arch, n_done, n_steps))

    def done(self, outcome):
        self._look()
        self.said.append((outcome.rows[0].arch, outcome.finished))


def test_the_watcher_learns_how_it_goes(tiny, tmp_path):
    notes = Notes()
    run(tiny(steps=101), tmp_path, workers=1, watcher=notes)
    steps = {arch: [(arch, 50, 101), (arch, 100, 101), (arch, True)] for arch in ("mamba", "learned")}
    assert notes.said == [(2, 0), *steps["mamba"], *steps["learned"]]
    again = Notes()
    run(tiny(steps=101, archs=("learned", "nope", "mamba")), tmp_path, workers=1, watcher=again)
    assert again.said == [(3, 2), ("nope", 50, 101), ("nope", 100, 101), ("nope", True)]


def test_a_directory_goes_on_with_more_tasks_and_architectures(tiny, tmp_path, kept):
    archs = (*tiny().archs, "nope")
    for study in (tiny(), *[tiny(tasks=("delay", "induction"), archs=archs)] * 2):
        results = run(study, tmp_path / "grown", workers=1)
        assert [(row.task, row.arch, row.seed) for row in results.rows] == [
            (task, arch, seed) for task in study.tasks for arch in study.archs for seed in study.seeds
        ]
    assert len(kept(tmp_path / "grown")[1]) == 6
    assert run(study, workers=1).rows == results.rows
    for change, name in (({"archs": ("nope",)}, "archs"), ({"tasks": ("delay",)}, "tasks")):
        message = (
            rf"grown' holds a study with '.*' among its {name}, however this one has {name}=.*add what is missing\.$"
        )
        with pytest.raises(DataError, match=message):
            run(study.replace(**change), tmp_path / "grown", workers=1)
    settings = json.loads((tmp_path / "grown" / "settings.json").read_text())
    (tmp_path / "grown" / "settings.json").write_text(json.dumps({**settings, "device": "cuda"}))
    assert run(study, tmp_path / "grown", workers=1).rows == results.rows  # nothing is left to train
    with pytest.raises(DataError, match=r"trained on cuda, however this machine would go on on cpu, .* device='cuda'"):
        run(study.replace(archs=(*archs, "rotary")), tmp_path / "grown", workers=1)


def test_a_split_without_sequences_is_refused_before_anything_is_trained(tiny, tmp_path):
    study = tiny(tasks=("induction", "induction:markers=2:vocab=4"), train_length=8, lengths=(3, 8))
    with pytest.raises(ConfigError, match="too few different ones"):
        run(study, tmp_path / "none", workers=1)
    assert not (tmp_path / "none").exists()


def test_no_more_than_the_cell_under_way_has_a_checkpoint(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_SAVE_EVERY", 0.0)
    notes = Notes(tmp_path)
    run(tiny(archs=("mamba", "nope", "learned")), tmp_path, workers=1, watcher=notes)
    assert notes.n_checkpoints == [1, 0] * 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "cells.jsonl",
        "checkpoints",
        "results.json",
        "settings.json",
    ]


def test_a_run_leaves_threads_and_generators_as_they_were(tiny):
    def state():
        legacy = np.random.get_state(legacy=False)  # noqa: NPY002 - the global generator is meant
        return [
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
            legacy["state"]["key"].tolist(),
            legacy["state"]["pos"],
            random.getstate(),
        ]

    torch.set_num_threads(2)
    try:
        before = state()
        assert run(tiny(), workers=1).rows == run(tiny(), workers=1).rows
        assert state() == before
        with pytest.raises(RuntimeError, match="stop"):
            run(tiny(), workers=1, watcher=Stopping())
        assert state() == before
    finally:
        torch.set_num_threads(1)


class Stopping(Watcher):
    def step(self, task, arch, n_done, n_steps):
        assert torch.get_num_threads() == 1
        raise RuntimeError("stop")


def test_the_rows_are_what_a_closer_look_finds(tiny):
    """The learning rate is the best on the validation draw, and accuracies are those of the members with it."""
    study = tiny(steps=40, lrs=(1e-5, 2e-2))
    results = run(study, workers=1)
    training = cell.CellTraining(study, "induction", "mamba", torch.device("cpu"))
    for _ in range(40):
        training.step()
    right, loss = training.measure(range(4), 16, 32, "validation")
    worth = {lr: (sum(right[i::2]), -sum(loss[i::2])) for i, lr in enumerate(study.lrs)}
    best = max(worth, key=lambda lr: worth[lr])
    chosen = [i for i, (_, lr) in enumerate(cell.members_of(study)) if lr == best]
    for row, i in zip(results.rows, chosen, strict=False):  # the rows of mamba come first
        curve = {n: training.measure([i], n, 32, "test")[0][0] for n in study.lengths}
        assert (row.seed, row.lr, dict(row.accuracy), row.solved) == (
            cell.members_of(study)[i][0],
            best,
            curve,
            curve[16] >= 0.99,
        )


def test_what_is_done_needs_no_ray(tiny, tmp_path):
    done = run(tiny(), tmp_path, workers=1)
    assert run(tiny(), tmp_path, ray="nowhere:1").rows == done.rows


def test_the_clock_cuts_cells(tiny, tmp_path, monkeypatch, kept):
    """With a clock that ticks once a step, 85 ticks are a cell of 60 steps and 25 steps of the next."""
    study = tiny(archs=("mamba", "learned", "nope"))
    whole = run(study, tmp_path / "whole", workers=1)
    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        ticks = iter(range(1000))
        patch.setattr(outcome, "time", SimpleNamespace(time=lambda: next(ticks), monotonic=outcome.time.monotonic))
        patch.setattr(running, "time", SimpleNamespace(time=lambda: 0.0))
        notes = Notes()
        cut = run(study, out, workers=1, time_limit=85, watcher=notes)
    assert [entry for entry in notes.said if len(entry) == 2] == [
        (3, 0),
        ("mamba", True),
        ("learned", False),
        ("nope", False),
    ]
    assert cut.rows[:2] == whole.rows[:2]
    for row, steps in zip(cut.rows[2:], (25, 25, 0, 0), strict=True):
        assert (row.steps, row.finished, row.solved, dict(row.accuracy)) == (steps, False, False, {})
        assert math.isnan(row.lr)
    text, cells = kept(out)
    assert [(row["arch"], row["finished"], row["lr"]) for row in json.loads(text)][2:] == [
        ("learned", False, None), ("learned", False, None), ("nope", False, None), ("nope", False, None),
    ]  # fmt: skip
    assert list(cells) == ["induction mamba"]
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["induction__learned.safetensors"]
    run(study, out, workers=1)
    assert kept(out) == kept(tmp_path / "whole")


def test_a_limit_that_is_over_at_once_cuts_all_and_keeps_nothing(tiny, tmp_path):
    results = run(tiny(), tmp_path, workers=1, time_limit=1e-9)
    assert [(row.steps, row.finished) for row in results.rows] == [(0, False)] * 4
    assert not list((tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "cells.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_limit": 0}, "`time_limit` must be a number of seconds above 0, however time_limit=0."),
        ({"time_limit": math.nan}, "`time_limit` must be a number of seconds above 0, however time_limit=nan."),
        ({"time_limit": "1h"}, "`time_limit` must be a number of seconds above 0, however time_limit='1h'."),
        ({"workers": 0}, "`workers` must be an integer of at least 1, however workers=0."),
        ({"workers": 1.5}, "`workers` must be an integer of at least 1, however workers=1.5."),
        ({"workers": 2, "ray": "auto"}, "`workers` does not go with `ray`, however workers=2, ray='auto'. Give one."),
    ],
)
def test_refusals(tiny, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        run(tiny(), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_an_unknown_device_is_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"^`device` must be 'auto' or a torch device such as 'cpu' or 'cuda:0', however device='gpu'\.$",
    ):
        run(tiny(device="gpu"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["mps", "meta"])
def test_a_device_that_cannot_compute_is_refused_before_anything_is_written(tiny, tmp_path, device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(
        ConfigError, match=rf"^`device` is '{device}', however .* cannot compute on it\. Use device='auto'"
    ):
        run(tiny(device=device), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_second_run_in_the_same_directory_is_refused(tiny, tmp_path):
    class Second(Watcher):
        def begin(self, n_cells, n_kept):
            with pytest.raises(
                DataError, match=rf"another run is at work in {str(tmp_path)!r}\. Wait until it has ended"
            ):
                run(tiny(archs=("nope", "mamba", "learned")), tmp_path, workers=1)

    results = run(tiny(), tmp_path, workers=1, watcher=Second())
    assert json.loads((tmp_path / "settings.json").read_text())["archs"] == ["mamba", "learned"]
    assert run(tiny(), tmp_path, workers=1).rows == results.rows


def test_ray_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    message = (
        r"^`ray` needs the package ray, however it is not installed\. Install it with: pip install 'mambattn\[ray\]'$"
    )
    with pytest.raises(BackendUnavailableError, match=message):
        next(pool.run_on_ray(len, [((),)], "auto", n_cpus=1, n_gpus=0))
