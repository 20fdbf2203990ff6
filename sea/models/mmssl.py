"""MMSSL: ids and modalities along the user-item graph, and a contrast of the two."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import losses
from sea.data import Dataset
from sea.graphs import Graph, propagate, user_by_item
from sea.layers import dropout, linear, xavier
from sea.models.base import Recommender
from sea.models.shared import Frozen, batch_rows, bpr_of_rows, id_tables, raw_features

HEADS = 4


class MMSSL(Recommender):
    """MMSSL (Wei et al., WWW 2023), adapted: what the released program trains at its released settings.

        F_m = dropout(Linear_m(X_m)),  U_m = P̂ F_m,  I_m = Q̂ U_m                 P̂ = D_u^-½ R,  Q̂ = D_i^-½ Rᵀ
        u_0 = P + 0.36 unit(P̂ Q W),  i_0 = Q + 0.36 unit(Q̂ P W)                  in the first `graph_batches`
        u_0 = P,  i_0 = Q                                                        from there on
        u_1 = P̂ i_0,  i_1 = Q̂ u_1,  u_2 = softmax(P̂ i_1),  i_2 = softmax(Q̂ u_2)
        u = (u_0 + u_1 + u_2) / 3 + content · Σ_m unit(U_m),  i = (i_0 + i_1 + i_2) / 3 + content · Σ_m unit(I_m)
        loss = BPR + 1e-5 · ½ Σ (‖u‖² + ‖i‖² + ‖j‖²) / B + 1e-5 · ½ Σ_m (‖U_m‖² + ‖I_m‖²) / n_items
               + contrast · M C(P̂ Q, u) in the first `graph_batches`

    unit() scales rows to length one, softmax is over columns, R is the train interactions, W a sum of four square
    maps, C `sea.losses.two_view_contrast` over the batch's users, each once.

    The paper has P_m Q in place of P̂ Q: an adversary makes a graph P_m for each modality. In the released program
    P_m starts as P̂. After every batch but an epoch's first it is rebuilt, from edges that the first batch alone
    collects: ⌊n_items / 10 000⌋ for each of its users. Baby has 7050 items, which gives no edge at all. So from
    the third batch on P_m is empty; P_m Q is zero, and the contrast teaches nothing. On sets with more items, one
    batch in each epoch still has a few edges; here it has none. The paper's attention between modalities is W in
    the released program: its weights sum to one, over copies of one and the same vector. A large `graph_batches`
    keeps P̂, and with it the contrast; that is ours.

    Left out is the adversary, a network of n_items by n_items / 4 weights and more. Its verdict, at most 100, has
    a weight of 1e-4 in the loss. With no graph to make, it reaches the model through Linear_m alone: we measured
    the norm of its gradient at 0.1 to 0.5 % of the norm of the rest.

    The optimiser is AdamW: each step first takes the share step size · `decay` off every parameter. B is the
    configured batch size, also in the short last one. Batches, negatives and stopping are those of all our models,
    not of the authors' loop (1024 users drawn evenly).

    Args:
        dim: width of the vectors.
        drop: share of F_m that drops out in training.
        content: weight of the modalities.
        contrast: weight of the contrast.
        graph_batches: for how many batches of a training the modalities' graphs last.
        decay: AdamW's weight decay; its own default, 0.01, is the published one.
    """

    lr = 5.5e-4
    grid: ClassVar = {"content": (0.55, 0.8), "graph_batches": (2, 10**9)}
    revision: ClassVar[int] = 1

    def __init__(
        self,
        dataset: Dataset,
        *,
        dim: int = 64,
        drop: float = 0.2,
        content: float = 0.55,
        contrast: float = 0.03,
        graph_batches: int = 2,
        decay: float = 0.01,
        generator: torch.Generator,
    ):
        super().__init__()
        self.drop, self.content, self.contrast = drop, content, contrast
        self.graph_batches, self.weight_decay = graph_batches, decay
        sizes = dataset.n_users, dataset.n_items
        self.users, self.items = id_tables("uniform", dataset, dim, generator)
        self.to_users = Graph(user_by_item(dataset.train, *sizes, "root"))
        self.to_items = Graph(user_by_item(dataset.train[:, ::-1], *reversed(sizes), "root"))
        self.maps = nn.ModuleDict()
        self.features = Frozen(raw_features(dataset))
        for m in dataset.modalities:
            self.maps[m] = linear(self.features[m].shape[1], dim, generator)
            nn.init.xavier_uniform_(self.maps[m].weight, generator=generator)
        self.heads = xavier("uniform", HEADS * dim, dim, generator=generator)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.generator = generator

    def before_epoch(self, generator: torch.Generator) -> None:
        """Keep the training's generator, for the dropout of the epoch."""
        self.generator = generator

    def after_step(self) -> None:
        """Count the batch."""
        self.batches += 1

    def _contents(self, drop: float) -> list[tuple[Tensor, Tensor]]:
        """U_m and I_m."""
        found = []
        for m, layer in self.maps.items():
            mapped = dropout(layer(self.features[m]), drop, self.generator)
            users = propagate(self.to_users, mapped)
            found.append((users, propagate(self.to_items, users)))
        return found

    def _modality_graphs(self) -> tuple[Tensor, Tensor] | None:
        """P̂ Q and Q̂ P while there are such graphs."""
        if self.batches < self.graph_batches:
            return propagate(self.to_users, self.items), propagate(self.to_items, self.users)
        return None

    def _encode(
        self, contents: list[tuple[Tensor, Tensor]], along: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """u and i."""
        users, items = self.users, self.items
        if along is not None:
            weight = sum(self.heads.chunk(HEADS))
            users, items = (x + 0.36 * F.normalize(y @ weight, dim=1) for x, y in zip((users, items), along))
        users_1 = propagate(self.to_users, items)
        items_1 = propagate(self.to_items, users_1)
        users_2 = propagate(self.to_users, items_1).softmax(1)
        items_2 = propagate(self.to_items, users_2).softmax(1)
        of_users, of_items = (sum(F.normalize(view, dim=1) for view in views) for views in zip(*contents))
        users = (users + users_1 + users_2) / 3 + self.content * of_users
        return users, (items + items_1 + items_2) / 3 + self.content * of_items

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """BPR and squared norms; in the first batches the contrast of the batch's users as well."""
        contents, along = self._contents(self.drop), self._modality_graphs()
        vectors = self._encode(contents, along)
        u, p, n = batch_rows(vectors, users, positives, negatives)
        of_content = losses.squared_norm(*(view for views in contents for view in views)) / len(self.items)
        terms = {
            "rec": bpr_of_rows(u, p, n),
            "reg": 1e-5 * (losses.squared_norm(u, p, n) / self.batch_size + of_content),
        }
        if along is not None:
            once = users.unique()
            views = F.embedding(once, along[0]), F.embedding(once, vectors[0])
            terms["contrast"] = self.contrast * len(contents) * losses.two_view_contrast(*views)
        return terms

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Without dropout, with the graphs of the last step."""
        return self._encode(self._contents(0.0), self._modality_graphs())
