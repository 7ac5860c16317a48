"""Worker processes do not outlive the process they work for."""

import subprocess
import sys

import psutil
import pytest

POOL = """
import os, time
from mambattn.training.workers import open_pool

with open_pool(1, mend="") as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process that its parent is gone")
def test_workers_end_when_their_run_is_killed():
    with subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = psutil.Process(int(process.stdout.readline()))
        assert worker.is_running()
        process.kill()
    try:
        worker.wait(timeout=20)
    finally:
        if worker.is_running():
            worker.kill()
