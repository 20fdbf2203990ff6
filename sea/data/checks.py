"""What every dataset keeps to: splits, columns, the checks of features and their names; how a breach is told."""

import os
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "data"
SPLITS = ("train", "valid", "test")
COLUMNS = ("userID", "itemID", "x_label")


LONGEST = 600
"""Characters of a refusal. Of a longer one the middle is left out: the place stands first, the value last."""


class DataError(ValueError):
    """Input that breaks a rule; the message names the file, the line or row, the rule and the value.

    The message is one line that is safe on a terminal: what can't be printed is shown as an escape, such as \\x1b.
    """

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in _cut(message))
        super().__init__(_cut(line))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-(LONGEST // 2 - 3) :]}"


def existing_file(path: Path) -> Path:
    """The path of a file, once it is known not to be a folder, a broken link, or a pipe, for which reading waits."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "nothing"
        raise DataError(f"{path}: needs to be a file (got {found})")
    return path


def is_there(path: Path) -> bool:
    """Whether something has that name; refused unless it is an `existing_file`."""
    return os.path.lexists(path) and bool(existing_file(path))


def shown(value: object) -> str:
    """How a message shows a value: as Python writes it, without NumPy's type."""
    return repr(value.item() if hasattr(value, "item") else value)


def modality(name: object, where: str) -> str:
    """A modality's name, once it is known to be one that a model can keep its parts under; `where` names its source.

    Models keep a modality's layers and parameters in an `nn.ModuleDict` and an `nn.ParameterDict` under its name. So
    the name is text that can be printed, is not empty, has no dot, and is no attribute of these two, as "type" and
    "keys" are.
    """
    from torch import nn  # it takes seconds, and only who reads a dataset needs it

    fit = isinstance(name, str) and name != "" and name.isprintable() and "." not in name
    if not fit or any(hasattr(kind(), name) for kind in (nn.ModuleDict, nn.ParameterDict)):
        raise DataError(
            f"{where}: a modality's name needs to be printable text, not empty, without a dot, and no attribute of "
            f"torch's modules, as 'type' and 'keys' are (got {shown(name)})"
        )
    return name


def float_matrix(raw: np.ndarray, where: str) -> np.ndarray:
    """Features as float32, shape (n, d), once they are known to be a matrix of finite floats; `where` names them."""
    if raw.ndim != 2 or raw.dtype.kind != "f" or raw.dtype.itemsize > 8 or not raw.shape[1]:
        raise DataError(
            f"{where}: needs to be a matrix of float16, float32 or float64 with at least one column "
            f"(got {raw.dtype}, shape {raw.shape})"
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
