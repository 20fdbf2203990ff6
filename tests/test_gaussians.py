import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from sea import losses
from sea.analysis import gaussians

SETTINGS = [  # rho, d, slope, scale, shift
    (0.6, 1, 0.6, 0.8, 0.0),
    (0.6, 3, 0.1, 1.7, 0.4),
    (-0.9, 2, 0.5, 0.5, -1.0),
    (0.0, 4, 0.3, 1.0, 0.2),
    (0.99, 2, 0.99, 0.2, 0.0),
]


def normal(rho: float, d: int, slope: float, scale: float, shift: float) -> MultivariateNormal:
    """q(x, y) as one Gaussian of 2d coordinates, x first."""
    block = torch.tensor([[1, slope], [slope, slope**2 + scale**2]], dtype=torch.float64)
    mean = torch.tensor([0.0] * d + [shift] * d, dtype=torch.float64)
    return MultivariateNormal(mean, torch.kron(block, torch.eye(d, dtype=torch.float64)))


def joint(rho: float, d: int) -> MultivariateNormal:
    return normal(rho, d, rho, math.sqrt(1 - rho**2), 0.0)


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.9, 0.97])
def test_information_by_quadrature(rho):
    grid = np.linspace(-9, 9, 1201)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    law = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
    density = law.pdf(np.stack([x, y], -1))
    log_ratio = law.logpdf(np.stack([x, y], -1)) - stats.norm.logpdf(x) - stats.norm.logpdf(y)
    integral = integrate.trapezoid(integrate.trapezoid(density * log_ratio, grid), grid)
    assert float(gaussians.mutual_information(rho, 1)) == pytest.approx(integral, abs=1e-9)
    assert gaussians.mutual_information(rho, 7) == pytest.approx(7 * integral, abs=1e-8)


