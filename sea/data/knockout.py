"""Knocking out features: the same dataset, with some modalities that no longer tell anything about their items."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from sea.data.checks import DataError
from sea.data.dataset import Dataset

MARK = "!"
ROWS = 512


def knocked_out(source: str) -> tuple[str, list[str], str]:
    """The parts of SOURCE!MODALITY,MODALITY=HOW: what is read, which modalities are replaced, by what.

    The last two are empty for a source without "!" in its last part. A folder whose own name has one is to be named
    by another path, such as a link.

    Raises:
        DataError: there is a "!", and the rest is something else. The modalities have to be in alphabetical order, so
            that the same data have one name.
    """
    plain, mark, rest = source.rpartition(MARK)
    if not mark or "/" in rest or os.sep in rest:
        return source, [], ""
    names, _, how = rest.rpartition("=")
    modalities = names.split(",")
    if not plain or how not in REPLACED or not all(modalities) or modalities != sorted(set(modalities)):
        raise DataError(
            f"{source}: needs modalities in alphabetical order and one of {', '.join(REPLACED)} after '{MARK}', such "
            f"as 'planted{MARK}image,text=noise'"
        )
    return plain, modalities, how


def is_planted(source: str) -> bool:
    """Whether a source of `sea.data.load` is a planted world, whole or knocked out: then each seed has its own."""
    return source.split(MARK)[0] == "planted"


def knock_out(dataset: Dataset, modalities: Iterable[str], how: str, seed: int) -> Dataset:
    """The dataset with the features of some modalities replaced. Interactions, names and other modalities stay.

    "noise": each item's row is drawn anew from the normal distribution with the modality's own mean and covariance
    over the items: x̄ + Xcᵀ z / √n with Xc (n, d) the centred rows and z ~ N(0, I_n), which needs no covariance matrix.
    The scale and the correlation of the columns stay; what rows say of their items, and what they share with other
    modalities, is gone. Items whose row was all zero get one, too. Values have 11 significant bits, as half precision
    has: another processor's rounding makes no other data.

    "shuffled": every item gets the row of another item. All named modalities go the same way, so an item's rows
    still belong together, as those of one other item: what is cut is the tie to the item, and what modalities have in
    common stays. With one modality alone, the tie to the others is cut as well.

    Args:
        modalities: names of features, at least one.
        how: "noise" or "shuffled".
        seed: of the draws. A modality's noise does not depend on which others are named.

    Returns:
        A dataset whose name ends in !MODALITIES=HOW, in alphabetical order, with another checksum, and whose warning
        says what was done. The planted world's `factors` stay: they are the items', not the features'.

    Raises:
        DataError: a modality that the dataset does not have, or none; another `how`.
    """
    chosen = sorted(set(modalities))
    for m in chosen or [""]:
        if m not in dataset.features:
            raise DataError(
                f"'modalities' needs names among {', '.join(dataset.features)} in 'knock_out' of {dataset.name} "
                f"(got {m!r})"
            )
    if how not in REPLACED:
        raise DataError(f"'how' needs to be one of {', '.join(REPLACED)} in 'knock_out' (got {how!r})")
    replace_rows, told = REPLACED[how]
    changed = {m: replace_rows(dataset.features[m], seed, m) for m in chosen}
    warning = f"{' and '.join(chosen)} features {told}"
    return replace(
        dataset,
        name=f"{dataset.name}{MARK}{','.join(chosen)}={how}",
        features=dataset.features | changed,
        warning="; ".join(filter(None, [dataset.warning, warning])),
    )


def _noise(values: np.ndarray, seed: int, modality: str) -> np.ndarray:
    rng = _generator(seed, f"noise {modality}")
    n, mean = len(values), values.mean(0, dtype=np.float64)
    centred = values - mean  # (n, d), double precision
    found = np.empty_like(values)
    for start in range(0, n, ROWS):  # so that z exists for a block of items at a time
        drawn = rng.standard_normal((min(ROWS, n - start), n))
        part, exponent = np.frexp(mean + drawn @ centred / np.sqrt(n))
        found[start : start + ROWS] = np.ldexp(np.round(part * 2**11) / 2**11, exponent)
    return found


def _shuffled(values: np.ndarray, seed: int, _: str) -> np.ndarray:
    """Along one random cycle through all items, so that none keeps its own row."""
    order = _generator(seed, "shuffled").permutation(len(values))
    found = np.empty_like(values)
    found[order] = values[np.roll(order, 1)]
    return found


def _generator(seed: int, purpose: str) -> np.random.Generator:
    """A stream that is not that of the planted world with the same seed."""
    return np.random.default_rng([seed, *purpose.encode()])


REPLACED: dict[str, tuple[Callable[[np.ndarray, int, str], np.ndarray], str]] = {
    "noise": (_noise, "replaced by noise of the same mean and covariance"),
    "shuffled": (_shuffled, "shuffled over the items"),
}
"""How features are replaced, by name: the function, and what the warning says."""
