"""Models that score an item by the items that the user has."""

import torch
from torch import Tensor

from sea.data import Dataset
from sea.models.closed_form import ClosedForm


class ItemToItem(ClosedForm):
    """s(u, i) = Σ_{j ∈ N_u} W_ji, N_u the user's train items: X W for the train interactions X (n_users, n_items).

    As a dot product: a user's vector is the row X_u, sparse, and an item's is the column of W. W is held dense,
    4 · n_items² bytes: 0.2 GB for 7,050 items, 2.1 GB for 23,033.

    Args:
        weights: W, shape (n_items, n_items).
    """

    def __init__(self, dataset: Dataset, weights: Tensor):
        super().__init__()
        index = torch.from_numpy(dataset.train.T.copy())
        size, ones = (dataset.n_users, dataset.n_items), weights.new_ones(len(dataset.train))
        interactions = torch.sparse_coo_tensor(index, ones, size, check_invariants=True).coalesce()
        self.register_buffer("interactions", interactions, persistent=False)
        self.register_buffer("weights", weights.contiguous(), persistent=False)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """X and Wᵀ."""
        return self.interactions, self.weights.T
