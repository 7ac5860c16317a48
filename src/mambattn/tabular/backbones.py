"""From the tokens of a row to one vector: over the tokens, or over all of them laid side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambattn.configs import FTTransformerConfig, MambAttentionConfig, MambularConfig
from mambattn.nn import Linear, make_norm, make_pooling
from mambattn.stack import Stack

__all__ = ["MLPBackbone", "ResNetBackbone", "TokenBackbone", "TokenModelConfig"]

TokenModelConfig = MambAttentionConfig | MambularConfig | FTTransformerConfig
"""Settings of the models that mix tokens."""


class TokenBackbone(nn.Module):
    """Mix the tokens: shuffle, class token, stack, pooling, final norm.

    The shuffle is a permutation drawn when the backbone is made, and a buffer, so that it is saved with the weights.
    The class token is put behind the shuffled tokens: there a causal mixer has seen all others.

    Parameters
    ----------
    config : MambAttentionConfig, MambularConfig or FTTransformerConfig
        Settings.
    n_tokens : int
        Tokens a row, the class token not counted.

    Examples
    --------
    >>> config = FTTransformerConfig(d_model=16, n_layers=1)
    >>> TokenBackbone(config, n_tokens=5)(torch.zeros(2, 5, 16)).shape
    torch.Size([2, 16])
    """

    permutation: Tensor | None
    cls_token: Tensor | None

    def __init__(self, config: TokenModelConfig, n_tokens: int) -> None:
        super().__init__()
        d_model = config.d_model
        self.d_out = d_model
        self.register_buffer("permutation", torch.randperm(n_tokens) if config.shuffle_embeddings else None)
        cls_token = nn.Parameter((2 * torch.rand(d_model) - 1) / d_model**0.5) if config.use_cls else None
        self.register_parameter("cls_token", cls_token)
        self.stack = Stack(
            d_model,
            config.layer_schedule,
            settings=config.layer_settings(),
            norm=config.norm,
            norm_position=config.norm_position,
            dropout=config.dropout,
        )
        self.pooling = make_pooling(config.pooling_method, d_model)
        self.norm = make_norm(config.norm, d_model)

    def arrange(self, tokens: Tensor) -> Tensor:
        """Shuffle the tokens and append the class token, as far as the settings ask for it.

        Parameters
        ----------
        tokens : Tensor of shape (rows, n_tokens, d_model)
            Tokens in the order of the table.

        Returns
        -------
        Tensor of shape (rows, n_tokens, d_model) or (rows, n_tokens + 1, d_model)
            What the stack reads.
        """
        if self.permutation is not None:
            tokens = tokens.index_select(1, self.permutation)
        if self.cls_token is not None:
            cls_token = self.cls_token.to(tokens.dtype).expand(len(tokens), 1, -1)
            tokens = torch.cat((tokens, cls_token), dim=1)
        return tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """Map the tokens of each row to one vector.

        Parameters
        ----------
        tokens : Tensor of shape (rows, n_tokens, d_model)
            Tokens in the order of the table.

        Returns
        -------
        Tensor of shape (rows, d_model)
            A vector a row.
        """
        return self.norm(self.pooling(self.stack(self.arrange(tokens))))


class ResNetBackbone(nn.Module):
    """The tabular ResNet (arXiv 2106.11959, section 3.2) on the tokens laid side by side.

    ``x_0 = W x``; a block is ``x + Drop(W_2 Drop(ReLU(W_1 Norm(x))))``; the result is ``ReLU(Norm(x_L))``. The norm is
    not over the rows of a batch, as published, but over the width: a row's output does not depend on other rows.

    Parameters
    ----------
    d_in : int
        Width of all tokens of a row together.
    d_hidden : int
        Width of the residual stream and of the blocks.
    n_layers : int
        Blocks.
    norm : {"LayerNorm", "RMSNorm"}, default "LayerNorm"
        The norm.
    dropout : float, default 0.0
        Dropout on the output of every linear layer of a block.

    Examples
    --------
    >>> ResNetBackbone(5 * 16, 32, 2)(torch.zeros(3, 5, 16)).shape
    torch.Size([3, 32])
    """

    def __init__(
        self, d_in: int, d_hidden: int, n_layers: int, *, norm: str = "LayerNorm", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.d_out = d_hidden
        self.in_proj = Linear(d_in, d_hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                make_norm(norm, d_hidden),
                Linear(d_hidden, d_hidden),
                nn.ReLU(),
                nn.Dropout(dropout),
                Linear(d_hidden, d_hidden),
                nn.Dropout(dropout),
            )
            for _ in range(n_layers)
        )
        self.norm = make_norm(norm, d_hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map the tokens of each row to one vector.

        Parameters
        ----------
        tokens : Tensor of shape (rows, n_tokens, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (rows, d_hidden)
            A vector a row.
        """
        x = self.in_proj(tokens.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return torch.relu(self.norm(x))


class MLPBackbone(nn.Module):
    """An MLP on the tokens laid side by side; a layer is linear map, norm, ReLU, dropout.

    Parameters
    ----------
    d_in : int
        Width of all tokens of a row together.
    layer_sizes : sequence of int
        Widths of the layers.
    norm : {"LayerNorm", "RMSNorm"}, default "LayerNorm"
        The norm.
    dropout : float, default 0.0
        Dropout on the output of every layer.

    Examples
    --------
    >>> MLPBackbone(5 * 16, (32, 8))(torch.zeros(3, 5, 16)).shape
    torch.Size([3, 8])
    """

    def __init__(self, d_in: int, layer_sizes: Sequence[int], *, norm: str = "LayerNorm", dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in layer_sizes:
            layers += [Linear(d_in, size), make_norm(norm, size), nn.ReLU(), nn.Dropout(dropout)]
            d_in = size
        self.d_out = d_in
        self.layers = nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map the tokens of each row to one vector.

        Parameters
        ----------
        tokens : Tensor of shape (rows, n_tokens, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (rows, layer_sizes[-1])
            A vector a row.
        """
        return self.layers(tokens.flatten(1))
