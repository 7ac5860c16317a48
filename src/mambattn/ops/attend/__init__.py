"""Softmax attention: full, windowed, and windowed with global tokens."""

from mambattn.ops._dispatch import register
from mambattn.ops._native.serves import missing
from mambattn.ops._vmap import lay_side_by_side
from mambattn.ops.attend.api import AttentionState, attention, attention_init_state, attention_step
from mambattn.ops.attend.native import attention_native, refuses, suits
from mambattn.ops.attend.reference import attention_mask, attention_reference, attention_weights
from mambattn.ops.attend.vectorised import attention_torch

__all__ = [
    "AttentionState",
    "attention",
    "attention_init_state",
    "attention_mask",
    "attention_step",
    "attention_weights",
]

register("attention", "reference", attention_reference, "dense matrix of weights, the definition", takes_any_type=True)
register(
    "attention",
    "torch",
    attention_torch,
    "blocks of scaled_dot_product_attention, any device",
    takes_any_type=True,
)
register(
    "attention",
    "native",
    attention_native,
    "plain C on the CPU for short sequences, computes in float32",
    missing=missing,
    refuses=refuses,
    suits=suits,
    takes_any_type=True,
)

# q, k, v: there are no weights, so members are rows of the batch.
lay_side_by_side("attention", (0, 0, 0), outputs=(0,))
