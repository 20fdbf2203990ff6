"""VBPR: matrix factorisation plus a linear reading of the content."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.layers import xavier
from sea.models.base import Recommender
from sea.models.shared import bpr_of_rows, raw_features


class VBPR(Recommender):
    """VBPR (He and McAuley, AAAI 2016): z_i = [Q_i; W F_i + c], s(u, i) = ⟨P_u, z_i⟩.

    F joins the raw features of all modalities. The loss is BPR + reg · (‖P_u‖ + ‖z_i‖ + ‖z_j‖)_F / B, so W is
    regularised through what it reads. As in the framework behind the published rows there are no biases; the
    paper has them, takes images alone, and gives users separate visual factors.

    Args:
        dim: width of Q and of the content; P is twice as wide.
        reg: weight of the regulariser; 2.0 is that of the only log there is, of VBPR with SEA's plug-in on Baby.
    """

    grid: ClassVar = {"reg": (2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)}
    replays: ClassVar = True
    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, dim: int = 64, reg: float = 2.0, generator: torch.Generator):
        super().__init__()
        self.reg = reg
        self.users = xavier("uniform", dataset.n_users, 2 * dim, generator=generator)
        self.items = xavier("uniform", dataset.n_items, dim, generator=generator)
        self._read_content(dataset, dim, generator)

    def _read_content(self, dataset: Dataset, dim: int, generator: torch.Generator) -> None:
        features = torch.cat(list(raw_features(dataset).values()), dim=1)
        self.register_buffer("features", features, persistent=False)
        self.weight = xavier("normal", dim, features.shape[1], generator=generator)
        self.bias = nn.Parameter(torch.zeros(dim))

    def _content(self, items: Tensor) -> Tensor:
        return F.linear(self.features[items], self.weight, self.bias)  # (n, dim): the batch's items alone

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and the norms of the batch's rows, content included."""
        items = torch.cat([positives, negatives])
        return self._ranking(users, items, self._content(items))

    def _ranking(self, users: Tensor, items: Tensor, content: Tensor) -> dict[str, Tensor]:
        u = F.embedding(users, self.users)  # (batch, 2 dim)
        p, n = torch.cat([F.embedding(items, self.items), content], dim=1).chunk(2)
        return {
            "rec": bpr_of_rows(u, p, n),
            "reg": self.reg * losses.embedding_norm(u, p, n),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """P and [Q; W F + c]."""
        every = torch.arange(len(self.items), device=self.items.device)
        return self.users, torch.cat([self.items, self._content(every)], dim=1)
