"""ContentKNN: neighbours by what they look and read like."""

from typing import ClassVar

import torch
import torch.nn.functional as F

from sea.blocks import row_blocks
from sea.data import Dataset
from sea.models.item_to_item import ItemToItem
from sea.models.shared import raw_features

USED = ("all", "first", "last")


class ContentKNN(ItemToItem):
    """ContentKNN: an item is scored by its k neighbours in the raw features. Not in the paper.

        c_ij = mean over m of cos(x_m,i, x_m,j)
        s(u, i) = Σ_{j ∈ N_u ∩ K_i} c_ij         N_u: u's train items; K_i: the k other items with the largest c_ij

    Features alone, without a parameter: what there is to gain from them before anything is learned. A row of zeros
    has cosine 0 with all.

    Args:
        k: neighbours of an item; fewer, where fewer have a c_ij above 0.
        used: which modalities the mean is over: "all", or one alone, the "first" or the "last" of
            `Dataset.modalities`. The image is the first where there is one, and the text is the last of image and text.

    Raises:
        ValueError: k is below 1, or another `used`.
    """

    grid: ClassVar = {"k": (10, 20, 50, 100), "used": USED}
    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, k: int = 50, used: str = "all", generator: torch.Generator):
        if k < 1 or used not in USED:
            raise ValueError(
                f"'k' needs to be at least 1 and 'used' one of {', '.join(USED)} in 'ContentKNN' (got {k!r}, {used!r})"
            )
        units = [F.normalize(values, dim=1) for values in raw_features(dataset).values()]
        units = {"all": units, "first": units[:1], "last": units[-1:]}[used]
        n = dataset.n_items
        weights = torch.zeros(n, n)
        for rows in row_blocks(n, n, weights.device):
            cosine = sum(unit[rows] @ unit.T for unit in units) / len(units)  # (b, n_items)
            cosine.diagonal(rows.start).fill_(-torch.inf)
            nearest = cosine.topk(min(k, n))
            weights[:, rows].scatter_(0, nearest.indices.T, nearest.values.clamp(min=0).T)
        super().__init__(dataset, weights)
