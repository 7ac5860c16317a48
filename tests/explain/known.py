"""Tiny trained models of which the right explanation is known, each trained once a session, in seconds.

A model is a `TabularNetwork`, so that every explanation takes it: a tokenizer of its own, a backbone and a head.
"""

from dataclasses import dataclass
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from mambattn.configs import MambAttentionConfig
from mambattn.tabular import TabularNetwork
from mambattn.tabular.backbones import TokenBackbone
from mambattn.tabular.heads import Head
from mambattn.training import seeded

N_PAIRS, N_KEYS, N_VALUES = 4, 12, 12


@dataclass(frozen=True)
class Known:
    """A trained model with rows it has not seen.

    `tokens` are what explanations take; `labels` the right answers; `wanted` the sources that decide each row, if it is
    known; `baseline` the tokens that say nothing; `score` how good the model is: accuracy, or R² of a regression.
    """

    model: TabularNetwork
    tokens: torch.Tensor
    labels: torch.Tensor
    score: float
    wanted: torch.Tensor | None = None
    baseline: torch.Tensor | None = None


class Embedded(nn.Module):
    """A linear map and a vector for each position."""

    def __init__(self, d_in, n_tokens, d_model):
        super().__init__()
        self.linear = nn.Linear(d_in, d_model)
        self.position = nn.Parameter(0.5 * torch.randn(n_tokens, d_model))

    def forward(self, x):
        return self.linear(x) + self.position


class PerColumn(nn.Module):
    """A linear map of each column's number."""

    def __init__(self, n_columns, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_columns, d_model) / 2)
        self.bias = nn.Parameter(torch.randn(n_columns, d_model) / 2)

    def forward(self, x):
        return x[..., None] * self.weight + self.bias


def network(tokenizer, n_tokens, n_outputs, **config):
    config = MambAttentionConfig(d_model=32, d_state=16, dt_min=1e-3, head_dropout=0.0, **config)
    return TabularNetwork(tokenizer, TokenBackbone(config, n_tokens), Head(32, config.head_layer_sizes, n_outputs))


def train(model, draw, loss, n_steps, *, lr=3e-3):
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=n_steps)
    for _ in range(n_steps):
        x, y = draw()
        optimiser.zero_grad()
        loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def recall_rows(n, generator=None):
    """Draw ids (n, 9) of key, value, …, key asked for; the values; and the position of the value asked for."""
    keys = torch.rand(n, N_KEYS, generator=generator).argsort(1)[:, :N_PAIRS]
    values = torch.randint(N_VALUES, (n, N_PAIRS), generator=generator)
    asked = torch.randint(N_PAIRS, (n, 1), generator=generator)
    pairs = torch.stack([keys, N_KEYS + values], dim=2).flatten(1)
    return torch.cat([pairs, keys.gather(1, asked)], dim=1), values.gather(1, asked)[:, 0], 2 * asked[:, 0] + 1


@cache
def recall(schedule, seed):
    """Associative recall: four pairs of key and value, then a key. `wanted` is the position of its value."""
    with seeded(seed):
        config = {"n_heads": 4, "attn_dropout": 0.0} if "A" in schedule else {}
        model = network(
            nn.Embedding(N_KEYS + N_VALUES, 32), 9, N_VALUES, schedule=schedule, pooling_method="last", **config
        )
        train(model, lambda: recall_rows(128)[:2], F.cross_entropy, 1200, lr=1e-2)
        ids, labels, wanted = recall_rows(200)
        tokens = model.tokenizer(ids)
        score = (model(ids).argmax(1) == labels).float().mean().item()
    return Known(model, tokens, labels, score, wanted)


@cache
def digits(seed):
    """Handwritten digits as 16 patches of 2 × 2, read by a bidirectional Mamba of two layers."""
    data = load_digits()
    with seeded(seed):
        x = torch.tensor(data.data / 16, dtype=torch.float32).unflatten(1, (4, 2, 4, 2)).transpose(2, 3)
        x, y = x.reshape(-1, 16, 4), torch.tensor(data.target)
        order = torch.randperm(len(x))
        held, kept = order[:200], order[200:]
        model = network(Embedded(4, 16, 32), 16, 10, schedule="MM", bidirectional=True)

        def draw():
            rows = kept[torch.randint(len(kept), (64,))]
            return x[rows], y[rows]

        train(model, draw, F.cross_entropy, 500)
        score = (model(x[held]).argmax(1) == y[held]).float().mean().item()
        baseline = model.tokenizer(x[kept]).mean(0)
    return Known(model, model.tokenizer(x[held]), y[held], score, baseline=baseline)


@cache
def planted(seed):
    """A table of 12 numbers of which 0, 5 and 9 matter, through an interaction."""

    def rows(n):
        x = torch.randn(n, 12)
        return x, (x[:, 0] * x[:, 5] + x[:, 5] * x[:, 9] + x[:, 0] * x[:, 9])[:, None]

    with seeded(seed):
        model = network(PerColumn(12, 32), 12, 1, schedule="MA", n_heads=4, attn_dropout=0.0, head_layer_sizes=(64,))
        train(model, lambda: rows(256), F.mse_loss, 1000)
        x, y = rows(200)
        score = 1 - ((model(x) - y).square().mean() / y.var()).item()
        baseline = model.tokenizer(rows(2000)[0]).mean(0)
    wanted = torch.tensor([0, 5, 9]).expand(200, -1)
    return Known(model, model.tokenizer(x), y[:, 0], score, wanted, baseline)
