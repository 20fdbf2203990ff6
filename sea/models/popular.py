"""Popular: the same list for everybody."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sea.data import Dataset
from sea.models.closed_form import ClosedForm


class Popular(ClosedForm):
    """Items by their number of train interactions, whoever the user is: s(u, i) = n_i. Not in the paper.

    The least that a model has to beat.
    """

    revision: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, *, generator: torch.Generator):
        super().__init__()
        counts = np.bincount(dataset.train[:, 1], minlength=dataset.n_items)
        self.register_buffer("counts", torch.from_numpy(counts).float()[:, None], persistent=False)
        self.register_buffer("ones", torch.ones(dataset.n_users, 1), persistent=False)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """1 for each user, n_i for each item."""
        return self.ones, self.counts
