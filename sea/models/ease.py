"""EASE: the best linear item-to-item model, in closed form."""

from typing import ClassVar

import numpy as np
import torch
from scipy import linalg

from sea.data import Dataset
from sea.graphs import user_by_item
from sea.models.item_to_item import ItemToItem


class EASE(ItemToItem):
    """EASE (Steck, WWW 2019): s = X B, with the B of zero diagonal that least squares choose. Not in the paper.

        B = argmin ‖X - X B‖² + reg · ‖B‖²,  diag(B) = 0
          = I - P diag(1 / diag(P)),         P = (Xᵀ X + reg · I)⁻¹

    X (n_users, n_items) holds the train interactions. P is computed in double precision by Cholesky's factors: time
    grows with n_items³, and for a moment there are two matrices of 8 · n_items² bytes, 0.8 GB for 7,050 items.

    Args:
        reg: λ, above 0.

    Raises:
        ValueError: reg is not above 0.
    """

    grid: ClassVar = {"reg": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)}
    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, reg: float = 100.0, generator: torch.Generator):
        if not reg > 0:
            raise ValueError(f"'reg' needs to be above 0 in 'EASE' (got {reg!r})")
        bought = user_by_item(dataset.train, dataset.n_users, dataset.n_items, "sum").astype(np.float64)
        gram = (bought.T @ bought).toarray()
        gram[np.diag_indices_from(gram)] += reg
        factor, lower = linalg.cho_factor(gram, overwrite_a=True)
        inverse = linalg.cho_solve((factor, lower), np.eye(dataset.n_items), overwrite_b=True)
        inverse /= -np.diag(inverse).copy()  # column by column
        np.fill_diagonal(inverse, 0)
        super().__init__(dataset, torch.from_numpy(inverse.astype(np.float32)))
