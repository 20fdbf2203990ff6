"""Seconds of SEA's training: this package's form beside the released program's computation, written plainly.

    python benchmarks/batch.py [--shape baby|sports|clothing|small] [--repeats 5] [--epochs 0]
                               [--device auto] [--threads 2] [--out FILE]

A batch and each of its parts alone, forward and backward; the item graph; evaluation of all users; and with
--epochs N a whole epoch, N times. Both forms (the plain one is in plain.py) start from the same weights and
compute the same thing, which is checked first. Then they take turns in one process. Seconds are medians over
--repeats turns, over N turns for an epoch. The plain form's evaluation is timed on 300 users and scaled to all.

The plain form stores several matrices of items x items at a time, of 0.2 GB each at Baby's shape, 1.3 GB at
Sports', and 2.1 GB at Clothing's: the larger two take several GiB.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from common import SHAPES, options, random_dataset, report, start, timed
from plain import IMAGE_WEIGHT, K, Plain, q_nets
from torch import Tensor

from sea.data import Dataset
from sea.evaluate import Ranking, evaluate
from sea.graphs import fuse, knn, layer_sum
from sea.models import SEA
from sea.replay import WARM
from sea.separate import Parts
from sea.train import NegativeSampler, adam, batch_step

BATCH = 2048
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-9, 1e-8
BEFORE_BATCH_NORM = (("projections", "head.bias"), ("heads", "2.bias"))  # it takes them off: their gradient is zero
ROUNDING = 1e-13  # of the largest gradient: zero but for rounding
APART_TOLERANCE = 1e-6  # the item graph's features are in single precision


class Ours:
    """SEA as `sea.train.fit` trains it, on the device of `model`."""

    def __init__(self, model: SEA, dataset: Dataset):
        self.model, self.dataset, self.device = model, dataset, model.user_weights.device
        self.loss, self.fit_q = model.loss, model.after_step
        self.read, self.align, self.distance = model.separate, model.separate._align, model.separate._distance
        self.optimizer = adam(model, model.lr)
        self.take = batch_step(model, self.optimizer)
        self.sampler = NegativeSampler(dataset, self.device)
        self.generator = torch.Generator(self.device).manual_seed(0)
        model.before_epoch(self.generator)

    def negatives(self, users: Tensor) -> Tensor:
        """A negative for each user."""
        return self.sampler(users, self.generator)

    def propagate(self, tables: list[Tensor]) -> tuple[Tensor, Tensor]:
        """User and item vectors from the modalities' (nodes, d) inputs, users not yet weighted."""
        x = torch.cat(tables, dim=1)
        n_users = len(self.model.user_weights)
        users, items = layer_sum(self.model.user_item, x, self.model.layers_ui).split([n_users, len(x) - n_users])
        return users, items + self.model._along_items(items)

    def item_graph(self) -> sp.csr_array:
        """S by blocks of rows; on the CPU, as SEA builds it."""
        return fuse({m: knn(torch.from_numpy(x), K) for m, x in self.dataset.features.items()}, IMAGE_WEIGHT)

    def evaluate(self, user_vectors: Tensor, item_vectors: Tensor) -> Ranking:
        """The ranking on valid, all users."""
        return evaluate(user_vectors, item_vectors, self.dataset, "valid")


def batches(dataset: Dataset, device: torch.device, size: int = BATCH) -> list[tuple[Tensor, Tensor]]:
    """An epoch's users and positives; the dataset's order is a random one."""
    return list(zip(*(column.split(size) for column in torch.from_numpy(dataset.train).to(device).unbind(1))))


def gap(ours: Tensor, plain: Tensor) -> float:
    """The largest difference between two entries, relative to the largest entry."""
    return float((ours - plain).detach().abs().max() / plain.detach().abs().max())


