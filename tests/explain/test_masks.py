"""A padded batch shows of each sequence what the sequence shows alone."""

import pytest
import torch
from stacks import make_stack, off

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain import attention_maps, lrp, receptive_field, rollout


@pytest.fixture
def padded():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([9, 4])
    return torch.randn(2, 9, 16, generator=generator), torch.arange(9) < lengths[:, None]


def test_every_explanation_is_that_of_the_sequence_alone(padded):
    x, mask = padded
    stack, alone = make_stack("MSALG"), x[1:, :4]
    for what in ("scan", "block"):
        for got, want in zip(
            attention_maps(stack, x, what=what, mask=mask), attention_maps(stack, alone, what=what), strict=True
        ):
            assert off(got.values[1:, :, :4, :4], want.values) <= 1e-5
            assert not got.values[1, :, 4:].any()
    for kind in ("norm", "alti", "paper"):
        got, want = rollout(stack, x, kind, mask=mask), rollout(stack, alone, kind)
        assert off(got.values[:, 1:, :4, :4], want.values) <= 1e-5
        assert not got.values[:, 1, 4:].any()
        some = rollout(stack, x, kind, positions=[3, 7], mask=mask).total[1]
        assert off(some[0, :4], want.total[0, 3]) <= 1e-5
        assert not some[1].any()
    for got, want in zip(receptive_field(stack, x, mask=mask), receptive_field(stack, alone), strict=True):
        assert off(got.distance[1:], want.distance) <= 1e-5
    relevance = lrp(stack, x, target=(3, 0)).values[1]
    assert off(relevance[:4], lrp(stack, alone, target=(3, 0)).values[0]) <= 1e-4
    assert not relevance[4:].any()


def test_padding_that_is_read_is_refused(padded):
    x, mask = padded
    both_ways = make_stack("M", settings={"M": {"bidirectional": True}})
    for explain in (attention_maps, rollout, receptive_field):
        with pytest.raises(ConfigError, match="padding that tokens read"):
            explain(both_ways, x, mask=mask)
        with pytest.raises(ConfigError, match="padding that tokens read"):
            explain(make_stack("M"), x, mask=mask.flip(1))
        with pytest.raises(ShapeError, match=r"attention_mask\.bool"):
            explain(both_ways, x, mask=mask.long())
