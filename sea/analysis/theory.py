"""The paper's theorems, and the questions before its method, as numbers that need no training."""

import numpy as np
import pandas as pd

from sea.analysis import angles, gaussians, probes
from sea.statistics import CONTRADICTED, HOLDS

DIMENSION = 64  # the paper's embeddings
SIZE = 100_000
CLOSE = 0.01  # what counts as agreement: a gap between distribution functions, or a relative error in many dimensions


def claims(seed: int = 0) -> pd.DataFrame:
    """A row for each of Theorem 1, Corollary 1, Questions 1 and 2, Theorem 2: what was computed, and a word.

    Args:
        seed: of the simulations.
    """
    rng = np.random.default_rng(seed)
    rows = {
        "Theorem 1": theorem_1(rng),
        "Corollary 1": corollary_1(),
        "Question 1": question_1(rng),
        "Question 2": question_2(rng),
        "Theorem 2": theorem_2(rng),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["measured", "word"]).rename_axis("claim")


def _word(true: bool) -> str:
    return HOLDS if true else CONTRADICTED


def theorem_1(rng: np.random.Generator) -> tuple[str, str]:
    """Simulated angles against the density's distribution function, with the 95 % bound of their largest gap.

    The true gap is below the simulated one + √(log(2/.05) / 2 N), by Dvoretzky, Kiefer, Wolfowitz and Massart.
    """
    seen = np.sort(angles.sample(DIMENSION, SIZE, rng))
    steps = np.arange(SIZE + 1) / SIZE
    law = angles.cdf(seen, DIMENSION)
    gap = max(np.abs(law - steps[1:]).max(), np.abs(law - steps[:-1]).max())
    at_most = gap + np.sqrt(np.log(2 / 0.05) / (2 * SIZE))
    text = f"{SIZE:,} simulated angles at n = {DIMENSION}: distribution functions differ by {at_most:.2%} at most"
    return text, _word(at_most < CLOSE)


def corollary_1() -> tuple[str, str]:
    """The exact variance against 1/n: the relative error falls like 1/n."""
    errors = {n: 1 / (n * angles.variance(n)) - 1 for n in (8, DIMENSION, 512)}
    text = "1/n is off by " + ", ".join(f"{error:+.1%} at n = {n}" for n, error in errors.items())
    return text, _word(abs(errors[512]) < CLOSE)


def question_1(rng: np.random.Generator) -> tuple[str, str]:
    """The lemma of notebook 3: of two modalities, subtraction of their fusion leaves one direction."""
    parts, weight = rng.standard_normal((2, 1000, DIMENSION)), rng.uniform(0.01, 0.99, 1000)
    _, unique = probes.subtract(parts, np.stack([weight, 1 - weight]))
    cosine = np.cos(angles.between(*unique))
    text = f"for two modalities fused by attention: their uniques have cosine -1, up to {np.abs(cosine + 1).max():.0e}"
    return text, _word(np.abs(cosine + 1).max() < 1e-9)


def question_2(rng: np.random.Generator) -> tuple[str, str]:
    """The penalty cos² on random directions: 1/d of the 1 that it could be. Notebook 2 has trained vectors."""
    penalty = float((np.cos(angles.sample(DIMENSION, SIZE, rng)) ** 2).mean())
    text = f"for random vectors, which trained ones are not: the penalty cos² is {penalty:.4f} of at most 1"
    return f"{text} at width {DIMENSION}", _word(penalty < 2 / DIMENSION)


def theorem_2(rng: np.random.Generator) -> tuple[str, str]:
    """CLUB - I against the theorem's condition on random Gaussian q's; and from where the released kind of q fails it.

    That q's variance is at least 1/e. The best one of that kind has CLUB = ρ²/max(1-ρ², 1/e) for each coordinate.
    """
    rho, a, b = rng.uniform([[-0.95], [-1.5], [-1]], [[0.95], [1.5], [1]], (3, SIZE))
    s = rng.uniform(0.3, 2, SIZE)
    gap = gaussians.variational_club(rho, 1, a, s) - gaussians.mutual_information(rho, 1)
    condition = gaussians.kl_product(rho, 1, a, s, b) - gaussians.kl_joint(rho, 1, a, s, b)
    information = np.linspace(0.02, 4, 400)
    known = gaussians.correlation(information, 1)
    floored = gaussians.variational_club(known, 1, known, np.maximum(np.sqrt(1 - known**2), np.exp(-0.5)))
    fails = information[floored < information].min()
    text = (
        f"bound and condition are one, up to {np.abs(gap - condition).max():.0e} nats; the released kind of q fails it "
        f"from {fails:.1f} nats a coordinate on at variance 1, and earlier at a smaller variance"
    )
    return text, _word(np.abs(gap - condition).max() < 1e-9)
