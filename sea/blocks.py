"""Tables of items × items or users × items, computed some rows at a time, so that no whole table is in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

CELLS = {"cpu": 1 << 22, "cuda": 1 << 26}  # 16 MiB of float32; 256 MiB on a GPU


def row_blocks(rows: int, columns: int, device: torch.device, share: float = 1, least: int = 1) -> Iterator[slice]:
    """Slices that cover `rows`: a (rows, columns) block of each keeps to a share of the device's CELLS.

    Args:
        share: of a CPU's CELLS; a small one keeps a block in its cache, while it is passed over several times. A GPU
            takes all of its own, as few large kernels are faster there.
        least: rows of a block that are worth its overhead, even if it gets larger.
    """
    cells = CELLS["cuda"] if device.type == "cuda" else int(CELLS["cpu"] * share)
    step = max(least, cells // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a table, shape (len(rows), d), sparse (COO) if the table is."""
    return table.index_select(0, rows) if table.is_sparse else table[rows]


def all_finite(table: Tensor) -> bool:
    """Whether a table, dense or sparse (COO), is free of NaN and infinity."""
    return bool(torch.isfinite(table.coalesce().values() if table.is_sparse else table).all())
