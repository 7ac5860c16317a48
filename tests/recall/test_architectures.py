"""Architectures: names that go there and back, settings that reach the layers, and refusals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mambattn import recall
from mambattn._errors import ConfigError
from mambattn.recall import ARCHITECTURES, Architecture, RecallNetwork, parse_architecture
from mambattn.stack import make_mixer

NAMES = st.one_of(st.sampled_from(sorted(ARCHITECTURES)), st.text("MSALG-", min_size=1, max_size=6))
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "positions": st.sampled_from(["learned", "rotary"]),
        "log_scaling": st.sampled_from(["test", "always"]),
        "window": st.integers(1, 999),
    },
)


@given(NAMES, OPTIONS, st.randoms())
@settings(max_examples=200, deadline=None)
def test_a_name_comes_back(name, options, random):
    order = list(options)
    random.shuffle(order)
    text = ":".join([name, *(f"{option}={options[option]}" for option in order)])
    schedule = ARCHITECTURES[name].schedule if name in ARCHITECTURES else name
    acts = {
        "window": set("AL"),
        "log_scaling": set("AL"),
        "positions": set("ALG") if options.get("positions") == "rotary" else set(schedule),
    }
    known = ARCHITECTURES.get(name)
    if "positions" in options and known is not None and known.positions is not None:
        with pytest.raises(ConfigError, match="`positions` must be left out where the name says them"):
            parse_architecture(text)
        return
    if any(not acts[option] & set(schedule) for option in options):
        with pytest.raises(ConfigError, match="has no layer for"):
            parse_architecture(text)
        return
    found = parse_architecture(text)
    assert (found.schedule, found.label) == (schedule, name if name in ARCHITECTURES else "")
    assert {option: getattr(found, option) for option in options} == options
    again = parse_architecture(found.name)
    assert again == found
    assert again.name == found.name


def test_the_names_are_those_of_the_published_comparison():
    published = {
        "nope": ("AA", None), "learned": ("AA", "learned"), "rotary": ("AA", "rotary"),
        "mamba": ("MM", None), "hybrid_a": ("MA", None), "hybrid_b": ("MAM", None),
    }  # fmt: skip
    assert {name: (a.schedule, a.positions) for name, a in ARCHITECTURES.items()} == published
    assert all(a.name == name == a.label and parse_architecture(name) is not None for name, a in ARCHITECTURES.items())
    assert set(recall.PRESETS["study"]["archs"]) == {*published, "hybrid_a:log_scaling=test"}


def build(text):
    return RecallNetwork(
        parse_architecture(text), vocab=16, max_length=40, train_length=20, d_model=8, n_heads=2, d_state=4,
        norm_position="post", mlp=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("MA:window=7", {"layers": "ML", "window": 7}),
        ("ML:window=7", {"layers": "ML", "window": 7}),
        ("ML", {"layers": "ML", "window": 64}),
        ("MA:log_scaling=test", {"layers": "MA", "log_length": 20, "log_floor": True}),
        ("ML:log_scaling=always:window=3", {"layers": "ML", "window": 3, "log_length": 20, "log_floor": False}),
        ("SA:positions=rotary", {"layers": "SA", "positions": "rotary", "log_length": None}),
        ("nope", {"layers": "AA", "positions": None, "window": None, "log_length": None, "n_heads": 2, "causal": True}),
    ],
)
def test_the_options_reach_the_last_layer(text, seen):
    network = build(text)
    mixer = list(network.stack.layers)[-1].mixer
    assert {
        "layers": network.stack.schedule,
        **{name: getattr(mixer, name) for name in seen if name != "layers"},
    } == seen


def test_only_learned_positions_have_a_table():
    assert [build(text).positions is not None for text in ("learned", "M:positions=learned", "rotary", "nope")] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (3, "An architecture must be text, however it is 3. Use a name or a schedule as 'MAM'."),
        ("", "`schedule` must be a string of at least one letter, however schedule=''."),
        ("MXA", "`schedule` 'MXA' has 'X' at position 2. Letters allowed: M (Mamba)"),
        ("rotry", "There is no architecture 'rotry'. Did you mean 'rotary'?"),
        ("Mamba", "There is no architecture 'Mamba'. Did you mean 'mamba'?"),
        ("gru", "There is no architecture 'gru'. Known: nope, learned, rotary, mamba, hybrid_a, hybrid_b; or a schedule as 'MAM'."),
        ("MA:", "Architecture 'MA:' has the unknown option ''. Known: positions, log_scaling, window."),
        ("MA:positon=rotary", "Architecture 'MA:positon=rotary' has the unknown option 'positon'. Did you mean 'positions'?"),
        ("MA:positions=None", "`positions` must be one of learned, rotary, however it is 'None' in 'MA:positions=None'. Use positions=learned."),
        ("MA:log_scaling", "`log_scaling` must be one of test, always, however it is '' in 'MA:log_scaling'. Use log_scaling=test."),
        ("MA:window=0", "`window` must be a number of tokens of at least 1, however it is '0' in 'MA:window=0'. Use window=32."),
        ("MA:window=-3", "`window` must be a number of tokens of at least 1, however it is '-3'"),
        ("MA:window=2.5", "`window` must be a number of tokens of at least 1, however it is '2.5'"),
        ("MA:window=3:window=4", "`window` must be given once, however the architecture is 'MA:window=3:window=4'. Use one of them."),
        ("mamba:window=8", "Architecture 'mamba:window=8' has no layer for `window` to act on (its schedule is 'MM'). Leave it out."),
        ("G:log_scaling=test", "Architecture 'G:log_scaling=test' has no layer for `log_scaling` to act on (its schedule is 'G')."),
        ("MS-:positions=rotary", "Architecture 'MS-:positions=rotary' has no layer for `positions` to act on (its schedule is 'MS-')."),
    ],
)  # fmt: skip
def test_refusals(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_architecture(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("one", "other"),
    [("mamba", "MM"), ("AA:window=5", "LL:window=5"), ("L", "L:window=64"), ("AM:window=64:positions=rotary", "LM:positions=rotary")],
)  # fmt: skip
def test_equal_networks_have_one_meaning(one, other):
    assert parse_architecture(one) != parse_architecture(other)
    assert parse_architecture(one).meaning == parse_architecture(other).meaning


def test_different_networks_have_different_meanings():
    texts = ("A", "L", "L:window=63", "G", "AL", "AL:window=64", "nope", "learned", "nope:log_scaling=test", "MA", "M-A", "mamba")  # fmt: skip
    assert len({parse_architecture(text).meaning for text in texts}) == len(texts)


def test_the_window_of_a_local_layer_is_that_of_a_stack():
    assert parse_architecture("L").meaning.window == make_mixer("L", 8, {"n_heads": 1}).window


def test_an_architecture_made_by_hand_has_the_name_of_its_schedule():
    assert Architecture("MA", window=5).name == "MA:window=5"
