"""The benchmark: cases are those registered, wrong results are refused, and figures are what they say."""

import sys
from types import ModuleType

import pytest
import torch

from mambattn._errors import ConfigError
from mambattn.bench import CASES, Case, WrongResultError, measure, peers, run
from mambattn.bench.cases import SIZES, select
from mambattn.bench.contender import Contender, Trial
from mambattn.bench.limits import Limits, measure_limits
from mambattn.bench.measure import TOLERANCE, check
from mambattn.bench.problems import AXES, contenders, draw, unbind_loop
from mambattn.bench.training import measure_training, table

CPU = torch.device("cpu")
LIMITS = Limits(1e9, 1e9)
SMALL = {
    "selective_scan": (2, 8, 5, 4),
    "selective_scan_step": (2, 8, 4),
    "ssd": (2, 5, 3, 4, 6),
    "ssd_step": (2, 3, 4, 6),
    "causal_conv1d": (2, 5, 8, 4),
    "causal_conv1d_step": (2, 8, 4),
    "attention": (2, 30, 2, 8, 6),
}


def small(op: str, dtype: str = "float32") -> Case:
    return Case("small", op, SMALL[op], "a test", dtype)


def test_the_documented_shapes_are_registered():
    shapes = {(case.op, case.sizes, case.dtype) for case in CASES}
    for sizes in ((256, 128, 12, 128), (64, 128, 64, 16), (64, 128, 512, 16), (1, 1536, 2048, 16)):
        assert ("selective_scan", sizes, "float32") in shapes
    for sizes in (
        *((8, 1536, 2048, 16), (32, 2048, 2048, 16), (1, 2048, 32768, 16)),
        *((64, 128, 512, 16), (256, 128, 64, 64), (256, 128, 12, 128)),
    ):
        assert {("selective_scan", sizes, "float32"), ("selective_scan", sizes, "bfloat16")} <= shapes
    for sizes in ((8, 2048, 24, 64, 128), (1, 32768, 32, 64, 128), (32, 2048, 32, 64, 128)):
        assert ("ssd", sizes, "bfloat16") in shapes
    assert ("ssd", (1, 2048, 24, 64, 64), "float32") in shapes
    assert {("training_step", (128, 14), "float32"), ("training_step", (128, 100), "float32")} <= shapes


def test_cases_are_told_apart_and_complete():
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert len(case.sizes) == len(SIZES[case.op])
        assert case.why
        assert case[SIZES[case.op][0]] == case.sizes[0]


@pytest.mark.parametrize("op", SMALL)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_contender_is_right(op, dtype):
    case = small(op, dtype)
    for contender in contenders(case, CPU):
        assert check(case, contender, CPU) <= TOLERANCE[dtype], contender.name


def test_a_wrong_gradient_is_refused():
    def wrong(**inputs):
        return unbind_loop(**inputs | {"A": inputs["A"].detach() + 0 * inputs["A"]})

    runs = [Contender("unbind loop", unbind_loop), Contender("broken", wrong)]
    with pytest.raises(WrongResultError, match=r"broken at small: the gradient of A is off by .* no time"):
        measure(small("selective_scan"), runs, 1, CPU, LIMITS)


def test_what_goes_wrong_late_in_a_long_sequence_is_refused():
    case = Case("long", "causal_conv1d", (1, 300, 8, 4), "a test")

    def wrong_late(**inputs):
        y = contenders(case, CPU)[1].run(**inputs)
        return y if y.shape[1] < 200 else torch.cat([y[:, :200], 1.01 * y[:, 200:]], 1)

    with pytest.raises(WrongResultError, match=r"output 0 is off by"):
        check(case, Contender("wrong late", wrong_late), CPU)


def test_a_nan_is_refused():
    with pytest.raises(WrongResultError, match=r"output 0 is off by nan"):
        check(small("selective_scan"), Contender("nan", lambda **inputs: unbind_loop(**inputs) * torch.nan), CPU)


def test_figures_are_what_they_say():
    case = small("selective_scan")
    rows = measure(case, contenders(case, CPU), 3, CPU, LIMITS)
    assert [row.contender for row in rows][:3] == ["unbind loop", "lean loop", "torch"]
    loop = rows[0]
    for row in rows[1:]:
        assert row.ratios["unbind loop"] == pytest.approx(loop.total_ms / row.total_ms)
        assert row.exponential_share == pytest.approx(2 * 8 * 5 * 4 / (row.forward_ms / 1e3) / 1e9)
        sequences, maps, weights = 4 * 2 * 5 * 8, 2 * 2 * 5 * 4, 2 * 8 + 8 * 4
        assert row.memory_share == pytest.approx(4 * (sequences + maps + weights) / (row.forward_ms / 1e3) / 1e9)
        assert row.graph_ms is None


def test_a_step_has_no_backward():
    case = small("ssd_step")
    rows = measure(case, contenders(case, CPU), 1, CPU, LIMITS)
    assert {row.total_ms for row in rows} == {None}
    first, *others = rows
    assert first.contender == "torch"
    for row in others:
        assert row.ratios["torch"] == pytest.approx(first.forward_ms / row.forward_ms)


