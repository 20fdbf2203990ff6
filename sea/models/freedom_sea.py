"""FREEDOM with SEA's plug-in."""

from typing import ClassVar

import torch
from torch import Tensor

from sea.data import Dataset
from sea.models.freedom import FREEDOM
from sea.separate import SeparateLearning


class FREEDOMSEA(FREEDOM):
    """FREEDOM + SEA (Table 3): f_m is read from the transformed features T_m, and SEA's two losses are added.

    Everything else is `FREEDOM`; X_m is not trained, the square layer that makes T_m of it is. FREEDOM's final
    vectors don't contain f_m, so that the plug-in reaches them through λ alone, by pulling on the users. At
    λ = 0, which the authors' log names, it can't change a score.

    Args:
        dim, layers, k, image_weight, dropped, lam: as in `FREEDOM`.
        separation: all settings of `SeparateLearning`.

    Raises:
        ValueError: λ is not above 0.
    """

    grid: ClassVar = {"dropped": (0.8, 0.9), "alpha": (0.012, 0.1)}

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 2,
        k: int = 10,
        image_weight: float = 0.1,
        dropped: float = 0.8,
        lam: float = 1e-3,
        generator: torch.Generator,
        **separation: object,
    ):
        if lam <= 0:
            raise ValueError(f"'lam' needs to be above 0 in 'FREEDOMSEA', or the plug-in has no effect (got {lam!r})")
        self._separation = separation
        super().__init__(
            dataset,
            dim=dim,
            layers=layers,
            k=k,
            image_weight=image_weight,
            dropped=dropped,
            lam=lam,
            generator=generator,
        )

    def _read_content(self, features: dict[str, Tensor], dim: int, generator: torch.Generator) -> None:
        self.separate = SeparateLearning(features, encoder_width=dim, generator=generator, **self._separation)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """FREEDOM's terms on the batch; alignment and distancing over all items."""
        parts = self.separate()
        contents = [part.encoder for part in parts.values()]
        return {**self._ranking(users, positives, negatives, contents), **self.separate.loss(parts)}

    def before_epoch(self, generator: torch.Generator) -> None:
        """Hand the plug-in its generator."""
        super().before_epoch(generator)
        self.separate.before_epoch(generator)

    def after_step(self) -> None:
        """Fit CLUB's q."""
        self.separate.fit_q()
