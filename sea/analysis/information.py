"""What two parts of the same items tell about each other, in nats, and what a recommender loses without a part.

No estimate of mutual information from a few hundred items is right by itself. So there are several, one from below,
one from above and two between, on the parts' leading principal components; and `null` and `calibrate` say what the
same procedure finds where the truth is known.
"""

import copy
import math
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from scipy.special import digamma
from torch import Tensor, nn
from torch.func import functional_call

from sea import losses
from sea.analysis.probes import single_thread
from sea.data import Dataset
from sea.evaluate import Ranking, evaluate
from sea.layers import linear
from sea.models import Recommender
from sea.separate import SeparateLearning

COMPONENTS = 4
"""Principal components of a part: what a few hundred items are enough for. Compare only at one number of them."""
ITEMS = 2000
"""At most so many items are used, drawn at random: `information` takes about a second and a half of them."""
LEVELS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The true information, in nats, at which `calibrate` tries the estimates."""
HIDDEN = 16
"""Hidden units of q."""
STEPS, CHECKED, PATIENCE, LR = 1000, 5, 10, 0.01
"""Adam steps of a fit at most, steps between two looks at the items held back, looks without a gain, step size."""
HALVES = {
    "generic": lambda columns: slice(0, columns // 2),
    "unique": lambda columns: slice(columns // 2, columns),
    "both": lambda columns: slice(0, columns),
}
"""By part: its columns among those of a modality's transformed features."""


@single_thread
def information(
    a: np.ndarray, b: np.ndarray, components: int = COMPONENTS, items: int = ITEMS, seed: int = 0
) -> dict[str, float]:
    """Estimates of the mutual information I(a; b) of two parts of the same items, in nats.

    First each part is reduced to its leading principal components, each scaled to variance 1. What is estimated is
    the information of these. It is no more than that of the whole parts, which can be far more: directions too small
    to matter for a dot product count as much as large ones. It does not depend on the parts' scale, place or turn.

    Then a Gaussian q(b|a), its mean and variances a linear map plus a small net, is fitted by likelihood on half of
    the items, of which a quarter is held back to stop it. All but "knn" and "gaussian" are read on the other half,
    of N items. With s_ij = log q(b_j|a_i), and r_ij = s_ij - log p(b_j), where p is N(0, I):

        lower      log N + mean_i log [exp r_ii / Σ_j exp r_ij], q first fitted further to raise it. InfoNCE: a lower
                   bound on average, whatever r is, and never above "ceiling".
        ceiling    log N.
        knn        `nearest_neighbours`. Too small where the truth is large.
        gaussian   `gaussian`. What linear dependence amounts to if both are Gaussian.
        upper      mean_i s_ii - mean_ij s_ij. CLUB: an upper bound on average if q is the true conditional, and loose
                   even then (in one dimension ρ²/(1 - ρ²) for -½ log(1 - ρ²)). If q is poor, it can be below the
                   truth, and even below 0; see `gain`.
        gain       mean_i s_ii - mean_i log p(b_i), p a Gaussian with the fitting half's means and variances. What q
                   learned: 0 if nothing. A q whose gain is far below "gaussian" or "knn" is poor, and its "upper" no
                   bound.

    Args:
        a, b: shape (n, d) and (n, e), the same items in rows, at least 40; CLUB goes from a to b.
        components: of each part; fewer where a part has fewer dimensions.
        items: at most so many, drawn at random.
        seed: of that draw, of the halves and of q's initial weights.

    Raises:
        ValueError: unequal or too few rows, a part that is constant, no components.

    Source: van den Oord et al., arXiv 1807.03748 (InfoNCE); Cheng et al., ICML 2020 (CLUB).
    """
    _check("information", a, b, components)
    rng = np.random.default_rng(seed)
    a, b = _chosen(a, b, components, items, rng)
    return _estimates(a, b, rng)


@single_thread
def null(
    a: np.ndarray, b: np.ndarray, draws: int = 5, components: int = COMPONENTS, items: int = ITEMS, seed: int = 0
) -> pd.DataFrame:
    """`information` where there is none: b's rows are permuted, anew in every draw.

    Returns:
        A row for each draw, columns as in `information`. Their spread is what an estimate is off by chance alone.
    """
    _check("null", a, b, components)
    rng = np.random.default_rng(seed)
    a, b = _chosen(a, b, components, items, rng)
    return pd.DataFrame([_estimates(a, rng.permutation(b), rng) for _ in range(draws)]).rename_axis("draw")


