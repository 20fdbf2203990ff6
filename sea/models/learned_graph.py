"""What LATTICE and MICRO share: item graphs learned from projected features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.data import Dataset
from sea.graphs import Graph, bipartite, cosines, directed, gather, knn, nearest, propagate
from sea.models.base import Recommender
from sea.models.shared import id_tables, light_propagation, linear_maps, raw_features, trainable

Summands = list[tuple[Tensor, Tensor]]
"""A graph as a sum of others, each given by neighbours and values, (n_items, k) both."""


class LearnedGraph(Recommender):
    """Learned item graphs that smooth item ids, beside frozen ones and LightGCN.

        [u; i'] = 1/(L+1) Σ_{l=0..L} ((D+I)⁻¹(A+I))^l [P; Q],  i = i' + unit rows of the smoothed Q
        S̃_m: cosines of f_m = Linear_m(X_m) to the k nearest;  S0_m: the same of the raw X_m, normalised and frozen

    X_m is trained too. `_learn` says what graphs a model makes of the S̃_m. They are rebuilt in the first batch of
    each epoch, the only one whose gradients reach f_m and X_m; the rest of the epoch takes them as constants;
    scoring rebuilds them.

    Args:
        dim, layers, k, lam: width of the vectors, L, k, and λ, the share of the frozen graphs.
    """

    def __init__(self, dataset: Dataset, dim: int, layers: int, k: int, lam: float, generator: torch.Generator):
        super().__init__()
        self.layers, self.k, self.lam = layers, k, lam
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.user_item = bipartite(dataset.train, dataset.n_users, dataset.n_items, "mean_with_self")
        features = raw_features(dataset)
        self.frozen = nn.ModuleList([Graph(knn(values, k, weighted=True)) for values in features.values()])
        self.features = trainable(features)
        self.maps = linear_maps(features, dim, generator)
        self.constant = None  # the epoch's learned graphs

    def before_epoch(self, generator: torch.Generator) -> None:
        """Forget the last epoch's graphs: the first batch learns new ones."""
        self.constant = None

    def _cosines(self) -> Summands:
        """The S̃_m."""
        mapped = [self.maps[m](values) for m, values in self.features.items()]
        neighbours = [nearest(values.detach(), self.k) for values in mapped]
        return [(index, cosines(values, index)) for index, values in zip(neighbours, mapped)]

    def _learn(self) -> list[Summands]:
        """The learned graphs, each as its summands; every model says which."""
        raise NotImplementedError

    def _steps(self) -> list[Tensor]:
        """The product of each learned graph with Q in training, (n_items, dim) each."""
        if self.constant is None:
            graphs = self._learn()
            like = self.items.device, self.items.dtype
            self.constant = [Graph(sum(directed(*part) for part in graph)).to(*like) for graph in graphs]
            return self._products(graphs)
        return [propagate(graph, self.items) for graph in self.constant]

    def _products(self, graphs: list[Summands]) -> list[Tensor]:
        """The same with gradients that reach the graphs."""
        return [sum(gather(*part, self.items) for part in graph) for graph in graphs]

    def _vectors(self, smoothed: Tensor) -> tuple[Tensor, Tensor]:
        """u and i."""
        users, items = light_propagation(self.user_item, self.users, self.items, self.layers)
        return users, items + F.normalize(smoothed, dim=1)
