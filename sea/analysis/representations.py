"""The generic and unique parts of trained models, and what two parts have in common."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from sea.analysis import angles, probes
from sea.models import MICRO, SEA, Recommender

Representations = dict[str, dict[str, np.ndarray]]
"""By part, then modality: the items' vectors, shape (n_items, d)."""

PAIRS = {
    "generic, two modalities": ("generic", "generic", False),
    "generic (head), two modalities": ("head", "head", False),
    "unique, two modalities": ("unique", "unique", False),
    "generic and unique, same modality": ("generic", "unique", True),
    "generic and unique, across": ("generic", "unique", False),
    "whole, two modalities": ("whole", "whole", False),
}
"""What is compared with what: two parts, and whether they are of one modality."""

CLOUDS = ["silhouette", "silhouette, centred", "neighbours", "neighbours, centred"]
MEASURES = [*CLOUDS, "angle", "angle, other items", "CKA", "R²"]
"""What is measured of two parts: the first four of their clouds, which is what a picture shows."""


@torch.no_grad()
def extract(model: Recommender) -> Representations:
    """The parts of all items, in evaluation mode, as float64.

    SEA:    "generic" and "unique" are the linear read-outs that the distancing term sees, "head" the unit rows
            that the alignment sees, made by the projection head from the same half as "generic".
    MICRO:  "whole" is H_m, "generic" the fused H = Σ_m a_m H_m, one tensor for all modalities, and "unique" is
            H_m - H. The last two are a reading: MICRO's loss knows H_m and H alone, and subtracts nothing.

    A part that the model's settings leave out is left out.

    Raises:
        ValueError: a model of another kind.
    """
    model.eval()
    if isinstance(model, SEA):
        parts = model.separate()
        found = {name: {m: getattr(r, name) for m, r in parts.items()} for name in ("generic", "unique")}
        found["head"] = {m: F.normalize(head(parts[m].head), dim=1) for m, head in model.separate.heads.items()}
    elif isinstance(model, MICRO):
        whole, _, fused = model.parts()
        unique = {m: h - fused for m, h in whole.items()}
        found = {"generic": dict.fromkeys(whole, fused), "unique": unique, "whole": whole}
    else:
        raise ValueError(f"'model' needs to be SEA or MICRO in 'extract' (got {type(model).__name__})")
    kept = {name: {m: t for m, t in part.items() if t is not None} for name, part in found.items()}
    return {name: {m: t.double().cpu().numpy() for m, t in part.items()} for name, part in kept.items() if part}


def cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of two matrices whose rows are the same items, without its small-sample bias.

        CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)),   K = A Aᵀ, L = B Bᵀ, diagonals set to 0
        HSIC(K, L) = [tr KL + (ΣK)(ΣL) / ((n-1)(n-2)) - 2 ΣKL / (n-2)] / (n (n-3)),  Σ over all entries

    1 if b is a, turned, moved and scaled; about 0 if they have nothing to do with each other, and then it can fall
    below 0. The plain form would be about d/n there. Computed from the features in O(n d²).

    Args:
        a: shape (n, d), n at least 4, not constant.
        b: shape (n, e), not constant.

    Source: Kornblith et al., ICML 2019; the unbiased HSIC is Song et al.'s, JMLR 2012.
    """
    if len(a) != len(b) or len(a) < 4:
        raise ValueError(f"'a' and 'b' need equally many rows, at least 4, in 'cka' (got {len(a)}, {len(b)})")
    a, b = a - a.mean(0), b - b.mean(0)
    return _hsic(a, b) / np.sqrt(_hsic(a, a) * _hsic(b, b))


def _hsic(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased HSIC of centred a and b: K's rows sum to 0, so once its diagonal is 0 they sum to -K_ii."""
    n = len(a)
    squares, others = (a**2).sum(1), (b**2).sum(1)  # the diagonals of K and L
    both = squares @ others
    trace = ((a.T @ b) ** 2).sum() - both
    return (trace + squares.sum() * others.sum() / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


def silhouette(a: np.ndarray, b: np.ndarray) -> float:
    """Mean silhouette (Euclidean) of the rows of a and b, labelled by their cloud.

    Near 1 if the clouds are small and far apart, 0 if they lie in one another, below if one is spread around the
    other. In many dimensions it stays small for clouds that do not touch, as all distances are alike there.
    """
    return float(silhouette_score(np.vstack([a, b]), _labels(a, b)))


def neighbours(a: np.ndarray, b: np.ndarray, k: int = 10) -> float:
    """Share of the k nearest rows (Euclidean) that are of a row's own cloud, the mean over the rows of a and b.

    1 if the clouds do not touch, which is all that a t-SNE map of them can show; 1/2 for equally large clouds that
    are mixed; below if an item's two vectors seek each other.
    """
    return own_share(np.vstack([a, b]), _labels(a, b), k)


def own_share(points: np.ndarray, labels: np.ndarray, k: int = 10) -> float:
    """Share of the k nearest points (Euclidean, without itself) that have a point's own label, its mean.

    Args:
        points: shape (n, d), n more than k.
        labels: shape (n,).
    """
    nearest = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)  # without itself
    return float((labels[nearest] == labels[:, None]).mean())


