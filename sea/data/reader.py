"""Reading a dataset: MMRec's format, its checks, and the tables of names beside it."""

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sea.data.checks import (
    COLUMNS,
    DATA,
    DataError,
    existing_file,
    float_matrix,
    is_there,
    modality,
    shown,
)
from sea.data.dataset import Dataset, assemble
from sea.data.knockout import is_planted, knock_out, knocked_out
from sea.data.official import difference
from sea.data.synthetic import FIRST_WORLD, planted

MOST = 2**53
"""Whole numbers up to this one are exact as floats, and ids stay below it."""


def load(source: str | Path, seed: int = FIRST_WORLD) -> Dataset:
    """Read a dataset: "planted", a folder in MMRec's format, or the name of a folder under data/.

    Of planted worlds there are as many as seeds, and a run has the one of its own seed. A folder has no seed.

    Any of them with !MODALITY,MODALITY=HOW after it, such as "planted!image,text=noise", has these features replaced,
    as `sea.data.knock_out` does. The seed of the draws is that of the world, and for a folder always `FIRST_WORLD`.

    A folder holds NAME.inter (tab separated, a header with at least userID, itemID and x_label, where 0 is
    train, 1 valid, 2 test) and at least one *_feat.npy (a row for each item id, float16 to float64; float32
    once loaded), whose stem names the modality. Ids count from 0. If there, items.tsv and users.tsv (tab separated,
    a column itemID or userID, any others) name them, and warning.txt is the set's warning.

    Raises:
        DataError: a missing file or column; a folder or a pipe in a file's place; an id that is negative, fractional,
            huge or not a number; a label other than 0, 1, 2; a pair that occurs twice, within a split or across
            splits (a leak); an empty split; a modality's name that no model can use (`sea.data.checks.modality`);
            features that are not a plain float matrix, have no column, are cut short, hold NaN or infinity, or have
            fewer rows than there are items; something else than modalities of the set and a known way to replace them
            after "!".
    """
    plain, modalities, how = knocked_out(str(source))
    if modalities:
        return knock_out(load(plain, seed), modalities, how, seed if is_planted(plain) else FIRST_WORLD)
    if str(source) == "planted":
        return planted(seed=seed)
    folder = next((path for path in (Path(source), DATA / source) if os.path.isdir(path)), None)
    if folder is None:
        raise DataError(f"{source}: needs to be 'planted', a folder, or the name of one under data/")
    inter = _inter_file(folder)
    frame = _read_inter(inter)
    found = sorted(folder.glob("*_feat.npy"))
    files = {modality(path.name.removesuffix("_feat.npy"), str(path)): existing_file(path) for path in found}
    features = {name: _read_features(files[name]) for name in sorted(files)}
    if not features:
        raise DataError(f"{folder}: needs at least one *_feat.npy with item features (found none)")
    n_users, n_items = (int(frame[column].max()) + 1 for column in ("userID", "itemID"))
    for name, values in features.items():
        if len(values) < n_items:
            raise DataError(f"{files[name]}: needs a row for each of the {n_items} items (got {len(values)} rows)")
    dataset = assemble(inter.stem, frame, features, lambda row: f"{inter}:{row + 2}", str(inter), n_users, n_items)
    warnings = [_read_warning(folder / "warning.txt"), difference(inter, features)]
    return replace(
        dataset,
        users=_read_names(folder / "users.tsv", "userID", n_users),
        items=_read_names(folder / "items.tsv", "itemID", n_items),
        warning="; ".join(dict.fromkeys(filter(None, warnings))),
    )


def _inter_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: needs exactly one NAME.inter with the interactions (found {names})")
    if not found[0].stem.isprintable():
        raise DataError(f"{found[0]}: its name needs to be printable, as it is the dataset's (got {found[0].stem!r})")
    return existing_file(found[0])