def test_memory_is_that_of_the_call():
    case = Case("memory", "causal_conv1d", (1, 4096, 512, 4), "a test")
    (row,) = measure(case, [contenders(case, CPU)[1]], 1, CPU, LIMITS)
    if row.extra_mib is not None:
        one = 4 * 4096 * 512 / 2**20
        assert 2 * one <= row.extra_mib <= 8 * one


def test_what_would_take_too_long_is_left_out():
    case = Case("long", "causal_conv1d", (1, 3000, 2, 4), "a test")
    assert "loop" not in {row.contender for row in measure(case, contenders(case, CPU), 1, CPU, LIMITS)}
    wide = Case("wide", "selective_scan", (2**12, 2**10, 2**6, 2**4), "a test", devices=("cpu",))
    assert measure(wide, [Contender("forms all", unbind_loop, forms_states=True)], 1, CPU, LIMITS) == []


def test_a_contender_may_want_channels_first():
    case = small("causal_conv1d")
    seen = []

    def channels_first(x, weight, bias):
        seen.append(x.shape)
        return contenders(case, CPU)[1].run(x=x.transpose(1, 2), weight=weight, bias=bias).transpose(1, 2)

    assert check(case, Contender("turned", channels_first, is_channels_first=True), CPU) <= TOLERANCE["float32"]
    assert set(seen) == {(2, 8, 5)}


def test_trials_do_not_share_their_inputs():
    case = small("causal_conv1d")
    inputs = draw(case, CPU)
    trial = Trial(contenders(case, CPU)[1], inputs, AXES[case.op])
    trial.both()
    assert all(x.grad is None and not x.requires_grad for x in inputs.values())


def test_limits_are_measured():
    limits = measure_limits(CPU)
    assert limits.exponentials is None or 1e8 < limits.exponentials < 1e12
    assert 1e8 < limits.bytes < 1e13


def test_a_peer_runs_beside_the_others(monkeypatch):
    """A stand-in with the interface of mamba.py's scan, right and then wrong."""
    factor = 1.0

    def pscan(A, X):
        states = [X[:, 0]]
        for t in range(1, X.shape[1]):
            states.append(factor * A[:, t] * states[-1] + X[:, t])
        return torch.stack(states, 1)

    module = ModuleType("mambapy.pscan")
    module.pscan = pscan
    monkeypatch.setitem(sys.modules, "mambapy", ModuleType("mambapy"))
    monkeypatch.setitem(sys.modules, "mambapy.pscan", module)
    monkeypatch.setitem(sys.modules, "transformers.models.mamba.modeling_mamba", None)
    case = small("selective_scan")
    result = run([case], device=CPU, rounds=1)
    assert "mamba.py pscan" in {row.contender for row in result.rows}
    assert "mambapy.pscan" not in result.missing
    factor = 0.5
    with pytest.raises(WrongResultError, match=r"mamba\.py pscan at small"):
        run([case], device=CPU, rounds=1)


def test_a_peer_that_is_not_there_is_named(monkeypatch):
    for name in ("mambapy", "transformers.models.mamba.modeling_mamba", "deeptab"):
        monkeypatch.setitem(sys.modules, name, None)
    found, missing = peers.peers(small("selective_scan"), CPU)
    assert found == []
    assert set(missing) == {"mambapy.pscan", "transformers.models.mamba.modeling_mamba", "deeptab.nn.blocks.mamba"}
    assert peers.peers(small("selective_scan", "bfloat16"), CPU) == ([], {})


def test_unknown_cases_are_refused_with_a_hint():
    with pytest.raises(
        ConfigError, match=r"`case` must be a registered one.*'scan-tabels'. Did you mean 'scan-tables'"
    ):
        select(["scan-tabels"], [], "cpu")
    with pytest.raises(ConfigError, match=r"`op` must be a registered one, however op='convolution'"):
        select([], ["convolution"], "cpu")
    with pytest.raises(ConfigError, match=r"none is for device='cpu', case=scan-gpu-130m-f32"):
        select(["scan-gpu-130m-f32"], [], "cpu")


def test_what_is_picked():
    default = select([], [], "cpu")
    everything = select([], [], "cpu", everything=True)
    assert {case.name for case in default} < {case.name for case in everything}
    assert all("cpu" in case.devices for case in everything)
    assert [case.name for case in select(["scan-text"], [], "cpu")] == ["scan-text"]
    assert {case.op for case in select([], ["ssd"], "cpu")} == {"ssd"}


def test_training_steps_are_timed_for_both_backends():
    case = Case("tiny", "training_step", (16, 14), "a test")
    rows = measure_training(case, 1, CPU)
    assert [row.contender for row in rows] == ["torch", "auto"]
    assert rows[1].ratios["torch"] == pytest.approx(rows[0].step_ms / rows[1].step_ms)
    assert rows[0].steps_per_second == pytest.approx(1e3 / rows[0].step_ms)


def test_the_table_is_that_of_adult_or_of_numbers():
    assert table(14).select_dtypes("number").shape[1] == 6
    assert table(100).select_dtypes("number").shape[1] == 100
