"""MMGCN: a graph network for each modality."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.data import Dataset
from sea.graphs import bipartite, propagate
from sea.layers import linear, xavier
from sea.models.base import Recommender
from sea.models.shared import batch_rows, bpr_of_rows, raw_features

LAYERS = 3


class MMGCN(Recommender):
    """MMGCN (Wei et al., MM 2019): a GNN on the user-item graph for each modality, averaged.

    For each modality, with T_m (n_users, d_m) and ID (n_users + n_items, dim) random and frozen:

        x   = unit rows of [T_m; X_m]                    images through Linear(d_m -> `image_width`) first
        h   = leaky(M x C_l),  y = leaky(L_l x) + ID     M: mean over neighbours
        x  <- leaky(g_l [h; y])                          three times; then the mean over modalities

    C, L, g are linear, C without a bias. The paper trains T and ID. The authors' program and the one behind
    the published row never hand them to the optimiser, which also makes their L2 penalty a constant; so it is
    here, without the penalty. Scores use the present parameters, theirs are one batch old.

    Args:
        dim: width of ID, of the last two layers and of the output.
        image_width: width of the image branch's first layer; other modalities keep their own.
    """

    grid: ClassVar = {"lr": (1e-4, 5e-4, 1e-3, 5e-3, 1e-2)}
    replays: ClassVar = True
    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, dim: int = 64, image_width: int = 256, generator: torch.Generator):
        super().__init__()
        self.graph = bipartite(dataset.train, dataset.n_users, dataset.n_items, "mean")
        nodes = dataset.n_users + dataset.n_items
        self.register_buffer("id", xavier("normal", nodes, dim, generator=generator).detach())
        self.branches = nn.ModuleDict(
            {
                m: _Branch(values, dataset.n_users, dim, m == "image" and image_width, generator)
                for m, values in raw_features(dataset).items()
            }
        )
        self.n_users = dataset.n_users

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR."""
        return {"rec": bpr_of_rows(*batch_rows(self.vectors(), users, positives, negatives))}

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The mean of the branches' outputs."""
        outputs = [branch(self.graph, self.id) for branch in self.branches.values()]
        return torch.stack(outputs).mean(0).split([self.n_users, len(self.id) - self.n_users])


class _Branch(nn.Module):
    """One modality's network; `projected` is the width that its features are mapped to first, or 0."""

    def __init__(self, features: Tensor, n_users: int, dim: int, projected: int, generator: torch.Generator):
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.projection = linear(features.shape[1], projected, generator) if projected else None
        width = projected or features.shape[1]
        self.register_buffer("users", xavier("normal", n_users, width, generator=generator).detach())
        widths = [width] + [dim] * (LAYERS - 1)
        self.messages = nn.ParameterList([xavier("normal", size, size, generator=generator) for size in widths])
        self.maps = nn.ModuleList([linear(size, dim, generator) for size in widths])
        self.merges = nn.ModuleList([linear(size + dim, dim, generator) for size in widths])
        for layer in [*self.maps, self.merges[0]]:
            nn.init.xavier_normal_(layer.weight, generator=generator)

    def forward(self, graph: nn.Module, ids: Tensor) -> Tensor:
        items = self.features if self.projection is None else self.projection(self.features)
        x = F.normalize(torch.cat([self.users, items]), dim=1)
        for message, own, merge in zip(self.messages, self.maps, self.merges):
            h = F.leaky_relu(propagate(graph, x @ message))
            y = F.leaky_relu(own(x)) + ids
            x = F.leaky_relu(merge(torch.cat([h, y], dim=1)))
        return x
