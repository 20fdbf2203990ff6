"""What every dataset keeps to: its splits and columns, the check of features, and how a breach is told."""

from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "data"
SPLITS = ("train", "valid", "test")
COLUMNS = ("userID", "itemID", "x_label")


class DataError(ValueError):
    """Input that breaks a rule; the message names the file, the line or row, the rule and the value."""


def shown(value: object) -> str:
    """How a message shows a value: as Python writes it, without NumPy's type."""
    return repr(value.item() if hasattr(value, "item") else value)


def float_matrix(raw: np.ndarray, where: str) -> np.ndarray:
    """Features as float32, shape (n, d), once they are known to be a matrix of finite floats; `where` names them."""
    if raw.ndim != 2 or raw.dtype.kind != "f" or raw.dtype.itemsize > 8:
        raise DataError(
            f"{where}: needs to be a matrix of float16, float32 or float64 (got {raw.dtype}, shape {raw.shape})"
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(raw, dtype=np.float32)
    finite = np.isfinite(values).all(1)
    if not finite.all():
        row = int(finite.argmin())
        column = int(np.isfinite(values[row]).argmin())
        raise DataError(
            f"{where}: row {row}, column {column}: features need to be finite in float32 (got {raw[row, column]})"
        )
    return values
