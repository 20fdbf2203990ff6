"""Subtraction's algebra and the probes, against closed forms, brute force and scikit-learn."""

import numpy as np
import pytest
from scipy import special
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from sea.analysis import angles, probes


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_two_uniques_are_anti_parallel_whatever_was_learned(rng, scale):
    z = scale * rng.standard_t(2, (2, 300, 17)) + 5 * scale
    weights = special.softmax(2 * rng.standard_normal((2, 300)), axis=0)
    fused, (v, t) = probes.subtract(z, weights)
    cosine = (v * t).sum(1) / np.linalg.norm(v, axis=1) / np.linalg.norm(t, axis=1)
    assert np.abs(cosine + 1).max() < 1e-12
    for i in (0, 299):  # by hand, an item at a time
        assert fused[i] == pytest.approx(weights[0, i] * z[0, i] + weights[1, i] * z[1, i], rel=1e-12)
        assert v[i] == pytest.approx(weights[1, i] * (z[0, i] - z[1, i]), rel=1e-9, abs=1e-12 * scale)


def test_outside_of_zero_to_one_they_are_parallel_and_at_the_ends_one_vanishes(rng):
    z = rng.standard_normal((2, 4, 5))
    a = np.array([-0.5, 1.5, 0.0, 1.0])
    _, (v, t) = probes.subtract(z, np.stack([a, 1 - a]))
    assert np.cos(angles.between(v[:2], t[:2])) == pytest.approx([1, 1], abs=1e-12)
    assert not t[2].any()
    assert not v[3].any()


def test_a_squared_dot_product_falls_by_vectors_that_meet_and_by_weights_that_choose(rng):
    """(v·t)² = (a_v a_t)² |Z_v - Z_t|⁴."""
    z = rng.standard_normal((2, 50, 6))
    apart = np.linalg.norm(z[0] - z[1], axis=1)
    seen = {}
    for a in (0.5, 0.9, 0.999):
        _, (v, t) = probes.subtract(z, np.stack([np.full(50, a), np.full(50, 1 - a)]))
        seen[a] = (v * t).sum(1) ** 2
        assert seen[a] == pytest.approx((a * (1 - a)) ** 2 * apart**4, rel=1e-9)
    assert (seen[0.999] < 2e-5 * seen[0.5]).all()  # and the vectors are where they were
    _, (v, t) = probes.subtract(z * 0.5, np.full((2, 50), 0.5))
    assert (v * t).sum(1) ** 2 == pytest.approx(seen[0.5] / 16, rel=1e-9)


def test_three_uniques_lie_in_a_plane_and_equal_weights_make_a_simplex(rng):
    z = rng.standard_normal((3, 200, 400))
    weights = special.softmax(rng.standard_normal((3, 200)), axis=0)
    _, unique = probes.subtract(z, weights)
    assert np.abs((weights[..., None] * unique).sum(0)).max() < 1e-12
    singular = np.linalg.svd(unique.transpose(1, 0, 2), compute_uv=False)  # (200, 3)
    assert (singular[:, 2] < 1e-12 * singular[:, 0]).all()
    assert (singular[:, 1] > 0.01 * singular[:, 0]).all()
    _, unique = probes.subtract(z, np.full((3, 200), 1 / 3))
    assert np.cos(angles.between(unique[0], unique[2])).mean() == pytest.approx(-1 / 2, abs=0.02)


def test_weights_of_another_shape_are_refused(rng):
    with pytest.raises(ValueError, match=r"'weights' needs shape \(2, 4\)"):
        probes.subtract(rng.standard_normal((2, 4, 5)), np.ones((2, 1)))


@pytest.mark.parametrize("c", [0.0, 0.5, 1.0])
def test_r2_and_share_are_the_toys_closed_forms(rng, c):
    """u = q + (1 - c) g: R² of q is 1 / (1 + (1 - c)²), that of g is the rest; of two numbers, both are read."""
    g, q = rng.standard_normal((2, 20_000, 1))
    u = q + (1 - c) * g
    left = (1 - c) ** 2
    for factor, expected in ((q, 1 / (1 + left)), (g, left / (1 + left))):
        linear = np.corrcoef(u[:, 0], factor[:, 0])[0, 1] ** 2
        assert probes.share(u, factor) == pytest.approx(linear, rel=1e-9)
        assert probes.share(u, factor) == pytest.approx(expected, abs=0.02)
    small = slice(800)
    assert probes.recovery(u[small], q[small])[0] == pytest.approx(1 / (1 + left), abs=0.06)
    both = np.hstack([g + q, g - q]) - c * g
    assert probes.recovery(both[small], q[small])[0] > 0.999


def test_share_counts_dimensions_by_their_variance(rng):
    factor = rng.standard_normal((50_000, 2))
    part = np.hstack([3 * factor, rng.standard_normal((50_000, 2))])
    assert probes.share(part, factor) == pytest.approx(18 / 20, abs=0.005)
    assert probes.share(rng.standard_normal((101, 4)), np.zeros((101, 1)) + rng.standard_normal((101, 1))) < 0.2
    chance = np.mean([probes.share(rng.standard_normal((41, 3)), rng.standard_normal((41, 4))) for _ in range(400)])
    assert chance == pytest.approx(4 / 40, abs=0.01)


