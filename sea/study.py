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
from sea.records import RUNS, Record, Settings
from sea.runs import run_many
from sea.separate import SeparateLearning
from sea.train import MONITOR

SEED = 999
BUDGET = 12
"""Points that the search tries of each model's grid: all, or so many."""
SEARCH_SEEDS, SEARCH_SECONDS = 3, 60
"""Seeds that judge a point where the median training takes less than so many seconds; elsewhere one seed does."""
PROFILES = {
    "quick": {"epochs": 2, "patience": 10, "lr": 1e-3, "seeds": 1, "tune": False},
    "default": {"epochs": 200, "patience": 10, "lr": 1e-3, "seeds": 3, "tune": False},
    "published": {"epochs": 1000, "patience": 20, "lr": None, "seeds": 1, "tune": False},
    "paper": {"epochs": 1000, "patience": 20, "lr": None, "seeds": 5, "tune": True},
}
"""What a profile sets, the same for every model. `lr` None means each model's published one; `tune`, that each
model's `points` are searched first."""

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

PROVENANCE = ("commit", "python", "torch", "device")
"""What a stamp tells of the environments in which runs were trained."""

PLANTED_LR, PLANTED_STEPS = 1e-2, 10
"""On a planted world, whose epochs have 4 batches, a tenth of a small real set's, every model has the one step size
instead of its published one, and those of its grid are so many times as large. Patience is half of the profile's."""


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
    if dataset == "planted":
        chosen = chosen | {"lr": PLANTED_LR, "patience": chosen["patience"] // 2}
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
        searched: by model, the runs of its search, all `points` with the first seed, then all with the next;
            empty where nothing was tuned.
    """

    records: dict[str, list[Record]]
    searched: dict[str, list[Record]]

    def summary(self, split: str = "test") -> pd.DataFrame:
        """Per variant: how many seeds have a result, and the `interval` of each metric over them.

        A training that diverged before its first good epoch has none; `budget` counts it.
        """
        rows = pd.DataFrame(
            [{"variant": name, **r.metrics[split]} for name, found in self.records.items() for r in _with_result(found)]
        )
        table = interval(rows, "variant")
        table.insert(0, "seeds", rows.groupby("variant", sort=False).size())
        return table.reindex(self.records).fillna({"seeds": 0}).rename_axis("variant")

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
            known = table[column].notna()
            if known.any():
                table.loc[known, column] = stats.false_discovery_control(table.loc[known, column])
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
        found = [record.ranking(split).values[metric] for record in _with_result(self.records[name])]
        return np.stack(found) if found else np.full((1, 1), np.nan)  # (seeds, users)

    def budget(self) -> pd.DataFrame:
        """What each model was given, and what was selected.

        Columns: the points of its grid that were tried ("12 of 80"); the seeds that judged each, 0 where nothing was
        searched; trainings, how many of them diverged, and epochs in all; hours; and the selected values of the
        settings that the grid varies.
        """
        rows = {}
        for model in dict.fromkeys(found[0].settings.model for found in self.records.values()):
            search = self.searched.get(model, [])
            tried = len({_point(model, record) for record in search}) if search else 1
            of = len(grid(model)) + sum(map(len, MODELS[model].around.values()))
            final = [r for found in self.records.values() for r in found if r.settings.model == model]
            distinct = {record.key: record for record in [*search, *final]}.values()
            hours = sum(record.seconds for record in distinct) / 3600
            epochs = sum(len(record.history) for record in distinct)
            diverged = sum(record.stopped == "diverged" for record in distinct)
            search_of = f"{tried} of {of}", len(search) // tried
            rows[model] = [*search_of, len(distinct), diverged, epochs, hours, _selected(final[0])]
        columns = ["grid points", "seeds per point", "trainings", "diverged", "epochs", "hours", "settings"]
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


def _with_result(records: list[Record]) -> list[Record]:
    """Those that have metrics: a training that diverged in its first epoch left none."""
    return [record for record in records if record.metrics]


def _selected(record: Record) -> str:
    values = {"lr": record.settings.lr, **record.settings.params}
    return ", ".join(f"{name} {values[name]:g}" for name in dict.fromkeys([*_varied(record.settings.model), "lr"]))


def study(
    variants: Iterable[str] | Variants,
    dataset: str,
    profile: str = "default",
    seeds: int = 0,
    device: str = "auto",
    *,
    epochs: int = 0,
    tune: bool | None = None,
    jobs: int = 1,
    root: str | Path = RUNS,
) -> Study:
    """Train every variant with every seed, its settings selected on validation alone.

    In a profile that tunes, each model's `points` are tried first, and the one with the best validation Recall@20 is
    kept; a variant's own settings then go on top of its model's. All models have at most `BUDGET` points. A point
    is judged by the mean over `SEARCH_SEEDS` seeds, the study's first and the next ones, if the median training with
    the first seed took less than `SEARCH_SECONDS`; else by that seed alone. Values are compared unrounded, where the
    framework behind the published tables rounds to four digits. In a profile that doesn't tune a model has its
    defaults: the published settings, where their authors state them.

    Args:
        variants: names in `MODELS`, or by label a model's name and the settings that differ.
        dataset, profile, seeds, device: as in `plan`.
        epochs: at most this many; 0 leaves it to the profile.
        tune: whether settings are searched; None leaves it to the profile.
        jobs: trainings at a time.
        root: where runs are kept.
    """
    if not isinstance(variants, dict):
        variants = {model: (model, {}) for model in variants}
    models = list(dict.fromkeys(model for model, _ in variants.values()))
    planned = {model: plan([model], dataset, profile, seeds, device) for model in models}
    if epochs:
        planned = {m: [replace(s, epochs=min(epochs, s.epochs)) for s in found] for m, found in planned.items()}
    tune = PROFILES[profile]["tune"] if tune is None else tune
    searched = _search({model: found[0] for model, found in planned.items()}, jobs, root) if tune else {}
    chosen = {model: _best(model, found) for model, found in searched.items()}
    settings = {
        name: [_with(one, chosen.get(model, {}) | params) for one in planned[model]]
        for name, (model, params) in variants.items()
    }
    records = iter(run_many([one for found in settings.values() for one in found], root, jobs))
    return Study({name: [next(records) for _ in found] for name, found in settings.items()}, searched)


def _with(settings: Settings, params: dict) -> Settings:
    """Settings with `params` on top, where "lr" is Adam's and the rest is the model's."""
    rest = {name: value for name, value in params.items() if name != "lr"}
    return replace(settings, lr=params.get("lr", settings.lr), params=settings.params | rest)


def grid(model: str) -> list[dict]:
    """All points of a model's grid, as settings: the products of its values, then what it lacks of the published."""
    values = MODELS[model].grid
    found = [dict(zip(values, point)) for point in product(*values.values())]
    known = [_full(model, point) for point in found]
    return found + [point for point in _published(model) if _full(model, point) not in known]


def _published(model: str) -> list[dict]:
    """The settings that its authors chose: the defaults, and those for one dataset or another."""
    return [{name: _full(model, {})[name] for name in _varied(model)}, *MODELS[model].published]


def _varied(model: str) -> list[str]:
    """The settings in which points of a model's grid differ."""
    return list(dict.fromkeys(name for point in (MODELS[model].grid, *MODELS[model].published) for name in point))


def _full(model: str, point: dict) -> dict:
    return {"lr": MODELS[model].lr, **MODELS[model].settings(), **point}


def points(model: str, dataset: str = "") -> list[dict]:
    """The points of a model's grid that its search tries, in the grid's order.

    All of them, or `BUDGET` where there are more: the published ones, and others drawn without replacement. The
    draw has a seed of its own, so that every study tries the same points. What is tried around the best of them counts
    as a part of the budget.
    """
    found, budget = grid(model), BUDGET - sum(map(len, MODELS[model].around.values()))
    if len(found) > budget:
        published = [_full(model, point) for point in _published(model)]
        kept = [index for index, point in enumerate(found) if _full(model, point) in published]
        others = np.setdiff1d(np.arange(len(found)), kept)
        drawn = np.random.default_rng(SEED).choice(others, max(budget - len(kept), 0), replace=False)
        found = [found[index] for index in sorted([*kept, *drawn])]
    if dataset == "planted":
        found = [point | ({"lr": PLANTED_STEPS * point["lr"]} if "lr" in point else {}) for point in found]
    return found


def _search(first: dict[str, Settings], jobs: int, root: str | Path) -> dict[str, list[Record]]:
    """By model, the runs of its points with the first seed; then, where they are short, with the other seeds; then,
    with the same seeds, those around the best."""
    tries = {model: points(model, one.dataset) for model, one in first.items()}
    found = _tried(first, tries, dict.fromkeys(tries, [0]), jobs, root)
    seconds = {model: np.median([record.seconds for record in records]) for model, records in found.items()}
    seeds = {model: range(SEARCH_SEEDS if seconds[model] < SEARCH_SECONDS else 1) for model in first}
    found = _tried(first, tries, seeds, jobs, root)
    near = {
        model: [_best(model, records) | {name: value} for name, values in MODELS[model].around.items() for value in values]
        for model, records in found.items()
    }
    more = _tried(first, near, seeds, jobs, root)
    return {model: records + more[model] for model, records in found.items()}


def _tried(
    first: dict[str, Settings],
    tries: dict[str, list[dict]],
    seeds: dict[str, Iterable[int]],
    jobs: int,
    root: str | Path,
) -> dict[str, list[Record]]:
    settings = {
        model: [replace(_with(one, point), seed=one.seed + seed) for seed in seeds[model] for point in tries[model]]
        for model, one in first.items()
    }
    records = iter(run_many([one for found in settings.values() for one in found], root, jobs))
    return {model: [next(records) for _ in found] for model, found in settings.items()}


def _best(model: str, records: list[Record]) -> dict:
    """The point with the best mean validation Recall@20 over its seeds, the first of equals; no value is the worst."""
    values: dict[tuple, list[float]] = {}
    for record in records:
        value = record.metrics["valid"][MONITOR] if record.metrics else -np.inf
        values.setdefault(_point(model, record), []).append(value)
    return dict(max(values, key=lambda point: np.mean(values[point])))


def _point(model: str, record: Record) -> tuple[tuple[str, object], ...]:
    """What a record has of the settings that the model's search varies, by name."""
    values = {"lr": record.settings.lr, **record.settings.params}
    return tuple((name, values[name]) for name in [*_varied(model), *MODELS[model].around])


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
    """The stamp for what was drawn from runs: data and its warning, each run's key, what ran, where and when."""
    records = list({record.key: record for record in records}.values())

    def distinct(values: Iterable[str]) -> str:
        return ", ".join(sorted(set(values)))

    stamp = {
        "dataset": distinct(record.dataset for record in records),
        "checksum": distinct(record.checksum for record in records),
        "runs": [f"{record.settings.model} seed {record.settings.seed}: {record.key}" for record in records],
        "revisions": distinct(f"{r.settings.model} {r.revisions['training']}.{r.revisions['model']}" for r in records),
        **{name: distinct(record.environment[name] for record in records) for name in PROVENANCE},
        "trained": distinct(record.environment["date"] for record in records),
    }
    warning = distinct(record.warning for record in records)
    return {"warning": warning, **stamp} if warning else stamp
