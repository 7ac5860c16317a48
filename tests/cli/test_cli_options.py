"""The options of each command, frozen; and that asking for help costs nothing."""

import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from mambattn.cli import main

OPTIONS = {
    "compare": "data --target --folds --seeds --max-epochs --time-limit --models --schedule --ablate --task --metric "
    "--drop --categorical --device --jobs --random-state --json --out",
    "fit": "data --target --model --schedule --set --task --drop --categorical --device --random-state --out",
    "predict": "model data --out --proba",
    "explain": "model data --text --ids --target --method --rows --background --evaluate --random-state --json --out",
    "describe": "what --d-model --seq-len --json",
    "recall": "--preset --tasks --archs --seeds --lrs --steps --train-length --lengths --d-model --n-heads --d-state "
    "--norm-position --mlp --batch --betas --clip --lr-schedule --n-validation --n-test --n-threads --device --chain "
    "--time-limit --workers --ray --json --out",
    "bench": "--case --op --all --list --device --threads --rounds --json",
}
DEFAULTS = {
    "compare": {"folds": 3, "seeds": 1, "task": "auto", "device": "auto", "random_state": 0},
    "fit": {"model": "mambattention", "task": "auto", "device": "auto", "random_state": 0},
    "predict": {"out": "-"},
    "explain": {"method": "lrp", "n_rows": 32, "random_state": 0},
    "describe": {},
    "recall": {"tasks": "induction", "seeds": "5", "steps": 4000, "device": "auto"},
    "bench": {"device": "auto", "threads": 1, "rounds": 7},
}
REPEATABLE = {"schedules", "ablate", "drop", "categorical", "settings", "cases", "ops", "chains"}


def test_the_commands_and_their_options_are_these():
    assert {
        name: " ".join(param.opts[0] for param in command.params) for name, command in main.commands.items()
    } == OPTIONS


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_and_help(name):
    command = main.commands[name]
    params = {param.name: param for param in command.params}
    assert {key: params[key].default for key in DEFAULTS[name]} == DEFAULTS[name]
    assert {key for key, param in params.items() if param.multiple} == REPEATABLE & set(params)
    help_text = CliRunner().invoke(main, [name, "--help"])
    assert help_text.exit_code == 0
    for param in params.values():
        if isinstance(param, click.Option):
            assert param.help
            assert param.help.rstrip()[-1] in ".]"
            assert param.opts[0] in help_text.stdout


def test_help_imports_nothing_heavy_and_is_quick():
    code = (
        "import sys; from mambattn.cli import main; main(['--help'], standalone_mode=False); "
        "heavy = {'torch', 'pandas', 'numpy', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        taken.append(time.perf_counter() - start)
        assert ran.returncode == 0, ran.stderr
    assert "compare" in ran.stdout
    assert min(taken) < 0.3


def test_version():
    from importlib.metadata import version

    assert CliRunner().invoke(main, ["--version"], prog_name="mambattn").stdout == f"mambattn {version('mambattn')}\n"
