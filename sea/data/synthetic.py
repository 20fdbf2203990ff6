"""The planted world: a synthetic dataset whose truth is known."""

import numpy as np
import pandas as pd

from sea.data.checks import COLUMNS
from sea.data.dataset import Dataset, assemble

FIRST_WORLD = 999
"""The seed of the world that is meant where none is named: that of a study's first run."""


def planted(
    n_users: int = 500,
    n_items: int = 400,
    *,
    n_factors: int = 8,
    widths: dict[str, int] | None = None,
    noise: float = 0.1,
    skew: float = 0.5,
    mean_interactions: float = 20.0,
    seed: int = 0,
) -> Dataset:
    """A synthetic world whose truth is known: what the modalities share, and what each has to itself.

    For item i, modality m and user u, all draws independent and with r = n_factors,

        g_i ~ N(0, I_r)                        generic factor, shared by all modalities
        q_{m,i} ~ N(0, I_r)                    unique factor of modality m
        h_{m,i} = tanh(A_m [g_i ; q_{m,i}])    A_m (2r, 2r) with N(0, 1/(2r)) entries
        x_{m,i} = B_m h_{m,i} + noise · ε      B_m (widths[m], 2r) with N(0, 1/(2r)) entries, ε ~ N(0, I)
        p_u ~ N(0, I)                          taste, on [g ; q_m for all m], c = (1 + M) r columns
        s_ui = 2 ⟨p_u, [g_i ; q_i]⟩ / √c - skew · log(rank_i)      rank_i a random permutation of 1..n_items
        n_u = 10 + Poisson(mean_interactions - 10), at most n_items / 2

    and u's interactions are n_u items drawn without replacement from softmax(s_u) (Gumbel top-n_u). In random
    order, a tenth of them each (rounded) is test and valid, the rest train: 8:1:1. Every factor, generic or
    unique, weighs the same in the taste, so no split of the features is favoured.

    Args:
        widths: columns of each modality's features; {"image": 64, "text": 32} unless given.
        noise: standard deviation of the features' noise.
        skew: exponent of the Zipf law of popularity.
        mean_interactions: mean of n_u, at least 10.
        seed: of the world. A run's seed is another matter.

    Returns:
        A dataset named "planted" whose `factors` are {"generic": g, m: q_m, ...}, each (n_items, r).
    """
    widths = widths or {"image": 64, "text": 32}
    if mean_interactions < 10:
        raise ValueError(f"'mean_interactions' needs to be at least 10 in 'planted' (got {mean_interactions!r})")
    if n_items < 20:
        raise ValueError(f"'n_items' needs to be at least 20 in 'planted' (got {n_items!r})")
    rng = np.random.default_rng(seed)
    r = n_factors
    factors = {name: rng.standard_normal((n_items, r)) for name in ("generic", *sorted(widths))}
    features = {}
    for m in sorted(widths):
        mixing = rng.standard_normal((2 * r, 2 * r)) / np.sqrt(2 * r)
        lifting = rng.standard_normal((2 * r, widths[m])) / np.sqrt(2 * r)
        hidden = np.tanh(np.hstack([factors["generic"], factors[m]]) @ mixing)
        values = hidden @ lifting + noise * rng.standard_normal((n_items, widths[m]))
        features[m] = values.astype(np.float32)
    taste = np.hstack(list(factors.values()))  # (n_items, c)
    popularity = -skew * np.log(rng.permutation(n_items) + 1)
    counts = np.minimum(10 + rng.poisson(mean_interactions - 10, n_users), n_items // 2)
    frames = []
    for user, count in enumerate(counts):
        score = 2 * taste @ rng.standard_normal(taste.shape[1]) / np.sqrt(taste.shape[1]) + popularity
        chosen = np.argsort(-(score + rng.gumbel(size=n_items)))[:count]
        tenth = max(1, round(count / 10))
        labels = np.zeros(count, dtype=np.int64)
        labels[:tenth], labels[tenth : 2 * tenth] = 2, 1
        frames.append(np.stack([np.full(count, user), chosen, labels[rng.permutation(count)]], axis=1))
    frame = pd.DataFrame(np.concatenate(frames), columns=COLUMNS)
    return assemble("planted", frame, features, "planted row {}".format, "planted", n_users, n_items, factors=factors)