def _labels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.repeat([0, 1], [len(a), len(b)])


@probes.single_thread
def probe_r2(a: np.ndarray, b: np.ndarray) -> float:
    """Mean held-out R² of a linear probe that reads one part from the other, over both directions and all columns."""
    return float((probes.recovery(a, b).mean() + probes.recovery(b, a).mean()) / 2)


@probes.single_thread
def compare(parts: Representations, items: np.ndarray | None = None) -> pd.DataFrame:
    """Hold every pair of parts in `PAIRS` against each other, averaged over the modalities.

    Args:
        parts: from `extract`. Two parts that are one tensor, as MICRO's generic part of any two modalities, are no
            pair.
        items: which of them, all if None; at least 10.

    Returns:
        A row for each pair that there is, columns `MEASURES`: `silhouette` and `neighbours`, as it is and once each
        cloud's mean is subtracted, so that an offset alone gives nothing; the mean angle in degrees of an item's two
        vectors, and of those of different items; `cka`; `probe_r2`.
    """
    chosen = {name: {m: v if items is None else v[items] for m, v in part.items()} for name, part in parts.items()}
    found = {name: [_measure(a, b) for a, b in _pairs(chosen, *kind)] for name, kind in PAIRS.items()}
    rows = {name: np.mean(values, axis=0) for name, values in found.items() if values}
    return pd.DataFrame.from_dict(rows, orient="index", columns=MEASURES).rename_axis("pair")


@probes.single_thread
def t_sne(
    clouds: dict[tuple[str, str], np.ndarray],
    seed: int = 0,
    perplexity: float = 30,
    init: str = "pca",
    centred: bool = False,
) -> pd.DataFrame:
    """One t-SNE map of several clouds, stacked.

    Args:
        clouds: by (part, modality), shape (n_items, d), all of one width, more than `perplexity` rows together.
        seed, perplexity, init: of scikit-learn's TSNE, which takes 500 steps; all else is its default. From "pca" the
            seed hardly matters, from "random" it does.
        centred: subtract each cloud's mean first.

    Returns:
        A row for each point: "part", "modality", "item" (its row in the cloud), "x", "y".
    """
    stacked = np.vstack([cloud - cloud.mean(0) if centred else cloud for cloud in clouds.values()])
    points = TSNE(perplexity=perplexity, init=init, random_state=seed, max_iter=500).fit_transform(stacked)
    rows = [(part, m, item) for (part, m), cloud in clouds.items() for item in range(len(cloud))]
    return pd.DataFrame(rows, columns=["part", "modality", "item"]).assign(x=points[:, 0], y=points[:, 1])


def _pairs(parts: Representations, first: str, second: str, same: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    a, b = parts.get(first, {}), parts.get(second, {})
    for i, j in combinations(a, 2) if first == second else ((i, j) for i in a for j in b if (i == j) == same):
        if not np.array_equal(a[i], b[j]):
            yield a[i], b[j]


def _measure(a: np.ndarray, b: np.ndarray) -> list[float]:
    same = np.degrees(angles.between(a, b)).mean()
    other = np.degrees(angles.between(a, np.roll(b, len(b) // 2, axis=0))).mean()
    centred = a - a.mean(0), b - b.mean(0)
    apart = [measure(*clouds) for measure in (silhouette, neighbours) for clouds in ((a, b), centred)]
    return [*apart, same, other, cka(a, b), probe_r2(a, b)]
