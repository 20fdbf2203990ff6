"""What several models are made of."""

import torch

from sea.separate import SeparateLearning


class PlugIn:
    """The hooks of a model with SEA's plug-in, `separate`; stands before that model's class among the bases."""

    separate: SeparateLearning

    def before_epoch(self, generator: torch.Generator) -> None:
        """Hand the plug-in its generator."""
        super().before_epoch(generator)
        self.separate.before_epoch(generator)

    def after_step(self) -> None:
        """Fit CLUB's q."""
        super().after_step()
        self.separate.fit_q()


def split_settings(model: type, settings: dict) -> tuple[dict, dict]:
    """Those of `settings` that are the model's own, and the rest."""
    own = model.settings()
    return {k: v for k, v in settings.items() if k in own}, {k: v for k, v in settings.items() if k not in own}
