"""Tables of every sort: what is accepted, what counts as a number, and the texts of what is refused."""

import datetime
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from mambattn._errors import DataError
from mambattn.configs import PreprocessingConfig
from mambattn.tabular import MISSING, UNSEEN, TablePreprocessor, as_frame

PLAIN = PreprocessingConfig(numerical_preprocessing="none")


def fitted(X, **settings):
    return TablePreprocessor(PLAIN.replace(**settings)).fit(X)


def kinds(X):
    return [column.kind for column in fitted(X).schema.columns]


TABLES = {
    "numpy": np.array([[1.5, 2.0], [3.0, 4.0]]),
    "float16": np.array([[1.5, 2.0], [3.0, 4.0]], dtype=np.float16),
    "objects": np.array([[1.5, 2], [3, 4.0]], dtype=object),
    "decimals": np.array([[Decimal("1.5"), 2], [3, Decimal("4")]], dtype=object),
    "lists": [[1.5, 2], [3, 4]],
    "tuples": ((1.5, 2), (3, 4)),
    "pandas": pd.DataFrame({"a": [1.5, 3], "b": [2, 4]}),
    "nullable": pd.DataFrame({"a": [1.5, 3], "b": [2, 4]}).convert_dtypes(),
    "arrow types": pd.DataFrame({"a": [1.5, 3], "b": [2, 4]}).convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.DataFrame({"a": [1.5, 3], "b": [2, 4]}),
    "pyarrow": pa.table({"a": [1.5, 3.0], "b": [2, 4]}),
    "masked": np.ma.masked_array([[1.5, 2.0], [3.0, 4.0]]),
    "sparse column": pd.DataFrame({"a": pd.arrays.SparseArray([1.5, 3.0]), "b": [2, 4]}),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_sort_of_table_gives_the_same_numbers(name):
    batch = fitted(TABLES[name]).transform(TABLES[name])
    assert batch.numbers.tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert not batch.missing.any()
    assert batch.categories.shape == (2, 0)


def test_missing_values_of_every_sort_are_missing():
    frame = pd.DataFrame(
        {
            "float": [1.0, np.nan],
            "Int64": pd.array([1, None], dtype="Int64"),
            "Float64": pd.array([1.0, None], dtype="Float64"),
            "object": pd.Series([1, None], dtype=object),
            "NA": pd.Series([1, pd.NA], dtype=object),
            "arrow": pd.array([1, None], dtype=pd.ArrowDtype(pa.int64())),
            "text": ["a", None],
            "string": pd.array(["a", None], dtype="string"),
            "category": pd.Categorical(["a", None]),
            "boolean": pd.array([True, None], dtype="boolean"),
            "bools": pd.Series([True, None], dtype=object),
        }
    )
    batch = fitted(frame).transform(frame)
    assert batch.numbers.tolist() == [[1.0] * 6, [0.0] * 6]
    assert batch.missing.tolist() == [[False] * 6, [True] * 6]
    assert batch.categories.tolist() == [[2] * 5, [MISSING] * 5]


def test_masked_cells_are_missing():
    masked = np.ma.masked_array([[1.0], [2.0]], mask=[[False], [True]])
    assert fitted(masked).transform(masked).missing.tolist() == [[False], [True]]


def test_kinds_of_columns():
    frame = pd.DataFrame(
        {
            "int": [1, 2],
            "bool": [True, False],
            "text": ["a", "b"],
            "old text": pd.Series(["a", "b"], dtype=object),
            "category of ints": pd.Categorical([1, 2]),
            "mixed": pd.Series([1, "b"], dtype=object),
            "numbers as objects": pd.Series([1, 2.5], dtype=object),
            "all missing": [np.nan, np.nan],
            "all None": pd.Series([None, None], dtype=object),
            "interval": pd.interval_range(0, 2),
        }
    )
    assert kinds(frame) == [
        "number", "category", "category", "category", "category", "category", "number", "number", "category", "category"
    ]  # fmt: skip


def test_columns_are_forced_to_categories_by_name_or_position():
    frame = pd.DataFrame({"zip": [8001, 8002], "x": [1, 2]})
    assert fitted(frame, categorical_columns=("zip",)).schema.categorical == ("zip",)
    assert fitted(frame.to_numpy(), categorical_columns=(1,)).schema.categorical == ("1",)
    with pytest.raises(ValueError, match=r"`categorical_columns` names 'plz', .* Its columns: zip, x\."):
        fitted(frame, categorical_columns=("plz",))


def test_categories_survive_a_change_of_type():
    preprocessor = fitted(pd.DataFrame({"a": [1, 2, 3]}), categorical_columns=("a",))
    for values in ([2, 9], [2.0, 9.0], ["2", "9"], pd.array([2, 9], dtype="Int64"), pd.Categorical([2, 9])):
        assert preprocessor.transform(pd.DataFrame({"a": values})).categories.tolist() == [[3], [UNSEEN]]


def test_true_and_one_are_two_categories_in_a_mixed_column():
    frame = pd.DataFrame({"a": pd.Series([True, 1, "x"], dtype=object)})
    assert fitted(frame).schema.columns[0].categories == ("1", "True", "x")


def test_levels_of_a_category_that_do_not_occur_are_unseen():
    preprocessor = fitted(pd.DataFrame({"a": pd.Categorical(["x", "z"], categories=["x", "y", "z"])}))
    assert preprocessor.schema.columns[0].categories == ("x", "z")
    assert preprocessor.transform(pd.DataFrame({"a": ["z", "y"]})).categories.tolist() == [[3], [UNSEEN]]


def test_held_out_rows_tell_the_kind_of_a_column_and_nothing_else():
    frame = pd.DataFrame({"n": [0.0, 10.0, 1000.0], "c": ["x", "y", "z"], "m": pd.Series([1, 2, "x"], dtype=object)})
    config = PreprocessingConfig(numerical_preprocessing="minmax")
    preprocessor = TablePreprocessor(config).fit(frame, rows=np.array([1, 0]))
    assert [column.categories for column in preprocessor.schema.columns] == [(), ("x", "y"), ("1", "2")]
    batch = preprocessor.transform(frame)
    assert batch.numbers.tolist() == [[0], [1], [100]]
    assert batch.categories.tolist() == [[2, 2], [3, 3], [UNSEEN, UNSEEN]]
    frame.loc[2, "n"] = np.inf
    with pytest.raises(DataError, match=r"Column 'n' holds an infinite number \(inf in row 2\)"):
        TablePreprocessor(config).fit(frame, rows=np.array([1, 0]))


def test_text_of_which_every_row_is_its_own():
    frame = pd.DataFrame({"id": [f"row {i}" for i in range(3000)]})
    batch = fitted(frame).transform(frame)
    assert sorted(batch.categories[:, 0].tolist()) == list(range(2, 3002))


def test_polars_with_nulls_and_categories():
    frame = pl.DataFrame(
        {"n": [1, None], "t": ["x", None], "b": [True, None], "c": pl.Series(["u", None], dtype=pl.Categorical)}
    )
    batch = fitted(frame).transform(frame)
    assert batch.missing.tolist() == [[False], [True]]
    assert batch.categories.tolist() == [[2, 2, 2], [0, 0, 0]]


DAY = datetime.date(2020, 1, 1)
TIMES = {
    "datetime64": pd.to_datetime(["2020-01-01", None]),
    "zoned": pd.to_datetime(["2020-01-01", None]).tz_localize("UTC"),
    "timedelta": pd.to_timedelta([1, None], unit="D"),
    "period": pd.period_range("2020", periods=2, freq="M"),
    "dates": pd.Series([DAY, None], dtype=object),
    "datetimes": pd.Series([datetime.datetime(2020, 1, 1), None], dtype=object),
    "arrow": pd.array([datetime.datetime(2020, 1, 1), None], dtype=pd.ArrowDtype(pa.timestamp("s"))),
    "arrow date": pd.array([DAY, None], dtype=pd.ArrowDtype(pa.date32())),
}


@pytest.mark.parametrize("name", TIMES)
def test_dates_and_times_are_refused_by_name(name):
    with pytest.raises(DataError, match=r"Column 'when' holds dates or times .*\(year, month, weekday"):
        fitted(pd.DataFrame({"x": [1, 2], "when": TIMES[name]}))


NESTED = {
    "list": [[1], [2, 3]],
    "dict": [{"a": 1}, {"a": 2}],
    "tuple": [(1,), (2,)],
    "object": [object(), object()],
    "a dict among numbers": [1.0, {"a": 1}],
    "a list among texts": ["x", ["y"]],
    "arrow list": pd.array([[1], [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_columns_are_refused_by_name(name):
    values = NESTED[name] if name.startswith("arrow") else pd.Series(NESTED[name], dtype=object)
    with pytest.raises(DataError, match=r"Column 'cell' holds a .*Spread nested values") as caught:
        fitted(pd.DataFrame({"x": [1, 2], "cell": values}))
    assert isinstance(caught.value, TypeError)
    assert re.search(r"argument must be .* string.* number", str(caught.value))


def test_nested_polars_columns_are_refused():
    with pytest.raises(DataError, match="Column 'c' holds a "):
        fitted(pl.DataFrame({"c": [[1], [2, 3]]}))


def test_dates_and_nested_values_are_refused_when_predicting():
    preprocessor = fitted(pd.DataFrame({"n": [1, 2], "c": ["x", "y"]}))
    with pytest.raises(DataError, match="Column 'c' holds dates or times"):
        preprocessor.transform(pd.DataFrame({"n": [1], "c": pd.to_datetime(["2020-01-01"])}))
    with pytest.raises(DataError, match="Column 'c' holds a dict"):
        preprocessor.transform(pd.DataFrame({"n": [1], "c": [{}]}))
    with pytest.raises(DataError, match=r"Column 'n' held numbers .* row 0 is Timestamp"):
        preprocessor.transform(pd.DataFrame({"n": pd.to_datetime(["2020-01-01"]), "c": ["x"]}))


REFUSED = {
    "sparse": (sparse.csr_array(np.eye(2)), "Sparse data was passed .* X.toarray"),
    "complex": (np.eye(2) + 1j, "Complex data not supported"),
    "complex objects": (pd.DataFrame({"a": pd.Series([1j, 2j], dtype=object)}), "Complex data not supported"),
    "one dimension": (np.arange(3.0), "Expected 2D array, got 1D array instead. Reshape your data"),
    "a list of numbers": ([1.0, 2.0], "Expected 2D array, got 1D array instead. Reshape your data"),
    "three dimensions": (np.zeros((2, 2, 2)), "Expected 2D array, got 3D array instead. Reshape your data"),
    "a number": (3.0, "Expected 2D array, got a float instead. Reshape your data"),
    "a dict": ({"a": [1, 2]}, "Expected 2D array, got a dict instead. .* or give a frame"),
    "an enormous integer": ([[10**400], [1]], "Column '0' holds an integer beyond the range of a float"),
    "a series": (pd.Series([1, 2]), "got a column. Reshape your data"),
    "a polars series": (pl.Series([1, 2]), "got a column. Reshape your data"),
    "no rows": (np.empty((0, 3)), r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
    "no columns": (np.empty((12, 0)), r"0 feature\(s\) \(shape=\(12, 0\)\) while a minimum of 1 is required"),
    "an empty list": ([], r"0 sample\(s\)"),
    "ragged rows": ([[1, 2], [3]], "rows of 1 and of 2 cells"),
    "a name twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "must be unique, however 'a' stands 2 times"),
    "infinite": (pd.DataFrame({"a": [1.0, np.inf]}), r"Column 'a' holds an infinite number \(inf in row 1\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_tables(name):
    X, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        fitted(X)


@pytest.mark.parametrize("value", ["three", "3", "n/a"])
def test_text_in_a_number_column_is_named_with_its_value(value):
    preprocessor = fitted(pd.DataFrame({"age": [1.0, 2.0]}))
    with pytest.raises(
        DataError, match=f"Column 'age' held numbers when the model was fitted, however row 1 is '{value}'"
    ):
        preprocessor.transform(pd.DataFrame({"age": [1.0, value]}))


def test_numbers_given_as_objects_or_bools_count_as_numbers_when_predicting():
    preprocessor = fitted(pd.DataFrame({"age": [1.0, 2.0]}))
    for values in ([None, 2], [pd.NA, 2]):
        batch = preprocessor.transform(pd.DataFrame({"age": pd.Series(values, dtype=object)}))
        assert (batch.numbers.tolist(), batch.missing.tolist()) == ([[0.0], [2.0]], [[True], [False]])
    assert preprocessor.transform(pd.DataFrame({"age": [True, False]})).numbers.tolist() == [[1.0], [0.0]]


def test_columns_are_matched_by_name_in_any_order():
    frame = pd.DataFrame({"b__x": [1, 2], "a": ["u", "v"], "c": [5, 6]})
    preprocessor = fitted(frame)
    want, got = preprocessor.transform(frame), preprocessor.transform(frame[["c", "a", "b__x"]])
    assert got.numbers.tolist() == want.numbers.tolist() == [[1, 5], [2, 6]]
    assert got.categories.tolist() == want.categories.tolist()


def test_numeric_names_are_names():
    frame = pd.DataFrame({2010: [1, 2], 2011: [3, 4]})
    assert fitted(frame).transform(frame[[2011, 2010]]).numbers.tolist() == [[1, 3], [2, 4]]


def test_positions_given_as_names_in_another_order_are_names():
    frame = pd.DataFrame([[1, 2, 3], [4, 5, 6]])
    assert fitted(frame).transform(frame[[2, 0, 1]]).numbers.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_missing_and_new_columns_are_named():
    preprocessor = fitted(pd.DataFrame({"a": [1], "b": [2]}))
    message = (
        "The feature names should match those that were passed during fit.\n"
        "Feature names unseen at fit time:\n- c\n"
        "Feature names seen at fit time, yet now missing:\n- b\n"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        preprocessor.transform(pd.DataFrame({"a": [1], "c": [2]}))


def test_tables_without_names_are_matched_by_position():
    preprocessor = fitted(pd.DataFrame({"a": [1], "b": [2]}))
    assert preprocessor.transform([[7, 8]]).numbers.tolist() == [[7, 8]]
    with pytest.raises(DataError, match=r"X has 1 features, but \w+ is expecting 2 features as input"):
        preprocessor.transform([[7]])


def test_a_frame_is_not_changed_or_copied():
    frame = pd.DataFrame({"a": [1, 2]}, index=[5, 5])
    assert as_frame(frame) is frame
    before = frame.copy()
    fitted(frame).transform(frame)
    pd.testing.assert_frame_equal(frame, before)
