"""The scan on a GPU: the torch backend against the definition there, and what auto picks."""

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import selective_scan

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("seq_len", [1, 63, 257])
def test_torch_equals_the_definition(scan, seq_len, reverse):
    inputs = {name: x.cuda() for name, x in scan.make_inputs(2, seq_len, 6, 3, 2).items()}
    options = {"reverse": reverse, "seq_idx": scan.packed(2, seq_len).cuda()}
    truth = scan.run(inputs, "reference", torch.float64, **options)
    results = scan.run(inputs, "torch", torch.float64, **options)
    for name in truth:
        limit = 1e-10 if name.startswith("gradient") else 1e-12
        assert scan.distance(results[name], truth[name]) <= limit, name


def test_auto_serves_and_native_refuses(scan, caplog):
    inputs = {name: x.float().cuda() for name, x in scan.make_inputs(2, 9, 6, 3).items()}
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        y = selective_scan(**inputs)
    assert y.is_cuda
    assert "auto runs" in caplog.text
    with pytest.raises(BackendUnavailableError):
        selective_scan(**inputs, backend="native")