def test_the_linear_probe_is_ridge_with_exact_leave_one_out(rng):
    x = rng.standard_normal((60, 7)) * np.arange(1, 8) + 4
    y = x @ rng.standard_normal((7, 3)) + 8 * rng.standard_normal((60, 3)) - 2
    fold = np.random.default_rng(11).permutation(np.arange(60) % 4)
    guess, mean = np.zeros((2, 60, 3))
    for k in range(4):
        held, rest = fold == k, fold != k
        scaler = StandardScaler().fit(x[rest])
        # the mean eigenvalue of the Gram matrix of standardised columns is 7
        model = RidgeCV(probes.PENALTIES * 7, alpha_per_target=True).fit(scaler.transform(x[rest]), y[rest])
        guess[held], mean[held] = model.predict(scaler.transform(x[held])), y[rest].mean(0)
    expected = 1 - ((y - guess) ** 2).sum(0) / ((y - mean) ** 2).sum(0)
    assert probes.recovery(x, y, folds=4, seed=11) == pytest.approx(expected, rel=1e-8)


def test_leave_one_out_is_what_refitting_gives(rng):
    x, y = rng.standard_normal((25, 4)), rng.standard_normal((25, 2))
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    target = y - y.mean(0)
    found = probes._leave_one_out(values.clip(0), vectors, vectors.T @ target, target, np.array([2.5]))[0]
    residuals = []
    for i in range(25):
        rest = np.arange(25) != i
        a, b = x[rest] - x[rest].mean(0), y[rest] - y[rest].mean(0)
        slope = np.linalg.solve(a.T @ a + 2.5 * np.eye(4), a.T @ b)
        residuals.append(y[i] - y[rest].mean(0) - (x[i] - x[rest].mean(0)) @ slope)
    assert found == pytest.approx((np.array(residuals) ** 2).mean(0), rel=1e-9)


def test_the_kernel_probe_is_kernel_ridge(rng, monkeypatch):
    """With one penalty to choose from; scikit-learn's has no intercept, so its kernel and target are centred here."""
    monkeypatch.setattr(probes, "PENALTIES", np.array([0.1]))
    x, y, new = rng.standard_normal((40, 3)), rng.standard_normal((40, 2)), rng.standard_normal((5, 3))
    scaler = StandardScaler().fit(x)
    x_, new_ = scaler.transform(x), scaler.transform(new)
    gram, cross = (np.exp(-((a[:, None] - x_) ** 2).sum(2) / (16 * 3)) for a in (x_, new_))
    middle = np.eye(40) - 1 / 40
    flat = middle @ gram @ middle
    model = KernelRidge(alpha=0.1 * np.trace(flat) / 40, kernel="precomputed").fit(flat, y - y.mean(0))
    expected = y.mean(0) + model.predict((cross - gram.mean(0)) @ middle)
    assert probes._ridge(x, y, new, "rbf") == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_only_the_kernel_probe_reads_a_square_and_neither_reads_noise(rng):
    x = rng.standard_normal((400, 2))
    square = x[:, :1] ** 2
    assert probes.recovery(x, square, "linear")[0] < 0.1
    assert probes.recovery(x, square, "rbf")[0] > 0.95
    for kernel in probes.KERNELS:
        assert -0.1 < probes.recovery(x, rng.standard_normal((400, 1)), kernel)[0] < 0.05


def test_a_constant_column_does_no_harm_and_the_seed_decides_the_folds(rng):
    x, y = rng.standard_normal((80, 3)), rng.standard_normal((80, 1))
    y += x[:, :1]
    padded = np.hstack([x, np.ones((80, 1))])
    assert probes.recovery(padded, y) == pytest.approx(probes.recovery(x, y), rel=0.1)
    assert (probes.recovery(x, y, seed=1) == probes.recovery(x, y, seed=1)).all()
    assert (probes.recovery(x, y, seed=1) != probes.recovery(x, y, seed=2)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kernel": "cubic"}, "linear, rbf"), ({"folds": 1}, "2 to 10"), ({"target": np.ones((3, 1))}, "equally many")],
)
def test_wrong_arguments_of_the_probe_are_refused(rng, change, message):
    arguments = {"part": rng.standard_normal((20, 2)), "target": rng.standard_normal((20, 1))} | change
    with pytest.raises(ValueError, match=message):
        probes.recovery(**arguments)


def test_examine_tells_a_perfect_split_from_a_swapped_one(rng):
    factors = {name: rng.standard_normal((120, 2)) for name in ("generic", "image", "text")}
    parts = {m: {"generic": factors["generic"] * 2, "unique": factors[m] + 1} for m in ("image", "text")}
    table = probes.examine(parts, factors, folds=3).set_index(["modality", "part", "factor"])
    assert len(table) == 2 * 2 * 3
    for (_, part, factor), row in table.iterrows():
        match = part == factor.removeprefix("own ")
        assert row["share"] == pytest.approx(1) if match else row["share"] < 0.15
        assert row["linear"] > 0.999 if match else row["linear"] < 0.1
        assert row["rbf"] > 0.9 if match else row["rbf"] < 0.1
