"""FREEDOM: a frozen item graph and a pruned user-item graph."""

from typing import ClassVar

import torch
from torch import Tensor

from sea.data import Dataset
from sea.graphs import Graph, bipartite, fuse, knn, propagate, prune
from sea.models.base import Recommender
from sea.models.shared import (
    batch_rows,
    bpr_of_rows,
    id_tables,
    light_propagation,
    linear_maps,
    raw_features,
    trainable,
)


class FREEDOM(Recommender):
    """FREEDOM (Zhou and Shen, MM 2023): LATTICE with a frozen item graph and a user-item graph pruned every epoch.

        [u; i'] = 1/(L+1) Σ_{l=0..L} Ã^l [P; Q]      Ã: a sample of the edges, dropping popular ones first
        i = i' + S Q                                 S = Σ_m c_m S_m, kNN graphs of the raw features
        loss = BPR(u, i) + λ Σ_m BPR(u, f_m),        f_m = Linear_m(X_m), X_m trained too

    Scores use the whole graph. There is no L2 term. With λ = 0 features act through S alone: f_m and X_m get no
    gradient, and are left out.

    Args:
        dim: width of the vectors.
        layers: L.
        k: neighbours of an item in each S_m, itself included.
        image_weight: c of the modality "image", as in `sea.graphs.fuse`.
        dropped: share of the train pairs that an epoch does without.
        lam: λ; 0 is that of the only log there is, of FREEDOM with SEA's plug-in on Baby.

    Raises:
        ValueError: fewer than two modalities.
    """

    grid: ClassVar = {"dropped": (0.8, 0.9), "lam": (0.0, 1e-5, 1e-4, 1e-3)}
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 2,
        k: int = 10,
        image_weight: float = 0.1,
        dropped: float = 0.8,
        lam: float = 0.0,
        generator: torch.Generator,
    ):
        super().__init__()
        if len(dataset.features) < 2:
            raise ValueError(f"'dataset' needs at least two modalities in 'FREEDOM' (got {list(dataset.features)})")
        self.layers, self.dropped, self.lam = layers, dropped, lam
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.pairs = dataset.train
        self.whole = self.pruned = bipartite(self.pairs, dataset.n_users, dataset.n_items)
        features = raw_features(dataset)
        self.item_item = Graph(fuse({m: knn(values, k) for m, values in features.items()}, image_weight))
        if lam:
            self._read_content(features, dim, generator)

    def _read_content(self, features: dict[str, Tensor], dim: int, generator: torch.Generator) -> None:
        self.features = trainable(features)
        self.maps = linear_maps(features, dim, generator)

    def before_epoch(self, generator: torch.Generator) -> None:
        """Draw this epoch's edges."""
        kept = prune(self.pairs, self.dropped, generator)
        self.pruned = bipartite(kept, len(self.users), len(self.items)).to(self.users.device, self.users.dtype)

    def _encode(self, graph: Graph) -> tuple[Tensor, Tensor]:
        users, items = light_propagation(graph, self.users, self.items, self.layers)
        return users, items + propagate(self.item_item, self.items)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR on the fused vectors, and of the same users on each modality's."""
        return self._ranking(users, positives, negatives, self._contents() if self.lam else [])

    def _contents(self) -> list[Tensor]:
        return [self.maps[m](values) for m, values in self.features.items()]

    def _ranking(
        self, users: Tensor, positives: Tensor, negatives: Tensor, contents: list[Tensor]
    ) -> dict[str, Tensor]:
        user_vectors, item_vectors = self._encode(self.pruned)
        rankings = [
            bpr_of_rows(*batch_rows((user_vectors, table), users, positives, negatives))
            for table in (item_vectors, *contents)
        ]
        terms = {"rec": rankings[0]}
        if contents:
            terms["content"] = self.lam * sum(rankings[1:])
        return terms

    def vectors(self) -> tuple[Tensor, Tensor]:
        """On the whole graph."""
        return self._encode(self.whole)
