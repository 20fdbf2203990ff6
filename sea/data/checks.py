"""What every dataset keeps to: splits, columns, the checks of features and their names; how a breach is told."""

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


def modality(name: object, where: str) -> str:
    """A modality's name, once it is known to be one that a model can keep its parts under; `where` names its source.

    Models keep a modality's layers and parameters in an `nn.ModuleDict` and an `nn.ParameterDict` under its name. So
    the name is text, is not empty, has no dot, and is no attribute of these two, as "type" and "keys" are.
    """
    from torch import nn  # it takes seconds, and only who reads a dataset needs it

    fit = isinstance(name, str) and name != "" and "." not in name
    if not fit or any(hasattr(kind(), name) for kind in (nn.ModuleDict, nn.ParameterDict)):
        raise DataError(
            f"{where}: a modality's name needs to be text, not empty, without a dot, and no attribute of torch's "
            f"modules, as 'type' and 'keys' are (got {shown(name)})"
        )
    return name


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
