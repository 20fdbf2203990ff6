"""What several models are made of."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import Graph, layer_sum
from sea.layers import linear, xavier
from sea.separate import SeparateLearning


def id_tables(kind: str, dataset: Dataset, dim: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """P (n_users, dim) and Q (n_items, dim) with Xavier's initial law, `kind` is "normal" or "uniform"."""
    users = xavier(kind, dataset.n_users, dim, generator=generator)
    return users, xavier(kind, dataset.n_items, dim, generator=generator)


def raw_features(dataset: Dataset) -> dict[str, Tensor]:
    """X_m by modality, (n_items, d_m) each, in `sea.data.modality_order`; copies, which a model may train."""
    return {m: torch.tensor(dataset.features[m]) for m in dataset.modalities}


class Frozen(nn.Module):
    """Features by modality that are not trained: they move with the model, and are not among its weights."""

    def __init__(self, features: dict[str, Tensor]):
        super().__init__()
        for m, values in features.items():
            self.register_buffer(m, values, persistent=False)

    def __getitem__(self, m: str) -> Tensor:
        return self.get_buffer(m)


def trainable(features: dict[str, Tensor]) -> nn.ParameterDict:
    """Features by modality that are trained, in the order given (`ParameterDict` sorts a dict)."""
    return nn.ParameterDict(features.items())


def linear_maps(features: dict[str, Tensor], dim: int, generator: torch.Generator) -> nn.ModuleDict:
    """Linear_m(d_m -> dim) for each modality."""
    return nn.ModuleDict({m: linear(values.shape[1], dim, generator) for m, values in features.items()})


def batch_rows(
    vectors: tuple[Tensor, Tensor], users: Tensor, positives: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch's rows u, p and n of the user and item vectors, (batch, d) each.

    Unlike that of indexing, this gradient is deterministic.
    """
    of_users, of_items = vectors
    return F.embedding(users, of_users), F.embedding(positives, of_items), F.embedding(negatives, of_items)


def bpr_of_rows(u: Tensor, p: Tensor, n: Tensor, log_base: float = math.e) -> Tensor:
    """BPR, -mean log σ(u·p - u·n), for rows of users and of their positive and negative items, (batch, d) each."""
    return losses.bpr((u * p).sum(1), (u * n).sum(1), log_base)


def light_propagation(graph: Graph, users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """LightGCN: [u; i] = 1/(L+1) Σ_{l=0..L} A^l [users; items], shapes as given."""
    nodes = torch.cat([users, items])  # (n_users + n_items, d)
    return (layer_sum(graph, nodes, layers) / (layers + 1)).split([len(users), len(items)])


class WithPlugIn:
    """What a model with SEA's plug-in, `separate`, needs; stands before that model's class among the bases."""

    separate: SeparateLearning
    step_sizes: ClassVar = ("q_lr",)  # the released program gives q the model's

    @classmethod
    def in_effect(cls, params: dict[str, object]) -> dict[str, object]:
        """All but the settings of a term that is left out."""
        idle = ["alpha", "tau", "align_"] if params["align"] == "none" else []
        idle += ["beta"] if params["distance"] == "none" else []
        idle += ["q_", "club_"] if params["distance"] != "club" else []
        effective = super().in_effect(params)
        return {name: value for name, value in effective.items() if not name.startswith(tuple(idle))}

    def before_epoch(self, generator: torch.Generator) -> None:
        """Hand the plug-in its generator."""
        super().before_epoch(generator)
        self.separate.before_epoch(generator)

    def after_step(self) -> None:
        """Fit CLUB's q."""
        super().after_step()
        self.separate.fit_q()


def split_settings(model: type, settings: dict) -> tuple[dict, dict]:
    """Those of `settings` that are the model's own, and the rest."""
    own = model.settings()
    return {k: v for k, v in settings.items() if k in own}, {k: v for k, v in settings.items() if k not in own}
