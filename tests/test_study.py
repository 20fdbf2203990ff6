import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sea import published, statistics
from sea import study as studies
from sea.data import Dataset, planted
from sea.models import MODELS, TRAINED
from sea.records import NotPublished
from sea.runs import Settings, run
from sea.search import best
from sea.study import PROFILES, chosen_models, plan, provenance, study

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


def test_on_planted_worlds_a_summary_is_the_t_interval_over_worlds(three):
    means = [values(three, "BPR")[world].mean() for world in range(3)]
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    row = three.summary().loc["BPR"]
    assert row["runs"] == 3
    assert row[METRIC] == pytest.approx(np.mean(means))
    assert row[f"{METRIC} ±"] == pytest.approx((high - low) / 2)
    assert three.chance("BPR") == "over worlds"
    single = studies.Study({"BPR": three.records["BPR"][:1]}, {})
    assert np.isnan(single.summary().loc["BPR", f"{METRIC} ±"])
    assert single.chance("BPR") == "none, one world"


def test_on_planted_worlds_variants_are_paired_by_world(root, three):
    assert len({r.checksum for r in three.records["BPR"]}) == 3
    a, b = (values(three, name).mean(1) for name in ("LightGCN", "BPR"))
    found = three.against("LightGCN")
    assert list(found) == ["BPR"]
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found["BPR"].low, found["BPR"].high) == pytest.approx(tuple(interval))
    fewer = study(["BPR"], "planted", "quick", seeds=2, device="cpu", epochs=2, root=root)
    mixed = studies.Study({"one": fewer.records["BPR"], "two": three.records["LightGCN"]}, {})
    interval = stats.ttest_rel(a[:2], b[:2]).confidence_interval(0.95)  # the two worlds that both have
    assert mixed.estimate({"two": 1, "one": -1}).high == pytest.approx(interval.high)


def test_changes_are_told_in_percent_of_the_reference(three):
    a, b = (values(three, name).mean(1) for name in ("LightGCN", "BPR"))
    found = three.changes("BPR")
    assert list(found) == ["LightGCN"]
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    percent = found["LightGCN"].row()
    assert percent["percent"] == pytest.approx(100 * (a.mean() / b.mean() - 1))
    assert percent["percent"] + percent["percent ±"] == pytest.approx(100 * interval.high / b.mean())
    of_valid = [record.metrics["valid"][METRIC] for record in three.records["LightGCN"]]
    against = [record.metrics["valid"][METRIC] for record in three.records["BPR"]]
    assert three.changes("BPR", split="valid")["LightGCN"].difference == pytest.approx(
        np.mean(of_valid) - np.mean(against)
    )


def test_on_one_dataset_users_are_paired_and_trainings_are_not(root, tmp_path):
    planted(80, 60, n_factors=2).save(tmp_path / "small")
    found = study(["BPR", "LightGCN"], str(tmp_path / "small"), "quick", seeds=3, device="cpu", root=root)
    arrays = {name: values(found, name) for name in found.records}
    weights = {"LightGCN": 1, "BPR": -0.5}
    expected = statistics.crossed(weights, arrays)
    assert found.estimate(weights) == replace(expected, untested="a run of LightGCN was not trained to the end")
    assert found.summary().loc["BPR", f"{METRIC} ±"] == pytest.approx(statistics.crossed({"BPR": 1}, arrays).half)
    assert found.chance("BPR") == "over trainings and users"


def test_a_training_that_its_limit_cut_off_allows_no_word(three):
    assert three.estimate({"LightGCN": 1, "BPR": -1}).row()["word"] == (
        "not tested (a run of LightGCN was not trained to the end)"
    )


def test_one_seed_leaves_the_users(root, tmp_path):
    planted(80, 60, n_factors=2).save(tmp_path / "small")
    variants = {"a": ("BPR", {}), "same": ("BPR", {"reg": 0.1}), "other": ("BPR", {"reg": 0.2})}
    one = study(variants, str(tmp_path / "small"), "quick", device="cpu", epochs=2, root=root)
    assert one.records["a"][0].key == one.records["same"][0].key  # the default, said aloud
    found = one.against("a")
    assert (found["same"].difference, found["same"].half) == (0, 0)
    assert found["other"].untested == "one seed of a"
    by_user = stats.ttest_rel(values(one, "a")[0], values(one, "other")[0]).confidence_interval(0.95)
    assert found["other"].high == pytest.approx(by_user.high)
    _, high = stats.t.interval(0.95, len(values(one, "a")[0]) - 1, 0, stats.sem(values(one, "a")[0]))
    assert one.summary().loc["a", f"{METRIC} ±"] == pytest.approx(high)
    assert one.chance("a") == "over users alone, one training"


