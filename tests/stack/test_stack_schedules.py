"""The tabular schedules, all 90, against literal strings and against the modules that are built."""

import contextlib
import itertools

import pytest

from mambattn.configs import MambAttentionConfig
from mambattn.mixers import Attention, Mamba
from mambattn.schedule import tabular_schedule
from mambattn.stack import Stack

# (n_layers, n_attention_layers, n_mamba_per_attention): last_layer "attn", last_layer "mamba"
SCHEDULES = {
    (2, 1, 1): ("MAMA", "MAM"),
    (2, 1, 2): ("MMA", "MMAM"),
    (2, 1, 3): ("MMMA", "MMM"),
    (2, 2, 1): ("MAMA", "MAMAM"),
    (2, 2, 2): ("MMAMA", "MMAM"),
    (2, 2, 3): ("MMMA", "MMMAM"),
    (2, 3, 1): ("MAMAMA", "MAMAM"),
    (2, 3, 2): ("MMAMMA", "MMAMM"),
    (2, 3, 3): ("MMMAMA", "MMMAM"),
    (3, 1, 1): ("MAMA", "MAMAM"),
    (3, 1, 2): ("MMAMA", "MMAM"),
    (3, 1, 3): ("MMMA", "MMMAM"),
    (3, 2, 1): ("MAMAMA", "MAMAM"),
    (3, 2, 2): ("MMAMMA", "MMAMM"),
    (3, 2, 3): ("MMMAMA", "MMMAM"),
    (3, 3, 1): ("MAMAMA", "MAMAMAM"),
    (3, 3, 2): ("MMAMMA", "MMAMMAM"),
    (3, 3, 3): ("MMMAMMA", "MMMAMM"),
    (4, 1, 1): ("MAMAMA", "MAMAM"),
    (4, 1, 2): ("MMAMMA", "MMAMM"),
    (4, 1, 3): ("MMMAMA", "MMMAM"),
    (4, 2, 1): ("MAMAMA", "MAMAMAM"),
    (4, 2, 2): ("MMAMMA", "MMAMMAM"),
    (4, 2, 3): ("MMMAMMA", "MMMAMM"),
    (4, 3, 1): ("MAMAMAMA", "MAMAMAM"),
    (4, 3, 2): ("MMAMMAMA", "MMAMMAM"),
    (4, 3, 3): ("MMMAMMMA", "MMMAMMM"),
    (5, 1, 1): ("MAMAMA", "MAMAMAM"),
    (5, 1, 2): ("MMAMMA", "MMAMMAM"),
    (5, 1, 3): ("MMMAMMA", "MMMAMM"),
    (5, 2, 1): ("MAMAMAMA", "MAMAMAM"),
    (5, 2, 2): ("MMAMMAMA", "MMAMMAM"),
    (5, 2, 3): ("MMMAMMMA", "MMMAMMM"),
    (5, 3, 1): ("MAMAMAMA", "MAMAMAMAM"),
    (5, 3, 2): ("MMAMMAMMA", "MMAMMAMM"),
    (5, 3, 3): ("MMMAMMMA", "MMMAMMMAM"),
    (6, 1, 1): ("MAMAMAMA", "MAMAMAM"),
    (6, 1, 2): ("MMAMMAMA", "MMAMMAM"),
    (6, 1, 3): ("MMMAMMMA", "MMMAMMM"),
    (6, 2, 1): ("MAMAMAMA", "MAMAMAMAM"),
    (6, 2, 2): ("MMAMMAMMA", "MMAMMAMM"),
    (6, 2, 3): ("MMMAMMMA", "MMMAMMMAM"),
    (6, 3, 1): ("MAMAMAMAMA", "MAMAMAMAM"),
    (6, 3, 2): ("MMAMMAMMA", "MMAMMAMMAM"),
    (6, 3, 3): ("MMMAMMMAMA", "MMMAMMMAM"),
}
CASES = [
    (*counts, last_layer, schedule)
    for counts, pair in SCHEDULES.items()
    for last_layer, schedule in zip(("attn", "mamba"), pair, strict=True)
]


def test_the_table_is_whole():
    assert set(SCHEDULES) == set(itertools.product(range(2, 7), range(1, 4), range(1, 4)))
    assert len(CASES) == 90
    # As the design says of the documented settings: the counts alone mislead.
    assert sum(schedule.count("A") != n_attention for _, n_attention, _, _, schedule in CASES) == 56


@pytest.mark.parametrize(("n_layers", "n_attention", "n_mamba", "last_layer", "schedule"), CASES)
def test_the_rule_and_the_modules_follow_the_table(n_layers, n_attention, n_mamba, last_layer, schedule):
    assert tabular_schedule(n_layers, n_attention, n_mamba, last_layer) == schedule
    warns = contextlib.nullcontext() if "A" in schedule else pytest.warns(UserWarning, match="has no attention layer")
    with warns:
        config = MambAttentionConfig(
            d_model=8,
            d_state=2,
            n_layers=n_layers,
            n_attention_layers=n_attention,
            n_mamba_per_attention=n_mamba,
            last_layer=last_layer,
        )
    assert config.layer_schedule == schedule
    stack = Stack(config.d_model, config.layer_schedule, settings=config.layer_settings())
    kinds = {"M": Mamba, "A": Attention}
    assert [type(block.mixer) for block in stack.layers] == [kinds[letter] for letter in schedule]
    for block in stack.layers:
        if isinstance(block.mixer, Mamba):
            assert (block.mixer.d_state, block.mixer.d_inner) == (2, 16)
        else:
            assert (block.mixer.n_heads, block.mixer.dropout, block.mixer.causal) == (8, 0.2, False)
            assert block.mixer.window is None


def test_the_settings_of_every_letter_fit_its_mixer():
    config = MambAttentionConfig(schedule="MSALG-", d_model=16, window=5, n_heads=4, d_state=2, expand_factor=3)
    stack = Stack(config.d_model, config.layer_schedule, settings=config.layer_settings())
    mamba, mamba2, attention, local, both, mlp = (block.mixer for block in stack.layers)
    assert (mamba.d_inner, mamba2.d_inner, mlp.mlp.d_hidden) == (48, 48, 48)
    assert (mamba.d_state, mamba2.d_state) == (2, 2)
    assert [attention.window, local.window, both.local_attention.window] == [None, 5, 5]
    assert {attention.n_heads, local.n_heads, both.local_attention.n_heads} == {4}
