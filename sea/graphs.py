"""The graphs that SEA and its baselines propagate on, in compressed rows (CSR), built in blocks."""

import hashlib
import json
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.blocks import row_blocks
from sea.data import DATA
from sea.files import DamagedFile, load_tensors, save_tensors


class Graph(nn.Module):
    """A frozen sparse matrix, which moves and changes precision with the module that holds it.

    Args:
        matrix: any scipy sparse matrix.
        symmetric: whether it is its own transpose, which is then not stored a second time.
    """

    def __init__(self, matrix: sp.sparray, symmetric: bool = False):
        super().__init__()
        self.register_buffer("matrix", _csr(matrix), persistent=False)
        self.register_buffer("_transposed", None if symmetric else _csr(matrix.T), persistent=False)

    @property
    def transposed(self) -> Tensor:
        """Aᵀ, in CSR as well."""
        return self.matrix if self._transposed is None else self._transposed


def _csr(matrix: sp.sparray) -> Tensor:
    matrix = sp.csr_array(matrix)
    with warnings.catch_warnings():
        for message in ("Sparse CSR tensor support is in beta", "Sparse invariant checks are implicitly disabled"):
            warnings.filterwarnings("ignore", message)
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            check_invariants=True,
        )


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """A x for A in CSR, as a weighted sum of embeddings: on a CPU a kernel several times as fast as CSR's own."""
    rows, columns, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    return F.embedding_bag(
        columns, x.contiguous(), rows, mode="sum", per_sample_weights=values, include_last_offset=True
    )


