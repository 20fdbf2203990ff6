"""VBPR with SEA's plug-in."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sea.data import Dataset
from sea.models.shared import WithPlugIn, raw_features, split_settings
from sea.models.vbpr import VBPR
from sea.separate import Parts, SeparateLearning


class VBPRSEA(WithPlugIn, VBPR):
    """VBPR + SEA (Table 3): the content is read from the transformed features, W [T_m]_m + c, with SEA's two losses.

    Everything else is `VBPR`, up to the initial law of W and c, which is that of all the plug-in's projections. The
    defaults of reg, alpha, beta and tau are those of the authors' log on Baby. The grid has all values of VBPR's own,
    so that neither of the two may choose what the other may not.

    Args:
        alpha, beta, tau: as in `SeparateLearning`.
        settings: all others of `VBPR` and of `SeparateLearning`.
    """

    grid: ClassVar = VBPR.grid | {"alpha": (0.1, 0.01)}
    passes_on: ClassVar = (SeparateLearning, VBPR)
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        alpha: float = 0.1,
        beta: float = 0.01,
        tau: float = 0.1,
        generator: torch.Generator,
        **settings: object,
    ):
        own, rest = split_settings(VBPR, settings)
        self._separation = {"alpha": alpha, "beta": beta, "tau": tau, **rest}
        super().__init__(dataset, generator=generator, **own)

    def _read_content(self, dataset: Dataset, dim: int, generator: torch.Generator) -> None:
        features = raw_features(dataset)
        self.separate = SeparateLearning(features, encoder_width=dim, generator=generator, **self._separation)

    def _content(self, items: Tensor) -> Tensor:
        return F.embedding(items, self._transformed(self.separate()))

    @staticmethod
    def _transformed(parts: dict[str, Parts]) -> Tensor:
        return sum(part.encoder for part in parts.values())  # (n_items, dim): W of the modalities side by side

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """VBPR's two terms on the batch; alignment and distancing over all items."""
        parts = self.separate()
        items = torch.cat([positives, negatives])
        content = F.embedding(items, self._transformed(parts))
        return {**self._ranking(users, items, content), **self.separate.loss(parts)}