@pytest.mark.parametrize("d", [1, 3])
def test_information_is_a_divergence_of_many_coordinates(d):
    independent = normal(0, d, 0, 1, 0)
    true = float(kl_divergence(joint(0.7, d), independent))
    assert gaussians.mutual_information(0.7, d) == pytest.approx(true, rel=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_both_divergences_of_theorem_2(setting):
    rho, d, *_ = setting
    q = normal(*setting)
    assert gaussians.kl_joint(*setting) == pytest.approx(float(kl_divergence(joint(rho, d), q)), rel=1e-9, abs=1e-12)
    assert gaussians.kl_product(*setting) == pytest.approx(float(kl_divergence(joint(0, d), q)), rel=1e-9)


def drawn(count: int = 2000) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    rho, slope, shift = rng.uniform([[-0.95], [-1], [-1]], [[0.95], [1], [1]], (3, count))
    return rho, slope, rng.uniform(0.4, 2, count), shift


def test_the_gap_is_the_difference_of_the_divergences():
    rho, slope, scale, shift = drawn()
    gap = gaussians.variational_club(rho, 3, slope, scale) - gaussians.mutual_information(rho, 3)
    q = (rho, 3, slope, scale, shift)
    assert np.abs(gap - (gaussians.kl_product(*q) - gaussians.kl_joint(*q))).max() < 1e-12


def test_the_bound_holds_where_the_condition_does_and_fails_elsewhere():
    rho, slope, scale, shift = drawn()
    condition = gaussians.kl_product(rho, 2, slope, scale, shift) >= gaussians.kl_joint(rho, 2, slope, scale, shift)
    bound = gaussians.variational_club(rho, 2, slope, scale) >= gaussians.mutual_information(rho, 2)
    assert (condition == bound).all()
    assert 0.1 < condition.mean() < 0.9  # both cases occur


def test_a_q_of_half_the_slope_breaks_the_bound_and_the_true_one_does_not():
    rho = np.linspace(-0.99, 0.99, 99)
    information = gaussians.mutual_information(rho, 4)
    assert (gaussians.club(rho, 4) >= information).all()
    assert gaussians.club(0.0, 4) == gaussians.mutual_information(0.0, 4) == 0  # equality at independence
    assert (gaussians.variational_club(0.0, 4, rho, 0.7) == 0).all()  # for every q
    weak = gaussians.variational_club(0.3, 1, 0.3 / 2, 1.0)
    assert weak < gaussians.mutual_information(0.3, 1)
    assert gaussians.variational_club(0.3, 1, -0.3, 1.0) < 0


def test_club_is_the_variational_form_at_the_true_conditional():
    rho = np.linspace(-0.95, 0.95, 39)
    true = gaussians.variational_club(rho, 5, rho, np.sqrt(1 - rho**2))
    assert gaussians.club(rho, 5) == pytest.approx(true, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("rho", [0.3, -0.8, 0.95])
def test_club_with_limited_variance_is_that_of_the_likeliest_q_there_is(rho, factor):
    """By search over slopes and scales of q; the misfit does not change if u is measured in units of y."""
    limits = [(-2, 2), (math.exp(-0.5) / factor, math.exp(0.5) / factor)]
    start = [0.1, np.mean(limits[1])]
    found = optimize.minimize(lambda q: float(gaussians.kl_joint(rho, 1, *q)), start, bounds=limits, method="L-BFGS-B")
    expected = gaussians.variational_club(rho, 3, *found.x)
    assert gaussians.limited_club(rho, 3, factor) == pytest.approx(float(expected), rel=1e-3)


def test_a_small_scale_lowers_limited_club_and_a_large_one_raises_it_without_end():
    assert gaussians.limited_club(0.8, 1, [1.2, 2.7]) == pytest.approx(2 * [float(gaussians.club(0.8, 1))], rel=1e-12)
    assert gaussians.limited_club(0.8, 1, 3.0) == pytest.approx(9 * 0.64 / math.e)  # 2.12; without the cap, 1.78
    assert gaussians.limited_club(0.8, 1, 0.1) == pytest.approx(0.01 * 0.64 * math.e)
    assert gaussians.mutual_information(0.8, 1) > gaussians.limited_club(0.8, 1, 0.1)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_loss_on_simulated_pairs_meets_the_closed_form(setting):
    rho, d, slope, scale, shift = setting
    x, y = (torch.from_numpy(v) for v in gaussians.sample(rho, 100_000, d, np.random.default_rng(1)))
    mu = slope * x + shift
    estimate = float(losses.club(mu, torch.full_like(mu, 2 * math.log(scale)), y))
    # a/s² Σ_k mean x_k y_k, whose standard error is a/s² √(d (1 + ρ²)/N)
    error = abs(slope) / scale**2 * math.sqrt(d * (1 + rho**2) / 100_000)
    assert abs(estimate - gaussians.variational_club(rho, d, slope, scale)) < 4 * error


def test_log_ratio_against_densities_and_its_mean():
    x, y = gaussians.sample(0.6, 50, 3, np.random.default_rng(2))
    ours = gaussians.log_ratio(x, y, 0.6)
    a, b = torch.from_numpy(x)[:, None], torch.from_numpy(y)[None]
    plain = (Normal(0.6 * a, 0.8).log_prob(b) - Normal(0.0, 1.0).log_prob(b)).sum(-1)
    assert np.abs(ours - plain.numpy()).max() < 1e-12
    x, y = gaussians.sample(0.6, 4000, 3, np.random.default_rng(3))
    # per coordinate the log ratio's variance is ρ², so the mean of 4000 is within 0.05 of the information
    assert np.diag(gaussians.log_ratio(x, y, 0.6)).mean() == pytest.approx(
        gaussians.mutual_information(0.6, 3), abs=4 * math.sqrt(3 * 0.36 / 4000)
    )


def test_samples_have_the_law_they_claim():
    x, y = gaussians.sample(-0.7, 20_000, 2, np.random.default_rng(4))
    assert x.shape == y.shape == (20_000, 2)
    matrix = np.eye(4)
    matrix[0, 2] = matrix[2, 0] = matrix[1, 3] = matrix[3, 1] = -0.7
    assert np.abs(np.cov(np.hstack([x, y]).T) - matrix).max() < 0.045  # 4.5 standard errors of a variance
    assert stats.kstest(y[:, 0], "norm").pvalue > 1e-3


def test_correlation_inverts_information():
    rho = np.linspace(0, 0.99, 12)
    assert gaussians.correlation(gaussians.mutual_information(rho, 6), 6) == pytest.approx(rho, abs=1e-12)


def test_information_of_a_parabola_by_simulation():
    rng = np.random.default_rng(5)
    for rho in (0.5, 0.9):
        sigma = math.sqrt(1 - rho**2)
        x, others, noise = rng.standard_normal((3, 3000))
        curve = rho * (x**2 - 1) / math.sqrt(2)
        y = curve + sigma * noise
        marginal = stats.norm.pdf(y[:, None], rho * (others**2 - 1) / math.sqrt(2), sigma).mean(1)
        simulated = stats.norm.logpdf(y, curve, sigma) - np.log(marginal)
        error = simulated.std() / math.sqrt(3000)
        assert gaussians.parabola_information(rho, 2) == pytest.approx(2 * simulated.mean(), abs=2 * (4 * error + 0.02))
    assert gaussians.parabola_information(0.0, 3) == pytest.approx(0, abs=1e-9)
    assert gaussians.parabola_information(0.02, 1) == pytest.approx(0.02**2 / 2, rel=1e-2)  # small-signal limit


RHO, D, SCALE = "lie between -1 and 1", "be a whole number of at least 1", "be above 0"


@pytest.mark.parametrize(
    ("call", "arguments", "name", "rule", "got"),
    [
        ("mutual_information", (1.5, 2), "rho", RHO, "1.5"),
        ("mutual_information", ([0.1, -1.0], 2), "rho", RHO, "-1.0"),
        ("mutual_information", (math.nan, 2), "rho", RHO, "nan"),
        ("mutual_information", (0.5, 0), "d", D, "0"),
        ("club", (1.0, 2), "rho", RHO, "1.0"),
        ("club", (0.5, 1.5), "d", D, "1.5"),
        ("variational_club", (0.5, 1, 0.5, 0.0), "scale", SCALE, "0.0"),
        ("limited_club", (0.5, 1, 0.0), "factor", SCALE, "0.0"),
        ("kl_joint", (0.5, 1, 0.5, -1.0), "scale", SCALE, "-1.0"),
        ("kl_product", (0.5, True, 0.5, 1.0), "d", D, "True"),
        ("sample", (2.0, 5, 1, np.random.default_rng(0)), "rho", RHO, "2.0"),
        ("log_ratio", (np.zeros((2, 1)), np.zeros((2, 1)), 1.0), "rho", RHO, "1.0"),
        ("correlation", (1.0, 0), "d", D, "0"),
        ("correlation", ([0.5, -0.1], 1), "information", "be at least 0", "-0.1"),
        ("parabola_information", (1.0, 1), "rho", RHO, "1.0"),
    ],
)
def test_errors_name_the_argument_the_rule_and_the_value(call, arguments, name, rule, got):
    with pytest.raises(ValueError) as error:
        getattr(gaussians, call)(*arguments)
    assert str(error.value) == f"'{name}' needs to {rule} in '{call}' (got {got})"


def test_a_parabola_too_sharp_for_the_grid_is_refused():
    with pytest.raises(ValueError, match=r"'rho' needs a square of at most 0.999 in 'parabola_information'"):
        gaussians.parabola_information(0.9999, 1)
