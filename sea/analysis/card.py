"""A dataset's card, in frames: sizes, how interactions and features are spread, what the two have in common."""

import hashlib

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from sea import reported
from sea.data.dataset import Dataset
from sea.graphs import nearest, user_by_item

BLOCK = 1024
"""Rows of features in double precision at a time."""


def sizes(dataset: Dataset) -> pd.DataFrame:
    """Table 1's columns: users, items, interactions over the three splits, and the percentage of pairs without one.

    Returns:
        Column "here", and "paper" beside it if the dataset bears the name of one of the paper's.
    """
    count = len(dataset.interactions)
    sparsity = 100 * (1 - count / (dataset.n_users * dataset.n_items))
    values = {"users": dataset.n_users, "items": dataset.n_items, "interactions": count, "sparsity_percent": sparsity}
    table = pd.DataFrame({"here": pd.Series(values, dtype=object)}).rename_axis("quantity")
    printed = reported.table(1).set_index("dataset")
    name = dataset.name.lower()
    if name in printed.index:
        table["paper"] = pd.Series({quantity: printed.loc[name, quantity] for quantity in values}, dtype=object)
    return table


def degrees(dataset: Dataset) -> pd.DataFrame:
    """How many users, and items, have each number of interactions (the three splits together).

    Returns:
        Index "side" ("users", "items") and "degree"; "count", and "at least", the share of them with so many or more.
    """
    found = {}
    for side, column, n in (("users", "userID", dataset.n_users), ("items", "itemID", dataset.n_items)):
        count = np.bincount(np.bincount(dataset.interactions[column], minlength=n))
        at_least = count[::-1].cumsum()[::-1] / n
        table = pd.DataFrame({"count": count, "at least": at_least}).rename_axis("degree")
        found[side] = table[table["count"] > 0]
    return pd.concat(found, names=["side"])


def spread(dataset: Dataset) -> pd.DataFrame:
    """The `degrees` in brief, a row for users and one for items.

    Returns:
        "least", "median", "mean" and "most" interactions; "top tenth", the share of all interactions that the most
        active tenth has (rounded up); "least in train"; and "cold", how many have none in train.
    """
    rows = {}
    for side, column, n in (("users", "userID", dataset.n_users), ("items", "itemID", dataset.n_items)):
        degree = np.sort(np.bincount(dataset.interactions[column], minlength=n))
        train = np.bincount(dataset.train[:, 0 if side == "users" else 1], minlength=n)
        top = degree[-int(np.ceil(n / 10)) :].sum() / degree.sum()
        rows[side] = [
            degree[0],
            np.median(degree),
            degree.mean(),
            degree[-1],
            top,
            train.min(),
            int((train == 0).sum()),
        ]
    columns = ["least", "median", "mean", "most", "top tenth", "least in train", "cold"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("side")


def norms(dataset: Dataset) -> pd.DataFrame:
    """Euclidean length of each item's features, a column for each modality."""
    lengths = {m: np.linalg.norm(x, axis=1) for m, x in dataset.features.items()}
    return pd.DataFrame(lengths).rename_axis("item")


def spectra(dataset: Dataset) -> pd.DataFrame:
    """The principal components of each modality's features, largest first.

    Returns:
        Index "modality" and "component", from 1; "share" of the variance, and "cumulative".
    """
    found = {}
    for m, x in dataset.features.items():
        variances = np.linalg.eigvalsh(_scatter(x))[::-1].clip(0)
        share = variances / variances.sum()
        table = pd.DataFrame({"share": share, "cumulative": share.cumsum()})
        found[m] = table.set_axis(range(1, len(share) + 1)).rename_axis("component")
    return pd.concat(found, names=["modality"])


def _scatter(x: np.ndarray) -> np.ndarray:
    """Σ (x_i - mean)(x_i - mean)ᵀ in double precision, shape (d, d); a block of rows at a time."""
    mean = x.mean(0, dtype=np.float64)
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), BLOCK):
        centred = x[start : start + BLOCK] - mean
        total += centred.T @ centred
    return total


