"""Costs against models whose time and memory are known, and summaries against hand-made rows."""

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sea.analysis import cost as costs
from sea.analysis.cost import Costs, cost, measure
from sea.models import MODELS
from sea.models.bpr import BPR

MIB = 2**20


class Staged(BPR):
    """Works before its first epoch alone, as PAMD does, and holds `held` MiB in one batch of it."""

    def __init__(self, dataset, *, held=0, generator):
        super().__init__(dataset, generator=generator)
        self.held = held * (dataset.n_users > 60)  # none on the toy
        self.ready = dataset.n_users <= 60

    def before_epoch(self, generator):
        if not self.ready:
            time.sleep(1)
        self.ready = True

    def after_step(self):
        torch.ones(self.held * MIB, dtype=torch.uint8)
        self.held = 0


@pytest.fixture
def staged(monkeypatch):
    """Measure it in this process."""
    monkeypatch.setitem(MODELS, "Staged", Staged)
    return lambda epochs, held=0: measure("Staged", {"held": held}, "planted", "cpu", epochs, torch.get_num_threads())


def test_the_memory_is_what_the_training_took_beyond_what_was_there(staged):
    row, machine = staged(1, held=100)
    assert row["beyond"] == row["peak"] - row["baseline"]
    assert row["peak"] >= 100 * MIB
    assert row["beyond"] > 50 * MIB > 2 * staged(1)[0]["beyond"]  # without it: a small model's own
    assert (machine["threads"], machine["torch"]) == (torch.get_num_threads(), torch.__version__)


def test_what_comes_once_is_told_apart_from_what_comes_each_epoch(staged):
    """No clock is held against a clock: whoever sleeps for a second takes at least a second."""
    row = staged(2)[0]
    assert row["seconds"] + row["first"] >= 1  # the first epoch's, with the work before it
    assert staged(1)[0]["seconds"] >= 1


@pytest.mark.parametrize(
    ("epochs", "seconds", "first"),
    [([9.0, 2.0, 4.0], 3, 6), ([9.0, 1.0, 2.0, 8.0], 2, 7), ([3.0, 4.0], 4, -1), ([5.0], 5, np.nan)],
)
def test_seconds_are_the_median_of_the_epochs_after_the_first(monkeypatch, epochs, seconds, first):
    def fitted(model, world, **options):
        return SimpleNamespace(history=[{"seconds": value} for value in epochs])

    monkeypatch.setattr(costs, "fit", fitted)
    row, _ = measure("BPR", {}, "planted", "cpu", len(epochs), torch.get_num_threads())
    assert row["seconds"] == seconds
    assert row["first"] == pytest.approx(first, nan_ok=True)


