"""Claims, their verdicts at the very boundaries, and how often a verdict is wrong."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from mambattn._errors import ConfigError
from mambattn.recall.claims import CHAIN, judge, parse_chain
from mambattn.recall.results import Results, Row
from mambattn.recall.statistics import t_interval

ABOVE = 0.02 + 1e-9


def study(scores, *, lengths=(32, 64, 128), task="recall", train_length=32, **changes):
    """Make results whose accuracies are 1 at 32, and beyond it a seed's score, spread about it."""
    rows = [
        Row(task, arch, seed, 1e-3, 10, True, {32: 1.0, 64: score + 0.01, 128: score - 0.01})
        for arch, values in scores.items()
        for seed, score in (values.items() if isinstance(values, dict) else enumerate(values))
    ]
    settings = {"train_length": train_length, "lengths": list(lengths)}
    return Results.from_rows([dataclasses.replace(row, **changes.get(row.arch, {})) for row in rows], settings)


@pytest.mark.parametrize(
    ("low", "high", "less", "same"),
    [
        (1e-9, 0.5, "holds", "reversed"),
        (0.0, 0.5, "undecided", "undecided"),
        (-0.5, -1e-9, "reversed", "reversed"),
        (-0.5, 0.0, "undecided", "undecided"),
        (-0.02, 0.02, "tie", "holds"),
        (0.0, 0.0, "tie", "holds"),
        (-0.02, ABOVE, "undecided", "undecided"),
        (-ABOVE, 0.02, "undecided", "undecided"),
        (1e-9, 0.02, "holds", "holds"),
        (-0.02, -1e-9, "reversed", "holds"),
        (1e-9, ABOVE, "holds", "reversed"),
        (-ABOVE, -1e-9, "reversed", "reversed"),
        (0.92 - 0.90, 0.92 - 0.90, "holds", "holds"),  # .02 and a rounding error
        (-0.3, 0.3, "undecided", "undecided"),
        (math.nan, math.nan, "undecided", "undecided"),
    ],
)
def test_boundaries_of_the_verdicts(low, high, less, same):
    assert (judge("<", low, high), judge("≈", low, high)) == (less, same)


def test_without_a_difference_one_verdict_in_twenty_is_wrong():
    rng = np.random.default_rng(0)
    intervals = [t_interval(rng.normal(0, 0.1, 5)) for _ in range(2000)]
    verdicts = [judge("<", *each) for each in intervals]
    assert np.mean([each in ("holds", "reversed") for each in verdicts]) == pytest.approx(0.05, abs=0.012)
    # A difference of seven standard errors is nearly always found, and never in the wrong direction.
    verdicts = [judge("<", *t_interval(rng.normal(0.3, 0.1, 5))) for _ in range(500)]
    assert verdicts.count("holds") > 480
    assert "reversed" not in verdicts
    # Seeds that hardly differ are shown to tie.
    verdicts = [judge("≈", *t_interval(rng.normal(0, 0.003, 5))) for _ in range(500)]
    assert verdicts.count("holds") > 490


def test_chains_are_read():
    assert [left + claim + right for left, claim, right in parse_chain(CHAIN)] == [
        "nope<learned", "learned<rotary", "rotary<mamba", "mamba<hybrid_a", "hybrid_a≈hybrid_b"
    ]  # fmt: skip
    assert parse_chain("MA:window=32~MA-") == (("MA:window=32", "≈", "MA-"),)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (
            "rotary",
            r"`chain` must be names with < or ≈ between, the better one on the right, however chain='rotary'\. Use ",
        ),
        ("rotary < ", "must be names with"),
        ("rotary > mamba", "the better one on the right"),
        ("rotary, mamba < MA", "must be names with"),
        (["rotary", "mamba"], "must be names with"),
        ("mamba < mamba", r"`chain` must link different names, however chain='mamba < mamba'\. Use 'mamba' once\."),
        ("rotary < mambo", r"`chain` must link architectures of the study, .* names 'mambo'\. Did you mean 'mamba'\?"),
        ("rotary < learned", r"names 'learned'\. There are rotary, mamba\."),
    ],
)
def test_what_is_no_chain_of_the_study_is_refused(chain, message):
    with pytest.raises(ConfigError, match=message):
        study({"rotary": [0.5] * 5, "mamba": [0.9] * 5}).links(chain)


