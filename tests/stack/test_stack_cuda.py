"""Every mixer on a GPU: the three views agree there too, and with the CPU."""

import copy

import pytest
import torch

from mambattn.mixers import state_tensors
from mambattn.stack import Stack

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]

CAUSAL = {
    "M": {"d_state": 4},
    "S": {"d_state": 4, "d_head": 8},
    "A": {"n_heads": 4, "n_kv_heads": 2, "causal": True, "positions": "rotary"},
    "L": {"n_heads": 4, "window": 5, "causal": True},
    "G": {"n_heads": 4, "window": 5, "causal": True, "form": "sparse", "n_global": 2},
    "-": {},
}
NOT_CAUSAL = {
    "M": {"d_state": 4, "bidirectional": True},
    "A": {"n_heads": 4},
    "L": {"n_heads": 4, "window": 5},
    "G": {"n_heads": 4, "window": 5},
}
CASES = [(letter, values) for table in (CAUSAL, NOT_CAUSAL) for letter, values in table.items()]


@torch.no_grad()
@pytest.mark.parametrize(("letter", "values"), CASES)
def test_views_agree(letter, values):
    torch.manual_seed(0)
    on_cpu = Stack(32, letter, settings={letter: values}).double().eval()
    on_gpu = copy.deepcopy(on_cpu).cuda()
    x = torch.randn(2, 150, 32, dtype=torch.float64)
    y = on_gpu(x.cuda())
    assert (y.cpu() - on_cpu(x)).abs().max() < 1e-9
    mixer = on_gpu.layers[0].mixer
    assert (mixer.attention_view(x.cuda()).reconstruct() - mixer(x.cuda())).abs().max() < 1e-9
    if on_gpu.causal:
        state = on_gpu.init_state(2)
        assert all(tensor.is_cuda for tensor in state_tensors(state))
        for t in range(x.shape[1]):
            y_t, state = on_gpu.step(x[:, t].cuda(), state)
            assert (y_t - y[:, t]).abs().max() < 1e-9


@pytest.mark.parametrize("norm", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("schedule", ["MSALG-", "MMAMMA"])
def test_mixed_precision_training_step(schedule, norm):
    torch.manual_seed(0)
    settings = {letter: CAUSAL[letter] for letter in dict.fromkeys(schedule)}
    stack = Stack(32, schedule, settings=settings, norm=norm).cuda()
    x = torch.randn(4, 100, 32, device="cuda")
    gradients = []
    for enabled in (False, True):
        stack.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            y = stack(x)
        y.float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in stack.parameters()]))
    exact, mixed = gradients
    assert mixed.isfinite().all()
    assert (mixed - exact).norm() < 0.05 * exact.norm()
