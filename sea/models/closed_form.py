"""Models that are computed and not trained."""

from torch import Tensor

from sea.models.base import Recommender


class ClosedForm(Recommender):
    """A model without parameters: all of it follows from the data and the settings, as soon as it is built.

    `sea.train.fit` validates it once, and a run of it keeps no weights, as building it again gives it back. Nothing is
    drawn from the generator and no step is taken, so the seed, `lr`, `batch_size` and `epochs` change nothing: on one
    dataset all seeds give the same numbers.
    """

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """No terms: there is nothing to minimise."""
        return {}
