"""MGCN: modality features gated by behaviour, a common part, and specific parts by subtraction."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import Graph, bipartite, knn, propagate, user_by_item
from sea.layers import linear
from sea.models.base import Recommender
from sea.models.shared import bpr_of_rows, id_tables, light_propagation, linear_maps, raw_features, trainable


class MGCN(Recommender):
    """MGCN (Yu et al., MM 2023): purify by behaviour, propagate on item graphs, fuse common and specific parts.

        i_m = K_m (Q ⊙ σ(B_m(Linear_m(X_m)))),  u_m = R̂ i_m,  Z_m = [u_m; i_m]      K_m: weighted kNN graph
        H = 1/(L+1) Σ_{l=0..L} Â^l [P; Q]
        C = Σ_m a_m Z_m,  a = softmax_m of wᵀ tanh(Linear(Z_m))                       common
        S_m = σ(G_m(H)) ⊙ (Z_m - C)                                                   specific
        side = (C + Σ_m S_m) / (M + 1),  [u; i] = H + side
        loss = BPR + reg · ½ Σ (‖u‖² + ‖i‖² + ‖j‖²) / B + contrast · (N(side_i, H_i) + N(side_u, H_u))

    N is the softmax of unit rows over the batch at temperature 0.2, one-directional: `sea.losses.solosim`. X_m is
    trained too, K_m is that of its first values. R̂ is Â's user-item block. No term asks for orthogonality. B is the
    configured batch size, also in the short last one.

    Args:
        dim: width of the vectors.
        layers: L.
        k: neighbours of an item, itself included.
        reg, contrast: weights of the two terms.
    """

    lr_decay = 0.96
    grid: ClassVar = {"contrast": (1e-3, 1e-2, 1e-1)}
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 2,
        k: int = 10,
        reg: float = 1e-4,
        contrast: float = 1e-2,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers, self.reg, self.contrast = layers, reg, contrast
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.graph = bipartite(dataset.train, dataset.n_users, dataset.n_items)
        self.user_item = Graph(user_by_item(dataset.train, dataset.n_users, dataset.n_items))
        features = raw_features(dataset)
        self.item_item = nn.ModuleDict({m: Graph(knn(values, k, weighted=True)) for m, values in features.items()})
        self.features = trainable(features)
        self.maps = linear_maps(features, dim, generator)
        self.purify = nn.ModuleDict({m: linear(dim, dim, generator) for m in features})
        self.prefer = nn.ModuleDict({m: linear(dim, dim, generator) for m in features})
        self.query = linear(dim, dim, generator)
        self.key = linear(dim, 1, generator).weight

    def parts(self) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """H, the specific S_m by modality, and the common C, each (n_users + n_items, dim), users first."""
        behaviour = torch.cat(light_propagation(self.graph, self.users, self.items, self.layers))
        views = []
        for m, values in self.features.items():
            purified = self.items * self.purify[m](self.maps[m](values)).sigmoid()
            along = propagate(self.item_item[m], purified)
            views.append(torch.cat([propagate(self.user_item, along), along]))
        stacked = torch.stack(views)  # (M, n_users + n_items, dim)
        attention = (self.query(stacked).tanh() @ self.key.T).softmax(0)
        common = (attention * stacked).sum(0)
        specific = {m: self.prefer[m](behaviour).sigmoid() * (z - common) for m, z in zip(self.features, views)}
        return behaviour, specific, common

    def _encode(self) -> tuple[Tensor, Tensor]:
        behaviour, specific, common = self.parts()
        return behaviour, (common + sum(specific.values())) / (1 + len(specific))

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR, squared norms, and the contrast of side and behaviour, all on the batch."""
        behaviour, side = self._encode()
        index = torch.stack([users, positives + len(self.users), negatives + len(self.users)])
        h, s = F.embedding(index, behaviour), F.embedding(index, side)  # (3, batch, dim)
        u, p, n = h + s
        contrast = losses.solosim(s[1], h[1], 0.2) + losses.solosim(s[0], h[0], 0.2)
        return {
            "rec": bpr_of_rows(u, p, n),
            "reg": self.reg * losses.squared_norm(u, p, n) / self.batch_size,
            "contrast": self.contrast * contrast,
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Behaviour and side, added."""
        behaviour, side = self._encode()
        return (behaviour + side).split([len(self.users), len(self.items)])
