"""The bounds' ceilings by construction and by search, Theorem 2 on tables, and learned q's against closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sea import losses
from sea.analysis import bounds, gaussians


def simplex(n):
    """N unit vectors, each at the same angle to every other."""
    centred = torch.eye(n, dtype=torch.float64) - 1 / n
    return F.normalize(centred, dim=1)


@pytest.mark.parametrize("tau", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("n", [2, 5, 40])
def test_a_simplex_reaches_the_cosine_critics_ceiling(n, tau):
    corners = simplex(n)
    reached = math.log(n) - float(losses.solosim(corners, corners, tau))
    assert bounds.cosine_ceiling(n, tau) == pytest.approx(reached, abs=1e-12)


@pytest.mark.parametrize(("n", "tau"), [(4, 0.2), (6, 0.5)])
def test_a_search_over_all_vectors_comes_up_to_that_ceiling_and_no_further(n, tau):
    generator = torch.Generator().manual_seed(n)
    free = torch.randn(2, n, n, generator=generator, dtype=torch.float64).requires_grad_()
    adam = torch.optim.Adam([free], lr=0.05)
    for _ in range(500):
        loss = losses.solosim(*free, tau)
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert math.log(n) - float(loss.detach()) <= bounds.cosine_ceiling(n, tau) + 1e-12
    assert math.log(n) - float(loss.detach()) == pytest.approx(bounds.cosine_ceiling(n, tau), abs=3e-3)


def lower_bound(scores):
    return math.log(len(scores)) - float(F.cross_entropy(scores, torch.arange(len(scores))))


def test_no_scores_of_that_range_exceed_the_range_ceiling_and_the_extreme_ones_reach_it():
    generator = torch.Generator().manual_seed(0)
    for n, tau in ((2, 0.3), (7, 1.0), (300, 0.2)):
        extreme = (2 * torch.eye(n, dtype=torch.float64) - 1) / tau
        assert bounds.range_ceiling(n, tau) == pytest.approx(lower_bound(extreme), abs=1e-9)
    sharp = (2 * torch.eye(7) - 1 + 0.3 * torch.randn(200, 7, 7, generator=generator)).clamp(-1, 1)
    assert max(lower_bound(scores) for scores in sharp) < bounds.range_ceiling(7, 1.0)
    assert bounds.range_ceiling(2, 0.3) == pytest.approx(bounds.cosine_ceiling(2, 0.3), abs=1e-12)


def test_the_ceilings_of_baby():
    assert bounds.range_ceiling(7050, 0.2) == pytest.approx(8.58, abs=0.005)
    assert bounds.cosine_ceiling(7050, 0.2) == pytest.approx(4.98, abs=0.005)
    assert bounds.cosine_ceiling(7050, 0.2) < bounds.range_ceiling(7050, 0.2) < math.log(7050)


@pytest.mark.parametrize("name", ["range_ceiling", "cosine_ceiling"])
def test_wrong_arguments_of_a_ceiling_are_refused(name):
    with pytest.raises(ValueError, match=rf"'n' needs to be at least 2 in '{name}' \(got 1\)"):
        getattr(bounds, name)(1, 0.2)
    with pytest.raises(ValueError, match=rf"'tau' needs to be above 0 in '{name}' \(got 0\)"):
        getattr(bounds, name)(10, 0)


def test_theorem_2_on_a_fine_grid_is_the_gaussian_closed_form():
    rho, slope, scale = 0.7, 0.4, 0.9
    grid = np.linspace(-6, 6, 241)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    joint = np.exp(-(x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho**2)))
    q = np.exp(-((y - slope * x) ** 2) / (2 * scale**2))
    found = bounds.theorem_2(joint / joint.sum(), q / q.sum(1, keepdims=True))
    expected = {
        "I": gaussians.mutual_information(rho, 1),
        "vCLUB": gaussians.variational_club(rho, 1, slope, scale),
        "KL(p(x)p(y) ‖ q)": gaussians.kl_product(rho, 1, slope, scale),
        "KL(p(x,y) ‖ q)": gaussians.kl_joint(rho, 1, slope, scale),
    }
    assert found == pytest.approx(expected, abs=1e-3)


def test_theorem_2_needs_no_gaussian():
    rng = np.random.default_rng(0)
    signs = set()
    for _ in range(200):
        joint = rng.dirichlet(np.full(15, 0.7)).reshape(3, 5) * 0.99 + 0.01 / 15
        q = rng.dirichlet(np.full(5, 2.0), 3) * 0.9 + (joint / joint.sum(1, keepdims=True)) * 0.1
        t = bounds.theorem_2(joint, q)
        gap, condition = t["vCLUB"] - t["I"], t["KL(p(x)p(y) ‖ q)"] - t["KL(p(x,y) ‖ q)"]
        assert gap == pytest.approx(condition, abs=1e-12)
        signs.add(gap >= 0)
    assert signs == {True, False}
    x, y = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4))
    independent = bounds.theorem_2(np.outer(x, y), rng.dirichlet(np.ones(4), 3))
    assert independent["I"] == pytest.approx(0, abs=1e-12)
    assert independent["vCLUB"] == pytest.approx(0, abs=1e-12)


def test_theorem_2_refuses_tables_that_are_no_distributions():
    even = np.full((2, 2), 0.25)
    with pytest.raises(ValueError, match="'conditional' needs entries above 0 that sum to 1 in 'theorem_2'"):
        bounds.theorem_2(even, even)
    with pytest.raises(ValueError, match="'joint' needs entries above 0"):
        bounds.theorem_2(2 * even, 2 * even)


@pytest.fixture(scope="module")
def learned():
    return bounds.learned_club([1, 16], [0, 400], [0.3, 1.0], [0.0, 0.5, 2.0], d=2, pairs=3000)["vCLUB"]


def test_a_wide_and_long_fitted_q_comes_near_to_the_best_of_its_kind(learned):
    for c in (0.3, 1.0):
        for truth in (0.0, 0.5, 2.0):
            best = float(gaussians.limited_club(gaussians.correlation(truth, 2), 2, c))
            assert learned[16, 400, c, truth] == pytest.approx(best, rel=0.2, abs=0.06)
    assert learned[16, 400, 0.3, 2.0] < 0.5 < 2  # far below the truth, by the scale alone


def test_an_unfitted_q_knows_nothing_and_a_narrow_one_too_little(learned):
    assert np.abs(learned.xs(0, level="steps")).max() < 0.8
    assert learned[1, 400, 1.0, 2.0] < 0.8 * learned[16, 400, 1.0, 2.0]
    assert list(learned.index.names) == ["width", "steps", "scale", "I"]
    assert len(learned) == 2 * 2 * 2 * 3
