"""Killed runs and killed workers lose nothing: what goes on ends where an uninterrupted run does, to the bit."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import joblib
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from mambattn._errors import DataError, MambAttnError
from mambattn.recall import cell as cells
from mambattn.recall import outcome as outcomes
from mambattn.recall import run, running
from mambattn.recall.cell import CellTraining
from mambattn.recall.outcome import run_cell
from mambattn.recall.pool import run_on_workers
from mambattn.recall.store import Store

RUN_AND_HANG = """
import json, sys, time
import torch
from mambattn.recall import Study, Watcher, run, running

class Hanging(Watcher):
    def step(self, task, arch, n_done, n_steps):
        if (arch, n_done) == ("hybrid_a", 100):
            print("hangs", flush=True)
            time.sleep(600)

torch.set_num_threads(1)
running._SAVE_EVERY = 0.0
run(Study.from_dict(json.loads(sys.argv[1])), sys.argv[2], workers=1, watcher=Hanging())
"""


@pytest.fixture(scope="module")
def study(tiny):
    return tiny(archs=("learned", "hybrid_a"), steps=130)


@pytest.fixture(scope="module")
def whole(study, kept, tmp_path_factory):
    """Give what a run that nothing interrupted leaves in its directory."""
    out = tmp_path_factory.mktemp("whole")
    run(study, out, workers=1)
    return kept(out)


def n_steps_of(checkpoint):
    return int(load_file(checkpoint)["step"])


def test_a_killed_run_goes_on_to_the_same_bits(study, whole, kept, tmp_path):
    command = [sys.executable, "-c", RUN_AND_HANG, json.dumps(study.to_dict()), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    assert (checkpoint.name, n_steps_of(checkpoint)) == ("induction__hybrid_a.safetensors", 99)
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == 1

    with (tmp_path / "cells.jsonl").open("a") as file:
        file.write('{"rows": [{"task": "induc')  # as if it had been killed once more, as it wrote the cell
    run(study, tmp_path, workers=1)
    assert kept(tmp_path) == whole
    assert not list((tmp_path / "checkpoints").iterdir())


def cut_after(n_steps, *call):
    """Run a cell until its clock, which ticks once a step, has said so many ticks."""
    ticks = iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes, "time", SimpleNamespace(time=lambda: next(ticks), monotonic=time.monotonic))
        return run_cell(*call, deadline=n_steps)


@pytest.mark.parametrize("arch", ["MAM:window=5:log_scaling=test", "S:positions=learned"])
def test_a_cell_goes_on_from_any_step(study, tmp_path, arch):
    call = (study.replace(seeds=(1,)), "delay", arch, "cpu", tmp_path / "state.safetensors")
    uncut = run_cell(*call[:-1])
    n_done = 0
    for more in (1, 98, 1, 1, 28):  # sequences are drawn for 100 steps at a time
        n_done += more
        cut = cut_after(more, *call)
        assert [(row.steps, row.finished) for row in cut.rows] == [(n_done, False)]
        assert n_steps_of(call[-1]) == n_done
    done = run_cell(*call)
    assert (done.rows, done.members) == (uncut.rows, uncut.members)
    assert n_steps_of(call[-1]) == 130  # kept before the tests, for they take long
    assert run_cell(*call).rows == uncut.rows
    assert done.seconds > cut.seconds > 0


def test_tests_that_are_done_are_not_made_again(study, tmp_path, monkeypatch):
    call = (study.replace(archs=("learned",), steps=20), "induction", "learned", "cpu", tmp_path / "state.safetensors")
    monkeypatch.setattr(cells, "_TEST_TOKENS", {"cpu": 24 * 16 * len(study.seeds)})
    uncut = run_cell(*call[:-1])
    tallies, made = CellTraining.tallies, []

    def stop_within_length_24(training, members, seq_len, *further):
        for tally in tallies(training, members, seq_len, *further):
            made.append((seq_len, tally.n))
            yield tally
            if seq_len == 24 and made.count((24, 16)) == 1 and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt

    stopped = []
    monkeypatch.setattr(CellTraining, "tallies", stop_within_length_24)
    with pytest.raises(KeyboardInterrupt):
        run_cell(*call, save_every=0.0)
    first = list(made)
    assert first[-1] == (24, 16)
    done = run_cell(*call)
    assert made[len(first) :] == [(24, 32)]
    assert (done.rows, done.members) == (uncut.rows, uncut.members)


def test_a_time_limit_cuts_tests_too(study, tmp_path, monkeypatch):
    call = (study.replace(archs=("learned",), steps=20), "induction", "learned", "cpu", tmp_path / "state.safetensors")
    monkeypatch.setattr(cells, "_TEST_TOKENS", {"cpu": 16 * 8 * len(study.seeds)})
    uncut = run_cell(*call[:-1])
    clock = iter([0.0] * 23 + [9.0] * 1000)
    with monkeypatch.context() as patched:
        patched.setattr(outcomes.time, "time", lambda: next(clock))
        cut = run_cell(*call, deadline=5.0)
    assert not cut.finished
    assert cut.rows[0].steps == 20
    assert run_cell(*call).rows == uncut.rows


def damage(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: path.write_bytes(b""),
        lambda path: save_file({"weights": torch.zeros(1)}, path),
    ],
    ids=["one bit", "cut short", "empty", "of another program"],
)
def test_a_damaged_checkpoint_is_refused_by_name(study, tmp_path, harm):
    study = study.replace(archs=("learned",), steps=20)
    path = Store(tmp_path, study, "cpu").checkpoint("induction", "learned")
    cut_after(3, study, "induction", "learned", "cpu", path)
    harm(path)
    with pytest.raises(DataError) as caught:
        run(study, tmp_path, workers=1)
    assert str(caught.value) == (
        f"{str(path)!r} must be a checkpoint, however it is damaged or of a newer mambattn. "
        "Remove it, and its cell is trained again from the first step; or use another directory."
    )
    path.unlink()
    assert run(study, tmp_path, workers=1).rows == run(study, workers=1).rows


@pytest.mark.parametrize("changes", [{"steps": 19}, {"seeds": (3, 0)}, {"clip": 2.0}])
def test_the_checkpoint_of_another_study_is_refused(study, tmp_path, changes):
    path = tmp_path / "a.safetensors"
    call = ("induction", "learned", "cpu", path)
    cut_after(3, study.replace(steps=20), *call)
    with pytest.raises(DataError, match=r"a\.safetensors' is a checkpoint of another study or device\. Remove it, and"):
        run_cell(study.replace(**{"steps": 20, **changes}), *call)
    with pytest.raises(DataError, match=r"is a checkpoint of another study or device\."):
        run_cell(study.replace(steps=20), "induction", "nope", "cpu", path)


def test_two_workers_give_the_same_bytes(study, whole, kept, tmp_path):
    run(study, tmp_path, workers=2)
    assert kept(tmp_path) == whole
    assert not workers_of_this_process()


def workers_of_this_process():
    return [process for process in psutil.Process().children() if "popen_loky" in " ".join(process.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_is_named_and_loses_nothing(study, whole, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_SAVE_EVERY", 0.0)
    store = Store(tmp_path, study, "cpu")
    checkpoint = store.checkpoint("induction", "hybrid_a")

    def kill_a_worker():
        while not checkpoint.exists():
            time.sleep(0.005)
        workers_of_this_process()[0].kill()

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    message = r"^A worker process was killed, most often for lack of memory\. Use fewer workers than 2\. With the same `out`, the cells that are done are kept, and the others go on from their checkpoints\.$"
    with pytest.raises(MambAttnError, match=message):
        run(study, tmp_path, workers=2)
    killer.join()
    assert not workers_of_this_process()
    assert 0 < n_steps_of(checkpoint) < 130
    run(study, tmp_path, workers=1)
    assert kept(tmp_path) == whole


@joblib.wrap_non_picklable_objects  # the workers cannot import this file
def wait_or_die(seconds, dies):
    time.sleep(seconds)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return seconds


def test_what_was_done_before_a_worker_died_is_handed_over():
    results = run_on_workers(wait_or_die, [(0.0, False), (0.6, True), (60.0, False)], 2)
    assert next(results) == 0.0
    with pytest.raises(MambAttnError, match="A worker process was killed"):
        next(results)
    assert not workers_of_this_process()
