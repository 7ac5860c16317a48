"""What a table holds that its owner may not mean: told once, in one sentence."""

import pandas as pd
import pytest

from mambattn.cli._oddities import note_oddities
from mambattn.cli._tables import read_target_table

N = 40
COLUMNS = {
    "a stray text among numbers": ((f"{i}.5" if i else "?" for i in range(N)), "holds text such as '?', so it is taken for categories, 40 of them. If"),
    "a long text": ((f"{i}" if i else "x" * 999 for i in range(N)), f"holds text such as {'x' * 40!r}, so"),
    "dates": ((f"2024-01-{i % 28 + 1:02d}" for i in range(N)), "such as '2024-01-01', so it is taken for categories, 28 of them"),
    "amounts": ((f"$ {i}" for i in range(N)), "If it is a quantity, write every cell as a number, or leave it empty."),
    "percentages with gaps": ((f"{i}%" if i % 4 else "" for i in range(N)), "such as '1%', so it is taken for categories, 30 of them"),
    "names": ((f"Person {i}" for i in range(N)), "40 distinct texts in 40 rows, each a category of its own. Leave it out, --drop 'x'"),
    "numbers": (map(str, range(N)), None),
    "categories": (("ab"[i % 2] for i in range(N)), None),
    "categories with digits": ((f"ward {i % 7}" for i in range(N)), None),
    "nothing": (("" for _ in range(N)), None),
}  # fmt: skip


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_that_may_be_meant_otherwise_is_told(case, tmp_path, capsys):
    cells, told = COLUMNS[case]
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{cell},{'uv'[i % 2]}\n" for i, cell in enumerate(cells)))
    note_oddities(read_target_table(str(path), "y"))
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        err == ""
        if told is None
        else (told in err and err.startswith("Note: Column 'x' holds ") and err.count("\n") == 1)
    )


def test_a_small_table_of_names_is_left_in_peace(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("x,y\nann,u\nbob,v\n")
    note_oddities(read_target_table(str(path), "y"))
    assert capsys.readouterr().err == ""


def test_lists_and_declared_categories_are_left_in_peace(tmp_path, capsys):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"x": [[1, 2]] * 30, "c": pd.Categorical(["1 a"] * 30), "y": list("uv") * 15}).to_parquet(path)
    note_oddities(read_target_table(str(path), "y"))
    assert capsys.readouterr().err == ""
