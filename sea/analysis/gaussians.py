"""Correlated Gaussians, where every term of Theorem 2 has a closed form.

x and y have d coordinates, each standard normal; y_k is correlated with x_k by ρ and with nothing else. The
variational conditional of CLUB is q(y|x) = N(a x + b, s²) in each coordinate: a is `slope`, b `shift`, s
`scale`; the true conditional has a = ρ, b = 0, s² = 1 - ρ². All information is in nats. Unless said otherwise,
`rho`, `slope`, `scale` and `shift` may be arrays that broadcast. Every function raises ValueError for |ρ| ≥ 1,
s ≤ 0, or a d that is no whole number of at least 1.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid
from scipy.stats import norm


def _check(
    caller: str, d: int, rho: ArrayLike = 0.0, scale: ArrayLike = 1.0, scale_name: str = "scale"
) -> tuple[np.ndarray, np.ndarray]:
    rho, scale = np.asarray(rho, dtype=float), np.asarray(scale, dtype=float)
    if isinstance(d, bool) or int(d) != d or d < 1:
        raise ValueError(f"'d' needs to be a whole number of at least 1 in '{caller}' (got {d!r})")
    for name, values, right, rule in (
        ("rho", rho, np.abs(rho) < 1, "lie between -1 and 1"),
        (scale_name, scale, scale > 0, "be above 0"),
    ):
        if not right.all():
            raise ValueError(f"'{name}' needs to {rule} in '{caller}' (got {values[~right].flat[0]})")
    return rho, scale


def mutual_information(rho: ArrayLike, d: int) -> np.ndarray:
    """I(x; y) = -(d/2) log(1 - ρ²) in nats."""
    rho, _ = _check("mutual_information", d, rho)
    return -d / 2 * np.log1p(-(rho**2))


def correlation(information: ArrayLike, d: int) -> np.ndarray:
    """The ρ ≥ 0 at which d coordinates share `information` nats (at least 0): ρ² = 1 - exp(-2 I / d)."""
    _check("correlation", d)
    information = np.asarray(information, dtype=float)
    if not (information >= 0).all():
        worst = information[~(information >= 0)].flat[0]
        raise ValueError(f"'information' needs to be at least 0 in 'correlation' (got {worst})")
    return np.sqrt(-np.expm1(-2 * information / d))


def club(rho: ArrayLike, d: int) -> np.ndarray:
    """CLUB with the true conditional, Eq. (14): d ρ²/(1 - ρ²) nats, never below the mutual information."""
    rho, _ = _check("club", d, rho)
    return d * rho**2 / (1 - rho**2)


def variational_club(rho: ArrayLike, d: int, slope: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """CLUB with a variational q, Eq. (15): d a ρ / s² nats.

    E(y' - a x - b)² - E(y - a x - b)² is 2 a ρ for y' independent of x, whatever the shift b is.
    """
    rho, scale = _check("variational_club", d, rho, scale)
    return d * np.asarray(slope) * rho / scale**2


def limited_club(rho: ArrayLike, d: int, factor: ArrayLike = 1.0) -> np.ndarray:
    """CLUB of x and u = c y with the likeliest q whose variance lies in [1/e, e], as the tanh of the program keeps it.

    The mean of that q is the true one, c ρ x. Its variance is the nearest allowed one to the true c² (1 - ρ²):

        d c² ρ² / min(max(c² (1 - ρ²), 1/e), e)

    I(x; u) does not depend on c. This does, wherever the true variance is outside of the limits.

    Args:
        factor: c, above 0.
    """
    rho, factor = _check("limited_club", d, rho, factor, scale_name="factor")
    scale = np.clip(factor * np.sqrt(1 - rho**2), np.exp(-0.5), np.exp(0.5))
    return variational_club(rho, d, rho, scale / factor)  # q(y|x), in units of y


def kl_joint(rho: ArrayLike, d: int, slope: ArrayLike, scale: ArrayLike, shift: ArrayLike = 0.0) -> np.ndarray:
    """KL(p(x,y) ‖ q(x,y)) of Theorem 2 and Eq. (29), the misfit of q, in nats; q(x,y) = q(y|x) p(x).

    (d/2) [log(s²/(1 - ρ²)) + (1 - ρ² + (ρ - a)² + b²)/s² - 1]; maximum likelihood minimises it.
    """
    rho, scale = _check("kl_joint", d, rho, scale)
    error = 1 - rho**2 + (rho - slope) ** 2 + np.square(shift)
    return d / 2 * (2 * np.log(scale) - np.log1p(-(rho**2)) + error / scale**2 - 1)


def kl_product(rho: ArrayLike, d: int, slope: ArrayLike, scale: ArrayLike, shift: ArrayLike = 0.0) -> np.ndarray:
    """KL(p(x)p(y) ‖ q(x,y)) of Theorem 2 and Eq. (29) in nats: (d/2) [log s² + (1 + a² + b²)/s² - 1].

    It does not depend on ρ, which is taken for the same order of arguments everywhere.
    """
    _, scale = _check("kl_product", d, rho, scale)
    return d / 2 * (2 * np.log(scale) + (1 + np.square(slope) + np.square(shift)) / scale**2 - 1)


def sample(rho: float, size: int, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`size` independent pairs: x and y, each of shape (size, d)."""
    _check("sample", d, rho)
    x, noise = rng.standard_normal((2, size, d))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def log_ratio(x: np.ndarray, y: np.ndarray, rho: float) -> np.ndarray:
    """log p(y_j|x_i) - log p(y_j) for every i and j, shape (N, N), from x and y of shape (N, d).

    It is the critic at which InfoNCE is tightest. Source: van den Oord et al., arXiv 1807.03748, Eq. (3).
    """
    _check("log_ratio", x.shape[1], rho)
    squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)
    return (rho * x @ y.T - rho**2 * squares / 2) / (1 - rho**2) + mutual_information(rho, x.shape[1])


def parabola_information(rho: float, d: int) -> float:
    """I(x; y) in nats where y_k = ρ (x_k² - 1)/√2 + √(1 - ρ²) noise: uncorrelated with x_k, and dependent on it.

    y has mean 0 and variance 1. The entropy of y less that of the noise, both integrals by the trapezoidal rule.
    ρ is a number with ρ² ≤ 0.999, below which the grid resolves the noise.
    """
    _check("parabola_information", d, rho)
    if rho**2 > 0.999:
        raise ValueError(f"'rho' needs a square of at most 0.999 in 'parabola_information' (got {rho})")
    sigma = math.sqrt(1 - rho**2)
    x = np.linspace(-9, 9, 2001)
    curve = rho * (x**2 - 1) / math.sqrt(2)
    y = np.linspace(curve.min() - 9 * sigma, curve.max() + 9 * sigma, 3001)
    density = trapezoid(norm.pdf(y[:, None], curve, sigma) * norm.pdf(x), x, axis=1)
    log_density = np.log(np.maximum(density, 1e-300))
    return float(d * (-trapezoid(density * log_density, y) - norm.entropy(scale=sigma)))
