"""What notebooks measure of a trained SEA, run by run: each number against the same taken another way."""

from dataclasses import replace

import numpy as np
import pytest

from sea.analysis import parts, probes, representations, terms
from sea.analysis.information import decomposition, gaussian, without_part
from sea.data import planted
from sea.records import Record, measures
from sea.runs import Settings, run
from sea.study import Study

METRIC = "recall@20"


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A short training of SEA on a planted world, CLUB unclamped so that it has a gradient."""
    params = {"q_steps": 2, "club_released": False}
    return run(Settings("SEA", epochs=2, device="cpu", lr=1e-2, params=params), tmp_path_factory.mktemp("runs"))


def test_a_pull_grows_with_its_weight(record, monkeypatch):
    before = terms.pull(record)
    assert set(before) == {"align", "distance"} and min(before.values()) > 0
    trained = Record.model

    def heavier(self, world):
        model = trained(self, world)
        model.separate.alpha *= 3
        return model

    monkeypatch.setattr(Record, "model", heavier)
    after = terms.pull(record)
    assert after["align"] == pytest.approx(3 * before["align"], rel=1e-5)
    assert after["distance"] == pytest.approx(before["distance"], rel=1e-5)


def test_sizes_are_those_of_the_kept_epoch(record):
    history = [row | {"loss/align": 0.5, "loss/rec": 2.0, "active/distance": 0.25} for row in record.history]
    history[record.best_epoch] |= {"loss/align": 0.1}
    row = terms.sizes(Study({"SEA": [replace(record, history=history)]}, {})).loc["SEA"]
    assert row["align, value / BPR's"] == pytest.approx(0.05)
    assert row["distancing active, share of batches"] == 0.25
    assert row["align, gradient / BPR's"] == pytest.approx(terms.pull(record)["align"])
    assert "pull" in measures(record)  # kept beside the run


def test_the_parts_measures_are_means_over_the_modalities(record):
    world = record.data()
    found = representations.extract(record.model(world))
    shared = parts.shared(record)
    for count in parts.COMPONENTS:
        each = [gaussian(found["generic"][m], found["unique"][m], count) for m in world.features]
        assert shared[f"{count} components"] == pytest.approx(np.mean(each))
    assert shared["gaussian"] == pytest.approx(shared["4 components"])
    each = [parts.composition(record)[f"{m}: separation"] for m in world.features]
    assert parts.composition(record)["separation"] == pytest.approx(np.mean(each))
    assert parts.composition(record) == probes.composition(found, world.factors)


def test_what_is_told_is_the_decomposition_of_the_two_modalities_parts(record):
    world = record.data()
    found, told = representations.extract(record.model(world)), parts.told(record)
    target = np.hstack([world.factors[name] for name in ("generic", "image", "text")])
    for half in ("generic", "unique"):
        one = decomposition(found[half]["image"], found[half]["text"], target, 16)
        assert told[f"{half}, both"] == pytest.approx(one["both"], rel=1e-9)
        assert told[f"{half}, alone"] == pytest.approx(np.mean([one["a alone"], one["b alone"]]), rel=1e-9)
    assert set(told) == set(parts.TOLD.values())


def test_what_is_told_of_each_factor_is_the_mean_over_the_modalities(record):
    world = record.data()
    found, told = representations.extract(record.model(world)), parts.told_of_each(record)
    for half in ("generic", "unique"):
        for entry, factor in (
            ("generic", {"image": "generic", "text": "generic"}),
            ("own", {"image": "image", "text": "text"}),
        ):
            each = [gaussian(found[half][m], world.factors[factor[m]], 16) for m in ("image", "text")]
            assert told[f"{half}, {entry}"] == pytest.approx(np.mean(each), rel=1e-9)
    assert set(told) == set(parts.OF_EACH.values())


def test_perfect_parts_tell_next_to_nothing_of_the_other_factor_and_all_of_their_own():
    """Features that show their factors as they are, by the first: each part is then a factor and little noise."""
    world = planted(seed=3)
    shown = {m: np.hstack([world.factors["generic"], world.factors[m]]) for m in ("image", "text")}
    told = parts.of_perfect_parts(replace(world, features=shown))
    assert told["unique, both"] < 0.5 < 10 < told["generic, both"]
    assert abs(told["unique, generic"]) < 0.3 and abs(told["generic, own"]) < 0.3
    worse = parts.of_perfect_parts(world)
    assert worse["unique, own"] < told["unique, own"] and worse["generic, both"] < told["generic, both"]


def test_what_is_left_without_a_half(record):
    world = record.data()
    left = parts.without(record)
    assert left["whole"] == record.metrics["test"][METRIC]
    assert left["both"] == without_part(record.model(world), world, "both").recall(20).mean()
    assert left["both"] < left["whole"]
