"""The bounds of Section 4.2 where something about them is exact: ceilings, Theorem 2 on tables, CLUB with a learned q.

All information is in nats.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.special import rel_entr
from torch import Tensor

from sea import losses
from sea.analysis import gaussians


def range_ceiling(n: int, tau: float) -> float:
    """log N - log(1 + (N-1) e^(-2/τ)): no critic with scores in [-1/τ, 1/τ] gives InfoNCE a larger value.

    A cosine over τ is such a critic. The value is reached if every pair scores 1/τ and all else -1/τ.

    Args:
        n: N, items in the denominator, at least 2.
        tau: temperature, above 0.
    """
    _check("range_ceiling", n, tau)
    return float(np.log(n) - np.log1p((n - 1) * np.exp(-2 / tau)))


def cosine_ceiling(n: int, tau: float) -> float:
    """log N - log(1 + (N-1) e^(-N/((N-1)τ))): the largest value that log N - SoloSim, Eq. (16), can have.

    N unit vectors can't all be opposite to each other. The mean over i ≠ j of a_i·o_j - a_i·o_i is at least -N/(N-1),
    and log(1 + (N-1) e^x) is convex in x. The corners of a regular simplex reach the value, as one part and as the
    other; they need N - 1 dimensions, so in fewer even this is not reached.

    Args:
        n: N, items, at least 2.
        tau: temperature, above 0.
    """
    _check("cosine_ceiling", n, tau)
    return float(np.log(n) - np.log1p((n - 1) * np.exp(-n / ((n - 1) * tau))))


def _check(caller: str, n: int, tau: float) -> None:
    if n < 2:
        raise ValueError(f"'n' needs to be at least 2 in '{caller}' (got {n!r})")
    if not tau > 0:
        raise ValueError(f"'tau' needs to be above 0 in '{caller}' (got {tau!r})")


def theorem_2(joint: np.ndarray, conditional: np.ndarray) -> dict[str, float]:
    """The four terms of Theorem 2 and Eq. (29) for two discrete variables.

    With q(x, y) = q(y|x) p(x), I_vCLUB - I = KL(p(x)p(y) ‖ q(x,y)) - KL(p(x,y) ‖ q(x,y)).

    Args:
        joint: p(x, y), shape (k, m), above 0 and of sum 1.
        conditional: q(y|x), shape (k, m), above 0 and every row of sum 1.

    Returns:
        "I", "vCLUB", "KL(p(x)p(y) ‖ q)" and "KL(p(x,y) ‖ q)", in nats.
    """
    for name, table, sums in (("joint", joint, joint.sum()), ("conditional", conditional, conditional.sum(1))):
        if not (table > 0).all() or not np.allclose(sums, 1):
            raise ValueError(f"'{name}' needs entries above 0 that sum to 1 in 'theorem_2' (got sums {sums})")
    x, y = joint.sum(1, keepdims=True), joint.sum(0)
    return {
        "I": float(rel_entr(joint, x * y).sum()),
        "vCLUB": float(((joint - x * y) * np.log(conditional)).sum()),
        "KL(p(x)p(y) ‖ q)": float(rel_entr(x * y, conditional * x).sum()),
        "KL(p(x,y) ‖ q)": float(rel_entr(joint, conditional * x).sum()),
    }


def fit(
    g: Tensor, u: Tensor, hidden: int, steps: int, lr: float = 0.01, *, generator: torch.Generator
) -> losses.ConditionalGaussian:
    """CLUB's q(u|g), fitted by `steps` full-batch Adam steps on the pairs g and u, shape (N, d) each."""
    q = losses.ConditionalGaussian(g.shape[1], hidden, lr=lr, generator=generator)
    q.fit(g[None], u[None], steps)
    return q


def read(q: losses.ConditionalGaussian, g: Tensor, u: Tensor) -> float:
    """vCLUB, Eq. (15), of the pairs g and u, shape (N, d) each, with a fitted q of one head."""
    return float(losses.club(*q(g[None]), u[None]))


def learned_club(
    widths: Sequence[int],
    steps: Sequence[int],
    scales: Sequence[float],
    truths: Sequence[float],
    d: int = 8,
    pairs: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """vCLUB with a q that was learned, on fresh pairs, where the truth is known: x and u = c y, y as in `gaussians`.

    Args:
        widths: hidden units of q.
        steps: Adam steps of .01 on the likelihood, ascending.
        scales: c, above 0.
        truths: I(x; u), which does not depend on c.
        d: coordinates of x and of u.
        pairs: as many to fit q on, and as many fresh ones to read it on.
        seed: of the pairs and of q's first weights.

    Returns:
        Index "width", "steps", "scale" and "I"; column "vCLUB".
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    cases = [(c, truth) for c in scales for truth in truths]
    drawn = [gaussians.sample(float(gaussians.correlation(truth, d)), 2 * pairs, d, rng) for _, truth in cases]
    g = torch.from_numpy(np.stack([x for x, _ in drawn])).float()
    u = torch.from_numpy(np.stack([c * y for (_, y), (c, _) in zip(drawn, cases)])).float()  # (cases, 2 pairs, d)
    rows = []
    for width in widths:
        q = losses.ConditionalGaussian(d, width, heads=len(cases), lr=0.01, generator=generator)
        for before, now in zip((0, *steps), steps):
            q.fit(g[:, :pairs], u[:, :pairs], now - before)
            mu, logvar = q(g[:, pairs:])
            for (c, truth), *case in zip(cases, mu, logvar, u[:, pairs:]):
                rows.append((width, now, c, truth, float(losses.club(*case))))
    return pd.DataFrame(rows, columns=["width", "steps", "scale", "I", "vCLUB"]).set_index(
        ["width", "steps", "scale", "I"]
    )
