"""What every mixer offers: three views of one map, and the checks of what goes in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.nn._checks import check_counts, check_token, check_tokens

__all__ = ["AttentionView", "Mixer", "state_tensors"]


@dataclass(frozen=True)
class AttentionView:
    """A mixer, for one input, as matrices that mix the tokens' values.

    Row i of ``matrix[b, m]`` says how much of each token's value map m puts into output token i. What follows is
    affine in the mixed values as long as the routing (gates, norm scales) is held at this input's.

    Parameters
    ----------
    matrix : Tensor of shape (batch, n_maps, seq_len, seq_len)
        Weights, rows are the tokens that read (query), columns the tokens read (source).
    values : Tensor of shape (batch, seq_len, n_maps, d_value)
        What is mixed.
    output : callable
        Maps mixed values (batch, seq_len, n_maps, d_value) to the mixer's output (batch, seq_len, d_model).

    Examples
    --------
    >>> eye = torch.eye(3).expand(1, 1, 3, 3)
    >>> view = AttentionView(eye, torch.ones(1, 3, 1, 2), lambda mixed: mixed.flatten(2))
    >>> view.reconstruct().shape
    torch.Size([1, 3, 2])
    """

    matrix: Tensor
    values: Tensor
    output: Callable[[Tensor], Tensor]

    def reconstruct(self) -> Tensor:
        """Return the mixer's output, from the matrices.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            ``output(matrix · values)``, which equals the mixer's ``forward``.
        """
        return self.output(torch.einsum("bmij,bjmv->bimv", self.matrix, self.values))


def state_tensors(state: Any) -> Iterator[Tensor]:
    """Walk through the tensors of a recurrent state.

    Parameters
    ----------
    state : Any
        A state, or a tuple of states, however deep; counters in it are passed over.

    Yields
    ------
    Tensor
        Each tensor in it.

    Examples
    --------
    >>> [t.shape[0] for t in state_tensors((torch.zeros(1), (torch.zeros(2), 7)))]
    [1, 2]
    """
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, tuple):
        for part in state:
            yield from state_tensors(part)


class Mixer(nn.Module, ABC):
    """Base of the token mixers: a map from (batch, seq_len, d_model) to the same shape, in three views that agree.

    ``forward`` takes the whole sequence; ``init_state`` and ``step`` go token by token (causal mixers only);
    ``attention_view`` gives the map as matrices over tokens.

    Parameters
    ----------
    d_model : int
        Width of a token.
    n_maps : int
        Number of matrices in the attention view.
    causal : bool
        Whether no output token depends on a later input token.
    """

    _shown: ClassVar[tuple[str, ...]] = ()
    _why_not_causal: ClassVar[str] = "each token sees later ones. Make it with causal=True"

    def __init__(self, d_model: int, *, n_maps: int, causal: bool) -> None:
        super().__init__()
        self.d_model = d_model
        self.n_maps = n_maps
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of whole sequences.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            Mixed tokens.

        Raises
        ------
        ShapeError
            If `x` has another shape.
        """
        check_tokens(x, self.d_model, "mixer")
        return self._forward(x)

    def attention_view(self, x: Tensor) -> AttentionView:
        """Give the map at `x` as matrices over tokens, without dropout; quadratic in seq_len.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        AttentionView
            Matrices, values and read-out, which reconstruct ``forward(x)`` in evaluation mode.

        Raises
        ------
        ShapeError
            If `x` has another shape.
        """
        check_tokens(x, self.d_model, "mixer")
        return self._view(x)

    def flops(self, seq_len: int, batch: int = 1) -> int:
        """Count the floating-point operations of one ``forward``.

        A multiply-add is 2. Counted are

        - the projections and the convolution, 2 for each weight and token;
        - the recurrence of Mamba, per token 7 a state (dt·A, its exp, the decay, the input and its sum, 2 for the
          read-out) and 3 a channel (dt·u, D·u and its sum);
        - that of Mamba-2, per token 5 a state and 3 a channel, since the decay is shared; the chunked computation does
          more, as matrix products;
        - attention, 4 · d_head for each head and each pair of tokens in sight (2 for q·k, 2 for the weighted sum).

        Norms, activations, gates and softmax are not.

        Parameters
        ----------
        seq_len : int
            Length of the sequence.
        batch : int, default 1
            Number of sequences.

        Returns
        -------
        int
            Number of operations.

        Raises
        ------
        ConfigError
            If `seq_len` or `batch` is no integer of at least 1.
        """
        check_counts(seq_len=seq_len, batch=batch)
        return batch * self._flops(seq_len)

    def init_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Any:
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
        NamedTuple of Tensor
            The state.

        Raises
        ------
        ConfigError
            If the mixer is not causal.
        """
        self._check_causal("init_state")
        like = next(self.parameters())
        return self._init_state(batch, like.device if device is None else torch.device(device), dtype or like.dtype)

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one token.

        Parameters
        ----------
        x_t : Tensor of shape (batch, d_model)
            The next token of each sequence.
        state : NamedTuple of Tensor
            State after the tokens before, from `init_state` or `step`; it is not changed.

        Returns
        -------
        y_t : Tensor of shape (batch, d_model)
            What ``forward`` would give at this position.
        state : NamedTuple of Tensor
            State after this token.

        Raises
        ------
        ConfigError
            If the mixer is not causal.
        ShapeError
            If `x_t` has another shape.
        """
        self._check_causal("step")
        check_token(x_t, self.d_model)
        return self._step(x_t, state)

    def state_bytes(self, seq_len: int, batch: int = 1) -> int | None:
        """Count the bytes of the recurrent state.

        Parameters
        ----------
        seq_len : int
            Tokens taken so far; only the state of global attention grows with it.
        batch : int, default 1
            Number of sequences.

        Returns
        -------
        int or None
            Bytes at the type of the parameters; None where the mixer is not causal and so has no state.

        Raises
        ------
        ConfigError
            If `seq_len` or `batch` is no integer of at least 1.
        """
        check_counts(seq_len=seq_len, batch=batch)
        if not self.causal:
            return None
        state = self.init_state(batch, device="meta")
        return sum(tensor.nbytes for tensor in state_tensors(state)) + self._grown_bytes(seq_len, batch)

    def extra_repr(self) -> str:
        """Name the settings for ``print(module)``.

        Returns
        -------
        str
            Settings as ``name=value``.
        """
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in ("d_model", *self._shown))

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _view(self, x: Tensor) -> AttentionView: ...

    @abstractmethod
    def _flops(self, seq_len: int) -> int: ...

    @abstractmethod
    def _init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> Any: ...

    @abstractmethod
    def _step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]: ...

    def _grown_bytes(self, seq_len: int, batch: int) -> int:
        """Bytes of the state that come with the tokens, beyond those of the first state."""
        return 0

    def _check_causal(self, method: str) -> None:
        if not self.causal:
            raise ConfigError(
                f"`{method}` needs a causal mixer, however in this {type(self).__name__} {self._why_not_causal}, or "
                "use forward(x) on the whole sequence."
            )
