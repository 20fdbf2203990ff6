"""MICRO: an item graph for each modality, fused by attention and contrast."""

from typing import ClassVar

import torch
from torch import Tensor

from sea import losses
from sea.data import Dataset
from sea.graphs import normalise, propagate
from sea.layers import linear
from sea.models.learned_graph import LearnedGraph, Summands
from sea.models.shared import batch_rows, bpr_of_rows


class MICRO(LearnedGraph):
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
        super().__init__(dataset, dim, layers, k, lam, generator)
        self.reg, self.contrast, self.tau = reg, contrast, tau
        self.query = linear(dim, dim, generator)
        self.key = linear(dim, 1, generator).weight

    def _learn(self) -> list[Summands]:
        """N(S̃_m), a graph for each modality."""
        return [[(index, normalise(index, values))] for index, values in self._cosines()]

    def _fuse(self, learned: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """H_m (M, n_items, dim), a (M, n_items, 1) and H (n_items, dim), given the learned graphs' share."""
        frozen = torch.stack([propagate(graph, self.items) for graph in self.frozen])
        smoothed = (1 - self.lam) * torch.stack(learned) + self.lam * frozen
        attention = (self.query(smoothed).tanh() @ self.key.T).softmax(0)
        return smoothed, attention, (attention * smoothed).sum(0)

    def parts(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """H_m and the attention a_m (n_items, 1) by modality, and H (n_items, dim), graphs of the present features."""
        smoothed, attention, fused = self._fuse(self._products(self._learn()))
        return dict(zip(self.features, smoothed)), dict(zip(self.features, attention)), fused

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and squared norms on the batch; the contrast over all items."""
        smoothed, _, fused = self._fuse(self._steps())
        u, p, n = batch_rows(self._vectors(fused), users, positives, negatives)
        contrasts = [losses.two_view_contrast(h, fused, self.tau) for h in smoothed]
        return {
            "rec": bpr_of_rows(u, p, n),
            "reg": self.reg * losses.squared_norm(u, p, n) / self.batch_size,
            "contrast": self.contrast * sum(contrasts),
        }

    def vectors(self) -> tuple[Tensor, Tensor]:
        """With graphs of the present features."""
        return self._vectors(self.parts()[2])
