import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sea import study as studies
from sea.data import Dataset, planted
from sea.models import MODELS
from sea.runs import Settings, run
from sea.study import BUDGET, PROFILES, chosen_models, grid, interval, plan, points, provenance, study

METRIC = "recall@20"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def three(root):
    """Two models, three seeds."""
    return study(["BPR", "LightGCN"], "planted", "quick", seeds=3, device="cpu", epochs=2, root=root)


def values(three, name):
    return np.stack([record.ranking().values[METRIC] for record in three.records[name]])


def test_summary_is_mean_and_t_interval(three):
    means = values(three, "BPR").mean(1)
    low, high = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
    row = three.summary().loc["BPR"]
    assert row["seeds"] == 3
    assert row[METRIC] == pytest.approx(means.mean())
    assert row[f"{METRIC} ±"] == pytest.approx((high - low) / 2)


def test_pairs_are_users_and_seeds(three):
    row = three.paired("LightGCN").loc["BPR"]
    a, b = values(three, "LightGCN"), values(three, "BPR")
    users, seeds = stats.ttest_rel(a.mean(0), b.mean(0)), stats.ttest_rel(a.mean(1), b.mean(1))
    assert row["difference"] == pytest.approx(a.mean() - b.mean())
    assert row["p users"] == pytest.approx(users.pvalue)
    assert row["p seeds"] == pytest.approx(seeds.pvalue)
    assert row["difference"] - row["± users"] == pytest.approx(users.confidence_interval(0.95).low)
    assert row["difference"] + row["± seeds"] == pytest.approx(seeds.confidence_interval(0.95).high)
    assert row["percent"] == pytest.approx(100 * (a.mean() / b.mean() - 1))
    assert row["percent ±"] == pytest.approx(100 * row["± seeds"] / b.mean())


def test_a_contrast_is_a_weighted_sum(root, three):
    a, b = values(three, "LightGCN"), values(three, "BPR")
    row = three.contrast({"LightGCN": 1, "BPR": -0.5})
    x = a - b / 2
    users, seeds = stats.ttest_1samp(x.mean(0), 0), stats.ttest_1samp(x.mean(1), 0)
    assert row["difference"] == pytest.approx(x.mean())
    assert row["p users"] == pytest.approx(users.pvalue)
    assert row["difference"] + row["± users"] == pytest.approx(users.confidence_interval(0.95).high)
    assert row["difference"] - row["± seeds"] == pytest.approx(seeds.confidence_interval(0.95).low)
    fewer = study(["BPR"], "planted", "quick", seeds=2, device="cpu", epochs=2, root=root)
    mixed = studies.Study({"one": fewer.records["BPR"], "two": three.records["LightGCN"]}, {})
    half = stats.ttest_rel(a[:2].mean(1), b[:2].mean(1)).confidence_interval(0.95)
    assert mixed.contrast({"two": 1, "one": -1})["± seeds"] == pytest.approx((half.high - half.low) / 2)


def test_p_values_are_corrected_over_the_variants(root):
    two = study(["BPR", "LightGCN", "VBPR"], "planted", "quick", seeds=2, device="cpu", epochs=2, root=root)
    table = two.paired("VBPR")
    raw = [stats.ttest_rel(values(two, "VBPR").mean(0), values(two, name).mean(0)).pvalue for name in table.index]
    small, large = sorted(raw)
    assert sorted(table["p users"]) == pytest.approx([min(2 * small, large), large])  # Benjamini-Hochberg by hand


def test_one_seed_has_no_interval_over_seeds_and_no_difference_is_none(root):
    variants = {"a": ("BPR", {}), "same": ("BPR", {"reg": 0.1}), "other": ("BPR", {"reg": 0.2})}
    one = study(variants, "planted", "quick", device="cpu", epochs=2, root=root)
    assert one.records["a"][0].key == one.records["same"][0].key  # the default, said aloud
    table = one.paired("a")
    assert table.loc["same", ["difference", "± users", "p users"]].tolist() == [0, 0, 1]
    assert table["p seeds"].isna().all() and table["± seeds"].isna().all()
    assert table.loc["other", "percent ±"] > 0  # over users
    assert pd.isna(one.summary().loc["a", f"{METRIC} ±"])


