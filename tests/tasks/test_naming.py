"""Names make tasks, tasks have one name, and what cannot be is refused with the mend."""

import pytest

from mambattn._errors import ConfigError
from mambattn.tasks import TASKS, AssociativeRecall, MultiQueryRecall, SelectiveCopy, parse_task


def test_the_named_tasks():
    assert {name: task.to_dict() for name, task in TASKS.items()} == {
        "induction": {"vocab": 16, "markers": 1, "queries": 1, "tau": 1},
        "recall": {"vocab": 32, "markers": 16, "queries": 4, "tau": 1},
        "delay": {"vocab": 16, "markers": 1, "queries": 1, "tau": 5},
        "recall_delay": {"vocab": 32, "markers": 16, "queries": 4, "tau": 5},
        "mqar": {"vocab": 8192, "kv_pairs": 4, "power_a": 0.01},
        "selective_copy": {"vocab": 16, "n_copied": 8},
    }
    assert all(parse_task(name) == task and task.name == name for name, task in TASKS.items())
    assert max(task.min_length for task in TASKS.values()) <= 32  # the usual length of training


@pytest.mark.parametrize(
    ("text", "name", "task"),
    [
        ("recall:vocab=64:tau=3", "recall:tau=3:vocab=64", AssociativeRecall(vocab=64, markers=16, queries=4, tau=3)),
        ("recall:tau=5", "recall_delay", TASKS["recall_delay"]),
        ("induction:tau=4", "induction:tau=4", AssociativeRecall(tau=4)),
        ("delay:tau=5:vocab=20", "delay:vocab=20", AssociativeRecall(vocab=20, tau=5)),
        ("mqar:power_a=1", "mqar:power_a=1.0", MultiQueryRecall(power_a=1)),
        ("mqar:power_a=.01", "mqar", MultiQueryRecall()),
        ("selective_copy:n_copied=16", "selective_copy:n_copied=16", SelectiveCopy(n_copied=16)),
    ],
)
def test_a_text_and_its_canonical_name(text, name, task):
    assert parse_task(text) == task
    assert task.name == name
    assert parse_task(name) == task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recal", "There is no task 'recal'. Did you mean 'recall'?"),
        ("", "There is no task ''. There are induction, recall, delay, recall_delay, mqar, selective_copy."),
        ("recall:tua=3", "The task recall has no option 'tua'. Did you mean 'tau'?"),
        ("mqar:tau=3", "The task mqar has no option 'tau'. There are vocab, kv_pairs, power_a."),
        ("recall:", "The task recall has no option ''. There are vocab, markers, queries, tau."),
        ("recall:tau", "`tau` must be an integer, however the task is 'recall:tau'. Use recall:tau=1."),
        ("delay:tau=1.5", "`tau` must be an integer, however the task is 'delay:tau=1.5'. Use delay:tau=5."),
        ("mqar:power_a=x", "`power_a` must be a number, however the task is 'mqar:power_a=x'. Use mqar:power_a=0.01."),
        ("recall:tau=1:tau=2", "`tau` must be given once, however the task is 'recall:tau=1:tau=2'. Use one of them."),
        ("recall:tau=0", "`tau` must be an integer in [1, inf), however tau=0."),
        ("recall:markers=31", "`markers` must be an integer in [1, 30], however markers=31."),
        (
            "induction:queries=2",
            "`queries` must be at most `markers`, however queries=2, markers=1. Use queries=1, or markers=2 or more.",
        ),
        ("mqar:power_a=0", "`power_a` must be a number in (0, 1], however power_a=0.0."),
        ("mqar:power_a=nan", "`power_a` must be a number in (0, 1], however power_a=nan."),
        (
            "mqar:vocab=9:kv_pairs=5",
            "`kv_pairs` must be at most half of `vocab`, however kv_pairs=5, vocab=9. Use kv_pairs=4, or vocab=10 or more.",
        ),
        ("selective_copy:vocab=3", "`vocab` must be an integer in [4, 1048576], however vocab=3."),
        ("selective_copy:n_copied=0", "`n_copied` must be an integer in [1, inf), however n_copied=0."),
        (None, "`text` must be the name of a task, however text=None. Use text='recall:tau=3'."),
    ],
)
def test_what_cannot_be_is_refused(text, message):
    with pytest.raises(ConfigError) as refused:
        parse_task(text)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "`n` must be at least 1, however n=0. Use n=1 or more."),
        ({"n": 2.0}, "`n` must be an integer, however n=2.0. Use n=1."),
        ({"n": True}, "`n` must be an integer, however n=True. Use n=1."),
        (
            {"seq_len": 8},
            "`seq_len` must be at least 9 for the task recall, however seq_len=8. "
            "Use seq_len=9 or more, or another setting of the task.",
        ),
        ({"seed": None}, "`seed` must be an integer, however seed=None. Use seed=0."),
        ({"seed": (1, "a")}, "`seed` must be an integer, however seed='a'. Use seed=0."),
        (
            {"split": "testing"},
            "`split` must be one of 'train', 'validation', 'test', however split='testing'. Did you mean 'test'?",
        ),
        (
            {"device": "gpu"},
            "`device` must be a device that this machine has, however device='gpu'. Use device='cpu'.",
        ),
    ],
)
def test_a_draw_refuses(changes, message):
    with pytest.raises(ConfigError) as refused:
        TASKS["recall"].draw(**{"n": 1, "seq_len": 32, "seed": 0, **changes})
    assert str(refused.value) == message


def test_a_split_without_sequences_is_refused():
    task = SelectiveCopy(vocab=4, n_copied=1)  # of two tokens there are two sequences
    with pytest.raises(ConfigError) as refused:
        task.draw(1, 2, seed=0, split="validation")
    assert str(refused.value) == (
        "`split` must have sequences, however split='validation' has none among 16384 of the task "
        "selective_copy:n_copied=1:vocab=4 of seq_len=2: there are too few different ones. Use a larger seq_len or vocab."
    )