def test_a_link_is_the_paired_test_over_shared_seeds():
    rng = np.random.default_rng(1)
    left = dict(enumerate(rng.uniform(0.2, 0.8, 9)))
    right = {seed: 0.1 + 0.8 * value + rng.normal(0, 0.02) for seed, value in left.items()}
    del left[8], right[1]
    results = study({"rotary": left, "mamba": dict(reversed(right.items()))})
    [link] = results.links("rotary < mamba")
    both = sorted(set(left) & set(right))
    test = stats.ttest_rel([right[seed] for seed in both], [left[seed] for seed in both])
    assert (link.task, link.left, link.claim, link.right, link.n) == ("recall", "rotary", "<", "mamba", 7)
    np.testing.assert_allclose([link.low, link.high], test.confidence_interval(0.95), rtol=1e-9)  # pyright: ignore
    assert link.difference == pytest.approx((link.low + link.high) / 2)
    assert (link.verdict == "holds") == (test.pvalue < 0.05 and link.difference > 0)  # pyright: ignore


def test_scores_are_over_the_lengths_asked_and_by_default_those_beyond_training():
    results = study({"rotary": [0.5, 0.6, 0.5, 0.6, 0.5], "mamba": [0.8] * 5})
    assert results.links("rotary<mamba").lengths == (64, 128)
    assert results.links("rotary<mamba").links[0].difference == pytest.approx(0.8 - 0.54)
    tie = results.links("rotary<mamba", lengths=[32]).links[0]
    assert (tie.difference, tie.low, tie.high, tie.verdict) == (0, 0, 0, "tie")
    for lengths in ([], [64, 64], [65]):
        with pytest.raises(
            ConfigError, match=r"`lengths` must be different lengths that were tested.* Use some of 32, 64"
        ):
            results.links(lengths=lengths)
    unknown = study({"rotary": [0.5] * 5}, train_length=None)
    with pytest.raises(ConfigError, match="`lengths` must be given where no training length is known"):
        unknown.links()
    [link] = study({"rotary": [0.5] * 5, "mamba": [0.8] * 5}, train_length=128).links()
    assert (link.verdict, link.reason) == ("undecided", "nothing tested beyond the training length")


@pytest.mark.parametrize(
    ("chain", "mamba", "hybrid", "verdict", "reason"),
    [
        ("mamba < MA", [0.5, 0.6, 0.5, 0.6, 0.5], [0.9] * 5, "holds", "MA ahead"),
        ("MA < mamba", [0.5, 0.6, 0.5, 0.6, 0.5], [0.9] * 5, "reversed", "MA ahead"),
        ("MA ≈ mamba", [0.5, 0.6, 0.5, 0.6, 0.5], [0.9] * 5, "reversed", "MA ahead"),
        ("mamba < MA", [0.9] * 5, [0.9] * 5, "tie", "within ±0.02"),
        ("mamba ~ MA", [0.9] * 5, [0.9] * 5, "holds", "within ±0.02"),
        ("mamba < MA", [0.1, 0.9, 0.1, 0.9, 0.5], [0.5] * 5, "undecided", "interval too wide"),
        ("mamba < MA", [0.5] * 4, [0.9] * 5, "undecided", "paired seeds: 4, needed: 5"),
        ("mamba < MA", {0: 0.5}, [0.9] * 5, "undecided", "paired seeds: 1, needed: 5"),
        ("mamba < MA", {7: 0.5}, [0.9] * 5, "undecided", "paired seeds: 0, needed: 5"),
    ],
)
def test_verdicts_and_reasons(chain, mamba, hybrid, verdict, reason):
    [link] = study({"mamba": mamba, "MA": hybrid}).links(chain)
    assert (link.verdict, link.reason) == (verdict, reason)


