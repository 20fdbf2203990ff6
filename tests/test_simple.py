"""The simple baselines, each against an oracle that shares no line with it: loops, counts, a solver."""

import dataclasses
from math import sqrt

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sea import blocks
from sea.data import load, planted
from sea.evaluate import evaluate
from sea.models import MODELS, SIMPLE
from sea.runs import Settings, run
from sea.search import BUDGET, points, size
from sea.study import study
from sea.train import fit


@pytest.fixture(params=[1, 10_000], ids=["a row at a time", "at once"])
def toy(request, monkeypatch):
    """A world with an item that nobody bought and one whose image is missing; whole, and in blocks of a row."""
    monkeypatch.setitem(blocks.CELLS, "cpu", request.param)
    world = planted(40, 30, widths={"audio": 5, "image": 6, "text": 7}, mean_interactions=11, seed=2)
    world.features["image"][4] = 0
    return dataclasses.replace(world, train=world.train[world.train[:, 1] != 3])


def scores(name, dataset, **settings):
    users, items = MODELS[name](dataset, generator=torch.Generator(), **settings).vectors()
    return (users @ items.T).numpy()


def bought(dataset):
    table = np.zeros((dataset.n_users, dataset.n_items))
    for user, item in dataset.train:
        table[user, item] = 1
    return table


def by_neighbours(dataset, similarity, k):
    """Σ over the user's items among the k nearest above 0 of each item; of equals the smaller id."""
    found = np.zeros((dataset.n_users, dataset.n_items))
    for item in range(dataset.n_items):
        others = [j for j in range(dataset.n_items) if j != item and similarity(item, j) > 0]
        nearest = sorted(others, key=lambda j: (-similarity(item, j), j))[:k]
        for user, other in dataset.train:
            if other in nearest:
                found[user, item] += similarity(item, other)
    return found


def test_popular_counts(toy):
    counts = [sum(item == i for _, item in toy.train) for i in range(toy.n_items)]
    assert scores("Popular", toy).tolist() == [counts] * toy.n_users
    assert counts[3] == 0


@pytest.mark.parametrize(("k", "shrink"), [(1, 0.0), (4, 0.0), (4, 7.0), (100, 0.0)])
def test_item_knn_by_loops(toy, k, shrink):
    users_of = [{u for u, item in toy.train if item == i} for i in range(toy.n_items)]

    def similarity(i, j):
        return len(users_of[i] & users_of[j]) / ((sqrt(len(users_of[i]) * len(users_of[j])) + shrink) or 1)

    assert scores("ItemKNN", toy, k=k, shrink=shrink) == pytest.approx(by_neighbours(toy, similarity, k), rel=1e-5)


@pytest.mark.parametrize(
    ("k", "used", "names"),
    [(1, "all", ("audio", "image", "text")), (5, "first", ("image",)), (5, "last", ("text",)), (50, "all", ...)],
)
def test_content_knn_by_loops(toy, k, used, names):
    names = tuple(toy.features) if names is ... else names

    def cosine(a, b):
        return float(a @ b) / ((sqrt(float(a @ a)) * sqrt(float(b @ b))) or 1)

    def similarity(i, j):
        values = (toy.features[m].astype(np.float64) for m in names)
        return sum(cosine(x[i], x[j]) for x in values) / len(names)

    found = scores("ContentKNN", toy, k=k, used=used)
    assert found == pytest.approx(by_neighbours(toy, similarity, k), rel=1e-4, abs=1e-6)
    assert (found[:, 4] == 0).all() == (used == "first")  # nothing is like a missing image


@pytest.mark.parametrize("reg", [0.5, 20.0])
def test_ease_by_ridge_regression_of_each_item_on_the_others(toy, reg):
    """The column of an item, whose own entry is 0: (Xoᵀ Xo + λ I) b = Xoᵀ x on the others' columns Xo."""
    x, weights = bought(toy), np.zeros((toy.n_items, toy.n_items))
    for item in range(toy.n_items):
        others = [j for j in range(toy.n_items) if j != item]
        a = x[:, others]
        weights[others, item] = np.linalg.solve(a.T @ a + reg * np.eye(len(others)), a.T @ x[:, item])
    assert scores("EASE", toy, reg=reg) == pytest.approx(x @ weights, rel=1e-4, abs=1e-6)


