"""Seconds per training batch of SEA: this package's form beside the released program's computation, written plainly.

    python benchmarks/batch.py [--shape baby|small] [--threads 2] [--repeats 5] [--out FILE]

Both forms start from the same weights and compute the same thing, which is checked first, in double precision:
losses, gradients of all parameters, gradients of q. Then they take turns in one process; medians are reported.

The plain form forms T_m = X_m Wᵀ + b in full, sends messages along an edge list, handles one modality at a
time, stores SoloSim's N x N logits, steps with an unfused Adam and draws negatives one by one. What the released
program computes to no effect (node dropping, the shuffled rows of q's steps) is left out.
"""

import argparse
import copy
import os
import platform
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.data import Dataset
from sea.graphs import layer_sum
from sea.models import SEA
from sea.separate import Reading
from sea.train import NegativeSampler

SHAPES = {
    "baby": {"n_users": 19445, "n_items": 7050, "n_train": 118551, "widths": {"image": 4096, "text": 384}},
    "small": {"n_users": 500, "n_items": 300, "n_train": 5000, "widths": {"image": 64, "text": 32}},
}
BATCH = 2048
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-9, 1e-8
BEFORE_BATCH_NORM = (("readers", "head.bias"), ("heads", "2.bias"))  # it takes them off: their gradient is zero
ROUNDING = 1e-13  # of the largest gradient: zero but for rounding


def random_dataset(shape: str, seed: int = 0, held_out: int = 100) -> Dataset:
    """Gaussian features and distinct random pairs; every user and item occurs in train."""
    rng = np.random.default_rng(seed)
    n_users, n_items, n_train, widths = SHAPES[shape].values()
    cover = np.arange(max(n_users, n_items))  # as many distinct pairs as it takes for all of them to occur
    cover = rng.permutation(n_users)[cover % n_users] * n_items + rng.permutation(n_items)[cover % n_items]
    drawn = rng.choice(n_users * n_items, n_train + 2 * held_out, replace=False)
    codes = np.concatenate([cover, drawn[~np.isin(drawn, cover)]])
    pairs = np.stack(np.divmod(codes, n_items), axis=1)
    train, valid, test, _ = np.split(pairs, [n_train, n_train + held_out, n_train + 2 * held_out])
    features = {m: rng.standard_normal((n_items, width), dtype=np.float32) for m, width in widths.items()}
    return Dataset(shape, rng.permutation(train), valid, test, features, n_users, n_items)


class Ours:
    """SEA as `sea.train.fit` trains it."""

    def __init__(self, model: SEA, dataset: Dataset):
        self.model, self.loss, self.fit_q = model, model.loss, model.after_step
        self.read, self.align, self.distance = model.separate, model.separate._align, model.separate._distance
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=model.lr, fused=True)
        self.sampler = NegativeSampler(dataset, torch.device("cpu"))
        self.generator = torch.Generator().manual_seed(0)

    def negatives(self, users: Tensor) -> Tensor:
        """A negative for each user."""
        return self.sampler(users, self.generator)

    def propagate(self, tables: list[Tensor]) -> tuple[Tensor, Tensor]:
        """User and item vectors from the modalities' (nodes, d) inputs, users not yet weighted."""
        x = torch.cat(tables, dim=1)
        n_users = len(self.model.user_weights)
        users, items = layer_sum(self.model.user_item, x, self.model.layers_ui).split([n_users, len(x) - n_users])
        return users, items + self.model._along_items(items)


