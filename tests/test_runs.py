import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from sea import runs
from sea.data import load
from sea.evaluate import evaluate
from sea.runs import PROFILES, Settings, code_version, plan, provenance, run, run_many, summary

QUICK = Settings("BPR", epochs=3, batch_size=512, device="cpu", lr=1e-2)
VOLATILE = ("seconds_per_epoch", "peak_memory", "history", "environment", "folder")


def numbers(record):
    """All that has to be the same when a run is done again."""
    history = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in record.history]
    weights = [v.tolist() for v in record.model(load(record.settings.dataset)).state_dict().values()]
    return record.metrics, record.best_epoch, record.stopped, history, weights


def test_a_run_is_done_once_and_its_record_holds(tmp_path, monkeypatch):
    record = run(QUICK, tmp_path, progress=False)
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "lock", "record.json", "users.safetensors", "weights.safetensors",
    ]  # fmt: skip
    monkeypatch.setattr(runs, "fit", None)  # training again would fail
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
    monkeypatch.setattr(runs, "code_version", lambda model: "another")
    assert key(QUICK) not in others | {first}


def test_the_code_version_sees_code_and_not_comments(tmp_path, monkeypatch):
    shutil.copytree(os.path.dirname(runs.__file__), tmp_path / "sea")
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "sea" / "runs.py"))
    monkeypatch.setattr(runs.inspect, "getfile", lambda cls: str(tmp_path / "sea" / "models" / "bpr.py"))

    def version(edit=None):
        if edit:
            path = tmp_path / "sea" / "losses.py"
            path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
        code_version.cache_clear()
        return code_version("BPR")

    first = version()
    assert version(lambda text: "# a comment\n" + text.replace('"""Every loss', '"""Each loss')) == first
    assert version(lambda text: text.replace("softplus", "relu")) != first
    code_version.cache_clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "XYZ"}, r"'model' needs to be one of BPR, LightGCN, SEA.* \(got 'XYZ'\)"),
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


def test_many_runs_come_back_in_order_and_jobs_do_not_matter(tmp_path):
    settings = [replace(QUICK, seed=seed, model=model) for seed in (1, 2) for model in ("BPR", "LightGCN")]
    parallel = run_many(settings, tmp_path / "a", jobs=2, progress=False)
    assert [(r.settings.model, r.settings.seed) for r in parallel] == [(s.model, s.seed) for s in settings]
    for a, b in zip(parallel, run_many(settings, tmp_path / "b", progress=False)):
        assert numbers(a) == numbers(b)


def test_summary_is_mean_and_t_interval(tmp_path):
    records = run_many([replace(QUICK, seed=seed) for seed in (1, 2, 3)], tmp_path, progress=False)
    values = [r.metrics["test"]["recall@20"] for r in records]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    row = summary(records).loc["BPR"]
    assert row["seeds"] == 3
    assert row["recall@20"] == pytest.approx(np.mean(values))
    assert row["recall@20 ±"] == pytest.approx((high - low) / 2)
    assert pd.isna(summary(records[:1]).loc["BPR", "recall@20 ±"])
    stamp = provenance(records)
    assert stamp["dataset"] == "planted"
    assert len(stamp["runs"]) == 3
    json.dumps(stamp)


def test_interval_is_the_t_interval_and_one_row_has_none():
    rows = pd.DataFrame({"k": ["a"] * 3 + ["b"], "x": [1.0, 2.0, 6.0, 5.0]})
    table = runs.interval(rows, ["k"])
    low, high = stats.t.interval(0.95, 2, 3.0, stats.sem([1.0, 2.0, 6.0]))
    assert table.loc["a", "x"] == 3
    assert table.loc["a", "x ±"] == pytest.approx((high - low) / 2)
    assert table.loc["b", "x"] == 5
    assert np.isnan(table.loc["b", "x ±"])


def test_a_plan_gives_every_model_the_same(monkeypatch):
    settings = plan(["BPR", "SEA"], "planted", "default")
    assert len(settings) == 2 * PROFILES["default"]["seeds"]
    assert {replace(s, model="", seed=0).__repr__() for s in settings} == {
        replace(settings[0], model="", seed=0).__repr__()
    }
    assert plan(["SEA"], "baby", "paper", seeds=2)[1].seed == 1000
    assert plan(["SEA"], "baby", "paper")[0].batch_size == 2048
    with pytest.raises(ValueError, match="'profile' needs to be one of quick, default, paper"):
        plan(["SEA"], "planted", "fast")


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