def test_all_seeds_at_one_work():
    [link] = study({"mamba": [0.99] * 5, "MA": [0.99] * 5}).links("mamba < MA", lengths=[32])
    assert (link.low, link.high, link.verdict) == (0.0, 0.0, "tie")


def test_an_unfinished_cell_is_undecided_and_ranks_nowhere():
    scores = {"rotary": [0.1] * 5, "mamba": [0.9] * 5, "hybrid_a": [0.9] * 5}
    results = study(scores, mamba={"finished": False})
    for link in results.links():
        assert (link.n, link.verdict, link.reason) == (0, "undecided", "mamba unfinished")
        assert link.to_dict()["difference"] is link.to_dict()["low"] is None
    both = study(scores, mamba={"finished": False}, rotary={"finished": False, "accuracy": {}})
    assert both.links("rotary < mamba").links[0].reason == "rotary and mamba unfinished"
    settings = {**results.settings, "archs": ["rotary", "mamba", "hybrid_a", "nope", "learned"]}
    never = Results(results.rows, settings).links("nope < learned").links[0]
    assert never.reason == "nope and learned unfinished"


def test_the_default_chain_skips_what_is_not_there():
    results = study({"learned": [0.2] * 5, "mamba": [0.8] * 5, "hybrid_a": [0.9] * 5})
    assert [(link.left, link.right) for link in results.links()] == [("mamba", "hybrid_a")]
    none = study({"learned": [0.2] * 5, "MMA": [0.8] * 5}).links()
    assert len(none) == 0
    assert "No claim is about two architectures of this study." in str(none)


def test_links_print_and_are_json():
    first = study({"rotary": [0.5, 0.6, 0.5, 0.6, 0.5], "mamba": [0.8] * 5, "hybrid_a:log_scaling=test": [0.8] * 5})
    second = study({"mamba": [0.9, 0.1] * 3}, task="delay", mamba={"finished": False})
    results = Results.from_rows([*first.rows, *second.rows], {"train_length": 32, "lengths": [32, 64, 128]})
    links = results.links("rotary < mamba ≈ hybrid_a:log_scaling=test")
    assert str(links) == "\n".join(
        (
            "Claimed links: mean accuracy at 64, 128",
            "recall",
            "  rotary < mamba             +.260  +.192 to +.328  holds: mamba ahead",
            "  mamba ≈                    +.000  +.000 to +.000  holds: within ±0.02",
            "  hybrid_a:log_scaling=test",
            "delay",
            "  rotary < mamba                                    undecided: rotary and mamba",
            "                                                    unfinished",
            "  mamba ≈                                           undecided: mamba and",
            "  hybrid_a:log_scaling=test                         hybrid_a:log_scaling=test",
            "                                                    unfinished",
            "right − left over paired seeds, with its 95 % interval by Student's t",
        )
    )
    assert json.loads(json.dumps(links.to_dict(), allow_nan=False)) == links.to_dict()
    assert links.to_dict()["links"][0] == links.links[0].to_dict()
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system="standard")
    console.print(links)
    assert "\x1b[32mholds\x1b[0m" in console.file.getvalue()  # pyright: ignore


@pytest.mark.parametrize("width", [48, 50, 60, 80, 120])
def test_links_fit_a_narrow_terminal(width):
    results = study({"rotary": [0.5] * 3, "mamba": [0.8] * 3, "hybrid_a:log_scaling=test": [0.8] * 3})
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(results.links("rotary < mamba ≈ hybrid_a:log_scaling=test"))
    lines = console.file.getvalue().splitlines()  # pyright: ignore
    assert max(map(len, lines)) <= width
    assert sum("undecided:" in line for line in lines) == 2
    assert sum("+.300  +.300 to +.300" in line for line in lines) == 1
