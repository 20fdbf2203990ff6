"""Parts of trained models and what pairs of them share, against Gram matrices, algebra and hand-made clouds."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ortho_group

from sea.analysis import angles, representations
from sea.models import MODELS


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def unbiased_hsic(k, l):  # noqa: E741
    """Song et al.'s estimator as a mean over all tuples of different items, by brute force."""
    n = len(k)
    first = np.mean([k[i, j] * l[i, j] for i, j in permutations(range(n), 2)])
    second = np.mean([k[i, j] * l[q, r] for i, j, q, r in permutations(range(n), 4)])
    third = np.mean([k[i, j] * l[i, q] for i, j, q in permutations(range(n), 3)])
    return first + second - 2 * third


def test_cka_is_that_of_the_gram_matrices(rng):
    a, b = rng.standard_normal((7, 3)) + 2, rng.standard_normal((7, 5)) - 1
    b[:, :2] += a[:, :2]
    k, l = a @ a.T, b @ b.T  # noqa: E741, neither centred
    expected = unbiased_hsic(k, l) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(l, l))
    assert representations.cka(a, b) == pytest.approx(expected, rel=1e-9)


def test_cka_of_two_signs_by_hand():
    """Four items with K_ij = a_i a_j, L_ij = b_i b_j: every K_ij = 1 meets L_ij = -1 and L_qr = -1, and so on.

    (K, L): -1/3 - 1/3 - 2/3 = -4/3.   (K, K) and (L, L): 1 + 1 + 2/3 = 8/3.
    """
    a, b = np.array([[1.0], [1], [-1], [-1]]), np.array([[1.0], [-1], [1], [-1]])
    assert representations.cka(a, b) == pytest.approx(-1 / 2)


def test_cka_is_one_for_a_part_that_is_turned_moved_and_scaled(rng):
    a, b = rng.standard_normal((60, 6)) * np.arange(1, 7), rng.standard_normal((60, 4))
    b += a[:, :4]
    turned = 0.3 * a @ ortho_group.rvs(6, random_state=2) + 10
    assert representations.cka(a, turned) == pytest.approx(1, abs=1e-12)
    assert representations.cka(turned, b) == pytest.approx(representations.cka(a, b), rel=1e-9)
    assert representations.cka(b, a) == pytest.approx(representations.cka(a, b), rel=1e-12)
    assert representations.cka(a * [1, 1, 1, 1, 1, 50], b) != pytest.approx(representations.cka(a, b), rel=0.1)


def test_cka_of_strangers_is_zero_on_average_where_the_plain_form_is_not(rng):
    drawn = [rng.standard_normal((2, 40, 20)) for _ in range(200)]
    values = [representations.cka(a, b) for a, b in drawn]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)
    assert np.std(values) < 0.1
    a, b = drawn[0] - drawn[0].mean(1, keepdims=True)
    plain = ((a.T @ b) ** 2).sum() / np.sqrt(((a.T @ a) ** 2).sum() * ((b.T @ b) ** 2).sum())
    assert plain > 0.25


@pytest.mark.parametrize(("rows", "others"), [(3, 3), (5, 6)])
def test_too_few_rows_or_unequally_many_are_refused(rows, others):
    with pytest.raises(ValueError, match="equally many rows, at least 4"):
        representations.cka(np.eye(rows), np.eye(others))


def test_an_offset_separates_clouds_that_are_one_and_centring_undoes_it(rng):
    a = rng.standard_normal((100, 5))
    moved = a + 30
    row = representations.compare({"generic": {"a": a, "b": moved}}).loc["generic, two modalities"]
    assert row["silhouette"] > 0.9
    assert row["neighbours"] == 1
    assert abs(row["silhouette, centred"]) < 0.02
    assert row["neighbours, centred"] <= 0.5  # its own twin is the nearest
    assert row["R²"] > 0.999
    assert row["CKA"] == pytest.approx(1)


def test_silhouette_of_four_points_by_hand():
    """a = {0, 1}, b = {10, 12}: own distances 1, 1, 2, 2; other cloud's mean 11, 10, 9.5, 11.5."""
    a, b = np.array([[0.0], [1.0]]), np.array([[10.0], [12.0]])
    expected = np.mean([1 - 1 / 11, 1 - 1 / 10, 1 - 2 / 9.5, 1 - 2 / 11.5])
    assert representations.silhouette(a, b) == pytest.approx(expected)


def test_neighbours_are_counted_as_by_hand_and_half_of_them_are_strangers_in_mixed_clouds(rng):
    """a = {0, 1, 2}, b = {2.1, 9}, k = 2: a's have 2/2, 2/2, 1/2 (1 and 2.1), b's 0/2 and 1/2 (2.1 and 2)."""
    a, b = np.array([[0.0], [1], [2]]), np.array([[2.1], [9]])
    assert representations.neighbours(a, b, 2) == pytest.approx((1 + 1 + 0.5 + 0 + 0.5) / 5)
    assert representations.neighbours(*rng.standard_normal((2, 1000, 3))) == pytest.approx(0.5, abs=0.02)


def test_own_share_counts_the_nearest_of_a_points_own_label_as_by_hand(rng):
    points, labels = rng.standard_normal((40, 2)), np.array(list("aabc") * 10)
    points[labels == "c"] += 30
    counted = []
    for i in range(40):
        distance = np.linalg.norm(points - points[i], axis=1)
        near = [j for j in np.argsort(distance) if j != i][:7]
        counted += [labels[j] == labels[i] for j in near]
    found = representations.own_share(points, labels, 7)
    assert found == pytest.approx(np.mean(counted))
    assert representations.own_share(points[labels == "c"], labels[labels == "c"], 7) == 1


