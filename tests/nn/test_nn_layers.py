"""Norms, gated MLP, rotary positions and poolings against their formulas."""

import pickle

import pytest
import torch
from torch import nn

from mambattn._errors import ConfigError
from mambattn.nn import GatedMLP, make_norm, make_pooling, rotate


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@torch.no_grad()
def test_norms():
    x = tokens(3, 5, 8)
    layer_norm, rms_norm = make_norm("LayerNorm", 8).double(), make_norm("RMSNorm", 8, eps=0.1).double()
    for norm in (layer_norm, rms_norm):
        norm.weight.copy_(tokens(8))
    layer_norm.bias.copy_(tokens(8).flip(0))
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * layer_norm.weight + layer_norm.bias
    assert torch.allclose(layer_norm(x), expected, atol=1e-12)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 0.1).sqrt() * rms_norm.weight
    assert torch.allclose(rms_norm(x), expected, atol=1e-12)
    assert isinstance(rms_norm, nn.RMSNorm)


def test_rms_norm_computes_in_the_type_of_its_weight():
    norm, x = make_norm("RMSNorm", 8), tokens(3, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.float()))


@torch.no_grad()
def test_gated_mlp():
    mlp, x = GatedMLP(4, 6, bias=True).double(), tokens(2, 3, 4)
    gate, up = mlp.in_proj(x).split(6, dim=-1)
    expected = mlp.out_proj(gate * torch.sigmoid(gate) * up)
    assert torch.allclose(mlp(x), expected, atol=1e-12)
    assert [GatedMLP(4, 6).in_proj.bias, GatedMLP(4, 6).out_proj.bias] == [None, None]


def test_rotation_is_a_complex_product():
    x = tokens(2, 7, 3, 8)
    angles = torch.outer(torch.arange(7.0).double() + 5, 100.0 ** (-torch.arange(4.0).double() / 4))
    expected = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angles), angles)[:, None]
    turned = rotate(x, offset=5, base=100.0)
    assert torch.allclose(turned, torch.cat([expected.real, expected.imag], dim=-1), atol=1e-12)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x, offset=torch.tensor(5), base=100.0), turned)


def test_products_of_rotated_vectors_depend_on_the_distance_only():
    q, k = tokens(1, 1, 1, 16), tokens(1, 1, 1, 16).flip(-1)
    products = [(rotate(q, i) * rotate(k, i - 3)).sum() for i in (3, 10, 1000)]
    assert torch.allclose(torch.stack(products), products[0].expand(3), atol=1e-10)


def test_rotation_is_exact_far_out_and_keeps_the_type():
    x = tokens(1, 1, 1, 16)
    far = rotate(x.float(), 1_000_000)
    assert far.dtype == torch.float32
    assert torch.allclose(far.double(), rotate(x, 1_000_000), atol=1e-6)
    assert rotate(x.bfloat16(), 3).dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["avg", "max", "sum", "last", "cls", "attention"])
def test_poolings(method):
    x, pooling = tokens(3, 5, 4), make_pooling(method, 4).double()
    expected = {
        "avg": x.sum(1) / 5,
        "max": x.max(1).values,
        "sum": x.sum(1),
        "last": x[:, 4],
        "cls": x[:, 4],
        "attention": x.sum(1) / 5,
    }[method]
    assert torch.allclose(pooling(x), expected, atol=1e-12)
    assert torch.equal(pickle.loads(pickle.dumps(pooling))(x), pooling(x))


@torch.no_grad()
def test_attention_pooling_is_a_softmax_of_products():
    x, pooling = tokens(3, 5, 4), make_pooling("attention", 4).double()
    pooling.query.copy_(tokens(4))
    scores = (x * pooling.query).sum(-1) / 2
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    assert torch.allclose(pooling.weights(x), weights, atol=1e-12)
    assert torch.allclose(pooling(x), (weights[..., None] * x).sum(1), atol=1e-12)


def test_attention_pooling_learns_from_its_start():
    x, pooling = tokens(3, 5, 4), make_pooling("attention", 4).double()
    pooling(x).pow(2).sum().backward()
    assert pooling.query.grad.abs().max() > 1e-3


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="`norm` must be one of 'LayerNorm', 'RMSNorm', however norm='x'"):
        make_norm("x", 4)
    with pytest.raises(ConfigError, match=r"`pooling_method` must be one of 'avg', .* however pooling_method='mean'"):
        make_pooling("mean", 4)