@single_thread
def calibrate(
    a: np.ndarray,
    b: np.ndarray,
    levels: Iterable[float] = LEVELS,
    draws: int = 1,
    components: int = COMPONENTS,
    items: int = ITEMS,
    seed: int = 0,
) -> pd.DataFrame:
    """`information` of Gaussians that are like the parts, where the truth is known.

    With ρ_k the canonical correlations of the reduced parts, I = -½ Σ_k log(1 - ρ_k²) is the information of
    Gaussians with the same covariance. A power c of every 1 - ρ_k² gives c I, so any level can be had with the
    parts' own profile. As many items are sampled as are used of the parts. Here "gaussian" is right by construction;
    that says nothing of parts that are not Gaussian.

    Args:
        a, b, components, items, seed: as in `information`.
        levels: true information in nats, at least 0.
        draws: samples for each level.

    Returns:
        Index "truth" and "draw", columns as in `information`.
    """
    _check("calibrate", a, b, components)
    rng = np.random.default_rng(seed)
    a, b = _chosen(a, b, components, items, rng)
    _, rho, _ = _canonical(a, b)
    rows = {}
    for level in levels:
        power = level / _of_correlations(rho)
        at_level = np.sqrt(-np.expm1(power * np.log1p(-(rho**2))))
        for draw in range(draws):
            x, y = rng.standard_normal((len(a), a.shape[1])), rng.standard_normal((len(b), b.shape[1]))
            k = len(rho)
            y[:, :k] = at_level * x[:, :k] + np.sqrt(1 - at_level**2) * y[:, :k]
            rows[level, draw] = _estimates(*_chosen(x, y, components, items, rng), rng)
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["truth", "draw"]))


def gaussian(a: np.ndarray, b: np.ndarray, components: int = COMPONENTS) -> float:
    """I(a; b) in nats if the parts are Gaussian: -½ Σ_k log(1 - ρ_k²) of their canonical correlations, unbiased.

    The bias of the plain form is known for Gaussians, whatever their information is. With p and r columns, it is

        B = ½ [f(p) + f(r) - f(p + r)],   f(k) = Σ_{i<k} ψ((n - 1 - i) / 2)

    about p r / (2 n), and is taken off: E log det S = log det Σ + f(k) + constants that cancel, for a covariance S.

    Args:
        a, b: shape (n, d) and (n, e); n above the components of both together.
        components: principal components of each part, as in `information`, with no limit to the items.

    Source: the moments of a Wishart determinant, Anderson, An Introduction to Multivariate Statistical Analysis, 7.5.
    """
    _check("gaussian", a, b, components)
    return _gaussian(_whitened(a, components), _whitened(b, components))


def decomposition(a: np.ndarray, b: np.ndarray, target: np.ndarray, components: int = COMPONENTS) -> dict[str, float]:
    """What two parts tell about a target t, taken apart, in nats, as if all were Gaussian.

    With C the covariances of whitened principal components, σ_k the singular values of C_at C_tb, and I as in
    `gaussian`, what both parts tell is

        R = max{J, I(a; t) + I(b; t) - I(a, b; t)},   J = -½ Σ_k log(1 - σ_k²)

    where J is the information that a and b would share if they had nothing in common but t. The rest of I(a; t) is
    told by a alone, and likewise for b; what is left of I(a, b; t) is told by the two together. If a and b are tied by
    t alone, R is I(a; b): what a noisy part tells about a common factor beyond that counts as told alone. Measures that
    know only what each part tells by itself count it as common. J is as estimated, with a bias that grows with it:
    about 0.1 to 0.3 nats at 400 items and 16 components.

    Args:
        a, b, target: shape (n, ·) each; n above the columns that are kept of all three together.
        components: principal components of each part, as in `gaussian`. The target is taken whole.

    Returns:
        "both", "a alone", "b alone" and "together".

    Source: the unique information by dependency constraints of James et al., J. Phys. A 52, 2019, in closed form for
    Gaussians by Kay and Ince, Entropy 20(4), 2018, of which this is a shorter form: its smallest of three differences
    is I(a; t) - R.
    """
    _check("decomposition", a, b, components)
    x, y = _whitened(a, components), _whitened(b, components)
    t, both = _whitened(target, target.shape[1]), np.hstack([x, y])
    in_a, in_b, in_both = _gaussian(x, t), _gaussian(y, t), _gaussian(_whitened(both, both.shape[1]), t)
    met = np.linalg.svd((x.T @ t / len(t)) @ (t.T @ y / len(t)), compute_uv=False).clip(0, 1 - 1e-9)  # as `_canonical`
    redundant = max(_of_correlations(met), in_a + in_b - in_both)
    alone = {"a alone": in_a - redundant, "b alone": in_b - redundant}
    return {"both": redundant, **alone, "together": in_both - in_a - in_b + redundant}


