"""What holds for every stack: residuals, the recurrent view, causality, copies, refusals."""

import copy

import pytest
import torch
from torch import nn

from mambattn._errors import ConfigError, ShapeError
from mambattn.mixers import MLP, Attention, GlobalLocalAttention, Mamba, Mamba2, state_tensors
from mambattn.stack import Block, Stack, make_mixer

ALL = "MSALG-"
CAUSAL = {
    "M": {"d_state": 3},
    "S": {"d_state": 3, "d_head": 4, "chunk_size": 4},
    "A": {"n_heads": 2, "causal": True, "positions": "rotary"},
    "L": {"n_heads": 2, "window": 3, "causal": True},
    "G": {"n_heads": 2, "window": 3, "causal": True},
}


def make(schedule=ALL, settings=CAUSAL, **options):
    torch.manual_seed(0)
    settings = {letter: values for letter, values in settings.items() if letter in schedule}
    stack = Stack(8, schedule, settings=settings, **options).double().eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return stack


def tokens(seq_len=15):
    return torch.randn(2, seq_len, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_letters_make_their_mixers():
    mixers = [block.mixer for block in Stack(16, ALL).layers]
    assert [type(mixer) for mixer in mixers] == [Mamba, Mamba2, Attention, Attention, GlobalLocalAttention, MLP]
    assert (mixers[2].window, mixers[3].window, mixers[4].local_attention.window) == (None, 64, 64)


@pytest.mark.parametrize("norm", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@torch.no_grad()
def test_a_block_is_its_formula(norm, norm_position):
    x = tokens()
    for letter in ALL:
        block = make(letter, norm=norm, norm_position=norm_position).layers[0]
        assert type(block.norm).__name__ == norm
        expected = x + block.mixer(block.norm(x)) if norm_position == "pre" else block.norm(x + block.mixer(x))
        assert torch.equal(block(x), expected)


@torch.no_grad()
def test_zeroed_mixers_leave_the_identity():
    """Every layer, attention and MLP too, has its residual: nothing replaces the stream."""
    for schedule in (*ALL, ALL * 2):
        stack, x = make(schedule), tokens()
        n_zeroed = 0
        for name, module in stack.named_modules():
            if name.endswith("out_proj"):
                for parameter in module.parameters():
                    parameter.zero_()
                n_zeroed += 1
        assert n_zeroed == len(schedule) + schedule.count("G")
        assert torch.equal(stack(x), x)


@torch.no_grad()
def test_post_norm_with_zeroed_mixers_is_a_chain_of_norms():
    stack, x = make(ALL, norm_position="post"), tokens()
    for name, module in stack.named_modules():
        if name.endswith("out_proj"):
            for parameter in module.parameters():
                parameter.zero_()
    expected = x
    for block in stack.layers:
        expected = block.norm(expected)
    assert torch.equal(stack(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("schedule", [*ALL, ALL, "MMA" * 2, "-A-M"])
def test_steps_give_forward_and_leave_their_state_alone(schedule, norm_position):
    stack, x = make(schedule, norm_position=norm_position, norm="RMSNorm"), tokens()
    assert stack.causal
    y, state = stack(x), stack.init_state(2)
    for t in range(x.shape[1]):
        before = copy.deepcopy(state)
        y_t, next_state = stack.step(x[:, t], state)
        assert (y_t - y[:, t]).abs().max() < 1e-9
        assert all(map(torch.equal, state_tensors(before), state_tensors(state)))
        state = next_state


@torch.no_grad()
def test_prefix_states_fork():
    """One state, two continuations: neither disturbs the other."""
    stack, x = make(), tokens()
    state = stack.init_state(2)
    for t in range(5):
        _, state = stack.step(x[:, t], state)
    stack.step(-x[:, 9], state)
    y_t, _ = stack.step(x[:, 5], state)
    assert (y_t - stack(x)[:, 5]).abs().max() < 1e-9


@torch.no_grad()
@pytest.mark.parametrize(
    ("settings", "causal"),
    [
        (CAUSAL, True),
        (CAUSAL | {"A": {"n_heads": 2}}, False),
        (CAUSAL | {"M": {"bidirectional": True}}, False),
        (CAUSAL | {"G": {"n_heads": 2, "window": 2, "form": "sparse", "n_global": 1}}, False),
    ],
)
def test_causality(settings, causal):
    stack, x = make(settings=settings), tokens()
    changed = x.clone()
    changed[:, 9] = x[:, 9].roll(1, dims=-1)  # a shift alone would vanish in the norm
    difference = (stack(x) - stack(changed)).abs().amax(dim=(0, 2))
    assert stack.causal == causal
    assert (difference[:9].max() < 1e-12) == causal
    assert difference[9:].min() > 1e-9


def test_copies_and_state_dicts():
    first, x = make(), tokens()
    copied, second = copy.deepcopy(first), Stack(8, ALL, settings=CAUSAL).double().eval()
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
    assert torch.equal(first(x), copied(x))


# Both are torch.compile's own doing, the second in torch 2.11.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(("schedule", "fullgraph"), [("SALG-", True), ("M", False)])
def test_compiled_it_computes_the_same(schedule, fullgraph):
    """As one graph; the "torch" backend of the scan breaks it, so that of Mamba depends on the machine."""
    torch._dynamo.reset()
    stack, x = make(schedule).float(), tokens().float()
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=fullgraph)
    y, expected = compiled(x), stack(x)
    gradients, wanted = (torch.autograd.grad(out.square().sum(), list(stack.parameters())) for out in (y, expected))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients, wanted)


def test_dropout_acts_on_the_output_of_every_mixer_in_training():
    x = tokens()
    for letter in ALL:
        stack = make(letter, dropout=0.5)
        exact = stack(x)
        assert torch.equal(stack(x), exact)
        stack.train()
        torch.manual_seed(3)
        branch = stack(x) - x
        kept = branch != 0
        assert 0.35 < kept.double().mean() < 0.65
        assert torch.allclose(branch[kept], 2 * (exact - x)[kept])


def test_gradients_reach_every_parameter_in_float32():
    stack = Stack(8, ALL, settings=CAUSAL)
    stack(torch.randn(2, 9, 8)).square().mean().backward()
    for name, parameter in stack.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Stack(8, "MXA"), "`schedule` 'MXA' has 'X' at position 2. Letters allowed: M (Mamba)"),
        (lambda: Stack(8, ""), "`schedule` must be a string of at least one letter, however schedule=''."),
        (
            lambda: Stack(8, "MM", settings={"A": {"causal": True}}),
            "`settings` has 'A', which is no layer of the schedule 'MM'. Leave it out, or add the letter. Letters of "
            "this schedule: M.",
        ),
        (
            lambda: Stack(8, "MA", settings={"A": {"n_head": 2}}),
            "Layer A (global attention) has no setting 'n_head'. Did you mean 'n_heads'?",
        ),
        (lambda: Stack(8, "-", settings={"-": {"xyz": 2}}), "Layer - (MLP) has no setting 'xyz'. Known: expand, bias."),
        (
            lambda: Stack(8, "A", settings={"A": {"window": 4}}),
            "layers A (global) and L (local), however the settings of A have window=4. Use L in the schedule",
        ),
        (
            lambda: Stack(8, "L", settings={"L": {"window": None}}),
            "layers A (global) and L (local), however the settings of L have window=None. Use A in the schedule",
        ),
        (lambda: Stack(8, "M", norm="BatchNorm"), "`norm` must be one of 'LayerNorm', 'RMSNorm', however norm='Bat"),
        (lambda: Stack(8, "M", norm_position="mid"), "`norm_position` must be one of 'pre', 'post', however norm_pos"),
        (lambda: Stack(8, "M", dropout=1), "`dropout` must be in [0, 1), however dropout=1."),
        (lambda: make_mixer("X", 8), "`letter` must be one of 'M', 'S', 'A', 'L', 'G', '-', however letter='X'."),
    ],
)
def test_settings_that_cannot_hold_are_refused(make_it, message):
    with pytest.raises(ConfigError) as error:
        make_it()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "settings", "message"),
    [
        (
            "MMA",
            {},
            "layer 3 of 'MMA', A (global attention), is not causal. Make it with settings={'A': {'causal': True}}",
        ),
        ("M", {"M": {"bidirectional": True}}, "layer 1 of 'M', M (Mamba), is not causal. .* {'bidirectional': False}"),
    ],
)
def test_a_stack_that_is_not_causal_names_the_layer(schedule, settings, message):
    stack = Stack(8, schedule, settings=settings)
    pattern = message.replace("(", r"\(").replace(")", r"\)").replace("{", r"\{").replace("}", r"\}")
    with pytest.raises(ConfigError, match=f"`init_state` needs causal layers, however {pattern}"):
        stack.init_state(2)
    with pytest.raises(ConfigError, match=f"`step` needs causal layers, however {pattern}"):
        stack.step(torch.zeros(2, 8), ())


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"`x` must be \(batch, seq_len, d_model\) with d_model=8, however .*\(2, 8\)"):
        Stack(8, "M")(torch.zeros(2, 8))
    stack = Stack(8, "M")
    with pytest.raises(ShapeError, match=r"`x_t` must be \(batch, d_model\) with d_model=8, however .*\(2, 1, 8\)"):
        stack.step(torch.zeros(2, 1, 8), stack.init_state(2))


def test_blocks_stand_alone():
    block = Block(Attention(8, n_heads=2, causal=True), norm="RMSNorm")
    x = torch.randn(2, 4, 8)
    y, state = block(x), block.init_state(2)
    for t in range(4):
        y_t, state = block.step(x[:, t], state)
        assert torch.allclose(y_t, y[:, t], atol=1e-6)
    assert isinstance(block.norm, nn.RMSNorm)
