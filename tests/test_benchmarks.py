"""The benchmarks compare like with like, and their numbers are what they say."""

import approximations
import batch
import breakdown
import growth
import numpy as np
import pytest
import torch
import training
from common import SHAPES, random_dataset

from sea import graphs
from sea.data import load, planted
from sea.study import study

CPU = torch.device("cpu")


def test_both_forms_of_a_batch_agree():
    assert batch.check().startswith("same batch")


def test_a_loop_over_users_finds_the_same_metrics_and_full_similarities_the_same_graph():
    world = planted(60, 100, n_factors=2, widths={"image": 12, "text": 7}, mean_interactions=35)
    assert np.bincount(world.valid[:, 0]).max() > 3
    assert "metrics of 60 users" in batch.check_apart(world)


def test_every_row_of_the_table_is_measured_and_the_parts_add_up():
    table = batch.measure("small", 1, 1, CPU)
    assert (table.drop(index="remainder")[["plain s", "ours s"]] > 0).all(axis=None)
    assert table["ratio"].to_numpy() == pytest.approx(table["plain s"] / table["ours s"])
    apart = table.index[table["ours %"].isna()]
    assert list(apart) == ["item graph", "evaluation", "epoch"]
    assert table.drop(index=[*apart, "batch"])["ours %"].sum() == pytest.approx(100)


@pytest.mark.parametrize("name", SHAPES)
def test_random_data_has_the_shape_and_covers_it(name):
    shape = SHAPES[name]._replace(widths={"image": 2})
    dataset = random_dataset(name, shape)
    assert len(dataset.train) == shape.n_train
    for column, count in enumerate((shape.n_users, shape.n_items)):
        assert len(np.unique(dataset.train[:, column])) == count
    assert all(np.array_equal(np.sort(d[:, 0]), np.arange(shape.n_users)) for d in (dataset.valid, dataset.test))
    pairs = np.concatenate([dataset.train, dataset.valid, dataset.test])
    assert len(np.unique(pairs @ [shape.n_items, 1])) == len(pairs)


def test_a_saved_dataset_is_read_back(tmp_path):
    dataset = random_dataset("small", SHAPES["small"])
    dataset.save(tmp_path / "set")
    assert load(tmp_path / "set").checksum == dataset.checksum


@pytest.mark.parametrize("sample", [0, 200])
def test_growth_has_finite_numbers_and_a_recall_where_the_search_is_approximate(monkeypatch, sample):
    monkeypatch.setattr(graphs, "EXACT", 500)
    exact, likely = (
        growth.measure(items, sample, {"image": 8, "text": 6}, 1, CPU, torch.get_num_threads()) for items in (400, 600)
    )
    assert np.isnan(exact.pop("recall"))
    assert 0.8 < likely["recall"] <= 1
    assert exact["batch"] == 138  # 400 · 20 / 58, rounded up
    assert np.isfinite([*exact.values(), *likely.values()]).all()
    assert min(exact["epoch s"], likely["epoch s"], exact["graph s"]) > 0


def test_growth_measures_all_items_up_to_a_size_and_samples_of_what_is_larger():
    assert growth.plan([100, 200, 300], sample=100, exact=200) == [(100, 0), (200, 0), (200, 100), (300, 100)]


def test_growth_is_relative_to_the_same_kind_of_row():
    rows = {
        (items, on): {"batch": 1, "epoch s": 1.0, "µs an interaction": value}
        for items, on, value in ((growth.REFERENCE, "all", 4.0), (growth.REFERENCE, "sample", 2.0), (9, "sample", 3.0))
    }
    assert growth.growth(rows).iloc[:, 3].tolist() == [1, 1, 1.5]


def test_a_training_takes_what_its_epochs_and_evaluations_take():
    row = training.train("small", 2, CPU).loc["small"]
    assert min(row["evaluations s"], row["epochs s"]) > 0
    assert row["epochs s"] + row["evaluations s"] < row["training s"]


def test_an_approximation_is_held_against_the_exact_form_on_the_same_seeds(tmp_path):
    chosen = approximations.variants(64)
    assert chosen["all four"][1] == {"q_steps": 10, "q_items": 64, "align_items": 64, "bfloat16": True}
    two = {name: chosen[name] for name in ("exact", "alignment on 64 items")}
    found = study(two, "planted", "quick", seeds=2, root=tmp_path)
    exact, other = ([r.metrics["test"]["recall@20"] for r in found.records[name]] for name in two)
    row = approximations.compare(found).loc["alignment on 64 items"]
    assert row["recall@20"] == pytest.approx(np.mean(other))
    assert row["exact's lead: difference"] == pytest.approx(np.mean(exact) - np.mean(other))
    half = 12.706 * abs(exact[0] - other[0] - exact[1] + other[1]) / 2  # two worlds
    assert row["exact's lead: ±"] == pytest.approx(half, rel=1e-4)


def test_a_breakdown_gives_each_part_its_forward_and_backward():
    dataset = random_dataset("small", SHAPES["small"])
    form = growth.build(dataset, 0, CPU)
    first = batch.batches(dataset, CPU)[0]
    with breakdown.ranges(form) as parts, breakdown.profile() as profiler, breakdown.record_function(breakdown.REST):
        batch.step(form, *first)
    table = breakdown.shares(profiler.events(), parts, CPU)
    assert set(table.index.unique("part")) == set(parts)
    assert table["percent"].sum() == pytest.approx(100)
    assert table.loc["optimiser"].index.str.contains("adam").any()
    for part in ("propagation", "alignment"):  # both have an autograd function of sea's own
        names = set(table.loc[part].index)
        assert any(f"{name}Backward" in names for name in names)
    assert all(part in breakdown.tree(table) for part in parts)


def test_dense_products_are_counted_as_derived():
    dataset = random_dataset("small", SHAPES["small"])
    n, flop = dataset.n_items, 2
    projections = sum(2 * n * d * 384 + 3 * (352 + 288) * (d // 2) * d for d in (64, 32))
    mlps, heads = 3 * 2 * n * 256 * 64, 3 * 2 * n * (64 * 64 + 64 * 32)
    solosim, club = 3 * n * n * 32, 3 * 2 * n * 1024
    q_steps = 50 * 2 * n * (1024 + 1536)  # forward, backward
    counted = breakdown.dense_flop(growth.build(dataset, 0, CPU), batch.batches(dataset, CPU)[0])
    assert counted == pytest.approx(flop * (projections + mlps + heads + solosim + club + q_steps), rel=0.01)


def test_an_operation_counts_if_it_computes():
    with breakdown.Operations() as counted:
        a = torch.empty(3, 4)  # memory alone
        a.T[0]  # views
        assert counted.count == 0
        (a.mul(2) + 1) @ torch.ones(4, 1)  # four operations: "ones" fills
    assert counted.count in (4, 5)  # "ones" is one, or memory and a fill


def test_qs_steps_are_counted_apart_and_each_is_the_same():
    dataset = random_dataset("small", SHAPES["small"])
    form, first = growth.build(dataset, 0, CPU), batch.batches(dataset, CPU)[0]
    counts = []
    for steps in (10, 10, 20, 30):
        form.model.separate.q_steps = steps
        counts.append(breakdown.operations(form, first))
    whole, of_q = np.transpose(counts[1:])  # at first the optimisers make their state
    assert of_q[2] - of_q[1] == of_q[1] - of_q[0] > 0
    assert len(set(whole - of_q)) == 1 and whole[0] > of_q[0]
