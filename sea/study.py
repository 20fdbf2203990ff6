"""Studies: which runs answer a question, and what they say."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sea import statistics
from sea.data import DataError, Dataset, is_planted
from sea.models import MODELS, READERS, TRAINED
from sea.published import counts, trainings
from sea.records import RUNS, NotPublished, Record, Settings, complete, measure
from sea.search import PLANTED_LR, PUBLISHED, SEARCH_SEEDS, SEED, adjusted, best, obtain, point_of, search, size
from sea.separate import SeparateLearning
from sea.statistics import Estimate
from sea.train import BY_ITSELF, MONITOR

RELEASED, LOGGED, CHOSEN = "as released", "as logged", "chosen on validation"
PROFILES = {
    "quick": {"epochs": 2, "patience": 10, "lr": 1e-3, "seeds": 1, "columns": [RELEASED]},
    "default": {"epochs": 200, "patience": 10, "lr": 1e-3, "seeds": 3, "columns": [RELEASED]},
    "published": {"epochs": 1000, "patience": 20, "lr": None, "seeds": 1, "columns": [RELEASED, LOGGED]},
    "paper": {"epochs": 1000, "patience": 20, "lr": None, "seeds": 5, "columns": [RELEASED, LOGGED, CHOSEN]},
}
"""What a profile sets, the same for every model. `lr` None means each model's published one; `columns` are the settings
at which SEA's variants are judged. Where `CHOSEN` is among them, each model's grid is searched first."""

KNOCKED_OUT = dict.fromkeys(PROFILES, ("VBPR", "FREEDOM", "SEA", "ContentKNN")) | {"paper": READERS}
"""By profile, the models that are trained on replaced features."""

SAMPLE_USERS = 200
"""How many users `sample` keeps."""

WORLDS = 10
"""On how many planted worlds each variant is published, at least."""

METRICS = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]

Variants = dict[str, tuple[str, dict]]
"""By label: a model's name, and the settings that differ from the model's own."""

ABLATION: Variants = {
    "w/o All": ("SEA", {"align": "none", "distance": "none"}),
    "w/o Distancing": ("SEA", {"distance": "none"}),
    "w/o Alignment": ("SEA", {"align": "none"}),
    "SEA": ("SEA", {}),
    "SEA, CLUB unclamped": ("SEA", {"club_released": False}),
}
"""Figure 3, and CLUB's estimate as printed, where the released program clamps it at zero."""

FLEXIBILITY: Variants = {
    "SEAa": ("SEA", {}),
    "SEAb": ("SEA", {"distance": "negative_l2"}),
    "SEAc": ("SEA", {"align": "info_nce"}),
    "SEAd": ("SEA", {"align": "info_nce", "distance": "negative_l2"}),
    "SoloSim + orthogonal": ("SEA", {"distance": "orthogonal"}),
}
"""Table 4, and the paradigm that the paper argues against, on the same encoder: methods, each searched by itself."""

TWINS: Variants = {"with CLUB": ("SEA", {}), "β = 0": ("SEA", {"beta": 0.0})}
"""Does CLUB do anything to the parts: the same training, with its weight and without."""

GENERALIZATION = {"VBPR": "VBPR+SEA", "FREEDOM": "FREEDOM+SEA"}
"""Table 3: a model, and the same with SEA's plug-in."""

SWEEP = {
    "alpha": (0.0012, 0.004, 0.012, 0.04, 0.12, 0.3, 0.6),
    "beta": (0.0006, 0.002, 0.006, 0.02, 0.06, 0.2, 0.6),
    "tau": (0.05, 0.08, 0.125, 0.2, 0.32, 0.5, 0.8),
    "q_steps": (0, 5, 50),
}
"""Figure 4, one at a time around the released setting, at seven values that are about evenly spaced on a logarithmic
axis; and CLUB's steps, which the paper does not vary. The logs of two datasets don't fit the released alpha of 0.012.
If alpha alone was different there, it was near 0.6."""

COLUMNS = {RELEASED: {}, LOGGED: {"alpha": 0.6}}
"""The released settings, and the α that the size of the losses in the logs of two datasets implies, the rest as
released. Third, where the profile searches, come those that validation chose."""

INACTIVE = 0.1
"""A term that is above zero in a smaller share of the batches has not been tried, and its removal tests nothing."""

PROVENANCE = ("commit", "python", "torch", "device")
"""What a stamp tells of the environments in which runs were trained."""


def chosen_models(names: str = "") -> list[str]:
    """Split names in `MODELS`, separated by commas; those of the paper, `TRAINED`, if there are none.

    Raises:
        ValueError: an unknown name.
    """
    chosen = [name.strip() for name in names.split(",")] if names else list(TRAINED)
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
    if is_planted(dataset):
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


