"""SEA: separate learning for multimedia recommendation."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.data import Dataset
from sea.graphs import Graph, bipartite, fuse, knn, layer_sum, modality_weights, propagate
from sea.layers import linear, xavier
from sea.models.base import Recommender
from sea.models.shared import WithPlugIn, batch_rows, bpr_of_rows, raw_features
from sea.separate import SeparateLearning


class SEA(WithPlugIn, Recommender):
    """Separate learning (SEA): a GNN for each modality on users and items, an item graph, and `SeparateLearning`.

    For each modality m, with T_m its transformed features (see `SeparateLearning`):

        x_m = unit rows of [P_m ; MLP_m(T_m)]      P_m (n_users, d) learned; MLP: Linear(4d)-LeakyReLU-Linear(d)
        e_m = Σ_{l=0..L_ui} Â^l x_m                                                          Eqs. (6, 7)
        users = [w_m · e_m,user]_m                  concatenated, w (n_users, M) learned, about 1/M at the start
        items = E + S^{L_ii} E,  E = [e_m,item]_m   S = Σ_m c_m S_m, frozen kNN graphs      Eqs. (8-12, 17)
        loss  = BPR + α L_align + β L_distance                                              Eqs. (18, 19)

    Defaults are the released program's. Where it differs from the paper, the paper's version is a setting:
    `bpr_log_base` (e in the paper), `learn_graph_weights` (Eq. 11 calls c learnable; released: constants),
    and SeparateLearning's `club_released` and `q_shared`. Scores use the present parameters; the released
    program's are one batch old.

    Args:
        dataset: with at least two modalities.
        dim: d, the width for each modality; final vectors are M · d wide.
        layers_ui, layers_ii: L_ui and L_ii.
        k: neighbours of an item in each S_m, itself included.
        image_weight: c of the modality "image"; the others share the rest evenly. Without a modality of that
            name all weigh the same.
        learn_graph_weights: whether c is learned, as the softmax of logits that start at the values above.
        bpr_log_base: base of BPR's logarithm.
        separation: all settings of `SeparateLearning`.
    """

    lr = 1e-4
    grid: ClassVar = {"alpha": (0.012, 0.12, 0.6), "beta": (0.006, 0.06), "lr": (1e-4, 5e-4, 1e-3)}
    published: ClassVar = ({"alpha": 0.6},)  # what the size of the losses in the logs of Baby and Sports implies
    around: ClassVar = {"tau": (0.1, 0.5)}
    replays: ClassVar = True
    passes_on: ClassVar = (SeparateLearning,)
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        layers_ui: int = 2,
        layers_ii: int = 1,
        k: int = 10,
        image_weight: float = 0.1,
        learn_graph_weights: bool = False,
        bpr_log_base: float = 2.0,
        generator: torch.Generator,
        **separation: object,
    ):
        super().__init__()
        features = raw_features(dataset)
        self.layers_ui, self.layers_ii, self.bpr_log_base = layers_ui, layers_ii, bpr_log_base
        self.separate = SeparateLearning(features, encoder_width=4 * dim, generator=generator, **separation)
        self.replays = not (self.separate.align_items or self.separate.q_items)  # a recording draws no items anew
        self.mlps = nn.ModuleDict({m: nn.Sequential(nn.LeakyReLU(), linear(4 * dim, dim, generator)) for m in features})
        self.preferences = nn.ParameterDict(
            (m, xavier("normal", dataset.n_users, dim, generator=generator)) for m in features
        )
        draws = torch.randn(dataset.n_users, len(features), generator=generator)
        spread = math.sqrt(2 / (dataset.n_users + len(features)))  # Xavier's, for this shape
        self.user_weights = nn.Parameter((draws * spread).softmax(dim=1))
        self.user_item = bipartite(dataset.train, dataset.n_users, dataset.n_items)
        graphs = {m: knn(values, k) for m, values in features.items()}
        self.graph_logits = None
        if learn_graph_weights:
            self.graph_logits = nn.Parameter(modality_weights(list(features), image_weight).log())
            self.item_item = nn.ModuleList([Graph(graph) for graph in graphs.values()])
        else:
            self.item_item = nn.ModuleList([Graph(fuse(graphs, image_weight))])

    def _encode(self) -> tuple[Tensor, Tensor, dict]:
        parts = self.separate()
        x = torch.cat(
            [
                F.normalize(torch.cat([self.preferences[m], mlp(parts[m].encoder)]), dim=1)
                for m, mlp in self.mlps.items()
            ],
            dim=1,
        )  # (n_users + n_items, M d): the modalities side by side, so that one product serves them all
        n_users, modalities = self.user_weights.shape
        users, items = layer_sum(self.user_item, x, self.layers_ui).split([n_users, len(x) - n_users])
        users = (users.view(n_users, modalities, -1) * self.user_weights[:, :, None]).flatten(1)
        return users, items + self._along_items(items), parts

    def _along_items(self, items: Tensor) -> Tensor:
        for _ in range(self.layers_ii):
            steps = torch.stack([propagate(graph, items) for graph in self.item_item])
            weights = 1 if self.graph_logits is None else self.graph_logits.softmax(0)[:, None, None]
            items = (weights * steps).sum(0)
        return items

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR on the batch; alignment and distancing over all items."""
        *vectors, parts = self._encode()
        rows = batch_rows(vectors, users, positives, negatives)
        return {"rec": bpr_of_rows(*rows, self.bpr_log_base), **self.separate.loss(parts)}

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The fused user and item vectors."""
        users, items, _ = self._encode()
        return users, items
