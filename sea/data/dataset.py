"""A dataset: splits and features, what is in it, and its way from a reader's frames to a folder."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from sea.data import own_frames
from sea.data.checks import COLUMNS, SPLITS, DataError, shown
from sea.data.splits import dense_sample, hold_out, tenths
from sea.data.writing import new_folder, write_table


def modality_order(names: Iterable[str]) -> list[str]:
    """The order of modalities, for every model that tells the first or the last from the others: the image first.

    The others follow in alphabetical order, so: image, audio, text. The programs behind the published rows have
    the image first, too.
    """
    return sorted(names, key=lambda name: (name != "image", name))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Users, items, their interactions in three splits, and the items' features by modality.

    Built by `load`, `planted` or `Dataset.from_frames`, which check it.

    Attributes:
        name: what figures and tables call it.
        train, valid, test: interactions, shape (n, 2), int64 columns user and item, in the file's order.
        features: by modality, shape (n_items, d_m), float32, raw.
        n_users, n_items: largest id plus one over the whole file.
        factors: the planted world's truth, by name, shape (n_items, r); empty for real data.
        surplus: feature rows beyond n_items that were dropped, by modality.
        users, items: columns of text, such as "label" and "title", row i for id i; empty if nothing is known.
        warning: a note that every table and figure made from it repeats, such as a split that is not the published
            one; empty if there is none.
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
    users: pd.DataFrame = field(default_factory=pd.DataFrame)
    items: pd.DataFrame = field(default_factory=pd.DataFrame)
    warning: str = ""

    @classmethod
    def from_frames(
        cls,
        name: str,
        interactions: pd.DataFrame,
        features: dict[str, np.ndarray | pd.DataFrame],
        items: pd.DataFrame | Sequence[Hashable] | None = None,
        *,
        seed: int = 0,
    ) -> "Dataset":
        """A dataset of your own, from a frame of interactions and an array for each modality.

        Users are numbered in the order in which they turn up, items in the order of `items`. Items without an
        interaction are dropped and counted in `surplus`, as the format has no place for them. Labels are kept as
        text, in `users` and `items`, and `save` writes them beside the ids.

        Args:
            name: what figures and tables call it, and the folder's .inter file.
            interactions: columns "user" and "item" with any labels, a row for each pair, no pair twice. A column
                "x_label", 0 train, 1 valid, 2 test, is the split; without it each user's interactions are split
                8:1:1 at random (`sea.data.splits.tenths`).
            features: by modality, floats: an array, row i for the i-th of `items`, or a frame indexed by item label,
                in any order.
            items: the labels of all items, or a frame indexed by them, whose columns ("title" above all) are kept;
                the items of the interactions, in the order in which they turn up, if None, and then all features
                need to be frames.
            seed: of the split.

        Raises:
            DataError: a missing column or label; a modality's name that no model can use; a pair that occurs twice;
                an item that `items` or a frame of features lacks; features that are not a matrix of finite floats, or
                of another length than `items`; an empty split.
        """
        own_frames.check(name, interactions, features)
        users, user_labels = pd.factorize(interactions["user"])
        catalogue = own_frames.catalogue(items, interactions["item"])
        codes = catalogue.index.get_indexer(interactions["item"])
        unknown = codes < 0
        if unknown.any():
            row = int(unknown.argmax())
            value = shown(interactions["item"].iloc[row])
            raise DataError(f"'interactions' row {row}: its item needs to be in 'items' (got {value})")
        used, codes = np.unique(codes, return_inverse=True)
        labels = (
            own_frames.split_labels(interactions["x_label"])
            if "x_label" in interactions
            else hold_out(users, tenths, np.random.default_rng(seed))
        )
        dataset = assemble(
            name,
            pd.DataFrame(dict(zip(COLUMNS, (users, codes, labels)))),
            {m: own_frames.by_item(m, values, catalogue.index, items is None)[used] for m, values in features.items()},
            "'interactions' row {}".format,
            "'interactions'",
            len(user_labels),
            len(used),
        )
        return replace(
            dataset,
            surplus=dict.fromkeys(dataset.features, len(catalogue) - len(used)),
            users=own_frames.texts(pd.DataFrame({"label": user_labels})),
            items=own_frames.texts(catalogue.iloc[used].rename_axis("label").reset_index()),
        )

    def save(self, folder: str | Path) -> None:
        """Write MMRec's format, and the names and the warning beside it; `load` reads the same set again.

        The planted world's `factors` are left out. The folder appears when it is complete.

        Raises:
            DataError: `folder` exists and is not empty; the last user or item has no interaction.
        """
        table = self.interactions
        for column, count in (("userID", self.n_users), ("itemID", self.n_items)):
            if table[column].max() + 1 < count:
                raise DataError(
                    f"{self.name}: the last {column[:4]} needs an interaction, as MMRec's format counts up to the "
                    f"largest id (got none for {column} {count - 1})"
                )
        with new_folder(folder) as target:
            write_table(target / f"{self.name}.inter", table)
            for m, values in self.features.items():
                np.save(target / f"{m}_feat.npy", values)
            for column, names in (("userID", self.users), ("itemID", self.items)):
                if len(names):
                    write_table(target / f"{column[:4]}s.tsv", names.rename_axis(column).reset_index())
            if self.warning:
                (target / "warning.txt").write_text(self.warning + "\n", encoding="utf-8")

    def compact(self, n_users: int = 500, core: int = 5, seed: int = 0) -> "Dataset":
        """A small sample for a quick look, labelled so in every table: at most `n_users` users, k-core kept.

        `sea.data.splits.dense_sample` has the rule. Over the three splits together every user and every item has
        at least `core` interactions in it. Each interaction keeps its split, ids are numbered anew in their old order,
        and the name ends in "-compact". The sample is denser than the set, and says nothing of it as a whole.

        Raises:
            DataError: there is no k-core of so few users, or a split would be empty.
        """
        pairs = self.interactions[["userID", "itemID"]].to_numpy()
        rows = dense_sample(pairs, n_users, core, np.random.default_rng(seed))
        users, items = (np.unique(column, return_inverse=True) for column in pairs[rows].T)
        labels = self.interactions["x_label"].to_numpy()[rows]
        sample = assemble(
            f"{self.name}-compact",
            pd.DataFrame(dict(zip(COLUMNS, (users[1], items[1], labels)))),
            {m: values[items[0]] for m, values in self.features.items()},
            "sampled row {}".format,
            f"the sample of {self.name}",
            len(users[0]),
            len(items[0]),
        )
        warning = f"compact sample: {sample.n_users:,} of {self.n_users:,} users, {core}-core"
        return replace(
            sample,
            factors={name: values[items[0]] for name, values in self.factors.items()},
            users=self.users.iloc[users[0]].reset_index(drop=True) if len(self.users) else self.users,
            items=self.items.iloc[items[0]].reset_index(drop=True) if len(self.items) else self.items,
            warning="; ".join(filter(None, [self.warning, warning])),
        )

    @cached_property
    def modalities(self) -> list[str]:
        """The names of the features, in `modality_order`."""
        return modality_order(self.features)

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """All interactions, train, then valid, then test: columns userID, itemID and x_label, the split's number."""
        pairs = [getattr(self, s) for s in SPLITS]
        labels = np.repeat(np.arange(len(SPLITS)), [len(rows) for rows in pairs])
        return pd.DataFrame(np.column_stack([np.concatenate(pairs), labels]), columns=COLUMNS)

    @cached_property
    def titles(self) -> np.ndarray:
        """What to call the items, shape (n_items,): `items`' title, text or label, the first there is, or "item 17"."""
        plain = np.array([f"item {i}" for i in range(self.n_items)])
        column = next((column for column in ("title", "text", "label") if column in self.items), None)
        return plain if column is None else np.where(self.items[column] == "", plain, self.items[column])

    def user_ids(self, labels: Iterable[Hashable]) -> np.ndarray:
        """The ids of users with these labels, shape (n,), in the order given; labels are compared as text.

        Raises:
            DataError: the set has no user labels, or not this one.
        """
        known = pd.Index(self.users.get("label", []))
        labels = [str(label) for label in labels]
        found = known.get_indexer(labels)
        if (found < 0).any():
            raise DataError(f"'labels' needs labels of {self.name}'s users (got {labels[int(found.argmin())]!r})")
        return found

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


def assemble(
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
