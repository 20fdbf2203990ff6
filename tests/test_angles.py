import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sea.analysis import angles

DIMENSIONS = [2, 3, 4, 8, 64, 513]


def moment(n: int, power: int) -> float:
    value, _ = integrate.quad(
        lambda t: (t - math.pi / 2) ** power * float(angles.pdf(t, n)),
        0,
        math.pi,
        epsabs=1e-14,
        epsrel=1e-12,
        limit=400,
    )
    return value


@pytest.mark.parametrize("n", DIMENSIONS)
def test_density_integrates_to_one_and_has_the_closed_moments(n):
    assert moment(n, 0) == pytest.approx(1, abs=1e-10)
    assert moment(n, 2) == pytest.approx(angles.variance(n), rel=1e-9)
    assert moment(n, 4) / moment(n, 2) ** 2 - 3 == pytest.approx(angles.kurtosis(n), abs=1e-8)


@pytest.mark.parametrize("n", DIMENSIONS)
def test_cdf_is_the_integral_of_the_density(n):
    for theta in (0.3, 1.2, math.pi / 2, 2.0, 3.0):
        integral, _ = integrate.quad(lambda t: float(angles.pdf(t, n)), 0, theta, epsabs=1e-13, limit=400)
        assert float(angles.cdf(theta, n)) == pytest.approx(integral, abs=1e-10)


def test_values_that_can_be_worked_out_by_hand():
    assert angles.variance(2) == pytest.approx(math.pi**2 / 12)  # uniform on [0, π]
    assert angles.variance(3) == pytest.approx(math.pi**2 / 4 - 2)  # density ½ sin θ
    assert angles.kurtosis(2) == pytest.approx(-1.2)
    assert float(angles.pdf(0.7, 2)) == pytest.approx(1 / math.pi)
    assert float(angles.pdf(0.7, 3)) == pytest.approx(math.sin(0.7) / 2)
    assert angles.halfwidth(2, 0.5) == pytest.approx(math.pi / 4)
    assert angles.halfwidth(3, 0.95) == pytest.approx(math.asin(0.95))  # cos θ is uniform
    assert (angles.pdf([-0.1, 3.2], 3) == 0).all()
    assert angles.pdf([0.0, math.pi], 2) == pytest.approx([1 / math.pi] * 2)


@pytest.mark.parametrize("n", DIMENSIONS)
def test_halfwidth_holds_its_share(n):
    h = angles.halfwidth(n, 0.95)
    assert float(angles.cdf(math.pi / 2 + h, n) - angles.cdf(math.pi / 2 - h, n)) == pytest.approx(0.95, abs=1e-10)


@pytest.mark.parametrize("n", [2, 3, 64])
def test_simulated_angles_follow_the_law(n):
    sample = angles.sample(n, 20_000, np.random.default_rng(5))
    assert stats.kstest(sample, lambda t: angles.cdf(t, n)).pvalue > 1e-3


def test_sample_is_the_generators_alone_and_blocks_do_not_matter():
    first = angles.sample(1_000_000, 5, np.random.default_rng(1))  # two vectors a block
    assert (first == angles.sample(1_000_000, 5, np.random.default_rng(1))).all()
    assert np.abs(first - math.pi / 2).max() < 6e-3  # six standard deviations


@pytest.mark.parametrize("n", [1, 0, -3, 2.5, True])
def test_a_wrong_dimension_is_named(n):
    with pytest.raises(ValueError, match=r"'n' needs to be a whole number of at least 2 in 'pdf' \(got"):
        angles.pdf(1.0, n)


def test_a_wrong_level_is_named():
    with pytest.raises(ValueError, match="'level' needs to lie between 0 and 1"):
        angles.halfwidth(3, 1.5)


@pytest.mark.parametrize(("n", "pairs"), [(2, 1), (3, 1), (3, 5), (8, 40)])
def test_largest_cosine_against_simulation(n, pairs):
    drawn = np.abs(np.cos(angles.sample(n, 4_000 * pairs, np.random.default_rng(0)))).reshape(-1, pairs).max(1)
    assert angles.largest_cosine(n, pairs) == pytest.approx(drawn.mean(), abs=5 * drawn.std() / np.sqrt(len(drawn)))


def test_largest_cosine_by_hand():
    assert angles.largest_cosine(2, 1) == pytest.approx(2 / math.pi)  # mean of |cos| over the circle
    assert angles.largest_cosine(3, 5) == pytest.approx(5 / 6)  # the largest of five uniform ones


def test_normal_distance_by_hand_and_in_the_limit():
    # n = 2: p is 1/π on [0, π]; the normal law is above it near the middle and beyond the ends
    s = math.pi / math.sqrt(12)
    cross = s * math.sqrt(2 * math.log(math.pi / (s * math.sqrt(2 * math.pi))))
    inside = stats.norm.cdf(cross / s) - stats.norm.cdf(-cross / s)
    beyond = 2 * stats.norm.sf(math.pi / 2 / s)
    assert angles.normal_distance(2) == pytest.approx(inside - 2 * cross / math.pi + beyond, abs=1e-6)
    distances = [angles.normal_distance(n) for n in (4, 16, 64, 256)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3
    assert angles.normal_distance(8, 1 / 8) > angles.normal_distance(8)


SPECTRA = [np.ones(7), np.array([4.0, 1.0, 1.0]), np.arange(1, 65) ** -1.0, np.arange(1, 65) ** -1.5]


@pytest.mark.parametrize("spectrum", SPECTRA, ids=["isotropic", "three", "1/k", "k^-1.5"])
def test_the_effective_dimension_of_a_spectrum_against_simulation(spectrum):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 100_000, len(spectrum))) * np.sqrt(spectrum)
    square = np.cos(angles.between(a, b)) ** 2
    exact = angles.spectral_dimension(spectrum)
    assert 1 / exact == pytest.approx(square.mean(), abs=5 * square.std() / len(square) ** 0.5)
    assert angles.effective_dimension(a, b) == pytest.approx(1 / square.mean())


