"""ItemKNN: neighbours by who bought them."""

from typing import ClassVar

import numpy as np
import torch

from sea.blocks import row_blocks
from sea.data import Dataset
from sea.graphs import user_by_item
from sea.models.item_to_item import ItemToItem


class ItemKNN(ItemToItem):
    """ItemKNN (Deshpande and Karypis, TOIS 2004): an item is scored by its k neighbours. Not in the paper.

        c_ij = n_ij / (√(n_i n_j) + shrink)      n_ij users have both in train, n_i have i
        s(u, i) = Σ_{j ∈ N_u ∩ K_i} c_ij         N_u: u's train items; K_i: the k other items with the largest c_ij

    The neighbours are those of the item that is scored, and are not normalised, as in the comparison by Ferrari Dacrema
    et al. (RecSys 2019), which has the shrinkage too. Among equals, smaller ids are nearer.

    Args:
        k: neighbours of an item; fewer, where fewer have a c_ij above 0.
        shrink: makes cosines small that rest on few users.

    Raises:
        ValueError: k is below 1, or shrink below 0.
    """

    grid: ClassVar = {"k": (50, 200, 800), "shrink": (0.0, 10.0, 100.0, 1000.0)}
    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, k: int = 200, shrink: float = 100.0, generator: torch.Generator):
        if k < 1 or shrink < 0:
            raise ValueError(f"'k' needs to be at least 1 and 'shrink' at least 0 in 'ItemKNN' (got {k!r}, {shrink!r})")
        bought = user_by_item(dataset.train, dataset.n_users, dataset.n_items, "sum").astype(np.float64)
        buyers, counts = bought.T.tocsr(), bought.sum(0)
        weights = np.zeros((dataset.n_items, dataset.n_items), dtype=np.float32)
        for rows in row_blocks(dataset.n_items, dataset.n_items, torch.device("cpu")):
            shared = (buyers[rows] @ bought).tocoo()
            items, others = shared.coords[0] + rows.start, shared.coords[1]
            cosine = shared.data / (np.sqrt(counts[items] * counts[others]) + shrink)
            order = np.lexsort((others, -cosine, items))
            order = order[items[order] != others[order]]
            items, others, cosine = items[order], others[order], cosine[order]
            kept = np.arange(len(items)) - np.searchsorted(items, items) < k  # the place in its item's own list
            weights[others[kept], items[kept]] = cosine[kept]
        super().__init__(dataset, torch.from_numpy(weights))