def test_a_profile_that_tunes_selects_on_validation_alone(root, monkeypatch):
    monkeypatch.setitem(studies.PROFILES, "tiny", PROFILES["quick"] | {"tune": True, "epochs": 2, "seeds": 2})
    monkeypatch.setattr(MODELS["BPR"], "grid", {"lr": (1e-3, 3e-2), "reg": (0.1, 0.0)})
    tuned = study({"plain": ("BPR", {}), "narrow": ("BPR", {"dim": 4})}, "planted", "tiny", device="cpu", root=root)
    assert grid("BPR") == [{"lr": lr, "reg": reg} for lr in (1e-3, 3e-2) for reg in (0.1, 0.0)]
    found = {}
    for r in tuned.searched["BPR"]:
        found.setdefault((r.settings.lr, r.settings.params["reg"]), []).append(r)
    assert [[r.settings.seed for r in runs] for runs in found.values()] == [[999, 1000, 1001]] * 4
    best = max(found, key=lambda point: np.mean([r.metrics["valid"][METRIC] for r in found[point]]))
    for record in (*tuned.records["plain"], *tuned.records["narrow"]):
        assert (record.settings.lr, record.settings.params["reg"]) == best
    assert [r.settings.params["dim"] for r in tuned.records["narrow"]] == [4, 4]
    budget = tuned.budget().loc["BPR"]
    assert budget["grid points"] == "4 of 4"
    assert budget["seeds per point"] == 3
    assert budget["trainings"] == 4 * 3 + 2  # the plain variant's two seeds are among the best point's three
    assert budget["epochs"] == 2 * 14
    assert budget["settings"] == f"lr {best[0]:g}, reg {best[1]:g}"
    assert len(tuned.provenance()["runs"]) == 14


def test_a_training_that_diverged_is_reported_and_the_study_goes_on(root, monkeypatch):
    variants = {"good": ("BPR", {}), "wild": ("BPR", {"lr": 1e30}), "other": ("BPR", {"dim": 4})}
    found = study(variants, "planted", "quick", seeds=2, device="cpu", epochs=2, root=root)
    assert [r.stopped for r in found.records["wild"]] == ["diverged", "diverged"]
    summary = found.summary()
    assert list(summary.index) == list(variants)
    assert summary["seeds"].tolist() == [2, 0, 2]
    assert summary.loc["wild", [METRIC, f"{METRIC} ±"]].isna().all()
    table = found.paired("good")
    assert table.loc["wild"].isna().all()
    assert table.loc["other"].notna().all()
    assert found.budget().loc["BPR", "diverged"] == 2
    assert found.paired("wild").isna().all(axis=None)


def records_of(values, seconds=1.0):
    """Stubs with these validation values, None for a run that diverged, whose test values are the other way round."""
    metrics = [{} if v is None else {"valid": {METRIC: v}, "test": {METRIC: 1 - v}} for v in values]
    return [type("Stub", (), {"metrics": found, "seconds": seconds}) for found in metrics]


def test_the_search_never_sees_the_test_split_and_takes_the_first_of_equals():
    values = np.array([[0.1, 0.3, 0.3, 0.2, 0.0, 0.0, 0.0], [0.1, 0.3, 0.2, 0.9, 0.0, 0.0, 0.0]])
    assert studies._best("BPR", records_of(values[0])) == points("BPR")[1]
    assert studies._best("BPR", records_of(values.ravel())) == points("BPR")[3]  # .55 over two seeds


def test_a_run_that_diverged_rules_its_point_out():
    assert studies._best("BPR", records_of([None, 0.1, 0, 0, 0, 0, 0, 0.9, 0.1, 0, 0, 0, 0, 0])) == points("BPR")[1]


@pytest.mark.parametrize(("seconds", "seeds"), [([1, 59, 59, 61, 900], 3), ([1, 1, 60, 61, 61], 1)])
def test_short_trainings_are_judged_by_three_seeds(monkeypatch, seconds, seeds):
    asked = []

    def pretend(settings, root, jobs):
        asked.extend(settings)
        return [records_of([0.1], seconds[k % 5])[0] for k, _ in enumerate(settings)]

    monkeypatch.setattr(studies, "run_many", pretend)
    found = studies._search({"MMGCN": Settings("MMGCN", seed=7)}, 1, "")["MMGCN"]
    assert len(found) == 5 * seeds
    assert [one.seed for one in asked] == [seed for seed in range(7, 7 + seeds) for _ in range(5)]
    assert [one.lr for one in asked] == [point["lr"] for point in points("MMGCN")] * seeds


