"""A study: what it makes of its settings, and every refusal."""

import json
import math
import re

import numpy as np
import pytest

from mambattn._errors import ConfigError
from mambattn.recall import PRESETS, Study


def test_names_become_canonical_and_lengths_ordered():
    study = Study.from_dict(
        {
            "tasks": ["recall:tau=5", "delay:tau=1:vocab=32"], "archs": [" MA:window=4:positions=rotary "],
            "seeds": list(np.arange(2)), "lrs": [np.float64(0.5)], "lengths": [128, 64], "train_length": 32,
        }
    )  # fmt: skip
    assert study.tasks == ("recall_delay", "induction:vocab=32")
    assert study.archs == ("MA:positions=rotary:window=4",)
    assert study.lengths == (32, 64, 128)
    assert (study.seeds, study.lrs) == ((0, 1), (0.5,))
    assert Study.from_dict(json.loads(json.dumps(study.to_dict()))) == study


def test_the_identity_of_a_cell_leaves_out_what_it_does_not_depend_on():
    study = Study.from_preset("quick")
    same = study.replace(tasks=("mqar",), archs=("nope",), preset=None, device="cpu")
    assert study.identity() == same.identity()
    assert study.identity() == json.loads(json.dumps(study.identity()))
    others = {
        "seeds": (5,),
        "lrs": (1.0,),
        "steps": 7,
        "train_length": 31,
        "lengths": (99,),
        "d_model": 24,
        "n_heads": 2,
        "d_state": 5,
    }
    others |= {
        "norm_position": "pre",
        "mlp": True,
        "batch": 7,
        "betas": (0.0, 0.5),
        "clip": None,
        "lr_schedule": "constant",
    }
    others |= {"n_validation": 7, "n_test": 7, "n_threads": 2}  # fmt: skip
    assert set(study.identity()) == set(others)
    for name, value in others.items():
        assert study.replace(**{name: value}).identity() != study.identity(), name


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_hold_and_flags_override_them(preset):
    study = Study.from_preset(preset, steps=5)
    assert (study.preset, study.steps) == (preset, 5)
    for name, value in PRESETS[preset].items():
        if name not in ("steps", "lengths"):
            assert getattr(study, name) == value
    assert (study.norm_position, study.mlp) == ("post", False)


