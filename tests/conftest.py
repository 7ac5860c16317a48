"""Shared test set-up: one thread (tiny models are far faster so), and the folder of real data where it exists."""

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # The GPU kernels run in triton's interpreter, which is chosen before triton is imported for the first time.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell starts its background jobs with Ctrl-C ignored, and that is inherited; the tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of real data sets, or skip."""
    folder = Path(os.environ.get("MAMBATTN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of data sets; set MAMBATTN_DATA")
    return folder
