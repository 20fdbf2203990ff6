"""Studies: which runs answer a question, which settings validation selects, and what the runs say."""

import contextlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from sea.data import DataError, Dataset
from sea.models import MODELS
from sea.runs import RUNS, Record, Settings, run_many
from sea.separate import SeparateLearning
from sea.train import MONITOR

SEED = 999
PROFILES = {
    "quick": {"epochs": 2, "patience": 10, "lr": 1e-3, "seeds": 1, "tune": False},
    "default": {"epochs": 200, "patience": 10, "lr": 1e-3, "seeds": 3, "tune": False},
    "published": {"epochs": 1000, "patience": 20, "lr": None, "seeds": 1, "tune": False},
    "paper": {"epochs": 1000, "patience": 20, "lr": None, "seeds": 5, "tune": True},
}
"""What a profile sets, the same for every model. `lr` None means each model's published one; `tune`, that each
model's grid is searched first."""

SAMPLE_USERS = 200
"""How many users `sample` keeps."""

Variants = dict[str, tuple[str, dict]]
"""By label: a model's name, and the settings that differ from the model's own."""

ABLATION: Variants = {
    "w/o All": ("SEA", {"align": "none", "distance": "none"}),
    "w/o Distancing": ("SEA", {"distance": "none"}),
    "w/o Alignment": ("SEA", {"align": "none"}),
    "SEA": ("SEA", {}),
}
"""Figure 3."""

FLEXIBILITY: Variants = {
    "SEAa": ("SEA", {}),
    "SEAb": ("SEA", {"distance": "negative_l2"}),
    "SEAc": ("SEA", {"align": "info_nce"}),
    "SEAd": ("SEA", {"align": "info_nce", "distance": "negative_l2"}),
    "SoloSim + orthogonal": ("SEA", {"distance": "orthogonal"}),
}
"""Table 4, and the paradigm that the paper argues against, on the same encoder."""

GENERALIZATION = {"VBPR": "VBPR+SEA", "FREEDOM": "FREEDOM+SEA"}
"""Table 3: a model, and the same with SEA's plug-in."""

SWEEP = {
    "alpha": (0.0012, 0.012, 0.12, 0.6),
    "beta": (0.0006, 0.006, 0.06, 0.6),
    "tau": (0.05, 0.2, 0.8),
    "q_steps": (0, 5, 50),
}
"""Figure 4, one at a time around the released setting, and CLUB's steps, which the paper does not vary. The
tables of two datasets were made with an alpha near 0.6, not with the released 0.012."""

PLANTED = {"lr": 1e-2, "patience": 5}  # its epochs have 4 batches, a tenth of a real dataset's


def chosen_models(names: str = "") -> list[str]:
    """Split names in `MODELS`, separated by commas; all of them if there are none.

    Raises:
        ValueError: an unknown name.
    """
    chosen = [name.strip() for name in names.split(",")] if names else list(MODELS)
    for name in chosen:
        if name not in MODELS:
            raise ValueError(f"'models' needs names among {', '.join(MODELS)} (got {name!r})")
    return chosen


def sample(dataset: Dataset) -> Dataset:
    """The compact sample for a quick look, at most `SAMPLE_USERS` users: the 5-core of them, or the largest there is.

    Raises:
        DataError: a split of the sample would be empty.
    """
    for core in (5, 4, 3, 2):
        with contextlib.suppress(DataError):
            return dataset.compact(SAMPLE_USERS, core)
    return dataset.compact(SAMPLE_USERS, 1)


def plan(models: Iterable[str], dataset: str, profile: str, seeds: int = 0, device: str = "auto") -> list[Settings]:
    """The runs of a profile: every model with every seed, 999 and on, at its default settings.

    Args:
        models: names in `MODELS`.
        profile: a name in `PROFILES`.
        seeds: how many; 0 takes the profile's number.
    """
    if profile not in PROFILES:
        raise ValueError(f"'profile' needs to be one of {', '.join(PROFILES)} in 'plan' (got {profile!r})")
    chosen = PROFILES[profile]
    if dataset == "planted" and chosen["lr"]:
        chosen = chosen | PLANTED
    fixed = {name: chosen[name] for name in ("lr", "epochs", "patience")}
    return [
        Settings(model, dataset, seed, device=device, **fixed)
        for model in models
        for seed in range(SEED, SEED + (seeds or chosen["seeds"]))
    ]


