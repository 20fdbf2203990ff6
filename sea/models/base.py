"""The contract between a model and everything else."""

import inspect
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from sea.blocks import row_blocks, rows_of


class Recommender(nn.Module):
    """A model knows its parameters, its loss for a batch, and its final vectors; a score is their dot product.

    A model is built as `Model(dataset, generator=generator, **settings)`; the generator draws its initial
    values.

    Attributes:
        revision: raised whenever the model, or a shared part that it uses, computes something else. A cached run of
            another revision is not used.
        lr: Adam's published step size for the model.
        lr_decay: the step size is lr · lr_decay^(epoch / 50).
        weight_decay: AdamW's; every step first takes the share lr · weight_decay off each parameter.
        batch_size: the configured size of a batch, set by `sea.train.fit`; the last of an epoch may be shorter.
        grid: the values that its authors searched, by setting ("lr" too); the paper profile searches among them.
        published: settings that its authors chose for one dataset or another, where they differ from the defaults.
            They belong to the grid, whatever its values are.
        around: values that are tried next, with the rest as in the best point of the grid.
        replays: whether a batch does the same operations on the same memory in every epoch, so that a
            GPU can replay an earlier one (`sea.replay`).
        passes_on: the classes whose settings `__init__` takes by `**`, too.
        step_sizes: settings that are step sizes of other optimisers; in a run they are its lr, unless they are given.

    A parameter that the model fits in turn, by a step of its own (CLUB's q), has `requires_grad` off, and the
    submodule that owns it keeps its optimiser as an attribute `optimizer`: the training loop stores both.
    """

    revision: ClassVar[int]
    lr = 1e-3
    lr_decay = 1.0
    weight_decay = 0.0
    batch_size = 2048
    grid: ClassVar[dict[str, tuple]] = {}
    published: ClassVar[tuple[dict, ...]] = ()
    around: ClassVar[dict[str, tuple]] = {}
    replays: ClassVar[bool] = False
    passes_on: ClassVar[tuple[type, ...]] = ()
    step_sizes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def settings(cls) -> dict[str, object]:
        """The model's settings and their defaults, by name; "lr" is not among them."""
        found = {}
        for owner in (*cls.passes_on, cls):
            arguments = inspect.signature(owner).parameters.values()
            found |= {a.name: a.default for a in arguments if a.kind is a.KEYWORD_ONLY and a.name != "generator"}
        return found

    @classmethod
    def in_effect(cls, params: dict[str, object]) -> dict[str, object]:
        """The settings that can change the result; trainings that agree in them have the same numbers.

        Args:
            params: all settings of the model, defaults included.
        """
        return params

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The terms of the objective for a batch of (user, positive item, negative item), each (batch,).

        Returns scalars by name, weights included: their sum is what is minimised.
        """
        raise NotImplementedError

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Final user and item vectors, (n_users, d) and (n_items, d); the users' may be sparse (COO)."""
        raise NotImplementedError

    @torch.no_grad()
    def recommend(self, users: Sequence[int], k: int = 10, exclude: np.ndarray | None = None) -> np.ndarray:
        """The k items with the highest score for each of `users`, best first.

        Args:
            users: user ids, in any order; `Dataset.user_ids` has those of labels.
            k: how many items.
            exclude: pairs that are not recommended, shape (n, 2), columns user and item, such as `dataset.train`.

        Returns:
            Item ids, shape (len(users), k), -1 where fewer than k are left; `Dataset.titles` names them.

        Raises:
            ValueError: k is below 1, or a user does not exist.
        """
        if k < 1:
            raise ValueError(f"'k' needs to be at least 1 in 'recommend' (got {k!r})")
        training = self.training
        user_vectors, item_vectors = self.eval().vectors()
        self.train(training)
        users, n_users, n_items = np.asarray(users, dtype=np.int64), len(user_vectors), len(item_vectors)
        unknown = (users < 0) | (users >= n_users)
        if unknown.any():
            raise ValueError(f"'users' needs ids from 0 to {n_users - 1} in 'recommend' (got {users[unknown][0]})")
        left_out = sp.csr_array((n_users, n_items), dtype=bool)
        if exclude is not None:
            left_out = sp.csr_array((np.ones(len(exclude), dtype=bool), tuple(exclude.T)), shape=left_out.shape)
        found = np.full((len(users), k), -1)
        for rows in row_blocks(len(users), n_items, item_vectors.device):
            chosen = torch.from_numpy(users[rows]).to(user_vectors.device)
            scores = rows_of(user_vectors, chosen) @ item_vectors.T
            scores[*map(torch.from_numpy, left_out[users[rows]].nonzero())] = -torch.inf
            best, items = (x.cpu().numpy() for x in scores.topk(min(k, n_items)))
            found[rows, : items.shape[1]] = np.where(best > -np.inf, items, -1)
        return found

    def before_epoch(self, generator: torch.Generator) -> None:
        """Optional hook, at the start of an epoch: redraw a graph, for example."""

    def after_step(self) -> None:
        """Optional hook, after each step of the optimiser: fit CLUB's q, for example."""
