import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import joblib
import psutil
import pytest
import torch
from conftest import untimed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from sea import files, machine, records, runs, train
from sea.data import load, planted
from sea.evaluate import evaluate
from sea.models import MODELS
from sea.runs import RunError, Settings, run, run_many

QUICK = Settings("BPR", epochs=3, batch_size=512, device="cpu", lr=1e-2)
FILES = ["record.json", "ranking.safetensors", "weights.safetensors"]


def numbers(record):
    """All that has to be the same when a run is done again."""
    weights = [v.tolist() for v in record.model(record.data()).state_dict().values()]
    return record.metrics, record.best_epoch, record.stopped, untimed(record.history), record.files, weights


def test_a_run_is_done_once_and_its_record_holds(tmp_path, monkeypatch):
    record = run(QUICK, tmp_path, progress=False)
    assert sorted(path.name for path in record.folder.iterdir()) == sorted([*FILES, "lock"])
    monkeypatch.setattr(runs, "_train", None)  # training again would fail
    again = run(QUICK, tmp_path, progress=False)
    assert vars(again) == vars(record)
    world = load("planted")
    model = again.model(world)
    for split in ("valid", "test"):
        fresh = evaluate(*model.vectors(), world, split)
        stored = again.ranking(split)
        assert (stored.users == fresh.users).all()
        assert (stored.recommended == fresh.recommended).all()
        for metric, values in fresh.values.items():
            assert (stored.values[metric] == values).all()
            assert record.metrics[split][metric] == values.mean()


def test_a_finished_run_is_served_from_a_folder_that_cant_be_written(tmp_path, monkeypatch):
    record = run(QUICK, tmp_path, progress=False)
    monkeypatch.setattr(runs, "FileLock", None)  # a lock would have to be written
    for path in (record.folder, *record.folder.iterdir(), tmp_path):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert vars(run(QUICK, tmp_path, progress=False)) == vars(record)
        assert [vars(r) for r in run_many([QUICK], tmp_path, progress=False)] == [vars(record)]
    finally:
        for path in (tmp_path, record.folder):
            path.chmod(0o755)


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
    with monkeypatch.context() as patch:
        patch.setattr(records, "REVISION", train.REVISION + 1)
        others.add(key(QUICK))
    with monkeypatch.context() as patch:
        patch.setattr(MODELS["BPR"], "revision", MODELS["BPR"].revision + 1)
        others.add(key(QUICK))
    assert len(others | {first}) == 9
    assert (
        key(replace(QUICK, params={"reg": records.complete(QUICK).params["reg"]})) == first
    )  # the default, said aloud


PRINT_KEY = """
from sea.data import load
from sea.records import Settings, complete, place
print(place(complete(Settings("SEA", device="cpu")), load("planted"), "")[0])
"""


def test_a_key_names_what_is_asked_and_not_who_asks():
    """Another process, another hash seed: the same folder. Commit and versions are in the record, not in its name."""
    keys = {
        subprocess.check_output(
            [sys.executable, "-c", PRINT_KEY], env=os.environ | {"PYTHONHASHSEED": seed, "PATH": ""}, text=True
        )
        for seed in ("0", "1")
    }
    assert len(keys) == 1


@pytest.mark.parametrize("model", MODELS)
def test_q_takes_the_step_size_of_the_model_as_in_the_released_program_unless_it_is_given(model):
    """There `optimizer_D`, of CLUB's q, has the model's learning rate. No other setting depends on it."""
    known = MODELS[model].settings()
    follows = {"q_lr": 0.02} if "q_lr" in known else {}
    assert records.complete(Settings(model, lr=0.02)).params == known | follows
    if follows:
        assert records.complete(Settings(model)).params["q_lr"] == MODELS[model].lr
        given = records.complete(Settings(model, lr=0.02, params={"q_lr": 3e-4}))
        assert given.params["q_lr"] == 3e-4
        (group,) = records.build(given, planted(30, 20, n_factors=2, seed=0)).separate.q.optimizer.param_groups
        assert group["lr"] == 3e-4


def test_a_record_says_what_ran(tmp_path):
    record = run(QUICK, tmp_path, progress=False)
    assert record.revisions == {"training": train.REVISION, "model": MODELS["BPR"].revision}
    assert record.environment["torch"] == torch.__version__
    assert record.environment["python"] == sys.version.split()[0]
    assert "(" in record.environment["device"] and not record.environment["device"].endswith("()")


