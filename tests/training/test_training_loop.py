"""The loop on a linear model whose answers are known."""

import logging
import math
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mambattn._errors import ConfigError
from mambattn.configs import TrainerConfig
from mambattn.training import (
    History,
    Rows,
    draw_seeds,
    mean_loss,
    network_outputs,
    resolve_device,
    seeded,
    squared_error,
    train,
)

QUIET = TrainerConfig(lr=0.05, batch_size=16, max_epochs=8, device="cpu", verbose=0)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Matrix:
    """The simplest batch: a matrix."""

    x: torch.Tensor

    def __len__(self):
        return len(self.x)

    def take(self, index):
        return Matrix(self.x[index])

    def to(self, device):
        return Matrix(self.x.to(device))


class Linear(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        with seeded(0):
            self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(3, 1))
        self.sizes = []

    def forward(self, batch):
        if self.training:
            self.sizes.append(len(batch))
        return self.layers(batch.x)


def rows(n, seed, noise=0.1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + noise * torch.randn(n, generator=generator)
    return Rows(Matrix(x), y, torch.ones(n))


def run(network, config=QUIET, seed=0, **kwargs):
    return train(network, rows(40, 1), rows(20, 2), loss=squared_error, config=config, seed=seed, **kwargs)


def test_learns_the_coefficients():
    network = Linear()
    history = run(network, QUIET.replace(max_epochs=60, lr=0.1))
    torch.testing.assert_close(network.layers[1].weight.detach(), torch.tensor([[1.0, -2.0, 0.5]]), atol=0.08, rtol=0.0)
    assert history.val_loss[history.best_epoch - 1] == min(history.val_loss)
    assert not network.training


def test_batch_size_is_the_rows_of_a_step():
    network = Linear()
    run(network, QUIET.replace(max_epochs=2))
    assert network.sizes == [16, 16, 8] * 2


def test_best_weights_are_restored():
    states = {}
    network = Linear()

    def keep(epoch, train_loss, val_loss):
        states[epoch] = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    # A rate far too high makes the validation loss jump about, so that the last epoch is not the best.
    history = run(network, QUIET.replace(lr=5.0, lr_schedule="constant", max_epochs=12), on_epoch=keep)
    assert 1 <= history.best_epoch < 12
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, states[history.best_epoch][name])
    x = rows(20, 2)
    by_hand = ((network.layers(x.batch.x)[:, 0] - x.targets) ** 2).mean().item()
    assert by_hand == pytest.approx(min(history.val_loss), rel=1e-5)


def test_history_has_an_entry_an_epoch_and_survives_json():
    history = run(Linear())
    assert [len(getattr(history, name)) for name in ("train_loss", "val_loss", "lr", "seconds")] == [8] * 4
    assert history.stopped_by == "max_epochs"
    assert history.seconds == sorted(history.seconds)
    assert History.from_dict(history.to_dict()) == history


def test_lr_of_each_epoch_follows_the_cosine():
    history = run(Linear(), QUIET.replace(warmup=0.25))
    n_steps = 8 * 3
    for epoch, lr in enumerate(history.lr, start=1):
        p = (epoch * 3 - 0.5) / n_steps
        want = 0.05 * p / 0.25 if p < 0.25 else 0.05 * 0.5 * (1 + math.cos(math.pi * (p - 0.25) / 0.75))
        assert lr == pytest.approx(want, rel=1e-12)


def test_patience():
    # At a rate of next to nothing the first epoch's loss is hardly beaten; backwards it never is.
    history = run(Linear(), QUIET.replace(lr=5.0, lr_schedule="constant", warmup=0.0, patience=3, max_epochs=200))
    assert history.stopped_by == "patience"
    assert len(history.val_loss) == history.best_epoch + 3


def test_weights_act():
    """Rows of weight 0 teach nothing: a second half with the sign turned changes nothing at weight 0."""
    good, bad = rows(40, 1), rows(40, 1)
    both = Rows(
        Matrix(torch.cat([good.batch.x, bad.batch.x])),
        torch.cat([good.targets, -bad.targets]),
        torch.cat([2 * torch.ones(40), torch.zeros(40)]),
    )
    network = Linear()
    train(network, both, rows(20, 2), loss=squared_error, config=QUIET.replace(max_epochs=60, lr=0.1), seed=0)
    torch.testing.assert_close(network.layers[1].weight.detach(), torch.tensor([[1.0, -2.0, 0.5]]), atol=0.1, rtol=0.0)


def test_same_seed_same_weights_and_losses():
    one, two, other = (Linear(dropout=0.3) for _ in range(3))
    histories = [run(one, seed=5), run(two, seed=5), run(other, seed=6)]
    assert histories[0].train_loss == histories[1].train_loss
    assert torch.equal(one.layers[1].weight, two.layers[1].weight)
    assert not torch.equal(one.layers[1].weight, other.layers[1].weight)