def test_a_seed_that_is_published_twice_is_one_training(three, monkeypatch):
    """α has no effect without alignment, so one training may be published at two of its values."""
    first = plan(["BPR"], "planted", "paper")[0]
    runs = three.records["BPR"]
    other = [replace(r, settings=replace(r.settings, params=r.settings.params | {"reg": 0.5})) for r in runs[:2]]
    monkeypatch.setattr(published, "find", lambda settings: [*other, *runs])
    found = study(["BPR"], "planted", "paper", tune=False, root=studies.PUBLISHED)
    wanted = studies.complete(first).params
    assert [r.settings.seed for r in found.records["BPR"]] == [999, 1000, 1001]
    assert all(r.settings.params == wanted for r in found.records["BPR"])  # the very settings go first


def test_a_published_study_tunes_all_models_or_none(three, monkeypatch):
    """Tuned models are not set beside others that are not; and the seeds that judge are not those of the search.

    On real sets the search of `Popular`, one point, was published, and nothing else was tuned.
    """
    runs = [replace(r, settings=replace(r.settings, seed=seed)) for seed, r in enumerate(three.records["BPR"] * 2, 999)]
    monkeypatch.setattr(studies, "trainings", lambda settings: runs)
    of_bpr = {"BPR": runs[:3]}
    for searched, of_others, first in (({}, 9, 999), (of_bpr, 9, 999), (of_bpr, 0, 1002)):
        monkeypatch.setattr(studies, "search", lambda *asked, searched=searched: searched)
        known = {"BPR": 9} | ({"LightGCN": of_others} if of_others else {})
        monkeypatch.setattr(studies, "counts", lambda dataset, known=known: known)
        found = study(["BPR", "LightGCN"], "planted", "paper", root=studies.PUBLISHED)
        assert [r.settings.seed for r in found.records["BPR"]] == list(range(first, 1005))
        assert bool(found.records["LightGCN"]) == (first == 999)
        assert found.searched == (searched if first == 1002 else {})


def test_fewer_trainings_than_planned_decide_nothing(root, three):
    whole = [replace(r, stopped="patience") for r in three.records["BPR"]]
    worse = [replace(r, metrics={"test": {METRIC: r.metrics["test"][METRIC] / 2}}) for r in whole]
    s = studies.Study({"a": whole, "b": worse}, {}, planned=3)
    assert s.estimate({"a": 1, "b": -1}).few == ""
    fewer = studies.Study({"a": whole, "b": worse[:2]}, {}, planned=3)
    one = fewer.estimate({"a": 1, "b": -1})
    assert one.row()["word"] == "can't tell, 2 of 3 worlds"
    assert fewer.measured({"a": 1, "b": -1}, "recall", lambda r: r.metrics["test"][METRIC]).few == one.few
    assert three.planned == 3


def test_what_enters_no_estimate_does_not_count_as_a_training(three, monkeypatch):
    """Three worlds of each, and two that both have; three trainings of each on one set, and two that were measured."""
    gap = {"a": 1, "b": -1}
    worlds = [replace(r, stopped="patience") for r in three.records["BPR"]]
    later = [replace(r, settings=replace(r.settings, seed=r.settings.seed + 1)) for r in worlds]
    paired = studies.Study({"a": worlds, "b": later}, {}, planned=3)
    assert paired.estimate(gap).few == paired.measured(gap, "seed", lambda r: r.settings.seed).few == "2 of 3 worlds"
    own = [replace(r, settings=replace(r.settings, dataset="own"), checksum="same") for r in worlds]
    of_one_set = studies.Study({"a": own, "b": own}, {}, planned=3)

    def measured_twice(record, name, compute):
        if record is own[2]:
            raise studies.NotPublished("nobody measured it")
        return record.settings.seed

    monkeypatch.setattr(studies, "measure", measured_twice)
    assert of_one_set.estimate(gap).few == ""
    assert of_one_set.measured(gap, "seed", measured_twice).few == "2 of 3 trainings of a"


