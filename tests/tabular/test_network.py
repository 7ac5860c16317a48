"""Backbones, heads and whole networks: every setting acts, rows are independent, states restore to the bit."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mambattn._errors import ConfigError
from mambattn.configs import (
    FTTransformerConfig,
    MambAttentionConfig,
    MambularConfig,
    MLPConfig,
    PreprocessingConfig,
    ResNetConfig,
)
from mambattn.nn import make_norm
from mambattn.tabular import (
    Head,
    MLPBackbone,
    ResNetBackbone,
    TablePreprocessor,
    TokenBackbone,
    build_network,
    make_preprocessor,
)

SMALL = {"d_model": 16, "n_heads": 4, "d_state": 8}
CONFIGS = {
    "MambAttention": MambAttentionConfig(**SMALL, n_layers=2),
    "MambAttention with all": MambAttentionConfig(
        **SMALL, schedule="MSALG-", window=2, shuffle_embeddings=True, use_cls=True, pooling_method="cls", dropout=0.1
    ),
    "Mambular": MambularConfig(d_model=16, d_state=8, n_layers=2, bidirectional=True, pooling_method="attention"),
    "FTTransformer": FTTransformerConfig(d_model=16, n_heads=4, n_layers=2, embedding_type="plr"),
    "ResNet": ResNetConfig(d_model=8, d_hidden=24, n_layers=2, head_layer_sizes=(12,)),
    "MLP": MLPConfig(d_model=8, layer_sizes=(24, 12), embedding_type="ple", n_bins=5, norm="RMSNorm"),
}


def make_frame(rows=60):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "sex": rng.choice(["f", "m"], rows),
            "age": rng.normal(40, 10, rows),
            "fare": np.where(rng.random(rows) < 0.2, np.nan, rng.exponential(30, rows)),
            "deck": rng.choice(["A", "B", "C", None], rows),
        }
    )
    return frame, (frame["age"] > 40).to_numpy().astype(int)


def make(config, seed=0, n_outputs=2, **preprocessing):
    frame, y = make_frame()
    preprocessor = make_preprocessor(config, PreprocessingConfig(**preprocessing), 0).fit(frame, y)
    network = build_network(config, preprocessor, n_outputs, torch.Generator().manual_seed(seed))
    return network, preprocessor.transform(frame)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_does_not_depend_on_the_others(name):
    network, batch = make(CONFIGS[name])
    network, batch = network.double().eval(), batch.to("cpu", dtype=torch.float64)
    whole = network(batch)
    assert whole.shape == (60, 2)
    for rows in ([3], [3, 59], list(range(59, -1, -1))):
        index = torch.tensor(rows)
        # torch picks another kernel for another number of rows, hence the last digits.
        torch.testing.assert_close(network(batch.take(index)), whole[index], rtol=1e-12, atol=1e-13)
    other = batch.take(torch.tensor([3, 9, 9, 9]))
    assert torch.equal(network(batch.take(torch.tensor([3, 5, 6, 7])))[0], network(other)[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_state_restores_to_the_bit(name):
    config = CONFIGS[name]
    network, batch = make(config, seed=0)
    other, _ = make(config, seed=1)
    assert not torch.equal(network.eval()(batch), other.eval()(batch))
    other.load_state_dict(copy.deepcopy(network.state_dict()))
    assert torch.equal(network(batch), other(batch))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_seed_alone_decides_and_the_global_generator_stays(name):
    before = torch.get_rng_state()
    first, _ = make(CONFIGS[name], seed=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    second, _ = make(CONFIGS[name], seed=3)
    for (key, a), (_, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_gets_a_gradient(name):
    network, batch = make(CONFIGS[name])
    network(batch).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("kind", ["none", "minmax", "splines", "ple"])
@pytest.mark.parametrize("categorical", ["int", "one-hot"])
def test_every_preprocessing_goes_with_linear_tokens(kind, categorical):
    config = MLPConfig(d_model=8, layer_sizes=(16,))
    network, batch = make(config, numerical_preprocessing=kind, categorical_preprocessing=categorical)
    network.eval()
    changed = batch.take(torch.arange(60))
    changed.numbers[0, 0] += 0.5
    difference = (network(batch) != network(changed)).any(dim=1)
    assert difference.tolist() == [True] + [False] * 59


@pytest.mark.parametrize("kind", ["plr", "ple"])
@pytest.mark.parametrize("encoding", ["splines", "ple"])
def test_one_encoding_upon_another_is_refused(kind, encoding):
    with pytest.raises(ConfigError, match=f"`embedding_type` '{kind}' .* numerical_preprocessing='{encoding}'"):
        make(MLPConfig(embedding_type=kind), numerical_preprocessing=encoding)


def token_backbone(**settings):
    torch.manual_seed(0)
    return TokenBackbone(MambAttentionConfig(**SMALL, n_layers=1, **settings), n_tokens=5)


def test_the_shuffle_is_a_saved_permutation():
    backbone = token_backbone(shuffle_embeddings=True)
    tokens = torch.randn(3, 5, 16)
    permutation = backbone.state_dict()["permutation"]
    assert sorted(permutation.tolist()) == [0, 1, 2, 3, 4] != permutation.tolist()
    assert torch.equal(backbone.arrange(tokens), tokens[:, permutation])
    plain = token_backbone()
    assert "permutation" not in plain.state_dict()
    assert plain.arrange(tokens) is tokens


def test_the_class_token_stands_last_also_after_a_shuffle():
    backbone = token_backbone(shuffle_embeddings=True, use_cls=True, pooling_method="cls")
    tokens = torch.randn(3, 5, 16)
    arranged = backbone.arrange(tokens)
    assert arranged.shape == (3, 6, 16)
    assert torch.equal(arranged[:, :5], tokens[:, backbone.permutation])
    assert (arranged[:, 5] == backbone.cls_token).all()
    read = backbone.stack(arranged)[:, 5]
    torch.testing.assert_close(backbone.eval()(tokens), backbone.norm(backbone.stack(arranged)[:, 5]))
    assert read.shape == (3, 16)


@pytest.mark.parametrize("method", ["avg", "max", "sum", "last"])
def test_pooling_and_final_norm(method):
    backbone = token_backbone(pooling_method=method).eval()
    tokens = torch.randn(3, 5, 16)
    mixed = backbone.stack(tokens)
    pooled = {"avg": mixed.mean(1), "max": mixed.max(1).values, "sum": mixed.sum(1), "last": mixed[:, -1]}[method]
    centred = pooled - pooled.mean(-1, keepdim=True)
    want = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(backbone(tokens), want)


def dropouts(module):
    return sorted({m.p for m in module.modules() if isinstance(m, nn.Dropout)})


def test_settings_of_tokens_and_head_act():
    config = ResNetConfig(
        d_model=8, d_hidden=24, n_layers=3, dropout=0.15, norm="RMSNorm", head_layer_sizes=(7, 5), head_dropout=0.35
    )
    network, _ = make(config, n_outputs=3)
    assert network.tokenizer.numbers.weight.shape == (2, 1, 8)
    assert len(network.backbone.blocks) == 3
    assert network.backbone.in_proj.weight.shape == (24, 4 * 8)
    assert dropouts(network.backbone) == [0.15]
    assert {type(m) for m in network.modules() if "Norm" in type(m).__name__} == {type(make_norm("RMSNorm", 8))}
    kinds = [type(layer).__name__ for layer in network.head.layers]
    assert kinds == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert [m.weight.shape for m in network.head.layers if isinstance(m, nn.Linear)] == [(7, 24), (5, 7), (3, 5)]
    assert dropouts(network.head) == [0.35]


def test_settings_of_number_embeddings_act():
    network, _ = make(MLPConfig(embedding_type="plr", n_frequencies=9, frequency_scale=2.0))
    assert network.tokenizer.numbers.encoding.frequencies.shape == (2, 9)
    assert network.tokenizer.numbers.encoding.frequencies.std() > 1
    network, _ = make(MLPConfig(embedding_type="ple", n_bins=5))
    assert network.tokenizer.numbers.encoding.left.shape == (2, 5)
    assert network.tokenizer.numbers.weight.shape == (2, 5, 64)


CHANGES = {
    "expand_factor": 3, "d_conv": 3, "conv_bias": False, "bias": True, "d_state": 5, "dt_rank": 3, "dt_min": 0.05,
    "dt_max": 0.9, "bidirectional": True, "n_heads": 2, "attn_dropout": 0.45, "dropout": 0.25, "norm": "RMSNorm",
    "norm_position": "post", "schedule": "MAM", "n_layers": 3, "n_attention_layers": 3, "n_mamba_per_attention": 2,
    "last_layer": "mamba", "shuffle_embeddings": True, "pooling_method": "max",
}  # fmt: skip


@pytest.mark.parametrize("setting", CHANGES)
def test_every_setting_of_mambattention_acts(setting):
    base = MambAttentionConfig(d_model=16, n_heads=4) if setting != "d_model" else MambAttentionConfig()
    changed = base.replace(**{setting: CHANGES[setting]})
    outputs = []
    for config in (base, changed):
        network, batch = make(config)
        torch.manual_seed(0)
        outputs.append((str(network), network.train(setting in ("attn_dropout", "dropout"))(batch)))
    assert not torch.equal(outputs[0][1], outputs[1][1])


def test_dropout_of_the_head_acts_on_a_single_layer():
    torch.manual_seed(0)
    head = Head(1000, (), 1, dropout=0.5)
    nn.init.ones_(head.layers[1].weight)
    nn.init.zeros_(head.layers[1].bias)
    kept = head(torch.ones(1, 1000)).item() / 2  # kept inputs are doubled
    assert 400 < kept < 600
    assert head.eval()(torch.ones(1, 1000)).item() == 1000


def test_resnet_by_hand():
    torch.manual_seed(0)
    backbone = ResNetBackbone(6, 4, 2).double().eval()
    tokens = torch.randn(5, 3, 2, dtype=torch.float64)

    def norm(x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    x = tokens.reshape(5, 6) @ backbone.in_proj.weight.T + backbone.in_proj.bias
    for block in backbone.blocks:
        hidden = (norm(x) @ block[1].weight.T + block[1].bias).clamp(min=0)
        x = x + hidden @ block[4].weight.T + block[4].bias
    torch.testing.assert_close(backbone(tokens), norm(x).clamp(min=0))


def test_mlp_by_hand():
    torch.manual_seed(0)
    backbone = MLPBackbone(6, (4, 3), norm="RMSNorm").double().eval()
    tokens = torch.randn(5, 3, 2, dtype=torch.float64)
    x = tokens.reshape(5, 6)
    for i in (0, 4):
        x = x @ backbone.layers[i].weight.T + backbone.layers[i].bias
        x = (x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()).clamp(min=0)
    torch.testing.assert_close(backbone(tokens), x)
    assert backbone.d_out == 3


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("method", ["avg", "cls"])
def test_a_reloaded_preprocessor_builds_the_same_network(shuffle, method):
    config = MambularConfig(
        d_model=8, d_state=4, n_layers=1, shuffle_embeddings=shuffle, use_cls=method == "cls", pooling_method=method,
        embedding_type="ple", n_bins=4,
    )  # fmt: skip
    frame, y = make_frame()
    preprocessor = make_preprocessor(config, PreprocessingConfig(), 0).fit(frame, y)
    network = build_network(config, preprocessor, 1, torch.Generator().manual_seed(0)).eval()
    restored = TablePreprocessor.from_state(*preprocessor.state())
    again = build_network(config, restored, 1, torch.Generator().manual_seed(9)).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(network(preprocessor.transform(frame)), again(restored.transform(frame)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("name", CONFIGS)
def test_cuda_agrees_with_the_cpu(name):
    network, batch = make(CONFIGS[name])
    network, batch = network.double().eval(), batch.to("cpu", dtype=torch.float64)
    on_gpu = copy.deepcopy(network).cuda()
    want, got = network(batch), on_gpu(batch.to("cuda"))
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-10)
    want.square().sum().backward()
    got.square().sum().backward()
    for p, q in zip(network.parameters(), on_gpu.parameters(), strict=True):
        torch.testing.assert_close(q.grad.cpu(), p.grad, rtol=1e-7, atol=1e-9)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        mixed = on_gpu.float()(batch.to("cuda"))
    torch.testing.assert_close(mixed.double().cpu(), want, rtol=0.05, atol=0.05)
