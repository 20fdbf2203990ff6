"""MICRO: an item graph for each modality, fused by attention and contrast."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import Graph, bipartite, cosines, directed, gather, knn, nearest, normalise, propagate
from sea.layers import linear
from sea.models.base import Recommender
from sea.models.shared import batch_rows, id_tables, light_propagation, linear_maps, rank, raw_features, trained


class MICRO(Recommender):
    """MICRO (Zhang et al., TKDE 2022): LATTICE with a graph per modality, attention fusion and contrast.

        S_m = (1 - λ) N(S̃_m) + λ S0_m,  H_m = S_m Q          graphs as in `LATTICE`
        H = Σ_m a_m H_m,  a = softmax_m of wᵀ tanh(Linear(H_m)), for each item
        [u; i'] as in `LATTICE`;  i = i' + unit rows of H
        loss = BPR + reg · ½ Σ (‖u‖² + ‖i‖² + ‖j‖²) / B + contrast · Σ_m C(H_m, H)

    C is `sea.losses.two_view_contrast` over all items. Nothing in it is subtracted, and no term asks for
    orthogonality. Graphs are rebuilt as in `LATTICE`: with gradient in the first batch of an epoch, then
    constant, and again for scoring. B is the configured batch size, also in the short last one. The published row's
    program is not public; batches, negatives and stopping are those of all our models, not of the authors' own
    loop (1024 users drawn evenly, 5 epochs a validation).

    Args:
        dim: width of the vectors.
        layers: L of the user-item graph.
        k: neighbours of an item, itself included.
        lam: λ, the share of the frozen graph.
        reg, contrast: weights of the two terms.
        tau: temperature of the contrast.
    """

    lr = 5e-4
    lr_decay = 0.96
    grid: ClassVar = {"lr": (1e-4, 5e-4, 1e-3, 5e-3), "contrast": (0.03, 0.003)}
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
        contrast: float = 0.03,
        tau: float = 0.5,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers, self.k, self.lam, self.reg, self.contrast, self.tau = layers, k, lam, reg, contrast, tau
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.user_item = bipartite(dataset.train, dataset.n_users, dataset.n_items, "mean_with_self")
        features = raw_features(dataset)
        self.frozen = nn.ModuleDict({m: Graph(knn(values, k, weighted=True)) for m, values in features.items()})
        self.features = trained(features)
        self.maps = linear_maps(features, dim, generator)
        self.query = linear(dim, dim, generator)
        self.key = linear(dim, 1, generator).weight
        self.constant = None  # the epoch's learned graphs by modality

    def before_epoch(self, generator: torch.Generator) -> None:
        """Forget the last epoch's graphs: the first batch learns new ones."""
        self.constant = None

    def _learn(self) -> dict[str, tuple[Tensor, Tensor]]:
        """N(S̃_m): neighbours and values by modality, (n_items, k) each."""
        learned = {}
        for m, values in self.features.items():
            mapped = self.maps[m](values)
            neighbours = nearest(mapped.detach(), self.k)
            learned[m] = neighbours, normalise(neighbours, cosines(mapped, neighbours))
        return learned

    def _fuse(self, learned: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        smoothed = {
            m: (1 - self.lam) * step + self.lam * propagate(self.frozen[m], self.items) for m, step in learned.items()
        }
        stacked = torch.stack(list(smoothed.values()))  # (M, n_items, dim)
        attention = (self.query(stacked).tanh() @ self.key.T).softmax(0)  # (M, n_items, 1)
        return smoothed, dict(zip(smoothed, attention)), (attention * stacked).sum(0)

    def _gather(self, learned: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {m: gather(*pair, self.items) for m, pair in learned.items()}

    def parts(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """H_m and the attention a_m (n_items, 1) by modality, and H (n_items, dim), graphs of the present features."""
        return self._fuse(self._gather(self._learn()))

    def _encode(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        users, items = light_propagation(self.user_item, self.users, self.items, self.layers)
        return users, items + F.normalize(fused, dim=1)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and squared norms on the batch; the contrast over all items."""
        if self.constant is None:
            learned = self._learn()
            like = self.items.device, self.items.dtype
            self.constant = {m: Graph(directed(*pair)).to(*like) for m, pair in learned.items()}
            steps = self._gather(learned)
        else:
            steps = {m: propagate(graph, self.items) for m, graph in self.constant.items()}
        smoothed, _, fused = self._fuse(steps)
        u, p, n = batch_rows(self._encode(fused), users, positives, negatives)
        contrasts = [losses.two_view_contrast(h, fused, self.tau) for h in smoothed.values()]
        return {
            "rec": rank(u, p, n),
            "reg": self.reg * losses.squared_norm(u, p, n) / self.batch_size,
            "contrast": self.contrast * sum(contrasts),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """With graphs of the present features."""
        return self._encode(self.parts()[2])
