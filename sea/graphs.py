"""The graphs that SEA and its baselines propagate on, in compressed rows (CSR), built in blocks."""

import warnings

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea.blocks import row_blocks


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
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            check_invariants=True,
        )


class _Propagate(torch.autograd.Function):
    """y = A x with the gradient Aᵀ g, which for a symmetric A is the same fast product."""

    @staticmethod
    def forward(ctx, x: Tensor, graph: Graph) -> Tensor:
        ctx.graph = graph
        return graph.matrix @ x

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return ctx.graph.transposed @ grad.contiguous(), None


def propagate(graph: Graph, x: Tensor) -> Tensor:
    """One step along the graph, A x; differentiable in x, shape (nodes, d)."""
    return _Propagate.apply(x, graph)


def layer_sum(graph: Graph, x: Tensor, layers: int) -> Tensor:
    """Σ_{l=0..L} A^l x, Eqs. (6, 7), shape (nodes, d). LightGCN's mean is this over L + 1."""
    total = x
    for _ in range(layers):
        x = propagate(graph, x)
        total = total + x
    return total


def bipartite(pairs: np.ndarray, n_users: int, n_items: int) -> Graph:
    """The user-item graph Â = D^-½ A D^-½ without self loops, users first.

    Args:
        pairs: train interactions, shape (n, 2), columns user and item.

    Nodes without an interaction keep an empty row and column.
    """
    users, items = pairs[:, 0], pairs[:, 1] + n_users
    size = n_users + n_items
    rows, columns = np.concatenate([users, items]), np.concatenate([items, users])
    degree = np.bincount(rows, minlength=size).astype(np.float64)
    values = (degree[rows] * degree[columns]) ** -0.5
    matrix = sp.coo_array((values.astype(np.float32), (rows, columns)), shape=(size, size))
    return Graph(matrix, symmetric=True)


@torch.no_grad()
def nearest(features: Tensor, k: int = 10) -> Tensor:
    """Indices of the k most cosine-similar rows of each row, itself first, shape (n, k), Eqs. (8, 9).

    The similarities exist for a block of rows at a time; the full n × n matrix never does. A row of zeros
    has cosine 0 with all and only itself for a neighbour: the rest of its row holds -1.
    """
    n = len(features)
    if not 1 <= k <= n:
        raise ValueError(f"'k' needs to lie between 1 and the number of rows, {n}, in 'nearest' (got {k})")
    unit = F.normalize(features, dim=1)
    found = torch.empty(n, k, dtype=torch.long, device=features.device)
    for rows in row_blocks(n, n, unit.device):
        similarity = unit[rows] @ unit.T  # (b, n)
        similarity.diagonal(rows.start).fill_(2.0)  # the item itself is always one of its neighbours
        found[rows] = similarity.topk(k).indices
    found[(unit == 0).all(1), 1:] = -1
    return found


def knn(features: Tensor, k: int = 10) -> sp.csr_array:
    """The frozen item graph of one modality: edges of weight 1 to the `nearest`, D^-½ A D^-½, Eqs. (9, 10).

    D holds row sums. They are k for all but all-zero feature rows, so that every edge weighs 1/k.
    """
    neighbours = nearest(features, k).cpu().numpy()
    n = len(neighbours)
    kept = neighbours >= 0
    degree = kept.sum(1)
    rows, columns = np.repeat(np.arange(n), degree), neighbours[kept]
    values = (degree[rows] * degree[columns]).astype(np.float64) ** -0.5
    return sp.csr_array((values.astype(np.float32), (rows, columns)), shape=(n, n))
