"""Tables from files: separators, decimal commas, types, and what is left out."""

import numpy as np
import pandas as pd
import pytest

from mambattn._errors import DataError
from mambattn.cli import _tables
from mambattn.cli._tables import read_table, read_target_table
from mambattn.compare import BUNDLED

ROWS = [["age", "ward", "dose"], ["31", "a, b", "1.5"], ["", "c", "2.25"]]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("separator", "encoding", "newline"), [(",", "utf-8", "\n"), (";", "utf-8-sig", "\r\n"), ("\t", "utf-8", "\n")]
)
def test_separators_are_found(tmp_path, separator, encoding, newline):
    lines = [separator.join(f'"{cell}"' if "," in cell else cell for cell in row) for row in ROWS]
    frame = read_table(write(tmp_path / "t.csv", newline.join(lines) + newline, encoding))
    assert frame.columns.tolist() == ["age", "ward", "dose"]
    assert frame["ward"].tolist() == ["a, b", "c"]
    assert frame["dose"].tolist() == [1.5, 2.25]
    assert np.isnan(frame["age"].iloc[1])


def test_decimal_commas_between_semicolons(tmp_path):
    frame = read_table(write(tmp_path / "t.csv", "dose;ward\n1,5;a\n-2,25;b\n"))
    assert frame["dose"].tolist() == [1.5, -2.25]
    mixed = read_table(write(tmp_path / "m.csv", "dose;ward\n1,5;a\n2.25;b\n"))
    assert mixed["dose"].tolist() == ["1,5", "2.25"]


def test_the_words_for_a_missing_value_are_those_of_the_documentation(tmp_path):
    frame = read_table(
        write(tmp_path / "t.csv", "a,b\n" + "".join(f"{word},x\n" for word in ("", "NA", "N/A", "NaN", "null", "None")))
    )
    assert frame["a"].isna().all()


def test_text_stays_text_and_quoted_newlines_are_one_row(tmp_path):
    frame = read_table(write(tmp_path / "t.csv", 'note,flag,n\n"two\nlines",True,1\nx,False,2\n'))
    assert frame["note"].tolist() == ["two\nlines", "x"]
    assert frame["flag"].dtype == bool
    assert frame["n"].dtype == np.int64


def test_parquet_is_known_by_its_content(tmp_path):
    wanted = pd.DataFrame({"age": [1.0, np.nan], "ward": ["a", "b"]})
    wanted.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.data").write_bytes((tmp_path / "t.parquet").read_bytes())
    for name in ("t.parquet", "t.data"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name), wanted)


def test_the_line_of_a_ragged_row_counts_quoted_newlines(tmp_path):
    path = write(tmp_path / "t.csv", 'a,b\n"two\nlines",1\n1,2,3\n')
    with pytest.raises(DataError, match="line 4: 3 cells, but the header has 2"):
        read_table(path)


def test_rows_without_a_target_are_left_out_and_columns_dropped(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,y\n1,2,u\n3,4,\n5,6,v\n")
    table = read_target_table(str(path), "y", drop=["b"])
    assert table.X.to_dict("list") == {"a": [1, 5]}
    assert table.y.tolist() == ["u", "v"]
    assert (table.n_untargeted, table.name, table.target) == (1, "t.csv", "y")


def test_labels_of_whole_numbers_stay_whole_where_cells_are_empty(tmp_path):
    table = read_target_table(str(write(tmp_path / "t.csv", "a,y,z\n1,1,.5\n2,,\n3,0,1\n")), "y")
    assert (table.y.tolist(), str(table.y.dtype)) == ([1, 0], "int64")
    assert str(read_target_table(str(tmp_path / "t.csv"), "z").y.dtype) == "float64"


def test_bundled_tables_know_their_target():
    assert _tables.BUNDLED == BUNDLED
    table = read_target_table("wine", None)
    assert table.X.shape == (178, 13)
    assert (table.name, table.target) == ("wine", "cultivar")
    assert read_target_table("wine", "cultivar", drop=["ash"]).X.shape == (178, 12)


def test_a_real_table_is_read_whole(data_dir):
    table = read_target_table(str(data_dir / "adult.csv"), "income")
    assert table.X.shape == (48842, 14)
    assert table.y.value_counts().to_dict() == {"<=50K": 37155, ">50K": 11687}
    assert int(table.X.isna().to_numpy().sum()) == 6465
