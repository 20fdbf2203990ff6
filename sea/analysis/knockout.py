"""What a trained model does without its features, and what kind of items a ranking recommends."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from sea.data import SPLITS, Dataset
from sea.evaluate import Ranking, evaluate
from sea.records import Published, Record, build

HEAD = 0.2
"""Share of the items, those with the most train interactions, that are not the long tail."""


class Replaced(NamedTuple):
    """A trained model on other features.

    Attributes:
        ranking: of the split that was asked for.
        kept: the weights that began as a copy of the features and were then trained. They stay as trained, so what
            the model reads from them is not replaced.
    """

    ranking: Ranking
    kept: list[str]


@torch.no_grad()
def at_test_time(record: Record, dataset: Dataset, split: str = "test") -> Replaced:
    """The ranking of a trained model whose inputs alone are replaced, by those of a knocked-out dataset.

    The model is built on `dataset`, and gets the weights that were trained on the run's own data. So all that is frozen
    is replaced: features that are read as they are, and what is computed from them once, the graph of items
    (FREEDOM, SEA). Features that a model copies into its weights and trains are not: LATTICE's, MICRO's, BM3's, MGCN's,
    and FREEDOM's with λ > 0 are `kept`. Of LATTICE, MICRO and MGCN the frozen part of the graph is replaced; of BM3,
    which has no graph of items, nothing is. A model that reads no features ranks as before.

    Args:
        record: a run with weights.
        dataset: the run's own with other features, such as `sea.data.knock_out` makes.
        split: "valid" or "test".

    Raises:
        ValueError: other users, items or interactions than the run's, or other modalities.
        NotPublished, DamagedFile: as in `Record.model`.
    """
    own = record.data()
    same = all(np.array_equal(getattr(own, name), getattr(dataset, name)) for name in SPLITS)
    widths = [{m: values.shape for m, values in one.features.items()} for one in (own, dataset)]
    if not same or widths[0] != widths[1]:
        raise ValueError(
            f"'dataset' needs the interactions and modalities of {record.dataset}, as run {record.key} has them, in "
            f"'at_test_time' (got {dataset.name})"
        )
    ranking = evaluate(*record.model_on(dataset).vectors(), dataset, split)
    before, now = (build(record.settings, one).state_dict() for one in (own, dataset))  # with the same draws
    return Replaced(ranking, [name for name, values in before.items() if not torch.equal(values, now[name])])


def as_record(record: Record, ranking: Ranking, split: str = "test") -> Record:
    """The run with this ranking of a split in place of its own: what a `Study` can compare with the run itself.

    It has the run's key and history, the metrics and the ranking of this split alone, and no weights.
    """
    tensors = {f"{split}/{name}": values for name, values in ranking.tensors().items()}
    made = Published(lambda: tensors, {})
    return replace(record, metrics={split: ranking.mean()}, files={}, folder=None, published=made)


def describe(ranking: Ranking, dataset: Dataset) -> dict[str, float]:
    """What kind of items are recommended, over all lists of the evaluated users (the first 20 of each).

    With r_i how often item i is recommended, n_i its train interactions, N items:

    Returns:
        "coverage": the share of items with r_i > 0.
        "gini": Σ_k (2k - N - 1) r_(k) / (N Σ r), r_(1) ≤ ... ≤ r_(N): 0 if all items are recommended equally often,
            1 - 1/N if it is always the same one.
        "popularity": Σ r_i n_i / Σ r, the mean number of train interactions of what is recommended.
        "tail": the share of recommendations that go to the long tail: all items but the `HEAD` with the most
            train interactions, rounded up, the smaller id among equals.
        "tail in train": the share of train interactions that the long tail has, to compare with.
    """
    counts = np.bincount(dataset.train[:, 1], minlength=dataset.n_items)
    tail = np.argsort(-counts, kind="stable")[int(np.ceil(HEAD * dataset.n_items)) :]
    shown, n = ranking.recommended.astype(np.float64), dataset.n_items
    ranks = np.arange(1, n + 1)
    return {
        "coverage": float((shown > 0).mean()),
        "gini": float(((2 * ranks - n - 1) * np.sort(shown)).sum() / (n * shown.sum())),
        "popularity": float((shown * counts).sum() / shown.sum()),
        "tail": float(shown[tail].sum() / shown.sum()),
        "tail in train": float(counts[tail].sum() / counts.sum()),
    }
