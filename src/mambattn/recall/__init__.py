"""The recall study: which architecture goes on answering on sequences longer than those it was trained on."""

from mambattn.recall.architectures import ARCHITECTURES, Architecture, parse_architecture
from mambattn.recall.network import RecallNetwork
from mambattn.recall.results import Results
from mambattn.recall.row import Row
from mambattn.recall.running import Watcher, run
from mambattn.recall.study import PRESETS, Study

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "Architecture",
    "RecallNetwork",
    "Results",
    "Row",
    "Study",
    "Watcher",
    "parse_architecture",
    "run",
]