def sweep() -> Variants:
    """The variants of `SWEEP`: "released", and one for every other value, labelled like "alpha 0.12"."""
    known = inspect.signature(SeparateLearning).parameters
    found: Variants = {"released": ("SEA", {name: known[name].default for name in SWEEP})}
    for name, values in SWEEP.items():
        others = [value for value in values if value != known[name].default]
        found |= {f"{name} {value:g}": ("SEA", found["released"][1] | {name: value}) for value in others}
    return found


@dataclass(frozen=True, eq=False)
class Study:
    """What the runs of a study say.

    Attributes:
        records: by variant, one for each seed.
        searched: by model, the runs of its grid; empty where nothing was tuned.
    """

    records: dict[str, list[Record]]
    searched: dict[str, list[Record]]

    def summary(self, split: str = "test") -> pd.DataFrame:
        """Per variant: how many seeds, and the `interval` of each metric over them."""
        rows = pd.DataFrame(
            [{"variant": name, **record.metrics[split]} for name, found in self.records.items() for record in found]
        )
        table = interval(rows, "variant")
        table.insert(0, "seeds", rows.groupby("variant", sort=False).size())
        return table

    def paired(self, reference: str, metric: str = MONITOR, split: str = "test") -> pd.DataFrame:
        """How far `reference` is above each other variant, paired by user and by seed.

        Columns: the two means' difference; its 95 % t-interval's half-width over users (each user's values
        averaged over the seeds first), and over seeds; the two-sided p-values of both, corrected over the
        variants for false discoveries (Benjamini-Hochberg); and the difference and its half-width over seeds
        (over users for one seed) in percent of the variant's mean. Users say whether these trained models
        differ; seeds, whether training again would show it. NaN where one seed allows no statement.
        """
        rows = {}
        for name in self.records:
            if name != reference:
                rows[name] = self.contrast({reference: 1, name: -1}, metric, split)
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")
        for column in ("p users", "p seeds"):
            if table[column].notna().all():
                table[column] = stats.false_discovery_control(table[column])
        means = [self._values(name, metric, split).mean() / 100 for name in rows]
        table["percent"] = table["difference"] / means
        table["percent ±"] = table["± seeds"].fillna(table["± users"]) / means
        return table

    def contrast(self, weights: dict[str, float], metric: str = MONITOR, split: str = "test") -> pd.Series:
        """A weighted sum of variants, Σ w x: a gap, a gap of means, or an interaction, paired by user and by seed.

        Returns:
            "difference", the sum; "± users", "± seeds", "p users" and "p seeds" as in `paired`, uncorrected.
        """
        values = {name: self._values(name, metric, split) for name in weights}
        seeds = min(map(len, values.values()))
        by_user = _mean_and_interval(sum(w * values[name].mean(0) for name, w in weights.items()))
        by_seed = _mean_and_interval(sum(w * values[name][:seeds].mean(1) for name, w in weights.items()))
        columns = ["difference", "± users", "± seeds", "p users", "p seeds"]
        return pd.Series([by_user[0], by_user[1], by_seed[1], by_user[2], by_seed[2]], columns)

    def _values(self, name: str, metric: str, split: str) -> np.ndarray:
        return np.stack([record.scores(split).values[metric] for record in self.records[name]])  # (seeds, users)

    def budget(self) -> pd.DataFrame:
        """What each model was given: points of its grid, trainings and epochs in all, hours; and what was selected."""
        rows = {}
        for model in dict.fromkeys(found[0].settings.model for found in self.records.values()):
            grid = self.searched.get(model, [])
            final = [r for found in self.records.values() for r in found if r.settings.model == model]
            distinct = {record.key: record for record in [*grid, *final]}.values()
            seconds = sum(row["seconds"] + row.get("seconds_evaluate", 0) for r in distinct for row in r.history)
            epochs = sum(len(record.history) for record in distinct)
            rows[model] = [len(grid) or 1, len(distinct), epochs, seconds / 3600, _selected(final[0])]
        columns = ["grid points", "trainings", "epochs", "hours", "settings"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")

    def provenance(self) -> dict[str, object]:
        """The `provenance` of all runs, the grid's included."""
        return provenance(r for found in (*self.searched.values(), *self.records.values()) for r in found)


def _mean_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, half-width of its 95 % t-interval, and p-value against 0; NaN for the last two if there is one value."""
    if len(values) < 2 or not values.any():
        return values.mean(), *((np.nan, np.nan) if len(values) < 2 else (0.0, 1.0))
    test = stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(0.95)
    return values.mean(), (interval.high - interval.low) / 2, test.pvalue


def _selected(record: Record) -> str:
    grid = MODELS[record.settings.model].grid
    values = {"lr": record.settings.lr, **record.settings.params}
    return ", ".join(f"{name} {values[name]:g}" for name in {**dict.fromkeys(grid), "lr": None})


def study(
    variants: Iterable[str] | Variants,
    dataset: str,
    profile: str = "default",
    seeds: int = 0,
    device: str = "auto",
    *,
    epochs: int = 0,
    jobs: int = 1,
    root: str | Path = RUNS,
) -> Study:
    """Train every variant with every seed, its settings selected on validation alone.

    In a profile that tunes, each model's `grid` is searched first, with the first seed, and the point with the
    best validation Recall@20 is kept; a variant's own settings then go on top of its model's. Else a model has
    its defaults: the published settings, where their authors state them.

    Args:
        variants: names in `MODELS`, or by label a model's name and the settings that differ.
        dataset, profile, seeds, device: as in `plan`.
        epochs: at most this many; 0 leaves it to the profile.
        jobs: trainings at a time.
        root: where runs are kept.
    """
    if not isinstance(variants, dict):
        variants = {model: (model, {}) for model in variants}
    models = list(dict.fromkeys(model for model, _ in variants.values()))
    planned = {model: plan([model], dataset, profile, seeds, device) for model in models}
    if epochs:
        planned = {m: [replace(s, epochs=min(epochs, s.epochs)) for s in found] for m, found in planned.items()}
    searched = _search({model: found[0] for model, found in planned.items()}, jobs, root) if _tunes(profile) else {}
    chosen = {model: _best(model, found) for model, found in searched.items()}
    settings = {
        name: [_with(one, chosen.get(model, {}) | params) for one in planned[model]]
        for name, (model, params) in variants.items()
    }
    records = iter(run_many([one for found in settings.values() for one in found], root, jobs))
    return Study({name: [next(records) for _ in found] for name, found in settings.items()}, searched)


def _tunes(profile: str) -> bool:
    return PROFILES[profile]["tune"]


def _with(settings: Settings, params: dict) -> Settings:
    """Settings with `params` on top, where "lr" is Adam's and the rest is the model's."""
    rest = {name: value for name, value in params.items() if name != "lr"}
    return replace(settings, lr=params.get("lr", settings.lr), params=settings.params | rest)


def grid(model: str) -> list[dict]:
    """All points of a model's grid, as settings."""
    values = MODELS[model].grid
    return [dict(zip(values, point)) for point in product(*values.values())]


def _search(first: dict[str, Settings], jobs: int, root: str | Path) -> dict[str, list[Record]]:
    settings = {model: [_with(one, point) for point in grid(model)] for model, one in first.items()}
    records = iter(run_many([one for found in settings.values() for one in found], root, jobs))
    return {model: [next(records) for _ in found] for model, found in settings.items()}


def _best(model: str, records: list[Record]) -> dict:
    """The grid's point with the best validation Recall@20, the first of equals."""
    values = [record.metrics["valid"][MONITOR] for record in records]
    return grid(model)[int(np.argmax(values))]


def interval(rows: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """Mean of every other column over the rows that agree in `by`, each followed by its 95 % t-interval's half-width.

    The half-width's column ends in "±". One row alone has no interval: NaN.
    """
    groups = rows.groupby(by, sort=False)
    count = groups.size()
    quantile = pd.Series(stats.t.ppf(0.975, (count - 1).where(count > 1)), count.index)
    half = groups.std().mul(quantile / np.sqrt(count), axis=0)
    mean = groups.mean()
    columns = [column for name in mean.columns for column in (name, f"{name} ±")]
    return mean.join(half.add_suffix(" ±"))[columns]


def provenance(records: Iterable[Record]) -> dict[str, object]:
    """The stamp for what was drawn from runs: data and its warning, runs (settings hash each), code, device, dates."""
    records = list({record.key: record for record in records}.values())

    def distinct(values: Iterable[str]) -> str:
        return ", ".join(sorted(set(values)))

    stamp = {
        "dataset": distinct(record.dataset for record in records),
        "checksum": distinct(record.checksum for record in records),
        "runs": [f"{record.settings.model} seed {record.settings.seed}: {record.key}" for record in records],
        "code": distinct(f"{record.settings.model} {record.code}" for record in records),
        "device": distinct(record.environment["device"] for record in records),
        "trained": distinct(record.environment["date"] for record in records),
    }
    warning = distinct(record.warning for record in records)
    return {"warning": warning, **stamp} if warning else stamp
