import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sea import study as studies
from sea.data import Dataset, planted
from sea.models import MODELS
from sea.runs import Settings, run
from sea.study import PROFILES, chosen_models, grid, interval, plan, provenance, study

METRIC = "recall@20"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def three(root):
    """Two models, three seeds."""
    return study(["BPR", "LightGCN"], "planted", "quick", seeds=3, device="cpu", epochs=2, root=root)


def values(three, name):
    return np.stack([record.scores().values[METRIC] for record in three.records[name]])


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
    monkeypatch.setattr(MODELS["BPR"], "grid", {"lr": (1e-4, 3e-2), "reg": (0.1, 0.0)})
    tuned = study({"plain": ("BPR", {}), "narrow": ("BPR", {"dim": 4})}, "planted", "tiny", device="cpu", root=root)
    assert grid("BPR") == [{"lr": lr, "reg": reg} for lr in (1e-4, 3e-2) for reg in (0.1, 0.0)]
    found = {(r.settings.lr, r.settings.params["reg"]): r.metrics["valid"][METRIC] for r in tuned.searched["BPR"]}
    best = max(found, key=found.get)
    for record in (*tuned.records["plain"], *tuned.records["narrow"]):
        assert (record.settings.lr, record.settings.params["reg"]) == best
    assert [r.settings.params["dim"] for r in tuned.records["narrow"]] == [4, 4]
    budget = tuned.budget().loc["BPR"]
    assert budget["grid points"] == 4
    assert budget["trainings"] == 4 + 1 + 2  # the grid's best is the plain variant's first seed
    assert budget["epochs"] == 2 * 7
    assert budget["settings"] == f"lr {best[0]:g}, reg {best[1]:g}"
    assert len(tuned.provenance()["runs"]) == 7


def test_the_grid_never_sees_the_test_split():
    better_test = [{"valid": {METRIC: v}, "test": {METRIC: 1 - v}} for v in (0.1, 0.3, 0.3, 0.2)]
    records = [type("Stub", (), {"metrics": metrics}) for metrics in better_test]
    assert studies._best("BPR", records) == grid("BPR")[1]  # the first of equals


@pytest.mark.parametrize("model", MODELS)
def test_every_grid_is_of_settings_and_holds_the_default(model):
    defaults = studies_defaults(model)
    for name, options in MODELS[model].grid.items():
        assert name in defaults, name
        assert defaults[name] in options, name
    assert len(grid(model)) <= 8


def studies_defaults(model):
    from sea.runs import _complete

    settings = _complete(Settings(model, device="cpu"))
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
