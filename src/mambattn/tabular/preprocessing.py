"""From a table to tensors: columns by name, numbers scaled, categories as indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from mambattn._errors import ConfigError, DataError
from mambattn.configs import PreprocessingConfig
from mambattn.tabular.batch import TableBatch
from mambattn.tabular.frame import as_frame, category_codes, column_kind, number_values
from mambattn.tabular.piecewise import bin_edges
from mambattn.tabular.scaling import NumberScaler, check_saved_array
from mambattn.tabular.schema import MISSING, UNSEEN, Column, TableSchema

__all__ = ["TablePreprocessor"]


class TablePreprocessor:
    """Turn tables into `TableBatch`, as learned from one table.

    Number columns are scaled as `config` says; a column of which all numbers were missing stays missing throughout.
    Category columns (text, ``category``, bool, mixed, and those `config` names) become indices: 0 missing, 1 not seen
    when fitting, then the categories in the order of their text.

    Parameters
    ----------
    config : PreprocessingConfig or None, default None
        What to do; None is the defaults.
    random_state : int, default 0
        Seed of the sample from which quantiles are taken on very large tables, and of the trees that find bins.
    embedding_bins : int or None, default None
        Where the tokenizer encodes numbers piecewise linearly itself (``embedding_type="ple"``): its bins a column.
        Their edges are found on the scaled numbers, by trees on the target, and stand in `embedding_edges`.

    Attributes
    ----------
    schema : TableSchema
        The columns of the table it was fitted on.
    embedding_edges : numpy.ndarray or None
        Edges of shape (n_numeric, embedding_bins + 1), NaN behind the last one of a column; None without
        `embedding_bins`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"age": [20.0, 40.0, None], "sex": ["f", "m", None]})
    >>> preprocessor = TablePreprocessor(PreprocessingConfig(numerical_preprocessing="minmax")).fit(table)
    >>> batch = preprocessor.transform(pd.DataFrame({"sex": ["m", "x"], "age": [30.0, None]}))
    >>> batch.numbers.tolist(), batch.missing.tolist(), batch.categories.tolist()
    ([[0.5], [0.0]], [[False], [True]], [[3], [1]])
    """

    schema: TableSchema
    embedding_edges: np.ndarray | None

    def __init__(
        self,
        config: PreprocessingConfig | None = None,
        random_state: int = 0,
        *,
        embedding_bins: int | None = None,
    ) -> None:
        self.config = PreprocessingConfig() if config is None else config
        self.random_state = int(random_state)
        self.embedding_bins = embedding_bins
        self._scaler = NumberScaler(self.config, self.random_state)

    @property
    def width(self) -> int | None:
        """Length of the vector that a number becomes ("splines", "ple"); None where it stays a number."""
        return self._scaler.width

    def fit(self, X: Any, y: Any = None, *, task: str = "classification", rows: np.ndarray | None = None) -> Self:
        """Learn the columns, the scales and the categories.

        Parameters
        ----------
        X : array-like or frame
            A table, see `as_frame`.
        y : array-like of shape (rows,) or None, default None
            Target, for bins found by trees.
        task : {"classification", "regression"}, default "classification"
            What the target is.
        rows : numpy.ndarray or None, default None
            Positions of the rows from which scales, bins and categories are learned, the others being held out; None
            is all. Whether a column holds numbers or categories is read off all rows.

        Returns
        -------
        TablePreprocessor
            Itself.

        Raises
        ------
        DataError
            If the table cannot be used; the message names the column.
        ConfigError
            If `config` names a column that is not there, or bins need a target that is not given.
        """
        frame = as_frame(X)
        rows = np.arange(len(frame)) if rows is None else rows
        target = None if y is None else np.asarray(y)[rows]
        self.schema = _infer_schema(frame, self.config.categorical_columns, rows)
        numbers = _numbers([frame.iloc[:, i] for i in range(frame.shape[1])], self.schema)[rows]
        self._scaler = NumberScaler(self.config, self.random_state).fit(numbers, target, task)
        self.embedding_edges = None
        if self.embedding_bins is not None:
            scaled = np.where(np.isnan(numbers), np.nan, self._scaler.transform(numbers).astype(np.float64))
            self.embedding_edges = bin_edges(
                scaled, target, n_bins=self.embedding_bins, bins="tree", task=task, random_state=self.random_state
            )
        return self

    def transform(self, X: Any) -> TableBatch:
        """Turn a table into tensors.

        Parameters
        ----------
        X : array-like or frame
            A table with the columns of the fitted one: by name, in any order; by position where one of the two has no
            names.

        Returns
        -------
        TableBatch
            Its rows, on the CPU.

        Raises
        ------
        DataError
            If columns are missing or new, or one that held numbers holds text; the message names them.
        """
        columns = _match_columns(as_frame(X), self.schema)
        numbers = _numbers(columns, self.schema)
        missing = np.isnan(numbers) | self._scaler.empty
        known = [pair for pair in zip(columns, self.schema.columns, strict=True) if pair[1].kind == "category"]
        indices = np.empty((len(numbers), len(known)), dtype=np.int64)
        for i, (series, column) in enumerate(known):
            column_kind(series, column.name)  # refuses dates and nested values, which would count as unseen
            indices[:, i] = _category_indices(series, column.categories)
        return TableBatch(
            torch.from_numpy(self._scaler.transform(numbers)), torch.from_numpy(missing), torch.from_numpy(indices)
        )

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return all that was learned.

        Returns
        -------
        values : dict
            JSON-ready values: settings and schema.
        arrays : dict of str to numpy.ndarray
            Numeric arrays by name.
        """
        values = {
            "config": self.config.to_dict(),
            "random_state": self.random_state,
            "embedding_bins": self.embedding_bins,
            "schema": self.schema.to_dict(),
        }
        arrays = self._scaler.arrays()
        if self.embedding_edges is not None:
            arrays["embedding_edges"] = self.embedding_edges
        return values, arrays

    @classmethod
    def from_state(cls, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make a fitted preprocessor from what `state` gave; it transforms identically to the bit.

        Parameters
        ----------
        values : mapping
            The JSON-ready values.
        arrays : mapping of str to numpy.ndarray
            The arrays.

        Returns
        -------
        TablePreprocessor
            The preprocessor.

        Raises
        ------
        DataError
            If a value or an array is missing, unknown or of the wrong shape.
        ConfigError
            If the saved settings cannot hold.
        """
        expected = {"config", "random_state", "embedding_bins", "schema"}
        if set(values) != expected:
            raise DataError(
                f"A saved preprocessing must hold {', '.join(sorted(expected))}, "
                f"however it holds {', '.join(sorted(map(str, values)))}."
            )
        seed, bins = values["random_state"], values["embedding_bins"]
        if not isinstance(values["config"], Mapping) or type(seed) is not int or type(bins) not in (int, type(None)):
            raise DataError(
                "A saved preprocessing must hold its settings, an integer random_state and an integer embedding_bins "
                f"or null, however random_state={seed!r}, embedding_bins={bins!r}."
            )
        preprocessor = cls(PreprocessingConfig.from_dict(values["config"]), seed, embedding_bins=bins)
        preprocessor.schema = TableSchema.from_dict(values["schema"])
        n_numeric = preprocessor.schema.n_numeric
        scaling = {name: array for name, array in arrays.items() if name != "embedding_edges"}
        preprocessor.embedding_edges = None
        if preprocessor.embedding_bins is not None:
            check_saved_array(arrays, "embedding_edges", (n_numeric, preprocessor.embedding_bins + 1))
            preprocessor.embedding_edges = arrays["embedding_edges"]
        elif "embedding_edges" in arrays:
            raise DataError("The saved preprocessing has 'embedding_edges' but no 'embedding_bins'.")
        preprocessor._scaler.load(scaling, n_numeric)
        return preprocessor


def _numbers(columns: Sequence[pd.Series], schema: TableSchema) -> np.ndarray:
    """Give the number columns, as float64 (rows, n_numeric), of columns in the order of the schema."""
    pairs = [pair for pair in zip(columns, schema.columns, strict=True) if pair[1].kind == "number"]
    out = np.empty((len(columns[0]), len(pairs)))
    for i, (series, column) in enumerate(pairs):
        out[:, i] = number_values(series, column.name)
    return out


def _infer_schema(frame: pd.DataFrame, categorical_columns: Sequence[str | int], rows: np.ndarray) -> TableSchema:
    """Read the schema off a table."""
    names = [str(name) for name in frame.columns]
    forced = {str(name) for name in categorical_columns}
    if unknown := sorted(forced - set(names)):
        raise ConfigError(
            f"`categorical_columns` names {unknown[0]!r}, which is no column of the table. "
            f"Its columns: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}."
        )
    columns = []
    for i, name in enumerate(names):
        series = frame.iloc[:, i]
        kind = column_kind(series, name)
        if kind == "number" and name not in forced:
            columns.append(Column(name, "number"))
            continue
        codes, texts = category_codes(series.iloc[rows])
        seen = {texts[code] for code in np.unique(codes[codes >= 0])}
        columns.append(Column(name, "category", tuple(sorted(seen))))
    return TableSchema(tuple(columns), named=not _is_numbered(frame))


def _is_numbered(frame: pd.DataFrame) -> bool:
    """Say whether the columns are called 0, 1, …, which is no name but a position."""
    return list(frame.columns) == list(range(frame.shape[1]))


def _match_columns(frame: pd.DataFrame, schema: TableSchema) -> list[pd.Series]:
    """Give the columns of the schema in its order, or say which are missing or new."""
    names = [str(name) for name in frame.columns]
    if _is_numbered(frame) or not (schema.named or set(names) == set(schema.names)):
        if frame.shape[1] != schema.n_columns:
            raise DataError(
                f"X has {frame.shape[1]} features, but TablePreprocessor is expecting {schema.n_columns} features "
                "as input."
            )
        return [frame.iloc[:, i] for i in range(schema.n_columns)]
    new = sorted(set(names) - set(schema.names))
    gone = sorted(set(schema.names) - set(names))
    if new or gone:
        lines = ["The feature names should match those that were passed during fit."]
        for title, found in (
            ("Feature names unseen at fit time:", new),
            ("Feature names seen at fit time, yet now missing:", gone),
        ):
            if found:
                lines += [title, *(f"- {name}" for name in found[:5]), *(["- ..."] if len(found) > 5 else [])]
        raise DataError("\n".join(lines) + "\n")
    return [frame.iloc[:, names.index(name)] for name in schema.names]


def _category_indices(series: pd.Series, categories: Sequence[str]) -> np.ndarray:
    """Give the index of each cell of a category column."""
    codes, texts = category_codes(series)
    known = pd.Index(categories, dtype=object).get_indexer(pd.Index(texts, dtype=object))
    indices = np.where(known < 0, UNSEEN, known + UNSEEN + 1)
    return np.where(codes < 0, MISSING, np.append(indices, MISSING)[codes])