def with_control() -> Variants:
    """The models of `GENERALIZATION`: plain, with the plug-in's transform and neither loss, and with the plug-in."""
    found: Variants = {}
    for plain, plugged in GENERALIZATION.items():
        found[f"{plain}, plain"] = (plain, {})
        found[f"{plain}, transform"] = (plugged, {"align": "none", "distance": "none"})
        found[f"{plain}, plug-in"] = (plugged, {})
    return found


@dataclass(frozen=True, eq=False)
class Study:
    """What the runs of a study say.

    Attributes:
        records: by variant, one for each seed; on planted worlds, for each world.
        searched: by model, or variant of `FLEXIBILITY`, the runs of its search; empty where nothing was tuned.
        planned: how many trainings of each variant were to be made, on planted worlds as many worlds. With fewer
            in an estimate nothing is decided.
    """

    records: dict[str, list[Record]]
    searched: dict[str, list[Record]]
    planned: int = 0

    @property
    def dataset(self) -> str:
        """The name of the dataset that the runs were trained on, "" if there are none."""
        return next((r.dataset for found in self.records.values() for r in found), "")

    @property
    def warning(self) -> str:
        """What has to be said of the data, wherever a number of the study stands."""
        return next((r.warning for found in self.records.values() for r in found), "")

    def estimate(self, weights: Mapping[str, float], metric: str = MONITOR, split: str = "test") -> Estimate:
        """Σ w μ over variants: a gap {a: 1, b: -1}, a gap of means, an interaction, or one variant's mean {a: 1}.

        On planted worlds by `statistics.by_world`, else by `statistics.crossed`. It allows no word where a variant has
        no run, or where one of its trainings did not end by itself; with fewer trainings than planned it decides
        nothing.

        Raises:
            ValueError: runs on two sets of one name, as two splits are.
        """
        if lacking := self._lacking(weights):
            return statistics.missing(lacking)
        if self._worlds(weights):
            means = {name: self._means(name, metric, split) for name in weights}
            return self._checked(weights, statistics.by_world(weights, means), _common(means))
        self._refuse_two_sets(weights)
        values = {name: self._values(name, metric, split) for name in weights}
        return self._checked(weights, statistics.crossed(weights, values), _each(values))

    def _lacking(self, names: Iterable[str]) -> str:
        """The first of these variants without a result, in words; "" if each has one."""
        for name in names:
            if not _with_result(self.records[name]):
                return f"no run of {name} with a result" if self.records[name] else f"no run of {name}"
        return ""

    def _refuse_two_sets(self, names: Iterable[str]) -> None:
        sets = {r.checksum[:12] for name in names for r in self.records[name]}
        if len(sets) > 1:
            raise ValueError(f"'records' needs runs on one dataset in 'Study' (got {', '.join(sorted(sets))})")

    def _checked(self, names: Iterable[str], estimate: Estimate, counts: Mapping[str, int]) -> Estimate:
        """The estimate, without a word where a training did not end by itself; undecided where some are missing.

        Args:
            counts: how many of what entered the estimate.
        """
        few = [f"{count} of {self.planned} {what}" for what, count in counts.items() if count < self.planned]
        if few:
            estimate = replace(estimate, few=few[0])
        cut = [(name, r.stopped) for name in names for r in self.records[name] if r.stopped not in BY_ITSELF]
        if estimate.untested or not cut:
            return estimate
        name, reason = cut[0]
        told = {"epochs": "was not trained to the end", "diverged": "diverged"}
        return statistics.untested(estimate, f"a run of {name} {told.get(reason, reason)}")

    def against(self, reference: str, metric: str = MONITOR, split: str = "test") -> dict[str, Estimate]:
        """By how much `reference` is above each other variant."""
        return {n: self.estimate({reference: 1, n: -1}, metric, split) for n in self.records if n != reference}

    def changes(self, reference: str, metric: str = MONITOR, split: str = "test") -> dict[str, Estimate]:
        """By how much each other variant is above `reference`, in whose percent it is told."""
        return {n: self.estimate({n: 1, reference: -1}, metric, split) for n in self.records if n != reference}

    def chance(self, name: str) -> str:
        """What a variant's interval in `summary` is over, in words; of one world there is none."""
        several = len(_with_result(self.records[name])) > 1
        if self._worlds([name]):
            return "over worlds" if several else "none, one world"
        return "over trainings and users" if several else "over users alone, one training"

    def groups(self, first: Iterable[str], second: Iterable[str], metric: str = MONITOR) -> Estimate:
        """By how much variants of one kind are above those of another, the variant being the unit."""
        names = [*first], [*second]
        each = [[self.estimate({name: 1}, metric) for name in kind] for kind in names]
        means = [[one.difference for one in kind] for kind in each]
        found = statistics.groups(*means, runs=sum(one.runs for kind in each for one in kind))
        reasons = [one.untested for kind in each for one in kind if one.untested]
        few = [one.few for kind in each for one in kind if one.few]
        found = replace(found, few=few[0]) if few else found
        return statistics.untested(found, reasons[0]) if reasons and not found.untested else found

    def measured(
        self, weights: Mapping[str, float], name: str, compute: Callable[[Record], object], part: str = ""
    ) -> Estimate:
        """Σ w μ of a number that `sea.records.measure` takes from each run, or of its entry `part`.

        Runs are paired by world on planted worlds, and not paired elsewhere.
        """
        if lacking := self._lacking(weights):
            return statistics.missing(lacking)
        values = {v: self._measures(v, name, compute, part) for v in weights}
        for variant, measured in values.items():
            if not measured:
                return statistics.missing(f"{name} is not measured on any run of {variant}")
        if self._worlds(weights):
            return self._checked(weights, statistics.by_world(weights, values), _common(values))
        (first, up), (second, down) = weights.items()
        if (up, down) != (1, -1):
            raise ValueError(f"'weights' needs to be a difference, 1 and -1, in 'measured' (got {dict(weights)!r})")
        lists = [list(values[v].values()) for v in (first, second)]
        return self._checked(weights, statistics.groups(*lists, runs=sum(map(len, lists))), _each(values))

    def _measures(self, variant: str, name: str, compute: Callable[[Record], object], part: str) -> dict[int, float]:
        """By seed; published runs that nobody measured are left out."""
        found = {}
        for record in _with_result(self.records[variant]):
            with contextlib.suppress(NotPublished):
                value = measure(record, name, compute)
                found[record.settings.seed] = value[part] if part else value
        return found

    def summary(self, split: str = "test") -> pd.DataFrame:
        """Per variant: how many runs have a result, and each metric's mean, followed by its interval's half-width.

        The interval is for the expected metric. `chance` says what it is over.
        """
        rows = {}
        for name, records in self.records.items():
            rows[name] = {"runs": len(_with_result(records))}
            for metric in METRICS:
                found = self.estimate({name: 1}, metric, split)
                rows[name] |= {metric: found.difference, f"{metric} ±": found.half}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")

    def active(self, name: str, term: str = "distance") -> float:
        """Share of the batches, up to the epoch that was kept, in which a term of the loss was not zero."""
        rows = [row for r in _with_result(self.records[name]) for row in r.history[: r.best_epoch + 1]]
        return float(np.mean([row.get(f"active/{term}", 0.0) for row in rows])) if rows else np.nan

    def _worlds(self, names: Iterable[str]) -> bool:
        """Whether each run has a world of its own, with users of its own."""
        return any(is_planted(r.settings.dataset) for name in names for r in self.records[name])

    def _values(self, name: str, metric: str, split: str) -> np.ndarray:
        return np.stack([r.ranking(split).values[metric] for r in _with_result(self.records[name])])  # (seeds, users)

    def _means(self, name: str, metric: str, split: str) -> dict[int, float]:
        return {r.settings.seed: r.metrics[split][metric] for r in _with_result(self.records[name])}

    def budget(self) -> pd.DataFrame:
        """What each model was given, and what was selected.

        Columns: the points of its grid that were tried ("12 of 80"); the seeds that judged each, 0 where nothing was
        searched; trainings, how many of them diverged, and epochs in all; hours; and the selected values of the
        settings that the search varies.
        """
        rows = {}
        for model in dict.fromkeys(r.settings.model for found in self.records.values() for r in found):
            searched = self.searched.get(model, [])
            tried = len({tuple(point_of(record).items()) for record in searched}) if searched else 1
            final = [r for found in self.records.values() for r in found if r.settings.model == model]
            distinct = {record.key: record for record in [*searched, *final]}.values()
            hours = sum(record.seconds for record in distinct) / 3600
            epochs = sum(len(record.history) for record in distinct)
            diverged = sum(record.stopped == "diverged" for record in distinct)
            values = {n: v if isinstance(v, str) else f"{v:g}" for n, v in point_of(final[0]).items()}
            selected = ", ".join(f"{name} {value}" for name, value in values.items())
            search_of = f"{tried} of {size(model, self.dataset)}", len(searched) // tried
            rows[model] = [*search_of, len(distinct), diverged, epochs, hours, selected]
        columns = ["grid points", "seeds per point", "trainings", "diverged", "epochs", "hours", "settings"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")

    def provenance(self) -> dict[str, object]:
        """The `provenance` of all runs, the search's included."""
        return provenance(r for found in (*self.searched.values(), *self.records.values()) for r in found)


def _with_result(records: list[Record]) -> list[Record]:
    """Those that have metrics: a training that diverged in its first epoch left none."""
    return [record for record in records if record.metrics]


def _common(values: Mapping[str, Mapping[int, float]]) -> dict[str, int]:
    """How many worlds all variants have: those are paired, and no other enters an estimate."""
    return {"worlds": len(set.intersection(*map(set, values.values())))}


def _each(values: Mapping[str, Sized]) -> dict[str, int]:
    """How many trainings each variant has."""
    return {f"trainings of {name}": len(found) for name, found in values.items()}


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

    In a profile that tunes, each model's grid is searched first (`sea.search.search`), and the point with the best
    validation Recall@20 is kept; a variant's own settings then go on top of its model's. (The variants of `FLEXIBILITY`
    have a search of their own, their settings in every run of it.) The seeds that judge begin after the search's, as
    the luck that made a point win is a part of its trainings. In a profile that doesn't tune a model has its defaults:
    the published settings, where their authors state them.

    Args:
        variants: names in `MODELS`, or by label a model's name and the settings that differ.
        dataset, profile, seeds, device: as in `plan`.
        epochs: at most this many; 0 leaves it to the profile.
        tune: whether settings are searched; None leaves it to the profile.
        jobs: trainings at a time.
        root: where runs are kept; or `sea.search.PUBLISHED`, which takes the published runs, as many seeds as there
            are, leaves a variant empty that has none, and needs neither the data nor a training. Where a model has
            published runs, and not all of its search, nothing is tuned.
    """
    if not isinstance(variants, dict):
        variants = {model: (model, {}) for model in variants}
    planned = {model: plan([model], dataset, profile, seeds, device) for model, _ in variants.values()}
    if epochs:
        planned = {m: [replace(s, epochs=min(epochs, s.epochs)) for s in found] for m, found in planned.items()}
    tune = CHOSEN in PROFILES[profile]["columns"] if tune is None else tune
    searched = _searched(variants, planned, dataset, jobs, root) if tune else {}
    start = SEARCH_SEEDS if searched else 0
    chosen = {name: best(found) for name, found in searched.items()}
    settings = {}
    for name, (model, params) in variants.items():
        of = _search_of(name, variants[name])
        if not searched or of in searched:
            final = chosen.get(of, {}) | params
            settings[name] = [replace(adjusted(one, final), seed=one.seed + start) for one in planned[model]]
    records = _published(settings) if root == PUBLISHED else obtain(settings, jobs, root)
    number = len(next(iter(planned.values()), []))
    if root == PUBLISHED and is_planted(dataset):
        number = max(number, WORLDS)
    return Study({name: records.get(name, []) for name in variants}, searched, number)


def _search_of(name: str, variant: tuple[str, dict]) -> str:
    """The name of the search that chooses a variant's settings: its own for one of `FLEXIBILITY`, else its model's."""
    model, params = variant
    return name if params and FLEXIBILITY.get(name) == variant else model


def _searched(
    variants: Variants, planned: dict[str, list[Settings]], dataset: str, jobs: int, root: str | Path
) -> dict[str, list[Record]]:
    """The runs of each search, by its name; of published ones none, if a model that has runs lacks its search."""
    first = {}
    for name, (model, params) in variants.items():
        of = _search_of(name, variants[name])
        first[of] = planned[model][0] if of == model else adjusted(planned[model][0], params)
    searched = search(first, jobs, root)
    lacking = {first[name].model for name in set(first) - set(searched)}
    if root == PUBLISHED and lacking & set(counts(dataset)):
        return {}  # tuned models are not set beside others that are not
    return searched


def _published(settings: dict[str, list[Settings]]) -> dict[str, list[Record]]:
    """By variant, every published run of its settings whose seed is not below its first one's."""
    return {
        name: [record for record in trainings(complete(found[0])) if record.settings.seed >= found[0].seed]
        for name, found in settings.items()
    }


def in_columns(
    variants: Variants, dataset: str, profile: str = "default", *args: object, **rest: object
) -> dict[str, Study]:
    """The same variants of SEA at each of the settings that the profile names, as studies by these names.

    Args:
        variants, dataset, profile: as in `study`, and so is the rest.
    """
    found = {
        column: study(
            {name: (model, own | params) for name, (model, params) in variants.items()},
            dataset,
            profile,
            *args,
            tune=False,
            **rest,
        )
        for column, own in COLUMNS.items()
        if column in PROFILES[profile]["columns"]
    }
    if CHOSEN in PROFILES[profile]["columns"]:
        chosen = study(variants, dataset, profile, *args, **rest)
        found |= {CHOSEN: chosen} if chosen.searched else {}
    return found


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
    warning = distinct(record.warning for record in records if record.warning)
    return {"warning": warning, **stamp} if warning else stamp
