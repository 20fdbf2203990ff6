"""A reader's own frames: their labels, features and splits, checked."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sea.data.checks import SPLITS, DataError, float_matrix, modality, shown
from sea.data.writing import one_line


def check(name: str, interactions: pd.DataFrame, features: dict[str, object]) -> None:
    """Refuse names that no file or no model can have, and interactions without a user or an item."""
    for text in (name, *(modality(m, "'features'") for m in features)):
        if not text or Path(text).name != text:
            raise DataError(f"'name' and modalities need to be fit for a file's name (got {text!r})")
    for column in ("user", "item"):
        if column not in interactions:
            raise DataError(f"'interactions' needs a column {column} (got {', '.join(map(str, interactions.columns))})")
        unnamed = interactions[column].isna().to_numpy()
        if unnamed.any():
            raise DataError(f"'interactions' row {int(unnamed.argmax())}: needs a label in column {column} (got none)")


def catalogue(items: pd.DataFrame | Sequence[Hashable] | None, seen: pd.Series) -> pd.DataFrame:
    """A row for each item, indexed by its label."""
    if not isinstance(items, pd.DataFrame):
        items = pd.DataFrame(index=pd.Index(pd.unique(seen) if items is None else list(items)))
    repeated = items.index[items.index.duplicated()]
    if len(repeated):
        raise DataError(f"'items' needs every label once (got {shown(repeated[0])} twice)")
    return items


def by_item(name: str, values: np.ndarray | pd.DataFrame, labels: pd.Index, unordered: bool) -> np.ndarray:
    """A modality's checked features, in the items' order."""
    where = f"'features' {name}"
    if isinstance(values, pd.DataFrame):
        missing = labels.difference(values.index, sort=False)
        if len(missing):
            raise DataError(f"{where}: needs a row for every item (got none for {shown(missing[0])})")
        return float_matrix(values.loc[labels].to_numpy(), where)
    if unordered:
        raise DataError(f"{where}: needs to be a frame indexed by item label where 'items' is None (got an array)")
    if len(values) != len(labels):
        raise DataError(f"{where}: needs a row for each of the {len(labels)} items (got {len(values)} rows)")
    return float_matrix(values, where)


def split_labels(labels: pd.Series) -> np.ndarray:
    """A reader's own split, as int64."""
    known = labels.isin(range(len(SPLITS))).to_numpy()
    if not known.all():
        row = int(known.argmin())
        got = shown(labels.iloc[row])
        raise DataError(f"'interactions' row {row}: x_label needs to be 0 (train), 1 (valid) or 2 (test) (got {got})")
    return labels.to_numpy(np.int64)


def texts(table: pd.DataFrame) -> pd.DataFrame:
    """All columns as text in one line, as the files hold them; "" for what is missing."""
    return table.astype(object).where(table.notna(), "").apply(one_line)