class Plain(nn.Module):
    """The same, operation by operation as the released program goes about it.

    Takes the weights, the settings, the features and the frozen item graph of `model`.
    """

    exact_club = False  # the expectation over all pairs in place of one random permutation

    def __init__(self, model: SEA, dataset: Dataset):
        super().__init__()
        separate = model.separate
        self.transform, self.readers, self.heads = copy.deepcopy((separate.transform, separate.readers, separate.heads))
        self.mlps, self.preferences, self.user_weights = copy.deepcopy(
            (model.mlps, model.preferences, model.user_weights)
        )
        self.q = q_nets(*separate.q.parameters())
        self.alpha, self.beta, self.tau, self.q_steps = separate.alpha, separate.beta, separate.tau, separate.q_steps
        self.layers_ui, self.layers_ii = model.layers_ui, model.layers_ii
        self.features = {m: getattr(separate, f"features_{m}") for m in separate.modalities}
        self.item_graph = model.item_item[0].matrix.to_sparse_coo()
        users, items = dataset.train[:, 0], dataset.train[:, 1] + dataset.n_users
        source, target = np.concatenate([users, items]), np.concatenate([items, users])
        degree = np.bincount(source).astype(np.float64)
        weight = ((degree[source] * degree[target]) ** -0.5).astype(np.float32)
        self.source, self.target = torch.from_numpy(source), torch.from_numpy(target)
        self.edge_weight = torch.from_numpy(weight).to(self.user_weights.dtype)[:, None]
        trained = [p for name, p in self.named_parameters() if not name.startswith("q.")]
        self.optimizer = torch.optim.Adam(trained, lr=model.lr, foreach=False, fused=False)
        q_lr = separate.q.optimizer.defaults["lr"]
        self.q_optimizer = torch.optim.Adam(self.q.parameters(), lr=q_lr, foreach=False, fused=False)
        self.owned = {user: set(items.tolist()) for user, items in pd.DataFrame(dataset.train).groupby(0)[1]}
        self.occurring = np.unique(dataset.train[:, 1]).tolist()
        self.random = random.Random(0)

    def negatives(self, users: Tensor) -> Tensor:
        """A negative for each user, by rejection."""
        drawn = []
        for user in users.tolist():
            item = self.random.choice(self.occurring)
            while item in self.owned[user]:
                item = self.random.choice(self.occurring)
            drawn.append(item)
        return torch.tensor(drawn)

    def read(self) -> dict[str, Reading]:
        """The transformed features T_m, stored, and each of their readers in turn."""
        readings = {}
        for m, features in self.features.items():
            transformed = self.transform[m](features)  # (n_items, d_m)
            half = transformed.shape[1] // 2
            generic, unique = transformed[:, :half], transformed[:, half:]
            inputs = {"encoder": transformed, "head": generic, "generic": generic, "unique": unique}
            readings[m] = Reading(**{name: self.readers[m][name](part) for name, part in inputs.items()})
        return readings

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
            h = torch.sparse.mm(self.item_graph, h)
        return torch.cat(users, dim=1), items + h

    def align(self, readings: dict[str, Reading]) -> Tensor:
        """SoloSim by its N x N logits, text against image."""
        z = {m: F.normalize(self.heads[m](reading.head), dim=1) for m, reading in readings.items()}
        logits = z["text"] @ z["image"].T / self.tau
        return -F.log_softmax(logits, dim=1).diagonal().mean()

    def distance(self, readings: dict[str, Reading]) -> Tensor:
        """CLUB with one permutation, halved and clamped at zero in each modality, the mean of the two."""
        self.pairs = [(reading.generic.detach(), reading.unique.detach()) for reading in readings.values()]
        terms = []
        for reading in readings.values():
            u = reading.unique
            mu, logvar = (net(reading.generic) for net in self.q)
            unpaired = ((mu[:, None] - u) ** 2).mean(1) if self.exact_club else (mu - u[torch.randperm(len(u))]) ** 2
            positive, negative = (-squares / (2 * logvar.exp()) for squares in ((mu - u) ** 2, unpaired))
            terms.append(((positive - negative).sum(1).mean() / 2).clamp(min=0))
        return sum(terms) / 2

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The weighted terms, as SEA.loss names them."""
        readings = self.read()
        tables = [
            F.normalize(torch.cat([self.preferences[m], self.mlps[m](reading.encoder)]), dim=1)
            for m, reading in readings.items()
        ]
        user_vectors, item_vectors = self.propagate(tables)
        parts = user_vectors.chunk(len(tables), dim=1)
        user_vectors = torch.cat([self.user_weights[:, j, None] * part for j, part in enumerate(parts)], dim=1)
        u, p, n = user_vectors[users], item_vectors[positives], item_vectors[negatives]
        rec = -torch.log2(torch.sigmoid((u * p).sum(1) - (u * n).sum(1))).mean()
        return {"rec": rec, "align": self.alpha * self.align(readings), "distance": self.beta * self.distance(readings)}

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


def q_nets(weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> nn.ModuleList:
    """The μ and the logvar net as ordinary layers, from the tensors of a `ConditionalGaussian` with one head."""
    nets = nn.ModuleList()
    for w1, b1, w2, b2 in zip(weight1[0].chunk(2, dim=1), bias1[0, 0].chunk(2), weight2[:, 0], bias2[:, 0, 0]):
        net = nn.Sequential(nn.Linear(*w1.shape), nn.ReLU(), nn.Linear(*w2.shape)).to(w1.dtype)
        for parameter, value in zip(net.parameters(), (w1.T, b1, w2.T, b2)):
            parameter.data.copy_(value)
        nets.append(net)
    nets[1].append(nn.Tanh())
    return nets


def first_batch(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Users and positives."""
    return torch.from_numpy(dataset.train[:BATCH]).unbind(1)