@pytest.mark.parametrize("model", MODELS)
def test_every_grid_is_of_settings_and_holds_the_default(model):
    defaults = studies_defaults(model)
    for name, options in MODELS[model].grid.items():
        assert name in defaults, name
        assert defaults[name] in options, name
        assert len(set(options)) == len(options)
    complete = [defaults | point for point in grid(model)]
    plain = [dict(zip(MODELS[model].grid, values)) for values in product(*MODELS[model].grid.values())]
    assert [point for point in plain if defaults | point not in complete] == []
    assert all(complete.count(point) == 1 for point in complete)
    tried = [defaults | point for point in points(model)]
    assert all(defaults | point in tried for point in ({}, *MODELS[model].published))
    assert all(point in complete for point in tried)
    assert len(tried) == min(len(complete), BUDGET)


def test_the_published_points_of_lgmrec_are_its_authors():
    settings = ("hyper_layers", "edges", "keep", "alpha")
    tried = [tuple((studies_defaults("LGMRec") | point)[name] for name in settings) for point in points("LGMRec")]
    assert {(1, 4, 0.5, 0.3), (4, 4, 0.4, 0.6), (2, 64, 0.2, 0.2)} <= set(tried)


def test_another_process_tries_the_same_points():
    code = "from sea.study import *; print([points(model) for model in MODELS])"
    env = os.environ | {"PYTHONHASHSEED": "1"}
    printed = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == repr([points(model) for model in MODELS])


def test_what_no_grid_holds_is_tried_all_the_same(monkeypatch):
    monkeypatch.setattr(MODELS["BPR"], "grid", {"reg": tuple(range(3, 40))})
    monkeypatch.setattr(MODELS["BPR"], "published", ({"dim": 7},))
    assert len(grid("BPR")) == 37 + 2
    assert {"dim": 64, "reg": 0.1} in points("BPR") and {"dim": 7} in points("BPR")
    assert len(points("BPR")) == BUDGET


def studies_defaults(model):
    from sea.records import complete

    settings = complete(Settings(model, device="cpu"))
    return {"lr": settings.lr, **settings.params}


def test_interval_is_the_t_interval_and_one_row_has_none():
    rows = pd.DataFrame({"k": ["a"] * 3 + ["b"], "x": [1.0, 2.0, 6.0, 5.0]})
    table = interval(rows, ["k"])
    low, high = stats.t.interval(0.95, 2, 3.0, stats.sem([1.0, 2.0, 6.0]))
    assert table.loc["a", "x"] == 3
    assert table.loc["a", "x ±"] == pytest.approx((high - low) / 2)
    assert table.loc["b", "x"] == 5
    assert np.isnan(table.loc["b", "x ±"])


def test_a_plan_gives_every_model_the_same():
    settings = plan(["BPR", "SEA"], "planted", "default")
    assert len(settings) == 2 * PROFILES["default"]["seeds"]
    assert len({repr(replace(s, model="", seed=0)) for s in settings}) == 1
    assert plan(["SEA"], "baby", "paper", seeds=2)[1].seed == 1000
    published = plan(["SEA"], "planted", "published")[0]
    assert (published.lr, published.batch_size, published.patience) == (None, 2048, 20)
    with pytest.raises(ValueError, match="'profile' needs to be one of quick, default, published, paper"):
        plan(["SEA"], "planted", "fast")


def test_chosen_models():
    assert chosen_models() == list(MODELS)
    assert chosen_models("SEA, BPR") == ["SEA", "BPR"]
    with pytest.raises(ValueError, match=r"'models' needs names among BPR, .* \(got 'bpr'\)"):
        chosen_models("bpr")


def test_provenance_names_what_was_used(root, three):
    stamp = provenance([*three.records["BPR"], *three.records["BPR"]])
    assert stamp["dataset"] == "planted"
    assert len(stamp["runs"]) == 3
    assert "warning" not in stamp
    json.dumps(stamp)
    record = run(Settings("BPR", epochs=1, device="cpu", lr=1e-2), root, progress=False)
    assert provenance([replace(record, warning="stand-ins")])["warning"] == "stand-ins"


def test_a_quick_sample_has_the_largest_core_that_there_is():
    dense = planted(250, 60, mean_interactions=20)
    assert studies.sample(dense).warning == "compact sample: 200 of 250 users, 5-core"
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(400), 3)
    frame = pd.DataFrame({"user": users, "item": rng.permutation(len(users))}).assign(x_label=np.tile([0, 1, 2], 400))
    sparse = Dataset.from_frames("sparse", frame, {"image": rng.random((len(users), 4))}, range(len(users)))
    sample = studies.sample(sparse)  # nobody shares an item: any core beyond the first is empty
    assert sample.warning == "compact sample: 200 of 400 users, 1-core"
