import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import ive
from torch.distributions import Normal

from sea import blocks, losses


def rows(n: int, d: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_()


def same_value_and_gradients(ours, plain, *inputs, rel=1e-9):
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=rel)
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(plain, inputs)):
        assert float((a - b).norm() / b.norm()) < rel


def dense_solosim(anchor, other, tau):
    """Eq. (16) on the whole N × N matrix."""
    similarity = F.normalize(anchor) @ F.normalize(other).T / tau
    return -F.log_softmax(similarity, dim=1).diagonal().mean()


@pytest.mark.parametrize("cells", [1, 70, 10_000])
@pytest.mark.parametrize("tau", [0.01, 0.2])
def test_streaming_solosim_equals_the_dense_form(generator, monkeypatch, cells, tau):
    monkeypatch.setitem(blocks.CELLS, "cpu", 16 * cells)  # one row at a time, ragged blocks, one block
    monkeypatch.setattr(losses, "LEAST", 1)
    anchor, other = rows(31, 5, generator), rows(31, 5, generator)
    same_value_and_gradients(losses.solosim(anchor, other, tau), dense_solosim(anchor, other, tau), anchor, other)


@pytest.mark.parametrize("tau", [1e-3, 0.0226, 0.0224, 5.0])
def test_no_temperature_leaves_the_range_of_single_precision(generator, tau):
    anchor, other = rows(31, 5, generator), rows(31, 5, generator)
    with torch.no_grad():
        other[:16] = anchor[:16]  # cosines of 1, logits of 1/τ
        other[16:20] = -anchor[16:20]
    expected = dense_solosim(anchor, other, tau)
    expected_grad = torch.autograd.grad(expected, anchor)[0]
    single = anchor.detach().float().requires_grad_()
    ours = losses.solosim(single, other.detach().float(), tau)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    grad = torch.autograd.grad(ours, single)[0]
    assert torch.allclose(grad.double(), expected_grad, rtol=1e-3, atol=1e-5 * float(expected_grad.abs().max()))


def test_info_nce_is_the_mean_of_both_directions(generator):
    a, b = rows(23, 4, generator), rows(23, 4, generator)
    plain = (dense_solosim(a, b, 0.1) + dense_solosim(b, a, 0.1)) / 2
    same_value_and_gradients(losses.info_nce(a, b, 0.1), plain, a, b)


def test_solosim_passes_on_an_outer_factor(generator):
    anchor, other = rows(9, 3, generator), rows(9, 3, generator)
    ours = torch.autograd.grad(3 * losses.solosim(anchor, other), anchor)[0]
    assert torch.allclose(ours, 3 * torch.autograd.grad(dense_solosim(anchor, other, 0.2), anchor)[0])


def dense_club(mu, logvar, u):
    """Eq. (14) over all N² pairs, densities by torch.distributions."""
    q = Normal(mu, (logvar / 2).exp())
    paired = q.log_prob(u).sum(-1).mean()
    everyone = Normal(mu[:, None], (logvar / 2).exp()[:, None]).log_prob(u[None])  # (i, j, d)
    return paired - everyone.sum(-1).mean()


def test_club_by_moments_equals_all_pairs(generator):
    mu, logvar, u = (rows(40, 3, generator) for _ in range(3))
    same_value_and_gradients(losses.club(mu, logvar, u), dense_club(mu, logvar, u), mu, logvar, u)


def test_club_keeps_its_digits_far_from_the_origin(generator):
    mu, logvar, u = (rows(40, 3, generator).detach() for _ in range(3))
    ours = losses.club((mu + 1e3).float(), logvar.float(), (u + 1e3).float())
    assert float(ours) == pytest.approx(float(dense_club(mu, logvar, u)), rel=1e-3)


