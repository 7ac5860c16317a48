"""Workers keep going, whatever the memory they hold."""

import os
import sys
import time

import joblib
import numpy as np
import pandas as pd
import pytest

from mambattn.compare._fitting import Workload
from mambattn.compare._pool import open_workers
from mambattn.compare._table import make_table
from mambattn.configs import PreprocessingConfig, TrainerConfig

pytest.importorskip("psutil", reason="without psutil loky never looks at the memory of its workers")


@joblib.wrap_non_picklable_objects  # the workers cannot import this file
def hold(work, megabytes, seconds):
    """Hold memory as long as the process lives, and say in which one."""
    sys.held = [*getattr(sys, "held", []), np.ones(megabytes << 17)]
    time.sleep(seconds)
    return os.getpid()


def test_a_worker_that_grows_is_kept():
    table, _ = make_table(
        pd.DataFrame({"a": range(12)}),
        pd.Series([0, 1] * 6),
        task="auto",
        folds=2,
        seeds=1,
        random_state=0,
        categorical_columns=(),
        target_name=None,
    )
    work = Workload(table, PreprocessingConfig(), TrainerConfig(), 0, n_threads=1)
    with open_workers(work, 2) as workers:
        processes = {workers.submit(hold, size, 1.1).result() for size in (1, 400, 1, 1)}
    assert len(processes) <= 2
