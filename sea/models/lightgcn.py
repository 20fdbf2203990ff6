"""LightGCN: linear propagation of id vectors."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sea import losses
from sea.data import Dataset
from sea.graphs import bipartite, layer_sum
from sea.layers import xavier
from sea.models.base import Recommender


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
        self.users = xavier("uniform", dataset.n_users, dim, generator=generator)
        self.items = xavier("uniform", dataset.n_items, dim, generator=generator)
        self.graph = bipartite(dataset.train, dataset.n_users, dataset.n_items)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR on the propagated rows, norms of the rows before."""
        user_vectors, item_vectors = self.vectors()
        u = F.embedding(users, user_vectors)  # (batch, d); unlike indexing, its gradient is deterministic
        p, n = F.embedding(positives, item_vectors), F.embedding(negatives, item_vectors)
        before = F.embedding(users, self.users), *(F.embedding(i, self.items) for i in (positives, negatives))
        return {
            "rec": losses.bpr((u * p).sum(1), (u * n).sum(1)),
            "reg": self.reg * losses.embedding_norm(*before),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The layer means."""
        nodes = torch.cat([self.users, self.items])  # (n_users + n_items, dim)
        mean = layer_sum(self.graph, nodes, self.layers) / (self.layers + 1)
        return mean.split([len(self.users), len(self.items)])
