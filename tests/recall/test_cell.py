"""Cells: members against single models, causality, what a test measures."""

import pytest
import torch
from torch.nn import functional as F

from mambattn.recall import ARCHITECTURES, RecallNetwork, Study, parse_architecture
from mambattn.recall import cell as cells
from mambattn.recall.cell import CellTraining, make_network, members_of, training_batches
from mambattn.tasks import parse_task

ARCHS = (*ARCHITECTURES, "hybrid_a:log_scaling=always", "S-L:window=4:positions=learned")


def small(arch: str, **changes) -> Study:
    settings = {"archs": (arch,), "seeds": (3, 5), "lrs": (1e-3, 1e-2), "steps": 60, "lengths": (16,)}
    return Study(**{**settings, "train_length": 16, "d_model": 8, "d_state": 4, "batch": 4, **changes})


@pytest.mark.parametrize("arch", ARCHS)
def test_a_member_is_a_single_model(arch: str) -> None:
    study = small(arch)
    task = parse_task("recall")
    cell = CellTraining(study, "recall", arch, torch.device("cpu"), dtype=torch.float64)
    losses = []
    for _ in range(50):
        cell.step()
        losses.append(cell.loss.clone())
    for m, (seed, lr) in enumerate(members_of(study)):
        network = make_network(study, task, arch, seed).double()
        adam = torch.optim.Adam(network.parameters(), lr, betas=study.betas)
        course = torch.optim.lr_scheduler.CosineAnnealingLR(adam, study.steps)
        tokens, queries, targets = training_batches(study, task, seed, 0)
        for t in range(50):
            adam.zero_grad()
            loss = F.cross_entropy(network(tokens[t], queries[t]).flatten(0, 1), targets[t].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
            course.step()
            assert abs(loss.item() - losses[t][m].item()) <= 1e-6


@pytest.mark.parametrize("clip", [None, 0.01])
def test_clipping_and_a_constant_rate_are_those_of_the_study(clip: float | None) -> None:
    study = small("mamba", clip=clip, lr_schedule="constant", betas=(0.9, 0.999))
    cell = CellTraining(study, "induction", "mamba", torch.device("cpu"), dtype=torch.float64)
    network = make_network(study, cell.task, "mamba", 3).double()
    adam = torch.optim.Adam(network.parameters(), study.lrs[0])
    tokens, queries, targets = training_batches(study, cell.task, 3, 0)
    for t in range(30):
        cell.step()
        adam.zero_grad()
        loss = F.cross_entropy(network(tokens[t], queries[t]).flatten(0, 1), targets[t].flatten())
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        adam.step()
        assert abs(loss.item() - cell.loss[0].item()) <= 1e-9


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_no_token_sees_a_later_one(arch: str, norm_position: str) -> None:
    study = small(arch, norm_position=norm_position, mlp=True)
    network = make_network(study, parse_task("recall"), arch, 0).double()
    tokens = torch.randint(32, (2, 16))
    whole = network.hidden(tokens)
    for length in (1, 5, 15):
        torch.testing.assert_close(network.hidden(tokens[:, :length]), whole[:, :length], rtol=1e-9, atol=1e-9)
    changed = tokens.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % 32
    assert torch.equal(network.hidden(changed)[:, :10], whole[:, :10])


def test_seeds_differ_and_rates_of_a_seed_start_alike() -> None:
    study = small("hybrid_a")
    cell = CellTraining(study, "induction", "hybrid_a", torch.device("cpu"))
    weights = cell.population.weights
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    task = parse_task("induction")
    assert not torch.equal(training_batches(study, task, 3, 0).tokens, training_batches(study, task, 5, 0).tokens)
    assert not torch.equal(training_batches(study, task, 3, 0).tokens, training_batches(study, task, 3, 1).tokens)


def test_steps_of_later_blocks_see_their_own_sequences() -> None:
    study = small("mamba", steps=250, batch=2)
    cell = CellTraining(study, "induction", "mamba", torch.device("cpu"))
    for _ in range(230):
        cell.step()
    assert cell._block is not None
    for i, seed in enumerate(study.seeds):
        assert torch.equal(cell._block.tokens[:, i], training_batches(study, cell.task, seed, 2).tokens)


@pytest.mark.parametrize("tokens_at_once", [1 << 16, 7 * 2 * 24])
def test_accuracy_is_that_of_each_member_counted_by_hand(tokens_at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(cells, "_TEST_TOKENS", {"cpu": tokens_at_once})
    study = small("hybrid_b")
    cell = CellTraining(study, "recall", "hybrid_b", torch.device("cpu"))
    for _ in range(30):
        cell.step()
    accuracy, loss = cell.measure([3, 0], 24, 300, "test")
    batch = cell.task.draw(300, 24, seed=0, split="test")
    for i, member in enumerate((3, 0)):
        network = make_network(study, cell.task, "hybrid_b", 0)
        network.load_state_dict(cell.population.state_of(member))
        with torch.no_grad():
            logits = network(batch.tokens, batch.queries)
        right = (logits.argmax(-1) == batch.targets).double().mean()
        assert accuracy[i] == pytest.approx(right.item(), abs=1e-12)
        assert abs(loss[i] - F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())) < 1e-5


def test_a_learned_table_has_a_row_for_every_tested_position() -> None:
    study = small("learned", lengths=(16, 40))
    network = make_network(study, parse_task("induction"), "learned", 0)
    assert isinstance(network, RecallNetwork)
    assert network.positions is not None
    assert network.positions.shape == (40, 8)
    cell = CellTraining(study, "induction", "learned", torch.device("cpu"))
    for _ in range(5):
        cell.step()
    trained = cell.population.state_of(0)["positions"]
    start = make_network(study, cell.task, "learned", 3).state_dict()["positions"]
    assert torch.equal(trained[16:], start[16:])
    assert not torch.equal(trained[:16], start[:16])


def test_a_window_makes_global_attention_local() -> None:
    architecture = parse_architecture("hybrid_a:window=4")
    assert architecture.layers == "ML"
    assert architecture.settings(n_heads=1, d_state=4, train_length=16)["L"]["window"] == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_the_last_step_alone_can_be_captured() -> None:
    study = small("mamba", steps=2)
    cell = CellTraining(study, "recall", "mamba", torch.device("cuda", 0))
    cell.step()
    cell.step()
    assert int(cell.adam.step_number) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("arch", ["rotary", "hybrid_b", "learned"])
def test_a_captured_step_is_the_step(arch: str) -> None:
    study = small(arch, steps=150)
    cells = [CellTraining(study, "recall", arch, torch.device("cuda", 0)) for _ in range(2)]
    cells[1]._capture = lambda: None
    for _ in range(130):
        for cell in cells:
            cell.step()
    assert cells[0]._replay is not None
    assert cells[1]._replay is None
    assert torch.equal(cells[0].population.weights, cells[1].population.weights)
    other = CellTraining(study, "recall", arch, torch.device("cuda", 0))
    for _ in range(70):
        other.step()
    state = {name: tensor.cpu() for name, tensor in other.adam.state().items()}
    resumed = CellTraining(study, "recall", arch, torch.device("cuda", 0))
    resumed.load_state(state)
    for _ in range(60):
        resumed.step()
    torch.testing.assert_close(resumed.population.weights, cells[0].population.weights, rtol=1e-5, atol=1e-5)
