"""`mambattn recall`: what reaches the study, what comes out of it, and what is refused before anything is trained."""

import dataclasses
import html
import json
import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from mambattn.cli import main
from mambattn.recall import Results, Row, Study, run
from mambattn.recall.outcome import Outcome

TINY = (
    "--tasks induction --archs nope,MA --seeds 2 --lrs 0.01 --steps 3 --train-length 8 --lengths 8,16 --d-model 8 "
    "--d-state 4 --batch 4 --n-validation 8 --n-test 8 --device cpu --workers 1"
)
STUDY = Study(
    tasks=("induction",), archs=("nope", "MA"), seeds=(0, 1), lrs=(0.01,), steps=3, train_length=8, lengths=(8, 16),
    d_model=8, d_state=4, batch=4, n_validation=8, n_test=8, device="cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(options="", *more, code=0):
    result = CliRunner().invoke(main, ["recall", *options.split(), *more])
    assert result.exit_code == code, result.output
    return result


def made(study, value=0.5):
    """Return results as a run of this study might give them."""
    curve = dict.fromkeys(study.lengths, value)
    rows = (
        Row(task, arch, s, study.lrs[0], study.steps, False, curve)
        for task in study.tasks
        for arch in study.archs
        for s in study.seeds
    )
    return Results(tuple(rows), study.to_dict())


@pytest.fixture
def calls(monkeypatch):
    """Replace the training, and keep what it was called with."""
    seen = []

    def fake(study, out, **options):
        seen.append((study, out, {name: value for name, value in options.items() if name != "watcher"}))
        out.mkdir(exist_ok=True)
        return made(study)

    monkeypatch.setattr("mambattn.recall.run", fake)
    return seen


def test_every_option_reaches_the_study(calls, here):
    invoke(
        "--tasks induction,recall:tau=3:vocab=64 --archs rotary,MAM,hybrid_a:log_scaling=test,MA:window=8 "
        "--seeds 10,11 --lrs 1e-3,2e-3 --steps 7 --train-length 24 --lengths 48,96 --d-model 16 --n-heads 2 "
        "--d-state 4 --norm-position pre --mlp --batch 3 --betas 0.8,0.9 --clip 0.5 --lr-schedule constant "
        "--n-validation 5 --n-test 6 --n-threads 2 --device cpu --time-limit 9.5 --workers 3 --out there"
    )
    study = Study(
        tasks=("induction", "recall:tau=3:vocab=64"),
        archs=("rotary", "MAM", "hybrid_a:log_scaling=test", "MA:window=8"),
        seeds=(10, 11),
        lrs=(1e-3, 2e-3),
        steps=7,
        train_length=24,
        lengths=(48, 96),
        d_model=16,
        n_heads=2,
        d_state=4,
        norm_position="pre",
        mlp=True,
        batch=3,
        betas=(0.8, 0.9),
        clip=0.5,
        lr_schedule="constant",
        n_validation=5,
        n_test=6,
        n_threads=2,
        device="cpu",
    )
    assert all(not study.is_default(name) for name in study.field_names() if name != "preset")
    assert [(given, out.name, options) for given, out, options in calls] == [
        (study, "there", {"workers": 3, "ray": None, "time_limit": 9.5})
    ]


@pytest.mark.parametrize(
    ("options", "study"),
    [
        ("", Study()),
        ("--preset quick", Study.from_preset("quick")),
        ("--preset published", Study.from_preset("published")),
        # The default of Study, said aloud, goes before the preset's.
        ("--preset quick --steps 4000 --seeds 5", Study.from_preset("quick", steps=4000, seeds=(0, 1, 2, 3, 4))),
        ("--preset published --clip 1 --no-mlp", Study.from_preset("published", clip=1)),
        ("--preset study --clip none", Study.from_preset("study", clip=None)),
        ("--seeds 7,", Study(seeds=(7,))),
        ("--seeds 1 --tasks recall:tau=5", Study(seeds=(0,), tasks=("recall_delay",))),
    ],
)
def test_options_go_before_the_preset_and_it_before_the_defaults(calls, options, study):
    invoke(options)
    assert calls[0][0] == study


def test_ray_gets_its_address(calls):
    invoke("--ray auto --archs MM")
    assert calls[0][2] == {"workers": None, "ray": "auto", "time_limit": None}


def test_the_help_shows_the_defaults_of_a_study():
    params = {param.name: param for param in main.commands["recall"].params}
    fields = {field.name: field.default for field in dataclasses.fields(Study)}
    assert set(fields) <= set(params)
    for name in set(fields) - {"preset"}:
        assert params[name].type_cast_value(None, params[name].default) == fields[name], name  # pyright: ignore[reportArgumentType]


def test_what_it_writes_and_prints_is_what_the_library_gives(here):
    result = invoke(f"{TINY} --out out --json rows.json")
    expected = run(STUDY, workers=1)
    rows = json.loads((here / "rows.json").read_text())
    assert rows == [row.to_dict() for row in expected.rows]
    assert [set(row) for row in rows] == 4 * [
        {"task", "arch", "seed", "lr", "steps", "solved", "accuracy", "finished"}
    ]  # fmt: skip
    assert list(rows[0]["accuracy"]) == ["8", "16"]
    assert json.loads((here / "out/results.json").read_text()) == rows
    assert Results.read(here / "out") == expected
    assert len((here / "out/cells.jsonl").read_text().splitlines()) == 2
    assert (here / "out/length_curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (here / "out/delay_sweep.png").exists()
    assert "Who recalls beyond the training length?" in (here / "out/report.html").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["out", "rows.json"]

    printed = [line.rstrip() for line in result.stdout.splitlines()]
    assert "\n".join(printed).startswith(f"{expected.table()}\n")
    assert "Claimed links" in result.stdout
    assert printed[-1] == "Report: out/report.html"
    cells = [line for line in result.stderr.splitlines() if line.startswith("induction, ")]
    for line, arch in zip(cells, ("nope", "MA"), strict=True):
        mean = {
            length: sum(row.accuracy[length] for row in expected.rows_of("induction", arch)) / 2 for length in (8, 16)
        }
        assert line.startswith(
            f"induction, {arch}: solved 0/2, accuracy {mean[8]:.3f} at 8, {mean[16]:.3f} at 16, lr 0.01, in "
        )
    assert "solved 0/2, " not in result.stdout


def test_json_on_standard_output_is_alone_there(here):
    result = invoke(f"{TINY} --json -")
    assert json.loads(result.stdout) == json.loads((here / "recall/results.json").read_text())
    assert "accuracy by length, trained at 8" in result.stderr
    assert "Report: recall/report.html" in result.stderr


@pytest.mark.parametrize("place", ["new/deep/all.json", "new/all.json"])
def test_json_goes_into_a_directory_that_the_run_makes(here, place):
    invoke(f"{TINY} --out new/deep --json {place}")
    assert json.loads((here / place).read_text()) == json.loads((here / "new/deep/results.json").read_text())


def test_a_finished_study_is_read_not_trained_again(here, monkeypatch):
    first = invoke(f"{TINY} --json a.json")
    monkeypatch.setattr("mambattn.recall.running.run_cell", lambda *_: pytest.fail("trained again"))
    again = invoke(f"{TINY} --json b.json")
    assert again.stdout == first.stdout
    assert again.stderr == "2 of 2 cells are kept from an earlier run.\n"
    assert (here / "a.json").read_bytes() == (here / "b.json").read_bytes()


def test_a_study_grows_by_architectures(here):
    invoke(f"{TINY} --archs MA")
    grown = invoke(TINY)
    assert "1 of 2 cells is kept from an earlier run.\n" in grown.stderr
    assert "induction, nope: solved" in grown.stderr
    assert "induction, MA: solved" not in grown.stderr
    assert Results.read(here / "recall") == run(STUDY, workers=1)


def test_without_a_directory_each_study_gets_its_own(calls, here):
    for expected, options in (("recall", ""), ("recall-2", "--steps 9"), ("recall", ""), ("recall-2", "--steps 9")):
        invoke(options)
        study, out, _ = calls[-1]
        assert str(out) == expected
        (out / "settings.json").write_text(json.dumps(study.to_dict()))
    (here / "recall" / "settings.json").write_text("no JSON")
    invoke()
    assert str(calls[-1][1]) == "recall-3"


def test_a_cell_that_the_time_limit_cut_is_marked_and_not_ranked(here):
    result = invoke(f"{TINY} --time-limit 1e-9")
    assert result.stderr.count("cut by the time limit at step 0 of 3") == 2
    assert "Note: Cells cut by the time limit: 2. Run the same command again: it goes on from recall." in result.stderr
    assert result.stdout.count("unfinished") == 2
    rows = json.loads((here / "recall/results.json").read_text())
    assert [(row["finished"], row["solved"], row["lr"], row["accuracy"]) for row in rows] == 4 * [
        (False, False, None, {})
    ]
    assert (here / "recall/report.html").exists()
    invoke(TINY)
    assert Results.read(here / "recall") == run(STUDY, workers=1)


def test_delays_get_a_figure(calls, here):
    invoke("--tasks induction,delay")
    assert (here / "recall/delay_sweep.png").read_bytes().startswith(b"\x89PNG")


def test_chains_of_ones_own_take_the_place_of_the_published_one(calls, here):
    assert "nope < learned" in invoke().stdout
    result = invoke("--out own", "--chain", "mamba < hybrid_a", "--chain", "nope ~ rotary")
    assert "nope < learned" not in result.stdout
    links = [line.split() for line in result.stdout.splitlines() if "ahead" in line or "within" in line]
    assert [line[:3] for line in links] == [["mamba", "<", "hybrid_a"], ["nope", "≈", "rotary"]]
    assert [line[7].rstrip(":") for line in links] == ["tie", "holds"]
    assert "--chain" in (here / "own/report.html").read_text()


@pytest.mark.parametrize(
    "options",
    [
        "--preset published --steps 9 --seeds 7, --mlp --clip 0.5",
        "--preset study --clip none --archs mamba,hybrid_a:log_scaling=test --norm-position pre --seeds 3,1",
        "--seeds 2 --lrs 1e-4 --betas 0.5,0.75",
    ],
)
def test_the_command_on_the_page_repeats_the_study(calls, here, options):
    invoke(f"{options} --out a")
    [command] = re.findall(r"<code>(mambattn recall .*?)</code>", (here / "a/report.html").read_text())
    invoke(f"{html.unescape(command).removeprefix('mambattn recall')} --out b")
    assert calls[0][0] == calls[1][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--task induction", "No such option '--task'."),
        ("--preset quik", "'quik' is not one of 'quick', 'study', 'published'."),
        ("--tasks inducton", "There is no task 'inducton'. Did you mean 'induction'?"),
        ("--tasks recall:tua=3", "The task recall has no option 'tua'. Did you mean 'tau'?"),
        ("--archs hybrd_a", "There is no architecture 'hybrd_a'. Did you mean 'hybrid_a'?"),
        ("--archs MXA", "`schedule` 'MXA' has 'X' at position 2."),
        ("--archs MA:windw=3", "has the unknown option 'windw'. Did you mean 'window'?"),
        ("--archs mamba,mamba", "'mamba' and 'mamba' are the same."),
        ("--archs mamba,,nope", "'mamba,,nope' must be names with commas between."),
        ("--seeds 0", "'0' must be how many seeds, 1 to 1000, or a list of them with commas"),
        ("--seeds 2024", "seed 7 alone is 7, with its comma."),
        ("--seeds five", "'five' must be how many seeds"),
        ("--seeds 1,-1", "`seeds` must hold whole numbers from 0"),
        ("--lrs fast", "'fast' must be numbers with commas between."),
        ("--lrs 0", "`lrs` must hold positive numbers, however one is 0.0."),
        ("--lengths 64.5", "'64.5' must be whole numbers with commas between."),
        ("--lengths 2", "`lengths` must be at least 3 for the task 'induction', however it is 2."),
        ("--steps 0", "`steps` must be an integer in [1, inf), however steps=0."),
        ("--betas 0.9", "`betas` must be two numbers"),
        ("--clip off", "'off' must be a number, or none."),
        ("--norm-position mid", "'mid' is not one of 'post', 'pre'."),
        ("--lr-schedule linear", "'linear' is not one of 'cosine', 'constant'."),
        ("--d-model 7 --n-heads 2", "`d_model` must be divisible by `n_heads`"),
        ("--time-limit 0", "0.0 is not in the range x>0."),
        ("--workers 0", "0 is not in the range x>=1."),
        ("--workers 2 --ray auto", "`workers` does not go with `ray`"),
        ("--device gpu", "`device` must be 'auto' or a torch device"),
        ("--json gone/x.json", "there is no directory 'gone'."),
        ("--json gone/x.json --out new", "there is no directory 'gone'."),
        ("--json new --out new", "'new' is a directory."),
        ("--json new --out new/deep", "'new' is a directory."),
        ("--json= --out new", "'.' is a directory."),
        ("--chain rotary", "`chain` must be names with < or ≈ between"),
        ("--archs MM,MA --chain MM<MAM", "names 'MAM'. "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(here, monkeypatch, options, message):
    monkeypatch.setattr("mambattn.recall.running.run_cell", lambda *_: pytest.fail("trained"))
    result = invoke(options, code=2)
    assert message in result.stderr
    assert result.stdout == ""
    assert list(here.iterdir()) == []


def test_a_directory_of_another_study_is_refused(here):
    invoke(f"{TINY} --out out")
    before = (here / "out/results.json").read_bytes()
    result = invoke(f"{TINY} --out out --steps 4", code=2)
    assert "'out' holds a study with steps=3, however this one has steps=4. Use another directory" in result.stderr
    assert (here / "out/results.json").read_bytes() == before


def test_progress_is_a_bar_that_moves_with_every_step(monkeypatch):
    from mambattn.cli._recall_progress import Narrator

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    with Narrator(train_length=8, n_steps=100) as narrator:
        [bar] = narrator._bar.tasks
        narrator.begin(4, 1)
        assert (bar.completed, bar.total) == (1, 4)
        narrator.step("induction", "MA", 50, 100)
        assert (bar.completed, bar.description) == (1.5, "induction, MA: step 50 of 100")
        narrator.step("induction", "MA", 100, 100)
        assert (bar.completed, bar.description) == (2, "induction, MA: testing")
        narrator.done(Outcome(made(STUDY).rows_of("induction", "MA"), (), 2.0))
        assert bar.completed == 2


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(here):
    command = [sys.executable, "-m", "mambattn.cli", "recall", *TINY.split(), "--steps"]
    process = subprocess.Popen([*command, "1000000"], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (here / "recall/settings.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert errors == "\nInterrupted. Run the same command again: it goes on from recall.\n"
