"""Matrix factorisation trained with BPR."""

from typing import ClassVar

import torch
from torch import Tensor

from sea import losses
from sea.data import Dataset
from sea.models.base import Recommender
from sea.models.shared import batch_rows, bpr_of_rows, id_tables


class BPR(Recommender):
    """MF-BPR (Rendle et al., UAI 2009): s(u, i) = ⟨P_u, Q_i⟩, loss BPR + reg · (‖P_u‖ + ‖Q_i‖ + ‖Q_j‖)_F / B.

    No biases, and unsquared norms, as in the framework behind the published rows.

    Args:
        dim: width of the vectors.
        reg: weight of the regulariser.
    """

    grid: ClassVar = {"reg": (2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)}
    replays: ClassVar = True
    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, dim: int = 64, reg: float = 0.1, generator: torch.Generator):
        super().__init__()
        self.reg = reg
        self.users, self.items = id_tables("normal", dataset, dim, generator)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and the norms of the batch's rows."""
        u, p, n = batch_rows(self.vectors(), users, positives, negatives)
        return {
            "rec": bpr_of_rows(u, p, n),
            "reg": self.reg * losses.embedding_norm(u, p, n),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The two tables."""
        return self.users, self.items
