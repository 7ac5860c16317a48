"""One token a column: numbers by their own linear maps, categories by one gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn.tabular.batch import TableBatch
from mambattn.tabular.encodings import Periodic, PiecewiseLinear
from mambattn.tabular.schema import TableSchema

__all__ = ["CategoryTokens", "NumberTokens", "TableTokenizer"]


class NumberTokens(nn.Module):
    """Tokens of the number columns, each column with its own weights.

    The token of number x in column j is ``f(W_j e_j(x) + b_j)`` and that of a missing one ``f(m_j + b_j)``. The
    features e are x itself, a vector made by the preprocessing, or those of `encoding`; f is a ReLU after periodic
    features, else the identity. m starts at 0, so that a column that misses no number in training, but does later,
    gives its middle token.

    Parameters
    ----------
    n_numeric : int
        Columns.
    d_model : int
        Width of a token.
    width : int or None, default None
        Length of the vector that the preprocessing makes of a number; None where it stays a number.
    encoding : Periodic, PiecewiseLinear or None, default None
        Turns a number into features; goes with `width` None.

    Examples
    --------
    >>> NumberTokens(3, 8)(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        n_numeric: int,
        d_model: int,
        *,
        width: int | None = None,
        encoding: Periodic | PiecewiseLinear | None = None,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        n_features = encoding.n_features if encoding is not None else width or 1
        self.weight = nn.Parameter(_uniform(n_numeric, n_features, d_model))
        self.bias = nn.Parameter(_uniform(n_numeric, d_model))
        self.missing = nn.Parameter(torch.zeros(n_numeric, d_model))

    def forward(self, numbers: Tensor, missing: Tensor) -> Tensor:
        """Make the tokens.

        Parameters
        ----------
        numbers : Tensor of shape (rows, n_numeric) or (rows, n_numeric, width)
            Scaled numbers, 0 where missing.
        missing : Tensor of shape (rows, n_numeric)
            Whether a number is missing.

        Returns
        -------
        Tensor of shape (rows, n_numeric, d_model)
            The tokens.
        """
        numbers = numbers.to(self.weight.dtype)
        features = self.encoding(numbers) if self.encoding is not None else numbers
        if features.dim() == 2:
            values = features.unsqueeze(-1) * self.weight.squeeze(1)
        else:
            values = torch.einsum("rnf,nfd->rnd", features, self.weight)
        tokens = torch.where(missing.unsqueeze(-1), self.missing.to(values.dtype), values) + self.bias
        return F.relu(tokens) if isinstance(self.encoding, Periodic) else tokens


class CategoryTokens(nn.Module):
    """Tokens of the category columns: one table for all, found by one gather, and a bias a column.

    With ``"int"`` a category has an embedding. With ``"one-hot"`` the token is a linear map of the indicator vector of
    the category, missing and unseen included; the product with an indicator is a gather too, but the map starts as that
    of a linear layer (within ±1/√n for n indicators) and its weight decays. Missing and unseen start at 0, so that
    they give the middle token of their column unless training teaches them otherwise.

    Parameters
    ----------
    cardinalities : sequence of int
        Indices each column uses, missing (0) and unseen (1) included.
    d_model : int
        Width of a token.
    categorical_preprocessing : {"int", "one-hot"}, default "int"
        How a category becomes a token.

    Examples
    --------
    >>> CategoryTokens((4, 3), 8)(torch.tensor([[0, 2], [3, 1]])).shape
    torch.Size([2, 2, 8])
    """

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], d_model: int, *, categorical_preprocessing: str = "int") -> None:
        super().__init__()
        sizes = torch.tensor(cardinalities)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes)
        n_indices = int(sizes.sum())
        unlearned = torch.cat((self.offsets, self.offsets + 1))
        self.table: nn.Embedding | nn.Linear
        if categorical_preprocessing == "int":
            self.table = nn.Embedding.from_pretrained(
                _uniform(n_indices, d_model).index_fill_(0, unlearned, 0.0), freeze=False
            )
        else:
            bound = sizes.repeat_interleave(sizes) ** -0.5
            self.table = nn.Linear(n_indices, d_model, bias=False)
            self.table.weight = nn.Parameter(
                (bound * (2 * torch.rand(d_model, n_indices) - 1)).index_fill_(1, unlearned, 0.0)
            )
        self.bias = nn.Parameter(_uniform(len(cardinalities), d_model))

    def forward(self, categories: Tensor) -> Tensor:
        """Make the tokens.

        Parameters
        ----------
        categories : Tensor of shape (rows, n_categorical)
            Indices of the categories.

        Returns
        -------
        Tensor of shape (rows, n_categorical, d_model)
            The tokens.
        """
        table = self.table.weight.T if isinstance(self.table, nn.Linear) else self.table.weight
        return F.embedding(categories + self.offsets, table) + self.bias


