"""LGMRec: local graphs of ids and modalities, and a global hypergraph."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import Graph, bipartite, propagate, user_by_item
from sea.layers import dropout, xavier
from sea.models.base import Recommender
from sea.models.shared import Frozen, bpr_of_rows, id_tables, light_propagation, raw_features

TAU = 0.2  # of the hyperedges' softmax and of the contrast


class LGMRec(Recommender):
    """LGMRec (Guo et al., AAAI 2024): local graphs of ids and modalities, global hyperedges from the features.

        H = 1/(L+1) Σ_{l=0..L} Â^l [P; Q];  local = H + Σ_m unit rows of Â² [mean of a user's items; X_m W_m]
        l_i = X_m V_m,  l_u = R l_i (n, edges);  D = softmax((l + noise) / 0.2)      for items and users, each m
        x = H's items;  G times: y = D_iᵀ x, x <- D_i y;  then users_m = D_u y, items_m = x
        [u; i] = local + α · unit rows of Σ_m [users_m; items_m]
        loss = BPR + contrast · B Σ_{a<b} (C(users_a, users_b; u) + C(items_a, items_b; i))
               + reg · (‖u‖ + ‖i‖ + ‖j‖)_F / B

    R is the train interactions, so l_u sums over a user's items; the noise is Gumbel's. C is
    `sea.losses.contrast_with_all`, of the batch's rows with all; times B, the batch's size, it is the published
    sum. While training, entries of D drop out. Every pair of modalities is contrasted, and
    a, the anchor, is the one that comes first in `sea.data.modality_order`: the image, where there is one.

    The published program draws noise for every batch of users that it scores, so its scores are random and its
    users meet different item vectors. Here scores take noise of one fixed seed: a model has one score.

    Args:
        dataset: with at least two modalities.
        dim: width of the vectors.
        layers: L.
        hyper_layers, edges: G and the number of hyperedges.
        keep: share of D's entries that stay while training.
        alpha: weight of the global part.
        contrast, reg: weights of the two terms.

    Raises:
        ValueError: fewer than two modalities.
    """

    grid: ClassVar = {"alpha": (0.2, 0.3, 0.6), "edges": (4, 64)}
    published: ClassVar = (
        {"hyper_layers": 4, "edges": 4, "keep": 0.4, "alpha": 0.6},  # Sports
        {"hyper_layers": 2, "edges": 64, "keep": 0.2, "alpha": 0.2},  # Clothing
    )
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 2,
        hyper_layers: int = 1,
        edges: int = 4,
        keep: float = 0.5,
        alpha: float = 0.3,
        contrast: float = 1e-4,
        reg: float = 1e-6,
        generator: torch.Generator,
    ):
        super().__init__()
        if len(dataset.features) < 2:
            raise ValueError(f"'dataset' needs at least two modalities in 'LGMRec' (got {list(dataset.features)})")
        self.layers, self.hyper_layers, self.keep, self.alpha = layers, hyper_layers, keep, alpha
        self.contrast, self.reg = contrast, reg
        sizes = dataset.n_users, dataset.n_items
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.graph = bipartite(dataset.train, *sizes)
        self.to_sum, self.to_mean = (Graph(user_by_item(dataset.train, *sizes, kind)) for kind in ("sum", "mean"))
        self.maps, self.hyper = nn.ParameterDict(), nn.ParameterDict()
        self.features = Frozen(raw_features(dataset))
        for m in dataset.modalities:
            width = self.features[m].shape[1]
            self.maps[m] = xavier("uniform", width, dim, generator=generator)
            self.hyper[m] = xavier("uniform", width, edges, generator=generator)
        self.generator = generator

    def before_epoch(self, generator: torch.Generator) -> None:
        """Keep the training's generator, for the noise of the epoch."""
        self.generator = generator

    def _local(self) -> tuple[Tensor, Tensor]:
        """H, and H plus the modalities' local vectors."""
        ids = local = torch.cat(light_propagation(self.graph, self.users, self.items, self.layers))
        for m, weight in self.maps.items():
            items = self.features[m] @ weight
            view = torch.cat([propagate(self.to_mean, items), items])
            local = local + F.normalize(propagate(self.graph, propagate(self.graph, view)), dim=1)
        return ids, local

    def _global(self, x: Tensor, drop: float, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """Users' and items' vectors of each modality's hypergraph, from H's items x."""
        found = []
        for m, weight in self.hyper.items():
            logits = self.features[m] @ weight
            of_items = _soft(logits, drop, generator)
            of_users = _soft(propagate(self.to_sum, logits), drop, generator)
            items = x
            for _ in range(self.hyper_layers):
                edges = of_items.T @ items
                items = of_items @ edges
            found.append((of_users @ edges, items))
        return found

    def _encode(self, drop: float, generator: torch.Generator) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        ids, local = self._local()
        found = self._global(ids[len(self.users) :], drop, generator)
        fused = sum(torch.cat(pair) for pair in found)
        return local + self.alpha * F.normalize(fused, dim=1), found

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and norms on the batch; the batch's hypergraph vectors against all."""
        nodes, found = self._encode(1 - self.keep, self.generator)
        u, p, n = (F.embedding(i, nodes) for i in (users, positives + len(self.users), negatives + len(self.users)))
        contrasts = [
            losses.contrast_with_all(found[a][side], found[b][side], rows, TAU)
            for b in range(len(found))
            for a in range(b)
            for side, rows in enumerate((users, positives))
        ]
        return {
            "rec": bpr_of_rows(u, p, n),
            "contrast": self.contrast * len(users) * sum(contrasts),
            "reg": self.reg * losses.embedding_norm(u, p, n),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """With noise of one fixed seed, drawn on the CPU so that all devices have the same, and no dropout."""
        nodes, _ = self._encode(0.0, torch.Generator().manual_seed(0))
        return nodes.split([len(self.users), len(self.items)])


def _soft(logits: Tensor, drop: float, generator: torch.Generator) -> Tensor:
    """Rows' shares in the hyperedges, with Gumbel noise and dropout."""
    noise = -torch.empty(logits.shape, device=generator.device).exponential_(generator=generator).log()
    return dropout(((logits + noise.to(logits)) / TAU).softmax(1), drop, generator)
