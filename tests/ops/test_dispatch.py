"""Which backend runs: by argument, by the environment, and by itself."""

from dataclasses import replace

import pytest
import torch

from mambattn._errors import BackendUnavailableError, ConfigError
from mambattn.ops import _dispatch, attention, list_backends
from mambattn.ops._dispatch import BACKENDS, VARIABLE, register, run


@pytest.fixture
def op(monkeypatch):
    """Register an op that tells which backend ran, and give its name and what its backends say of themselves."""
    monkeypatch.setattr(_dispatch, "_registry", dict(_dispatch._registry))
    monkeypatch.delenv(VARIABLE, raising=False)
    says = {name: {"missing": None, "refuses": None, "suits": True} for name in ("reference", "torch", "native")}

    def add(name, says):
        register(
            "which",
            name,
            lambda x, *options: (name, x, *options),
            f"the {name} of the test",
            missing=lambda: says["missing"],
            refuses=lambda request: says["refuses"],
            suits=lambda request: says["suits"],
            takes_any_type=name == "native",
        )

    for name, answers in says.items():
        add(name, answers)
    return says


def which(backend="auto", x=None):
    return run("which", backend, [torch.zeros(2) if x is None else x])[0]


def test_the_argument_names_the_backend(op):
    for name in ("reference", "torch", "native"):
        assert which(name) == name


def test_auto_takes_the_first_that_can_and_suits(op):
    assert which() == "native"
    op["native"]["suits"] = False
    assert which() == "torch"
    assert which("native") == "native"
    op["native"].update(suits=True, refuses="it is too long")
    assert which() == "torch"
    op["native"].update(refuses=None, missing="it was not built. Build it")
    assert which() == "torch"


def test_auto_takes_triton_first_but_not_on_the_cpu(op):
    register("which", "triton", lambda x: ("triton",), "for tests")
    assert which() == "native"
    assert which(x=torch.zeros(2, device="meta")) == "triton"


def test_the_environment_names_the_backend_where_the_call_does_not(op, monkeypatch):
    monkeypatch.setenv(VARIABLE, "reference")
    assert which() == "reference"
    assert which("native") == "native"
    monkeypatch.setenv(VARIABLE, "auto")
    assert which() == "native"
    monkeypatch.setenv(VARIABLE, "")
    assert which() == "native"


def test_the_environment_may_name_what_an_op_does_not_have(op, monkeypatch):
    """One variable is for all ops: an op without such a kernel chooses by itself."""
    monkeypatch.setenv(VARIABLE, "triton")
    assert which() == "native"
    with pytest.raises(BackendUnavailableError, match="this version of mambattn has no triton kernel for it"):
        which("triton")


def test_unknown_names(op, monkeypatch):
    with pytest.raises(
        ConfigError, match="`backend` must be 'auto' or one of 'reference', 'torch', 'native', 'triton'"
    ):
        which("fast")
    monkeypatch.setenv(VARIABLE, "Fast")
    with pytest.raises(ConfigError, match=r"`MAMBATTN_BACKEND` must be .*, however MAMBATTN_BACKEND='Fast'"):
        which()


@pytest.mark.parametrize("says", [{"missing": "it was not built"}, {"refuses": "it was not built"}])
def test_what_cannot_run_is_named_with_who_asked_for_it(op, monkeypatch, says):
    op["native"].update(says)
    with pytest.raises(
        BackendUnavailableError, match=r"`backend`='native' cannot run which: it was not built\. Use 'auto'"
    ):
        which("native")
    monkeypatch.setenv(VARIABLE, "native")
    with pytest.raises(BackendUnavailableError, match="`MAMBATTN_BACKEND`='native' cannot run which: it was not built"):
        which()


def test_a_backend_is_shown_tensors_and_options(op):
    seen = []
    x = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    register("which", "native", lambda *_: None, "for tests", refuses=lambda request: seen.append(request))
    run("which", "auto", [None, x], 3, "gelu")
    (request,) = seen
    assert request.tensors[0] is None
    assert request.tensors[1] is x
    assert request.options == (3, "gelu")
    assert (request.device, request.dtype, request.differentiable) == (x.device, torch.float32, True)


def test_tensors_come_in_one_type_unless_a_backend_takes_any(op):
    x = torch.zeros(2, dtype=torch.bfloat16)
    assert run("which", "torch", [x])[1].dtype == torch.float32
    assert run("which", "native", [x])[1] is x


def test_auto_says_in_the_log_what_ran(op, caplog):
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        which()
        which("torch")
    assert [record.getMessage() for record in caplog.records] == ["which: auto runs native for torch.float32 on cpu"]


def test_the_list_shows_every_op_with_every_backend(op):
    op["native"]["missing"] = "it was not built"
    rows = [row for row in list_backends() if row.op == "which"]
    assert [row.backend for row in rows] == list(BACKENDS)
    assert [row.available for row in rows] == [True, True, False, False]
    assert [row.reason for row in rows] == [
        "the reference of the test",
        "the torch of the test",
        "it was not built",
        "this version of mambattn has no triton kernel for it",
    ]
    assert str(rows[2]) == "which / native: not available, it was not built"


def test_compiled_calls_choose_the_same(monkeypatch):
    q = torch.randn(2, 5, 2, 4)
    chosen = []
    original = _dispatch._registry["attention"]

    def spy(name, entry):
        return replace(entry, implementation=lambda *given: chosen.append(name) or entry.implementation(*given))

    spied = {name: spy(name, entry) for name, entry in original.items()}
    monkeypatch.setitem(_dispatch._registry, "attention", spied)
    for name in ("reference", "torch", ""):
        torch.compiler.reset()
        monkeypatch.setenv(VARIABLE, name)
        want = attention(q, q, q)
        compiled = torch.compile(lambda q: attention(q, q, q), fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(q), want)
    assert chosen == ["reference", "reference", "torch", "torch", "torch", "torch"]