def test_two_splits_of_one_name_are_not_compared(root, tmp_path):
    planted(80, 60, n_factors=2).save(tmp_path / "small")
    found = study(["BPR", "LightGCN"], str(tmp_path / "small"), "quick", seeds=2, device="cpu", epochs=1, root=root)
    other = [replace(r, checksum="another") for r in found.records["BPR"]]
    with pytest.raises(ValueError, match=r"'records' needs runs on one dataset in 'Study' \(got .*another"):
        studies.Study(found.records | {"BPR": other}, {}).estimate({"BPR": 1, "LightGCN": -1})


def test_a_group_s_unit_is_its_variant(three):
    groups = studies.Study({name: three.records["BPR"][k : k + 1] for k, name in enumerate("abc")}, {})
    twins = studies.Study(groups.records | {"d": three.records["LightGCN"][:1]}, {})
    means = {name: found[0].metrics["test"][METRIC] for name, found in twins.records.items()}
    expected = stats.ttest_ind([means["a"], means["b"]], [means["c"], means["d"]], equal_var=False)
    found = twins.groups("ab", "cd")
    assert found.high == pytest.approx(expected.confidence_interval(0.95).high)
    assert found.runs == 4


def test_the_share_of_batches_in_which_a_term_is_active(root):
    found = study({"SEA": ("SEA", {"q_steps": 0})}, "planted", "quick", device="cpu", epochs=1, root=root)
    record = found.records["SEA"][0]
    history = [row | {"active/distance": share} for row, share in zip(record.history * 3, (0.0, 0.5, 1.0))]
    kept = studies.Study({"SEA": [replace(record, history=history, best_epoch=1)]}, {})
    assert kept.active("SEA") == 0.25  # the epoch after the best one does not count
    assert found.active("SEA", "rec") == 1


def test_columns_are_the_released_the_logged_and_the_chosen_settings(root, monkeypatch):
    monkeypatch.setitem(studies.PROFILES, "tiny", PROFILES["paper"] | {"epochs": 1, "seeds": 1})
    monkeypatch.setattr(MODELS["SEA"], "grid", {"beta": (0.006, 0.5), "lr": (1e-4,)})
    monkeypatch.setattr(MODELS["SEA"], "published", ())
    monkeypatch.setattr(MODELS["SEA"], "around", {"tau": (0.3,)})
    few = {"SEA": ("SEA", {"q_steps": 1})}
    found = studies.in_columns(few, "planted", "tiny", device="cpu", root=root)
    settings = {name: s.records["SEA"][0].settings.params for name, s in found.items()}
    assert list(settings) == ["as released", "as logged", "chosen on validation"]
    assert [one["alpha"] for one in settings.values()] == [0.012, 0.6, 0.012]
    tried = found["chosen on validation"].searched["SEA"]
    assert len(tried) == 3 * 3  # two points, one around the best, three seeds each
    assert settings["chosen on validation"]["beta"] == best(tried)["beta"]
    assert settings["as released"]["beta"] == 0.006
    judged = {name: {r.settings.seed for r in s.records["SEA"]} for name, s in found.items()}
    assert judged["as released"] == {999}
    searched = {r.settings.seed for r in tried}
    assert searched == {999, 1000, 1001} and not searched & judged["chosen on validation"]
    assert list(studies.in_columns(few, "planted", "quick", device="cpu", epochs=1, root=root)) == ["as released"]


def test_a_training_that_diverged_is_reported_and_the_study_goes_on(root, monkeypatch):
    variants = {"good": ("BPR", {}), "wild": ("BPR", {"lr": 1e30}), "other": ("BPR", {"dim": 4})}
    found = study(variants, "planted", "quick", seeds=2, device="cpu", epochs=2, root=root)
    assert [r.stopped for r in found.records["wild"]] == ["diverged", "diverged"]
    summary = found.summary()
    assert list(summary.index) == list(variants)
    assert summary["runs"].tolist() == [2, 0, 2]
    assert summary.loc["wild", [METRIC, f"{METRIC} ±"]].isna().all()
    table = found.against("good")
    assert table["wild"].untested == "no run of wild with a result"
    assert np.isfinite(table["other"].half)
    assert found.budget().loc["BPR", "diverged"] == 2
    assert {one.word for one in found.against("wild").values()} == {"not tested"}


