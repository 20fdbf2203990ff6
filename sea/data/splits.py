"""The seeded split of each user's interactions, and the k-core."""

import bisect
from collections.abc import Callable

import numpy as np
import pandas as pd

from sea.data.checks import DataError

Rule = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From the users' numbers of interactions to how many of them are valid, and how many test."""


def tenths(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8:1:1: a tenth (rounded, at least one) is valid and another test; users with fewer than 3 stay in train."""
    tenth = np.where(counts < 3, 0, np.maximum(1, np.round(counts / 10))).astype(np.int64)
    return tenth, tenth


def fifths(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MMRec's rule for the Amazon sets, for n interactions of a user, at least 3.

    n < 10:   1 valid, 1 test
    n ≥ 10:   h = ⌊n/5⌋ held out; ⌊h/2⌋ valid, the rest test
    """
    half = np.where(counts < 10, 1, counts // 5 // 2)
    return half, np.where(counts < 10, 1, counts // 5 - half)


def hold_out(users: np.ndarray, rule: Rule, rng: np.random.Generator) -> np.ndarray:
    """Labels 0 (train), 1 (valid) and 2 (test), shape (n,): each user's interactions are held out at random.

    Args:
        users: the user of each interaction, shape (n,), from 0.
    """
    order = np.lexsort((rng.random(len(users)), users))
    counts = np.bincount(users)
    place = np.arange(len(users)) - np.repeat(counts.cumsum() - counts, counts)  # within its user's, in random order
    valid, test = (np.repeat(number, counts) for number in rule(counts))
    labels = np.empty(len(users), dtype=np.int64)
    labels[order] = np.where(place < valid, 1, np.where(place < valid + test, 2, 0))
    return labels


def k_core(pairs: np.ndarray, k: int) -> np.ndarray:
    """Which pairs are in the k-core, shape (n,): the largest part whose users and items all have k pairs in it."""
    kept = np.ones(len(pairs), dtype=bool)
    while True:
        users, items = pairs[kept].T
        rare = (np.bincount(users)[users] < k) | (np.bincount(items)[items] < k)
        if not rare.any():
            return kept
        kept[kept] = ~rare


def dense_sample(pairs: np.ndarray, n_users: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """The rows of a k-core with at most `n_users` users.

    All pairs are shuffled, and the users line up in the order in which they first turn up, so that active ones tend
    to come early. The first m users stay, with all that they have, and of that the k-core; m is the largest for
    which at most `n_users` users are in it.

    Raises:
        DataError: that k-core is empty; a sparse set has none below some size.
    """
    users = pairs[:, 0]
    queue = pd.unique(rng.permutation(users))
    place = np.empty(users.max() + 1, dtype=np.int64)
    place[queue] = np.arange(len(queue))

    def chosen(m: int) -> np.ndarray:
        rows = np.flatnonzero(place[users] < m)
        return rows[k_core(pairs[rows], k)]

    def count(m: int) -> int:
        return len(np.unique(users[chosen(m)]))

    m = bisect.bisect_right(range(len(queue) + 1), n_users, key=count) - 1  # a larger m has a larger k-core
    rows = chosen(m)
    if not len(rows):
        least = count(min(m + 1, len(queue)))
        rule = f"'n_users' needs to be at least {least} here" if least else "'core' needs to be smaller here"
        raise DataError(f"{rule}, where the smallest {k}-core drawn has {least} users (got {n_users})")
    return rows