def test_the_published_preset_is_the_published_setting():
    study = Study.from_preset("published")
    assert (study.d_model, study.n_heads, study.batch, study.lrs, study.steps) == (8, 1, 64, (1e-4,), 312_500)
    assert (study.tasks, max(study.lengths), study.clip) == (("induction", "delay"), 128, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ()}, "`tasks` must be a list of names, one at least, however tasks=()."),
        ({"tasks": "recall"}, "`tasks` must be a list of names, one at least, however tasks='recall'."),
        ({"tasks": (3,)}, "`tasks` must hold names, however one is 3."),
        ({"tasks": ("recal",)}, "There is no task 'recal'. Did you mean 'recall'?"),
        ({"tasks": ("recall", "recall")}, "`tasks` must be different from each other, however 'recall' and 'recall' are the same. Use one."),
        ({"tasks": ("delay", "induction:tau=5")}, "`tasks` must be different from each other, however 'delay' and 'delay' are the same. Use one."),
        ({"archs": ()}, "`archs` must be a list of names, one at least, however archs=()."),
        ({"archs": "mamba"}, "`archs` must be a list of names, one at least, however archs='mamba'."),
        ({"archs": (["MA"],)}, "`archs` must hold names, however one is ['MA']."),
        ({"archs": ("mambo",)}, "There is no architecture 'mambo'. Did you mean 'mamba'?"),
        ({"archs": ("hybrid_b", "MA", "MAM")}, "`archs` must be different from each other, however 'hybrid_b' and 'MAM' are the same. Use one."),
        ({"archs": ("rotary", "nope:positions=rotary")}, "`archs` must be different from each other, however 'rotary' and 'nope:positions=rotary' are the same."),
        ({"archs": ("AA:window=5", "LL:window=5")}, "`archs` must be different from each other, however 'AA:window=5' and 'LL:window=5' are the same. Use one."),
        ({"archs": ("L", "mamba", "A:window=64")}, "`archs` must be different from each other, however 'L' and 'A:window=64' are the same. Use one."),
        ({"archs": ("ML:window=64", "ML")}, "`archs` must be different from each other, however 'ML:window=64' and 'ML' are the same. Use one."),
        ({"seeds": 3}, "`seeds` must be a list of whole numbers from 0 to 2**63 - 1, one at least, however seeds=3."),
        ({"seeds": ()}, "`seeds` must be a list of whole numbers from 0 to 2**63 - 1, one at least, however seeds=()."),
        ({"seeds": (-1,)}, "`seeds` must hold whole numbers from 0 to 2**63 - 1, however one is -1."),
        ({"seeds": (2**63,)}, "`seeds` must hold whole numbers from 0 to 2**63 - 1, however one is 9223372036854775808."),
        ({"seeds": (1.0,)}, "`seeds` must hold whole numbers from 0 to 2**63 - 1, however one is 1.0."),
        ({"seeds": (True,)}, "`seeds` must hold whole numbers from 0 to 2**63 - 1, however one is True."),
        ({"seeds": (4, 5, 4)}, "`seeds` must be different from each other, however 4 and 4 are the same. Use one."),
        ({"lrs": ()}, "`lrs` must be a list of positive numbers, one at least, however lrs=()."),
        ({"lrs": (0,)}, "`lrs` must hold positive numbers, however one is 0."),
        ({"lrs": (1e-3, math.nan)}, "`lrs` must hold positive numbers, however one is nan."),
        ({"lrs": (math.inf,)}, "`lrs` must hold positive numbers, however one is inf."),
        ({"lrs": ("1e-3",)}, "`lrs` must hold positive numbers, however one is '1e-3'."),
        ({"lrs": (1, 1.0)}, "`lrs` must be different from each other, however 1 and 1.0 are the same. Use one."),
        ({"lengths": (0,)}, "`lengths` must hold whole numbers of at least 1, however one is 0."),
        ({"lengths": (64.0,)}, "`lengths` must hold whole numbers of at least 1, however one is 64.0."),
        ({"lengths": (64, 64)}, "`lengths` must be different from each other, however 64 and 64 are the same. Use one."),
        ({"lengths": (2, 64)}, "`lengths` must be at least 3 for the task 'induction', however it is 2. Use longer sequences, or fewer queries in the task."),
        ({"train_length": 2}, "`train_length` must be at least 3 for the task 'induction', however it is 2. Use longer sequences"),
        ({"train_length": 32.5}, "`train_length` must be an integer in [1, inf), however train_length=32.5."),
        ({"steps": 0}, "`steps` must be an integer in [1, inf), however steps=0."),
        ({"d_model": 0}, "`d_model` must be an integer in [1, inf), however d_model=0."),
        ({"n_heads": True}, "`n_heads` must be an integer in [1, inf), however n_heads=True."),
        ({"d_state": 1.5}, "`d_state` must be an integer in [1, inf), however d_state=1.5."),
        ({"batch": -1}, "`batch` must be an integer in [1, inf), however batch=-1."),
        ({"n_validation": 0}, "`n_validation` must be an integer in [1, inf), however n_validation=0."),
        ({"n_test": 0}, "`n_test` must be an integer in [1, inf), however n_test=0."),
        ({"n_threads": 0}, "`n_threads` must be an integer in [1, inf), however n_threads=0."),
        ({"norm_position": "pst"}, "`norm_position` must be one of 'post', 'pre', however norm_position='pst'. Did you mean 'post'?"),
        ({"lr_schedule": "cosin"}, "`lr_schedule` must be one of 'cosine', 'constant', however lr_schedule='cosin'. Did you mean 'cosine'?"),
        ({"mlp": 1}, "`mlp` must be one of True, False, however mlp=1."),
        ({"clip": 0}, "`clip` must be a number in (0, inf), however clip=0."),
        ({"betas": None}, "`betas` must be a list of numbers in [0, 1), one at least, however betas=None."),
        ({"betas": (0.9,)}, "`betas` must be two numbers in [0, 1), however betas=(0.9,). Use (0.9, 0.98)."),
        ({"betas": (0.9, 1)}, "`betas` must hold numbers in [0, 1), however one is 1."),
        ({"betas": ("0.9", 0.5)}, "`betas` must hold numbers in [0, 1), however one is '0.9'."),
        ({"d_model": 10, "n_heads": 3}, "`d_model` must be divisible by `n_heads`, however d_model=10, n_heads=3. Use n_heads=1, 2 or 5."),
        ({"d_model": 9}, "`d_model` / `n_heads` must be even for the rotary positions of 'rotary', however d_model=9, n_heads=1. Use n_heads=1 and an even d_model."),
        ({"preset": "quik"}, "`preset` must be one of None, 'quick', 'study', 'published', however preset='quik'. Did you mean 'quick'?"),
    ],
)  # fmt: skip
def test_refusals(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        Study(**changes)
    assert str(caught.value).startswith(message)


def test_equal_betas_are_no_mistake():
    assert Study(betas=(0.9, 0.9)).betas == (0.9, 0.9)


def test_an_odd_head_is_no_fault_without_rotary_positions():
    assert Study(d_model=9, archs=("mamba", "hybrid_b")).d_model == 9


def test_unknown_presets_and_settings_are_refused():
    with pytest.raises(
        ConfigError, match=r"^`preset` must be one of 'quick', 'study', 'published', however preset='fast'\.$"
    ):
        Study.from_preset("fast")
    with pytest.raises(ConfigError, match=r"^Study has no setting 'seed'\. Did you mean 'seeds'\?$"):
        Study.from_preset("quick", seed=3)
