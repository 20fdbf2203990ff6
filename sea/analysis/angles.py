"""Theorem 1 and Corollary 1: the angle between random directions in R^n, in closed form.

Let θ ∈ [0, π] be the angle between a fixed unit vector and a uniformly random one in R^n. All angles
here are in radians, n is the dimension (a whole number of at least 2).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad, trapezoid
from scipy.special import betainc, betaincinv, gammaln, polygamma
from scipy.stats import norm


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
        angles[start : start + count] = between(*rng.standard_normal((2, count, n)))
    return angles


def largest_cosine(n: int, pairs: int) -> float:
    """Expected largest |cos θ| among independent random pairs: ∫₀¹ 1 - F(c)^pairs dc, with cos²θ ~ Beta(½, (n-1)/2).

    Args:
        n: dimension.
        pairs: how many pairs, at least 1.
    """
    n = _dimension(n, "largest_cosine")
    if pairs < 1:
        raise ValueError(f"'pairs' needs to be at least 1 in 'largest_cosine' (got {pairs!r})")
    value, _ = quad(lambda c: 1 - betainc(0.5, (n - 1) / 2, c * c) ** pairs, 0, 1, limit=200)
    return value


def normal_distance(n: int, variance_of_normal: float | None = None) -> float:
    """Total variation ½ ∫ |p_n - φ| between the angle's law and the normal one with mean π/2.

    Args:
        n: dimension.
        variance_of_normal: in rad²; the exact variance unless given (the paper writes 1/n).
    """
    n = _dimension(n, "normal_distance")
    spread = math.sqrt(variance(n) if variance_of_normal is None else variance_of_normal)
    theta = np.linspace(0, math.pi, 200_001)
    inside = trapezoid(np.abs(pdf(theta, n) - norm.pdf(theta, math.pi / 2, spread)), theta)
    return float(inside + 2 * norm.sf(math.pi / 2 / spread)) / 2


def effective_dimension(a: np.ndarray, b: np.ndarray | None = None) -> float:
    """The n whose isotropic vectors have as large a mean squared cosine: tr(A) tr(B) / tr(A B).

    A and B are the second moments of the rows of a and b. With b left out it is the participation ratio
    tr(A)² / tr(A²) = (Σλ)² / Σλ², from 1 (a line) to the width (isotropic).

    Args:
        a, b: vectors in rows, (N, d) each, N ≥ 1.
    """
    first = a.T @ a / len(a)
    second = first if b is None else b.T @ b / len(b)
    overlap = float((first * second).sum())
    if overlap <= 0:
        raise ValueError("'a' and 'b' need a direction in common in 'effective_dimension' (got none)")
    return float(np.trace(first) * np.trace(second)) / overlap


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles in radians between the rows of a and of b, (N, d) each; a row of zeros is at π/2 to everything."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.divide((a * b).sum(1), norms, out=np.zeros(len(a)), where=norms > 0)
    return np.arccos(np.clip(cosine, -1, 1))
