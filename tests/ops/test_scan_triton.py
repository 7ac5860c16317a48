"""The GPU kernels of the scan against the definition: on a GPU where there is one, else in triton's interpreter."""

from itertools import product

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import selective_scan

pytest.importorskip("triton")
from mambattn.ops.scan import triton_backend, triton_call

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
LENGTHS = (1, 2, 63, 257) if ON_GPU else (1, 2, 19, 34)
OPTIONS = ("D", "z", "dt_bias", "initial_state")
LIMITS = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
ORDER = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state")


@pytest.fixture(autouse=True)
def small_programs(monkeypatch):
    """Let the interpreter, which takes an element at a time, meet many tiles and blocks in small inputs."""
    if not ON_GPU:
        monkeypatch.setattr(triton_backend, "FORWARD", triton_backend.Shape(8, 1, 2, 4))
        monkeypatch.setattr(triton_backend, "BACKWARD", triton_backend.Shape(4, 1, 2, 4))
        monkeypatch.setattr(triton_call, "PROGRAMS", 0)


def cut_time(monkeypatch, most=1000):
    monkeypatch.setattr(triton_call, "PROGRAMS", most)
    monkeypatch.setattr(triton_backend, "FORWARD_CHUNKS", 2)


def error(got, want):
    return ((got.double() - want).norm() / want.norm().clamp_min(1e-30)).item()


def assert_close(scan, inputs, dtype=torch.float32, **options):
    """Allow the limit of the type, or twice the error of the torch backend, relative to the 2-norm of the truth."""
    inputs = {name: x.to(dtype).double().to(DEVICE) for name, x in inputs.items()}
    if options.get("seq_idx") is not None:
        options["seq_idx"] = options["seq_idx"].to(DEVICE)
    truth = scan.run(inputs, "torch", torch.float64, **options)
    plain = scan.run(inputs, "torch", dtype, **options)
    ours = scan.run(inputs, "triton", dtype, **options)
    assert ours.keys() == truth.keys()
    for name, want in truth.items():
        assert error(ours[name], want) <= max(LIMITS[dtype], 2 * error(plain[name], want)), name
    return inputs


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(
    ("seq_len", "without"),
    [*product(LENGTHS, [(), OPTIONS]), *((LENGTHS[2], (option,)) for option in OPTIONS)],
)
def test_equals_the_definition_without_each_option(scan, seq_len, without):
    assert_close(scan, scan.make_inputs(1, seq_len, 5, 3), without=without)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize(("n_groups", "reverse"), [(0, False), (3, True)])
@pytest.mark.parametrize("is_packed", [False, True])
def test_equals_the_definition_with_each_option(scan, seq_len, n_groups, reverse, is_packed):
    seq_idx = scan.packed(1, seq_len) if is_packed else None
    inputs = scan.make_inputs(1, seq_len, 6, 2, n_groups, seed=seq_len)
    assert_close(scan, inputs, reverse=reverse, seq_idx=seq_idx, dt_softplus=not reverse)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("without", [(), OPTIONS])
def test_cut_in_time_it_equals_the_definition(scan, monkeypatch, reverse, is_packed, without):
    """Long sequences of few rows: chunks side by side, joined by their states."""
    seq_len = 1000 if ON_GPU else 75
    cut_time(monkeypatch)
    # One packed sequence reaches over many chunks, so that their states matter.
    seq_idx = (torch.arange(seq_len) >= 0.6 * seq_len).int()[None] if is_packed else None
    assert_close(scan, scan.make_inputs(1, seq_len, 3, 2), reverse=reverse, seq_idx=seq_idx, without=without)


@pytest.mark.parametrize("shape", [(2, 9, 9, 1), (1, 5, 2, 5), (3, 4, 1, 2), (2, 6, 10, 3, 2)])
def test_odd_widths(scan, shape):
    assert_close(scan, scan.make_inputs(*shape))


