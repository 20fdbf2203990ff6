"""How large the terms of SEA's loss are: their values, the share of batches in which they act, and their pull."""

import numpy as np
import pandas as pd
import torch

from sea.data import Dataset
from sea.models import Recommender
from sea.records import NotPublished, Record, measure
from sea.study import Study
from sea.train import NegativeSampler

TERMS = ("align", "distance")


def sizes(s: Study) -> pd.DataFrame:
    """A row for each variant of SEA, means over its runs.

    Columns: the share of the batches, up to the kept epoch, in which the distancing term was not zero; for each of
    `TERMS`, its value at the kept epoch and the norm of its gradient (`pull`), both relative to BPR's. NaN where a
    variant lacks the term, and for gradients of published runs that nobody measured.
    """
    rows = {}
    for name, found in s.records.items():
        kept = [r.history[r.best_epoch] for r in found if r.metrics]
        pulls = [_pull(record) for record in found if record.metrics]
        row = {"distancing active, share of batches": s.active(name)}
        for term in TERMS:
            of_bpr = [abs(one[f"loss/{term}"]) / one["loss/rec"] for one in kept if f"loss/{term}" in one]
            gradients = [one[term] for one in pulls if term in one]
            row[f"{term}, value / BPR's"] = np.mean(of_bpr) if of_bpr else np.nan
            row[f"{term}, gradient / BPR's"] = np.mean(gradients) if gradients else np.nan
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def _pull(record: Record) -> dict[str, float]:
    try:
        return measure(record, "pull", pull)
    except NotPublished:
        return {}


def pull(record: Record) -> dict[str, float]:
    """Norm of each term's gradient on the square transform, the layer that all terms share, relative to BPR's.

    At the kept weights, in training mode, over all train pairs, with one draw of negatives from seed 0.
    """
    world = record.data()
    return pull_of(record.model(world), world)


def pull_of(model: Recommender, world: Dataset) -> dict[str, float]:
    """`pull` of a model of SEA's kind as it is now, trained or not."""
    model.train()
    pairs = torch.from_numpy(world.train)
    negatives = NegativeSampler(world, pairs.device)(pairs[:, 0], torch.Generator().manual_seed(0))
    shared = list(model.separate.transform.parameters())
    losses = model.loss(pairs[:, 0], pairs[:, 1], negatives)
    norms = {}
    for term, loss in losses.items():
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        norms[term] = float(np.sqrt(sum(g.square().sum().item() for g in gradients if g is not None)))
    return {term: norm / norms["rec"] for term, norm in norms.items() if term != "rec"}
