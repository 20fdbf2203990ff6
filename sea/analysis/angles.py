"""Theorem 1 and Corollary 1: the angle between random directions in R^n, in closed form.

Let θ ∈ [0, π] be the angle between a fixed unit vector and a uniformly random one in R^n. All angles
here are in radians, n is the dimension (a whole number of at least 2).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad, quad_vec, trapezoid
from scipy.special import betainc, betaincinv, gammaln, polygamma
from scipy.stats import kstest, kstwo, norm


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

    Equal to 2 Σ_{k≥0} 1/(n+2k)², and so between 1/n + 1/n² and 1/(n-1). The paper approximates it by Laplace's
    method, 1/(n-2), and then writes 1/n (Eq. 3).
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


def within(half: ArrayLike, n: int) -> np.ndarray:
    """P(|θ - π/2| ≤ half), the inverse of `halfwidth`: I_{sin² half}(1/2, (n-1)/2), for half in [0, π/2] radians."""
    return betainc(0.5, (_dimension(n, "within") - 1) / 2, np.sin(np.clip(half, 0, math.pi / 2)) ** 2)


def effective_dimension(a: np.ndarray, b: np.ndarray) -> float:
    """The n whose isotropic vectors have the mean squared cosine that these pairs have: 1 / mean_i cos²(a_i, b_i).

    It describes the pairs that it is given. Rows that belong together, as two parts of one item do, give the *paired*
    value; the same rows, each with a stranger (`strangers`), give the *shuffled* one. They differ where the two depend
    on each other. Infinite if all pairs are orthogonal.

    Args:
        a, b: vectors in rows, (N, d) each, N ≥ 1; row i of a is held against row i of b.
    """
    return _dimension_of(between(a, b))


def _dimension_of(theta: np.ndarray) -> float:
    square = float((np.cos(theta) ** 2).mean())
    return 1 / square if square > 1e-30 else math.inf  # the cosine of π/2 is not 0 in floating point


def spectral_dimension(variances: ArrayLike) -> float:
    """`effective_dimension` of independent Gaussian vectors with these variances along their axes, exact.

        1 / Σ_k p_k²,   p_k = E[x_k² / ‖x‖²] = ∫₀^∞ λ_k / (1 + 2 λ_k t) · Π_j (1 + 2 λ_j t)^(-1/2) dt

    as 1/‖x‖² = ∫₀^∞ exp(-t ‖x‖²) dt. At most the number of variances, which equal ones reach. It is not the
    participation ratio (Σλ)² / Σλ², which divides two means where the mean of a ratio is meant.

    Args:
        variances: λ, shape (d,), above 0, d ≥ 2.

    Raises:
        ValueError: a variance that is not above 0, or fewer than two.
    """
    spectrum = np.asarray(variances, dtype=float)
    if spectrum.ndim != 1 or len(spectrum) < 2 or not (spectrum > 0).all():
        raise ValueError(f"'variances' needs at least two, all above 0, in 'spectral_dimension' (got {variances!r})")
    spectrum = spectrum / spectrum.max()

    def shares(x: float) -> np.ndarray:  # t = x / (1 - x)
        t = x / (1 - x)
        return spectrum / (1 + 2 * spectrum * t) * np.exp(-np.log1p(2 * spectrum * t).sum() / 2) / (1 - x) ** 2

    p, _ = quad_vec(shares, 0, 1)
    return float(1 / (p**2).sum())


def strangers(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, rounds: int = 20) -> tuple:
    """Each row of a beside `rounds` rows of b that are not its own: b is shifted by that many different numbers.

    Args:
        a, b: (N, d) each, N ≥ 2.

    Returns:
        Two arrays, (N · rounds, d) each; fewer rounds where N - 1 is fewer.
    """
    shifts = 1 + rng.permutation(len(b) - 1)[:rounds]
    return np.tile(a, (len(shifts), 1)), np.concatenate([np.roll(b, shift, axis=0) for shift in shifts])


def pull(theta: ArrayLike) -> float:
    """Root mean square gradient of cos²θ with respect to a unit vector, its other one fixed: √mean sin² 2θ.

    ∂cos²θ/∂a = 2 cos θ sin θ · t on the sphere, t = (b - cos θ · a) / sin θ a unit vector orthogonal to a. For
    independent directions, one of them uniform, it is 2 √((n-1) / (n (n+2))).
    """
    return float(np.sqrt((np.sin(2 * np.asarray(theta)) ** 2).mean()))


def summary(theta: np.ndarray, n: int, vectors: int) -> dict[str, float]:
    """What measured angles are like, beside the law of random directions at n.

    The Kolmogorov-Smirnov distance is the largest gap between the distribution functions. Under the law it exceeds
    `critical (5 %)` in at most 5 of 100 cases: the value is that of as many independent pairs as there are vectors,
    however often each of them is used.

    Args:
        theta: angles in radians, shape (N,).
        n: dimension of the law, at least 2.
        vectors: how many distinct vectors there are on the side that has fewer.
    """
    return {
        "mean (deg)": float(np.degrees(theta.mean())),
        "std (deg)": float(np.degrees(theta.std())),
        "std at n (deg)": float(np.degrees(variance(n) ** 0.5)),
        "n": n,
        "effective n": _dimension_of(theta),
        "mean cos²": float((np.cos(theta) ** 2).mean()),
        "pull": pull(theta),
        "KS to n": ks_distance(theta, n),
        "critical (5 %)": float(kstwo.ppf(0.95, vectors)),
    }


def ks_distance(theta: np.ndarray, n: int) -> float:
    """Kolmogorov-Smirnov distance between measured angles (radians) and the law at n."""
    return float(kstest(theta, lambda t: cdf(t, n)).statistic)


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles in radians between the rows of a and of b, (N, d) each; a row of zeros is at π/2 to everything."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.divide((a * b).sum(1), norms, out=np.zeros(len(a)), where=norms > 0)
    return np.arccos(np.clip(cosine, -1, 1))
