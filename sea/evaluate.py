"""Full ranking over all items: Recall and NDCG, with every user's value kept."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sea.blocks import row_blocks
from sea.data import Dataset

KS = (10, 20)


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of one split, a value for each evaluated user.

    Attributes:
        users: ids of the users that were evaluated, shape (n,), ascending.
        values: by metric ("recall@20", "ndcg@20", ...), shape (n,), float64.
    """

    users: np.ndarray
    values: dict[str, np.ndarray]

    def mean(self) -> dict[str, float]:
        """Averages over the evaluated users, unrounded."""
        return {name: float(values.mean()) for name, values in self.values.items()}


@torch.no_grad()
def evaluate(
    user_vectors: Tensor,
    item_vectors: Tensor,
    dataset: Dataset,
    split: str = "test",
    ks: tuple[int, ...] = KS,
    mask_valid: bool = False,
) -> Scores:
    """Rank all items for each user by dot product, the user's train items masked.

        Recall@K = hits in the top K / T_u               T_u: the user's items in `split`
        NDCG@K   = Σ_{hits at rank r ≤ K} 1/log2(r+1) / Σ_{r ≤ min(K, T_u)} 1/log2(r+1)

    Users without items in `split`, or without any in train, are left out. Works in blocks of users, on the
    vectors' device.

    Args:
        user_vectors, item_vectors: (n_users, d) and (n_items, d).
        split: "valid" or "test".
        ks: cut-offs.
        mask_valid: at test, mask the validation items as well. Off in the published protocol, where they
            compete with the test items.
    """
    if not (torch.isfinite(user_vectors).all() and torch.isfinite(item_vectors).all()):
        raise FloatingPointError("'user_vectors' and 'item_vectors' need to be finite in 'evaluate' (got NaN or inf)")
    device, n_items = item_vectors.device, len(item_vectors)
    target_counts = np.diff(dataset.lists[split][0])
    users = np.flatnonzero((target_counts > 0) & dataset.trained_users)
    depth = min(max(ks), n_items)
    masked = ["train", "valid"] if mask_valid and split == "test" else ["train"]
    lists = {name: _on(device, *dataset.lists[name]) for name in (*masked, split)}
    chosen = torch.from_numpy(users).to(device)
    hits = torch.empty(len(users), depth, dtype=torch.bool, device=device)
    for rows in row_blocks(len(users), n_items, device):
        block = chosen[rows]
        scores = user_vectors[block] @ item_vectors.T  # (b, n_items)
        for name in masked:
            scores[_positions(block, *lists[name])] = -torch.inf
        top = scores.topk(depth).indices
        relevant = torch.zeros_like(scores, dtype=torch.bool)
        relevant[_positions(block, *lists[split])] = True
        hits[rows] = relevant.gather(1, top)
    return Scores(users, _metrics(hits.cpu().numpy(), target_counts[users], ks))


def _on(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]


def _positions(users: Tensor, offsets: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """(row, item) of every listed item of `users`, row counting within `users`."""
    counts = offsets[users + 1] - offsets[users]
    rows = torch.arange(len(users), device=users.device).repeat_interleave(counts)
    within = torch.arange(len(rows), device=users.device) - (counts.cumsum(0) - counts)[rows]
    return rows, items[offsets[users][rows] + within]


def _metrics(hits: np.ndarray, targets: np.ndarray, ks: tuple[int, ...]) -> dict[str, np.ndarray]:
    discounts = 1 / np.log2(np.arange(2, max(ks) + 2))
    ideal = np.concatenate([[0], discounts.cumsum()])
    values = {f"recall@{k}": hits[:, :k].sum(1) / targets for k in ks}
    for k in ks:
        top = hits[:, :k]
        values[f"ndcg@{k}"] = top @ discounts[: top.shape[1]] / ideal[np.minimum(k, targets)]
    return values
