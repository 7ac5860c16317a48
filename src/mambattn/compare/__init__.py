"""Which mixer suits this table: Mamba, attention, or both?

`run` trains every model on the same folds under an equal budget and returns a `Comparison`: a leaderboard with paired
intervals, and a verdict that says "undecided" where the intervals do.
"""

from mambattn.compare._task import decide_task
from mambattn.compare.bundled import BUNDLED, load_bundled
from mambattn.compare.experiment import run
from mambattn.compare.metrics import METRICS, Metric
from mambattn.compare.results import Comparison, FoldResult, ModelResult

__all__ = [
    "BUNDLED",
    "METRICS",
    "Comparison",
    "FoldResult",
    "Metric",
    "ModelResult",
    "decide_task",
    "load_bundled",
    "run",
]