def test_overlap_is_high_for_two_images_of_one_cloud_half_for_half_and_none_for_strangers(rng):
    x, y = rng.standard_normal((2, 300, 4))
    assert representations.probe_r2(x @ rng.standard_normal((4, 4)), x @ rng.standard_normal((4, 4)) + 3) > 0.999
    assert representations.probe_r2(x, np.hstack([x[:, :2], y[:, :2]])) == pytest.approx(0.5, abs=0.05)
    assert representations.probe_r2(x, x[:, :2]) == pytest.approx((1 + 0.5) / 2, abs=0.05)
    assert abs(representations.probe_r2(x, y)) < 0.05


def build(name, world, **settings):
    return MODELS[name](world, generator=torch.Generator().manual_seed(1), **settings)


def test_sea_parts_are_linear_in_the_halves_of_the_transformed_features(world):
    model = build("SEA", world)
    model.train()
    found = representations.extract(model)
    assert not model.training
    assert set(found) == {"generic", "unique", "head"}
    for m, values in world.features.items():
        separate = model.separate
        transformed = separate.transform[m](torch.tensor(values))
        half = values.shape[1] // 2
        projections = separate.projections[m]
        unique = projections["unique"](transformed[:, half:]).detach().numpy()
        generic = projections["generic"](transformed[:, :half]).detach().numpy()
        with torch.no_grad():
            head = F.normalize(separate.heads[m](projections["head"](transformed[:, :half])), dim=1)
        assert found["unique"][m] == pytest.approx(unique, abs=1e-5)
        assert found["generic"][m] == pytest.approx(generic, abs=1e-5)
        assert found["head"][m] == pytest.approx(head.numpy(), abs=1e-5)
        assert found["head"][m].dtype == np.float64


def test_micro_uniques_are_anti_parallel_and_its_generic_is_one_tensor(world):
    found = representations.extract(build("MICRO", world))
    image, text = found["unique"].values()
    assert np.degrees(angles.between(image, text)).min() > 179.5
    whole = found["whole"]["image"]
    assert whole == pytest.approx(found["generic"]["image"] + image, abs=1e-7)
    table = representations.compare(found)
    assert list(table.index) == [
        "unique, two modalities", "generic and unique, same modality", "generic and unique, across",
        "whole, two modalities",
    ]  # fmt: skip


def test_parts_that_the_settings_leave_out_are_left_out(world):
    assert set(representations.extract(build("SEA", world, align="none", distance="none"))) == set()
    assert set(representations.extract(build("SEA", world, align="none"))) == {"generic", "unique"}
    with pytest.raises(ValueError, match=r"SEA or MICRO in 'extract' \(got BPR\)"):
        representations.extract(build("BPR", world))


def test_compare_averages_over_modalities_and_knows_same_from_other(rng):
    """Three modalities, whose generic parts hold one cloud, each stretched in its own way; items are chosen first."""
    g = rng.standard_normal((80, 3))
    names = ("audio", "image", "text")
    made = {
        "generic": {m: g * (k + 1) * turn for k, (m, turn) in enumerate(zip(names, ([1, 1, 3], [1, 2, 1], [4, 1, 1])))},
        "unique": {m: rng.standard_normal((80, 3)) + 2 * k * g for k, m in enumerate(names)},
    }
    items = np.arange(0, 80, 2)
    table = representations.compare(made, items)
    assert list(table.columns) == representations.MEASURES
    assert list(table.index) == list(representations.PAIRS)[0:1] + list(representations.PAIRS)[2:5]
    assert table.loc["generic, two modalities", "R²"] == pytest.approx(1, abs=1e-3)
    same = [(m, m) for m in names]
    across = list(permutations(names, 2))
    for name, chosen in (("generic and unique, same modality", same), ("generic and unique, across", across)):
        expected = np.mean(
            [representations.cka(made["generic"][i][items], made["unique"][j][items]) for i, j in chosen]
        )
        assert table.loc[name, "CKA"] == pytest.approx(expected)
    pairs = [(made["generic"][i][items], made["generic"][j][items]) for i, j in combinations(names, 2)]
    own = np.mean([np.degrees(angles.between(a, b)).mean() for a, b in pairs])
    others = np.mean([np.degrees(angles.between(a, np.vstack([b[20:], b[:20]]))).mean() for a, b in pairs])
    found = table.loc["generic, two modalities", ["angle", "angle, other items"]]
    assert found.tolist() == pytest.approx([own, others])


def test_a_map_keeps_far_clouds_apart_names_its_points_and_centring_is_done_before(rng):
    clouds = {("generic", "image"): rng.standard_normal((40, 6)), ("unique", "text"): rng.standard_normal((30, 6)) + 50}
    points = representations.t_sne(clouds, perplexity=8)
    assert points.groupby(["part", "modality"]).size().to_dict() == {("generic", "image"): 40, ("unique", "text"): 30}
    assert points["item"].tolist() == [*range(40), *range(30)]
    place = points[["x", "y"]].to_numpy()
    distance = ((place[:, None] - place) ** 2).sum(2) + 1e9 * np.eye(70)
    nearest = distance.argmin(1)
    assert ((nearest < 40) == (np.arange(70) < 40)).all()
    assert representations.t_sne(clouds, perplexity=8).equals(points)
    assert not representations.t_sne(clouds, 1, 8, "random").equals(representations.t_sne(clouds, 2, 8, "random"))
    moved = {name: cloud - cloud.mean(0) for name, cloud in clouds.items()}
    assert representations.t_sne(clouds, perplexity=8, centred=True).equals(representations.t_sne(moved, perplexity=8))
