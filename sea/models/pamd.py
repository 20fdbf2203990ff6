"""PAMD: disentangled item codes, trained first, then matrix factorisation that attends to them."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.layers import linear
from sea.models.base import Recommender
from sea.models.shared import Frozen, raw_features

ROWS = 100  # items in a batch of stage 1


class PAMD(Recommender):
    """PAMD (Han et al., WWW 2022), adapted: common and specific codes by subtraction, then attentive factorisation.

    Stage 1, before the first epoch and counted in its time, on items alone:

        z_m = Linear_m(X_m),  c_m = z_m W_m (common),  s_m = z_m - c_m (specific)
        loss = mean (c_a - c_b)² + mean over items ⟨s_a, s_b⟩²                        for each pair of modalities
               + G(X_a; D_ab z_b, D_ab c_b, D_ab s_b)                                 for each ordered pair a ≠ b

    D_ab is a linear decoder. With cosines p_c, p_z, p_s of X_a with the decoded c_b, z_b, s_b, over 0.5,
    G = -mean log softmax(p_c, p_z, p_s)_1 - mean log softmax(p_z, p_s)_1 ranks common over whole over specific.
    Stage 2, the usual epochs, on everything but the decoders:

        s(u, i) = ⟨p_u, q_i⟩ + Σ_k α_k ⟨p_u, y_k,i⟩,   y: all c_m and s_m,   α(u) = softmax_k ⟨p_u, mean_i y_k,i⟩
        loss = Σ_batch [-log σ(s(u, i)) - log σ(-s(u, j))] + decay/2 Σ ‖θ‖²           j: the negative

    The authors attend by softmax_k ⟨p_u, y_k,i⟩, by user and item, and rank 1000 candidates. Such a score is no dot
    product of a user's and an item's vector, so it can't rank all items as all models here do; kept in the loss
    alone, it would fit another score than the one that ranks. So attention is by user, in training as in scoring.

    Ours, too: 64 columns; one vector a text in place of its words; the usual batches, negatives and stopping; one
    step size for tables and encoders (theirs 1e-3 and 1e-4); tables that start small, where theirs start at
    N(0, 1), which a twentieth of their steps hardly moves; and G's specific cosine is each item's own, where the
    program sums it over the batch, which overflows. The published row's program is not known.

    Args:
        dataset: with at least two modalities.
        dim: width of codes and tables.
        pretrain: epochs of stage 1, in batches of 100 items at a step size of 1e-3.
        decay: weight of the L2 term, in both stages.
        spread: standard deviation of the tables' initial values; the authors' is 1.

    Raises:
        ValueError: fewer than two modalities.
    """

    grid: ClassVar = {"lr": (1e-4, 1e-3), "decay": (1e-5, 1e-1), "spread": (0.01, 1.0)}
    replays: ClassVar = True
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        pretrain: int = 220,
        decay: float = 1e-5,
        spread: float = 0.01,
        generator: torch.Generator,
    ):
        super().__init__()
        if len(dataset.features) < 2:
            raise ValueError(f"'dataset' needs at least two modalities in 'PAMD' (got {list(dataset.features)})")
        self.pretrain, self.decay = pretrain, decay
        self.encoders, self.common, self.decoders = nn.ModuleDict(), nn.ParameterDict(), nn.ModuleDict()
        features = raw_features(dataset)
        self.features = Frozen(features)
        self.means = Frozen({m: values.mean(0, keepdim=True) for m, values in features.items()})
        widths = {m: values.shape[1] for m, values in features.items()}
        bound = (6 / dim) ** 0.5  # Kaiming's
        for m, width in widths.items():
            self.encoders[m] = linear(width, dim, generator)
            self.common[m] = nn.Parameter(torch.empty(dim, dim).uniform_(-bound, bound, generator=generator))
            self.decoders[m] = nn.ModuleDict({b: linear(dim, width, generator) for b in widths if b != m})
        self.decoders.requires_grad_(False)
        self.users = nn.Parameter(torch.randn(dataset.n_users, dim, generator=generator) * spread)
        self.items = nn.Parameter(torch.randn(dataset.n_items, dim, generator=generator) * spread)
        self.register_buffer("pretrained", torch.zeros((), dtype=torch.bool))

    def _features(self, items: Tensor | slice) -> dict[str, Tensor]:
        return {m: self.features[m][items] for m in self.encoders}

    def _split(self, features: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Common and specific codes by modality, a row for each of the features'."""
        codes = {m: self.encoders[m](x) for m, x in features.items()}
        common = {m: code @ self.common[m] for m, code in codes.items()}
        return common, {m: code - common[m] for m, code in codes.items()}

    def parts(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Common and specific codes by modality, (n_items, dim) each, as they are now."""
        return self._split(self._features(slice(None)))

    def before_epoch(self, generator: torch.Generator) -> None:
        """Stage 1, in the first epoch of a training."""
        if self.pretrained:
            return
        modules = nn.ModuleList([self.encoders, self.common, self.decoders]).requires_grad_(True)
        optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3, weight_decay=self.decay, fused=True)
        for _ in range(self.pretrain):
            order = torch.randperm(len(self.items), generator=generator, device=generator.device)
            for items in order.to(self.items.device).split(ROWS):
                optimizer.zero_grad()
                self._disentangle(self._features(items)).backward()
                optimizer.step()
        optimizer.zero_grad()
        self.decoders.requires_grad_(False)
        self.pretrained.fill_(True)

    def _disentangle(self, features: dict[str, Tensor]) -> Tensor:
        common, specific = self._split(features)
        total = 0.0
        for a, x in features.items():
            for b, decoder in self.decoders[a].items():
                total = total + _ranking(x, *(decoder(y) for y in (common[b], common[b] + specific[b], specific[b])))
                if a < b:
                    total = total + (common[a] - common[b]).square().mean()
                    total = total + (specific[a] * specific[b]).sum(1).square().mean()
        return total

    def _users(self, p: Tensor) -> Tensor:
        """[p, α_1 p, α_2 p, ...]; as codes are affine, their mean is the code of the mean features."""
        common, specific = self._split({m: self.means[m] for m in self.encoders})
        means = torch.cat([*common.values(), *specific.values()])  # (2 M, dim)
        attention = (p @ means.T).softmax(1)
        return torch.cat([p, *(alpha[:, None] * p for alpha in attention.T)], dim=1)

    def _items(self, q: Tensor, features: dict[str, Tensor]) -> Tensor:
        """[q, y_1, y_2, ...]."""
        common, specific = self._split(features)
        return torch.cat([q, *common.values(), *specific.values()], dim=1)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Users with their attention, items with their codes, (1 + 2 M) dim columns."""
        return self._users(self.users), self._items(self.items, self._features(slice(None)))

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """Logistic loss of the batch's scores, and the squared norm of all that is trained."""
        items = torch.cat([positives, negatives])
        u = self._users(F.embedding(users, self.users))
        p, n = self._items(F.embedding(items, self.items), self._features(items)).chunk(2)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return {
            "rec": F.softplus(-(u * p).sum(1)).sum() + F.softplus((u * n).sum(1)).sum(),
            "decay": self.decay * losses.squared_norm(*trained),
        }


def _ranking(x: Tensor, common: Tensor, whole: Tensor, specific: Tensor) -> Tensor:
    """G on what was decoded, a row for each of x's."""
    cosines = torch.stack([F.cosine_similarity(x, y) / 0.5 for y in (common, whole, specific)])
    return -cosines.log_softmax(0)[0].mean() - cosines[1:].log_softmax(0)[0].mean()
