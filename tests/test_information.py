"""Information where the truth is known, parts made by hand, and a recommender without a part by brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from scipy.stats import ortho_group

from sea.analysis import gaussians, information, probes, representations
from sea.evaluate import evaluate
from sea.models import MODELS

NAMES = ["lower", "ceiling", "knn", "gaussian", "upper", "gain"]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def padded(part, rng, width=12):
    """The part turned into `width` columns, with faint noise in all of them: its leading components are the part."""
    noise = 1e-3 * rng.standard_normal((len(part), width))
    return 5 * part @ ortho_group.rvs(width, random_state=3)[: part.shape[1]] + noise + 20


@pytest.mark.parametrize("truth", [0.5, 1.5, 3.0])
def test_known_information_lies_between_the_bounds(rng, truth):
    a, b = gaussians.sample(float(gaussians.correlation(truth, 4)), 1200, 4, rng)
    found = information.information(padded(a, rng), padded(b, rng))
    assert list(found) == NAMES
    # a standard error of the information's estimate is √(Σ ρ² / n), below 0.06
    assert found["gaussian"] == pytest.approx(truth, abs=0.15)
    assert 0.6 * truth < found["lower"] < truth + 0.2 < found["ceiling"] == math.log(600)
    assert found["upper"] == pytest.approx(gaussians.club(gaussians.correlation(truth, 4), 4), rel=0.35)
    assert found["upper"] > truth
    assert 0.6 * truth < found["gain"] < truth + 0.2
    assert 0.6 * truth < found["knn"] < truth + 0.15


def test_the_lower_bound_stops_at_its_ceiling_and_the_others_do_not(rng):
    a, b = gaussians.sample(float(gaussians.correlation(8.0, 4)), 400, 4, rng)
    found = information.information(a, b)
    assert 3 < found["lower"] <= found["ceiling"] == math.log(200)
    assert found["gaussian"] == pytest.approx(8, abs=0.5)
    assert found["upper"] > 8


def test_a_dependence_without_correlation_is_found_by_all_but_the_gaussian(rng):
    a = rng.standard_normal((800, 1))
    b = (0.95 * (a**2 - 1) / math.sqrt(2)) + math.sqrt(1 - 0.95**2) * rng.standard_normal((800, 1))
    truth = gaussians.parabola_information(0.95, 1)
    found = information.information(a, b, components=1)
    assert abs(found["gaussian"]) < 0.05
    assert found["knn"] == pytest.approx(truth, abs=0.15)
    assert 0.6 * truth < found["lower"] < truth + 0.15
    assert found["upper"] > truth


def test_scale_place_and_turn_change_nothing_and_the_seed_decides_all(rng):
    a, b = gaussians.sample(0.7, 120, 3, rng)
    a, b = a * [3, 2, 1], b * [1, 4, 2]
    plain = information.information(a, b, components=2, seed=1)
    moved = 0.01 * a @ ortho_group.rvs(3, random_state=1) + 7, 50 * b @ ortho_group.rvs(3, random_state=2) - 1
    again = information.information(*moved, components=2, seed=1)
    assert again["gaussian"] == pytest.approx(plain["gaussian"], rel=1e-9)
    assert again["knn"] == pytest.approx(plain["knn"], rel=1e-9)  # turned back by the components, but for signs
    assert again["lower"] == pytest.approx(plain["lower"], abs=0.4)
    assert information.information(a, b, components=2, seed=1) == plain
    other = information.information(a, b, components=2, seed=2)
    assert other["upper"] != plain["upper"]
    assert other["gaussian"] == pytest.approx(plain["gaussian"], rel=1e-9)


def test_only_leading_components_and_drawn_items_are_read(rng):
    shared, a, b = rng.standard_normal((3, 500, 2))
    hidden = np.hstack([3 * a, shared]), np.hstack([3 * b, shared])  # the same, in the small directions
    assert abs(information.gaussian(*hidden, components=2)) < 0.05
    assert information.gaussian(*hidden, components=4) > 3
    assert information.information(*hidden, components=2, items=100)["ceiling"] == math.log(50)
    rank_one = information.information(shared[:, :1] @ np.ones((1, 5)), shared)
    assert np.isfinite(list(rank_one.values())).all()


def test_the_gaussian_estimate_is_unbiased(rng):
    """200 draws of 60 items, four and three columns: the plain form is 0.12 too high, about 4 · 3 / (2 · 60)."""
    rho = np.array([0.9, 0.5, 0.0])
    truth = -np.log1p(-(rho**2)).sum() / 2
    found, plain = [], []
    for _ in range(200):
        a, b = rng.standard_normal((60, 4)), rng.standard_normal((60, 3))
        b = rho * a[:, :3] + np.sqrt(1 - rho**2) * b
        found.append(information.gaussian(a, b))
        joint = np.linalg.slogdet(np.cov(np.hstack([a, b]).T))[1]
        plain.append((np.linalg.slogdet(np.cov(a.T))[1] + np.linalg.slogdet(np.cov(b.T))[1] - joint) / 2)
    assert np.mean(found) == pytest.approx(truth, abs=4 * np.std(found) / math.sqrt(200))
    assert np.std(np.subtract(plain, found)) < 1e-9  # a constant apart
    assert np.mean(plain) > truth + 0.08


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_parts_tied_by_a_shared_factor_alone_tell_in_common_what_they_share(noise, rng):
    """Parts that read a shared factor and one each of their own share I(a; b), for which there is a closed form. A
    reading z + noise tells ½ log(1 + 1 / noise²) of z."""
    shared, mine, yours = rng.standard_normal((3, 40_000, 2))
    a, b = (np.hstack([shared, own]) + noise * rng.standard_normal((40_000, 4)) for own in (mine, yours))
    found = information.decomposition(a, b, np.hstack([shared, mine, yours]), 4)
    each, both = 4 * math.log1p(1 / noise**2) / 2, -2 * math.log1p(-((1 + noise**2) ** -2)) / 2
    assert found["both"] == pytest.approx(both, abs=0.03)
    assert found["a alone"] == pytest.approx(each - both, abs=0.03)
    assert found["b alone"] == pytest.approx(each - both, abs=0.03)
    assert found["together"] == pytest.approx(0, abs=0.03)


def test_parts_that_share_nothing_tell_nothing_in_common_and_copies_tell_all(rng):
    a, b = rng.standard_normal((2, 20_000, 3))
    target = np.hstack([a, b]) + rng.standard_normal((20_000, 6))
    apart = information.decomposition(a, b, target, 3)
    assert apart["both"] == pytest.approx(0, abs=0.01)
    assert apart["a alone"] == pytest.approx(3 * math.log(2) / 2, abs=0.03)
    same = information.decomposition(a, a @ rng.standard_normal((3, 3)), target, 3)
    assert same["both"] == pytest.approx(3 * math.log(2) / 2, abs=0.03)
    assert [same[name] for name in ("a alone", "b alone", "together")] == pytest.approx([0, 0, 0], abs=1e-9)


def test_what_a_part_alone_tells_is_the_smallest_gain_by_its_tie_to_the_target(rng):
    """Kay and Ince's definition for three numbers of correlations p (a, t), q (b, t) and r (a, b): the smallest of
    I(a; t), of what a adds to b if they meet in t alone, and of I(a; t | b)."""
    for p, q, r in ((0.5, 0.6, 0.1), (0.7, 0.3, 0.6), (0.4, 0.4, -0.5), (0.6, 0.2, 0.3)):
        root = np.linalg.cholesky([[1, r, p], [r, 1, q], [p, q, 1]])
        a, b, t = (rng.standard_normal((200_000, 3)) @ root.T).T[:, :, None]
        met = -math.log1p(-((p * q) ** 2)) / 2
        alone = -math.log1p(-(p**2)) / 2
        given = math.log((1 - q**2) * (1 - r**2) / (1 - p**2 - q**2 - r**2 + 2 * p * q * r)) / 2
        found = information.decomposition(a, b, t, 1)["a alone"]
        assert found == pytest.approx(min(alone, alone - met, given), abs=0.01)


def test_neighbours_are_counted_one_by_one(rng):
    a, b = rng.standard_normal((30, 2)), rng.standard_normal((30, 3))
    b[:, 0] += a[:, 0]
    terms = []
    for i in range(30):
        others = [j for j in range(30) if j != i]
        in_a, in_b = (np.array([np.abs(part[i] - part[j]).max() for j in others]) for part in (a, b))
        reach = np.sort(np.maximum(in_a, in_b))[3]  # the fourth neighbour's
        terms.append(digamma((in_a < reach).sum() + 1) + digamma((in_b < reach).sum() + 1))
    expected = digamma(4) + digamma(30) - np.mean(terms)
    assert information.nearest_neighbours(a, b, 4) == pytest.approx(expected, rel=1e-12)


def test_permuted_rows_share_nothing(rng):
    a = rng.standard_normal((200, 3))
    b = a + 0.1 * rng.standard_normal((200, 3))
    assert information.gaussian(a, b) > 5
    found = information.null(a, b, draws=3, components=3)
    assert list(found.columns) == NAMES
    assert found["gaussian"].nunique() == len(found) == 3
    values = found.drop(columns="ceiling").to_numpy()
    assert np.abs(values).max() < 0.35  # one estimate of 100 items
    assert np.abs(values.mean(0)).max() < 0.15
    assert found.equals(information.null(a, b, draws=3, components=3))


def test_calibration_has_the_levels_and_the_shape_that_it_states(rng, monkeypatch):
    rho = np.array([0.9, 0.6, 0.3])
    a, noise = rng.standard_normal((2, 20_000, 3))
    b = np.hstack([rho * a + np.sqrt(1 - rho**2) * noise, rng.standard_normal((20_000, 1))])  # 3 and 4 columns
    own = np.linalg.svd(information._whitened(a, 4).T @ information._whitened(b, 4) / 20_000)[1]
    own_level = -np.log1p(-(own**2)).sum() / 2

    def seen(x, y, _):
        _, found, _ = information._canonical(x, y)
        assert x.shape == (20_000, 3)
        assert y.shape == (20_000, 4)
        assert np.abs(x.T @ x / 20_000 - np.eye(3)).max() < 1e-9
        return dict(zip("123", found))

    monkeypatch.setattr(information, "_estimates", seen)
    table = information.calibrate(a, b, levels=(0.0, own_level, 3.0), draws=2, items=20_000)
    assert list(table.index) == [(level, draw) for level in (0.0, own_level, 3.0) for draw in (0, 1)]
    assert np.abs(table.loc[0.0, ["1", "2", "3"]].to_numpy()).max() < 0.03
    assert table.loc[own_level, ["1", "2", "3"]].mean().to_numpy() == pytest.approx(own, abs=0.02)
    power = 3 / own_level
    expected = np.sqrt(1 - (1 - own**2) ** power)
    assert table.loc[3.0, ["1", "2", "3"]].mean().to_numpy() == pytest.approx(expected, abs=0.02)
    assert -np.log1p(-(expected**2)).sum() / 2 == pytest.approx(3)


def test_calibrated_estimates_rise_with_the_truth(rng):
    a, b = gaussians.sample(0.6, 300, 2, rng)
    table = information.calibrate(a, b, levels=(0.0, 1.0, 4.0))
    assert list(table.columns) == NAMES
    assert (table[["lower", "knn", "gaussian", "upper", "gain"]].diff().iloc[1:] > 0.3).all(axis=None)
    truth = table.index.get_level_values("truth")
    assert table["gaussian"].to_numpy() == pytest.approx(truth.to_numpy(), abs=0.3)


@pytest.mark.parametrize("call", ["information", "null", "calibrate", "gaussian"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": np.eye(41)}, r"'a' and 'b' need equally many rows, at least 40, in '{}' \(got 50, 41\)"),
        ({"a": np.eye(30), "b": np.eye(30)}, r"at least 40, in '{}' \(got 30, 30\)"),
        ({"components": 0}, r"'components' needs to be at least 1 in '{}' \(got 0\)"),
        ({"b": np.ones((50, 2))}, r"'b' needs to differ between items in '{}' \(got a constant\)"),
    ],
)
def test_wrong_arguments_are_refused(call, change, message):
    with pytest.raises(ValueError, match=message.format(call)):
        getattr(information, call)(**{"a": np.eye(50), "b": np.eye(50)} | change)


def test_made_up_parts_are_composed_as_they_were_made(rng):
    """Image: the generic factor, and the own one. Text: half of each, and the image's factor alone."""
    factors = {name: rng.standard_normal((20_000, 2)) for name in ("generic", "image", "text")}
    half = np.hstack([factors["generic"], factors["text"]]) * 3 + 1
    parts = {
        "generic": {"image": 4 * factors["generic"] - 2, "text": half},
        "unique": {"image": factors["image"] @ rng.standard_normal((2, 5)), "text": factors["image"]},
        "head": {"image": half, "text": half},
    }
    found = probes.composition(parts, factors)
    expected = {
        "image: generic in generic part": 1, "image: own unique in generic part": 0,
        "image: other's unique in generic part": 0, "image: generic in unique part": 0,
        "image: own unique in unique part": 1, "image: other's unique in unique part": 0,
        "text: generic in generic part": 1 / 2, "text: own unique in generic part": 1 / 2,
        "text: other's unique in generic part": 0, "text: generic in unique part": 0,
        "text: own unique in unique part": 0, "text: other's unique in unique part": 1,
        "image: separation": 1, "text: separation": (1 / 2 - 0 + 0 - 1 / 2) / 2, "separation": 1 / 2,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=0.015)
    assert next(iter(found)) == "separation"
    swapped = probes.composition({"generic": parts["unique"], "unique": parts["generic"]}, factors)
    assert swapped["image: separation"] == pytest.approx(-1, abs=0.01)
    alike = probes.composition({"generic": parts["generic"], "unique": parts["generic"]}, factors)
    assert alike["separation"] == pytest.approx(0, abs=1e-12)