def test_a_plan_gives_every_model_the_same():
    settings = plan(["BPR", "SEA"], "planted", "default")
    assert len(settings) == 2 * PROFILES["default"]["seeds"]
    assert len({repr(replace(s, model="", seed=0)) for s in settings}) == 1
    assert plan(["SEA"], "baby", "paper", seeds=2)[1].seed == 1000
    published = plan(["SEA"], "planted", "published")[0]
    assert (published.lr, published.batch_size, published.patience) == (1e-2, 2048, 10)
    real = plan(["SEA"], "baby", "published")[0]
    assert (real.lr, real.epochs, real.patience) == (None, 1000, 20)
    with pytest.raises(ValueError, match="'profile' needs to be one of quick, default, published, paper"):
        plan(["SEA"], "planted", "fast")


def test_chosen_models():
    assert chosen_models() == list(TRAINED)
    assert len(TRAINED) == 18  # the paper's; others have to be named
    assert chosen_models("SEA, EASE") == ["SEA", "EASE"]
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
    both = [replace(record, warning="stand-ins"), replace(record, key="another")]
    assert provenance(both)["warning"] == "stand-ins"  # and nothing for the run that has none


def test_a_quick_sample_has_the_largest_core_that_there_is():
    dense = planted(250, 60, mean_interactions=20)
    assert studies.sample(dense).warning == "compact sample: 200 of 250 users, 5-core"
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(400), 3)
    frame = pd.DataFrame({"user": users, "item": rng.permutation(len(users))}).assign(x_label=np.tile([0, 1, 2], 400))
    sparse = Dataset.from_frames("sparse", frame, {"image": rng.random((len(users), 4))}, range(len(users)))
    sample = studies.sample(sparse)  # nobody shares an item: any core beyond the first is empty
    assert sample.warning == "compact sample: 200 of 400 users, 1-core"


def test_a_measure_is_compared_by_world_or_run_by_run(root, tmp_path):
    variants = {"one": ("BPR", {}), "two": ("BPR", {"dim": 4})}
    asked = {"seeds": 3, "device": "cpu", "root": root}

    def size(record):
        return {"norm": float(record.model(record.data()).vectors()[0].detach().norm())}

    weights = {"one": 1, "two": -1}
    worlds = study(variants, "planted", "quick", **asked)
    lists = [[size(r)["norm"] for r in worlds.records[name]] for name in weights]
    found = worlds.measured(weights, "size", size, "norm")
    assert found.high == pytest.approx(stats.ttest_rel(*lists).confidence_interval(0.95).high)
    assert found.untested == "a run of one was not trained to the end"
    planted(80, 60, n_factors=2).save(tmp_path / "small")
    same = study(variants, str(tmp_path / "small"), "quick", **asked)
    lists = [[size(r)["norm"] for r in same.records[name]] for name in weights]
    expected = stats.ttest_ind(*lists, equal_var=False).confidence_interval(0.95)
    assert same.measured(weights, "size", size, "norm").high == pytest.approx(expected.high)
    with pytest.raises(ValueError, match="'weights' needs to be a difference"):
        same.measured({"one": 1, "two": -2}, "size", size, "norm")


def test_what_keeps_a_measure_from_being_compared_is_named(root):
    """A variant without a run, or one whose runs nobody measured; not the one that has both."""
    found = study({"one": ("BPR", {}), "two": ("BPR", {"dim": 4})}, "planted", "quick", 1, "cpu", root=root)

    def of_one(record):
        if record.settings.params["dim"] == 4:
            raise NotPublished("no weights")
        return 1.0

    weights = {"one": 1, "two": -1}
    assert found.measured(weights, "one", of_one).untested == "one is not measured on any run of two"
    gone = replace(found, records={"one": found.records["one"], "two": []})
    assert gone.measured(weights, "one", of_one).untested == "no run of two"
