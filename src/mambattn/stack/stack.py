"""A stack of mixers, built from a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.nn._checks import check_counts, check_token, check_tokens
from mambattn.schedule import LETTERS, layer_kinds, parse_schedule
from mambattn.stack.block import Block
from mambattn.stack.describe import LayerDescription, StackDescription
from mambattn.stack.layers import make_mixer

__all__ = ["Stack"]


class Stack(nn.Module):
    """Layers of a schedule, each with a norm and a residual, attention and MLP too.

    With pre-norm the output is the residual stream itself: what reads it puts a final norm of its own behind.

    Parameters
    ----------
    d_model : int
        Width of a token.
    schedule : str
        One letter a layer, first layer first: ``M`` Mamba, ``S`` Mamba-2, ``A`` global attention, ``L`` local
        (sliding-window) attention, ``G`` global + local attention, ``-`` MLP.
    settings : mapping of str to mapping, or None, default None
        For a letter of the schedule, the keyword arguments of its mixer.
    norm : {"LayerNorm", "RMSNorm"}, default "LayerNorm"
        Norm of every layer.
    norm_position : {"pre", "post"}, default "pre"
        Whether it stands before the mixer or after the residual sum.
    dropout : float, default 0.0
        Dropout on the output of every mixer.

    Raises
    ------
    ConfigError
        If the schedule or a setting cannot hold, or a setting would be ignored.

    Examples
    --------
    >>> stack = Stack(16, "MA" * 2, settings={"M": {"d_state": 4}, "A": {"n_heads": 2, "causal": True}})
    >>> x = torch.randn(2, 5, 16)
    >>> y = stack(x)
    >>> state = stack.init_state(batch=2)
    >>> for t in range(5):
    ...     y_t, state = stack.step(x[:, t], state)
    >>> torch.allclose(y[:, 4], y_t, atol=1e-5)
    True
    >>> stack.describe(seq_len=5).layers[1].kind
    'global attention'
    """

    def __init__(
        self,
        d_model: int,
        schedule: str,
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        norm: str = "LayerNorm",
        norm_position: str = "pre",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(d_model=d_model)
        self.d_model = d_model
        self.schedule = parse_schedule(schedule)
        settings = settings or {}
        for letter in settings:
            if letter not in self.schedule:
                raise ConfigError(
                    f"`settings` has {letter!r}, which is no layer of the schedule {schedule!r}. Leave it out, or add "
                    f"the letter. Letters of this schedule: {', '.join(dict.fromkeys(schedule))}."
                )
        self.layers = nn.ModuleList(
            Block(
                make_mixer(letter, d_model, settings.get(letter)),
                norm=norm,
                norm_position=norm_position,
                dropout=dropout,
            )
            for letter in schedule
        )

    @property
    def causal(self) -> bool:
        """Whether every layer is causal, so that the stack can go token by token."""
        return all(block.mixer.causal for block in self._blocks())

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers over whole sequences.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            Tokens; with pre-norm, before the final norm.

        Raises
        ------
        ShapeError
            If `x` has another shape.
        """
        check_tokens(x, self.d_model, "stack")
        for block in self._blocks():
            x = block(x)
        return x

    def init_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Any, ...]:
        """Make the state before the first token.

        Parameters
        ----------
        batch : int
            Number of sequences.
        device : torch.device or str or None, default None
            Where it lies; None is where the parameters are.
        dtype : torch.dtype or None, default None
            Type of the tokens that will come; None is the type of the parameters.

        Returns
        -------
        tuple
            The state of each layer.

        Raises
        ------
        ConfigError
            If a layer is not causal; the message names it.
        """
        self._check_causal("init_state")
        return tuple(block.init_state(batch, device=device, dtype=dtype) for block in self._blocks())

    def step(self, x_t: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """Take one token.

        Parameters
        ----------
        x_t : Tensor of shape (batch, d_model)
            The next token of each sequence.
        state : tuple
            State after the tokens before, from `init_state` or `step`; it is not changed.

        Returns
        -------
        y_t : Tensor of shape (batch, d_model)
            What ``forward`` would give at this position.
        state : tuple
            State after this token.

        Raises
        ------
        ConfigError
            If a layer is not causal; the message names it.
        ShapeError
            If `x_t` has another shape.
        """
        self._check_causal("step")
        check_token(x_t, self.d_model)
        new_state = []
        for block, block_state in zip(self._blocks(), state, strict=True):
            x_t, block_state = block.step(x_t, block_state)
            new_state.append(block_state)
        return x_t, tuple(new_state)

    def describe(self, seq_len: int, batch: int = 1) -> StackDescription:
        """List the layers with their parameters, operations and state at one length.

        Parameters
        ----------
        seq_len : int
            Length of the sequences.
        batch : int, default 1
            Number of sequences.

        Returns
        -------
        StackDescription
            A row a layer; printed by rich as a table. How operations are counted: `Mixer.flops`.

        Raises
        ------
        ConfigError
            If `seq_len` or `batch` is no integer of at least 1.
        """
        rows = tuple(
            LayerDescription(
                layer=position,
                letter=letter,
                kind=kind,
                n_parameters=sum(parameter.numel() for parameter in block.parameters()),
                flops=block.mixer.flops(seq_len, batch),
                state_bytes=block.mixer.state_bytes(seq_len, batch),
            )
            for position, (letter, kind, block) in enumerate(
                zip(self.schedule, layer_kinds(self.schedule), self._blocks(), strict=True), start=1
            )
        )
        return StackDescription(self.schedule, self.d_model, seq_len, batch, rows)

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.layers))

    def _check_causal(self, method: str) -> None:
        for position, (letter, block) in enumerate(zip(self.schedule, self._blocks(), strict=True), start=1):
            if not block.mixer.causal:
                mend = {letter: {"bidirectional": False} if letter == "M" else {"causal": True}}
                raise ConfigError(
                    f"`{method}` needs causal layers, however layer {position} of {self.schedule!r}, {letter} "
                    f"({LETTERS[letter]}), is not causal. Make it with settings={mend}, or use forward(x) on the "
                    "whole sequence."
                )
