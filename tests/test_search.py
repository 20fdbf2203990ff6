"""The search: which points, judged by what, and nothing of test."""

import os
import subprocess
import sys
from itertools import cycle, product
from types import SimpleNamespace

import numpy as np
import pytest

from sea import search as searches
from sea import study as studies
from sea.models import MODELS, TRAINED
from sea.records import Settings, complete
from sea.search import BUDGET, best, grid, points
from sea.study import PROFILES, study

METRIC = "recall@20"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def test_a_profile_that_tunes_selects_on_validation_alone(root, monkeypatch):
    monkeypatch.setitem(studies.PROFILES, "tiny", PROFILES["paper"] | {"epochs": 2, "seeds": 2})
    monkeypatch.setattr(MODELS["BPR"], "grid", {"lr": (1e-3, 3e-3), "reg": (0.1, 0.0)})
    tuned = study({"plain": ("BPR", {}), "narrow": ("BPR", {"dim": 4})}, "planted", "tiny", device="cpu", root=root)
    assert grid("BPR") == [{"lr": lr, "reg": reg} for lr in (1e-3, 3e-3) for reg in (0.1, 0.0)]
    found = {}
    for r in tuned.searched["BPR"]:
        found.setdefault((r.settings.lr, r.settings.params["reg"]), []).append(r)
    assert [[r.settings.seed for r in runs] for runs in found.values()] == [[999, 1000, 1001]] * 4
    assert {lr for lr, _ in found} == {1e-2, 3e-2}  # on planted worlds, ten times as large
    top = max(found, key=lambda point: np.mean([r.metrics["valid"][METRIC] for r in found[point]]))
    for record in (*tuned.records["plain"], *tuned.records["narrow"]):
        assert (record.settings.lr, record.settings.params["reg"]) == top
    assert [r.settings.params["dim"] for r in tuned.records["narrow"]] == [4, 4]
    budget = tuned.budget().loc["BPR"]
    assert budget["grid points"] == "4 of 4"
    assert budget["seeds per point"] == 3
    assert budget["trainings"] == 4 * 3 + 2 + 2  # each variant's two seeds come after the search's three
    assert budget["epochs"] == 2 * 16
    assert budget["settings"] == f"lr {top[0]:g}, reg {top[1]:g}"
    assert len(tuned.provenance()["runs"]) == 16


def test_a_method_of_table_4_is_searched_by_itself_and_a_variant_of_a_model_takes_the_models_point(root, monkeypatch):
    """The same change of a setting, once as a method and once as a variant, where the two searches disagree."""
    narrow = ("BPR", {"dim": 2})
    monkeypatch.setitem(studies.FLEXIBILITY, "method", narrow)
    monkeypatch.setitem(studies.PROFILES, "tiny", PROFILES["paper"] | {"epochs": 2, "seeds": 1})
    monkeypatch.setattr(MODELS["BPR"], "grid", {"lr": (1e-3, 3e-3)})
    monkeypatch.setattr(studies, "best", lambda runs: {"lr": 0.02 if runs[0].settings.params["dim"] == 2 else 0.04})
    variants = {"plain": ("BPR", {}), "method": narrow, "variant": narrow}
    found = study(variants, "planted", "tiny", device="cpu", root=root)
    assert list(found.searched) == ["BPR", "method"]
    assert {r.settings.params["dim"] for r in found.searched["method"]} == {2}
    assert {r.settings.params["dim"] for r in found.searched["BPR"]} == {MODELS["BPR"].settings()["dim"]}
    chosen = {name: runs[0].settings.lr for name, runs in found.records.items()}
    assert chosen == {"plain": 0.04, "method": 0.02, "variant": 0.04}


def tried(model):
    """What `best` tells of a model's points: also the step size, where the grid leaves it alone."""
    return [point | {"lr": point.get("lr", MODELS[model].lr)} for point in points(model)]


def records_of(values, seconds=1.0, model="BPR"):
    """Stubs of a model's points with these validation values, None for a run that diverged, and the test values the
    other way round."""
    stubs = []
    for value, point in zip(values, cycle(tried(model))):
        params = {name: x for name, x in point.items() if name != "lr"}
        metrics = {} if value is None else {"valid": {METRIC: value}, "test": {METRIC: 1 - value}}
        settings = Settings(model, lr=point["lr"], params=params)
        stubs.append(SimpleNamespace(metrics=metrics, seconds=seconds, settings=settings))
    return stubs


def test_the_search_never_sees_the_test_split_and_takes_the_first_of_equals():
    values = np.array([[0.1, 0.3, 0.3, 0.2, 0.0, 0.0, 0.0], [0.1, 0.3, 0.2, 0.9, 0.0, 0.0, 0.0]])
    assert best(records_of(values[0])) == tried("BPR")[1]
    assert best(records_of(values.ravel())) == tried("BPR")[3]  # .55 over two seeds