def correlated(rho: float, n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Pairs of Gaussian vectors with correlation rho in each of d coordinates, and their mutual information."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))
    return torch.from_numpy(x), torch.from_numpy(y), -d / 2 * math.log(1 - rho**2)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_club_with_the_true_conditional_against_its_closed_form(rho):
    # E[(μ-u')²] - E[(μ-u)²] over 2σ² with μ = ρx, σ² = 1-ρ² is ρ²/(1-ρ²) a coordinate: above the true MI
    x, y, information = correlated(rho, 200_000, 2, seed=3)
    estimate = float(losses.club(rho * x, torch.full_like(x, math.log(1 - rho**2)), y))
    assert estimate == pytest.approx(2 * rho**2 / (1 - rho**2), abs=0.03)
    assert estimate >= information - 0.02


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_solosim_stays_below_the_information_of_correlated_gaussians(rho):
    # Eq. (16) sees directions only, and directions cannot carry more than the vectors do
    x, y, information = correlated(rho, 3000, 4, seed=2)
    bounds = [math.log(3000) - float(losses.solosim(y, x, tau)) for tau in (0.1, 0.2, 0.5, 1.0)]
    assert max(bounds) < information + 0.02
    assert max(bounds) > 0.4 * information - 0.2  # and it does see them; with nothing to see it is a little below 0


def test_solosim_is_a_lower_bound_of_the_mutual_information():
    # unit vectors on the circle with a wrapped noise: MI by quadrature of their difference's density
    rng = np.random.default_rng(0)
    n, kappa = 4000, 4.0
    angle = rng.uniform(0, 2 * math.pi, n)
    noise = rng.vonmises(0, kappa, n)
    a, b = (torch.from_numpy(np.stack([np.cos(t), np.sin(t)], 1)) for t in (angle, angle + noise))
    entropy = math.log(2 * math.pi * np.i0(kappa)) - kappa * bessel_ratio(kappa)
    information = math.log(2 * math.pi) - entropy
    bound = math.log(n) - float(losses.solosim(a, b, tau=1 / kappa))  # the optimal critic for von Mises noise
    assert bound == pytest.approx(information, abs=0.05)
    assert math.log(n) - float(losses.solosim(a, b, tau=1.0)) < information  # any other critic stays below


def bessel_ratio(kappa: float) -> float:
    return float(ive(1, kappa) / ive(0, kappa))


def test_a_fitted_q_brings_club_near_its_closed_form(generator):
    x, y, _ = correlated(0.6, 2000, 2, seed=1)
    q = losses.ConditionalGaussian(2, hidden=8, heads=1, lr=2e-2, generator=generator).double()
    q.fit(x[None], y[None], 500)
    mu, logvar = q(x[None])
    assert float(losses.club(mu[0], logvar[0], y)) == pytest.approx(2 * 0.36 / 0.64, rel=0.15)


def test_q_is_two_small_nets_per_head_and_fit_is_plain_adam(generator):
    """Against nn.Sequential nets with copied weights, trained by a plain loop."""
    q = losses.ConditionalGaussian(3, hidden=4, heads=2, lr=1e-2, generator=generator).double()
    g, u = (torch.randn(2, 50, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    nets = [[net_of(q, head, which) for which in (0, 1)] for head in (0, 1)]
    parameters = [p for pair in nets for net in pair for p in net.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(20):
        loss = 0
        for (mu_net, logvar_net), gs, us in zip(nets, g, u):
            density = Normal(mu_net(gs), (logvar_net(gs).tanh() / 2).exp())
            loss = loss - density.log_prob(us).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    q.fit(g, u, 20)
    mu, logvar = q(g)
    for head, (mu_net, logvar_net) in enumerate(nets):
        assert torch.allclose(mu[head], mu_net(g[head]), atol=1e-8)
        assert torch.allclose(logvar[head], logvar_net(g[head]).tanh(), atol=1e-8)
    assert not any(p.requires_grad or p.grad is not None for p in q.parameters())


def net_of(q: losses.ConditionalGaussian, head: int, which: int) -> torch.nn.Sequential:
    hidden = q.weight2.shape[2]
    net = torch.nn.Sequential(torch.nn.Linear(3, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 3)).double()
    columns = slice(which * hidden, (which + 1) * hidden)
    with torch.no_grad():
        net[0].weight.copy_(q.weight1[head, :, columns].T)
        net[0].bias.copy_(q.bias1[head, 0, columns])
        net[2].weight.copy_(q.weight2[which, head].T)
        net[2].bias.copy_(q.bias2[which, head, 0])
    return net


def test_the_simple_losses_by_hand():
    zero, one = torch.zeros(3), torch.ones(3)
    assert float(losses.bpr(zero, zero)) == pytest.approx(math.log(2))
    assert float(losses.bpr(zero, zero, log_base=2)) == pytest.approx(1)
    assert float(losses.bpr(one, zero)) == pytest.approx(-math.log(1 / (1 + math.exp(-1))))
    assert float(losses.bpr(zero - 200, zero)) == pytest.approx(200)  # no overflow, no log of zero
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[0.0, 2.0], [3.0, 3.0]])
    assert float(losses.orthogonal(a, b)) == pytest.approx((0 + 0.5) / 2)
    assert float(losses.negative_l2(a, b)) == pytest.approx(-(1 + 4 + 4 + 9) / 4)
    assert float(losses.embedding_norm(a, b)) == pytest.approx((math.sqrt(2) + math.sqrt(22)) / 2)


def test_random_directions_pay_one_over_d_to_the_orthogonality_penalty(generator):
    a, b = (torch.randn(200_000, 16, generator=generator) for _ in range(2))
    assert float(losses.orthogonal(a, b)) == pytest.approx(1 / 16, rel=0.02)


def test_wrong_arguments_are_named():
    a = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"'tau' needs to be above 0 in 'solosim' \(got 0\)"):
        losses.solosim(a, a, tau=0)
    with pytest.raises(ValueError, match="'anchor' and 'other' need the same shape"):
        losses.solosim(a, a[:2])
