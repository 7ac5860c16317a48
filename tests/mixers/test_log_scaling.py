"""Attention whose logits grow with the logarithm of the length."""

import math

import pytest
import torch

from mambattn._errors import ConfigError
from mambattn.explain import attention_maps
from mambattn.mixers import Attention
from mambattn.stack import Stack


def expected_weights(mixer: Attention, x: torch.Tensor, *, floor: bool) -> torch.Tensor:
    """Spell the definition out, a token at a time."""
    q, k, _ = mixer.in_proj(x).unflatten(-1, (3, mixer.n_heads, mixer.d_head)).unbind(2)
    rows = torch.zeros(x.shape[0], mixer.n_heads, x.shape[1], x.shape[1], dtype=x.dtype)
    for i in range(x.shape[1]):
        factor = math.log(i + 1) / math.log(mixer.log_length)
        factor = max(1.0, factor) if floor else factor
        logits = torch.einsum("bhd,bjhd->bhj", q[:, i], k[:, : i + 1]) * factor / math.sqrt(mixer.d_head)
        rows[:, :, i, : i + 1] = logits.softmax(-1)
    return rows


@pytest.mark.parametrize("floor", [True, False])
def test_the_definition(floor: bool) -> None:
    torch.manual_seed(0)
    mixer = Attention(8, n_heads=2, causal=True, log_length=4, log_floor=floor).double()
    x = 3 * torch.randn(2, 11, 8, dtype=torch.float64)
    wanted = expected_weights(mixer, x, floor=floor)
    view = mixer.attention_view(x)
    torch.testing.assert_close(view.matrix, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(view.reconstruct(), mixer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", [None, 5])
def test_steps_scale_by_their_position(window: int | None) -> None:
    torch.manual_seed(0)
    mixer = Attention(8, n_heads=2, n_kv_heads=1, positions="rotary", causal=True, window=window, log_length=3).double()
    x = 3 * torch.randn(2, 11, 8, dtype=torch.float64)
    state = mixer.init_state(2)
    for t, wanted in enumerate(mixer(x).unbind(1)):
        y, state = mixer.step(x[:, t], state)
        torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)


def test_nothing_changes_up_to_the_length_of_training() -> None:
    torch.manual_seed(0)
    scaled = Attention(8, n_heads=2, causal=True, log_length=6)
    plain = Attention(8, n_heads=2, causal=True)
    plain.load_state_dict(scaled.state_dict())
    x = 3 * torch.randn(2, 9, 8)
    assert torch.equal(scaled(x)[:, :6], plain(x)[:, :6])
    assert not torch.allclose(scaled(x)[:, 6:], plain(x)[:, 6:])


def test_explanations_see_the_scaled_weights() -> None:
    torch.manual_seed(0)
    stack = Stack(8, "A", settings={"A": {"n_heads": 2, "causal": True, "log_length": 4}}).double()
    x = 3 * torch.randn(2, 9, 8, dtype=torch.float64)
    (layer,) = attention_maps(stack, x, what="scan", channels="all")
    block = stack.layers[0]
    torch.testing.assert_close(layer.values, expected_weights(block.mixer, block.norm(x), floor=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_length": 1}, r"`log_length` must be None or an integer of at least 2, however log_length=1\. Use the"),
        ({"log_length": 8.5}, "however log_length=8.5"),
        ({"log_length": 8, "causal": False}, r"`log_length` needs causal attention, .* Set causal=True"),
    ],
)
def test_refusals(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Attention(8, n_heads=2, **{"causal": True, **settings})
