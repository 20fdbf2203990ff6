"""Rows at a time: how everything that would be items × items, or users × items, stays small."""

from collections.abc import Iterator

import torch

CELLS = {"cpu": 1 << 20, "cuda": 1 << 26}  # 4 MiB of float32, about a cache; 256 MiB on a GPU


def row_blocks(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover `rows`, each of so many rows that a (rows, columns) block keeps to the device's CELLS."""
    step = max(1, CELLS.get(device.type, CELLS["cpu"]) // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
