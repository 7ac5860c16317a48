"""What a table looked like when a model was fitted: its columns by name, their kinds and categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from mambattn._errors import DataError

__all__ = ["MISSING", "UNSEEN", "Column", "TableSchema"]

MISSING = 0
"""Index of the token of a missing category."""

UNSEEN = 1
"""Index of the token of a category that fitting has not seen; the known ones follow."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        Its name; the position as text where the table had no names.
    kind : {"number", "category"}
        How it is treated.
    categories : tuple of str, default ()
        The categories seen when fitting, as text, sorted. Those of a number are none.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()

    @property
    def n_indices(self) -> int:
        """Indices a category column uses: missing, unseen, and one a category."""
        return 2 + len(self.categories)


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in its order.

    Parameters
    ----------
    columns : tuple of Column
        The columns.
    named : bool, default True
        Whether the table came with names; if not, its columns are matched by position.

    Examples
    --------
    >>> schema = TableSchema((Column("age", "number"), Column("sex", "category", ("female", "male"))))
    >>> schema.names, schema.n_numeric, schema.cardinalities
    (('age', 'sex'), 1, (4,))
    """

    columns: tuple[Column, ...]
    named: bool = True

    @property
    def n_columns(self) -> int:
        """Number of columns, which is the number of tokens a row gives."""
        return len(self.columns)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """Names of the number columns, in the order of `TableBatch.numbers`."""
        return tuple(column.name for column in self.columns if column.kind == "number")

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """Names of the category columns, in the order of `TableBatch.categories`."""
        return tuple(column.name for column in self.columns if column.kind == "category")

    @property
    def n_numeric(self) -> int:
        """Number of number columns."""
        return len(self.numeric)

    @property
    def n_categorical(self) -> int:
        """Number of category columns."""
        return len(self.categorical)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Indices each category column uses, missing and unseen included."""
        return tuple(column.n_indices for column in self.columns if column.kind == "category")

    @property
    def order(self) -> tuple[int, ...]:
        """Where each column of the table stands once the number columns are put before the category columns."""
        place = {name: i for i, name in enumerate((*self.numeric, *self.categorical))}
        return tuple(place[name] for name in self.names)

    def to_dict(self) -> dict[str, Any]:
        """Give the schema as plain values.

        Returns
        -------
        dict
            JSON-ready values, from which `from_dict` makes the schema again.
        """
        columns = [
            {"name": column.name, "kind": column.kind, "categories": list(column.categories)} for column in self.columns
        ]
        return {"columns": columns, "named": self.named}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a schema from the values that `to_dict` gives.

        Parameters
        ----------
        values : mapping
            The values.

        Returns
        -------
        TableSchema
            The schema.

        Raises
        ------
        DataError
            If a key is missing or unknown, or a value is of another kind than `to_dict` gives.
        """
        if not isinstance(values, Mapping) or set(values) != {"columns", "named"}:
            raise DataError(f"A saved schema must hold 'columns' and 'named', however it is {_shorten(values)}.")
        if not isinstance(values["columns"], list) or not values["columns"] or not isinstance(values["named"], bool):
            raise DataError("A saved schema must hold a list of at least one column and whether they are named.")
        return cls(tuple(_column_from_dict(column) for column in values["columns"]), values["named"])


def _column_from_dict(values: Any) -> Column:
    """Check and build one saved column."""
    if not isinstance(values, Mapping) or set(values) != {"name", "kind", "categories"}:
        raise DataError(f"A saved column must hold 'name', 'kind' and 'categories', however one is {_shorten(values)}.")
    name, kind, categories = values["name"], values["kind"], values["categories"]
    sound = isinstance(name, str) and kind in ("number", "category") and isinstance(categories, list)
    if (
        not sound
        or not all(isinstance(category, str) for category in categories)
        or len(set(categories)) < len(categories)
    ):
        raise DataError(
            "A saved column must have a name, the kind 'number' or 'category' and a list of distinct categories, "
            f"however one is {_shorten(values)}."
        )
    return Column(name, kind, tuple(categories))


def _shorten(value: Any) -> str:
    """Show a value in at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