class _Propagate(torch.autograd.Function):
    """y = A x with the gradient Aᵀ g."""

    @staticmethod
    def forward(ctx, x: Tensor, graph: Graph) -> Tensor:
        ctx.graph = graph
        return _product(graph.matrix, x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return _product(ctx.graph.transposed, grad), None


def _powers(matrix: Tensor, x: Tensor, layers: int) -> Tensor:
    """Σ_{l=0..L} A^l x by Horner's rule, x + A (x + A (x + ...))."""
    total = x
    for _ in range(layers):
        total = _product(matrix, total).add_(x)
    return total


class _LayerSum(torch.autograd.Function):
    """Σ_l A^l x with the gradient Σ_l (Aᵀ)^l g."""

    @staticmethod
    def forward(ctx, x: Tensor, graph: Graph, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return _powers(graph.matrix, x, layers)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return _powers(ctx.graph.transposed, grad, ctx.layers), None, None


def propagate(graph: Graph, x: Tensor) -> Tensor:
    """One step along the graph, A x; differentiable in x, shape (nodes, d)."""
    return _Propagate.apply(x, graph)


def layer_sum(graph: Graph, x: Tensor, layers: int) -> Tensor:
    """Σ_{l=0..L} A^l x, Eqs. (6, 7), shape (nodes, d). LightGCN's mean is this over L + 1."""
    return _LayerSum.apply(x, graph, layers) if layers else x


def bipartite(pairs: np.ndarray, n_users: int, n_items: int, normalisation: str = "symmetric") -> Graph:
    """The user-item graph, users first, A = [[0, R], [Rᵀ, 0]] normalised by its degrees D.

    Args:
        pairs: train interactions, shape (n, 2), columns user and item.
        normalisation: "symmetric", D^-½ A D^-½ (LightGCN's and SEA's); "mean", D⁻¹ A (MMGCN's); or
            "mean_with_self", (D + I)⁻¹ (A + I) (LATTICE's and MICRO's, whose rows sum to 1).

    Nodes without an interaction keep an empty row and column, or themselves alone in "mean_with_self".
    """
    users, items = pairs[:, 0], pairs[:, 1] + n_users
    size = n_users + n_items
    nodes = np.arange(size if normalisation == "mean_with_self" else 0)
    rows, columns = np.concatenate([users, items, nodes]), np.concatenate([items, users, nodes])
    degree = np.bincount(rows, minlength=size).astype(np.float64)
    symmetric = normalisation == "symmetric"
    values = (degree[rows] * degree[columns]) ** -0.5 if symmetric else 1 / degree[rows]
    matrix = sp.coo_array((values.astype(np.float32), (rows, columns)), shape=(size, size))
    return Graph(matrix, symmetric)


def user_by_item(pairs: np.ndarray, n_users: int, n_items: int, normalisation: str = "symmetric") -> sp.csr_array:
    """The train interactions alone, R (n_users, n_items), normalised.

    Args:
        pairs: train interactions, shape (n, 2), columns user and item.
        normalisation: "symmetric", D_u^-½ R D_i^-½, the user-item block of `bipartite`'s; "sum", R itself, ones;
            "mean", D_u⁻¹ R, whose rows sum to 1; or "root", D_u^-½ R.

    Users and items without an interaction keep an empty row or column.
    """
    users, items = pairs.T
    by_user, by_item = (np.bincount(column).astype(np.float64)[column] for column in (users, items))
    ones = np.ones(len(pairs))
    values = {"symmetric": (by_user * by_item) ** -0.5, "sum": ones, "mean": 1 / by_user, "root": by_user**-0.5}
    matrix = sp.coo_array((values[normalisation].astype(np.float32), (users, items)), shape=(n_users, n_items))
    return matrix.tocsr()


def common_neighbours(pairs: np.ndarray, n_users: int, n_items: int, k: int) -> tuple[Tensor, Tensor]:
    """The k other users with whom each user shares most train items, most first, and how many items they share.

    Among equals, smaller ids come first. The products R Rᵀ exist for a block of users at a time.

    Args:
        pairs: train interactions, shape (n, 2), columns user and item.

    Returns:
        Users and counts, shape (n_users, k) each; -1 and 0 where fewer than k users share an item.
    """
    if k < 1:
        raise ValueError(f"'k' needs to be at least 1 in 'common_neighbours' (got {k})")
    bought = user_by_item(pairs, n_users, n_items, "sum")
    buyers = bought.T.tocsr()
    found, counts = np.full((n_users, k), -1), np.zeros((n_users, k), dtype=np.int64)
    for rows in row_blocks(n_users, n_users, torch.device("cpu")):
        shared = (bought[rows] @ buyers).tocoo()
        users, others = shared.coords[0] + rows.start, shared.coords[1]
        order = np.lexsort((others, -shared.data, users))
        order = order[users[order] != others[order]]
        users, others, values = users[order], others[order], shared.data[order]
        place = np.arange(len(users)) - np.searchsorted(users, users)  # in its user's own list
        kept = place < k
        found[users[kept], place[kept]], counts[users[kept], place[kept]] = others[kept], values[kept]
    return torch.from_numpy(found), torch.from_numpy(counts)


def prune(pairs: np.ndarray, share: float, generator: torch.Generator, by_degree: bool = True) -> np.ndarray:
    """Keep ⌊n (1 - share)⌋ of the n pairs, drawn without replacement.

    Args:
        pairs: interactions, shape (n, 2).
        share: the share that is dropped, at least 0 and below 1.
        generator: source of the draw.
        by_degree: draw in proportion to (d_u d_i)^-½, which drops pairs between popular nodes first; otherwise
            all alike.

    The draw is a race of exponential clocks: the smallest E / p are a sample without replacement with
    probabilities p, for any number of pairs. Source: Efraimidis and Spirakis, 2006.
    """
    if not 0 <= share < 1:
        raise ValueError(f"'share' needs to be at least 0 and below 1 in 'prune' (got {share!r})")
    clocks = torch.empty(len(pairs), dtype=torch.float64, device=generator.device).exponential_(generator=generator)
    clocks = clocks.cpu().numpy()
    if by_degree:
        users, items = (np.bincount(column)[column] for column in pairs.T)
        clocks *= np.sqrt(users * items)
    kept = int(len(pairs) * (1 - share))
    return pairs[np.sort(np.argpartition(clocks, kept - 1)[:kept])]


EXACT = 100_000
"""Rows up to which `nearest` compares all with all; beyond, it searches among the likely ones."""


@torch.no_grad()
def nearest(features: Tensor, k: int = 10) -> Tensor:
    """Indices of the k most cosine-similar rows of each row, itself first, shape (n, k), Eqs. (8, 9).

    The similarities exist for a block of rows at a time; the full n × n matrix never does. A row of zeros
    has cosine 0 with all and only itself for a neighbour: the rest of its row holds -1. With more than `EXACT`
    rows the search is approximate, and needs faiss.

    Raises:
        ValueError: k below 1 or above n; more than `EXACT` rows without faiss.
    """
    n = len(features)
    if not 1 <= k <= n:
        raise ValueError(f"'k' needs to lie between 1 and the number of rows, {n}, in 'nearest' (got {k})")
    unit = F.normalize(features, dim=1)
    found = _nearest_of_all(unit, k) if n <= EXACT else _nearest_of_likely(unit, k)
    found[(unit == 0).all(1), 1:] = -1
    return found


def _nearest_of_all(unit: Tensor, k: int) -> Tensor:
    found = torch.empty(len(unit), k, dtype=torch.long, device=unit.device)
    for rows in row_blocks(len(unit), len(unit), unit.device):
        similarity = unit[rows] @ unit.T  # (b, n)
        similarity.diagonal(rows.start).fill_(2.0)  # the item itself is always one of its neighbours
        found[rows] = similarity.topk(k).indices
    return found


def _nearest_of_likely(unit: Tensor, k: int) -> Tensor:
    """An inverted file: rows fall into 4 √n cells by k-means, and each is compared with those of the 32 nearest."""
    try:
        import faiss
    except ImportError:
        raise ValueError(
            f"'features' needs at most {EXACT} rows in 'nearest' where faiss is not installed, see the extra "
            f"'scale' (got {len(unit)})"
        ) from None
    n, width = unit.shape
    values = unit.cpu().numpy()
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, int(4 * n**0.5), faiss.METRIC_INNER_PRODUCT)
    index.nprobe, index.cp.min_points_per_centroid = 32, 1
    index.train(values)
    index.add(values)
    _, found = index.search(values, k)  # -1 where the cells held fewer
    own = found == np.arange(n)[:, None]
    order = np.argsort(~own, axis=1, kind="stable")  # itself first, the others as they were
    found = np.take_along_axis(found, order, axis=1)
    found[:, 0] = np.arange(n)  # also an item that k others tie with, and that was not found: it replaces one of them
    return torch.from_numpy(found).to(unit.device)


def cosines(features: Tensor, neighbours: Tensor) -> Tensor:
    """cos(x_i, x_j) of each row and its `neighbours`, shape (n, k) both; differentiable in the features."""
    unit = F.normalize(features, dim=1)
    return torch.stack([(unit * F.embedding(column, unit)).sum(1) for column in neighbours.T], dim=1)


def normalise(neighbours: Tensor, values: Tensor, degree: Tensor | None = None) -> Tensor:
    """s_ij / √(r_i r_j) for a directed graph of k neighbours a row, shape (n, k) both.

    Args:
        degree: r, shape (n,); the row sums of `values` if None.
    """
    root = (values.sum(1) if degree is None else degree).rsqrt()
    return values * root[:, None] * root[neighbours]


def gather(neighbours: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Σ_k values_ik x[neighbours_ik]: `propagate` for a graph whose values are being learned, O(n k d) memory."""
    return torch.einsum("nk,nkd->nd", values, F.embedding(neighbours, x))


def directed(neighbours: Tensor, values: Tensor) -> sp.csr_array:
    """The sparse matrix of k neighbours a row, shape (n, k) both; neighbours of -1 are left out."""
    index, weights = neighbours.cpu().numpy(), values.detach().cpu().numpy()
    kept = index >= 0
    rows = np.repeat(np.arange(len(index)), kept.sum(1))
    return sp.csr_array((weights[kept].astype(np.float32), (rows, index[kept])), shape=(len(index), len(index)))


KEPT: Path | None = DATA / "graphs"
"""Where `kept_nearest` keeps what it found; None: nowhere."""
WORTH = 1 << 33
"""Multiplications, n² d, from which on a search is worth a file: a tenth of a second's."""
NEAREST_REVISION = 1
"""Raised when `nearest` finds other neighbours than before."""


def kept_nearest(features: Tensor, k: int = 10) -> Tensor:
    """`nearest` of features that do not change from run to run, read from a file where it was found before.

    The file is named after all that the neighbours depend on: the features' own bytes, k, `NEAREST_REVISION`, and what
    decides between rows that are equally near but for rounding. A damaged one is made anew; where none can be
    written, none is.
    """
    n, width = features.shape
    if KEPT is None or n * n * width < WORTH:
        return nearest(features, k)
    values = features.detach().cpu().contiguous()
    rounding = torch.__version__, features.device.type, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    stated = json.dumps([str(values.dtype), list(values.shape), k, n <= EXACT, NEAREST_REVISION, *rounding])
    digest = hashlib.sha256(stated.encode())
    digest.update(values.view(torch.uint8).numpy())
    path = KEPT / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        return load_tensors(path)[0]["neighbours"].to(features.device)
    except DamagedFile:
        found = nearest(features, k)
    with suppress(OSError):
        KEPT.mkdir(parents=True, exist_ok=True)
        save_tensors(path, {"neighbours": found}, {"of": stated})
    return found


def knn(features: Tensor, k: int = 10, weighted: bool = False) -> sp.csr_array:
    """The frozen item graph of one modality: edges to the `nearest`, D^-½ A D^-½, Eqs. (9, 10).

    D holds row sums, of the edges' weights: 1 each, so that every edge ends up as 1/k, or the cosines if
    `weighted` (LATTICE's, MICRO's and MGCN's graph). An all-zero feature row keeps itself alone, with weight 1.
    """
    neighbours = kept_nearest(features, k)
    found = neighbours.clamp(min=0)
    values = cosines(features, found) if weighted else torch.ones_like(found, dtype=torch.float64)
    values = torch.where(neighbours < 0, 0, values)
    values[:, 0] = 1  # the item itself
    return directed(neighbours, normalise(found, values))


def modality_weights(modalities: list[str], image_weight: float) -> Tensor:
    """c_m of Eq. (11): `image_weight` for "image", the others evenly; evenly for all if there is no "image"."""
    if not 0 < image_weight < 1:
        raise ValueError(f"'image_weight' needs to lie between 0 and 1 in 'modality_weights' (got {image_weight!r})")
    count = len(modalities)
    if "image" not in modalities:
        return torch.full((count,), 1 / count)
    rest = (1 - image_weight) / (count - 1)
    return torch.tensor([image_weight if m == "image" else rest for m in modalities])


def fuse(graphs: dict[str, sp.csr_array], image_weight: float) -> sp.csr_array:
    """S = Σ_m c_m S_m, Eq. (11), with the `modality_weights` for c."""
    weights = modality_weights(list(graphs), image_weight).tolist()
    return sum(c * graph for c, graph in zip(weights, graphs.values()))
