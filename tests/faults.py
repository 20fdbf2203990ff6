"""The long fault suite: ./run_tests.sh -n 0 -s tests/faults.py. About 20 minutes; it prints what it did and saw.

Its draws come from SEA_FAULTS_SEED (default 0), which it prints. Mounting small and read-only folders needs root; the
tests that do are skipped elsewhere.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from test_cluster import free_port
from test_runs import numbers

from sea import records
from sea.cluster import connect
from sea.files import DamagedFile
from sea.runs import RunError, Settings, run, run_many

HERE = Path(__file__).parent
SEED = int(os.environ.get("SEA_FAULTS_SEED", "0"))
MODELS = ("BPR", "LightGCN", "SEA", "PAMD")
SWEEP = [
    Settings(model, epochs=30, patience=30, seed=seed, lr=1e-2, device="cpu")
    for seed in range(999, 1005)
    for model in MODELS
]
LIST = """
import json, sys
from faults import SWEEP
from sea.runs import run_many
first, root, jobs = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
found = run_many(SWEEP[:first], root, jobs=jobs, progress=False)
print(json.dumps([record.history for record in found]))
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep as this machine does it, one after the other, by nothing disturbed: its folder, records, seconds."""
    root, start = tmp_path_factory.mktemp("whole"), time.perf_counter()
    found = run_many(SWEEP, root, progress=False)
    say(f"one job: {time.perf_counter() - start:.0f} s for {len(found)} runs")
    return root, found


def say(line: str) -> None:
    print(f"\n  {line}", flush=True)


def begin(count: int, root: Path, jobs: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", LIST, str(count), str(root), str(jobs)],
        env=os.environ | {"PYTHONPATH": str(HERE)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that train for a sweep's first one."""
    with suppress(psutil.NoSuchProcess):
        words = {child: " ".join(child.cmdline()) for child in psutil.Process(process.pid).children()}
        return [child for child, line in words.items() if "popen_loky" in line]
    return []


def equal(root: Path, found: list) -> int:
    """How many runs of the sweep, as a folder has them, are the same to the bit."""
    kept = run_many(SWEEP[: len(found)], root, progress=False)
    return sum(numbers(a) == numbers(b) for a, b in zip(kept, found))


def test_two_jobs_against_one(tmp_path, whole):
    """Two jobs begin with two processes, some seconds each; the sweep is still a short one."""
    start = time.perf_counter()
    run_many(SWEEP, tmp_path, jobs=2, progress=False)
    say(f"two jobs: {time.perf_counter() - start:.0f} s")
    assert equal(tmp_path, whole[1]) == len(SWEEP)


def test_twenty_kills_of_workers_and_parents(tmp_path, whole):
    rng, kills = random.Random(SEED), {"worker": 0, "parent": 0}
    process = begin(len(SWEEP), tmp_path, 2)
    while sum(kills.values()) < 20:
        while process.poll() is None and not workers_of(process):
            time.sleep(0.05)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=rng.uniform(0, 8))
        busy = workers_of(process)
        if busy and rng.random() < 0.5:
            rng.choice(busy).kill()
            kills["worker"] += 1
            continue
        if process.poll() is None:
            process.kill()
            kills["parent"] += 1
        else:  # it was done too soon: undo a run
            shutil.rmtree(rng.choice(sorted(tmp_path.iterdir())))
        process.communicate()
        process = begin(len(SWEEP), tmp_path, 2)
    process.communicate()  # a worker may have been killed three times under one run, which is then given up
    same = equal(tmp_path, whole[1])
    say(f"seed {SEED}: {kills['worker']} workers and {kills['parent']} parents killed, {same} of {len(SWEEP)} equal")
    assert same == len(SWEEP)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_race_for_the_same_runs_train_each_once(tmp_path, count, whole):
    racing = [begin(4, tmp_path, 1) for _ in range(count)]
    seen = [json.loads(process.communicate()[0]) for process in racing]
    assert all(histories == seen[0] for histories in seen)  # the seconds of every epoch: the same trainings
    assert equal(tmp_path, whole[1][:4]) == 4
    say(f"{count} processes, 4 runs: each trained once")