@pytest.mark.skipif(not ON_GPU, reason="too much for the interpreter")
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(
    "shape", [(2, 4096, 70, 16), (3, 12, 130, 128), (1, 63, 20, 256), (2, 257, 33, 33), (33, 64, 64, 64)]
)
def test_large_widths_on_the_gpu(scan, shape, dtype):
    assert_close(scan, scan.make_inputs(*shape), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reverse", [False, True])
def test_half_precision(scan, dtype, reverse):
    inputs = assert_close(scan, scan.make_inputs(1, 9, 5, 3), dtype, reverse=reverse)
    given = {name: x.to(dtype).requires_grad_() for name, x in inputs.items()}
    y, state = selective_scan(**given, return_final_state=True, backend="triton")
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    gradients = torch.autograd.grad(y.sum(), list(given.values()))
    assert all(gradient.dtype == dtype for gradient in gradients)


def test_mixed_types_as_autocast_gives_them(scan):
    inputs = {name: x.float().to(DEVICE) for name, x in scan.make_inputs(1, 9, 5, 3).items()}
    low = {name: x.bfloat16() if name in ("u", "dt", "B", "C", "z") else x for name, x in inputs.items()}
    given = {name: x.requires_grad_() for name, x in low.items()}
    y = selective_scan(**given, backend="triton")
    want = selective_scan(**{name: x.detach().double() for name, x in low.items()}, backend="reference")
    assert y.dtype == torch.bfloat16
    assert error(y, want) <= LIMITS[torch.bfloat16]
    for x, gradient in zip(given.values(), torch.autograd.grad(y.sum(), list(given.values())), strict=True):
        assert gradient.dtype == x.dtype


@pytest.mark.parametrize("is_cut", [False, True])
def test_two_runs_are_equal_to_the_bit(scan, monkeypatch, is_cut):
    if is_cut:
        cut_time(monkeypatch)
    shape = (2, 2000, 100, 16) if ON_GPU else (1, 70, 3, 2)
    inputs = {name: x.to(DEVICE) for name, x in scan.make_inputs(*shape).items()}
    first, second = (scan.run(inputs, "triton", torch.float32) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(second[name], value), name


def test_strides_do_not_matter(scan):
    dense = {name: x.float().to(DEVICE) for name, x in scan.make_inputs(2, 7, 6, 3, 2).items()}
    want = scan.run(dense, "triton", torch.float32)

    def slice_of_wider(x):
        return torch.cat([x, torch.full_like(x, torch.nan)], -1)[..., : x.shape[-1]]

    def time_first(x):
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    def last_axis_first(x):
        return x.movedim(-1, 0).contiguous().movedim(0, -1)

    for change in (slice_of_wider, time_first, last_axis_first):
        given = {name: change(x) if x.ndim > 1 else x for name, x in dense.items()}
        for name, value in scan.run(given, "triton", torch.float32).items():
            assert torch.equal(value, want[name]), (change.__name__, name)


@pytest.mark.parametrize("without", [(), OPTIONS])
def test_opcheck(scan, without):
    inputs = {name: x.float().to(DEVICE).requires_grad_() for name, x in scan.make_inputs(1, 9, 4, 2, 2).items()}
    tensors = tuple(None if name in without else inputs[name] for name in ORDER)
    arguments = (*tensors, scan.packed(1, 9).to(DEVICE), True, False, True, True)
    torch.library.opcheck(torch.ops.mambattn.selective_scan_triton_forward.default, arguments)
    y, final_state, states = torch.ops.mambattn.selective_scan_triton_forward(*arguments)
    detached = tuple(x if x is None else x.detach() for x in tensors)
    backward = (y.detach(), final_state.detach(), states.detach(), *detached, arguments[9], True, False)
    torch.library.opcheck(torch.ops.mambattn.selective_scan_triton_backward.default, backward)


def test_compiles_to_one_graph(scan):
    torch._dynamo.reset()
    given = {name: x.float().to(DEVICE).requires_grad_() for name, x in scan.make_inputs(1, 9, 4, 2).items()}

    def loss(given):
        y, state = selective_scan(**given, dt_softplus=True, return_final_state=True, backend="triton")
        return y.square().sum() + state.sum()

    want = torch.autograd.grad(loss(given), list(given.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(given)
    for gradient, other in zip(torch.autograd.grad(compiled, list(given.values())), want, strict=True):
        torch.testing.assert_close(gradient, other)


def test_nothing_is_kept_without_gradients(scan):
    inputs = {name: x.float().to(DEVICE) for name, x in scan.make_inputs(1, 34, 4, 2, 1).items()}
    tensors = tuple(inputs[name] for name in ORDER)
    states = torch.ops.mambattn.selective_scan_triton_forward(*tensors, None, True, False, False, False)[2]
    assert states.numel() == 0


def test_empty_batch():
    u = torch.zeros(0, 4, 3, requires_grad=True, device=DEVICE)
    B = torch.zeros(0, 4, 2, device=DEVICE)
    y, state = selective_scan(u, u, -torch.ones(3, 2, device=DEVICE), B, B, return_final_state=True, backend="triton")
    assert (y.shape, state.shape) == ((0, 4, 3), (0, 3, 2))
    assert torch.autograd.grad(y.sum(), u)[0].shape == u.shape


def test_what_it_cannot_serve(scan):
    inputs = {name: x.to(DEVICE) for name, x in scan.make_inputs(1, 4, 2, 2).items()}
    with pytest.raises(BackendUnavailableError, match=r"computes in float32, however the inputs need torch.float64"):
        selective_scan(**inputs, backend="triton")
    with pytest.raises(BackendUnavailableError, match=r"serves CUDA tensors, however the device is meta"):
        selective_scan(**{name: x.float().to("meta") for name, x in inputs.items()}, backend="triton")


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="no CUDA device")
class TestOnAGPU:
    def test_a_graph_of_a_training_step_replays(self, scan):
        given = {name: x.float().cuda().requires_grad_() for name, x in scan.make_inputs(2, 100, 40, 16).items()}

        def step():
            y = selective_scan(**given, dt_softplus=True)
            gradients = torch.autograd.grad(y.sum(), list(given.values()))
            return y.detach(), gradients  # what keeps the autograd graph ties it to the stream it was made on

        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        with torch.no_grad():
            given["u"].mul_(0.5)
        graph.replay()
        want = step()
        assert torch.equal(captured[0], want[0])
        for gradient, other in zip(captured[1], want[1], strict=True):
            assert torch.equal(gradient, other)

    def test_more_than_two_to_the_31_elements(self):
        d_inner, seq_len = 22_528, 100_000
        if torch.cuda.mem_get_info()[0] < 40 * 2**30:
            pytest.skip("needs 40 GiB of GPU memory")
        generator = torch.Generator("cuda").manual_seed(0)
        u, dt = (
            torch.empty(1, seq_len, d_inner, device="cuda", dtype=torch.bfloat16).normal_(generator=generator)
            for _ in range(2)
        )
        A = -torch.arange(1.0, 17.0, device="cuda").expand(d_inner, -1).contiguous()
        B, C = (torch.randn(1, seq_len, 16, device="cuda", generator=generator).bfloat16() for _ in range(2))
        y = selective_scan(u, dt, A, B, C, dt_softplus=True, backend="triton")
        # With A at most -1 and steps of 0.7 in the mean, what lies 700 tokens back is gone.
        last, tokens = slice(d_inner - 64, None), slice(seq_len - 764, None)
        part = (u[:, tokens, last], dt[:, tokens, last], A[last], B[:, tokens], C[:, tokens])
        want = selective_scan(*(x.double() for x in part), dt_softplus=True, backend="reference")
        assert error(y[:, -64:, last], want[:, -64:]) <= LIMITS[torch.bfloat16]