def build(name, world, **settings):
    return MODELS[name](world, generator=torch.Generator().manual_seed(1), **settings)


def test_a_trained_models_parts_can_be_composed(world):
    found = probes.composition(representations.extract(build("SEA", world)), world.factors)
    assert len(found) == 3 + 2 * 2 * 3
    assert all(0 <= value <= 1 for name, value in found.items() if "separation" not in name)


@pytest.mark.parametrize("part", ["generic", "unique", "both"])
@pytest.mark.parametrize("name", ["SEA", "VBPR+SEA"])
def test_a_model_without_a_part_is_that_of_filled_features(world, name, part, monkeypatch):
    """T in full, the part's columns at their mean, and all that is read of it anew, in double precision."""
    model = build(name, world).double()
    with torch.no_grad():  # so that the features weigh more
        for parameter in model.parameters():
            parameter.mul_(3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen = []
    monkeypatch.setattr(information, "evaluate", lambda *call: seen.append(call))
    information.without_part(model, world, part, "valid")
    users, items, *rest = seen[0]
    assert rest == [world, "valid"]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    plain = model.separate.forward()
    for m, columns in world.features.items():
        projections, size = model.separate.projections[m], columns.shape[1]
        transformed = model.separate.transform[m](torch.from_numpy(columns).double())
        assert projections["encoder"](transformed).detach().numpy() == pytest.approx(
            plain[m].encoder.detach().numpy(), abs=1e-10
        )
        first, last = {"generic": (0, size // 2), "unique": (size // 2, size), "both": (0, size)}[part]
        transformed[:, first:last] = transformed[:, first:last].mean(0)
        plain[m] = plain[m]._replace(encoder=projections["encoder"](transformed))
    monkeypatch.setattr(model.separate, "forward", lambda: plain)
    expected = model.vectors()
    for ours, theirs in zip((users, items), expected):
        assert ours.dtype == torch.float64
        assert (ours - theirs).abs().max() < 1e-10
    monkeypatch.undo()
    assert max((a - b).abs().max() for a, b in zip(expected, model.vectors())) > 1e-3


def test_the_ranking_without_a_part_is_paired_with_the_models_own(world):
    model = build("SEA", world)
    full, without = evaluate(*model.vectors(), world), information.without_part(model, world, "unique")
    assert (full.users == without.users).all()
    assert (full.hits != without.hits).any()
    assert not model.training


@pytest.mark.parametrize("name", ["SEA", "BPR"])
def test_another_part_or_a_model_without_the_plug_in_is_refused(world, name):
    message = {"SEA": r"generic, unique, both in 'without_part' \(got 'head'\)", "BPR": r"plug-in .* \(got BPR\)"}
    with pytest.raises(ValueError, match=message[name]):
        information.without_part(build(name, world), world, "head" if name == "SEA" else "unique")
