"""A directory is of one run at a time, and a run that was killed does not keep it."""

import errno
import subprocess
import sys

import pytest

from mambattn._errors import DataError
from mambattn.training import files
from mambattn.training.files import reserved

HOLD = """
import sys, time
from pathlib import Path
from mambattn.training.files import reserved

with reserved(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
BUSY = r"^`out` must be the directory of one run at a time, however another run is at work in '.*new'\. Wait until it has ended, or use another directory\.$"


def test_a_directory_is_of_one_run_at_a_time(tmp_path):
    for _ in range(2):
        with reserved(tmp_path / "deep" / "new"):
            for _ in range(2):
                with pytest.raises(DataError, match=BUSY), reserved(tmp_path / "deep" / "new"):
                    pass
        assert list((tmp_path / "deep" / "new").iterdir()) == []


def test_a_killed_process_keeps_nothing(tmp_path):
    out = tmp_path / "new"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=BUSY), reserved(out):
            pass
        process.kill()
    assert [path.name for path in out.iterdir()] == ["lock"]
    with reserved(out):
        pass
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path, monkeypatch, replaced):
    def end_of_the_other_run(file):
        (tmp_path / "new" / "lock").unlink()
        if replaced:
            (tmp_path / "new" / "lock").touch()

    monkeypatch.setattr(files, "_lock", end_of_the_other_run)
    with pytest.raises(DataError, match=BUSY), reserved(tmp_path / "new"):
        pass


def test_a_file_system_without_locks_forbids_nothing(tmp_path, monkeypatch):
    def refuse(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_lock", refuse)
    with reserved(tmp_path / "new"), reserved(tmp_path / "new"):
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").touch()
    message = r"^`out` must be a directory, however '.*file' is a file\. Use another name\.$"
    with pytest.raises(DataError, match=message), reserved(tmp_path / "file"):
        pass