def test_the_effective_dimension_is_not_the_participation_ratio():
    # of two variances the shares are √λ / (√λ + √μ), by the integral 1/(2π) ∫ λ cos² / (λ cos² + μ sin²)
    share = 3 / 4
    assert angles.spectral_dimension([9, 1]) == pytest.approx(1 / (share**2 + (1 - share) ** 2))
    assert angles.spectral_dimension([9e-9, 1e-9]) == pytest.approx(angles.spectral_dimension([9, 1]))
    assert angles.spectral_dimension(np.arange(1, 65) ** -1.0) == pytest.approx(17.6, abs=0.05)  # the ratio: 13.8
    assert angles.spectral_dimension(np.arange(1, 65) ** -1.5) == pytest.approx(7.2, abs=0.05)  # 4.6


@pytest.mark.parametrize("variances", [[1.0], [1.0, 0.0], [[1.0, 2.0]], [1.0, -1.0]])
def test_a_wrong_spectrum_is_named(variances):
    with pytest.raises(ValueError, match="'variances' needs at least two, all above 0, in 'spectral_dimension'"):
        angles.spectral_dimension(variances)


def test_paired_and_shuffled_differ_where_parts_depend_on_each_other():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4000, 8))
    b = a + rng.standard_normal((4000, 8))  # cos² of the pairs is about 1/2
    assert angles.effective_dimension(a, b) < 3
    assert angles.effective_dimension(*angles.strangers(a, b, rng)) == pytest.approx(8, rel=0.03)
    assert angles.effective_dimension(np.eye(4), np.roll(np.eye(4), 1, axis=0)) == math.inf


def test_strangers_never_meet_their_own():
    a, b = np.arange(5)[:, None], 10 + np.arange(5)[:, None]
    first, second = angles.strangers(a, b, np.random.default_rng(0), rounds=3)
    assert first.shape == second.shape == (15, 1)
    pairs = set(zip(first[:, 0].tolist(), (second[:, 0] - 10).tolist()))
    assert len(pairs) == 15
    assert not any(i == j for i, j in pairs)
    assert len(angles.strangers(a, b, np.random.default_rng(0))[0]) == 20  # all there are


@pytest.mark.parametrize("n", [2, 5, 64])
def test_the_pull_is_the_gradient_of_the_squared_cosine(n):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20_000, n, generator=generator, dtype=torch.float64)
    a = (a / a.norm(dim=1, keepdim=True)).requires_grad_()
    (torch.nn.functional.cosine_similarity(a, b) ** 2).sum().backward()
    norms = a.grad.norm(dim=1).square().mean().sqrt().item()
    theta = angles.between(a.detach().numpy(), b.numpy())
    assert angles.pull(theta) == pytest.approx(norms, rel=1e-9)
    assert angles.pull(theta) == pytest.approx(2 * ((n - 1) / (n * (n + 2))) ** 0.5, rel=0.02)


@pytest.mark.parametrize("n", DIMENSIONS)
def test_the_variance_is_the_sum_and_lies_between_its_bounds(n):
    k = np.arange(200_000)
    tail = 1 / (n + 2 * len(k) - 1)  # ∫ from K - 1/2 on
    assert angles.variance(n) == pytest.approx((2 / (n + 2.0 * k) ** 2).sum() + tail, rel=1e-9)
    assert 1 / n + 1 / n**2 <= angles.variance(n) <= 1 / (n - 1)


@pytest.mark.parametrize("n", [2, 5, 64])
def test_the_share_within_a_half_width_inverts_it(n):
    for level in (0.1, 0.5, 0.95):
        assert float(angles.within(angles.halfwidth(n, level), n)) == pytest.approx(level)
    assert angles.within([0.0, math.pi / 2, 3.0], n) == pytest.approx([0, 1, 1])


def test_the_summary_of_simulated_angles_is_the_laws():
    theta = angles.sample(16, 20_000, np.random.default_rng(3))
    found = angles.summary(theta, 16, 20_000)
    assert found["mean (deg)"] == pytest.approx(90, abs=0.5)
    assert found["std (deg)"] == pytest.approx(found["std at n (deg)"], rel=0.03)
    assert found["effective n"] == pytest.approx(16, rel=0.05)
    assert found["KS to n"] < found["critical (5 %)"]
    assert found["critical (5 %)"] == pytest.approx(1.358 / 20_000**0.5, rel=0.01)  # Kolmogorov's limit
    assert angles.summary(theta, 8, 20_000)["KS to n"] > 0.05


def test_angles_between_rows():
    a = np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    b = np.array([[0.0, 3.0], [-2.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    assert angles.between(a, b) == pytest.approx([math.pi / 2, math.pi, 0, math.pi / 2], abs=1e-7)


@pytest.mark.parametrize("n", [2, 5, 32])
def test_the_expected_squared_cosine_is_one_over_n(n):
    value, _ = integrate.quad(lambda t: math.cos(t) ** 2 * float(angles.pdf(t, n)), 0, math.pi)
    assert value == pytest.approx(1 / n, abs=1e-10)