def _read_table(path: Path, columns: tuple[str, ...], **options: object) -> pd.DataFrame:
    """A tab-separated table that has at least the `columns`."""
    options |= {"sep": "\t", "quoting": csv.QUOTE_NONE, "encoding": "utf-8-sig", "encoding_errors": "replace"}
    try:
        header = list(pd.read_csv(path, nrows=0, **options).columns)
        missing = [column for column in columns if column not in header]
        if missing:
            raise DataError(f"{path}:1: needs a column {missing[0]} (got {', '.join(map(str, header))})")
        frame = pd.read_csv(path, skip_blank_lines=False, low_memory=False, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: needs to be a tab-separated table ({reason})") from None
    if len(frame) and not isinstance(frame.index, pd.RangeIndex):  # pandas takes the surplus for row names
        raise DataError(f"{path}:2: needs {len(header)} fields, as the header has (got more)")
    return frame


def _read_inter(path: Path) -> pd.DataFrame:
    frame = _read_table(path, COLUMNS)
    if frame.empty:
        raise DataError(f"{path}:2: needs at least one interaction (got none)")
    frame = frame[list(COLUMNS)]
    ids = {column: _ids(path, frame[column]) for column in ("userID", "itemID")}
    labels = _numbers(path, frame["x_label"], "0 (train), 1 (valid) or 2 (test)", lambda v: ~v.isin([0, 1, 2]))
    frame = pd.DataFrame(ids | {"x_label": labels})
    for column in ("userID", "itemID"):
        _check_dense(path, frame[column])
    return frame


def _read_names(path: Path, column: str, count: int) -> pd.DataFrame:
    """A row for each of the `count` ids, with "" for an id that the table lacks; an empty frame without a file."""
    if not is_there(path):
        return pd.DataFrame()
    table = _read_table(path, (column,), dtype=str, keep_default_na=False)
    table[column] = _ids(path, table[column])
    repeated = table[column].duplicated()
    if repeated.any():
        row = int(repeated.to_numpy().argmax())
        raise DataError(f"{path}:{row + 2}: an id may occur once (got {column} {table[column].iloc[row]} again)")
    return table.set_index(column).reindex(range(count), fill_value="")


def _read_warning(path: Path) -> str:
    """The warning as one line of what can be printed, "" without a file."""
    if not is_there(path):
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _ids(path: Path, values: pd.Series) -> pd.Series:
    rule = "a whole number of at least 0 and below 2^53"
    return _numbers(path, values, rule, lambda v: (v < 0) | (v >= MOST) | (v % 1 != 0))


def _numbers(path: Path, values: pd.Series, rule: str, breaks: Callable) -> pd.Series:
    """A column as int64, once none of its values breaks the rule."""
    plain = values.map(str, na_action="ignore") if values.dtype.kind in "Ob" else values  # long ones, and True
    numbers = pd.to_numeric(plain, errors="coerce")
    bad = (numbers.isna() | breaks(numbers)).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        value = values.iloc[row]
        got = "nothing" if pd.isna(value) else shown(value)
        raise DataError(f"{path}:{row + 2}: {values.name} needs to be {rule} (got {got})")
    return numbers.astype(np.int64)


def _check_dense(path: Path, ids: pd.Series) -> None:
    """Tables are as long as the largest id, so a stray huge one must not pass for a number of users."""
    row = int(ids.to_numpy().argmax())
    if ids.iloc[row] >= 100 * len(ids) + 1000:
        raise DataError(
            f"{path}:{row + 2}: {ids.name} needs to number from 0 without huge gaps, below 100 times the "
            f"{len(ids)} rows (got {ids.iloc[row]})"
        )


def _read_features(path: Path) -> np.ndarray:
    try:
        raw = np.lib.format.open_memmap(path, mode="r")  # refuses pickles and zip files
    except Exception as error:  # it reads the header as Python's syntax, and lets through whatever that raises
        raise DataError(f"{path}: needs to be a complete npy file of floats ({error})") from None
    return float_matrix(raw, str(path))
