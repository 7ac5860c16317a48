"""One layer of a stack."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mambattn.mixers import Mixer
from mambattn.nn import make_norm
from mambattn.nn._checks import check_dropout, check_one_of

__all__ = ["Block"]


class Block(nn.Module):
    """A mixer with a norm and a residual.

    ``norm_position="pre"``: ``y = x + dropout(mixer(norm(x)))``; "post": ``y = norm(x + dropout(mixer(x)))``
    (arXiv 2002.04745, figure 1).

    Parameters
    ----------
    mixer : Mixer
        What mixes the tokens.
    norm : {"LayerNorm", "RMSNorm"}, default "LayerNorm"
        The norm.
    norm_position : {"pre", "post"}, default "pre"
        Whether it stands before the mixer or after the residual sum.
    dropout : float, default 0.0
        Dropout on the mixer's output.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range.

    Examples
    --------
    >>> import torch
    >>> from mambattn.mixers import Mamba
    >>> Block(Mamba(8))(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self, mixer: Mixer, *, norm: str = "LayerNorm", norm_position: str = "pre", dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_one_of("norm_position", norm_position, ("pre", "post"))
        check_dropout(dropout)
        self.norm = make_norm(norm, mixer.d_model)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)
        self.norm_position = norm_position

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer over whole sequences.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            Tokens.
        """
        return self._join(x, self.mixer(self._enter(x)))

    def init_state(self, batch: int, **where: Any) -> Any:
        """Make the mixer's state before the first token.

        Parameters
        ----------
        batch : int
            Number of sequences.
        **where : Any
            ``device`` and ``dtype``, as in `Mixer.init_state`.

        Returns
        -------
        NamedTuple of Tensor
            The state.
        """
        return self.mixer.init_state(batch, **where)

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one token.

        Parameters
        ----------
        x_t : Tensor of shape (batch, d_model)
            The next token of each sequence.
        state : NamedTuple of Tensor
            State of the mixer; it is not changed.

        Returns
        -------
        y_t : Tensor of shape (batch, d_model)
            What ``forward`` would give at this position.
        state : NamedTuple of Tensor
            State after this token.
        """
        mixed, state = self.mixer.step(self._enter(x_t), state)
        return self._join(x_t, mixed), state

    def _enter(self, x: Tensor) -> Tensor:
        return self.norm(x) if self.norm_position == "pre" else x

    def _join(self, x: Tensor, mixed: Tensor) -> Tensor:
        y = x + self.dropout(mixed)
        return y if self.norm_position == "pre" else self.norm(y)
