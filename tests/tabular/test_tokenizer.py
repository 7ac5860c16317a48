"""The tokenizer against a loop over columns, its start, and its batch."""

import numpy as np
import pytest
import torch

from mambattn._errors import ShapeError
from mambattn.tabular import MISSING, UNSEEN, Column, TableBatch, TableSchema, TableTokenizer

SCHEMA = TableSchema(
    (
        Column("a", "category", ("x", "y", "z")),
        Column("b", "number"),
        Column("c", "category", ("u",)),
        Column("d", "number"),
        Column("e", "number"),
    )
)
EDGES = np.array([[-1.0, 0.0, 1.0, np.nan], [-2.0, 0.0, 1.0, 2.0], [np.nan] * 4])
D = 6


def make_batch(rows=40, width=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    numbers = torch.randn((rows, 3) if width is None else (rows, 3, width), generator=g)
    missing = torch.rand(rows, 3, generator=g) < 0.3
    numbers[missing] = 0.0
    categories = torch.stack((torch.randint(5, (rows,), generator=g), torch.randint(3, (rows,), generator=g)), dim=1)
    return TableBatch(numbers, missing, categories)


def make_tokenizer(**settings):
    torch.manual_seed(0)
    tokenizer = TableTokenizer(SCHEMA, D, **settings)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tokenizer


def features_by_loop(tokenizer, x, column, kind):
    if kind == "plr":
        angle = [2 * np.pi * float(c) * x for c in tokenizer.numbers.encoding.frequencies[column].detach()]
        return [np.sin(a) for a in angle] + [np.cos(a) for a in angle]
    if kind == "ple":
        left, right = EDGES[column, :-1], EDGES[column, 1:]
        n_bins = int((~np.isnan(right)).sum())
        share = [(x - left[t]) / (right[t] - left[t]) for t in range(n_bins)]
        share = [max(s, 0.0) if t > 0 else s for t, s in enumerate(share)]
        return [min(s, 1.0) if t < n_bins - 1 else s for t, s in enumerate(share)] + [0.0] * (3 - n_bins)
    return [x]


@pytest.mark.parametrize("kind", ["linear", "plr", "ple", "vector"])
@pytest.mark.parametrize("categorical", ["int", "one-hot"])
def test_tokens_are_those_of_a_loop_over_columns(kind, categorical):
    settings = {"linear": {}, "plr": {"embedding_type": "plr", "n_frequencies": 4, "frequency_scale": 0.5}}
    settings |= {"ple": {"embedding_type": "ple", "edges": EDGES}, "vector": {"width": 4}}
    tokenizer = make_tokenizer(**settings[kind], categorical_preprocessing=categorical)
    batch = make_batch(width=4 if kind == "vector" else None)
    got = tokenizer(batch).detach().numpy()
    numbers = {name: p.detach().double().numpy() for name, p in tokenizer.numbers.named_parameters()}
    table = tokenizer.categories.table.weight.detach().double().numpy()
    bias = tokenizer.categories.bias.detach().double().numpy()
    assert got.shape == (40, 5, D)
    for i in range(40):
        for position, j in ((1, 0), (3, 1), (4, 2)):
            x = batch.numbers[i, j].double().numpy()
            features = x if kind == "vector" else features_by_loop(tokenizer, float(x), j, kind)
            value = numbers["missing"][j] if batch.missing[i, j] else features @ numbers["weight"][j]
            want = value + numbers["bias"][j]
            np.testing.assert_allclose(got[i, position], np.maximum(want, 0) if kind == "plr" else want, atol=1e-5)
        for position, j, start, size in ((0, 0, 0, 5), (2, 1, 5, 3)):
            indicator = np.zeros(8)
            indicator[start + int(batch.categories[i, j])] = 1.0
            assert int(batch.categories[i, j]) < size
            want = (table @ indicator if categorical == "one-hot" else indicator @ table) + bias[j]
            np.testing.assert_allclose(got[i, position], want, atol=1e-6)


def test_missing_and_unseen_have_tokens_of_their_own_that_learn():
    tokenizer = make_tokenizer()
    missing = torch.tensor([[True] * 3, [False] * 3, [False] * 3])
    batch = TableBatch(torch.zeros(3, 3), missing, torch.tensor([[MISSING] * 2, [UNSEEN] * 2, [2] * 2]))
    tokens = tokenizer(batch)
    assert (tokens[0, [1, 3, 4]] != tokens[1, [1, 3, 4]]).all()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (tokens[i, [0, 2]] != tokens[j, [0, 2]]).all()
    tokens[0].sum().backward()
    assert (tokenizer.numbers.missing.grad == 1).all()
    assert (tokenizer.numbers.weight.grad == 0).all()
    grad = tokenizer.categories.table.weight.grad
    assert grad.sum(dim=1).tolist() == [D, 0, 0, 0, 0, D, 0, 0]


@pytest.mark.parametrize("categorical", ["int", "one-hot"])
def test_missing_and_unseen_start_in_the_middle_of_their_column(categorical):
    torch.manual_seed(0)
    tokenizer = TableTokenizer(SCHEMA, D, categorical_preprocessing=categorical)
    nothing = TableBatch(torch.zeros(2, 3), torch.tensor([[True] * 3, [False] * 3]), torch.tensor([[0, 0], [1, 1]]))
    assert (tokenizer(nothing)[0] == tokenizer(nothing)[1]).all()


def test_initial_ranges():
    torch.manual_seed(0)
    schema = TableSchema((Column("n", "number"), Column("c", "category", tuple(map(str, range(398))))))
    embedding, indicator = (
        TableTokenizer(schema, 64, categorical_preprocessing=kind).categories.table.weight
        for kind in ("int", "one-hot")
    )
    assert 0.99 / 8 < embedding.abs().max() <= 1 / 8
    assert 0.99 / 20 < indicator.abs().max() <= 1 / 20
    frequencies = TableTokenizer(schema, 64, embedding_type="plr", n_frequencies=4000, frequency_scale=0.3)
    assert frequencies.numbers.encoding.frequencies.std().item() == pytest.approx(0.3, rel=0.05)


def test_only_the_weight_of_a_one_hot_map_is_that_of_a_linear_layer():
    assert isinstance(make_tokenizer(categorical_preprocessing="one-hot").categories.table, torch.nn.Linear)
    assert isinstance(make_tokenizer().categories.table, torch.nn.Embedding)


def test_gradients_in_double_precision():
    tokenizer = make_tokenizer(embedding_type="plr", n_frequencies=2).double()
    batch = make_batch(rows=3).to("cpu", dtype=torch.float64)
    names = [name for name, _ in tokenizer.named_parameters()]

    def tokens(*values):
        return torch.func.functional_call(tokenizer, dict(zip(names, values, strict=True)), (batch,))

    assert torch.autograd.gradcheck(tokens, tuple(p.detach().requires_grad_() for p in tokenizer.parameters()))


@pytest.mark.parametrize("columns", [SCHEMA.columns[1::2], (SCHEMA.columns[0], SCHEMA.columns[2])])
def test_tables_of_one_kind_of_column(columns):
    schema = TableSchema(columns)
    numbers = torch.ones(4, schema.n_numeric)
    batch = TableBatch(numbers, numbers.bool() & False, torch.ones(4, schema.n_categorical, dtype=torch.int64))
    assert TableTokenizer(schema, D)(batch).shape == (4, 2, D)


def test_take_and_to():
    batch = make_batch(rows=10)
    index = torch.tensor([7, 0, 0])
    for picked, rows in ((batch.take(index), [7, 0, 0]), (batch.take(slice(2, 4)), [2, 3])):
        assert len(picked) == len(rows)
        for name in ("numbers", "missing", "categories"):
            assert getattr(picked, name).tolist() == [getattr(batch, name)[row].tolist() for row in rows]
    mask = torch.zeros(10, dtype=torch.bool)
    mask[[1, 5]] = True
    assert batch.take(mask).numbers.tolist() == batch.numbers[[1, 5]].tolist()
    moved = batch.to("meta", dtype=torch.float64)
    assert (moved.numbers.dtype, moved.missing.dtype, moved.categories.dtype) == (
        torch.float64,
        torch.bool,
        torch.int64,
    )
    assert moved.missing.device.type == "meta"


def test_a_batch_must_fit_together():
    batch = make_batch(rows=4)
    with pytest.raises(ShapeError, match=r"however numbers=\(3, 3\), missing=\(4, 3\), categories=\(4, 2\)"):
        TableBatch(batch.numbers[:3], batch.missing, batch.categories)
