"""Probes: what can be read from a part of a split, what the part is made of; the subtraction split."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

KERNELS = ("linear", "rbf")
PENALTIES = 10.0 ** np.arange(-6, 4)
"""What a probe's ridge penalty is chosen from, in units of its kernel matrix's mean eigenvalue."""

single_thread = threadpool_limits.wrap(limits=1)
"""For small products, where more threads mostly wait for one another: on a busy machine, 20 times as long."""


def subtract(parts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fuse the modalities' vectors, and subtract the fusion from each.

        C_i = Σ_m a_{m,i} Z_{m,i},   U_{m,i} = Z_{m,i} - C_i

    This is the fusion of MICRO and of MGCN (there before the gates). If Σ_m a_m = 1 for every item, then
    Σ_m a_m U_m = 0: M parts span M - 1 dimensions at most.

    Args:
        parts: Z, shape (M, n_items, d).
        weights: a, shape (M, n_items).

    Returns:
        C, shape (n_items, d), and U, shape (M, n_items, d).
    """
    if weights.shape != parts.shape[:2]:
        raise ValueError(f"'weights' needs shape {parts.shape[:2]} in 'subtract' (got {weights.shape})")
    fused = np.einsum("mn,mnd->nd", weights, parts)
    return fused, parts - fused


@single_thread
def recovery(part: np.ndarray, target: np.ndarray, kernel: str = "linear", folds: int = 5, seed: int = 0) -> np.ndarray:
    """Held-out R² of each column of `target`, predicted from `part` by ridge regression.

        R²_k = 1 - Σ_i (y_ik - ŷ_ik)² / Σ_i (y_ik - ȳ_k)²       ŷ_i, ȳ from the other folds

    Columns of `part` are standardised on the other folds. The ridge penalty is chosen there too, for each
    column of `target` alone, by the exact leave-one-out error. So the probe asks whether a factor can be read
    at all, in however small a direction; `share` weighs directions by their size.

    Args:
        part: shape (n_items, d).
        target: shape (n_items, r).
        kernel: "linear", or "rbf" for the non-linear probe, exp(-|x - x'|² / (16 d)).
        folds: at least 2; drawn from `seed`.

    Returns:
        Shape (r,). At most 1; about 0 if nothing is read; below 0 if the guess is worse than the mean.

    Raises:
        ValueError: an unknown kernel, a wrong number of folds or of rows.
    """
    if kernel not in KERNELS:
        raise ValueError(f"'kernel' needs to be one of {', '.join(KERNELS)} in 'recovery' (got {kernel!r})")
    if len(part) != len(target):
        raise ValueError(f"'part' and 'target' need equally many rows in 'recovery' (got {len(part)}, {len(target)})")
    if not 2 <= folds <= len(part) // 2:
        raise ValueError(f"'folds' needs to be 2 to {len(part) // 2} in 'recovery' (got {folds!r})")
    fold = np.random.default_rng(seed).permutation(np.arange(len(part)) % folds)
    error, total = np.zeros((2, target.shape[1]))
    for k in range(folds):
        held, rest = fold == k, fold != k
        guess = _ridge(part[rest], target[rest], part[held], kernel)
        error += ((target[held] - guess) ** 2).sum(0)
        total += ((target[held] - target[rest].mean(0)) ** 2).sum(0)
    return 1 - error / total


def _ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray, kernel: str) -> np.ndarray:
    """Fit on (x, y), guess at `new`; everything centred, so that the intercept is free of penalty."""
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 0, scale, 1)
    x, new = (x - mean) / scale, (new - mean) / scale
    if kernel == "linear":  # the products' eigenvectors, from the fewer columns
        vectors, roots, axes = np.linalg.svd(x, full_matrices=False)
        values, read = roots**2, new @ axes.T * roots  # (k,), (n_new, k)
    else:
        gram, cross = _kernel(x, x), _kernel(new, x)  # (n, n), (n_new, n)
        cross = cross - cross.mean(1, keepdims=True) - gram.mean(0) + gram.mean()
        gram = gram - gram.mean(0) - gram.mean(1, keepdims=True) + gram.mean()
        values, vectors = np.linalg.eigh(gram)
        values, read = values.clip(0), cross @ vectors
    penalties = PENALTIES * values.sum() / len(x)
    rotated = vectors.T @ (y - y.mean(0))
    errors = _leave_one_out(values, vectors, rotated, y - y.mean(0), penalties)
    chosen = penalties[np.argmin(errors, axis=0)]  # (r,)
    return y.mean(0) + read @ (rotated / (values[:, None] + chosen))