def check() -> str:
    """Assert that both forms of a batch agree on the small shape, in double precision; say how well.

    α = β = 1 lets no term hide behind another, and a q that is fitted to the parts lifts both modalities'
    estimates off the clamp. CLUB's permutation in the plain form gives way to all pairs, one by one.
    """
    dataset = random_dataset("small", SHAPES["small"])
    generator = torch.Generator().manual_seed(0)
    model = SEA(dataset, alpha=1.0, beta=1.0, q_lr=1e-2, q_steps=500, generator=generator).double()
    model.separate.loss(model.separate())
    model.separate.fit_q()
    plain = Plain(model, dataset)
    plain.exact_club = True
    users, positives = batches(dataset, torch.device("cpu"))[0]
    batch = users, positives, plain.negatives(users)
    ours_terms, plain_terms = model.loss(*batch), plain.loss(*batch)
    assert ours_terms.keys() == plain_terms.keys()
    losses = max(gap(ours_terms[name], value) for name, value in plain_terms.items())

    sum(ours_terms.values()).backward()
    sum(plain_terms.values()).backward()
    expected = {name: p.grad for name, p in plain.named_parameters() if not name.startswith("q.")}
    found = {name.removeprefix("separate."): p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    assert all(expected[f"projections.{m}.unique.weight"].any() for m in plain.features), "CLUB is clamped"
    zero = {f"{layer}.{m}.{name}" for layer, name in BEFORE_BATCH_NORM for m in plain.features}
    largest = max(float(grad.abs().max()) for grad in expected.values())
    assert all(float(grads[name].abs().max()) < ROUNDING * largest for grads in (found, expected) for name in zero)
    gradients = max(gap(found[name], grad) for name, grad in expected.items() if name not in zero)

    g, u = model.separate._for_fit
    halves = q_nets(*model.separate.q._gradients(g.mT, u.mT))  # of the modalities' mean, half their sum
    plain.q.zero_grad()
    plain.q_loss().backward()
    of_q = max(gap(2 * half, p.grad) for half, p in zip(halves.parameters(), plain.q.parameters()))
    assert losses <= LOSS_TOLERANCE and max(gradients, of_q) <= GRADIENT_TOLERANCE, (losses, gradients, of_q)
    return (
        f"same batch (small shape, float64): {len(plain_terms)} loss terms agree to {losses:.0e} (limit "
        f"{LOSS_TOLERANCE:.0e}), {len(expected) - len(zero)} gradients to {gradients:.0e}, q's to {of_q:.0e} (limit "
        f"{GRADIENT_TOLERANCE:.0e}); {len(zero)} biases before batch normalisation have none in either"
    )


def check_apart(dataset: Dataset, dim: int = 8) -> str:
    """Assert that both forms agree: on SEA's own item graph, and on every metric of the users that both evaluate."""
    generator = torch.Generator().manual_seed(0)
    model = SEA(dataset, generator=generator)
    ours, plain = Ours(model, dataset), Plain(model, dataset)
    built = model.item_item[0].matrix.to_dense().numpy()
    graph = max(np.abs(form.item_graph().toarray() - built).max() for form in (ours, plain))
    sizes = dataset.n_users, dataset.n_items
    vectors = [torch.randn(size, dim, generator=generator, dtype=torch.float64) for size in sizes]
    found, expected = ours.evaluate(*vectors), plain.evaluate(*vectors)
    both = np.isin(found.users, expected.users)
    assert both.sum() == len(expected)
    metrics = max(np.abs(found.values[name][both] - expected[name]).max() for name in found.values)
    assert max(graph, metrics) <= APART_TOLERANCE, (graph, metrics)
    return f"same item graph, to {graph:.0e}, and metrics of {both.sum()} users, to {metrics:.0e}"


def step(form: Ours | Plain, users: Tensor, positives: Tensor) -> None:
    """One training batch, from drawing its negatives to fitting q."""
    form.take(users, positives, form.negatives(users))


def sample_batch(form: Ours | Plain, dataset: Dataset, device: torch.device, dim: int = 64) -> dict[str, float]:
    """Seconds of one batch and, each on its own after it, of its parts, forward and backward."""
    seconds = {}

    def took(name: str, function: Callable, *arguments: object) -> object:
        seconds[name], result = timed(device, function, *arguments)
        return result

    def read() -> dict[str, Parts]:
        parts = form.read()
        sum(columns.sum() for part in parts.values() for columns in part).backward()
        return parts

    users, positives = batches(dataset, device)[0]
    took("batch", step, form, users, positives)
    took("optimiser", form.optimizer.step)  # on the gradients that the batch left
    form.optimizer.zero_grad()
    took("negatives", form.negatives, users)
    parts = took("linear layers", read)
    leaves = {m: Parts(*(part.detach().requires_grad_() for part in r)) for m, r in parts.items()}
    took("SoloSim", lambda: form.align(leaves).backward())
    took("CLUB", lambda: form.distance(leaves).backward())
    took("q's steps", form.fit_q)
    tables = [table.requires_grad_() for table in random_tables(dataset, device, dim, len(leaves))]
    took("propagation", lambda: sum(part.sum() for part in form.propagate(tables)).backward())
    return seconds


def sample_apart(form: Ours | Plain, dataset: Dataset, device: torch.device, dim: int = 128) -> dict[str, float]:
    """Seconds of the item graph and of evaluation, scaled to all users where the form evaluates some."""
    vectors = random_tables(dataset, device, dim, 1)[0].split([dataset.n_users, dataset.n_items])
    graph, _ = timed(device, form.item_graph)
    evaluation, scores = timed(device, form.evaluate, *vectors)
    return {"item graph": graph, "evaluation": evaluation * dataset.n_users / len(scores.users)}


def random_tables(dataset: Dataset, device: torch.device, dim: int, count: int) -> list[Tensor]:
    """Tables of all users and items, (nodes, dim)."""
    generator = torch.Generator(device).manual_seed(0)
    nodes = dataset.n_users + dataset.n_items
    return [torch.randn(nodes, dim, generator=generator, device=device) for _ in range(count)]


def sample_epoch(form: Ours | Plain, dataset: Dataset, device: torch.device) -> dict[str, float]:
    """Seconds of an epoch, every batch of it."""

    def epoch() -> None:
        for batch in batches(dataset, device):
            step(form, *batch)

    return {"epoch": timed(device, epoch)[0]}


def medians(sample: Callable, forms: dict[str, Ours | Plain], turns: int, *arguments: object) -> pd.DataFrame:
    """Medians of `turns` samples of each form, which take turns: a row for each name in a sample."""
    samples = [{name: sample(form, *arguments) for name, form in forms.items()} for _ in range(turns)]
    return pd.DataFrame({name: pd.DataFrame([turn[name] for turn in samples]).median() for name in forms})


def measure(shape: str, repeats: int, epochs: int, device: torch.device) -> pd.DataFrame:
    """Median seconds of each form and their ratio, and the parts' shares of a batch, in percent."""
    dataset = random_dataset(shape, SHAPES[shape])
    model = SEA(dataset, generator=torch.Generator().manual_seed(0)).to(device)
    forms = {"plain": Plain(model, dataset), "ours": Ours(model, dataset)}
    warm = WARM + 1 if device.type == "cuda" else 1  # libraries load, memory is taken, a GPU records ours
    medians(sample_batch, forms, warm, dataset, device)
    of_batch = medians(sample_batch, forms, repeats, dataset, device)
    whole, parts = of_batch.loc["batch"], of_batch.drop(index="batch")
    parts.loc["remainder"] = whole - parts.sum()
    of_batch = pd.concat([parts, whole.to_frame().T])
    apart = [medians(sample_apart, forms, repeats, dataset, device)]
    apart += [medians(sample_epoch, forms, epochs, dataset, device)] if epochs else []
    table = pd.concat([of_batch, *apart])
    shares = (100 * of_batch / whole).add_suffix(" %")
    return table.add_suffix(" s").assign(ratio=table["plain"] / table["ours"]).join(shares).rename_axis("part")


def main() -> None:
    """Check, measure, print."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="baby")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each form (default: 5)")
    parser.add_argument("--epochs", type=int, default=0, help="turns of a whole epoch (default: 0, none)")
    arguments = parser.parse_args()
    device, machine = start(arguments)
    print(check())
    print(check_apart(random_dataset("small", SHAPES["small"])), flush=True)
    chosen = {name: getattr(arguments, name) for name in ("shape", "repeats", "epochs")}
    table = measure(**chosen, device=device)
    title = f"Seconds at {arguments.shape}'s shape, batches of {BATCH}: medians of {arguments.repeats}"
    report(table, title, arguments.out, **chosen, **machine)


if __name__ == "__main__":
    main()
