"""describe(): parameters, operations and state, against numbers worked by hand."""

import io
import json

import pytest
import torch
from rich.console import Console

from mambattn.mixers import state_tensors
from mambattn.stack import Stack

SETTINGS = {"M": {"d_state": 2, "d_conv": 3}, "A": {"n_heads": 2, "causal": True}, "-": {"expand": 2}}


def rendered(description):
    console = Console(width=100, file=io.StringIO())
    console.print(description)
    return console.file.getvalue()


def test_numbers_by_hand():
    """d_model 8, so d_inner 16 and dt_rank 1; ten tokens.

    Mamba: 256 + 48 + 16 + 80 + 16 + 16 + 32 + 16 + 128 parameters and 16 of its norm; a token costs
    2 · (256 + 80 + 16 + 128) in the maps, 2 · 48 in the convolution and 16 · (7 · 2 + 3) in the recurrence; state
    2 · 16 and 16 · 2 numbers.
    Attention: 216 + 72 + 16; 2 · 10 · 8 · (24 + 8) in the maps and 32 for each of 55 pairs; a cache of 2 · 10 · 8.
    MLP: 256 + 128 + 16; 2 · 10 · 384.
    """
    description = Stack(8, "MA-", settings=SETTINGS).describe(seq_len=10)
    rows = [(r.layer, r.letter, r.kind, r.n_parameters, r.flops, r.state_bytes) for r in description.layers]
    assert rows == [
        (1, "M", "Mamba", 624, 13_280, 256),
        (2, "A", "global attention", 304, 6_880, 640),
        (3, "-", "MLP", 400, 7_680, 0),
    ]
    assert (description.n_parameters, description.flops, description.state_bytes) == (1_328, 27_840, 896)


def test_batch_multiplies_work_and_state_but_not_parameters():
    stack = Stack(8, "MSALG-", settings={letter: {"causal": True} for letter in "ALG"})
    one, five = stack.describe(7), stack.describe(7, batch=5)
    assert five.n_parameters == one.n_parameters == sum(p.numel() for p in stack.parameters())
    assert five.flops == 5 * one.flops
    assert five.state_bytes == 5 * one.state_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_state_bytes_are_those_of_the_state(dtype):
    settings = {"S": {"d_state": 4}, "A": {"causal": True}, "L": {"causal": True, "window": 4}, "M": {"d_state": 4}}
    stack = Stack(8, "MSAL", settings=settings).to(dtype)
    state = stack.init_state(2)
    for _ in range(9):
        _, state = stack.step(torch.zeros(2, 8, dtype=dtype), state)
    for row, layer_state in zip(stack.describe(9, batch=2).layers, state, strict=True):
        assert row.state_bytes == sum(tensor.nbytes for tensor in state_tensors(layer_state)), row.kind


def test_layers_that_are_not_causal_have_no_state():
    description = Stack(8, "MAM", settings={"M": {"d_state": 2}}).describe(5)
    assert [row.state_bytes is None for row in description.layers] == [False, True, False]
    assert description.state_bytes is None


def test_as_json_and_as_a_table():
    description = Stack(8, "MA-", settings=SETTINGS).describe(seq_len=10)
    as_dict = json.loads(json.dumps(description.to_dict()))
    assert as_dict["layers"][1] == {
        "layer": 2,
        "letter": "A",
        "kind": "global attention",
        "n_parameters": 304,
        "flops": 6_880,
        "state_bytes": 640,
    }
    assert (as_dict["schedule"], as_dict["seq_len"], as_dict["flops"]) == ("MA-", 10, 27_840)
    text = rendered(description)
    for part in ("MA-: d_model 8, seq_len 10, batch 1", "A global attention", "13,280", "27,840", "896"):
        assert part in text
    assert str(description).split() == text.split()


def test_the_table_says_what_is_not_causal():
    assert "not causal" in rendered(Stack(8, "MA").describe(5))
