"""What a recall study consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mambattn._checks import check_divides
from mambattn._errors import ConfigError
from mambattn.configs._base import Config, check_choice, check_number
from mambattn.recall._lists import check_different, check_lists
from mambattn.recall.architectures import ARCHITECTURES, parse_architecture
from mambattn.tasks import parse_task

__all__ = ["PRESETS", "Study"]

_SIX = tuple(ARCHITECTURES)

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "tasks": ("induction",),
        "archs": ("learned", "mamba", "hybrid_a"),
        "seeds": (0, 1),
        "lrs": (1.5e-3, 3e-3, 6e-3),
        "steps": 6000,
        "lengths": (32, 64, 128),
        "d_model": 16,
        "d_state": 8,
        "batch": 8,
    },
    "study": {
        "tasks": ("induction", "recall", "delay", "recall_delay"),
        "archs": (*_SIX, "hybrid_a:log_scaling=test"),
        "lrs": (1e-3, 2e-3, 4e-3),
    },
    "published": {
        "tasks": ("induction", "delay"),
        "archs": _SIX,
        "lrs": (1e-4,),
        "steps": 312_500,
        "lengths": (16, 32, 48, 64, 80, 96, 112, 128),
        "d_model": 8,
        "betas": (0.9, 0.999),
        "clip": None,
        "lr_schedule": "constant",
    },
}
"""Named settings; everything else is the default of `Study`."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Study(Config):
    """Settings of a recall study: tasks × architectures, each trained with every seed and learning rate.

    Parameters
    ----------
    tasks : tuple of str
        Tasks by name, with options after colons: see `mambattn.tasks.parse_task`.
    archs : tuple of str
        Architectures by name or schedule, with options after colons: see `parse_architecture`.
    seeds : tuple of int
        A seed draws the weights at the start and the training sequences.
    lrs : tuple of float
        Peak learning rates; the best for a task and an architecture is chosen by a draw of its own at `train_length`.
    steps : int
        Training steps.
    train_length : int
        Tokens of a training sequence, queries included.
    lengths : tuple of int
        Tokens of the test sequences; `train_length` is always one of them.
    d_model : int
        Width of a token.
    n_heads : int
        Heads of attention.
    d_state : int
        States of Mamba and Mamba-2.
    norm_position : {"post", "pre"}
        Where the norm of a layer stands.
    mlp : bool
        Whether a gated MLP follows every mixer.
    batch : int
        Sequences a step.
    betas : tuple of float
        Adam's decays.
    clip : float or None
        Largest norm of a gradient.
    lr_schedule : {"cosine", "constant"}
        Course of the learning rate.
    n_validation : int
        Sequences that choose the learning rate.
    n_test : int
        Sequences of each test length.
    n_threads : int
        Threads on which a task and an architecture are trained on a CPU. Sums depend on it in the last bits, so it
        belongs to the study and not to the machine; more cores run more of them at a time.
    device : str
        "auto" is CUDA where there is one, else the CPU; or any torch device.
    preset : str or None
        Name of the preset that the settings began with.

    Raises
    ------
    ConfigError
        If a setting is out of range, unknown, twice there or does not go with another.

    Examples
    --------
    >>> study = Study.from_preset("quick", steps=100)
    >>> study.archs, study.steps
    (('learned', 'mamba', 'hybrid_a'), 100)
    """

    tasks: tuple[str, ...] = ("induction",)
    archs: tuple[str, ...] = _SIX
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    lrs: tuple[float, ...] = (1e-3, 3e-3)
    steps: int = 4000
    train_length: int = 32
    lengths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    d_model: int = 64
    n_heads: int = 1
    d_state: int = 16
    norm_position: str = "post"
    mlp: bool = False
    batch: int = 64
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float | None = 1.0
    lr_schedule: str = "cosine"
    n_validation: int = 1024
    n_test: int = 1024
    n_threads: int = 1
    device: str = "auto"
    preset: str | None = None

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> Self:
        """Give the study of a preset.

        Parameters
        ----------
        preset : {"quick", "study", "published"}
            Which one.
        **changes : object
            Settings that override it.

        Returns
        -------
        Study
            The study.

        Raises
        ------
        ConfigError
            If there is no such preset or setting.
        """
        if preset not in PRESETS:
            raise ConfigError(f"`preset` must be one of {', '.join(map(repr, PRESETS))}, however preset={preset!r}.")
        cls.check_keys(changes)
        return cls(**{**PRESETS[preset], "preset": preset, **changes})

    def identity(self) -> dict[str, Any]:
        """Give the settings that the result of a cell depends on, besides its task and architecture.

        Returns
        -------
        dict
            JSON-ready values.
        """
        aside = ("tasks", "archs", "preset", "device")
        return {name: value for name, value in self.to_dict().items() if name not in aside}

    def __post_init__(self) -> None:
        self._to_builtin()
        check_lists(self)
        for name in ("steps", "train_length", "d_model", "n_heads", "d_state", "batch", "n_validation", "n_test"):
            check_number(self, name, low=1, integer=True)
        check_number(self, "n_threads", low=1, integer=True)
        object.__setattr__(self, "tasks", tuple(parse_task(text).name for text in self.tasks))
        object.__setattr__(self, "archs", tuple(parse_architecture(text).name for text in self.archs))
        for task in map(parse_task, self.tasks):
            for name, lengths in (("train_length", (self.train_length,)), ("lengths", self.lengths)):
                if min(lengths) < task.min_length:
                    raise ConfigError(
                        f"`{name}` must be at least {task.min_length} for the task {task.name!r}, however it is "
                        f"{min(lengths)}. Use longer sequences, or fewer queries in the task."
                    )
        object.__setattr__(self, "lengths", tuple(sorted({*self.lengths, self.train_length})))
        check_choice(self, "norm_position", ("post", "pre"))
        check_choice(self, "lr_schedule", ("cosine", "constant"))
        check_choice(self, "mlp", (True, False))
        check_choice(self, "preset", (None, *PRESETS))
        if self.clip is not None:
            check_number(self, "clip", low=0, open_low=True)
        architectures = [parse_architecture(text) for text in self.archs]
        check_different("tasks", self.tasks, self.tasks)
        check_different("archs", self.archs, [each.meaning for each in architectures])
        check_divides("d_model", self.d_model, "n_heads", self.n_heads)
        turned = [each.name for each in architectures if each.positions == "rotary"]
        if turned and self.d_model // self.n_heads % 2:
            raise ConfigError(
                f"`d_model` / `n_heads` must be even for the rotary positions of {turned[0]!r}, however "
                f"d_model={self.d_model}, n_heads={self.n_heads}. Use n_heads=1 and an even d_model."
            )
