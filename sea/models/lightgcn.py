"""LightGCN: linear propagation of id vectors."""

from typing import ClassVar

import torch
from torch import Tensor

from sea import losses
from sea.data import Dataset
from sea.graphs import bipartite
from sea.models.base import Recommender
from sea.models.shared import batch_rows, bpr_of_rows, id_tables, light_propagation


class LightGCN(Recommender):
    """LightGCN (He et al., SIGIR 2020): [u; i] = 1/(L+1) Σ_{l=0..L} Â^l [P; Q].

    The loss is BPR on propagated vectors plus reg · (‖P_u‖ + ‖Q_i‖ + ‖Q_j‖)_F / B on the rows before
    propagation (unsquared, as in the framework behind the published rows; the paper squares them).

    Args:
        dim: width of the vectors.
        layers: L.
        reg: weight of the regulariser.
    """

    grid: ClassVar = {"layers": (1, 2, 3, 4), "reg": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)}
    replays: ClassVar = True
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 2,
        reg: float = 1e-2,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers, self.reg = layers, reg
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.graph = bipartite(dataset.train, dataset.n_users, dataset.n_items)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR on the propagated rows, norms of the rows before."""
        u, p, n = batch_rows(self.vectors(), users, positives, negatives)
        before = batch_rows((self.users, self.items), users, positives, negatives)
        return {
            "rec": bpr_of_rows(u, p, n),
            "reg": self.reg * losses.embedding_norm(*before),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The layer means."""
        return light_propagation(self.graph, self.users, self.items, self.layers)
