"""FREEDOM with SEA's plug-in."""

from typing import ClassVar

import torch
from torch import Tensor

from sea.data import Dataset
from sea.models.freedom import FREEDOM
from sea.models.shared import WithPlugIn, split_settings
from sea.separate import SeparateLearning


class FREEDOMSEA(WithPlugIn, FREEDOM):
    """FREEDOM + SEA (Table 3): f_m is read from the transformed features T_m, and SEA's two losses are added.

    Everything else is `FREEDOM`; X_m is not trained, the square layer that makes T_m of it is. FREEDOM's final
    vectors don't contain f_m: the plug-in reaches them through λ alone, by pulling on the users. At λ = 0, which
    the authors' log on Baby names, it can't change a score. So the default here is the largest λ of FREEDOM's grid,
    1e-3, while `FREEDOM`'s is 0. The grid has all values of FREEDOM's own but λ = 0.

    Args:
        lam: λ.
        settings: all others of `FREEDOM` and of `SeparateLearning`.

    Raises:
        ValueError: λ is not above 0.
    """

    grid: ClassVar = FREEDOM.grid | {"lam": FREEDOM.grid["lam"][1:], "alpha": (0.012, 0.1)}
    passes_on: ClassVar = (SeparateLearning, FREEDOM)
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        lam: float = 1e-3,
        generator: torch.Generator,
        **settings: object,
    ):
        if lam <= 0:
            raise ValueError(f"'lam' needs to be above 0 in 'FREEDOMSEA', or the plug-in has no effect (got {lam!r})")
        own, self._separation = split_settings(FREEDOM, settings)
        super().__init__(dataset, lam=lam, generator=generator, **own)

    def _read_content(self, features: dict[str, Tensor], dim: int, generator: torch.Generator) -> None:
        self.separate = SeparateLearning(features, encoder_width=dim, generator=generator, **self._separation)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """FREEDOM's terms on the batch; alignment and distancing over all items."""
        parts = self.separate()
        contents = [part.encoder for part in parts.values()]
        return {**self._ranking(users, positives, negatives, contents), **self.separate.loss(parts)}
