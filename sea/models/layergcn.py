"""LayerGCN: layers rescaled by their likeness to the first, on a pruned graph."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sea import losses
from sea.data import Dataset
from sea.graphs import Graph, bipartite, propagate, prune
from sea.models.base import Recommender
from sea.models.shared import batch_rows, bpr_of_rows, id_tables


class LayerGCN(Recommender):
    """LayerGCN (Zhou et al., ICDE 2023): each layer is rescaled by its cosine with the ego layer; edges are pruned.

        H_0 = [P; Q],  G_l = Ã H_{l-1},  H_l = cos(G_l, H_0) · G_l by row,  [u; i] = Σ_{l=1..L} H_l
        loss = Σ_batch -log σ(s⁺ - s⁻) + reg · ½ Σ_batch (‖P_u‖² + ‖Q_i‖² + ‖Q_j‖²)

    The rescaled layer feeds the next, gradients reach its cosine, and H_0 is not in the sum. Both terms are sums
    over the batch, which Adam doesn't mind, but reg is relative to a sum. Ã is a sample of the edges, drawn anew
    every epoch and normalised by what was kept: in the first, third, ... epoch dropping those between popular nodes
    first, in the others all alike. So the authors' program alternates; their paper describes the former alone.
    Scores use the whole graph.

    Args:
        dim: width of the vectors.
        layers: L.
        dropped: share of the train pairs that an epoch does without.
        reg: weight of the regulariser, relative to the batch's sum.
    """

    grid: ClassVar = {"dropped": (0.0, 0.1, 0.2), "reg": (1e-2, 1e-3, 1e-4, 1e-5)}
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 4,
        dropped: float = 0.1,
        reg: float = 1e-3,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers, self.dropped, self.reg = layers, dropped, reg
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.pairs = dataset.train
        self.whole = self.pruned = bipartite(self.pairs, dataset.n_users, dataset.n_items)
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))

    def before_epoch(self, generator: torch.Generator) -> None:
        """Draw this epoch's edges."""
        if self.dropped:
            kept = prune(self.pairs, self.dropped, generator, by_degree=int(self.epochs) % 2 == 0)
            self.pruned = bipartite(kept, len(self.users), len(self.items)).to(self.users.device, self.users.dtype)
        self.epochs += 1

    def _encode(self, graph: Graph) -> tuple[Tensor, Tensor]:
        ego = layer = torch.cat([self.users, self.items])
        total = torch.zeros_like(ego)
        for _ in range(self.layers):
            layer = propagate(graph, layer)
            layer = F.cosine_similarity(layer, ego)[:, None] * layer
            total = total + layer
        return total.split([len(self.users), len(self.items)])

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """Sums over the batch: BPR on the propagated rows, squared norms of the rows before."""
        u, p, n = batch_rows(self._encode(self.pruned), users, positives, negatives)
        before = batch_rows((self.users, self.items), users, positives, negatives)
        return {
            "rec": len(users) * bpr_of_rows(u, p, n),
            "reg": self.reg * losses.squared_norm(*before),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """On the whole graph."""
        return self._encode(self.whole)
