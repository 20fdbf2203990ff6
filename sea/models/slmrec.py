"""SLMRec: one graph channel for ids and for each modality, and a contrast between the channels."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import bipartite, layer_sum
from sea.layers import linear
from sea.models.base import Recommender
from sea.models.shared import Frozen, id_tables, raw_features


class SLMRec(Recommender):
    """SLMRec (Tao et al., TMM 2022): ids and modalities as LightGCN channels, fused linearly, without BPR.

        [u_c; i_c] = 1/(L+1) Σ_{l=0..L} Â^l [P; Q_c]     Q_id = Q, Q_m = Linear_m(unit rows of X_m); one P for all
        u = Linear([u_c]_c),  i = Linear'([i_c]_c)
        a_1 = A_1 i_id,  a_k = A_k a_{k-1},  b_k = B_k i_m(k)        m(k): k-th modality; A, B, C linear
        loss = N(û, î, 0.2) + contrast · (Σ_{k<M} N(a_k, b_k, τ) + N(C a, b_M, τ)) + decay · ½ ‖θ‖²

    Modalities are in `sea.data.modality_order`, the image first. N(x, y, τ) is the mean of
    -log softmax_j(x_i · y_j / τ) at j = i over the batch's rows. Hats are unit rows; the contrast's rows are not. The
    batch's other positives are the negatives, a repeated user or item included; sampled negatives are not used.

    C and B_M halve the width. M is the number of modalities. With three or more, a is a_{M-1}. With two, a is a_2.
    The authors have three modalities. The program behind the published row has two: it leaves out the audio's term
    N(a_2, b_2), and keeps a_2 in the chain.

    The L2 term is the published runs' weight decay, which their Adam adds to the gradient. Everything learned gets
    a gradient in every batch, so both decay the same, rows of items without an interaction included. The model is
    trained on cosines, but scored by u · i. Scores use the present parameters; the published program's are one update
    old, and pass through a sigmoid, which adds nothing but ties where it saturates.

    The step size is 1e-3, that of the framework behind the published row. The authors' default, 1e-2, was chosen on
    another dataset.

    Args:
        dim: width of the vectors.
        layers: L.
        tau, contrast: temperature and weight of the contrast between channels.
        decay: weight of the L2 term.
    """

    grid: ClassVar = {
        "lr": (1e-4, 1e-3, 1e-2, 1e-1),
        "tau": (0.1, 0.2, 0.5, 1.0),
        "contrast": (0.01, 0.05, 0.1, 0.5, 1.0),
    }
    replays: ClassVar = True
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers: int = 3,
        tau: float = 0.2,
        contrast: float = 0.1,
        decay: float = 1e-4,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers, self.tau, self.contrast, self.decay = layers, tau, contrast, decay

        def dense(inputs: int, outputs: int) -> nn.Linear:
            layer = linear(inputs, outputs, generator)
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            return layer

        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.graph = bipartite(dataset.train, dataset.n_users, dataset.n_items)
        self.maps = nn.ModuleDict()
        self.features = Frozen({m: F.normalize(values, dim=1) for m, values in raw_features(dataset).items()})
        for m in dataset.modalities:
            self.maps[m] = dense(self.features[m].shape[1], dim)
        channels, earlier = 1 + len(self.maps), len(self.maps) - 1
        self.fuse_users, self.fuse_items = dense(channels * dim, dim), dense(channels * dim, dim)
        self.chain = nn.ModuleList([dense(dim, dim) for _ in range(max(2, earlier))])  # A
        self.last = dense(dim, dim // 2)  # C
        self.heads = nn.ModuleList([dense(dim, dim) for _ in range(earlier)] + [dense(dim, dim // 2)])  # B

    def _channels(self) -> tuple[Tensor, Tensor]:
        """[u_c]_c and [i_c]_c, side by side, the ids' first: (n_users, C dim) and (n_items, C dim)."""
        sources = [self.items, *(layer(self.features[m]) for m, layer in self.maps.items())]
        nodes = torch.cat([torch.cat([self.users, source]) for source in sources], dim=1)
        mean = layer_sum(self.graph, nodes, self.layers) / (self.layers + 1)
        return mean.split([len(self.users), len(self.items)])

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """Softmax over the batch, the channels' contrast on its items, and the decay of all that is learned."""
        by_user, by_item = self._channels()
        u, i = F.embedding(users, by_user), F.embedding(positives, by_item)
        return {
            "rec": losses.solosim(self.fuse_users(u), self.fuse_items(i), 0.2),
            "contrast": self.contrast * self._contrast(*i.chunk(1 + len(self.maps), dim=1)),
            "decay": self.decay * losses.squared_norm(*self.parameters()),
        }

    def _contrast(self, ids: Tensor, *modalities: Tensor) -> Tensor:
        anchors = [ids]
        for step in self.chain:
            anchors.append(step(anchors[-1]))
        anchors = [*anchors[1 : len(modalities)], self.last(anchors[-1])]
        target = torch.arange(len(ids), device=ids.device)
        return sum(
            F.cross_entropy(a @ head(rows).T / self.tau, target)
            for a, head, rows in zip(anchors, self.heads, modalities, strict=True)
        )

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The fused vectors."""
        by_user, by_item = self._channels()
        return self.fuse_users(by_user), self.fuse_items(by_item)