def _leave_one_out(
    values: np.ndarray, vectors: np.ndarray, rotated: np.ndarray, y: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Mean squared leave-one-out residuals, shape (penalties, r): e_i / (1 - 1/n - H_ii), the 1/n for the intercept."""
    shrink = values[:, None] / (values[:, None] + penalties)  # (k, penalties)
    kept = 1 - (vectors**2) @ shrink - 1 / len(y)  # (n, penalties)
    residuals = (y - vectors @ (one[:, None] * rotated) for one in shrink.T)
    return np.stack([((e / k[:, None]) ** 2).mean(0) for e, k in zip(residuals, kept.T)])


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.exp(-squares.clip(0) / (16 * a.shape[1]))


def share(part: np.ndarray, factor: np.ndarray) -> float:
    """Share of the part's total variance that a linear function of the factor explains.

        share = |P (X - X̄)|² / |X - X̄|²       P the projection onto the centred factor's columns

    A factor of r columns that has nothing to do with the part gets about r / (n_items - 1), not 0. The share
    counts a direction by its size, as a dot product with the part would; `recovery` does not.

    Args:
        part: shape (n_items, d), not constant.
        factor: shape (n_items, r), r below n_items - 1.
    """
    centred = part - part.mean(0)
    basis, _ = np.linalg.qr(factor - factor.mean(0))
    return float(((basis.T @ centred) ** 2).sum() / (centred**2).sum())


def examine(
    parts: Mapping[str, Mapping[str, np.ndarray]],
    factors: Mapping[str, np.ndarray],
    kernels: tuple[str, ...] = KERNELS,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Hold every part of every modality against the true factors.

    Args:
        parts: by modality, then by the part's name, shape (n_items, d).
        factors: as in `Dataset.factors`: "generic", and one for each modality by its name, all of one width.
        kernels, folds, seed: as in `recovery`.

    Returns:
        One row for each modality, part and factor, which is "generic", "own unique" or "other's unique" (the
        other modalities' factors, the mean over them). Columns: for each kernel the mean of `recovery` over
        the factor's columns, and "share".
    """
    rows = []
    names = list(factors)
    truth = np.hstack([factors[name] for name in names])
    for m, by_part in parts.items():
        kinds = ["generic" if name == "generic" else "own unique" if name == m else "other's unique" for name in names]
        for part, values in by_part.items():
            found = {k: recovery(values, truth, k, folds, seed).reshape(len(names), -1).mean(1) for k in kernels}
            found["share"] = [share(values, factors[name]) for name in names]
            rows.append(pd.DataFrame({"modality": m, "part": part, "factor": kinds, **found}))
    keys = ["modality", "part", "factor"]
    return pd.concat(rows).groupby(keys, sort=False).mean().reset_index()


def composition(parts: Mapping[str, Mapping[str, np.ndarray]], factors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What the generic and the unique part are made of, and how far they are separated, as one flat row.

    The separation of a modality, with s the `share` of a part's variance that a factor explains, is

        S = ½ [s(generic in generic) - s(generic in unique) + s(unique in unique) - s(unique in generic)]

    From -1, parts that are swapped, through 0, parts of one make, to 1, perfect ones. Chance level of a share,
    r / (n_items - 1), drops out of it.

    Args:
        parts: "generic" and "unique", then by modality, shape (n_items, d): what `representations.extract` returns.
        factors: as in `Dataset.factors`: "generic", and one for each modality by its name, all of one width.

    Returns:
        "separation", the mean over the modalities; for each modality "m: separation" and "m: FACTOR in PART part",
        the shares of "generic", "own unique" and "other's unique" (the mean over the other modalities).
    """
    by_modality = {m: {part: parts[part][m] for part in ("generic", "unique")} for m in parts["generic"]}
    table = examine(by_modality, factors, kernels=()).set_index(["modality", "factor", "part"])["share"]
    found = {f"{m}: {factor} in {part} part": float(value) for (m, factor, part), value in table.items()}
    for m in by_modality:
        own = table[m, "generic", "generic"] - table[m, "generic", "unique"]
        apart = table[m, "own unique", "unique"] - table[m, "own unique", "generic"]
        found[f"{m}: separation"] = float(own + apart) / 2
    separation = float(np.mean([found[f"{m}: separation"] for m in by_modality]))
    return {"separation": separation, **found}
