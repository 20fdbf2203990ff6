"""LATTICE: an item graph learned from projected features."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import Graph, bipartite, cosines, directed, gather, knn, nearest, normalise, propagate
from sea.models.base import Recommender
from sea.models.shared import batch_rows, id_tables, light_propagation, linear_maps, rank, raw_features, trained


class LATTICE(Recommender):
    """LATTICE (Zhang et al., MM 2021): a learned item graph smooths item ids, beside LightGCN.

        [u; i'] = 1/(L+1) Σ_{l=0..L} ((D+I)⁻¹(A+I))^l [P; Q]
        i = i' + unit rows of S Q
        S = (1 - λ) N(Σ_m w_m S̃_m) + λ Σ_m w_m S0_m,   w = softmax of two learned logits
        S̃_m: cosines of f_m = Linear_m(X_m) to the k nearest;  S0_m: the same of the raw X_m, normalised and frozen
        loss = BPR + reg · ½ Σ (‖u‖² + ‖i‖² + ‖j‖²) / B on final vectors

    N divides by the roots of both ends' row sums. X_m is trained too. S is rebuilt in the first batch of each
    epoch, the only one whose gradients reach f_m, X_m and w; the rest of the epoch takes it as a constant;
    scoring rebuilds it. B is the configured batch size, also in the short last one.

    Args:
        dim: width of the vectors.
        layers: L.
        k: neighbours of an item, itself included.
        lam: λ, the share of the frozen graph.
        reg: weight of the regulariser.
    """

    lr = 5e-4
    lr_decay = 0.96
    grid: ClassVar = {"lr": (1e-4, 5e-4, 1e-3, 5e-3), "reg": (0.0, 1e-5, 1e-4, 1e-3)}
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 2,
        k: int = 10,
        lam: float = 0.9,
        reg: float = 1e-5,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers, self.k, self.lam, self.reg = layers, k, lam, reg
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.user_item = bipartite(dataset.train, dataset.n_users, dataset.n_items, "mean_with_self")
        features = raw_features(dataset)
        self.frozen = nn.ModuleList([Graph(knn(values, k, weighted=True)) for values in features.values()])
        self.features = trained(features)
        self.maps = linear_maps(features, dim, generator)
        self.logits = nn.Parameter(torch.full((len(features),), 0.5))
        self.constant = None  # the epoch's learned graph, and w

    def before_epoch(self, generator: torch.Generator) -> None:
        """Forget the last epoch's graph: the first batch learns a new one."""
        self.constant = None

    def _learn(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """N(Σ_m w_m S̃_m): neighbours and values for each modality, (n_items, k) each; and w."""
        mapped = [self.maps[m](values) for m, values in self.features.items()]
        neighbours = [nearest(values.detach(), self.k) for values in mapped]
        weights = self.logits.softmax(0)
        values = [w * cosines(rows, index) for w, rows, index in zip(weights, mapped, neighbours)]
        degree = sum(v.sum(1) for v in values)
        return neighbours, [normalise(index, v, degree) for index, v in zip(neighbours, values)], weights

    def _smooth(self, learned: Tensor, weights: Tensor) -> Tensor:
        """S Q, given the learned graph's share of it."""
        frozen = sum(w * propagate(graph, self.items) for w, graph in zip(weights, self.frozen))
        return (1 - self.lam) * learned + self.lam * frozen

    def _gather(self, neighbours: list[Tensor], values: list[Tensor], weights: Tensor) -> Tensor:
        return self._smooth(sum(gather(*pair, self.items) for pair in zip(neighbours, values)), weights)

    def _encode(self, smoothed: Tensor) -> tuple[Tensor, Tensor]:
        users, items = light_propagation(self.user_item, self.users, self.items, self.layers)
        return users, items + F.normalize(smoothed, dim=1)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and the squared norms of the batch's final rows."""
        if self.constant is None:
            neighbours, values, weights = self._learn()
            graph = Graph(sum(directed(*pair) for pair in zip(neighbours, values)))
            self.constant = graph.to(weights.device, weights.dtype), weights.detach()
            smoothed = self._gather(neighbours, values, weights)
        else:
            graph, weights = self.constant
            smoothed = self._smooth(propagate(graph, self.items), weights)
        u, p, n = batch_rows(self._encode(smoothed), users, positives, negatives)
        return {
            "rec": rank(u, p, n),
            "reg": self.reg * losses.squared_norm(u, p, n) / self.batch_size,
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """With a graph of the present features."""
        return self._encode(self._gather(*self._learn()))
