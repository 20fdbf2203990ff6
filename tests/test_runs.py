import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from conftest import untimed

from sea import runs
from sea.data import load
from sea.evaluate import evaluate
from sea.runs import Settings, run, run_many

QUICK = Settings("BPR", epochs=3, batch_size=512, device="cpu", lr=1e-2)
VOLATILE = ("seconds_per_epoch", "peak_memory", "history", "environment", "folder")


def numbers(record):
    """All that has to be the same when a run is done again."""
    weights = [v.tolist() for v in record.model(load(record.settings.dataset)).state_dict().values()]
    return record.metrics, record.best_epoch, record.stopped, untimed(record.history), weights


def test_a_run_is_done_once_and_its_record_holds(tmp_path, monkeypatch):
    record = run(QUICK, tmp_path, progress=False)
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "lock", "record.json", "users.safetensors", "weights.safetensors",
    ]  # fmt: skip
    monkeypatch.setattr(runs, "_train", None)  # training again would fail
    again = run(QUICK, tmp_path, progress=False)
    assert vars(again) == vars(record)
    world = load("planted")
    model = again.model(world)
    for split in ("valid", "test"):
        fresh = evaluate(*model.vectors(), world, split)
        stored = again.scores(split)
        assert (stored.users == fresh.users).all()
        for metric, values in fresh.values.items():
            assert (stored.values[metric] == values).all()
            assert record.metrics[split][metric] == values.mean()


def test_every_value_that_reaches_the_model_makes_another_run(tmp_path, monkeypatch):
    def key(settings):
        return run(settings, tmp_path, progress=False).key

    first = key(QUICK)
    others = {
        key(replace(QUICK, **change))
        for change in (
            {"seed": 1},
            {"lr": 2e-2},
            {"batch_size": 256},
            {"epochs": 2},
            {"patience": 1},
            {"params": {"reg": 0.2}},
        )
    }
    assert len(others | {first}) == 7
    assert key(replace(QUICK, params={"reg": 0.1})) == first  # the default, said aloud
    monkeypatch.setattr(runs, "code_version", lambda *roots: "another")
    assert key(QUICK) not in others | {first}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "XYZ"}, r"'model' needs to be one of BPR, LightGCN, .* \(got 'XYZ'\)"),
        ({"params": {"regg": 1}}, r"'params' of BPR needs names among dim, reg .* \(got 'regg'\)"),
        ({"epochs": 0}, r"'epochs' needs to be at least 1 in 'Settings' \(got 0\)"),
        ({"device": "tpu"}, r"'device' needs to be auto, cpu or cuda \(got 'tpu'\)"),
    ],
)
def test_unknown_settings_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run(replace(QUICK, **change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_seas_settings_include_the_plug_ins():
    known = runs._complete(Settings("SEA", device="cpu")).params
    assert (known["alpha"], known["beta"], known["tau"], known["q_steps"], known["k"]) == (0.012, 0.006, 0.2, 50, 10)
    plugged = runs._complete(Settings("VBPR+SEA", device="cpu")).params  # a model's own defaults go first
    assert (plugged["alpha"], plugged["beta"], plugged["tau"], plugged["q_steps"]) == (0.1, 0.01, 0.1, 50)


def test_progress_is_kept_where_it_is_asked_for(tmp_path, monkeypatch):
    line = tmp_path / "line"
    monkeypatch.setenv("SEA_PROGRESS", str(line))
    settings = [replace(QUICK, seed=seed) for seed in (1, 2)]
    seen = []
    monkeypatch.setattr(runs, "write_atomically", lambda path, write: (write(path), seen.append(path.read_text())))
    run_many(settings, tmp_path / "runs", progress=False)
    lines = [text for text in seen if "trainings" in text]
    assert lines == ["1 of 2 trainings done, about 0 min left", "2 of 2 trainings done, about 0 min left"]


def test_the_time_left_goes_by_the_model_first(tmp_path):
    record = run(QUICK, tmp_path, progress=False)

    def lasting(seconds, model):
        rows = [{"seconds": seconds / 2, "seconds_evaluate": seconds / 2}]
        return replace(record, settings=replace(QUICK, model=model), history=rows)

    settings = [replace(QUICK, model=model) for model in ("BPR", "SEA", "BPR", "SEA", "LightGCN", "SEA")]
    missing = [False, True, True, True, True, False]  # the last was trained before: it takes no time
    left = runs._minutes_left(settings, missing, [lasting(60, "BPR"), lasting(600, "SEA")])
    assert left == pytest.approx(1 + 10 + (1 + 10) / 2)  # LightGCN: the mean of all


def test_trainings_that_are_there_already_take_no_time(tmp_path, monkeypatch):
    settings = [replace(QUICK, seed=seed) for seed in (1, 2, 3)]
    run(settings[2], tmp_path, progress=False)
    asked = []
    monkeypatch.setattr(runs, "_minutes_left", lambda s, missing, records: asked.append(missing) or 0.0)
    run_many(settings, tmp_path, progress=False)
    assert asked == [[True, True, False]] * 3  # as it was before the first of them began


def test_many_runs_come_back_in_order_and_jobs_do_not_matter(tmp_path):
    settings = [replace(QUICK, seed=seed, model=model) for seed in (1, 2) for model in ("BPR", "LightGCN")]
    parallel = run_many(settings, tmp_path / "a", jobs=2, progress=False)
    assert [(r.settings.model, r.settings.seed) for r in parallel] == [(s.model, s.seed) for s in settings]
    for a, b in zip(parallel, run_many(settings, tmp_path / "b", progress=False)):
        assert numbers(a) == numbers(b)


KILLED = """
import sys
from sea.runs import Settings, run
settings = Settings("SEA", epochs=12, batch_size=512, device="cpu", lr=1e-3, params={"q_steps": 5})
run(settings, sys.argv[1], progress=False)
"""


def stored(root):
    return [path.stat().st_mtime_ns for path in root.glob("*/state.safetensors")]


def test_kill_9_at_any_moment_and_the_same_numbers_come_out(tmp_path):
    """A training that is killed again and again, each time some way on, ends like one that was left alone."""
    settings = Settings("SEA", epochs=12, batch_size=512, device="cpu", lr=1e-3, params={"q_steps": 5})
    whole = run(settings, tmp_path / "whole", progress=False)
    rng, root = random.Random(0), tmp_path / "killed"
    kills = 0
    for _ in range(5):
        before, deadline = stored(root), time.monotonic() + 120
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(root)])
        while stored(root) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)  # into the next epoch, or into the writing of its state
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 2  # the later ones may have come too late
    assert numbers(run(settings, root, progress=False)) == numbers(whole)
    assert not list(root.glob("*/state*"))


def test_the_default_device_is_what_is_there():
    assert runs.default_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
