"""Full ranking over all items, kept as hits and numbers of targets per user, from which every metric follows."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sea.blocks import all_finite, row_blocks, rows_of
from sea.data import Dataset

KS = (10, 20)
GROUP = 16  # items
DEPTH = 20
"""How much of each user's ranking is kept: every metric at K up to this follows from it exactly."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """How the items that a split holds out were ranked, for each evaluated user.

    Attributes:
        users: ids of the users that were evaluated, shape (n,), ascending.
        targets: T_u, how many items the split holds out of each of them, shape (n,).
        hits: whether the item at rank 1, 2, ... is one of them, shape (n, depth), bool.
        recommended: how often each item is among the first `depth` of a user, shape (n_items,).
    """

    users: np.ndarray
    targets: np.ndarray
    hits: np.ndarray
    recommended: np.ndarray

    def recall(self, k: int) -> np.ndarray:
        """Recall@K = hits in the top K / T_u, by user, shape (n,)."""
        return self._top(k).sum(1) / self.targets

    def ndcg(self, k: int) -> np.ndarray:
        """NDCG@K = Σ_{hits at rank r ≤ K} 1/log2(r+1) / Σ_{r ≤ min(K, T_u)} 1/log2(r+1), by user, shape (n,)."""
        discounts = 1 / np.log2(np.arange(2, k + 2))
        ideal = np.concatenate([[0], discounts.cumsum()])
        top = self._top(k)
        return top @ discounts[: top.shape[1]] / ideal[np.minimum(k, self.targets)]

    def _top(self, k: int) -> np.ndarray:
        if not 1 <= k <= DEPTH:
            raise ValueError(f"'k' needs to lie between 1 and {DEPTH} in 'Ranking' (got {k!r})")
        return self.hits[:, :k]  # fewer columns where there are fewer items

    @property
    def values(self) -> dict[str, np.ndarray]:
        """The tables' metrics by name, "recall@10", "recall@20", "ndcg@10", "ndcg@20", by user, shape (n,) each."""
        return {f"recall@{k}": self.recall(k) for k in KS} | {f"ndcg@{k}": self.ndcg(k) for k in KS}

    def mean(self) -> dict[str, float]:
        """The metrics' averages over the evaluated users, unrounded."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps, all int32: a user's hits are the bits of one number, rank 1 the lowest."""
        bits = self.hits.astype(np.int32) @ (1 << np.arange(self.hits.shape[1], dtype=np.int32))
        depth = np.array([self.hits.shape[1]])
        arrays = {"users": self.users, "targets": self.targets, "hits": bits, "recommended": self.recommended}
        return {name: torch.from_numpy(a.astype(np.int32)) for name, a in {**arrays, "depth": depth}.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Ranking":
        """The ranking whose `tensors` these are."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        hits = (arrays["hits"][:, None] >> np.arange(arrays["depth"][0])) & 1
        return cls(arrays["users"], arrays["targets"], hits.astype(bool), arrays["recommended"])


@torch.no_grad()
def evaluate(
    user_vectors: Tensor, item_vectors: Tensor, dataset: Dataset, split: str = "test", mask_valid: bool = False
) -> Ranking:
    """Rank all items for each user by dot product, the user's train items masked, and keep the first 20.

    Users without items in `split`, or without any in train, are left out. Works in blocks of users, on the
    vectors' device.

    Args:
        user_vectors, item_vectors: (n_users, d) and (n_items, d). The users' may be sparse (COO).
        split: "valid" or "test".
        mask_valid: at test, mask the validation items as well. Off in the published protocol, where they
            compete with the test items.

    Raises:
        FloatingPointError: the vectors hold NaN or infinity.
    """
    if not (all_finite(user_vectors) and all_finite(item_vectors)):
        raise FloatingPointError("'user_vectors' and 'item_vectors' need to be finite in 'evaluate' (got NaN or inf)")
    device, n_items = item_vectors.device, len(item_vectors)
    target_counts = np.diff(dataset.lists[split][0])
    users = np.flatnonzero((target_counts > 0) & dataset.trained_users)
    masked = ["train", "valid"] if mask_valid and split == "test" else ["train"]
    lists = {name: _on(device, *dataset.lists[name]) for name in (*masked, split)}
    chosen = torch.from_numpy(users).to(device)
    top = torch.empty(len(users), min(DEPTH, n_items), dtype=torch.long, device=device)
    values, columns, memory = item_vectors.new_empty(top.shape), item_vectors.T.contiguous(), None
    for rows in row_blocks(len(users), n_items, device, 1 / 4):
        block = chosen[rows]
        memory = item_vectors.new_empty(len(block), n_items) if memory is None else memory[: len(block)]
        scores = torch.mm(rows_of(user_vectors, block), columns, out=memory)  # (b, n_items)
        for name in masked:
            scores[_positions(block, *lists[name])] = -torch.inf
        values[rows], top[rows] = _largest(scores, top.shape[1])
    hits = _among(chosen, top, n_items, *lists[split])
    recommended = torch.bincount(top[values > -torch.inf], minlength=n_items)  # without the masked
    return Ranking(users, target_counts[users], hits.cpu().numpy(), recommended.cpu().numpy())


def _largest(scores: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Values and columns of each row's `depth` largest, (b, depth) each, as `topk` finds them, in less time.

    Columns j, j + m, j + 2m, ... are a group. The largest lie in the `depth` groups with the largest maxima, or in the
    columns that no group has, so that only these are sorted.
    """
    n = scores.shape[1]
    m = n // GROUP
    if m < 4 * depth:
        return scores.topk(depth)
    groups = scores[:, : m * GROUP].unflatten(1, (GROUP, m)).amax(1).topk(depth).indices
    members = groups[:, None] + m * torch.arange(GROUP, device=scores.device)[:, None]  # (b, GROUP, depth)
    others = torch.arange(m * GROUP, n, device=scores.device).expand(len(scores), -1)
    among = torch.cat([members.flatten(1), others], dim=1)
    values, places = scores.gather(1, among).topk(depth)
    return values, among.gather(1, places)


def _among(users: Tensor, items: Tensor, n_items: int, offsets: Tensor, listed: Tensor) -> Tensor:
    """Whether each of the users' `items` (n, k) is among those listed for that user; shape (n, k)."""
    rows, wanted = _positions(users, offsets, listed)
    keys = rows * n_items + wanted  # ascending, as each user's list is
    asked = torch.arange(len(users), device=items.device)[:, None] * n_items + items
    return keys[torch.searchsorted(keys, asked).clamp_(max=len(keys) - 1)] == asked


def _on(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]


def _positions(users: Tensor, offsets: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """(row, item) of every listed item of `users`, row counting within `users`."""
    counts = offsets[users + 1] - offsets[users]
    rows = torch.arange(len(users), device=users.device).repeat_interleave(counts)
    within = torch.arange(len(rows), device=users.device) - (counts.cumsum(0) - counts)[rows]
    return rows, items[offsets[users][rows] + within]