def nearest_neighbours(a: np.ndarray, b: np.ndarray, k: int = 3) -> float:
    """Kraskov's estimate of I(a; b) in nats, his first, from columns as they are.

        I = ψ(k) + ψ(n) - mean_i [ψ(n_a(i) + 1) + ψ(n_b(i) + 1)]

    The distance of two items is the largest of any coordinate's; n_a(i) counts the items nearer to i in a than its
    k-th neighbour is in (a, b) together. Memory is O(n²).

    Args:
        a, b: shape (n, d) and (n, e), without repeated rows.
        k: neighbours, below n.

    Source: Kraskov et al., Physical Review E 69, 2004, Eq. (8).
    """
    in_a, in_b = cdist(a, a, "chebyshev"), cdist(b, b, "chebyshev")
    together = np.maximum(in_a, in_b)
    reach = np.partition(together, k, axis=1)[:, k, None]  # place 0 is the item itself
    counts = [(own < reach).sum(1) for own in (in_a, in_b)]  # with the item itself, hence no + 1
    return float(digamma(k) + digamma(len(a)) - sum(digamma(count).mean() for count in counts))


@torch.no_grad()
def without_part(model: Recommender, dataset: Dataset, part: str, split: str = "test") -> Ranking:
    """How a trained model ranks when one part of every modality is the same for all items.

    A modality's transformed features are T = X W + w. The part's columns of T are replaced by their mean over the
    items before the recommender's read-out E of T. All else stays, a frozen graph of the raw features too. What is
    lost of Recall@20 is what the recommender took from the part:

        record.ranking().recall(20) - without_part(record.model(dataset), dataset, "unique").recall(20)      by user

    Args:
        model: with SEA's plug-in and a read-out for its recommender; put in evaluation mode, else left as it is.
        dataset: the one that it was trained on.
        part: "generic", "unique", or "both", which leaves nothing of the features but the graph.
        split: as in `evaluate`.

    Raises:
        ValueError: another part, or a model without such a plug-in.
    """
    if part not in HALVES:
        raise ValueError(f"'part' needs to be one of {', '.join(HALVES)} in 'without_part' (got {part!r})")
    plug_in = getattr(model, "separate", None)
    if not isinstance(plug_in, SeparateLearning) or any("encoder" not in p for p in plug_in.projections.values()):
        raise ValueError(f"'model' needs SEA's plug-in and its encoder in 'without_part' (got {type(model).__name__})")
    replaced = {}
    for m, projections in plug_in.projections.items():
        features, transform = getattr(plug_in, f"features_{m}"), plug_in.transform[m]
        weight, columns = projections["encoder"].weight.clone(), HALVES[part](len(transform.bias))
        mean = transform(features.to(weight.dtype).mean(0))  # of T's columns, as T is linear in X
        name = f"model.separate.projections.{m}.encoder"
        replaced[f"{name}.bias"] = projections["encoder"].bias + weight[:, columns] @ mean[columns]
        weight[:, columns] = 0
        replaced[f"{name}.weight"] = weight
    return evaluate(*functional_call(_Vectors(model.eval()), replaced, ()), dataset, split)


class _Vectors(nn.Module):
    """A model whose call gives its vectors."""

    def __init__(self, model: Recommender):
        super().__init__()
        self.model = model

    def forward(self) -> tuple[Tensor, Tensor]:
        """The model's final user and item vectors."""
        return self.model.vectors()


def _check(caller: str, a: np.ndarray, b: np.ndarray, components: int) -> None:
    if len(a) != len(b) or len(a) < 40:
        raise ValueError(f"'a' and 'b' need equally many rows, at least 40, in '{caller}' (got {len(a)}, {len(b)})")
    if components < 1:
        raise ValueError(f"'components' needs to be at least 1 in '{caller}' (got {components!r})")
    for name, part in (("a", a), ("b", b)):
        if not np.ptp(part, axis=0).any():
            raise ValueError(f"'{name}' needs to differ between items in '{caller}' (got a constant)")