def gap(ours: Tensor, plain: Tensor) -> float:
    """The largest difference between two entries, relative to the largest entry."""
    return float((ours - plain).detach().abs().max() / plain.detach().abs().max())


def check() -> str:
    """Assert that both forms agree on the small shape, in double precision; say how well.

    α = β = 1 lets no term hide behind another, and a q that is fitted to the parts lifts both modalities'
    estimates off the clamp. CLUB's permutation in the plain form gives way to all pairs, one by one.
    """
    dataset = random_dataset("small")
    generator = torch.Generator().manual_seed(0)
    model = SEA(dataset, alpha=1.0, beta=1.0, q_lr=1e-2, q_steps=500, generator=generator).double()
    model.separate.loss(model.separate())
    model.separate.fit_q()
    plain = Plain(model, dataset)
    plain.exact_club = True
    users, positives = first_batch(dataset)
    batch = users, positives, plain.negatives(users)
    ours_terms, plain_terms = model.loss(*batch), plain.loss(*batch)
    assert ours_terms.keys() == plain_terms.keys()
    losses = max(gap(ours_terms[name], value) for name, value in plain_terms.items())

    sum(ours_terms.values()).backward()
    sum(plain_terms.values()).backward()
    expected = {name: p.grad for name, p in plain.named_parameters() if not name.startswith("q.")}
    found = {name.removeprefix("separate."): p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    assert all(expected[f"readers.{m}.unique.weight"].any() for m in plain.features), "CLUB is clamped"
    zero = {f"{layer}.{m}.{name}" for layer, name in BEFORE_BATCH_NORM for m in plain.features}
    largest = max(float(grad.abs().max()) for grad in expected.values())
    assert all(float(grads[name].abs().max()) < ROUNDING * largest for grads in (found, expected) for name in zero)
    gradients = max(gap(found[name], grad) for name, grad in expected.items() if name not in zero)

    q, (g, u) = model.separate.q.requires_grad_(), model.separate._pairs
    q.negative_log_likelihood(g, u).backward()  # the modalities' mean: half their sum, which is all one to Adam
    plain.q.zero_grad()
    plain.q_loss().backward()
    halves = q_nets(*(p.grad for p in q.parameters())).parameters()
    of_q = max(gap(2 * half, p.grad) for half, p in zip(halves, plain.q.parameters()))
    assert losses <= LOSS_TOLERANCE and max(gradients, of_q) <= GRADIENT_TOLERANCE, (losses, gradients, of_q)
    return (
        f"same computation (small shape, float64): {len(plain_terms)} loss terms agree to {losses:.0e} (limit "
        f"{LOSS_TOLERANCE:.0e}), {len(expected) - len(zero)} gradients to {gradients:.0e}, q's to {of_q:.0e} (limit "
        f"{GRADIENT_TOLERANCE:.0e}); {len(zero)} biases before batch normalisation have none in either"
    )


def step(form: Ours | Plain, users: Tensor, positives: Tensor) -> None:
    """One training batch, from drawing its negatives to fitting q."""
    terms = form.loss(users, positives, form.negatives(users))
    form.optimizer.zero_grad()
    sum(terms.values()).backward()
    form.optimizer.step()
    form.fit_q()


def sample(form: Ours | Plain, dataset: Dataset, dim: int = 64) -> dict[str, float]:
    """Seconds of one batch and, each on its own after it, of its parts, forward and backward."""
    seconds = {}

    def timed(name: str, function: Callable, *arguments: object) -> object:
        start = time.perf_counter()
        result = function(*arguments)
        seconds[name] = time.perf_counter() - start
        return result

    def read() -> dict[str, Reading]:
        readings = form.read()
        sum(part.sum() for reading in readings.values() for part in reading).backward()
        return readings

    users, positives = first_batch(dataset)
    timed("batch", step, form, users, positives)
    timed("optimiser", form.optimizer.step)  # on the gradients that the batch left
    form.optimizer.zero_grad()
    timed("negatives", form.negatives, users)
    readings = timed("linear layers", read)
    leaves = {m: Reading(*(part.detach().requires_grad_() for part in r)) for m, r in readings.items()}
    timed("SoloSim", lambda: form.align(leaves).backward())
    timed("CLUB", lambda: form.distance(leaves).backward())
    timed("q's steps", form.fit_q)
    nodes = dataset.n_users + dataset.n_items
    tables = [torch.randn(nodes, dim, requires_grad=True) for _ in leaves]
    timed("propagation", lambda: sum(part.sum() for part in form.propagate(tables)).backward())
    return seconds


def measure(shape: str, repeats: int) -> pd.DataFrame:
    """Medians over `repeats` turns of each form, one warm-up turn aside: a row per part, the whole batch last."""
    dataset = random_dataset(shape)
    model = SEA(dataset, generator=torch.Generator().manual_seed(0))
    forms = {"plain": Plain(model, dataset), "ours": Ours(model, dataset)}
    turns = [{name: sample(form, dataset) for name, form in forms.items()} for _ in range(repeats + 1)]
    medians = pd.DataFrame({name: pd.DataFrame([turn[name] for turn in turns[1:]]).median() for name in forms})
    whole, parts = medians.loc["batch"], medians.drop(index="batch")
    parts.loc["remainder"] = whole - parts.sum()
    table = pd.concat([parts, whole.to_frame().T])
    shares = (100 * table / whole).add_suffix(" %")
    return table.add_suffix(" s").assign(ratio=table["plain"] / table["ours"]).join(shares).rename_axis("part")


def cpu() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="baby")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the table to this CSV file as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = {"cpu": cpu(), "cores": os.cpu_count(), "threads": arguments.threads, "torch": torch.__version__}
    machine["load"] = round(os.getloadavg()[0], 1)  # of other jobs, at the start: above 0 it blurs all that follows
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(check(), flush=True)
    table = measure(arguments.shape, arguments.repeats)
    print(f"\nSeconds per batch of {BATCH}, shape {arguments.shape}, medians of {arguments.repeats}:")
    print(table.to_string(float_format="{:.4f}".format))
    if arguments.out:
        table.assign(shape=arguments.shape, repeats=arguments.repeats, **machine).to_csv(arguments.out)


if __name__ == "__main__":
    main()
