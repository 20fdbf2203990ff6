"""SEA's computation written plainly, operation by operation as the released program goes about it.

T_m = X_m Wᵀ + b is formed in full, messages go along an edge list, modalities are handled one at a time,
SoloSim's N x N logits and the item graph's N x N similarities are stored, Adam is unfused, negatives are drawn
one by one. What the released program computes to no effect (node dropping, the shuffled rows of q's steps) is
left out. Evaluation is a loop over users.
"""

import copy
import math
import random

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.data import Dataset
from sea.evaluate import KS
from sea.models import SEA
from sea.separate import Parts

LOOPED = 300  # users that `Plain.evaluate` ranks for, at most
K, IMAGE_WEIGHT = 10, 0.1  # of the item graph, as SEA's defaults are


class Plain(nn.Module):
    """The plain form, on the device of `model`, with its weights, settings, features and frozen item graph."""

    exact_club = False  # the expectation over all pairs in place of one random permutation

    def __init__(self, model: SEA, dataset: Dataset):
        super().__init__()
        separate = model.separate
        self.transform, self.projections, self.heads = copy.deepcopy(
            (separate.transform, separate.projections, separate.heads)
        )
        self.mlps, self.preferences, self.user_weights = copy.deepcopy(
            (model.mlps, model.preferences, model.user_weights)
        )
        self.q = q_nets(*separate.q.parameters())
        self.alpha, self.beta, self.tau, self.q_steps = separate.alpha, separate.beta, separate.tau, separate.q_steps
        self.layers_ui, self.layers_ii = model.layers_ui, model.layers_ii
        self.features = {m: getattr(separate, f"features_{m}") for m in separate.modalities}
        self.item_item = model.item_item[0].matrix.to_sparse_coo()
        self._take_edges(dataset)
        trained = [p for name, p in self.named_parameters() if not name.startswith("q.")]
        self.optimizer = torch.optim.Adam(trained, lr=model.lr, foreach=False, fused=False)
        q_lr = separate.q.optimizer.defaults["lr"]
        self.q_optimizer = torch.optim.Adam(self.q.parameters(), lr=q_lr, foreach=False, fused=False)
        self.dataset = dataset
        self.owned, self.wanted = _sets(dataset.train), _sets(dataset.valid)
        self.occurring = np.unique(dataset.train[:, 1]).tolist()
        self.random = random.Random(0)
        self.generator = torch.Generator(self.user_weights.device).manual_seed(0)

    def _take_edges(self, dataset: Dataset) -> None:
        users, items = dataset.train[:, 0], dataset.train[:, 1] + dataset.n_users
        source, target = np.concatenate([users, items]), np.concatenate([items, users])
        degree = np.bincount(source).astype(np.float64)
        weight = ((degree[source] * degree[target]) ** -0.5).astype(np.float32)
        device = self.user_weights.device
        self.source, self.target = torch.from_numpy(source).to(device), torch.from_numpy(target).to(device)
        self.edge_weight = torch.from_numpy(weight).to(self.user_weights)[:, None]

    def negatives(self, users: Tensor) -> Tensor:
        """A negative for each user, by rejection."""
        drawn = []
        for user in users.tolist():
            item = self.random.choice(self.occurring)
            while item in self.owned[user]:
                item = self.random.choice(self.occurring)
            drawn.append(item)
        return torch.tensor(drawn, device=users.device)

    def read(self) -> dict[str, Parts]:
        """The transformed features T_m, stored, and each of their projections in turn."""
        parts = {}
        for m, features in self.features.items():
            transformed = self.transform[m](features)  # (n_items, d_m)
            half = transformed.shape[1] // 2
            generic, unique = transformed[:, :half], transformed[:, half:]
            inputs = {"encoder": transformed, "head": generic, "generic": generic, "unique": unique}
            parts[m] = Parts(**{name: self.projections[m][name](part) for name, part in inputs.items()})
        return parts

    def propagate(self, tables: list[Tensor]) -> tuple[Tensor, Tensor]:
        """User and item vectors from the modalities' (nodes, d) inputs, users not yet weighted."""
        n_users = len(self.user_weights)
        users, items = [], []
        for x in tables:
            total = x
            for _ in range(self.layers_ui):
                messages = x.index_select(0, self.source) * self.edge_weight  # (edges, d)
                x = torch.zeros_like(x).index_add_(0, self.target, messages)
                total = total + x
            users.append(total[:n_users])
            items.append(total[n_users:])
        items = torch.cat(items, dim=1)
        h = items
        for _ in range(self.layers_ii):
            h = torch.sparse.mm(self.item_item, h)
        return torch.cat(users, dim=1), items + h

    def align(self, parts: dict[str, Parts]) -> Tensor:
        """SoloSim by its N x N logits, text against image."""
        z = {m: F.normalize(self.heads[m](part.head), dim=1) for m, part in parts.items()}
        logits = z["text"] @ z["image"].T / self.tau
        return -F.log_softmax(logits, dim=1).diagonal().mean()

    def distance(self, parts: dict[str, Parts]) -> Tensor:
        """CLUB with one permutation, halved and clamped at zero in each modality, the mean of the two."""
        self.pairs = [(part.generic.detach(), part.unique.detach()) for part in parts.values()]
        terms = []
        for part in parts.values():
            u = part.unique
            mu, logvar = (net(part.generic) for net in self.q)
            unpaired = ((mu[:, None] - u) ** 2).mean(1) if self.exact_club else (mu - u[self._permutation(u)]) ** 2
            positive, negative = (-squares / (2 * logvar.exp()) for squares in ((mu - u) ** 2, unpaired))
            terms.append(((positive - negative).sum(1).mean() / 2).clamp(min=0))
        return sum(terms) / 2

    def _permutation(self, rows: Tensor) -> Tensor:
        return torch.randperm(len(rows), generator=self.generator, device=rows.device)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The weighted terms, as SEA.loss names them."""
        parts = self.read()
        tables = [
            F.normalize(torch.cat([self.preferences[m], self.mlps[m](part.encoder)]), dim=1)
            for m, part in parts.items()
        ]
        user_vectors, item_vectors = self.propagate(tables)
        columns = user_vectors.chunk(len(tables), dim=1)
        user_vectors = torch.cat([self.user_weights[:, j, None] * x for j, x in enumerate(columns)], dim=1)
        u, p, n = user_vectors[users], item_vectors[positives], item_vectors[negatives]
        rec = -torch.log2(torch.sigmoid((u * p).sum(1) - (u * n).sum(1))).mean()
        return {"rec": rec, "align": self.alpha * self.align(parts), "distance": self.beta * self.distance(parts)}

    def take(self, users: Tensor, positives: Tensor, negatives: Tensor) -> None:
        """One step on a batch, and q's."""
        terms = self.loss(users, positives, negatives)
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        self.optimizer.step()
        self.fit_q()

    def q_loss(self) -> Tensor:
        """-log likelihood of the last batch's parts, summed over the modalities, up to a constant."""
        total = 0
        for g, u in self.pairs:
            mu, logvar = (net(g) for net in self.q)
            total = total + ((mu - u) ** 2 / (2 * logvar.exp()) + logvar / 2).sum(1).mean()
        return total

    def fit_q(self) -> None:
        """q's full-batch steps."""
        for _ in range(self.q_steps):
            self.q_optimizer.zero_grad()
            self.q_loss().backward()
            self.q_optimizer.step()

    def item_graph(self) -> sp.csr_array:
        """S by each modality's full similarity matrix; on the CPU, as SEA builds it."""
        n = self.dataset.n_items
        weights = {"image": IMAGE_WEIGHT, "text": 1 - IMAGE_WEIGHT}
        graph = sp.csr_array((n, n), dtype=np.float32)
        for m, features in self.dataset.features.items():
            unit = F.normalize(torch.from_numpy(features), dim=1)
            neighbours = (unit @ unit.T).topk(K).indices.flatten().numpy()  # itself first
            values = np.full(n * K, weights[m] / K, dtype=np.float32)
            graph = graph + sp.csr_array((values, (np.arange(n).repeat(K), neighbours)), shape=(n, n))
        return graph

    def evaluate(self, user_vectors: Tensor, item_vectors: Tensor) -> pd.DataFrame:
        """Recall and NDCG on valid, one user after the other, for `LOOPED` users: a row for each."""
        users = sorted(self.wanted.keys() & self.owned.keys())[:LOOPED]
        values = {f"{metric}@{k}": [] for metric in ("recall", "ndcg") for k in KS}
        for user in users:
            scores = item_vectors @ user_vectors[user]
            scores[list(self.owned[user])] = -torch.inf
            top = scores.topk(min(max(KS), len(scores))).indices.tolist()
            wanted = self.wanted[user]
            for k in KS:
                ranks = [rank for rank, item in enumerate(top[:k]) if item in wanted]
                ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(wanted))))
                values[f"recall@{k}"].append(len(ranks) / len(wanted))
                values[f"ndcg@{k}"].append(sum(1 / math.log2(rank + 2) for rank in ranks) / ideal)
        return pd.DataFrame({"users": users, **values})


def _sets(pairs: np.ndarray) -> dict[int, set[int]]:
    """Each user's items."""
    return {user: set(items.tolist()) for user, items in pd.DataFrame(pairs).groupby(0)[1]}


def q_nets(weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> nn.ModuleList:
    """The μ and the logvar net as ordinary layers, from the tensors of a `ConditionalGaussian` with one head."""
    nets = nn.ModuleList()
    for w1, b1, w2, b2 in zip(weight1[0].chunk(2, dim=1), bias1[0, 0].chunk(2), weight2[:, 0], bias2[:, 0, 0]):
        net = nn.Sequential(nn.Linear(*w1.shape), nn.ReLU(), nn.Linear(*w2.shape)).to(w1)
        for parameter, value in zip(net.parameters(), (w1.T, b1, w2.T, b2)):
            parameter.data.copy_(value)
        nets.append(net)
    nets[1].append(nn.Tanh())
    return nets
