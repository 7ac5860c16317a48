"""Optimisers with groups, and the course of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from mambattn.configs import TrainerConfig

__all__ = ["LearningRate", "cosine", "make_optimizer", "parameter_groups"]

_MATRICES = (nn.Linear, nn.Conv1d)  # a Mamba layer keeps its convolution as a parameter `conv_weight`


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the parameters of a network into those that decay and those that do not.

    Only weight matrices decay: the `weight` of linear maps and convolutions. Norms, biases, embeddings and tokens,
    pooling queries, and a Mamba layer's ``A_log``, ``D`` and ``dt_bias`` do not.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    weight_decay : float
        Decay of the first group.

    Returns
    -------
    list of dict
        Two groups for a torch optimiser: keys "params", "names" and "weight_decay".

    Examples
    --------
    >>> groups = parameter_groups(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), 0.1)
    >>> [group["names"] for group in groups]
    [['0.weight'], ['0.bias', '1.weight', '1.bias']]
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "names": [], "weight_decay": weight_decay},
        {"params": [], "names": [], "weight_decay": 0.0},
    ]
    seen: set[nn.Parameter] = set()
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                decays = name.endswith("conv_weight") or (isinstance(module, _MATRICES) and name.endswith("weight"))
                group = groups[0 if decays else 1]
                group["params"].append(parameter)
                group["names"].append(name)
    return groups


def make_optimizer(network: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """Make the optimiser that a config asks for, in its fused form (one call a step, not one a parameter).

    Parameters
    ----------
    network : torch.nn.Module
        The network, on its device.
    config : TrainerConfig
        Settings; `optimizer`, `lr` and `weight_decay` act here.

    Returns
    -------
    torch.optim.Optimizer
        AdamW (arXiv 1711.05101), Adam, or SGD with Nesterov momentum 0.9.
    """
    groups = [{k: v for k, v in g.items() if k != "names"} for g in parameter_groups(network, config.weight_decay)]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
    make = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return make(groups, lr=config.lr, fused=True)


def cosine(share: float) -> float:
    """Give the factor ``(1 + cos(π share)) / 2`` of the peak rate.

    Parameters
    ----------
    share : float
        Share of the course done, in [0, 1].

    Returns
    -------
    float
        From 1 at the start to 0 at the end.

    Examples
    --------
    >>> cosine(0.0), round(cosine(0.5), 6), cosine(1.0)
    (1.0, 0.5, 0.0)
    """
    return (1 + math.cos(math.pi * share)) / 2


class LearningRate:
    """The learning rate of each step.

    With progress p in (0, 1), warm-up share w and peak rate lr, the rate is ``lr · p / w`` for p < w, and after that

    - cosine: ``lr · (1 + cos(π (p − w) / (1 − w))) / 2``,
    - constant: ``lr``,
    - plateau: ``lr · 2^(−k)`` after k times of `patience` // 3 epochs (at least 1) without a better validation loss.

    Parameters
    ----------
    config : TrainerConfig
        Settings; `lr`, `lr_schedule`, `warmup` and `patience` act here.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self.config = config
        self.scale = 1.0
        self.n_waited = 0

    def at(self, progress: float) -> float:
        """Return the rate at a progress in (0, 1) of the run.

        Parameters
        ----------
        progress : float
            Share of the steps, or of the time, that has passed.

        Returns
        -------
        float
            The learning rate.

        Examples
        --------
        >>> rate = LearningRate(TrainerConfig(lr=1.0, warmup=0.5))
        >>> [round(rate.at(p), 6) for p in (0.25, 0.5, 0.75, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
        """
        warmup = self.config.warmup
        if progress < warmup:
            return self.config.lr * self.scale * progress / warmup
        if self.config.lr_schedule == "cosine":
            share = min(1.0, (progress - warmup) / (1 - warmup))
            return self.config.lr * cosine(share)
        return self.config.lr * self.scale

    def observe(self, *, improved: bool) -> None:
        """Note whether an epoch improved the validation loss; halves the rate of a plateau.

        Parameters
        ----------
        improved : bool
            Whether the validation loss of the epoch is the best so far.
        """
        self.n_waited = 0 if improved else self.n_waited + 1
        if self.config.lr_schedule == "plateau" and self.n_waited >= max(1, self.config.patience // 3):
            self.scale /= 2
            self.n_waited = 0
