"""The dataset's card against counts by hand, scikit-learn, and what chance alone gives."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from conftest import SHARED, dataset_of
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from sea.analysis import card
from sea.data import DATA, load, planted

TOY = dataset_of([(0, 0), (0, 1), (1, 1), (2, 1)], [(0, 2), (1, 0)], [(1, 3), (2, 0)], 3, 5)  # item 4: nobody's


@pytest.fixture(scope="module")
def world():
    """A world whose features have zero rows, duplicates, and a common direction."""
    world = planted(80, 50, n_factors=2, widths={"image": 12, "text": 7}, mean_interactions=12, seed=1)
    image = world.features["image"] + 3
    image[[4, 9]] = 0
    image[[7, 8, 20]] = image[3]
    return replace(world, features={**world.features, "image": image})


def test_sizes_count_all_splits():
    table = card.sizes(TOY)["here"].to_dict()
    assert table == {"users": 3, "items": 5, "interactions": 8, "sparsity_percent": pytest.approx(100 * 7 / 15)}
    assert "paper" not in card.sizes(TOY)


@pytest.mark.parametrize("name", ["baby", "sports", "clothing"])
def test_table_1_holds_on_the_papers_sets(name):
    folder = next((folder for folder in (SHARED / name, DATA / name) if folder.is_dir()), None)
    if folder is None:
        pytest.skip(f"{name} is not here")
    table = card.sizes(load(folder))
    assert list(table["here"])[:3] == list(table["paper"])[:3]
    assert round(table.at["sparsity_percent", "here"], 2) == table.at["sparsity_percent", "paper"]


def test_degrees_and_their_spread():
    table = card.degrees(TOY)
    assert table.loc["users", "count"].to_dict() == {2: 1, 3: 2}
    assert table.loc["items", "count"].to_dict() == {0: 1, 1: 2, 3: 2}
    assert table.loc["items", "at least"].to_dict() == pytest.approx({0: 1, 1: 0.8, 3: 0.4})
    brief = card.spread(TOY)
    assert brief.loc["items"].tolist() == [0, 1, 1.6, 3, 3 / 8, 0, 3]  # three have none in train
    assert brief.loc["users"].tolist() == [2, 3, 8 / 3, 3, 3 / 8, 1, 0]


def test_degrees_are_those_of_a_count_by_hand(world):
    counts = Counter(Counter(world.interactions["itemID"].tolist()).values())
    counts[0] += world.n_items - sum(counts.values())
    assert card.degrees(world).loc["items", "count"].to_dict() == {n: c for n, c in sorted(counts.items()) if c}


def test_spectra_are_those_of_pca(world, monkeypatch):
    monkeypatch.setattr(card, "BLOCK", 7)  # of 50 rows
    spectra = card.spectra(world)
    for m, x in world.features.items():
        share = PCA().fit(x.astype(np.float64)).explained_variance_ratio_
        assert spectra.loc[m, "share"].to_numpy() == pytest.approx(share, abs=1e-12)
        assert spectra.loc[(m, 3), "cumulative"] == pytest.approx(share[:3].sum())


def test_features_in_brief(world):
    table = card.features(world)
    assert table.loc["image", ["columns", "zero rows", "duplicates"]].tolist() == [12, 2, 3]
    assert table.loc["text", ["columns", "zero rows", "duplicates"]].tolist() == [7, 0, 0]
    for m, x in world.features.items():
        x = x.astype(np.float64)
        kept = x[x.any(1)]
        cosine = cosine_similarity(kept)[~np.eye(len(kept), dtype=bool)].mean()
        variances = np.linalg.eigvalsh(np.cov(x.T))[::-1]
        lengths = np.sqrt((x**2).sum(1))
        assert table.at[m, "mean cosine"] == pytest.approx(cosine, abs=1e-6)
        assert table.at[m, "dimensions"] == pytest.approx(variances.sum() ** 2 / (variances**2).sum())
        assert table.at[m, "norm"] == pytest.approx(lengths.mean())
        assert table.at[m, "norm sd"] == pytest.approx(lengths.std(ddof=1), rel=1e-4)
        enough = table.at[m, "for 90 %"]
        assert variances[:enough].sum() >= 0.9 * variances.sum() > variances[: enough - 1].sum()


def shares_by_hand(world, k: int) -> dict[str, list[bool]]:
    """For every edge of each modality's kNN graph, whether a user has both in train."""
    users = [{u for u, i in world.train.tolist() if i == item} for item in range(world.n_items)]
    found = {}
    for m, x in world.features.items():
        cosine = cosine_similarity(x.astype(np.float64))
        np.fill_diagonal(cosine, -2)
        near = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        found[m] = [bool(users[i] & users[j]) for i in range(world.n_items) if x[i].any() for j in near[i]]
    return found


def test_the_share_of_co_interacted_neighbours_is_the_one_by_hand(monkeypatch):
    world = planted(80, 50, n_factors=2, widths={"image": 12, "text": 7}, mean_interactions=12, seed=1)
    image = world.features["image"]
    image[[4, 9]] = 0  # no neighbours
    monkeypatch.setattr(card, "BLOCK", 6)  # 36 edges at a time
    table = card.neighbours(world, k=5)
    for m, edges in shares_by_hand(world, 5).items():
        assert table.at[m, "edges"] == len(edges) == 250 - 10 * (m == "image")
        assert table.at[m, "share"] == pytest.approx(np.mean(edges), abs=1e-12)


def test_permuted_features_give_what_chance_gives():
    """A random hand-out puts an edge on any ordered pair of items alike, so the mean is their share of all pairs."""
    world = planted(60, 60, n_factors=2, widths={"image": 12}, mean_interactions=10, seed=2)
    users = [{u for u, i in world.train.tolist() if i == item} for item in range(world.n_items)]
    chance = np.mean([bool(users[i] & users[j]) for i, j in permutations(range(world.n_items), 2)])
    table = card.neighbours(world, k=5, permutations=400, seed=0).loc["image"]
    assert table["permuted"] == pytest.approx(chance, abs=5 * table["permuted sd"] / np.sqrt(400))
    assert 0 < table["permuted sd"] < 0.1
    assert table["times"] == pytest.approx(table["share"] / table["permuted"])
    assert card.neighbours(world, k=5, seed=1).equals(card.neighbours(world, k=5, seed=1))
    assert not card.neighbours(world, k=5, seed=1).equals(card.neighbours(world, k=5, seed=2))


def test_fewer_items_than_neighbours():
    table = card.neighbours(TOY, k=10)
    assert table["edges"].tolist() == [20, 20]  # all pairs, in both directions
    assert table["share"].tolist() == [0.1, 0.1]  # items 0 and 1 alone
