"""Matrix factorisation trained with BPR."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sea import losses
from sea.data import Dataset
from sea.layers import xavier
from sea.models.base import Recommender


class BPR(Recommender):
    """MF-BPR (Rendle et al., UAI 2009): s(u, i) = ⟨P_u, Q_i⟩, loss BPR + reg · (‖P_u‖ + ‖Q_i‖ + ‖Q_j‖)_F / B.

    No biases, and unsquared norms, as in the framework behind the published rows.

    Args:
        dim: width of the vectors.
        reg: weight of the regulariser.
    """

    grid: ClassVar = {"reg": (2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)}
    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, dim: int = 64, reg: float = 0.1, generator: torch.Generator):
        super().__init__()
        self.reg = reg
        self.users = xavier("normal", dataset.n_users, dim, generator=generator)
        self.items = xavier("normal", dataset.n_items, dim, generator=generator)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and the norms of the batch's rows."""
        u = F.embedding(users, self.users)
        p, n = F.embedding(positives, self.items), F.embedding(negatives, self.items)
        return {
            "rec": losses.bpr((u * p).sum(1), (u * n).sum(1)),
            "reg": self.reg * losses.embedding_norm(u, p, n),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The two tables."""
        return self.users, self.items