class TableTokenizer(nn.Module):
    """Turn the rows of a table into tokens, one a column, in the order of the table.

    Parameters
    ----------
    schema : TableSchema
        The columns.
    d_model : int
        Width of a token.
    width : int or None, default None
        Length of the vector that the preprocessing makes of a number; None where it stays a number.
    embedding_type : {"linear", "plr", "ple"}, default "linear"
        Features of a number before its linear map: itself, periodic, or piecewise linear.
    edges : numpy.ndarray or None, default None
        Edges of the bins, for embedding_type "ple"; see `TablePreprocessor.embedding_edges`.
    n_frequencies : int, default 24
        Frequencies a column, for embedding_type "plr".
    frequency_scale : float, default 0.1
        Standard deviation of the initial frequencies, for embedding_type "plr".
    categorical_preprocessing : {"int", "one-hot"}, default "int"
        How a category becomes a token.

    Examples
    --------
    >>> from mambattn.tabular import Column, TableSchema
    >>> schema = TableSchema((Column("sex", "category", ("f", "m")), Column("age", "number")))
    >>> batch = TableBatch(torch.zeros(5, 1), torch.zeros(5, 1, dtype=torch.bool), torch.zeros(5, 1, dtype=torch.int64))
    >>> TableTokenizer(schema, d_model=8)(batch).shape
    torch.Size([5, 2, 8])
    """

    order: Tensor

    def __init__(
        self,
        schema: TableSchema,
        d_model: int,
        *,
        width: int | None = None,
        embedding_type: str = "linear",
        edges: np.ndarray | None = None,
        n_frequencies: int = 24,
        frequency_scale: float = 0.1,
        categorical_preprocessing: str = "int",
    ) -> None:
        super().__init__()
        self.n_columns = schema.n_columns
        self.d_model = d_model
        self.numbers: NumberTokens | None = None
        self.categories: CategoryTokens | None = None
        if schema.n_numeric:
            encoding: Periodic | PiecewiseLinear | None = None
            if embedding_type == "plr":
                encoding = Periodic(schema.n_numeric, n_frequencies, frequency_scale)
            elif embedding_type == "ple":
                assert edges is not None
                encoding = PiecewiseLinear(edges)
            self.numbers = NumberTokens(schema.n_numeric, d_model, width=width, encoding=encoding)
        if schema.n_categorical:
            self.categories = CategoryTokens(
                schema.cardinalities, d_model, categorical_preprocessing=categorical_preprocessing
            )
        self._is_sorted = schema.order == tuple(range(schema.n_columns))
        self.register_buffer("order", torch.tensor(schema.order))

    def forward(self, batch: TableBatch) -> Tensor:
        """Make the tokens.

        Parameters
        ----------
        batch : TableBatch
            Rows of a table.

        Returns
        -------
        Tensor of shape (rows, n_columns, d_model)
            The tokens, in the order of the table's columns.
        """
        parts = []
        if self.numbers is not None:
            parts.append(self.numbers(batch.numbers, batch.missing))
        if self.categories is not None:
            parts.append(self.categories(batch.categories))
        tokens = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return tokens if self._is_sorted else tokens.index_select(1, self.order)


def _uniform(*shape: int) -> Tensor:
    """Draw from ±1/√d_model, the last axis being d_model (arXiv 2106.11959, as published with its code)."""
    return (2 * torch.rand(*shape) - 1) / shape[-1] ** 0.5