def test_a_run_that_diverged_rules_its_point_out():
    assert best(records_of([None, 0.1, 0, 0, 0, 0, 0, 0.9, 0.1, 0, 0, 0, 0, 0])) == tried("BPR")[1]


@pytest.mark.parametrize(("seconds", "seeds"), [([1, 59, 59, 61, 900], 3), ([1, 1, 60, 61, 61], 1)])
def test_short_trainings_are_judged_by_three_seeds(monkeypatch, seconds, seeds):
    asked = []

    def pretend(settings, root, jobs):
        asked.append(settings)
        return [records_of([0.1], seconds[k % 5], "MMGCN")[0] for k, _ in enumerate(settings)]

    monkeypatch.setattr(searches, "run_many", pretend)
    found = searches.search({"MMGCN": Settings("MMGCN", "baby", seed=7)}, 1, "")["MMGCN"]
    assert len(found) == 5 * seeds
    assert [one.seed for one in asked[1]] == [seed for seed in range(7, 7 + seeds) for _ in range(5)]
    assert [one.lr for one in asked[1]] == [point["lr"] for point in points("MMGCN")] * seeds


def test_values_around_the_best_point_are_tried_last(monkeypatch):
    asked = []

    def pretend(settings, root, jobs):
        asked.append(settings)
        value = {0.6: 0.9}
        stub = [records_of([value.get(one.params.get("alpha"), 0.1)], model="SEA")[0] for one in settings]
        return [SimpleNamespace(**vars(s) | {"settings": one}) for s, one in zip(stub, settings)]

    monkeypatch.setattr(searches, "run_many", pretend)
    first = Settings("SEA", params=MODELS["SEA"].settings(), lr=1e-4)
    found = searches.search({"SEA": first}, 1, "")["SEA"]
    assert len(found) == BUDGET * 3
    near = asked[-1]
    assert [one.params["tau"] for one in near] == [0.1, 0.5] * 3
    assert {one.params["alpha"] for one in near} == {0.6}


@pytest.mark.parametrize("model", TRAINED)
def test_every_model_has_several_step_sizes_on_planted_worlds_within_the_budget(model, monkeypatch):
    """Where its authors name none, those of SEA: 1e-4, 5e-4 and 1e-3 there, ten times as much on a planted world."""

    def trained(settings, root, jobs):
        stubs = [vars(records_of([0.1], model=model)[0]) for _ in settings]
        return [SimpleNamespace(**stub | {"settings": one}) for stub, one in zip(stubs, settings)]

    monkeypatch.setattr(searches, "run_many", trained)
    first = Settings(model, "planted", params=MODELS[model].settings(), lr=1e-2)
    tried = [record.settings for record in searches.search({model: first}, 1, "")[model]]
    rates, named = {one.lr for one in tried}, MODELS[model].grid.get("lr", (1e-4, 5e-4, 1e-3))
    assert len(rates) > 1 and all(min(abs(rate - 10 * one) for one in named) < 1e-9 for rate in rates)
    assert len(tried) <= BUDGET * 3


@pytest.mark.parametrize("model", MODELS)
def test_every_grid_is_of_settings_and_holds_the_default(model):
    defaults = defaults_of(model)
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
    around = sum(map(len, MODELS[model].around.values()))
    assert len(tried) + around == min(len(complete) + around, BUDGET)


def test_the_published_points_of_lgmrec_are_its_authors():
    settings = ("hyper_layers", "edges", "keep", "alpha")
    tried = [tuple((defaults_of("LGMRec") | point)[name] for name in settings) for point in points("LGMRec")]
    assert {(1, 4, 0.5, 0.3), (4, 4, 0.4, 0.6), (2, 64, 0.2, 0.2)} <= set(tried)


def test_another_process_tries_the_same_points():
    code = "from sea.search import *; print([points(model) for model in MODELS])"
    env = os.environ | {"PYTHONHASHSEED": "1"}
    printed = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == repr([points(model) for model in MODELS])


def test_what_no_grid_holds_is_tried_all_the_same(monkeypatch):
    monkeypatch.setattr(MODELS["BPR"], "grid", {"reg": tuple(range(3, 40))})
    monkeypatch.setattr(MODELS["BPR"], "published", ({"dim": 7},))
    assert len(grid("BPR")) == 37 + 2
    assert {"dim": 64, "reg": 0.1} in points("BPR") and {"dim": 7} in points("BPR")
    assert len(points("BPR")) == BUDGET


def defaults_of(model):
    settings = complete(Settings(model, device="cpu"))
    return {"lr": settings.lr, **settings.params}
