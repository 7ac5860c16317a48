"""The network of a study: an embedding, a stack, and a read-out at the positions asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambattn.nn import Linear, make_norm
from mambattn.recall.architectures import Architecture
from mambattn.stack import Stack

__all__ = ["RecallNetwork"]

_NORM = "LayerNorm"


class RecallNetwork(nn.Module):
    """A causal model of token sequences.

    ``x = E[tokens] (+ P[positions])``, ``h = stack(x)``, ``logits = W h + b`` at the queries; with pre-norm a final
    norm stands before W. All of E and P are drawn from N(0, 1).

    Parameters
    ----------
    architecture : Architecture
        Schedule, positions and the options of attention.
    vocab : int
        Number of tokens.
    max_length : int
        Rows of the learned table of positions, where there is one.
    train_length : int
        Tokens of a training sequence, for log-length scaling.
    d_model : int
        Width of a token.
    n_heads : int
        Heads of attention.
    d_state : int
        States of Mamba.
    norm_position : {"pre", "post"}
        Whether a layer's norm stands before its mixer or after the residual sum.
    mlp : bool
        Whether a gated MLP follows every mixer.

    Examples
    --------
    >>> from mambattn.recall import parse_architecture
    >>> network = RecallNetwork(parse_architecture("MA"), vocab=16, max_length=32, train_length=32, d_model=8,
    ...     n_heads=1, d_state=4, norm_position="post", mlp=False)
    >>> network(torch.zeros(2, 32, dtype=torch.int64), torch.tensor([[31], [31]])).shape
    torch.Size([2, 1, 16])
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        vocab: int,
        max_length: int,
        train_length: int,
        d_model: int,
        n_heads: int,
        d_state: int,
        norm_position: str,
        mlp: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        learned = architecture.positions == "learned"
        self.positions = nn.Parameter(torch.randn(max_length, d_model)) if learned else None
        layers = architecture.layers
        self.stack = Stack(
            d_model,
            "".join(f"{letter}-" for letter in layers) if mlp else layers,
            settings=architecture.settings(n_heads=n_heads, d_state=d_state, train_length=train_length),
            norm=_NORM,
            norm_position=norm_position,
        )
        self.norm = make_norm(_NORM, d_model) if norm_position == "pre" else None
        self.head = Linear(d_model, vocab)

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        """Give the logits at the positions asked.

        Parameters
        ----------
        tokens : Tensor of shape (batch, seq_len)
            Token ids.
        queries : Tensor of shape (batch, n_queries)
            Positions.

        Returns
        -------
        Tensor of shape (batch, n_queries, vocab)
            Logits.
        """
        h = self.hidden(tokens)
        asked = h.gather(1, queries[..., None].expand(-1, -1, h.shape[-1]))
        return self.head(asked if self.norm is None else self.norm(asked))

    def hidden(self, tokens: Tensor) -> Tensor:
        """Give what the stack makes of every token.

        Parameters
        ----------
        tokens : Tensor of shape (batch, seq_len)
            Token ids.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            The stack's output.
        """
        x = self.embedding(tokens)
        return self.stack(x if self.positions is None else x + self.positions[: tokens.shape[1]])
