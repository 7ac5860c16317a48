"""What holds for every mixer besides its numbers: states, copies, types, refusals, counts."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mambattn._errors import BackendUnavailableError, ConfigError, ShapeError
from mambattn.mixers import MLP, Attention, GlobalLocalAttention, Mamba, Mamba2, local_global_masks, state_tensors
from mambattn.ops import _dispatch

MIXERS = {
    "mamba": lambda: Mamba(16, d_state=4),
    "mamba-bidirectional": lambda: Mamba(16, d_state=4, bidirectional=True, norm_dt_bc=True),
    "mamba2": lambda: Mamba2(16, d_state=4, d_head=8, n_groups=2),
    "attention": lambda: Attention(16, n_heads=4),
    "attention-causal": lambda: Attention(16, n_heads=4, n_kv_heads=2, causal=True, positions="rotary"),
    "local-causal": lambda: Attention(16, n_heads=4, window=3, causal=True),
    "dual-causal": lambda: GlobalLocalAttention(16, 4, 3, causal=True),
    "sparse-causal": lambda: GlobalLocalAttention(16, 4, 3, form="sparse", n_global=2, causal=True),
    "sparse": lambda: GlobalLocalAttention(16, 4, 3, form="sparse", n_global=2),
    "mlp": lambda: MLP(16),
}
CAUSAL = [name for name in MIXERS if MIXERS[name]().causal]


@pytest.fixture
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", MIXERS)
def test_state_dict_carries_everything(name):
    first, second, x = MIXERS[name](), MIXERS[name](), torch.randn(2, 7, 16)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += torch.randn_like(parameter)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("name", MIXERS)
def test_deepcopy_is_equal_and_apart(name):
    mixer, x = MIXERS[name](), torch.randn(2, 7, 16)
    other = copy.deepcopy(mixer)
    y = mixer(x)
    assert torch.equal(other(x), y)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(mixer(x), y)


@pytest.mark.usefixtures("float64_by_default")
@pytest.mark.parametrize("name", MIXERS)
def test_float64_by_default(name):
    mixer, x = MIXERS[name](), torch.randn(2, 7, 16)
    y, view = mixer(x), mixer.attention_view(x)
    assert {p.dtype for p in mixer.parameters()} == {y.dtype} == {view.matrix.dtype} == {torch.float64}
    assert (view.reconstruct() - y).abs().max() < 1e-12
    if mixer.causal:
        y_t, state = mixer.step(x[:, 0], mixer.init_state(2))
        assert (y_t - y[:, 0]).abs().max() < 1e-12
        assert {t.dtype for t in state_tensors(state)} <= {torch.float64}


@pytest.mark.parametrize("name", MIXERS)
def test_bfloat16_is_as_close_as_its_digits_allow(name):
    torch.manual_seed(0)
    mixer, x = MIXERS[name](), torch.randn(2, 20, 16)
    half = copy.deepcopy(mixer).bfloat16()
    exact = copy.deepcopy(half).double()(x.bfloat16().double())
    for y in (half(x.bfloat16()), half.attention_view(x.bfloat16()).reconstruct()):
        assert y.dtype == torch.bfloat16
        assert (y - exact).norm() < 0.02 * exact.norm()
    with torch.autocast("cpu", torch.bfloat16):
        assert (mixer(x) - mixer.double()(x.double())).norm() < 0.02 * exact.norm()


def test_the_view_squares_no_half_precision_numbers():
    """float16 ends at 65504, the square of 256, which gated values may well pass."""
    torch.manual_seed(0)
    mixer, x = Mamba2(16, d_state=4).half(), 10 * torch.randn(1, 9, 16).half()
    y = mixer(x)
    assert (mixer.attention_view(x).reconstruct() - y).norm() < 0.02 * y.norm()


def test_scan_states_stay_in_float32_under_half_precision():
    for mixer in (Mamba(8, d_state=4), Mamba2(8, d_state=4)):
        state = mixer.bfloat16().init_state(1)
        assert (state.conv.dtype, state.scan.dtype) == (torch.bfloat16, torch.float32)
        _, state = mixer.step(torch.ones(1, 8, dtype=torch.bfloat16), state)
        assert (state.conv.dtype, state.scan.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("name", MIXERS)
def test_meta_tensors_give_shapes(name):
    mixer = MIXERS[name]().to("meta")
    y = mixer(torch.empty(2, 7, 16, device="meta", requires_grad=True))
    y.sum().backward()
    assert (y.device.type, y.shape) == ("meta", (2, 7, 16))


@pytest.mark.parametrize("name", MIXERS)
def test_no_rows(name):
    x = torch.zeros(0, 7, 16, requires_grad=True)
    y = MIXERS[name]()(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, 7, 16)


@pytest.mark.parametrize("name", MIXERS)
def test_wrong_shapes_are_refused(name):
    mixer = MIXERS[name]()
    for bad in (torch.zeros(7, 16), torch.zeros(2, 7, 15), torch.zeros(2, 0, 16), torch.zeros(2, 7, 16, 1)):
        for call in (mixer, mixer.attention_view):
            with pytest.raises(ShapeError, match=r"`x` must be \(batch, seq_len, d_model\) with d_model=16, however"):
                call(bad)
    if mixer.causal:
        with pytest.raises(ShapeError, match=r"`x_t` must be \(batch, d_model\) with d_model=16, .* \(2, 1, 16\)"):
            mixer.step(torch.zeros(2, 1, 16), mixer.init_state(2))


@pytest.mark.parametrize("name", [name for name in MIXERS if name not in CAUSAL])
def test_a_mixer_that_is_not_causal_refuses_to_step(name):
    mixer = MIXERS[name]()
    mend = "bidirectional=False" if name.startswith("mamba") else "causal=True"
    with pytest.raises(ConfigError, match=f"`init_state` needs a causal mixer, .* Make it with {mend}"):
        mixer.init_state(2)
    with pytest.raises(ConfigError, match=f"`step` needs a causal mixer, .* Make it with {mend}"):
        mixer.step(torch.zeros(2, 16), None)
    assert mixer.state_bytes(10) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Attention(100, n_heads=8),
            "`d_model` must be divisible by `n_heads`, however d_model=100, n_heads=8. Use n_heads=4, 5 or 10.",
        ),
        (
            lambda: Attention(16, n_heads=4, n_kv_heads=3),
            "`n_heads` must be divisible by `n_kv_heads`, however n_heads=4, n_kv_heads=3. Use n_kv_heads=1, 2 or 4.",
        ),
        (lambda: Attention(15, n_heads=5, positions="rotary"), "Rotary positions need an even d_head"),
        (lambda: Attention(16, positions="learned"), "`positions` must be one of None, 'rotary', however"),
        (lambda: Attention(16, window=0), "`window` must be an integer of at least 1, however window=0."),
        (lambda: Attention(16, dropout=1.0), "`dropout` must be in [0, 1), however dropout=1.0."),
        (lambda: GlobalLocalAttention(16, window=0), "`window` must be an integer of at least 1, however window=0."),
        (
            lambda: GlobalLocalAttention(16, window=None),
            "`window` must be an integer of at least 1, however window=None",
        ),
        (lambda: GlobalLocalAttention(16, form="both"), "`form` must be one of 'dual', 'sparse', however form='both'."),
        (
            lambda: GlobalLocalAttention(16, n_global=2),
            "`n_global` acts only with form='sparse', however form='dual', n_global=2.",
        ),
        (
            lambda: GlobalLocalAttention(16, form="sparse"),
            "`n_global` must be an integer of at least 1 with form='sparse', however n_global=0.",
        ),
        (lambda: Mamba(0), "`d_model` must be an integer of at least 1, however d_model=0."),
        (lambda: Mamba(16, d_state=2.0), "`d_state` must be an integer of at least 1, however d_state=2.0."),
        (lambda: Mamba(16, dt_rank=0), "`dt_rank` must be 'auto' or an integer of at least 1, however dt_rank=0."),
        (lambda: Mamba(16, dt_min=0.2), "0 < dt_min <= dt_max, however dt_min=0.2, dt_max=0.1."),
        (lambda: Mamba(16, dt_init_floor=0.2), "`dt_init_floor` must be in [0, dt_max], however dt_init_floor=0.2"),
        (
            lambda: Mamba2(16, d_head=5),
            "`d_inner` must be divisible by `d_head`, however d_inner=32, d_head=5. Use d_head=2, 4 or 8.",
        ),
        (
            lambda: Mamba2(16, d_head=8, n_groups=3),
            "`n_heads` must be divisible by `n_groups`, however n_heads=4, n_groups=3. Use n_groups=1, 2 or 4.",
        ),
        (lambda: Mamba2(16, A_init_range=(0.0, 1.0)), "`A_init_range` must be (low, high) with 0 < low <= high"),
        (lambda: MLP(16, expand=0), "`expand` must be an integer of at least 1, however expand=0."),
    ],
)
def test_settings_that_cannot_hold_are_refused(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


@pytest.mark.parametrize("mixer", [Mamba, Mamba2, Attention, GlobalLocalAttention])
def test_the_backend_asked_for_is_the_one_that_runs(mixer, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x = torch.ones(1, 3, 16)
    with pytest.raises(BackendUnavailableError, match="triton"):
        mixer(16, backend="triton")(x)
    with pytest.raises(ConfigError, match="however backend='fast'"):
        mixer(16, backend="fast")(x)
    torch.manual_seed(0)
    reference = mixer(16, backend="reference")
    torch.manual_seed(0)
    assert torch.allclose(reference(x), mixer(16, backend="torch")(x), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("backend", ["auto", "reference", "torch"])
@pytest.mark.parametrize(("mixer", "n_ops"), [(Mamba, 4), (Mamba2, 4)])
def test_the_backend_goes_to_every_op_and_step(mixer, n_ops, backend, monkeypatch):
    asked = {}
    choose = _dispatch._choose
    monkeypatch.setattr(
        _dispatch, "_choose", lambda op, name, request: asked.update({op: name}) or choose(op, name, request)
    )
    mixer = mixer(16, backend=backend)
    mixer(torch.ones(1, 3, 16))
    mixer.step(torch.ones(1, 16), mixer.init_state(1))
    assert len(asked) == n_ops
    assert set(asked.values()) == {backend}


@pytest.mark.parametrize("make", [Attention, GlobalLocalAttention])
def test_dropout_acts_in_training_only(make):
    torch.manual_seed(0)
    mixer, x = make(16, dropout=0.5), torch.randn(2, 12, 16)
    exact = mixer.eval()(x)
    assert torch.equal(mixer(x), exact)
    mixer.train()
    assert not torch.allclose(mixer(x), mixer(x))
    mean = torch.stack([mixer(x) for _ in range(400)]).mean(0)
    assert (mean - exact).norm() < 0.15 * exact.norm()
    assert torch.allclose(mixer.attention_view(x).reconstruct(), exact, atol=1e-6)


@pytest.mark.parametrize("seq_len", [1, 5, 40])
@pytest.mark.parametrize("name", CAUSAL)
def test_state_bytes_are_those_of_the_state(name, seq_len):
    mixer = MIXERS[name]()
    state = mixer.init_state(3)
    for _ in range(seq_len):
        _, state = mixer.step(torch.zeros(3, 16), state)
    assert mixer.state_bytes(seq_len, batch=3) == sum(t.nbytes for t in state_tensors(state))


@pytest.mark.parametrize("seq_len", [1, 4, 9, 33])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("window", "n_global"), [(None, 0), (1, 0), (4, 0), (100, 0), (1, 1), (4, 2), (3, 50), (50, 3), (9, 9)]
)
def test_flops_of_attention_count_the_pairs_in_sight(seq_len, causal, window, n_global):
    if n_global:
        mixer = GlobalLocalAttention(8, 2, window, form="sparse", n_global=n_global, causal=causal)
        local, everywhere = local_global_masks(seq_len, window=window, n_global=n_global, causal=causal, form="sparse")
        pairs = (local | everywhere).sum().item()
    else:
        mixer = Attention(8, n_heads=2, window=window, causal=causal)
        pairs = local_global_masks(seq_len, window=window or seq_len, causal=causal)[0].sum().item()
    assert mixer.flops(seq_len, batch=3) == 3 * (2 * seq_len * 8 * 32 + 4 * 8 * pairs)


@pytest.mark.parametrize("name", ["mamba", "mamba-bidirectional", "mamba2", "attention", "mlp"])
def test_flops_of_the_projections_are_those_that_torch_counts(name):
    """What torch counts of the linear maps, plus convolution, recurrence and pairs by hand."""
    mixer, seq_len, batch = MIXERS[name](), 12, 3
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(batch, seq_len, 16))
    projections = sum(
        sum(ops.values()) for module, ops in counter.get_flop_counts().items() if module.endswith("_proj")
    )
    mamba = seq_len * (2 * 32 * 4 + 32 * (7 * 4 + 3))
    mamba2 = seq_len * (2 * (32 + 2 * 2 * 4) * 4 + 32 * (5 * 4 + 3))
    attention = 4 * 16 * seq_len**2
    rest = {"mamba": mamba, "mamba-bidirectional": 2 * mamba, "mamba2": mamba2, "attention": attention, "mlp": 0}
    assert mixer.flops(seq_len, batch) == projections + batch * rest[name]


def test_flops_of_dense_attention_are_those_that_torch_counts():
    mixer = Attention(16, n_heads=4, backend="reference")
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(3, 12, 16))
    assert mixer.flops(12, batch=3) == counter.get_total_flops()


@pytest.mark.parametrize("counts", [(0,), (2.5,), (4, 0)])
def test_costs_need_a_length_and_a_batch(counts):
    for count in (Mamba(8).flops, Mamba(8).state_bytes):
        with pytest.raises(ConfigError, match="must be an integer of at least 1"):
            count(*counts)


def test_numpy_integers_are_integers():
    mixer = Mamba(np.int64(8), d_state=np.int32(4), dt_rank=np.int64(2))
    assert mixer(torch.zeros(1, 3, 8)).shape == (1, 3, 8)