def features(dataset: Dataset, spectrum: pd.DataFrame | None = None) -> pd.DataFrame:
    """Each modality's features in brief, a row for each.

    Args:
        spectrum: from `spectra`, if it is at hand.

    Returns:
        "columns"; "zero rows"; "duplicates", rows that equal an earlier one and are not zero; "norm" and "norm sd";
        "mean cosine" of two different items, far above 0 if all vectors share a direction; "dimensions", the
        participation ratio (Σ λ)² / Σ λ² of the principal variances λ, 1 for a line and d for a ball; and "for 90 %",
        how many components hold nine tenths of the variance.
    """
    spectrum = spectra(dataset) if spectrum is None else spectrum
    length = norms(dataset)
    rows = {}
    for m, x in dataset.features.items():
        share = spectrum.loc[m, "share"]
        enough = int((spectrum.loc[m, "cumulative"] < 0.9).sum()) + 1
        zero = int((length[m] == 0).sum())
        rows[m] = [x.shape[1], zero, _duplicates(x) - max(0, zero - 1), length[m].mean(), length[m].std()]
        rows[m] += [_mean_cosine(x, length[m].to_numpy()), 1 / (share**2).sum(), enough]
    columns = ["columns", "zero rows", "duplicates", "norm", "norm sd", "mean cosine", "dimensions", "for 90 %"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("modality")


def _duplicates(x: np.ndarray) -> int:
    return int(pd.Series([hashlib.sha256(row).digest() for row in x]).duplicated().sum())


def _mean_cosine(x: np.ndarray, lengths: np.ndarray) -> float:
    """Over all pairs of different rows that are not zero, by the length of their unit vectors' sum."""
    kept = lengths > 0
    total, n = (x[kept] / lengths[kept, None]).sum(0, dtype=np.float64), kept.sum()
    return float((total @ total - n) / (n * (n - 1)))


def neighbours(dataset: Dataset, k: int = 10, permutations: int = 10, seed: int = 0) -> pd.DataFrame:
    """Do items that look alike have users in common? The share of kNN edges whose two items share a train user.

    By chance many would: popular items share users with most others. So the same graph is read again with the
    features handed out to the items at random.

    Args:
        k: neighbours of each item by cosine, itself left out; all others if there are fewer.
        permutations: how many random hand-outs.
        seed: of the permutations.

    Returns:
        A row for each modality: "edges", "share" of them that is co-interacted, the mean "permuted" share, its
        standard deviation over the permutations, "permuted sd", and "times", how many times the permuted share it is.
    """
    buyers = user_by_item(dataset.train, dataset.n_users, dataset.n_items, "sum").T.tocsr()
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(dataset.n_items) for _ in range(permutations)]
    rows = {}
    for m, x in dataset.features.items():
        found = nearest(torch.tensor(x), min(k + 1, dataset.n_items))[:, 1:].numpy()
        items, place = np.nonzero(found >= 0)  # a row of zeros has no neighbours
        edges = items, found[items, place]
        share = _co_interacted(buyers, *edges)
        permuted = [_co_interacted(buyers, *(order[end] for end in edges)) for order in orders]
        mean = np.mean(permuted)
        rows[m] = [len(items), share, mean, np.std(permuted, ddof=1), share / mean]
    columns = ["edges", "share", "permuted", "permuted sd", "times"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("modality")


def _co_interacted(buyers: sp.csr_array, first: np.ndarray, second: np.ndarray) -> float:
    """The share of the pairs of items that have a user in common; BLOCK² pairs at a time."""
    blocks = [slice(start, start + BLOCK**2) for start in range(0, len(first), BLOCK**2)]
    return sum((buyers[first[b]].multiply(buyers[second[b]]).sum(1) > 0).sum() for b in blocks) / len(first)