def damages(content: bytes, rng: random.Random):
    yield from (content[: len(content) // 2], b"", bytes(len(content)), content[:-1])
    for _ in range(40):
        place = rng.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def test_every_damaged_file_of_a_run_is_noticed_or_harmless(tmp_path, whole):
    rng, made, noticed, harmless = random.Random(SEED), 0, 0, 0
    for record in whole[1][:4]:
        folder = tmp_path / record.folder.name
        shutil.copytree(record.folder, folder)
        records.measure(records.read(folder), "one", lambda _: [1.0, 2.0])
        good = numbers(records.read(folder))
        for path in (folder / "record.json", folder / "weights.safetensors", folder / "ranking.safetensors"):
            content = path.read_bytes()
            for damage in damages(content, rng):
                path.write_bytes(damage)
                made += 1
                if records.finished(folder) is None:
                    noticed += 1
                else:
                    harmless += 1
                    assert numbers(records.read(folder)) == good
            path.write_bytes(content)
        path = folder / records.MEASURES
        content = path.read_bytes()
        for damage in damages(content, rng):
            path.write_bytes(damage)
            made += 1
            found = records.measures(records.read(folder))
            assert found in ({}, {"one": [1.0, 2.0]})
            noticed, harmless = noticed + (not found), harmless + bool(found)
    say(f"files of finished runs: {made} damages, {noticed} noticed, {harmless} harmless (white space), 0 served")


@pytest.mark.parametrize("settings", SWEEP[:4], ids=MODELS)
def test_a_damaged_state_is_never_gone_on_from(tmp_path, settings, whole, monkeypatch):
    good = {record.key: record for record in whole[1]}
    process, state = begin(SWEEP.index(settings) + 1, tmp_path, 1), None
    while state is None:
        state = next(tmp_path.glob(f"*-{settings.model}-*/state.safetensors"), None)
        time.sleep(0.01)
    process.kill()
    process.communicate()
    content, rng, same = state.read_bytes(), random.Random(SEED), 0
    tried = list(damages(content, rng))[:12]
    for damage in tried:
        (state.parent / "record.json").unlink(missing_ok=True)
        state.write_bytes(damage)
        found = run(settings, tmp_path, progress=False)
        same += numbers(found) == numbers(good[found.key])
    say(f"{settings.model}: {len(tried)} damaged states, {same} runs equal in the end")
    assert same == len(tried)


@contextmanager
def mounted(path: Path, options: str):
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@root_only
@pytest.mark.parametrize("kilobytes", [64, 800, 1500, 3000, 5000])
def test_a_full_disk_is_one_line_and_leaves_earlier_records(tmp_path, kilobytes, whole):
    with mounted(tmp_path / "small", f"size={kilobytes}k") as small:
        first, told = [], ""
        for settings in SWEEP:
            try:
                first.append(run(settings, small, progress=False))
            except OSError as error:
                told = str(error)
                break
        assert told.startswith(str(small)) and "No space left" in told and "\n" not in told
        good = {record.key: record for record in whole[1]}
        assert all(numbers(records.finished(one.folder)) == numbers(good[one.key]) for one in first)
        assert not list(small.rglob("*.tmp"))
        with pytest.raises(RunError, match="No space left"):
            run_many(SWEEP[: len(first) + 1], small, progress=False)
        say(f"{kilobytes} KB: {len(first)} runs kept, then: {told.removeprefix(str(small))}")


@root_only
def test_a_read_only_folder_is_one_line_and_serves_what_it_has(tmp_path, whole):
    with mounted(tmp_path / "kept", "size=20m") as kept:
        record = run(SWEEP[0], kept, progress=False)
        subprocess.run(["mount", "-o", "remount,ro", str(kept)], check=True)
        assert vars(run(SWEEP[0], kept, progress=False)) == vars(record)
        assert records.measure(record, "one", lambda _: 1.0) == 1.0
        with pytest.raises(RunError, match=r"1 of 2 runs failed.*Read-only file system") as caught:
            run_many(SWEEP[:2], kept, progress=False)
        assert "\n" not in str(caught.value)
        command = [sys.executable, "-m", "sea", "--profile", "quick", "--only", "05", "--out", str(kept / "out")]
        process = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
        assert process.returncode == 2 and process.stderr.count("\n") == 1 and "Read-only" in process.stderr


class Laboratory:
    """A scheduler and three workers, each started again when it is gone, as a supervisor does."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        worker = ["worker", self.address, "--nthreads", "1", "--death-timeout", "20"]
        self.lines = [["scheduler", "--host", "127.0.0.1", "--port", port], *[worker] * 3]
        self.running: list[subprocess.Popen] = [self.start(line) for line in self.lines]

    def start(self, line: list[str]) -> subprocess.Popen:
        words = [sys.executable, "-m", f"distributed.cli.dask_{line[0]}", "--no-dashboard", *line[1:]]
        return subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)

    def supervise(self) -> None:
        self.running = [one if one.poll() is None else self.start(line) for one, line in zip(self.running, self.lines)]

    def kill_a_worker(self, rng: random.Random) -> None:
        """Kill -9 the process that trains; its nanny starts another."""
        nanny = psutil.Process(rng.choice(self.running[1:]).pid)
        training = [p for p in nanny.children(recursive=True) if "resource_tracker" not in " ".join(p.cmdline())]
        rng.choice(training).kill()

    def close(self) -> None:
        for one in self.running:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()


@pytest.fixture
def laboratory():
    found = Laboratory()
    with connect(found.address, 60) as client:
        client.wait_for_workers(3, timeout=60)
    yield found
    found.close()


ON_CLUSTER = """
import sys, time
from faults import SWEEP
from sea.cluster import Cluster
from sea.runs import run_many
start = time.perf_counter()
run_many(SWEEP, sys.argv[1], progress=False, cluster=Cluster(sys.argv[2], sys.argv[3] == "shared"))
print(f"{time.perf_counter() - start:.0f}")
"""


def on_cluster(root: Path, address: str, shared: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", ON_CLUSTER, str(root), address, shared],
        env=os.environ | {"PYTHONPATH": str(HERE)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def reach(process: subprocess.Popen, root: Path, count: int) -> None:
    while process.poll() is None and len(list(root.glob("*/record.json"))) < count:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()


@pytest.mark.parametrize("shared", ["shared", "away"])
def test_a_worker_killed_twice(tmp_path, laboratory, whole, shared):
    rng, process = random.Random(SEED), on_cluster(tmp_path, laboratory.address, shared)
    for count in (4, 12):
        reach(process, tmp_path, count)
        laboratory.kill_a_worker(rng)
    seconds, errors = process.communicate()
    assert process.returncode == 0, errors
    same = equal(tmp_path, whole[1])
    say(f"3 workers, {shared}, killed twice: {same} of {len(SWEEP)} equal to this machine's, {seconds.strip()} s")
    assert same == len(SWEEP)


@pytest.mark.parametrize("pause", [None, 5])
def test_the_scheduler_restarted_half_way(tmp_path, laboratory, whole, pause):
    process = on_cluster(tmp_path, laboratory.address, "shared")
    if pause:
        reach(process, tmp_path, len(SWEEP) // 2)
        os.killpg(laboratory.running[0].pid, signal.SIGKILL)
        laboratory.running[0].wait()
        time.sleep(pause)
        while process.poll() is None:
            laboratory.supervise()
            time.sleep(1)
    seconds, errors = process.communicate()
    assert process.returncode == 0, errors
    same = equal(tmp_path, whole[1])
    what = f"scheduler killed, back after {pause} s" if pause else "undisturbed"
    say(f"3 workers, {what}: {same} of {len(SWEEP)} equal, {seconds.strip()} s")
    assert same == len(SWEEP)


def test_ctrl_c_on_the_client_leaves_finished_runs_and_begins_no_other(tmp_path, laboratory):
    process = on_cluster(tmp_path, laboratory.address, "shared")
    reach(process, tmp_path, 4)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    time.sleep(20)
    kept = len(list(tmp_path.glob("*/record.json")))
    say(f"Ctrl-C after 4 of {len(SWEEP)} runs: {kept} are kept, 3 of which were under way")
    assert 4 <= kept <= 4 + 3 + 1


def test_a_damaged_published_store_is_named(tmp_path):
    """Each file of the store, damaged in 44 ways: refused by its name, or the same runs as before."""
    from sea import published

    rng, made, noticed = random.Random(SEED), 0, 0
    shutil.copytree(published.RECORDS / "ml100k", tmp_path / "ml100k")
    good = [(r.key, r.metrics, r.ranking().recommended.tolist()) for r in published.read("ml100k", tmp_path)]
    for path in sorted(p for p in (tmp_path / "ml100k").rglob("*") if p.is_file() and p.stat().st_size):
        content = path.read_bytes()
        for damage in damages(content, rng):
            path.write_bytes(damage)
            made += 1
            try:
                found = [
                    (r.key, r.metrics, r.ranking().recommended.tolist()) for r in published.read("ml100k", tmp_path)
                ]
                assert found == good
            except DamagedFile as error:
                noticed += 1
                assert str(path.name) in str(error) and "\n" not in str(error)
        path.write_bytes(content)
    say(f"published store: {made} damages, {noticed} noticed")