def _chosen(
    a: np.ndarray, b: np.ndarray, components: int, items: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """At most `items` rows, reduced."""
    rows = rng.permutation(len(a))[:items]
    return _whitened(a[rows], components), _whitened(b[rows], components)


def _whitened(x: np.ndarray, components: int) -> np.ndarray:
    """The leading principal components, each of mean 0 and variance 1, uncorrelated; those that are not there, left."""
    vectors, roots, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = min(components, int((roots > 1e-6 * roots[0]).sum()))
    return vectors[:, :kept] * math.sqrt(len(x))


def _canonical(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes (p, p), canonical correlations, largest first, and axes (r, r), of white a (n, p) and b (n, r).

    A correlation of 1, of parts that determine each other, is taken for a little less, so that all stays finite.
    """
    left, rho, right = np.linalg.svd(a.T @ b / len(a))
    return left, rho.clip(0, 1 - 1e-9), right.T


def _of_correlations(rho: np.ndarray) -> float:
    return float(-np.log1p(-(rho**2)).sum() / 2)


def _gaussian(a: np.ndarray, b: np.ndarray) -> float:
    def f(k: int) -> float:
        return digamma((len(a) - 1 - np.arange(k)) / 2).sum()

    p, r = a.shape[1], b.shape[1]
    return _of_correlations(_canonical(a, b)[1]) - float(f(p) + f(r) - f(p + r)) / 2


def _estimates(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """All estimates, from white a and b."""
    rows = rng.permutation(len(a))
    fitted, judged = np.split(rows, [len(a) // 2])
    learned, held_back = np.split(fitted, [3 * len(fitted) // 4])
    left, _, right = _canonical(a[learned], b[learned])  # where q's variances, one for each coordinate, lose least
    x, y = torch.from_numpy(a @ left), torch.from_numpy(b @ right)
    q = _Conditional(x.shape[1], y.shape[1], torch.Generator().manual_seed(int(rng.integers(2**31))))
    pairs = [(x[r], y[r]) for r in (learned, held_back)]
    _fit(q, _misfit, *pairs)
    with torch.no_grad():
        at = y[fitted]
        mu, logvar = q(x[judged])
        marginal = _log_density(y[judged], at.mean(0), at.var(0).log()).mean()
        found = {
            "knn": nearest_neighbours(a, b),
            "gaussian": _gaussian(a, b),
            "upper": float(losses.club(mu, logvar, y[judged])),
            "gain": float(_log_density(y[judged], mu, logvar).mean() - marginal),
        }
    _fit(q, _contrast, *pairs)
    ceiling = math.log(len(judged))
    with torch.no_grad():
        return {"lower": ceiling - float(_contrast(q, x[judged], y[judged])), "ceiling": ceiling, **found}


class _Conditional(nn.Module):
    """q(y|x) = N(μ(x), diag exp logvar(x)): a linear μ, a constant logvar, and to both a net. At first N(0, I).

    Unlike the q that SEA trains with, its variance has no floor, and its mean is linear if that is enough.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator):
        super().__init__()
        self.outputs = outputs
        self.straight = nn.Parameter(torch.zeros(2 * outputs, inputs, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(2 * outputs, dtype=torch.float64))
        self.hidden = linear(inputs, HIDDEN, generator).double()
        self.bent = nn.Parameter(torch.zeros(2 * outputs, HIDDEN, dtype=torch.float64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and logvar, (n, outputs) each."""
        both = F.linear(x, self.straight, self.shift) + F.linear(self.hidden(x).tanh(), self.bent)
        return both.split(self.outputs, dim=1)


def _log_density(y: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log N(y; μ, diag exp logvar) up to the constant, shape (n,)."""
    return -((y - mu).square() * (-logvar).exp() + logvar).sum(-1) / 2


def _misfit(q: _Conditional, x: Tensor, y: Tensor) -> Tensor:
    return -_log_density(y, *q(x)).mean()


def _contrast(q: _Conditional, x: Tensor, y: Tensor) -> Tensor:
    """-mean_i log [exp r_ii / Σ_j exp r_ij], r_ij = log q(y_j|x_i) - log N(y_j; 0, I), less what all j share."""
    mu, logvar = q(x)
    weight = (-logvar).exp()
    scores = (mu * weight) @ y.T + (1 - weight) @ (y**2).T / 2  # (n, n)
    return F.cross_entropy(scores, torch.arange(len(y)))


def _fit(
    q: _Conditional,
    loss: Callable[[_Conditional, Tensor, Tensor], Tensor],
    learned: tuple[Tensor, Tensor],
    held_back: tuple[Tensor, Tensor],
) -> None:
    """Full-batch Adam steps on `learned` until `held_back` gains no more; q ends where it gained most."""
    optimizer = torch.optim.Adam(q.parameters(), lr=LR)
    best, kept, since = math.inf, copy.deepcopy(q.state_dict()), 0
    for step in range(STEPS + 1):
        if step % CHECKED == 0:
            with torch.no_grad():
                value = float(loss(q, *held_back))
            since = 0 if value < best else since + 1
            if value < best:
                best, kept = value, copy.deepcopy(q.state_dict())
            if since == PATIENCE:
                break
        optimizer.zero_grad()
        loss(q, *learned).backward()
        optimizer.step()
    q.load_state_dict(kept)
