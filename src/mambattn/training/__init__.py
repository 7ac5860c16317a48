"""Training: the loop, optimiser groups, histories, seeding, and model files."""

from mambattn.training.checkpoint import FORMAT_VERSION, ModelFile, load_weights
from mambattn.training.device import resolve_device
from mambattn.training.evaluate import mean_loss, network_outputs
from mambattn.training.history import History
from mambattn.training.loop import train
from mambattn.training.losses import cross_entropy, squared_error, weighted_loss
from mambattn.training.optim import LearningRate, make_optimizer, parameter_groups
from mambattn.training.rows import Rows
from mambattn.training.seeding import draw_seeds, seeded
from mambattn.training.split import hold_out

__all__ = [
    "FORMAT_VERSION",
    "History",
    "LearningRate",
    "ModelFile",
    "Rows",
    "cross_entropy",
    "draw_seeds",
    "hold_out",
    "load_weights",
    "make_optimizer",
    "mean_loss",
    "network_outputs",
    "parameter_groups",
    "resolve_device",
    "seeded",
    "squared_error",
    "train",
    "weighted_loss",
]
