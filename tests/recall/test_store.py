"""The directory of a study: what goes on in it, what it refuses, and what a killed run may leave behind."""

import json
import re

import pytest

from mambattn._errors import DataError
from mambattn.recall import Row, run
from mambattn.recall.outcome import Outcome
from mambattn.recall.store import Store
from mambattn.training.files import write_text

TASKS = (
    "induction",
    "delay",
    "recall",
    "recall_delay",
    "recall:tau=3",
    "recall:vocab=64",
    "recall_delay:vocab=64",
    "mqar",
    "mqar:power_a=0.5",
    "selective_copy",
)
ARCHS = ("MA", "MAM", "mamba", "M-A", "MA:window=3", "MA:window=33", "MA:log_scaling=test", "MA:log_scaling=always", "hybrid_a:log_scaling=test", "AA:positions=learned", "MA:log_scaling=test:window=3")  # fmt: skip


def outcome(task="induction", arch="mamba"):
    row = Row(task, arch, 0, 1e-2, 60, True, {16: 1.0, 24: 0.5})
    return Outcome((row,), ({"seed": 0, "lr": 1e-2, "accuracy": 1.0, "loss": None},), 1.5)


def test_outcomes_come_back(tmp_path, tiny):
    store = Store(tmp_path / "new" / "deep", tiny(), "cpu")
    assert store.read() == {}
    for arch in ("mamba", "learned"):
        store.add(outcome(arch=arch))
    assert Store(store.out, tiny(), "cpu").read() == {
        ("induction", arch): outcome(arch=arch) for arch in ("mamba", "learned")
    }
    assert json.loads((store.out / "settings.json").read_text()) == tiny().to_dict()


def test_every_cell_has_a_checkpoint_of_its_own(tmp_path, tiny):
    store = Store(tmp_path, tiny(), "cpu")
    names = [store.checkpoint(task, arch).name for task in TASKS for arch in ARCHS]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[\w.=-]+\.safetensors", name, re.ASCII) for name in names)


def test_a_finished_cell_leaves_no_state_behind(tmp_path, tiny):
    store = Store(tmp_path, tiny(), "cpu")
    mine, other = (store.checkpoint("induction", arch) for arch in ("mamba", "mamba:positions=learned"))
    half = mine.with_name(f"{mine.name}.123.part")
    for path in (mine, half, other):
        path.touch()
    store.add(outcome())
    assert [path.exists() for path in (mine, half, other)] == [False, False, True]


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    write_text(path, "neu")
    assert path.read_text() == "neu"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", ["", '{"rows": [{"task": "indu', "{"])
@pytest.mark.parametrize("n_whole", [0, 1])
def test_a_half_written_line_is_forgotten(tmp_path, tiny, cut, n_whole):
    store = Store(tmp_path, tiny(), "cpu")
    whole = "".join(json.dumps(outcome().to_dict()) + "\n" for _ in range(n_whole))
    (tmp_path / "cells.jsonl").write_text(whole + cut)
    assert list(store.read()) == [("induction", "mamba")] * n_whole
    assert (tmp_path / "cells.jsonl").read_text() == whole
    store.add(outcome(arch="learned"))  # on a line of its own
    assert [arch for _, arch in store.read()] == ["mamba"] * n_whole + ["learned"]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "3", "null", "{}", '{"rows": [], "members": [], "seconds": 1}', '{"rows": [{"task": "a"}], "members": [], "seconds": 1}',
        '{"rows": [3], "members": [], "seconds": 1}', json.dumps(outcome().to_dict() | {"members": 3}),
    ],
)  # fmt: skip
def test_a_damaged_line_is_refused_by_number(tmp_path, tiny, line):
    store = Store(tmp_path, tiny(), "cpu")
    store.add(outcome())
    with (tmp_path / "cells.jsonl").open("a") as file:
        file.write(line + "\n")
    message = r"cells\.jsonl': line 2 must be a finished cell, however .*\. Remove the line; its cell is then trained again\.$"
    with pytest.raises(DataError, match=message):
        store.read()


def test_what_is_no_text_is_refused_by_line_or_forgotten_at_the_end(tmp_path, tiny):
    store = Store(tmp_path, tiny(), "cpu")
    store.add(outcome())
    whole = (tmp_path / "cells.jsonl").read_bytes()
    (tmp_path / "cells.jsonl").write_bytes(whole + b"\xff\xfe")
    assert list(store.read()) == [("induction", "mamba")]
    assert (tmp_path / "cells.jsonl").read_bytes() == whole
    (tmp_path / "cells.jsonl").write_bytes(whole + b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"cells\.jsonl': line 2 must be a finished cell, however JSONDecodeError"):
        store.read()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 61}, "holds a study with steps=60, however this one has steps=61."),
        ({"seeds": (0,)}, "holds a study with seeds=[0, 3], however this one has seeds=[0]."),
        ({"n_threads": 2}, "holds a study with n_threads=1, however this one has n_threads=2."),
        ({"clip": None}, "holds a study with clip=1.0, however this one has clip=None."),
    ],
)
def test_the_directory_of_another_study_is_refused_and_left_alone(tmp_path, tiny, changes, said):
    Store(tmp_path, tiny(), "cpu")
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(DataError) as caught:
        run(tiny(**changes), tmp_path)
    assert str(caught.value) == f"{str(tmp_path)!r} {said} Use another directory, or the same settings to go on."
    assert (tmp_path / "settings.json").read_bytes() == before


def test_a_file_is_no_directory(tmp_path, tiny):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(
        DataError, match=r"^`out` must be a directory, however '.*file' is a file\. Use another name\.$"
    ):
        Store(path, tiny(), "cpu")


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "3"])
def test_cells_of_unknown_settings_are_refused(tmp_path, tiny, text):
    Store(tmp_path, tiny(), "cpu").add(outcome())
    settings = tmp_path / "settings.json"
    settings.unlink() if text is None else settings.write_text(text)
    message = (
        r"settings\.json' must hold the settings of the study in its directory, however .*\. Use another directory\.$"
    )
    with pytest.raises(DataError, match=message):
        Store(tmp_path, tiny(), "cpu")
