"""A dataset: splits, features, checks; the reader of MMRec's format; the planted world."""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1] / "data"
SPLITS = ("train", "valid", "test")
COLUMNS = ("userID", "itemID", "x_label")


class DataError(ValueError):
    """Input that breaks a rule; the message names the file, the line or row, the rule and the value."""


OFFICIAL_INTER = {
    "baby": "e0abb033ea5cc538bb2becd8c3dc50b619f28f7974ba61f5ed11ce27cf405940",
    "sports": "b8a43979c7984a01a8ab9713ea29a3cf13a65b1784dbadc2162fa932daf1c6a0",
    "clothing": "1d142e4d14079cc509ac2003978eb945f7759d8875d003345cbc863dc303235a",
}
"""sha256 of the paper's interaction files."""

OFFICIAL_WIDTHS = {"image": 4096, "text": 384}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Users, items, their interactions in three splits, and the items' features by modality.

    Built by `load` or `planted`, which check it.

    Attributes:
        name: what figures and tables call it.
        train, valid, test: interactions, shape (n, 2), int64 columns user and item, in the file's order.
        features: by modality, shape (n_items, d_m), float32, raw.
        n_users, n_items: largest id plus one over the whole file.
        factors: the planted world's truth, by name, shape (n_items, r); empty for real data.
        surplus: feature rows beyond n_items that were dropped, by modality.
        warning: what every table and figure made from it has to say; empty for a set that is what its name says.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    features: dict[str, np.ndarray]
    n_users: int
    n_items: int
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    surplus: dict[str, int] = field(default_factory=dict)
    warning: str = ""

    @cached_property
    def checksum(self) -> str:
        """sha256 over sizes, splits and features: what a model can see of the set, whatever file it came from."""
        digest = hashlib.sha256(f"{self.n_users} {self.n_items}".encode())
        arrays = {split: getattr(self, split) for split in SPLITS} | dict(sorted(self.features.items()))
        for name, array in arrays.items():
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    @cached_property
    def trained_users(self) -> np.ndarray:
        """Whether a user has train interactions, shape (n_users,); the others are left out of evaluation."""
        return np.bincount(self.train[:, 0], minlength=self.n_users) > 0

    @cached_property
    def lists(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By split: (offsets, items). User u's items, ascending, are items[offsets[u] : offsets[u + 1]]."""
        found = {}
        for split in SPLITS:
            pairs = getattr(self, split)
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
            offsets = np.concatenate([[0], np.bincount(pairs[:, 0], minlength=self.n_users).cumsum()])
            found[split] = offsets, pairs[:, 1]
        return found

    def describe(self) -> pd.DataFrame:
        """What is in the set: one row per quantity, with its count and, for oddities, the rule that handles them."""
        splits = {split: getattr(self, split) for split in SPLITS}
        density = sum(map(len, splits.values())) / (self.n_users * self.n_items)
        rows = [("users", self.n_users, ""), ("items", self.n_items, "")]
        rows += [(f"{split} interactions", len(pairs), "") for split, pairs in splits.items()]
        rows += [("density", round(density, 6), "share of all pairs")]
        rows += [(f"{m} features", x.shape[1], "columns") for m, x in self.features.items()]
        rows += [("users without train", int((~self.trained_users).sum()), "left out of evaluation")]
        for split in ("valid", "test"):
            missing = self.n_users - len(np.unique(splits[split][:, 0]))
            rows += [(f"users without {split}", missing, "left out of that average")]
        cold = self.n_items - len(np.unique(self.train[:, 1]))
        rows += [("items without train", cold, "ranked like any other, never a negative")]
        for m, x in self.features.items():
            rows += [(f"{m} rows all zero", int((~x.any(1)).sum()), "cosine 0: the item is its own only neighbour")]
        rows += [(f"{m} rows surplus", count, "dropped") for m, count in self.surplus.items() if count]
        table = pd.DataFrame(rows, columns=["quantity", "count", "rule"], dtype=object)
        return table.set_index("quantity")


def load(source: str | Path) -> Dataset:
    """Read a dataset: "planted", a folder in MMRec's format, or the name of a folder under data/.

    A folder holds NAME.inter (tab separated, a header with at least userID, itemID and x_label, where 0 is
    train, 1 valid, 2 test) and at least one *_feat.npy (a row for each item id, float16 to float64; float32
    once loaded), whose stem names the modality. Ids count from 0.

    Raises:
        DataError: a missing file or column; an id that is negative, fractional or not a number; a label
            other than 0, 1, 2; a pair that occurs twice, within a split or across splits (a leak); an empty
            split; features that are not a plain float matrix, are cut short, hold NaN or infinity, or have
            fewer rows than there are items.
    """
    if str(source) == "planted":
        return planted()
    folder = next((path for path in (Path(source), ROOT / source) if path.is_dir()), None)
    if folder is None:
        raise DataError(f"{source}: needs to be 'planted', a folder, or the name of one under data/")
    inter = _inter_file(folder)
    frame = _read_inter(inter)
    features = {path.name.removesuffix("_feat.npy"): _read_features(path) for path in sorted(folder.glob("*_feat.npy"))}
    if not features:
        raise DataError(f"{folder}: needs at least one *_feat.npy with item features (found none)")
    n_users, n_items = (int(frame[column].max()) + 1 for column in ("userID", "itemID"))
    for modality, values in features.items():
        if len(values) < n_items:
            raise DataError(
                f"{folder / f'{modality}_feat.npy'}: needs a row for each of the {n_items} items "
                f"(got {len(values)} rows)"
            )
    dataset = _dataset(inter.stem, frame, features, lambda row: f"{inter}:{row + 2}", str(inter), n_users, n_items)
    return replace(dataset, warning=_differs_from_official(inter, features))


def _differs_from_official(inter: Path, features: dict[str, np.ndarray]) -> str:
    """In what a folder named like one of the paper's datasets is not it; "" for any other name."""
    if inter.stem not in OFFICIAL_INTER:
        return ""
    differences = []
    widths = {m: x.shape[1] for m, x in features.items()}
    if widths != OFFICIAL_WIDTHS:
        columns = ", ".join(f"{m} {width}" for m, width in sorted(widths.items()))
        differences.append(f"features are stand-ins ({columns} columns), not the official ones")
    if hashlib.sha256(inter.read_bytes().replace(b"\r\n", b"\n")).hexdigest() != OFFICIAL_INTER[inter.stem]:
        differences.append("the split is not the published one")
    return "; ".join(differences) and f"{inter.stem}: {'; '.join(differences)}"


def _inter_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: needs exactly one NAME.inter with the interactions (found {names})")
    return found[0]


def _read_inter(path: Path) -> pd.DataFrame:
    options = {"sep": "\t", "quoting": csv.QUOTE_NONE, "encoding": "utf-8-sig", "encoding_errors": "replace"}
    try:
        header = list(pd.read_csv(path, nrows=0, **options).columns)
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise DataError(f"{path}:1: needs a column {missing[0]} (got {', '.join(map(str, header))})")
        frame = pd.read_csv(path, skip_blank_lines=False, low_memory=False, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: needs to be a tab-separated table ({reason})") from None
    if frame.empty:
        raise DataError(f"{path}:2: needs at least one interaction (got none)")
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the surplus for row names
        raise DataError(f"{path}:2: needs {len(header)} fields, as the header has (got more)")
    frame = frame[list(COLUMNS)]
    for column in ("userID", "itemID"):
        _check_column(path, frame[column], "a whole number of at least 0", lambda v: (v < 0) | (v % 1 != 0))
    _check_column(path, frame["x_label"], "0 (train), 1 (valid) or 2 (test)", lambda v: ~v.isin([0, 1, 2]))
    frame = frame.astype(np.int64)
    for column in ("userID", "itemID"):
        _check_dense(path, frame[column])
    return frame


def _check_column(path: Path, values: pd.Series, rule: str, breaks: Callable) -> None:
    numbers = pd.to_numeric(values, errors="coerce")
    bad = (numbers.isna() | breaks(numbers)).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        value = values.iloc[row]
        shown = "nothing" if pd.isna(value) else repr(value.item() if hasattr(value, "item") else value)
        raise DataError(f"{path}:{row + 2}: {values.name} needs to be {rule} (got {shown})")


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
        raw = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: needs to be a complete npy file of floats ({error})") from None
    if raw.ndim != 2 or raw.dtype.kind != "f" or raw.dtype.itemsize > 8:
        raise DataError(
            f"{path}: needs to be a matrix of float16, float32 or float64 (got {raw.dtype}, shape {raw.shape})"
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(raw, dtype=np.float32)
    finite = np.isfinite(values).all(1)
    if not finite.all():
        row = int(finite.argmin())
        column = int(np.isfinite(values[row]).argmin())
        raise DataError(
            f"{path}: row {row}, column {column}: features need to be finite in float32 (got {raw[row, column]})"
        )
    return values


def _dataset(
    name: str,
    frame: pd.DataFrame,
    features: dict[str, np.ndarray],
    where: Callable[[int], str],
    source: str,
    n_users: int,
    n_items: int,
    **truth: dict[str, np.ndarray],
) -> Dataset:
    """Check the pairs, cut them into splits; `where` tells the place of a row of the frame."""
    users, items, labels = (frame[column].to_numpy() for column in COLUMNS)
    repeated = pd.Series(users * n_items + items).duplicated()
    if repeated.any():
        row = int(repeated.to_numpy().argmax())
        first = int(np.flatnonzero((users == users[row]) & (items == items[row]))[0])
        kind = (
            f"is in {SPLITS[labels[first]]} already"
            if labels[first] == labels[row]
            else f"leaks from {SPLITS[labels[first]]} into {SPLITS[labels[row]]}"
        )
        raise DataError(
            f"{where(row)}: a pair may occur once (user {users[row]}, item {items[row]} {kind}, see {where(first)})"
        )
    pairs = np.stack([users, items], axis=1)
    splits = {split: pairs[labels == label] for label, split in enumerate(SPLITS)}
    for split, chosen in splits.items():
        if not len(chosen):
            raise DataError(f"{source}: split {split} (x_label {SPLITS.index(split)}) needs at least one row (got 0)")
    surplus = {m: len(values) - n_items for m, values in features.items()}
    cut = {m: values[:n_items] for m, values in sorted(features.items())}
    return Dataset(name, **splits, features=cut, n_users=n_users, n_items=n_items, surplus=surplus, **truth)


def planted(
    n_users: int = 500,
    n_items: int = 400,
    *,
    n_factors: int = 8,
    widths: dict[str, int] | None = None,
    noise: float = 0.1,
    skew: float = 0.5,
    mean_interactions: float = 20.0,
    seed: int = 0,
) -> Dataset:
    """A synthetic world whose truth is known: what the modalities share, and what each has to itself.

    For item i, modality m and user u, all draws independent and with r = n_factors,

        g_i ~ N(0, I_r)                        generic factor, shared by all modalities
        q_{m,i} ~ N(0, I_r)                    unique factor of modality m
        h_{m,i} = tanh(A_m [g_i ; q_{m,i}])    A_m (2r, 2r) with N(0, 1/(2r)) entries
        x_{m,i} = B_m h_{m,i} + noise · ε      B_m (widths[m], 2r) with N(0, 1/(2r)) entries, ε ~ N(0, I)
        p_u ~ N(0, I)                          taste, on [g ; q_m for all m], c = (1 + M) r columns
        s_ui = 2 ⟨p_u, [g_i ; q_i]⟩ / √c - skew · log(rank_i)      rank_i a random permutation of 1..n_items
        n_u = 10 + Poisson(mean_interactions - 10), at most n_items / 2

    and u's interactions are n_u items drawn without replacement from softmax(s_u) (Gumbel top-n_u). In random
    order, a tenth of them each (rounded) is test and valid, the rest train: 8:1:1. Every factor, generic or
    unique, weighs the same in the taste, so no split of the features is favoured.

    Args:
        widths: columns of each modality's features; {"image": 64, "text": 32} unless given.
        noise: standard deviation of the features' noise.
        skew: exponent of the Zipf law of popularity.
        mean_interactions: mean of n_u, at least 10.
        seed: of the world. A run's seed is another matter.

    Returns:
        A dataset named "planted" whose `factors` are {"generic": g, m: q_m, ...}, each (n_items, r).
    """
    widths = widths or {"image": 64, "text": 32}
    if mean_interactions < 10:
        raise ValueError(f"'mean_interactions' needs to be at least 10 in 'planted' (got {mean_interactions!r})")
    if n_items < 20:
        raise ValueError(f"'n_items' needs to be at least 20 in 'planted' (got {n_items!r})")
    rng = np.random.default_rng(seed)
    r = n_factors
    factors = {name: rng.standard_normal((n_items, r)) for name in ("generic", *sorted(widths))}
    features = {}
    for m in sorted(widths):
        mixing = rng.standard_normal((2 * r, 2 * r)) / np.sqrt(2 * r)
        lifting = rng.standard_normal((2 * r, widths[m])) / np.sqrt(2 * r)
        hidden = np.tanh(np.hstack([factors["generic"], factors[m]]) @ mixing)
        values = hidden @ lifting + noise * rng.standard_normal((n_items, widths[m]))
        features[m] = values.astype(np.float32)
    taste = np.hstack(list(factors.values()))  # (n_items, c)
    popularity = -skew * np.log(rng.permutation(n_items) + 1)
    counts = np.minimum(10 + rng.poisson(mean_interactions - 10, n_users), n_items // 2)
    frames = []
    for user, count in enumerate(counts):
        score = 2 * taste @ rng.standard_normal(taste.shape[1]) / np.sqrt(taste.shape[1]) + popularity
        chosen = np.argsort(-(score + rng.gumbel(size=n_items)))[:count]
        tenth = max(1, round(count / 10))
        labels = np.zeros(count, dtype=np.int64)
        labels[:tenth], labels[tenth : 2 * tenth] = 2, 1
        frames.append(np.stack([np.full(count, user), chosen, labels[rng.permutation(count)]], axis=1))
    frame = pd.DataFrame(np.concatenate(frames), columns=COLUMNS)
    return _dataset("planted", frame, features, "planted row {}".format, "planted", n_users, n_items, factors=factors)
