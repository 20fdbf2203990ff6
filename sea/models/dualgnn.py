"""DualGNN: modalities propagated apart, weighed by each user, and smoothed over users who share items."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.data import Dataset
from sea.graphs import Graph, bipartite, common_neighbours, directed, layer_sum, propagate
from sea.layers import linear, xavier
from sea.models.base import Recommender
from sea.models.shared import Frozen, batch_rows, bpr_of_rows, raw_features


class DualGNN(Recommender):
    """DualGNN (Wang et al., TMM 2021): a graph for each modality, user weights for them, and a user-user graph.

        x_m = unit rows of [T_m; MLP_m(X_m)],  Y_m = Σ_{l=0..2} Â^l x_m           MLP: Linear(256)-LeakyReLU-Linear(dim)
        items i = Σ_m Y_m;  users u' = a_1 Σ_m Y_m + Σ_{m>1} a_m Y_m,  u = u' + W u'
        loss = BPR + reg · (Σ_m mean T_m[u]² + mean a² + mean b²)                 BPR's logarithm is to base 2

    T_m (n_users, dim). W: the `neighbours` other users with the most train items in common, weighed by a softmax
    of those numbers. Every epoch fills up a list that is shorter, slot by slot, with a uniform draw from what it
    then holds. Weights a (n_users, M) start near 1/M and are free from there on; b (n_items, M) are made alike,
    and occur in the penalty alone, as published.

    Where this follows the program behind the published row: the first modality's user rows, the image's, hold the sum
    over all, which that program writes there in place; the paper means a_m Y_m for each. Where it does not: scores use
    the present parameters, there they are one batch old.

    Args:
        dim: width of the vectors.
        neighbours: of a user.
        reg: weight of the regulariser.
    """

    grid: ClassVar = {"lr": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), "reg": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)}
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        neighbours: int = 40,
        reg: float = 1e-3,
        generator: torch.Generator,
    ):
        super().__init__()
        self.reg = reg
        features = raw_features(dataset)
        self.features = Frozen(features)
        self.tables, self.maps = nn.ParameterDict(), nn.ModuleDict()
        for m, values in features.items():
            self.tables[m] = xavier("normal", dataset.n_users, dim, generator=generator)
            self.maps[m] = nn.Sequential(
                linear(values.shape[1], 256, generator), nn.LeakyReLU(), linear(256, dim, generator)
            )
        self.user_weights = _even(dataset.n_users, len(features), generator)
        self.item_weights = _even(dataset.n_items, len(features), generator)
        self.graph = bipartite(dataset.train, dataset.n_users, dataset.n_items)
        found, counts = common_neighbours(dataset.train, dataset.n_users, dataset.n_items, neighbours)
        self.register_buffer("found", found, persistent=False)  # (n_users, neighbours), -1 where there are fewer
        self.register_buffer("counts", counts, persistent=False)
        slots = torch.zeros_like(found, dtype=torch.int16)  # columns of `found`: the filled-up lists, kept for scoring
        self.register_buffer("slots", slots)
        self.user_user = None  # the graph that the slots say
        self.register_load_state_dict_post_hook(DualGNN._forget)
        self.before_epoch(generator)

    def _forget(self, *_: object) -> None:
        self.user_user = None

    def before_epoch(self, generator: torch.Generator) -> None:
        """Fill up the short lists of neighbours anew."""
        draws = torch.rand(self.found.shape, generator=generator, device=generator.device).to(self.found.device)
        lengths = (self.found >= 0).sum(1)
        for slot in range(self.found.shape[1]):
            drawn = (draws[:, slot] * slot).long()  # a place before this one
            copied = self.slots.gather(1, drawn[:, None])[:, 0]
            self.slots[:, slot] = torch.where(lengths > slot, slot, copied)
        self._forget()

    def _along_users(self, x: Tensor) -> Tensor:
        if self.user_user is None:
            slots = self.slots.long()
            weights = self.counts.gather(1, slots).double().softmax(1)
            self.user_user = Graph(directed(self.found.gather(1, slots), weights)).to(x.device, x.dtype)
        return propagate(self.user_user, x)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Users smoothed over their neighbours, and items."""
        x = torch.cat(
            [
                F.normalize(torch.cat([self.tables[m], layers(self.features[m])]), dim=1)
                for m, layers in self.maps.items()
            ],
            dim=1,
        )  # (n_users + n_items, M dim): the modalities side by side, so that one product serves them all
        views = layer_sum(self.graph, x, 2).chunk(len(self.maps), dim=1)
        n_users = len(self.user_weights)
        total = sum(views)
        by_user = [total[:n_users], *(view[:n_users] for view in views[1:])]
        users = sum(weight[:, None] * rows for weight, rows in zip(self.user_weights.T, by_user))
        return users + self._along_users(users), total[n_users:]

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR; mean squares of the batch's rows of T, and of all weights."""
        u, p, n = batch_rows(self.vectors(), users, positives, negatives)
        squares = [F.embedding(users, table).square().mean() for table in self.tables.values()]
        squares += [weights.square().mean() for weights in (self.user_weights, self.item_weights)]
        return {"rec": bpr_of_rows(u, p, n, 2.0), "reg": self.reg * sum(squares)}


def _even(rows: int, modalities: int, generator: torch.Generator) -> nn.Parameter:
    """Weights near 1/M: the softmax of Xavier's normal draws."""
    draws = torch.randn(rows, modalities, generator=generator) * math.sqrt(2 / (modalities + rows))
    return nn.Parameter(draws.softmax(dim=1))
