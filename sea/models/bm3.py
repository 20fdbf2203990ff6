"""BM3: recommendation without negatives."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.data import Dataset
from sea.graphs import bipartite
from sea.layers import dropout, linear
from sea.models.base import Recommender
from sea.models.shared import id_tables, light_propagation, linear_maps, raw_features, trainable


class BM3(Recommender):
    """BM3 (Zhou et al., WWW 2023): a predictor φ on one view has to match another view, partly dropped out.

        [u; i'] = 1/(L+1) Σ_{l=0..L} Â^l [P; Q],  i = i' + Q,  f_m = Linear_m(X_m), X_m trained too
        û, î, f̂_m: the same after dropout, and without gradient
        loss = c(φu, î) + c(φi, û) + 2 Σ_m [c(φf_m, î) + c(φf_m, f̂_m)] + reg · (‖u‖_F + ‖i‖_F) / n_items

    c is 1 - mean cosine over the batch's pairs; φ is linear, one for all. The norms are those of all users and all
    items, unsquared. Sampled negatives are not used. Scores are φu · φi. A dropout belongs to a
    user or an item, not to a row of the batch: if one occurs twice in a batch, both rows miss the same entries.

    Args:
        dim: width of the vectors.
        layers: L.
        drop: share of the targets' entries that is dropped.
        reg: weight of the regulariser.
    """

    grid: ClassVar = {"layers": (1, 2), "drop": (0.3, 0.5), "reg": (0.1, 0.01)}
    published: ClassVar = ({"reg": 0.01},)  # Sports
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 1,
        drop: float = 0.5,
        reg: float = 0.1,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers, self.drop, self.reg = layers, drop, reg
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.graph = bipartite(dataset.train, dataset.n_users, dataset.n_items)
        features = raw_features(dataset)
        self.features = trainable(features)
        self.maps = linear_maps(features, dim, generator)
        self.predictor = linear(dim, dim, generator)
        for layer in (*self.maps.values(), self.predictor):
            nn.init.xavier_normal_(layer.weight, generator=generator)
        self.generator = generator

    def before_epoch(self, generator: torch.Generator) -> None:
        """Keep the training's generator, for the dropouts of the epoch."""
        self.generator = generator

    def _encode(self) -> tuple[Tensor, Tensor]:
        users, items = light_propagation(self.graph, self.users, self.items, self.layers)
        return users, items + self.items

    def _target(self, rows: Tensor, ids: Tensor, count: int) -> Tensor:
        """The rows of `ids`, of `count` users or items, after a dropout drawn for all of these."""
        kept = dropout(rows.new_ones(count, rows.shape[1]), self.drop, self.generator)
        return rows.detach() * F.embedding(ids, kept)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """Mutual prediction of the batch's users and items, of modalities and items, and the norms."""
        user_vectors, item_vectors = self._encode()
        u, i = F.embedding(users, user_vectors), F.embedding(positives, item_vectors)
        n_users, n_items = len(user_vectors), len(item_vectors)
        u_target, i_target = self._target(u, users, n_users), self._target(i, positives, n_items)
        aligned = 0.0
        for m, values in self.features.items():
            f = self.maps[m](F.embedding(positives, values))
            predicted = self.predictor(f)
            f_target = self._target(f, positives, n_items)
            aligned = aligned + _distance(predicted, i_target) + _distance(predicted, f_target)
        return {
            "rec": _distance(self.predictor(u), i_target) + _distance(self.predictor(i), u_target),
            "modalities": 2.0 * aligned,
            "reg": self.reg * (user_vectors.norm() + item_vectors.norm()) / n_items,
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """φ of both sides."""
        users, items = self._encode()
        return self.predictor(users), self.predictor(items)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(x, y).mean()
