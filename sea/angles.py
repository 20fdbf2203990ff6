"""Theorem 1 and Corollary 1: the angle between random directions in R^n, in closed form.

Let θ ∈ [0, π] be the angle between a fixed unit vector and a uniformly random one in R^n. All angles
here are in radians, n is the dimension (a whole number of at least 2).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv, gammaln, polygamma


def _dimension(n: int, caller: str) -> int:
    if isinstance(n, bool) or int(n) != n or n < 2:
        raise ValueError(f"'n' needs to be a whole number of at least 2 in '{caller}' (got {n!r})")
    return int(n)


def pdf(theta: ArrayLike, n: int) -> np.ndarray:
    """Density of the angle, Eq. (1): p_n(θ) = Γ(n/2) / (√π Γ((n-1)/2)) · sin^(n-2) θ on [0, π], else 0."""
    n = _dimension(n, "pdf")
    theta = np.asarray(theta, dtype=float)
    inside = (theta >= 0) & (theta <= math.pi)
    log_constant = gammaln(n / 2) - gammaln((n - 1) / 2) - math.log(math.pi) / 2
    with np.errstate(divide="ignore"):
        log_sine = np.log(np.where(inside, np.abs(np.sin(theta)), 1.0))
    power = (n - 2) * log_sine if n > 2 else np.zeros_like(theta)
    return np.where(inside, np.exp(log_constant + power), 0.0)


def cdf(theta: ArrayLike, n: int) -> np.ndarray:
    """P(angle ≤ θ), the integral of Eq. (1).

    From sin²θ ~ Beta((n-1)/2, 1/2): ½ I_{sin²θ}((n-1)/2, 1/2) up to π/2, and one minus its mirror
    image beyond.
    """
    n = _dimension(n, "cdf")
    theta = np.clip(np.asarray(theta, dtype=float), 0, math.pi)
    tail = betainc((n - 1) / 2, 0.5, np.sin(theta) ** 2) / 2
    return np.where(theta <= math.pi / 2, tail, 1 - tail)


def variance(n: int) -> float:
    """Exact variance of the angle in rad², Eq. (2): Var_n = ½ ψ₁(n/2), with ψ₁ the trigamma function.

    The paper approximates it by Laplace's method, 1/(n-2), and then writes 1/n (Eq. 3).
    """
    return float(polygamma(1, _dimension(n, "variance") / 2)) / 2


def kurtosis(n: int) -> float:
    """Exact excess kurtosis of the angle, -½ ψ₃(n/2) / ψ₁(n/2)²: -1.2 for n = 2 (uniform), to 0 as n grows."""
    half = _dimension(n, "kurtosis") / 2
    return float(-polygamma(3, half) / (2 * polygamma(1, half) ** 2))


def halfwidth(n: int, level: float = 0.95) -> float:
    """Half-width h in radians with P(|θ - π/2| ≤ h) = level, exact from cos²θ ~ Beta(1/2, (n-1)/2)."""
    n = _dimension(n, "halfwidth")
    if not 0 < level < 1:
        raise ValueError(f"'level' needs to lie between 0 and 1 in 'halfwidth' (got {level!r})")
    return math.asin(math.sqrt(betaincinv(0.5, (n - 1) / 2, level)))


def sample(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Simulate `size` angles, each between two fresh Gaussian vectors of R^n (both random; nothing is fixed).

    Works in blocks of about 2 million coordinates, so memory does not grow with n · size.
    """
    n = _dimension(n, "sample")
    angles = np.empty(size)
    block = max(1, 2_000_000 // n)
    for start in range(0, size, block):
        count = min(block, size - start)
        a, b = rng.standard_normal((2, count, n))
        cosine = np.einsum("ij,ij->i", a, b) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
        angles[start : start + count] = np.arccos(np.clip(cosine, -1, 1))
    return angles
