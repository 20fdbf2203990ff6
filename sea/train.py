"""The loop: batches, negatives, early stopping, resume."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sea.blocks import all_finite
from sea.data import Dataset
from sea.evaluate import evaluate
from sea.files import DamagedFile, load_tensors, save_tensors
from sea.models.base import Recommender
from sea.replay import Replay

REVISION = 1
"""Of the loop with its sampling and evaluation: raised whenever one of them computes something else."""

MONITOR = "recall@20"
STORING = 10
"""How many times as long as it took to store a training it goes on before it is stored again."""
BY_ITSELF = ("patience", "closed form")
"""`Fit.stopped` of what ended by itself: not at a limit, and not by an accident."""


@dataclass
class Fit:
    """How a training went.

    Attributes:
        history: a dict per epoch: its number, "loss/..." (mean over batches, by term; None if it is not finite),
            "valid/..." metrics, "seconds" of training and "seconds_evaluate".
        best: index into `history` of the best epoch, the first of equals; -1 before there is one.
        stopped: "" while it runs; then "patience", "epochs", or "diverged", where the best epoch so far is kept; or
            "closed form", of a model without parameters.
        diverged: what became NaN or infinite in the last epoch: a term as `history` names it, or "vectors"; else "".
    """

    history: list[dict] = field(default_factory=list)
    best: int = -1
    stopped: str = ""
    diverged: str = ""


class NegativeSampler:
    """One negative for each positive, uniform over the items that occur in train but not with that user.

    Without rejection: if p_0 < p_1 < ... are the ranks of a user's train items among the train items, then
    the r-th free item has rank r + #{j : p_j - j ≤ r}, a binary search. Any number of pairs takes a handful
    of vectorised operations on `device`.

    Raises:
        ValueError: a user has all train items, so that no negative exists.
    """

    def __init__(self, dataset: Dataset, device: torch.device):
        offsets, items = dataset.lists["train"]
        occurring = np.unique(items)
        counts = np.diff(offsets)
        if counts.max() >= len(occurring):
            user = int(counts.argmax())
            raise ValueError(
                f"'dataset' needs an item in train that user {user} doesn't have, to draw negatives "
                f"(got all {len(occurring)})"
            )
        ranks = np.searchsorted(occurring, items)
        within = np.arange(len(items)) - np.repeat(offsets[:-1], counts)
        owners = np.repeat(np.arange(dataset.n_users), counts)
        self.stride = len(occurring) + 1
        arrays = (owners * self.stride + ranks - within, offsets[:-1], len(occurring) - counts, occurring)
        self.keys, self.offsets, self.free, self.items = (torch.from_numpy(a).to(device) for a in arrays)

    def __call__(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """A negative item for each of `users`, shape and device as given."""
        draws = torch.rand(users.shape, generator=generator, device=users.device, dtype=torch.float64)
        free = self.free[users]
        r = (draws * free).long().clamp_(max=free - 1)
        taken = torch.searchsorted(self.keys, users * self.stride + r, right=True) - self.offsets[users]
        return self.items[r + taken]


def fit(
    model: Recommender,
    dataset: Dataset,
    *,
    lr: float,
    batch_size: int = 2048,
    epochs: int = 1000,
    patience: int = 20,
    generator: torch.Generator,
    state: Path | None = None,
    progress: bool = True,
) -> Fit:
    """Train with Adam, evaluate on valid after every epoch, stop early, leave the best epoch's weights in `model`.

    Each epoch passes once over the shuffled train pairs, the short last batch included. Selection is on
    unrounded validation Recall@20; training stops after more than `patience` epochs without a better one, as
    the framework behind the published tables counts. Where the model has a `weight_decay`, Adam is AdamW.

    A training is over, as "diverged", when a loss or the vectors become NaN or infinite. If no epoch went well
    before, `best` is -1, and the model is left as it is then.

    A model without parameters to train is validated as it is: one row, 0 seconds (it was computed when it was built),
    and "closed form".

    Args:
        model: on its device; `generator` (order and negatives) needs to be on the same.
        lr: Adam's step size at the start; `model.lr_decay` lowers it.
        state: a file that holds everything, replaced atomically after each epoch, or less often where that would take
            more than a tenth of the time (`STORING`); always after the first and the last. If it is there already,
            training goes on from it. With as many threads as before, or on a GPU of the same kind, it ends with the
            numbers that it would have had uninterrupted. A damaged one is named, and the training begins anew.
        progress: show a bar, on a terminal.
    """
    if not any(p.requires_grad for p in model.parameters()):
        return _closed_form(model, dataset)
    device = next(model.parameters()).device
    model.batch_size = batch_size
    optimizer = adam(model, lr)
    take = batch_step(model, optimizer)
    optimizers = {"model": optimizer} | {
        name: module.optimizer for name, module in model.named_modules() if hasattr(module, "optimizer")
    }
    sampler = NegativeSampler(dataset, device)
    pairs = torch.from_numpy(dataset.train).to(device)
    result, best = Fit(), {}
    if state is not None and state.exists():
        try:
            result, best = _restore(state, model, optimizers, generator)
        except DamagedFile as error:
            logging.getLogger(__name__).warning("%s; this training begins anew", error)
    due = -math.inf
    bar = tqdm(total=epochs, initial=len(result.history), disable=None if progress else True, unit="epoch")
    with bar:
        while not result.stopped:
            for group in optimizer.param_groups:
                group["lr"] = lr * model.lr_decay ** (len(result.history) / 50)
            row = _epoch(model, take, sampler, pairs, batch_size, generator)
            result.diverged = next((name for name, value in row.items() if not np.isfinite(value)), "")
            if not result.diverged:
                row, result.diverged = _validate(model, dataset, row)
            finite = {name: value if np.isfinite(value) else None for name, value in row.items()}
            result.history.append({"epoch": len(result.history), **finite})
            if not result.diverged and (result.best < 0 or row[f"valid/{MONITOR}"] > _best_value(result)):
                result.best = len(result.history) - 1
                best = {name: value.clone() for name, value in model.state_dict().items()}
            result.stopped = _stop_reason(result, epochs, patience)
            if state is not None and (result.stopped or time.monotonic() >= due):
                start = time.monotonic()
                _store(state, model, optimizers, generator, result, best)
                due = time.monotonic() + STORING * (time.monotonic() - start)
            bar.update()
            bar.set_postfix_str(f"valid {MONITOR} {_best_value(result):.4f}" if best else "")
    if best:
        model.load_state_dict(best)
    return result


def _closed_form(model: Recommender, dataset: Dataset) -> Fit:
    row, diverged = _validate(model, dataset, {"epoch": 0, "seconds": 0.0})
    return Fit([row], -1, "diverged", diverged) if diverged else Fit([row], 0, "closed form")


def _best_value(result: Fit) -> float:
    return result.history[result.best][f"valid/{MONITOR}"]


def _stop_reason(result: Fit, epochs: int, patience: int) -> str:
    done = len(result.history)
    if result.diverged:
        return "diverged"
    if done - 1 - result.best > patience:
        return "patience"
    return "epochs" if done >= epochs else ""


def adam(model: Recommender, lr: float) -> torch.optim.AdamW:
    """The optimiser of a training, on the model's device; on a GPU fit for a recording if the model `replays`."""
    trained = [p for p in model.parameters() if p.requires_grad]
    recorded = model.replays and trained[0].is_cuda
    return torch.optim.AdamW(trained, lr=lr, weight_decay=model.weight_decay, fused=True, capturable=recorded)