def test_each_training_has_a_fresh_process_and_takes_its_parameters_at_least_five_times(tmp_path):
    """Parameters, gradient, Adam's two moments and the best epoch's copy; a small model after it has none of that."""
    wide = 2_000
    found = cost(
        {"wide": ("BPR", {"dim": wide}), "narrow": ("BPR", {})}, "planted", "cpu", epochs=1, repeats=2, root=tmp_path
    )
    parameters = (500 + 400) * wide * 4  # bytes
    assert list(found.rows.index) == [("wide", 0), ("narrow", 0), ("wide", 1), ("narrow", 1)]
    assert (found.rows.loc["wide", "beyond"] >= 5 * parameters).all()
    assert found.rows.loc["narrow", "beyond"].max() < found.rows.loc["wide", "beyond"].min() / 2
    left = found.rows["baseline"].xs("narrow")[1] - found.rows["baseline"].xs("narrow")[0]
    assert left < 2 * parameters  # nothing is left of the wide one between them, which took five times that
    assert (found.rows["seconds"] > 0).all()
    assert found.rows["first"].isna().all()
    assert (found.device, found.stamp["rounds"], found.stamp["threads"], found.stamp["dataset"]) == (
        "cpu", 2, 1, "planted",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variants", "options", "error", "message"),
    [
        (
            {"odd": ("BPR", {"dimension": 3})},
            {},
            RuntimeError,
            r"^odd: the training failed in 'cost' \(TypeError: .*\)$",
        ),
        ({"odd": ("GPT", {})}, {}, ValueError, r"models among BPR, .* \(got 'GPT'\)$"),
        ({"BPR": ("BPR", {})}, {"repeats": 0}, ValueError, r"^'repeats' needs to be at least 1 in 'cost' \(got 0\)$"),
        ({"BPR": ("BPR", {})}, {"device": "tpu"}, ValueError, "auto, cpu or cuda"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(variants, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        cost(variants, "planted", **{"device": "cpu", "epochs": 1, "repeats": 1, "root": tmp_path} | options)
    assert not list(tmp_path.iterdir())


def test_a_measurement_is_kept_and_a_different_question_is_measured_anew(tmp_path, monkeypatch):
    asked = []

    def measured(label, model, params, dataset, device, epochs, threads):
        asked.append((label, epochs, params))
        row = {"seconds": 10 * epochs + len(asked), "first": 1.0, "peak": np.nan, "baseline": 1, "beyond": np.nan}
        return row, {"device": "a machine"}

    monkeypatch.setattr(costs, "_in_fresh_process", measured)
    variants = {"one": ("BPR", {}), "two": ("BPR", {"reg": 0.5})}
    options = {"device": "cpu", "repeats": 2, "root": tmp_path}
    first, again = (cost(variants, "planted", epochs=1, **options) for _ in range(2))
    assert [label for label, *_ in asked] == ["one", "two", "one", "two"]
    pd.testing.assert_frame_equal(first.rows, again.rows)
    assert first.rows["seconds"].tolist() == [11, 12, 13, 14]
    assert again.stamp == first.stamp
    assert again.stamp["device"] == "a machine"
    cost(variants, "planted", epochs=2, **options)
    cost(variants | {"two": ("BPR", {"reg": 0.25})}, "planted", epochs=1, **options)
    assert len(asked) == 12


def test_a_process_that_is_killed_is_told_in_one_line(monkeypatch, tmp_path):
    class Dead:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def submit(self, *_):
            raise costs.multiprocessing.ProcessError("terminated abruptly\nwith a long story")

    monkeypatch.setattr(costs, "ProcessPoolExecutor", lambda *_, **__: Dead())
    with pytest.raises(RuntimeError, match=r"^SEAa: .*\(ProcessError: terminated abruptly\)$"):
        cost({"SEAa": ("SEA", {})}, "planted", "cpu", epochs=1, repeats=1, root=tmp_path)


def test_table_and_ratios_are_those_of_hand_made_rounds():
    index = pd.MultiIndex.from_product([["a", "b"], range(3)], names=["variant", "round"])
    seconds, first = [8.0, 2.0, 6.0, 2.0, 1.0, 1.0], [np.nan, 40.0, 20.0, 0.0, -1.0, 2.0]
    peak = [np.nan, 5.0, 7.0, 4.0, 4.0, 4.0]
    rows = pd.DataFrame({"seconds": seconds, "first": first, "peak": peak, "baseline": 1.0}, index=index)
    rows["beyond"] = rows["peak"] - 1
    found = Costs(rows, "cpu", {})
    table = found.table()
    assert list(table.columns) == ["seconds", "seconds min", "seconds max", "first", "peak", "baseline", "beyond"]
    assert table.loc["a"].tolist() == [6, 2, 8, 30, 6, 1, 5]
    assert table.loc["b"].tolist() == [1, 1, 2, 0, 4, 1, 3]
    ratio = found.ratios([("a", "b"), ("b", "a")])
    assert ratio.loc["a / b"].tolist() == [4, 2, 6]  # rounds 4, 2, 6; of the medians it would be 6
    assert ratio.loc["b / a"].tolist() == pytest.approx([1 / 4, 1 / 6, 1 / 2])
    assert found.ratios([("a", "b")], "beyond").loc["a / b"].tolist() == pytest.approx([5 / 3, 4 / 3, 2])
