"""A real Dask scheduler with two worker processes, and what a client may find there."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sea.__main__ as main
from sea import cluster, runs
from sea.cluster import Cluster
from sea.runs import RunError, Settings, run_many

HERE = Path(__file__).parent
QUICK = Settings("BPR", epochs=3, batch_size=512, device="cpu", lr=1e-2)
TWO = [replace(QUICK, seed=seed) for seed in (1, 2)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def begin(program: str, *options: str) -> subprocess.Popen:
    """One of Dask's programs: it knows this folder's functions, and one death of a worker makes a task a suspect."""
    own = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": str(HERE), "SEA_PROGRESS": ""}
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{program}", "--no-dashboard", *options],
        env=os.environ | own, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def address():
    where = f"127.0.0.1:{free_port()}"
    started = [begin("scheduler", "--host", "127.0.0.1", "--port", where.rpartition(":")[2])]
    started += [begin("worker", where, "--nthreads", "1", "--resources", "GPU=1") for _ in range(2)]
    with cluster.connect(where, 60) as client:
        client.wait_for_workers(2, timeout=60)
    yield where
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def numbers(found):
    return [(record.files, record.metrics, record.best_epoch) for record in found]


def test_shared_or_not_the_runs_are_those_of_this_machine(tmp_path, address):
    here = run_many(TWO, tmp_path / "here", progress=False)
    for shared in (True, False):
        root = tmp_path / str(shared)
        found = run_many(TWO, root, progress=False, cluster=Cluster(address, shared))
        assert numbers(found) == numbers(here)
        assert [record.folder.parent for record in found] == [root] * 2
        kept = {path.name for path in found[0].folder.iterdir()}
        assert kept - {"lock"} == {"record.json", *found[0].files}


def test_two_clients_that_ask_for_the_same_run_get_one_training(tmp_path, address):
    found, asked = {}, replace(QUICK, seed=7, epochs=30, patience=30)

    def ask(name):
        found[name] = run_many([asked], tmp_path / name, progress=False, cluster=Cluster(address, False))[0]

    clients = [threading.Thread(target=ask, args=(name,)) for name in ("one", "two")]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert found["one"].history == found["two"].history  # the seconds of every epoch: it was the same one


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_fails_is_named_and_the_rest_is_done(tmp_path, address):
    asked = [replace(QUICK, device="cuda"), QUICK, replace(QUICK, lr=1e30)]  # the workers say that they had a GPU
    rule = r"^1 of 3 runs failed, the others are done\. BPR .*: 'device' needs to be cpu or auto .* \(got 'cuda'\)$"
    with pytest.raises(RunError, match=rule):
        run_many(asked, tmp_path, progress=False, cluster=Cluster(address))
    assert len(list(tmp_path.glob("*/record.json"))) == 2


def die_of_seed_1(attempt, name, settings, root):
    if settings.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return cluster_train(attempt, name, settings, root)


cluster_train = cluster._train


def test_a_run_that_kills_its_worker_is_given_up_and_the_rest_is_done(tmp_path, address, monkeypatch):
    monkeypatch.setattr(cluster, "_train", die_of_seed_1)
    asked = [replace(QUICK, seed=seed) for seed in (1, 2, 3, 4)]
    with pytest.raises(RunError, match=r"^1 of 4 runs failed.* BPR seed 1 .*: its worker was killed several times"):
        run_many(asked, tmp_path, progress=False, cluster=Cluster(address))
    assert len(list(tmp_path.glob("*/record.json"))) == 3


def test_what_has_not_begun_is_cancelled_when_the_client_leaves(tmp_path, address):
    asked = [replace(QUICK, seed=seed, epochs=20, patience=20) for seed in range(10, 30)]
    tasks = {runs.place(one, runs.load(*runs.source(one)), tmp_path)[0]: one for one in map(runs.complete, asked)}
    coming = cluster.train_all(tasks, tmp_path, Cluster(address), runs.attempt)
    first = next(coming)[1]
    coming.close()  # as Ctrl-C does
    with cluster.connect(address) as client:
        end = time.monotonic() + 60
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            assert time.monotonic() < end
            time.sleep(0.1)
    assert first.metrics
    assert len(list(tmp_path.glob("*/record.json"))) < len(asked) / 2


def test_a_worker_with_other_code_is_told_and_trains_nothing(tmp_path):
    found = cluster._train(runs.attempt, "planted-BPR-0123456789abcdef", runs.complete(QUICK), tmp_path)
    assert isinstance(found, RunError) and "other code or data than the client" in str(found)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nobody", ":", "a b"])
def test_no_scheduler_is_one_line(address):
    rule = r"^'cluster' needs to be HOST:PORT of a Dask scheduler that answers \(got .*\)$"
    with pytest.raises(ValueError, match=rule) as caught:
        cluster.connect(address, 0.5)
    assert "\n" not in str(caught.value)


def test_the_command_tells_the_notebooks_of_the_cluster(monkeypatch, address):
    for name in ("SEA_CLUSTER", "SEA_NO_SHARED_FILES"):
        monkeypatch.setenv(name, "")
    assert Cluster.of_environment() is None
    options = main.parse(["--cluster", address, "--no-shared-files", "--device", "cuda"])
    assert main._prepare_cluster(options) == "cuda"
    assert Cluster.of_environment() == Cluster(address, shared_files=False)