def test_global_generator_and_threads_are_left_alone():
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(Linear(dropout=0.3))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_interrupt_keeps_the_best(caplog):
    def stop(epoch, train_loss, val_loss):
        if epoch == 3:
            raise KeyboardInterrupt

    network = Linear()
    with caplog.at_level(logging.WARNING, "mambattn"):
        history = run(network, on_epoch=stop)
    assert history.stopped_by == "interrupt"
    assert len(history.val_loss) == 3
    assert mean_loss(network, rows(20, 2), squared_error) == min(history.val_loss)
    assert "interrupted; the weights of epoch 3 are kept" in caplog.text


def test_interrupt_in_the_first_epoch():
    class Stopping(Linear):
        def forward(self, batch):
            out = super().forward(batch)
            if len(self.sizes) == 2 and self.training:
                raise KeyboardInterrupt
            return out

    history = run(Stopping())
    assert history.stopped_by == "interrupt"
    assert len(history.val_loss) == 1
    assert math.isfinite(history.val_loss[0])


def test_max_seconds_ends_within_a_step_and_a_validation(monkeypatch):
    now = 50.0

    class Slow(Linear):
        """Each pass takes a second, by the clock that the loop reads."""

        def forward(self, batch):
            nonlocal now
            now += 1
            return super().forward(batch)

    monkeypatch.setattr("mambattn.training.loop.time", SimpleNamespace(monotonic=lambda: now))
    network = Slow()
    history = run(network, QUIET.replace(max_seconds=10.0, max_epochs=10_000))
    # An epoch is 3 steps and a validation. After 2 of them 8 s have passed; a step makes 9, a validation 10.
    assert history.stopped_by == "max_seconds"
    assert history.seconds == [4.0, 8.0, 10.0]
    assert network.sizes == [16, 16, 8, 16, 16, 8, 16]
    progress = 0.8  # of the time, at the middle of the last step
    assert history.lr[-1] == pytest.approx(0.05 * 0.5 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95)))

    # Before the first validation its time is reckoned from the steps: a third step would leave too little.
    now, network = 50.0, Slow()
    history = run(network, QUIET.replace(max_seconds=2.5, max_epochs=10_000))
    assert network.sizes == [16, 16]
    assert history.seconds == [3.0]


def test_max_seconds_of_nothing_still_makes_a_step_and_a_validation():
    network = Linear()
    history = run(network, QUIET.replace(max_seconds=1e-9))
    assert network.sizes == [16]
    assert history.stopped_by == "max_seconds"
    assert history.best_epoch == 1


def test_time_counts_from_the_start_given():
    history = run(Linear(), QUIET.replace(max_seconds=100.0), started=time.monotonic() - 101)
    assert history.stopped_by == "max_seconds"
    assert len(history.val_loss) == 1
    assert history.seconds[0] > 101


def test_grad_clip_bounds_the_step():
    config = QUIET.replace(
        optimizer="sgd", lr=1.0, lr_schedule="constant", warmup=0.0, weight_decay=0.0, max_epochs=1, batch_size=40
    )
    moved = {}
    for clip in (None, 0.01):
        network = Linear()
        before = torch.cat([p.detach().clone().flatten() for p in network.parameters()])
        run(network, config.replace(grad_clip=clip))
        moved[clip] = (torch.cat([p.detach().flatten() for p in network.parameters()]) - before).norm().item()
    assert moved[0.01] == pytest.approx(0.01 * 1.9, rel=1e-3)  # Nesterov's first step is (1 + 0.9) times the gradient
    assert moved[None] > 1


def test_divergence_is_an_error_with_its_mend():
    with pytest.raises(ConfigError, match=r"finite once, however it is (nan|inf) .* lr=1e\+38.*Lower `lr`"):
        run(Linear(), QUIET.replace(lr=1e38, grad_clip=None, warmup=0.0, optimizer="sgd"))


def test_bfloat16_trains_on_the_cpu_too():
    exact, rough = Linear(), Linear()
    run(exact)
    run(rough, QUIET.replace(precision="bfloat16"))
    assert not torch.equal(exact.layers[1].weight, rough.layers[1].weight)
    torch.testing.assert_close(exact.layers[1].weight, rough.layers[1].weight, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_unknown_device(name):
    with pytest.raises(ConfigError, match="`device`"):
        resolve_device(name)


def test_outputs_do_not_depend_on_the_other_rows():
    network = Linear()
    x = rows(300, 4).batch
    full = network_outputs(network, x, device=CPU)
    assert full.shape == (300, 1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network_outputs(network, x.take(order), device=CPU), full[order])
    assert torch.equal(network_outputs(network, x.take(torch.tensor([17])), device=CPU), full[17:18])


def test_mean_loss_is_weighted():
    network, data = Linear(), rows(7, 5)
    weighted = Rows(data.batch, data.targets, torch.arange(7.0))
    losses = (network.layers(data.batch.x)[:, 0] - data.targets) ** 2
    want = (losses * torch.arange(7.0)).sum() / torch.arange(7.0).sum()
    assert mean_loss(network, weighted, squared_error, block_rows=3) == pytest.approx(want.item(), rel=1e-6)


def test_seeds_follow_the_random_state():
    import numpy as np

    assert draw_seeds(3, 4) == draw_seeds(np.int32(3), 4) == draw_seeds(np.random.RandomState(3), 4)
    state = np.random.RandomState(3)
    assert draw_seeds(state, 4) != draw_seeds(state, 4)