def test_the_commit_and_whether_the_package_is_as_committed(tmp_path, monkeypatch):
    package = tmp_path / "sea"
    package.mkdir()
    (package / "machine.py").write_text("x = 1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    monkeypatch.setattr(machine, "__file__", str(package / "machine.py"))
    commit = machine.commit.__wrapped__
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    (tmp_path / "notes").write_text("beside the package")
    assert commit() == head
    (package / "machine.py").write_text("x = 2\n")
    assert commit() == f"{head}, modified"
    monkeypatch.setenv("PATH", "")
    assert commit() == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "XYZ"}, r"'model' needs to be one of BPR, LightGCN, .* \(got 'XYZ'\)"),
        ({"params": {"regg": 1}}, r"'params' of BPR needs names among dim, reg .* \(got 'regg'\)"),
        ({"epochs": 0}, r"'epochs' needs to be at least 1 in 'Settings' \(got 0\)"),
        ({"device": "tpu"}, r"'device' needs to be auto, cpu or cuda \(got 'tpu'\)"),
        ({"lr": 0.0}, r"'lr' needs to be above 0 and finite in 'Settings' \(got 0.0\)"),
        ({"lr": float("nan")}, r"'lr' needs to be above 0 and finite"),
        ({"model": "SEA", "params": {"align": "bogus"}}, r"'align' needs to be one of .* \(got 'bogus'\)"),
        ({"model": "SEA", "params": {"tau": 0.0}}, r"'tau' needs to be above 0 .* \(got 0.0\)"),
        ({"model": "BM3", "params": {"drop": 1.5}}, r"'p' needs to be at least 0 and below 1 .* \(got 1.5\)"),
    ],
)
def test_what_is_refused_is_named_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run(replace(QUICK, **change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_seas_settings_include_the_plug_ins():
    known = records.complete(Settings("SEA", device="cpu")).params
    assert (known["alpha"], known["beta"], known["tau"], known["q_steps"], known["k"]) == (0.012, 0.006, 0.2, 50, 10)
    plugged = records.complete(Settings("VBPR+SEA", device="cpu")).params  # a model's own defaults go first
    assert (plugged["alpha"], plugged["beta"], plugged["tau"], plugged["q_steps"]) == (0.1, 0.01, 0.1, 50)


# divergence


def test_a_training_that_diverges_at_once_is_a_finished_run(tmp_path):
    wild = replace(QUICK, lr=1e30)
    record = run(wild, tmp_path, progress=False)
    assert (record.stopped, record.best_epoch, record.metrics, record.files) == ("diverged", -1, {}, {})
    assert record.diverged.startswith("loss/") or record.diverged == "vectors"
    json.loads((record.folder / "record.json").read_text(), parse_constant=pytest.fail)  # no NaN: any reader's JSON
    assert vars(run(wild, tmp_path, progress=False)) == vars(record)
    for ask in (record.ranking, lambda: record.model(load("planted"))):
        with pytest.raises(ValueError, match=r"as the training diverged in epoch \d+ \("):
            ask()


# damage


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run_is_named_and_the_run_done_again(tmp_path, caplog, name):
    """25 flipped bits, cuts, an empty and a zeroed file each: noticed or harmless, never another number."""
    record = run(QUICK, tmp_path, progress=False)
    path, rng = record.folder / name, random.Random(0)
    whole, good = path.read_bytes(), numbers(record)
    damages = [whole[: len(whole) // 2], b"", bytes(len(whole))]
    for _ in range(25):
        place = rng.randrange(len(whole))
        damages.append(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
    noticed = 0
    for content in damages:
        path.write_bytes(content)
        records.say.cache_clear()
        caplog.clear()
        if records.finished(record.folder) is not None:
            assert numbers(records.read(record.folder)) == good  # white space, at most
            continue
        noticed += 1
        (message,) = caplog.messages
        assert message.startswith(str(path)) and message.endswith("this run is done again") and "\n" not in message
    assert noticed >= 25
    path.write_bytes(damages[0])
    assert numbers(run(QUICK, tmp_path, progress=False)) == good
    assert records.finished(record.folder) is not None


def test_a_record_of_another_layout_is_refused_by_name(tmp_path):
    record = run(QUICK, tmp_path, progress=False)
    content = files.load_json(record.folder / "record.json")
    files.save_json(record.folder / "record.json", {k: v for k, v in content.items() if k != "files"})
    with pytest.raises(files.DamagedFile, match=r"record\.json: is the record of another version of this code"):
        records.read(record.folder)


def test_what_a_killed_process_left_behind_is_removed(tmp_path):
    record = run(QUICK, tmp_path, progress=False)
    shutil.copytree(record.folder, tmp_path / "kept")
    (record.folder / "record.json").unlink()
    (record.folder / "state.safetensors.0123abcd.tmp").write_bytes(b"half")
    run(QUICK, tmp_path, progress=False)
    assert sorted(p.name for p in record.folder.iterdir()) == sorted(p.name for p in (tmp_path / "kept").iterdir())


# many


def test_progress_is_kept_where_it_is_asked_for(tmp_path, monkeypatch):
    line = tmp_path / "line"
    monkeypatch.setenv("SEA_PROGRESS", str(line))
    seen = []
    monkeypatch.setattr(runs, "write_atomically", lambda path, write: (write(path), seen.append(path.read_text())))
    run_many([replace(QUICK, seed=seed) for seed in (1, 2)], tmp_path / "runs", progress=False)
    assert seen == ["1 of 2 trainings done, about 0 min left", "2 of 2 trainings done, about 0 min left"]


def test_the_time_left_goes_by_the_model_first(tmp_path):
    record = run(QUICK, tmp_path, progress=False)

    def lasting(seconds, model):
        rows = [{"seconds": seconds / 2, "seconds_evaluate": seconds / 2}]
        return replace(record, settings=replace(QUICK, model=model), history=rows)

    waiting = [replace(QUICK, model=model) for model in ("BPR", "SEA", "LightGCN")]
    left = runs._minutes_left(waiting, [lasting(60, "BPR"), lasting(600, "SEA")])
    assert left == pytest.approx(1 + 10 + (1 + 10) / 2)  # LightGCN: the mean of all
    assert runs._minutes_left(waiting, []) == 0


def test_trainings_that_are_there_already_take_no_time(tmp_path, monkeypatch):
    settings = [replace(QUICK, seed=seed) for seed in (1, 2, 3)]
    run(settings[2], tmp_path, progress=False)
    asked = []
    monkeypatch.setattr(runs, "_minutes_left", lambda waiting, done: asked.append([s.seed for s in waiting]) or 0.0)
    run_many(settings, tmp_path, progress=False)
    assert asked == [[2], []]


def test_many_runs_come_back_in_order_and_jobs_do_not_matter(tmp_path):
    settings = [replace(QUICK, seed=seed, model=model) for seed in (1, 2) for model in ("BPR", "LightGCN")]
    parallel = run_many(settings, tmp_path / "a", jobs=2, progress=False)
    assert [(r.settings.model, r.settings.seed) for r in parallel] == [(s.model, s.seed) for s in settings]
    for a, b in zip(parallel, run_many(settings, tmp_path / "b", progress=False)):
        assert numbers(a) == numbers(b)


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_good_runs_of_a_list_are_done_and_the_bad_ones_named(tmp_path, jobs, monkeypatch):
    bogus = replace(QUICK, model="SEA", params={"align": "bogus"})
    settings = [
        QUICK,
        replace(QUICK, lr=1e30),
        bogus,
        replace(QUICK, model="XYZ"),
        replace(QUICK, seed=7),
        QUICK,  # the same run a second time
    ]
    with pytest.raises(RunError) as caught:
        run_many(settings, tmp_path, jobs=jobs, progress=False)
    message = str(caught.value)
    assert message.startswith(
        "2 of 6 runs failed, the others are done. SEA seed 999 (lr 0.01, align 'bogus'): 'align' "
    )
    assert "XYZ seed 999 (lr 0.01): 'model' needs to be one of" in message and "\n" not in message
    monkeypatch.setattr(runs, "_train", None)  # all others are there
    kept = run_many([one for one in settings if one.model == "BPR"], tmp_path, progress=False)
    assert [r.stopped for r in kept] == ["epochs", "diverged", "epochs", "epochs"]


def test_a_value_of_a_wrong_type_is_told_like_any_other(tmp_path):
    settings = [replace(QUICK, params={"reg": "much"}), QUICK]
    with pytest.raises(RunError, match=r"^1 of 2 runs failed.* BPR seed 999 \(lr 0.01, reg 'much'\): TypeError: "):
        run_many(settings, tmp_path, progress=False)
    assert len(list(tmp_path.glob("*/record.json"))) == 1


def test_a_failure_in_the_middle_of_a_training_leaves_the_others_alone(tmp_path, monkeypatch):
    def fail(self, *batch):
        raise RuntimeError("out of luck\nand more")

    monkeypatch.setattr(runs, "_check", lambda *_: None)
    monkeypatch.setattr(MODELS["LightGCN"], "loss", fail)
    settings = [replace(QUICK, model=model) for model in ("LightGCN", "BPR")]
    with pytest.raises(
        RunError, match=r"1 of 2 runs failed.* LightGCN seed 999 .*: RuntimeError: out of luck$"
    ) as caught:
        run_many(settings, tmp_path, progress=False)
    assert "Traceback" in "".join(caught.value.__cause__.__notes__)  # where it happened is kept for who needs it
    assert len(list(tmp_path.glob("planted-BPR-*/record.json"))) == 1


def test_a_full_gpu_names_what_to_lower(tmp_path, monkeypatch):
    def fill(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(runs, "fit", fill)
    with pytest.raises(RunError, match=r"the GPU's memory is full; a smaller 'batch_size' needs less"):
        run_many([QUICK], tmp_path, progress=False)


def kill_a_worker(root):
    """Wait for a training's first state, then kill -9 a worker process of this one."""
    deadline = time.monotonic() + 120
    while not stored(root) and time.monotonic() < deadline:
        time.sleep(0.005)
    workers = [p for p in psutil.Process().children() if any("loky" in word for word in p.cmdline())]
    busy = [p for p in workers if "resource_tracker" not in " ".join(p.cmdline())]
    busy[0].kill()


MANY = """
import sys
from sea.runs import Settings, run_many
settings = [Settings("SEA", epochs=1000, patience=1000, seed=seed, device="cpu", lr=1e-3) for seed in (1, 2)]
run_many(settings, sys.argv[1], jobs=2, progress=False)
"""


def test_workers_end_with_the_process_that_asked_for_them(tmp_path, start):
    process = start([sys.executable, "-c", MANY, str(tmp_path)])
    deadline = time.monotonic() + 120
    while len(stored(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    begun = psutil.Process(process.pid).children(recursive=True)
    assert len(stored(tmp_path)) == 2
    process.kill()
    assert not psutil.wait_procs(begun, timeout=30)[1]


def test_a_run_whose_worker_was_killed_goes_on_in_another(tmp_path):
    settings = [replace(QUICK, seed=seed, model="LightGCN", epochs=10) for seed in (1, 2)]
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "killed",))
    killer.start()
    found = run_many(settings, tmp_path / "killed", jobs=2, progress=False)
    killer.join()
    for a, b in zip(found, run_many(settings, tmp_path / "whole", progress=False)):
        assert numbers(a) == numbers(b)


def test_a_run_that_always_kills_its_worker_is_given_up_and_the_others_are_done(tmp_path, monkeypatch):
    """Every worker dies as soon as LightGCN's turn has come, with BPR's second run under way beside it."""
    tries = []

    class Dying:
        def __init__(self, **_):
            tries.append(1)

        def __call__(self, calls):
            for function, arguments, _ in calls:
                if arguments[1].model == "LightGCN":
                    raise TerminatedWorkerError("killed")
                yield function(*arguments)

    monkeypatch.setattr(joblib, "Parallel", Dying)
    settings = [replace(QUICK, seed=seed, model=model) for seed in (1, 2) for model in ("BPR", "LightGCN")]
    with pytest.raises(RunError, match=r"^2 of 4 runs failed, .* seed 1 .*: its worker process was killed 3 times"):
        run_many(settings, tmp_path, jobs=2, progress=False)
    assert len(tries) == 3 + 3 + 1  # each three times, and BPR's second run, which was innocent
    assert len(list(tmp_path.glob("planted-BPR-*/record.json"))) == 2


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
    for _ in range(3):
        before, deadline = stored(root), time.monotonic() + 120
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(root)])
        while stored(root) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)  # into the next epoch, or into the writing of its state
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 1  # the later ones may have come too late
    assert numbers(run(settings, root, progress=False)) == numbers(whole)
    assert not list(root.glob("*/state*"))


def test_the_default_device_is_what_is_there():
    assert machine.default_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
