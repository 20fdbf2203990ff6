"""What a trained model does without its features, and what kind of items a ranking recommends."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sea.data import SPLITS, Dataset, load
from sea.evaluate import Ranking, evaluate
from sea.records import Published, Record, Settings, build, measure, source

HEAD = 0.2
"""Share of the items, those with the most train interactions, that are not the long tail."""


def at_test_time(record: Record, replaced: str) -> Record:
    """A run whose model's inputs alone are replaced: the same key and history, the test ranking of `ranking_on`.

    It is what a `Study` can compare with the run itself. Its ranking is kept as a measure of the run, so a published
    run has it without weights. It has no ranking of the validation users.

    Args:
        record: a run with weights, or a published one of which this was kept.
        replaced: what follows the "!" in a source of `sea.data.load`, such as "image,text=noise".

    Raises:
        DataError: as in `sea.data.load`.
        NotPublished, DamagedFile: as in `sea.records.measure`.
    """
    kept = measure(record, f"test ranking on {replaced}", lambda r: _kept(ranking_on(r, _load(r.settings, replaced))))
    tensors = record.ranking().tensors() | {name: torch.tensor(v, dtype=torch.int32) for name, v in kept.items()}
    metrics = {"test": Ranking.from_tensors(tensors).mean()}
    made = Published(lambda: {f"test/{name}": values for name, values in tensors.items()}, {})
    return replace(record, metrics=metrics, files={}, folder=None, published=made)


def _kept(ranking: Ranking) -> dict[str, Tensor]:
    """What replaced features change in a ranking: its users and their targets stay."""
    tensors = ranking.tensors()
    return {name: tensors[name] for name in ("hits", "recommended")}


def _load(settings: Settings, replaced: str) -> Dataset:
    """The run's dataset with features replaced."""
    return load(f"{settings.dataset}!{replaced}", settings.seed)


@torch.no_grad()
def ranking_on(record: Record, dataset: Dataset) -> Ranking:
    """How a trained model ranks the test items when it reads another dataset's features.

    The model is built on `dataset`, and gets the weights that were trained on the run's own data. So all that is frozen
    is replaced: features that are read as they are, and what is computed from them once, the graph of items
    (FREEDOM, SEA). Features that a model copies into its weights and trains are not (`trained_copies`): LATTICE's,
    MICRO's, BM3's, MGCN's, and FREEDOM's with λ > 0. Of LATTICE, MICRO and MGCN the frozen part of the graph is
    replaced; of BM3, which has no graph of items, nothing is. A model that reads no features ranks as before.

    Args:
        record: a run with weights.
        dataset: the run's own with other features, such as `sea.data.knock_out` makes.

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
            f"'ranking_on' (got {dataset.name})"
        )
    return evaluate(*record.model_on(dataset).vectors(), dataset, "test")


def trained_copies(settings: Settings, replaced: str) -> list[str]:
    """The weights of a model that begin as a copy of its features: at test time they stay as they were trained.

    Args:
        settings: of a run, complete.
        replaced: as in `at_test_time`.
    """
    own = load(*source(settings))
    before, now = (build(settings, one).state_dict() for one in (own, _load(settings, replaced)))  # the same draws
    return [name for name, values in before.items() if not torch.equal(values, now[name])]


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
