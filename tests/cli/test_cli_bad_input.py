"""Everything that can be wrong with what a user gives: exit code 2, one clear message, no traceback."""

import os

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from mambattn.cli import main
from mambattn.configs import MLPConfig, TrainerConfig
from mambattn.models import MLPClassifier, MLPRegressor

GOOD = "age,ward,ill\n" + "".join(f"{20 + i},{'ab'[i % 2]},{'yn'[i % 3 == 0]}\n" for i in range(30))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of tables and model files, most of them broken."""
    here = tmp_path_factory.mktemp("bad")
    texts = {
        "good.csv": GOOD,
        "empty.csv": "",
        "blank.csv": "\n\n",
        "header.csv": "age,ward,ill\n",
        "long.csv": GOOD + "1,a,y,extra\n",
        "short.csv": "a;b;c\n1;2;3\n4;5\n",
        "quote.csv": 'a,b\n1,"open\n2,3\n',
        "twice.csv": "age,age,ill\n1,2,y\n",
        "nameless.csv": ",,ill\n1,2,y\n",
        "missing.csv": "age,ill\n1,\n2,\n",
        "single.csv": "age,ill\n" + "".join(f"{i},y\n" for i in range(30)),
        "alone.csv": "ill\ny\nn\n",
        "few.csv": "age,ill\n1,y\n2,n\n3,y\n",
        "rare.csv": GOOD + "1,a,maybe\n",
        "fake.parquet": "age,ill\n1,y\n",
        "fake.safetensors": "age,ill\n1,y\n",
        "text.csv": "age,ward\n30,a\n,b\nold,a\n",
        "header2.csv": "ages,wards\n1,a\n",
        "lacking.csv": "ward\na\n",
        "spaced.csv": "age, Weight \n1,2\n",
        "other.csv": "age|ill\n1|y\n2|n\n",
        "title.csv": "# Patients, 2024\nage,ward,ill\n1,a,y\n",
        "once.csv": "age,ill\n" + "".join(f"{i},class {i}\n" for i in range(30)),
        "money.csv": "age,price\n" + "".join(f"{i},{i}.5\n" for i in range(29)) + "1,ask\n",
        "same.csv": "age,dose\n" + "".join(f"{i},1.5\n" for i in range(30)),
        "gap.csv": "age,ill\n" + "".join(f"{i},{['y', 'n', ''][i % 3]}\n" for i in range(30)) + "-inf,y\n",
        "largest.csv": "age,ill\n" + "".join(f"{i},{'yn'[i % 2]}\n" for i in range(30)) + "1.7e308,y\n",
        "rows.csv": "age,ward\n1,a\ninf,b\n",
        "infinite.csv": "a,x\n" + "".join(f"{i},{i}.5\n" for i in range(30)) + "1,inf\n",
    }
    for name, text in texts.items():
        (here / name).write_text(text)
    (here / "latin.csv").write_bytes("größe,ill\n1,y\n".encode("latin-1"))
    (here / "zipped.csv").write_bytes(b"\x1f\x8b\x08\x00rest")
    (here / "book.xlsx").write_bytes(b"PK\x03\x04rest")
    (here / "nul.csv").write_bytes(b"a,b\x00\n1,2\n")
    (here / "cut.parquet").write_bytes(b"PAR1 and no more")
    (here / "folder").mkdir()
    os.mkfifo(here / "pipe")

    frame = pd.read_csv(here / "good.csv")
    trainer = TrainerConfig(max_epochs=1, verbose=0)
    config = MLPConfig(d_model=4, layer_sizes=(4,))
    MLPClassifier(config, trainer_config=trainer, random_state=0).fit(frame[["age", "ward"]], frame["ill"]).save(
        here / "model.safetensors"
    )
    MLPRegressor(config, trainer_config=trainer, random_state=0).fit(frame[["ward"]], frame["age"]).save(
        here / "number.safetensors"
    )
    content = (here / "model.safetensors").read_bytes()
    (here / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (here / "edited.safetensors").write_bytes(content[:-4] + b"\x00\x00\x80\x3f")
    save_file({"weight": np.zeros(3)}, here / "foreign.safetensors")
    return here


CASES = {
    # The table itself.
    "no file": ("compare gone.csv --target ill", "There is no file 'gone.csv'. Give a CSV or Parquet file, or one of"),
    "nearly bundled": ("compare brest_cancer", "There is no file 'brest_cancer'. Did you mean 'breast_cancer'?"),
    "a folder": ("compare folder --target ill", "folder is a directory. Give a CSV or Parquet file."),
    "empty": ("compare empty.csv --target ill", "empty.csv is empty. Give a table with a header and rows."),
    "blank lines": ("fit blank.csv --target ill", "blank.csv is empty. Give a table with a header and rows."),
    "header alone": ("compare header.csv --target ill", "header.csv has a header but no rows."),
    "a long row": (
        "compare long.csv --target ill",
        "long.csv, line 32: 4 cells, but the header has 3 (comma-separated).",
    ),
    "a short row": (
        "fit short.csv --target c",
        "short.csv, line 3: 2 cells, but the header has 3 (semicolon-separated).",
    ),
    "an open quote": ("fit quote.csv --target b", "quote.csv is not a CSV file: unexpected end of data."),
    "not UTF-8": ("compare latin.csv --target ill", "latin.csv is not UTF-8 text (byte 0xf6). Save it as CSV in UTF-8"),
    "compressed": ("compare zipped.csv --target ill", "zipped.csv is compressed. Unpack it"),
    "a workbook": ("compare book.xlsx --target ill", "book.xlsx is a workbook. Save its sheet as CSV in UTF-8"),
    "another separator": (
        "compare other.csv --target ill",
        "other.csv has one column, 'age|ill'. Separate columns with commas, semicolons or tabs.",
    ),
    "a title above the header": (
        "compare title.csv --target ill",
        "title.csv, line 2: 3 cells, but the header has 2 (comma-separated). Mend that line or the header, "
        "'# Patients, 2024', or put quotes",
    ),
    "an infinite cell, by its row in the file": (
        "fit gap.csv --target ill",
        "gap.csv: column 'age' holds -inf in row 31. Use a number, or leave the cell empty.",
    ),
    "fit to an infinite target": (
        "fit infinite.csv --target x",
        "The target 'x' holds infinite values. Row 31 is the first: use a number, or leave the cell empty.",
    ),
    "an infinite cell to predict": (
        "predict model.safetensors rows.csv",
        "rows.csv: column 'age' holds inf in row 2. Use a number, or leave the cell empty.",
    ),
    "the largest number for a missing one": (
        "compare largest.csv --target ill",
        "Column 'age' holds numbers beyond 1e+150, whose squares overflow. Leave a cell empty if that marks",
    ),
    "NUL bytes": ("compare nul.csv --target b", "nul.csv is not text. Give a CSV or Parquet file."),
    "no Parquet": ("compare fake.parquet --target ill", "fake.parquet is not a Parquet file, or is damaged:"),
    "cut Parquet": ("compare cut.parquet --target ill", "cut.parquet is not a Parquet file, or is damaged:"),
    "a name twice": ("compare twice.csv --target ill", "twice.csv: 2 columns are called 'age'."),
    "another case": ("compare spaced.csv --target weight", "there is no column 'weight'. Did you mean ' Weight '?"),
    "an infinite target": ("compare infinite.csv --target x", "The target 'x' holds infinite values."),
    "a pipe": ("compare pipe --target x", "pipe is a pipe, and a table is read more than once. Write it to a file"),
    "a name too long": (f"compare {'x' * 300} --target x", "cannot be used: File name too long."),
    "no names": ("compare nameless.csv --target ill", "nameless.csv: 2 columns have no name."),
    # The target and the columns.
    "no target": ("compare good.csv", "Say which column to predict: --target COLUMN. Columns: age, ward, ill."),
    "wrong target": ("compare good.csv --target il", "--target: there is no column 'il'. Did you mean 'ill'?"),
    "far target": ("fit good.csv --target xyz", "--target: there is no column 'xyz'. Columns: age, ward, ill."),
    "bundled target": ("compare wine --target ill", "The target of wine is 'cultivar', however --target is 'ill'."),
    "target missing": ("compare missing.csv --target ill", "The target 'ill' is missing in every row."),
    "single class": ("compare single.csv --target ill", "The target 'ill' is 'y' in every row."),
    "fit a single class": (
        "fit single.csv --target ill",
        "A classifier needs at least two classes, however `y` holds one class only: ['y'].",
    ),
    "a constant number": (
        "fit same.csv --target dose",
        "The target 'dose' is 1.5 in every row, so there is nothing to predict. Name another one.",
    ),
    "fit to classes of one row": (
        "fit once.csv --target ill",
        "Each class of the target 'ill' has one row, so that none can be held out to score.",
    ),
    "a text among numbers": (
        "compare money.csv --target price",
        "fewer than folds=3. Drop or merge the class. Is it a quantity? Then write every value as a number, unlike 'ask'.",
    ),
    "a text among numbers to regress on": (
        "fit money.csv --target price --task regression",
        "task='regression' needs a numeric target, however 'price' holds 'ask'.",
    ),
    "nothing but a target": ("compare alone.csv --target ill", "alone.csv has no column to predict 'ill' from."),
    "all dropped": ("fit good.csv --target ill --drop age --drop ward", "has no column to predict 'ill' from."),
    "too few rows": ("compare few.csv --target ill", "has 1 row, fewer than folds=3."),
    "a rare class": (
        "compare rare.csv --target ill",
        "Class 'maybe' of the target 'ill' has 1 row, fewer than folds=3.",
    ),
    "text for numbers": (
        "compare good.csv --target ill --task regression",
        "task='regression' needs a numeric target, however 'ill' holds 'n'.",
    ),
    "fit text for numbers": (
        "fit good.csv --target ill --task regression",
        "task='regression' needs a numeric target, however 'ill' holds 'n'.",
    ),
    "wrong drop": (
        "compare good.csv --target ill --drop agee",
        "--drop: there is no column 'agee'. Did you mean 'age'?",
    ),
    "drop the target": ("compare good.csv --target ill --drop ill", "--drop 'ill' is the target. Name another column."),
    "wrong categorical": (
        "fit good.csv --target ill --categorical wards",
        "--categorical: there is no column 'wards'. Did you mean 'ward'?",
    ),
    "categorical dropped": (
        "fit good.csv --target ill --drop ward --categorical ward",
        "--categorical: there is no column 'ward'.",
    ),
    # Settings.
    "wrong model": ("compare wine --models mambla,mlp", "There is no model 'mambla'."),
    "one model": ("compare wine --models mlp", "A comparison needs at least two models"),
    "wrong schedule": ("compare wine --schedule MXA", "`schedule` 'MXA' has 'X' at position 2."),
    "ablate without values": ("compare wine --ablate last_layer", "'last_layer' must be FIELD=value,value"),
    "ablate with a gap": ("compare wine --ablate n_layers=1,,2", "'n_layers=1,,2' must be FIELD=value,value"),
    "ablate twice": ("compare wine --ablate d_state=1 --ablate d_state=2", "'d_state' is given twice."),
    "ablate nothing known": ("compare wine --ablate n_layer=1,2", "has no setting 'n_layer'. Did you mean 'n_layers'?"),
    "ablate out of range": ("compare wine --ablate n_layers=0,2", "`n_layers` must be an integer in [1, inf)"),
    "wrong metric": ("compare wine --metric roc", "`metric` must be one of"),
    "metric of another task": ("compare wine --metric rmse", "`metric` 'rmse' does not fit a multiclass task."),
    "one fold": ("compare wine --folds 1", "1 is not in the range x>=2"),
    "no time": ("compare wine --time-limit 0", "0.0 is not in the range x>0"),
    "no such folder": ("compare wine --json gone/x.json", "there is no directory 'gone'."),
    "JSON to a folder": ("compare wine --json folder", "File 'folder' is a directory."),
    "out below a file": ("compare wine --models dummy,linear --out good.csv/x", "cannot be used: Not a directory."),
    "no such device": ("compare wine --device tpux", "device"),
    "set without a section": ("fit wine --set d_model=3", "'d_model=3' must be SECTION.FIELD=value"),
    "set without a value": ("fit wine --set model.d_model", "'model.d_model' must be SECTION.FIELD=value"),
    "set nothing known": ("fit wine --set trainer.lrr=1", "TrainerConfig has no setting 'lrr'. Did you mean 'lr'?"),
    "set twice": ("fit wine --set trainer.lr=1 --set trainer.lr=2", "'trainer.lr' is given twice."),
    "set text": ("fit wine --set trainer.lr=fast", "`lr` must be a number in (0, inf), however lr='fast'."),
    "heads that do not fit": ("fit wine --set model.d_model=100", "`d_model` must be divisible by `n_heads`"),
    "schedule of an MLP": ("fit wine --model mlp --schedule MA", "--schedule is for --model mambattention"),
    "schedule and counts": ("fit wine --schedule MA --set model.n_layers=2", "`n_layers` would be ignored"),
    "device twice": ("fit wine --device cpu --set trainer.device=cpu", "'trainer.device' is given by --device too."),
    "schedule twice": (
        "fit wine --schedule MA --set model.schedule=MA",
        "'model.schedule' is given by --schedule too.",
    ),
    "categorical twice": (
        "fit good.csv --target ill --categorical age --set preprocessing.categorical_columns=age",
        "'preprocessing.categorical_columns' is given by --categorical too.",
    ),
    "fit to nowhere": ("fit wine --out gone/m.safetensors", "there is no directory 'gone'."),
    # Model files, and tables to predict.
    "no model file": ("predict gone.safetensors good.csv", "There is no model file at 'gone.safetensors'."),
    "cut model": ("predict cut.safetensors good.csv", "it is truncated or of another kind"),
    "edited model": ("describe edited.safetensors", "was changed after it was written"),
    "foreign model": ("describe foreign.safetensors", "it is a safetensors file of another program"),
    "text as model": ("describe fake.safetensors", "must be a safetensors file, however it cannot be read as one"),
    "neither": ("describe MXA", "'MXA' is neither a file nor a schedule. Give a model file, or letters out of M, S, A"),
    "length of a model": ("describe model.safetensors --seq-len 9", "--d-model and --seq-len are for a schedule"),
    "text at predict": (
        "predict model.safetensors text.csv",
        "column 'age' held numbers when the model was fitted, however row 3 holds 'old'.",
    ),
    "column lacking": (
        "predict model.safetensors lacking.csv",
        "lacking.csv lacks column 'age', which the model was fitted on.",
    ),
    "two columns lacking": ("predict model.safetensors header2.csv", "header2.csv lacks columns 'age', 'ward', which"),
    "another separator at predict": (
        "predict model.safetensors other.csv",
        "other.csv has one column, 'age|ill'. Separate columns with commas, semicolons or tabs.",
    ),
    "nothing to predict": ("predict model.safetensors header.csv", "header.csv has a header but no rows."),
    "chances of a number": (
        "predict number.safetensors good.csv --proba",
        "--proba needs a classifier, however number.safetensors holds a MLPRegressor.",
    ),
    "predict to a folder": ("predict model.safetensors good.csv --out folder", "File 'folder' is a directory."),
    "predict to nowhere": ("predict model.safetensors good.csv --out gone/p.csv", "there is no directory 'gone'."),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_message(folder, monkeypatch, case):
    command, message = CASES[case]
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, command.split())
    assert message in result.stderr
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.count("Error:") == 1
    assert "Warning:" not in result.stderr


def test_no_file_is_left_behind(folder):
    assert not (folder / "model.safetensors.part").exists()
    assert not list(folder.glob("report*"))
