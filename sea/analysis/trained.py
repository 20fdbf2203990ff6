"""The angles of trained vectors: users, items, and the parts of items, each pair and beside strangers."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sea.analysis import angles, terms
from sea.analysis.representations import extract
from sea.data import Dataset
from sea.models import PAMD
from sea.models.shared import raw_features
from sea.records import Record

PAIRED, SHUFFLED = "paired", "shuffled"


class Found(NamedTuple):
    """Angles in radians: of vectors that belong together, and of the same vectors with strangers."""

    paired: np.ndarray
    shuffled: np.ndarray
    width: int  # of the vectors
    count: int  # distinct vectors on the side that has fewer

    def rows(self) -> dict[str, dict[str, float]]:
        """The `angles.summary` of both, against the law at the width."""
        found = {PAIRED: self.paired, SHUFFLED: self.shuffled}
        return {kind: angles.summary(theta, self.width, self.count) for kind, theta in found.items()}


def of_parts(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Found:
    """The angles of two parts of the same items, (N, d) each, and of each with the other part of other items."""
    return Found(angles.between(a, b), angles.between(*angles.strangers(a, b, rng)), a.shape[1], len(a))


@torch.no_grad()
def users_and_items(record: Record, rng: np.random.Generator) -> Found:
    """The final vectors of a run, whose dot product is the score: users with their train items, and with others.

    A stranger is a random item that is not among the user's train items.
    """
    world = record.data()
    users, items = (x.double().cpu().numpy() for x in record.model(world).vectors())
    u, i = world.train.T
    own = set(zip(u.tolist(), i.tolist()))
    drawn = rng.integers(len(items), size=len(u))
    other = np.array([(a, b) not in own for a, b in zip(u.tolist(), drawn.tolist())])
    paired, shuffled = angles.between(users[u], items[i]), angles.between(users[u[other]], items[drawn[other]])
    return Found(paired, shuffled, users.shape[1], min(map(len, (users, items))))


def unique_parts(record: Record, rng: np.random.Generator) -> Found:
    """The unique read-outs of SEA's last two modalities, the pair that an orthogonality penalty acts on."""
    unique = extract(record.model(record.data()))["unique"]
    return of_parts(*(unique[m] for m in sorted(unique)[-2:]), rng)


def pull_on_sea(record: Record) -> float:
    """The pull of the orthogonality penalty at weight 1 on SEA's square layer, relative to BPR's, see `terms.pull`.

    Args:
        record: a run of SEA with `distance="orthogonal"`, at whatever weight it was trained, 0 included.
    """
    world = record.data()
    model = record.model(world)
    model.separate.beta = 1.0
    return terms.pull_of(model, world)["distance"]


def penalty(specific: dict[str, Tensor]) -> Tensor:
    """PAMD's orthogonality penalty: the mean over items of ⟨s_a, s_b⟩², summed over the pairs of modalities."""
    names = sorted(specific)
    pairs = [(a, b) for a in names for b in names if a < b]
    return sum((specific[a] * specific[b]).sum(1).square().mean() for a, b in pairs)


class WithoutPenalty(PAMD):
    """PAMD with the orthogonality penalty taken off its first stage, the only one that has it. No setting does that."""

    def _disentangle(self, features: dict[str, Tensor]) -> Tensor:
        return super()._disentangle(features) - penalty(self._split(features)[1])


def first_stage(world: Dataset, seed: int, penalised: bool = True, **settings: object) -> PAMD:
    """PAMD after its first stage, which trains the codes of items on their features alone.

    Args:
        seed: of the initial weights and of the batches. With and without the penalty both are the same.
        penalised: whether the loss has the penalty.
        settings: PAMD's own; `pretrain` says for how many epochs, 0 leaves the codes as they start.
    """
    kind = PAMD if penalised else WithoutPenalty
    model = kind(world, generator=torch.Generator().manual_seed(seed), **settings)
    model.before_epoch(torch.Generator().manual_seed(seed))
    return model.eval()


@torch.no_grad()
def specific_codes(model: PAMD, rng: np.random.Generator) -> Found:
    """PAMD's specific codes of the last two modalities, the pair that its penalty acts on."""
    specific = model.parts()[1]
    a, b = (specific[m].double().cpu().numpy() for m in sorted(specific)[-2:])
    return of_parts(a, b, rng)


def penalty_size(model: PAMD, world: Dataset) -> dict[str, float]:
    """How large PAMD's penalty is beside the rest of its first stage, over all items.

    "value": of the penalty; "value / rest": beside the other terms; "pull / rest": the norm of its gradient on the
    encoders and the common maps, beside the norm of the other terms' gradient.
    """
    model.encoders.requires_grad_(True)
    shared = [*model.encoders.parameters(), *model.common.parameters()]
    features = raw_features(world)
    ours = penalty(model._split(features)[1])
    rest = PAMD._disentangle(model, features) - ours
    norms = [_norm(torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)) for term in (ours, rest)]
    return {
        "value": float(ours.detach()),
        "value / rest": float(ours.detach() / rest.detach()),
        "pull / rest": norms[0] / norms[1],
    }


def _norm(gradients: tuple[Tensor | None, ...]) -> float:
    return float(np.sqrt(sum(g.square().sum().item() for g in gradients if g is not None)))


def table(found: dict[str, Found]) -> pd.DataFrame:
    """The `Found.rows` of each, by label and kind of pair."""
    rows = {(label, kind): row for label, one in found.items() for kind, row in one.rows().items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["vectors", "pairs"])
