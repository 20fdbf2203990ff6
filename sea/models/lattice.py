"""LATTICE: an item graph learned from projected features."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import normalise, propagate
from sea.models.learned_graph import LearnedGraph, Summands
from sea.models.shared import batch_rows, bpr_of_rows


class LATTICE(LearnedGraph):
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
        super().__init__(dataset, dim, layers, k, lam, generator)
        self.reg = reg
        self.logits = nn.Parameter(torch.full((len(self.features),), 0.5))
        self.weights = None  # w in the epoch's first batch

    def _learn(self) -> list[Summands]:
        """N(Σ_m w_m S̃_m), one graph."""
        parts = [(index, w * values) for w, (index, values) in zip(self.logits.softmax(0), self._cosines())]
        degree = sum(values.sum(1) for _, values in parts)
        return [[(index, normalise(index, values, degree)) for index, values in parts]]

    def _smooth(self, learned: Tensor, weights: Tensor) -> Tensor:
        """S Q, given the learned graph's share of it."""
        frozen = sum(w * propagate(graph, self.items) for w, graph in zip(weights, self.frozen))
        return (1 - self.lam) * learned + self.lam * frozen

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and the squared norms of the batch's final rows."""
        weights = self.logits.softmax(0) if self.constant is None else self.weights
        self.weights = weights.detach()
        (learned,) = self._steps()
        u, p, n = batch_rows(self._vectors(self._smooth(learned, weights)), users, positives, negatives)
        return {
            "rec": bpr_of_rows(u, p, n),
            "reg": self.reg * losses.squared_norm(u, p, n) / self.batch_size,
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """With a graph of the present features."""
        (learned,) = self._products(self._learn())
        return self._vectors(self._smooth(learned, self.logits.softmax(0)))
