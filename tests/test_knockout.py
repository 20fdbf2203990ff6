"""Features that are knocked out: what is replaced, what stays, what it is called, and runs on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import dataset_of

from sea import published
from sea.analysis.knockout import at_test_time, describe, ranking_on, trained_copies
from sea.data import DataError, is_planted, knock_out, load, planted
from sea.evaluate import Ranking, evaluate
from sea.models import MODELS, READERS
from sea.records import NotPublished, source
from sea.runs import Settings, run
from sea.search import PLANTED_LR, points
from sea.study import plan, study


def test_noise_has_the_moments_of_the_features():
    """Over many draws: the mean, and the covariance of columns, as exact as the count of draws allows."""
    world = planted(40, 60, widths={"image": 5, "text": 3}, mean_interactions=11)
    values = world.features["image"] = world.features["image"] * [1, 2, 3, 4, 5] + [0, 100, 0, -3, 0]
    draws = [knock_out(world, ["image"], "noise", seed).features["image"] for seed in range(400)]
    drawn = np.concatenate(draws).astype(np.float64)
    covariance, scale = np.cov(values.T, bias=True), values.std(0)
    assert (drawn.mean(0) - values.mean(0)) / scale == pytest.approx(0, abs=0.03)
    assert (np.cov(drawn.T) - covariance) / np.outer(scale, scale) == pytest.approx(0, abs=0.03)


def test_noise_of_wide_features_tells_nothing_of_the_items():
    """More columns than items, and a block of items at a time."""
    world = planted(40, 30, widths={"image": 200, "text": 7}, mean_interactions=11)
    found = knock_out(world, ["image"], "noise", 3)
    own, noise = (one.features["image"] - world.features["image"].mean(0) for one in (world, found))
    cosine = (own * noise).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(noise, axis=1)
    assert abs(cosine.mean()) < 4 * cosine.std() / np.sqrt(30)
    outside = noise - noise @ np.linalg.pinv(own, rcond=1e-5) @ own  # of the space that the rows span
    assert np.abs(outside).max() < 0.01 * np.abs(noise).max()


def test_noise_has_eleven_bits_and_is_not_the_worlds_own_draw():
    world = load("planted", 5)
    found = load("planted!image,text=noise", 5)
    for m in ("image", "text"):
        values = found.features[m]
        assert values.dtype == np.float32
        assert (values.astype(np.float16).astype(np.float32) == values)[np.abs(values) > 1e-4].all()
        for truth in world.factors.values():
            assert np.abs(np.corrcoef(truth.T, values.T)[: truth.shape[1], truth.shape[1] :]).max() < 0.25


def test_shuffled_rows_are_those_of_another_item_the_same_for_each_modality():
    world = planted(40, 30, widths={"audio": 4, "image": 5, "text": 3}, mean_interactions=11)
    found = knock_out(world, ["image", "text"], "shuffled", 7)
    rows = {m: [tuple(row) for row in world.features[m]] for m in world.features}
    origins = {m: [rows[m].index(tuple(row)) for row in found.features[m]] for m in ("image", "text")}
    assert origins["image"] == origins["text"]
    assert sorted(origins["image"]) == list(range(30))
    assert all(origin != item for item, origin in enumerate(origins["image"]))
    assert found.features["audio"] is world.features["audio"]
    assert knock_out(world, ["image"], "shuffled", 8).checksum != knock_out(world, ["image"], "shuffled", 7).checksum


@pytest.mark.parametrize("how", ["noise", "shuffled"])
def test_what_stays_and_what_it_is_called(how):
    world = replace(planted(40, 30, mean_interactions=11), warning="a toy")
    found = knock_out(world, ["text"], how, 1)
    assert found.name == f"planted!text={how}"
    assert found.checksum != world.checksum
    assert found.warning.startswith("a toy; text features ")
    assert (found.interactions == world.interactions).all(axis=None)
    assert found.features["image"] is world.features["image"]
    both = knock_out(world, ["text", "image"], how, 1)
    assert both.name == f"planted!image,text={how}"
    assert (both.features["text"] == found.features["text"]).all()  # whatever else is named
    assert knock_out(world, ["image", "text"], how, 1).checksum == both.checksum


def test_a_source_names_it(tmp_path, monkeypatch):
    world = load("planted", 3)
    named, made = load("planted!image=noise", 3), knock_out(world, ["image"], "noise", 3)
    assert (named.name, named.checksum, named.warning) == (made.name, made.checksum, made.warning)
    assert is_planted("planted!image=noise") and is_planted("planted") and not is_planted("baby!image=noise")
    assert source(Settings("BPR", "planted!image=noise", 3)) == ("planted!image=noise", 3)
    planted(40, 30, mean_interactions=11).save(tmp_path / "wow!" / "small")
    folder = str(tmp_path / "wow!" / "small")
    assert source(Settings("BPR", f"{folder}!text=noise", 3)) == (f"{folder}!text=noise",)
    found = load(f"{folder}!text=noise")
    assert found.name == "planted!text=noise"
    assert load(f"{folder}!text=noise", 3).checksum == found.checksum  # a folder's draw has one seed
    assert load(folder).features["image"].tolist() == found.features["image"].tolist()


@pytest.mark.parametrize(
    "text",
    [
        *("planted!", "planted!image", "planted!image=", "planted!=noise", "planted!image=nothing"),
        *("planted!text,image=noise", "planted!image,image=noise", "planted!image,=noise", "!image=noise"),
    ],
)
def test_a_source_that_breaks_the_rule_is_one_line(text):
    with pytest.raises(DataError) as error:
        load(text)
    assert str(error.value) == (
        f"{text}: needs modalities in alphabetical order and one of noise, shuffled after '!', such as "
        "'planted!image,text=noise'"
    )


def test_a_modality_that_is_not_there_is_one_line():
    with pytest.raises(DataError, match=r"among image, text in 'knock_out' of planted \(got 'audio'\)"):
        load("planted!audio=noise")
    with pytest.raises(DataError, match=r"\(got ''\)"):
        knock_out(load("planted"), [], "noise", 1)
    with pytest.raises(DataError, match=r"'how' needs to be one of noise, shuffled in 'knock_out' \(got 'zero'\)"):
        knock_out(load("planted"), ["image"], "zero", 1)


def test_a_run_on_it_is_an_ordinary_run(tmp_path):
    """It is trained as on the whole world, its own data come back, and a store keeps the two apart."""
    (settings,) = plan(["VBPR"], "planted!image,text=noise", "quick")
    assert settings.lr == PLANTED_LR
    assert points("SEA", "planted!image,text=noise") == points("SEA", "planted") != points("SEA", "baby!image=noise")
    found = {
        name: study(["VBPR"], name, "quick", seeds=2, device="cpu", root=tmp_path / "runs").records["VBPR"]
        for name in ("planted", "planted!image,text=noise")
    }
    whole, noise = found.values()
    assert [r.dataset for r in noise] == ["planted!image,text=noise"] * 2
    assert all(a.checksum != b.checksum and a.key != b.key for a, b in zip(whole, noise))
    assert [r.data().checksum for r in noise] == [r.checksum for r in noise]
    assert noise[1].model(noise[1].data()) is not None
    published.publish([*whole, *noise], tmp_path / "store")
    assert published.stored(tmp_path / "store") == ["planted", "planted!image,text=noise"]
    assert published.datasets(tmp_path / "store") == ["planted"]  # what claims are judged on
    for name, records in found.items():
        (first, second) = published.read(name, tmp_path / "store")
        assert [first.key, second.key] == [r.key for r in records]
        assert [r.key for r in published.find(first.settings, tmp_path / "store")] == [r.key for r in records]
        assert load(*source(second.settings)).checksum == second.checksum


# at test time


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "toy"
    planted(60, 40, n_factors=2, widths={"image": 12, "text": 7}, mean_interactions=12, seed=1).save(folder)
    return str(folder)


def of_folder(model, saved, folder, **params):
    settings = Settings(model, saved, epochs=2, batch_size=256, device="cpu", lr=1e-2, params=params)
    return run(settings, folder, progress=False)


@pytest.mark.parametrize(
    ("model", "params", "kept"),
    [
        ("VBPR", {}, []),
        ("SEA", {"q_steps": 0}, []),
        ("FREEDOM", {}, []),
        ("FREEDOM", {"lam": 1e-3}, ["features.image", "features.text"]),
        ("MGCN", {}, ["features.image", "features.text"]),
        ("ContentKNN", {"k": 5}, []),
    ],
)
def test_at_test_time_frozen_inputs_are_replaced_and_trained_copies_told(model, params, kept, saved, tmp_path):
    record = of_folder(model, saved, tmp_path, **params)
    assert (ranking_on(record, record.data()).hits == record.ranking().hits).all()
    assert trained_copies(record.settings, "image,text=noise") == kept
    found = ranking_on(record, load(f"{saved}!image,text=noise"))
    assert (found.recommended != record.ranking().recommended).any()
    made = at_test_time(record, "image,text=noise")
    for name in ("users", "targets", "hits", "recommended"):
        assert (getattr(made.ranking(), name) == getattr(found, name)).all()
    assert made.metrics == {"test": found.mean()} and (made.key, made.history) == (record.key, record.history)


def test_a_published_run_has_its_ranking_at_test_time(saved, tmp_path, monkeypatch):
    """It was kept as a measure, for each replacement apart; it needs neither weights nor data."""
    record = of_folder("VBPR", saved, tmp_path)
    here = [at_test_time(record, replaced) for replaced in ("image=noise", "text=shuffled")]
    published.publish([record], tmp_path / "store")
    (there,) = published.read(record.dataset, tmp_path / "store")
    monkeypatch.setattr("sea.analysis.knockout.load", None)
    for one, replaced in zip(here, ("image=noise", "text=shuffled")):
        assert at_test_time(there, replaced).metrics == one.metrics
        assert (at_test_time(there, replaced).ranking().recommended == one.ranking().recommended).all()
    assert here[0].metrics != here[1].metrics
    with pytest.raises(NotPublished, match="measure 'test ranking on image=shuffled' needs its weights"):
        at_test_time(there, "image=shuffled")


def test_vbpr_at_test_time_by_hand(saved, tmp_path):
    record, noise = of_folder("VBPR", saved, tmp_path), load(f"{saved}!image=noise")
    weights = record.model(record.data()).state_dict()
    features = torch.tensor(np.hstack([noise.features["image"], noise.features["text"]]))
    items = torch.cat([weights["items"], features @ weights["weight"].T + weights["bias"]], dim=1)
    scores = (weights["users"] @ items.T).numpy()
    for user, item in noise.train:
        scores[user, item] = -np.inf
    top = np.argsort(-scores, axis=1)[:, :20]
    recommended = np.bincount(top[np.unique(noise.test[:, 0])].ravel(), minlength=40)
    assert at_test_time(record, "image=noise").ranking().recommended.tolist() == recommended.tolist()


@pytest.mark.parametrize(("model", "kept"), [("BPR", []), ("BM3", ["features.image", "features.text"])])
def test_who_reads_no_frozen_features_ranks_as_before(model, kept, saved, tmp_path):
    record = of_folder(model, saved, tmp_path)
    found = at_test_time(record, "image,text=shuffled")
    assert (found.ranking().hits == record.ranking().hits).all()
    assert trained_copies(record.settings, "image,text=shuffled") == kept


@pytest.mark.parametrize("model", MODELS)
def test_readers_are_the_models_that_features_make_another(model, saved, tmp_path):
    """Trained for an epoch on replaced features, a reader ranks otherwise; a model that reads none ranks as before."""
    whole, noise = (
        run(Settings(model, source, epochs=1, batch_size=256, device="cpu", lr=1e-2), tmp_path, progress=False)
        for source in (saved, f"{saved}!image,text=noise")
    )
    same = (whole.ranking().recommended == noise.ranking().recommended).all()
    assert (model in READERS) != same


def test_other_data_are_refused(saved, tmp_path):
    record = of_folder("BPR", saved, tmp_path)
    with pytest.raises(ValueError, match=rf"as run {record.key} has them, in 'ranking_on' \(got planted\)"):
        ranking_on(record, load("planted"))
    fewer = replace(record.data(), features={"image": record.data().features["image"]})
    with pytest.raises(ValueError, match="modalities"):
        ranking_on(record, fewer)


# what is recommended


def shown(*counts):
    return Ranking(np.arange(2), np.ones(2), np.zeros((2, 20), dtype=bool), np.array(counts))


def test_what_is_recommended_by_hand():
    """Five items with 4, 3, 1, 1 and 0 interactions: one is the head, the others the long tail."""
    train = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 3)]
    dataset = dataset_of(train, [(0, 3)], [(0, 4)], 4, 5)
    found = describe(shown(6, 3, 0, 1, 0), dataset)
    assert found == pytest.approx(
        {
            "coverage": 3 / 5,
            "gini": (-4 * 0 - 2 * 0 + 0 * 1 + 2 * 3 + 4 * 6) / (5 * 10),
            "popularity": (6 * 4 + 3 * 3 + 1 * 1) / 10,
            "tail": 4 / 10,
            "tail in train": 5 / 9,
        }
    )
    assert describe(shown(2, 2, 2, 2, 2), dataset)["gini"] == 0
    assert describe(shown(0, 0, 9, 0, 0), dataset)["gini"] == pytest.approx(1 - 1 / 5)
    six = dataset_of([*train, (0, 5)], [(0, 3)], [(0, 4)], 4, 6)
    assert describe(shown(1, 1, 1, 1, 1, 1), six)["tail"] == pytest.approx(4 / 6)  # 20 % of six, rounded up, is two


def test_the_popular_list_is_the_least_various(world):
    found = {
        name: describe(evaluate(*MODELS[name](world, generator=torch.Generator()).vectors(), world), world)
        for name in ("Popular", "EASE")
    }
    assert found["Popular"]["coverage"] < found["EASE"]["coverage"] <= 1
    assert found["Popular"]["popularity"] > found["EASE"]["popularity"]
    assert found["Popular"]["tail"] < found["EASE"]["tail"]
