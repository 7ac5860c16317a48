"""How a tabular model is trained."""

from dataclasses import dataclass

from mambattn.configs._base import Config, check_choice, check_number

__all__ = ["TrainerConfig"]


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainerConfig(Config):
    """Settings of the training loop.

    Parameters
    ----------
    lr : float, default 3e-4
        Peak learning rate.
    batch_size : int, default 128
        Rows a step.
    max_epochs : int, default 100
        Passes over the training rows at most.
    patience : int, default 15
        Epochs without a better validation loss before training stops.
    val_size : float, default 0.2
        Share of the rows held out to choose the best epoch (stratified for classes). Not used where `X_val` is given.
    weight_decay : float, default 1e-5
        Decay of the weight matrices; norms, biases, embeddings, ``A_log`` and ``D`` have none. Decoupled with "adamw",
        else a penalty on the loss.
    optimizer : {"adamw", "adam", "sgd"}, default "adamw"
        The optimiser; "sgd" has a Nesterov momentum of 0.9.
    lr_schedule : {"cosine", "plateau", "constant"}, default "cosine"
        Shape of the learning rate after the warm-up. "plateau" halves it after `patience` // 3 epochs without a better
        validation loss. Under `max_seconds` warm-up and cosine follow the time where that runs out first.
    warmup : float, default 0.05
        Share of the steps over which the rate rises linearly from 0.
    grad_clip : float or None, default 1.0
        Largest global norm of the gradient.
    device : str, default "auto"
        ``"auto"`` is CUDA where there is one, else the CPU; or any torch device.
    precision : {"auto", "float32", "bfloat16"}, default "auto"
        ``"auto"`` is mixed bfloat16 on a GPU that has it, float32 elsewhere.
    max_seconds : float or None, default None
        Wall-clock limit of one fit, its preprocessing included; at least one step and one validation are made.
    verbose : int or bool, default 1
        0 or False: no progress bar.

    Examples
    --------
    >>> TrainerConfig(lr=1e-3).replace(max_epochs=5).max_epochs
    5
    """

    lr: float = 3e-4
    batch_size: int = 128
    max_epochs: int = 100
    patience: int = 15
    val_size: float = 0.2
    weight_decay: float = 1e-5
    optimizer: str = "adamw"
    lr_schedule: str = "cosine"
    warmup: float = 0.05
    grad_clip: float | None = 1.0
    device: str = "auto"
    precision: str = "auto"
    max_seconds: float | None = None
    verbose: int = 1

    def __post_init__(self) -> None:
        """Check every field."""
        self._to_builtin()
        check_number(self, "lr", low=0, open_low=True)
        check_number(self, "batch_size", low=1, integer=True)
        check_number(self, "max_epochs", low=1, integer=True)
        check_number(self, "patience", low=1, integer=True)
        check_number(self, "val_size", low=0, high=1, open_low=True, open_high=True)
        check_number(self, "weight_decay", low=0)
        check_choice(self, "optimizer", ("adamw", "adam", "sgd"))
        check_choice(self, "lr_schedule", ("cosine", "plateau", "constant"))
        check_number(self, "warmup", low=0, high=1, open_high=True)
        if self.grad_clip is not None:
            check_number(self, "grad_clip", low=0, open_low=True)
        check_choice(self, "precision", ("auto", "float32", "bfloat16"))
        if self.max_seconds is not None:
            check_number(self, "max_seconds", low=0, open_low=True)
        object.__setattr__(self, "verbose", int(self.verbose) if isinstance(self.verbose, bool) else self.verbose)
        check_number(self, "verbose", low=0, integer=True)