def test_ease_minimises_what_it_says():
    """On five items, with a solver that knows the objective alone."""
    world = planted(30, 20, n_factors=2, mean_interactions=10, seed=3)
    few = dataclasses.replace(world, n_items=5, train=world.train[world.train[:, 1] < 5])
    x, free = bought(few), ~np.eye(5, dtype=bool)

    def objective(values):
        b = np.zeros((5, 5))
        b[free] = values
        return ((x - x @ b) ** 2).sum() + 3 * (b**2).sum()

    best = minimize(objective, np.zeros(20), method="BFGS", options={"gtol": 1e-7}).x
    b = np.zeros((5, 5))
    b[free] = best
    assert scores("EASE", few, reg=3.0) == pytest.approx(x @ b, abs=1e-5)


@pytest.mark.parametrize("name", SIMPLE)
def test_it_is_validated_once_and_keeps_no_weights(world, tmp_path, name):
    record = run(Settings(name, device="cpu"), tmp_path, world, progress=False)
    assert (record.stopped, record.best_epoch, len(record.history)) == ("closed form", 0, 1)
    assert record.history[0]["valid/recall@20"] == record.metrics["valid"]["recall@20"]
    assert record.seconds_per_epoch == 0
    assert (record.folder / "weights.safetensors").stat().st_size < 200
    assert not (record.folder / "state.safetensors").exists()
    users, items = record.model(world).vectors()
    stored, fresh = record.ranking(), evaluate(users, items, world)
    dense = evaluate(users.to_dense(), items, world)
    for metric, values in stored.values.items():
        assert (fresh.values[metric] == values).all()
        assert dense.values[metric] == pytest.approx(values)
        assert record.metrics["test"][metric] == values.mean()
    another = run(Settings(name, seed=5, lr=1e-2, epochs=1, device="cpu"), tmp_path, world, progress=False)
    assert another.metrics == record.metrics


def test_scores_that_are_not_finite_end_it(world, monkeypatch):
    model = MODELS["ItemKNN"](world, generator=torch.Generator())
    model.weights[3, 4] = torch.nan
    result = fit(model, world, lr=1e-3, generator=torch.Generator(), progress=False)
    assert (result.stopped, result.diverged, result.best) == ("diverged", "vectors", -1)


@pytest.mark.parametrize("name", SIMPLE)
def test_it_recommends_by_its_scores_what_the_user_lacks(world, name):
    model, lists = MODELS[name](world, generator=torch.Generator()), bought(world)
    found, by_score = model.recommend([7, 0], 5, world.train), scores(name, world) - 1e9 * lists
    for row, user in zip(found, [7, 0]):
        assert by_score[user, row] == pytest.approx(-np.sort(-by_score[user])[:5])


def test_ease_beats_the_popular_list_on_each_planted_world_and_the_others_do_on_average(tmp_path):
    found = study(SIMPLE, "planted", "quick", seeds=3, device="cpu", root=tmp_path)
    worlds = [load("planted", seed).checksum for seed in (999, 1000, 1001)]
    assert [r.data().checksum for r in found.records["EASE"]] == worlds
    values = {name: [r.metrics["test"]["recall@20"] for r in records] for name, records in found.records.items()}
    assert all(ease > 1.2 * popular for ease, popular in zip(values["EASE"], values["Popular"]))
    assert all(np.mean(values[name]) > np.mean(values["Popular"]) for name in ("ItemKNN", "ContentKNN"))
    assert not found.estimate({"EASE": 1, "Popular": -1}).untested  # each ended by itself


def test_it_is_tuned_like_any_other(tmp_path):
    assert [size(name) for name in SIMPLE] == [1, 12, 9, 12]
    assert all(len(points(name)) <= BUDGET for name in SIMPLE)
    found = study(["ContentKNN"], "planted", "quick", device="cpu", tune=True, root=tmp_path)
    assert len(found.searched["ContentKNN"]) == 12 * 3
    row = found.budget().loc["ContentKNN"]
    assert row["grid points"] == "12 of 12" and row["diverged"] == 0
    assert "k " in row["settings"] and "used " in row["settings"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ItemKNN", {"k": 0}, "'k' needs to be at least 1 and 'shrink' at least 0 in 'ItemKNN' (got 0, 100.0)"),
        ("ItemKNN", {"shrink": -1.0}, "(got 200, -1.0)"),
        ("EASE", {"reg": 0.0}, "'reg' needs to be above 0 in 'EASE' (got 0.0)"),
        ("ContentKNN", {"used": "image"}, "'used' one of all, first, last in 'ContentKNN' (got 50, 'image')"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(world, name, settings, message):
    with pytest.raises(ValueError) as error:
        MODELS[name](world, generator=torch.Generator(), **settings)
    assert message in str(error.value) and "\n" not in str(error.value)
