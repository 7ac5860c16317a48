"""A recall study made by a rule, whose numbers a test can compute again."""

from mambattn.recall.results import Results, Row

LENGTHS = (32, 64, 128)
ARCHS = ("nope", "mamba", "hybrid_a", "hybrid_a:log_scaling=test")
FALL = {"nope": 0.5, "mamba": 0.1, "hybrid_a": 0.0, "hybrid_a:log_scaling=test": 0.01}


def accuracy(task, arch, seed, length):
    """Fall by a step an octave and a bit by seed, and with the delay."""
    octaves = (length // 32).bit_length() - 1
    return max(0.0, 1 - FALL[arch] * octaves - 0.01 * seed * octaves * (arch != "hybrid_a") - 0.02 * ("delay" in task))


def make_study(tasks=("recall", "recall_delay"), archs=ARCHS, lengths=LENGTHS, n_seeds=5, unfinished=(), **settings):
    """Return results with a row a task, architecture and seed."""
    rows = []
    for task in tasks:
        for arch in archs:
            for seed in range(n_seeds):
                values = {length: accuracy(task, arch, seed, length) for length in lengths}
                is_finished = (task, arch) not in unfinished
                rows.append(Row(task, arch, seed, 1e-3, 4000, values.get(32, 0) >= 0.99, values, is_finished))
    chosen = {
        "tasks": list(tasks),
        "archs": list(archs),
        "seeds": list(range(n_seeds)),
        "lrs": [0.001, 0.003],
        "steps": 4000,
        "train_length": 32,
        "lengths": list(lengths),
        "preset": None,
    }
    return Results(tuple(rows), chosen | settings)
