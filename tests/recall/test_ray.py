"""A Ray cluster of which a node dies gives the same results, and leaves nothing behind."""

import os
import re
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from mambattn._errors import BackendUnavailableError, ConfigError, MambAttnError
from mambattn.recall import pool, run, running
from mambattn.recall.outcome import run_cell

pytestmark = pytest.mark.slow  # a cluster takes ten seconds to start

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(autouse=True)
def own_folder(monkeypatch):
    """Keep what Ray knows of clusters, which it looks up by a file, from other processes; short, for its sockets."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield


@pytest.fixture
def cluster():
    """Start a head with one CPU; what its nodes started is gone afterwards."""
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()
    assert not ray.is_initialized()
    assert not [
        process for process in psutil.Process().children(recursive=True) if "ray" in " ".join(process.cmdline())
    ]


def wait_for(path):
    """Wait until a file is there; not for ever, so that a test fails instead of hanging."""
    deadline = time.monotonic() + 500  # Ray runs its workers at low priority
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_node(cluster, node):
    """End all processes of a node at once, as when its machine is lost."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in raylet.children(recursive=True):
        process.kill()
    cluster.remove_node(node, allow_graceful=False)


def test_a_cluster_that_loses_a_node_gives_the_same_bytes(cluster, tiny, kept, tmp_path, monkeypatch, capfd):
    study = tiny(archs=("mamba", "learned", "hybrid_a"), steps=110)
    run(study, tmp_path / "here", workers=1)
    doomed = cluster.add_node(num_cpus=1)
    doomed_id, hung, out = doomed.node_id, tmp_path / "hung", tmp_path / "ray"

    def run_cell_on_a_node(*call):
        """On the doomed node, hang at step 100; elsewhere, begin only then: so it has a cell, whoever is faster."""
        here = ray.get_runtime_context().get_node_id()

        def hang(n_done):
            if here == doomed_id and n_done == 100:
                hung.write_text(str(call[4]))
                time.sleep(600)

        if here != doomed_id:
            wait_for(hung)
        return run_cell(*call, progress=hang)

    n_steps = []

    def kill():
        wait_for(hung)
        kill_node(cluster, doomed)
        n_steps.append(int(load_file(Path(hung.read_text()))["step"]))

    monkeypatch.setattr(running, "run_cell", run_cell_on_a_node)
    monkeypatch.setattr(running, "_SAVE_EVERY", 0.0)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    capfd.readouterr()
    results = run(study, out, ray=cluster.address)
    killer.join(timeout=120)
    said = capfd.readouterr()
    # Only Ray says something: that the call of the lost node is tried again, and on a slow machine what it waits for.
    lines = re.sub(r"\x1b\[\d+m", "", said.out + said.err).splitlines()
    assert [line for line in lines if not line.startswith(("[", "("))] == []
    assert n_steps == [99]
    assert kept(out) == kept(tmp_path / "here")
    assert len(results.rows) == 6
    assert not list((out / "checkpoints").iterdir())


def test_a_cluster_of_the_caller_stays_up(cluster, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(pool, "_N_RETRIES", 1)

    def call(number, n_deaths):
        """Kill the process until it was killed so often; refuse odd numbers."""
        died = list(tmp_path.glob(f"{number}-*"))
        if len(died) < n_deaths:
            (tmp_path / f"{number}-{len(died)}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number % 2:
            raise ConfigError(f"`number` must be even, however number={number}.")
        return number

    def results(*calls):
        return sorted(pool.run_on_ray(call, calls, cluster.address, n_cpus=1, n_gpus=0))

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        capfd.readouterr()
        assert results((2, 0), (4, 1), (6, 0)) == [2, 4, 6]
        with pytest.raises(ConfigError, match=r"^`number` must be even, however number=3\.$"):
            results((3, 0))
        message = r"^A cell was lost on the Ray cluster 2 times, most often for lack of memory\. Use larger nodes\. With the same `out`, "
        with pytest.raises(MambAttnError, match=message):
            results((8, 2))
        assert capfd.readouterr().err == ""
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:{port}", "auto"])
def test_no_cluster_is_said_so_at_once(address, monkeypatch):
    monkeypatch.setattr(pool, "_PATIENCE", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening, so that nothing answers
        port = taken.getsockname()[1]
        address = address.format(port=port)
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(
            BackendUnavailableError,
            match=rf"^There is no Ray cluster at ray='{address}' \(.+\)\. "
            r"Start one with `ray start --head`, or use 'local'\.$",
        ):
            next(pool.run_on_ray(len, [((),)], address, n_cpus=1, n_gpus=0))
        assert time.monotonic() - began < 10


def test_the_address_of_a_client_is_refused():
    with pytest.raises(
        ConfigError, match=r"^`ray` must be 'auto', 'local' or 'host:port', however ray='ray://head:10001'"
    ):
        next(pool.run_on_ray(len, [((),)], "ray://head:10001", n_cpus=1, n_gpus=0))