def batch_step(
    model: Recommender, optimizer: torch.optim.Optimizer
) -> Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]:
    """A function of (users, positives, negatives) that takes a step, and returns the loss's terms before it.

    A GPU replays it if the model `replays` and its step size stays the same.
    """

    def take(users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        terms = model.loss(users, positives, negatives)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        _fill_gradients(optimizer)
        optimizer.step()
        model.after_step()
        return {name: value.detach() for name, value in terms.items()}

    return Replay(take) if model.replays and model.lr_decay == 1 else take


def _epoch(
    model: Recommender,
    take: Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]],
    sampler: NegativeSampler,
    pairs: Tensor,
    batch_size: int,
    generator: torch.Generator,
) -> dict[str, float]:
    start = time.perf_counter()
    model.train()
    model.before_epoch(generator)
    users, positives = pairs[torch.randperm(len(pairs), generator=generator, device=pairs.device)].unbind(1)
    negatives = sampler(users, generator)
    totals: dict[str, Tensor] = {}
    active: dict[str, Tensor] = {}
    batches = list(zip(*(column.split(batch_size) for column in (users, positives, negatives))))
    for batch in batches:
        for name, value in take(*batch).items():
            totals[name] = totals.get(name, 0) + value
            active[name] = active.get(name, 0) + (value != 0)
    row = {f"loss/{name}": float(total) / len(batches) for name, total in totals.items()}
    row |= {f"active/{name}": int(count) / len(batches) for name, count in active.items()}
    return row | {"seconds": time.perf_counter() - start}


def _fill_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Set zeros where a batch gives no gradient.

    Adam then still moves such a parameter, by the averages of earlier gradients, as it did in the torch version of the
    paper's runs. Without a gradient Adam would leave it as it is.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


@torch.no_grad()
def _validate(model: Recommender, dataset: Dataset, row: dict[str, float]) -> tuple[dict[str, float], str]:
    """The row with validation's metrics, and ""; the row as it was, and "vectors", if these are not finite."""
    start = time.perf_counter()
    model.eval()
    vectors = model.vectors()
    if not all(map(all_finite, vectors)):
        return row, "vectors"
    means = evaluate(*vectors, dataset, "valid").mean()
    row = row | {f"valid/{name}": value for name, value in means.items()}
    return row | {"seconds_evaluate": time.perf_counter() - start}, ""


def _store(
    path: Path,
    model: Recommender,
    optimizers: dict[str, torch.optim.Optimizer],
    generator: torch.Generator,
    result: Fit,
    best: dict[str, Tensor],
) -> None:
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for owner, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{owner}/{index}/{name}": value for name, value in moments.items()}
    tensors["generator"] = generator.get_state()
    save_tensors(path, tensors, {"fit": json.dumps(vars(result))})


def _restore(
    path: Path,
    model: Recommender,
    optimizers: dict[str, torch.optim.Optimizer],
    generator: torch.Generator,
) -> tuple[Fit, dict[str, Tensor]]:
    tensors, metadata = load_tensors(path)
    result = Fit(**json.loads(metadata["fit"]))
    generator.set_state(tensors.pop("generator"))
    device = next(model.parameters()).device
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        groups[kind][rest] = value
    model.load_state_dict(groups["model"])
    for owner, optimizer in optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            of, index, key = name.rsplit("/", 2)
            if of == owner:
                moments.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return result, {name: value.to(device) for name, value in groups["best"].items()}
