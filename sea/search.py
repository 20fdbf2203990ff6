"""Each model's settings, searched on validation over its authors' grid: all of it, or a part of a stated size."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from sea.data import is_planted
from sea.data.synthetic import FIRST_WORLD
from sea.models import MODELS, TRAINED
from sea.published import trainings
from sea.records import Record, Settings, complete
from sea.runs import run_many
from sea.train import MONITOR

SEED = FIRST_WORLD
"""The first seed of a study; the others follow it, and where a search was made, those that come after the search's
(`SEARCH_SEEDS`). It is the framework's that is behind the published numbers."""
PUBLISHED = "published"
"""In place of a folder of runs: take the published ones, with all seeds that there are, and train nothing."""
BUDGET = 12
"""Points that the search tries of each model's grid: all, or so many."""
SEARCH_SEEDS, SEARCH_SECONDS = 3, 60
"""Seeds that score a point where the median training takes less than so many seconds; elsewhere one seed does."""
PLANTED_LR, PLANTED_STEPS = 1e-2, 10
"""On a planted world, whose epochs have 4 batches, a tenth of a small real set's, every model has the one step size
instead of its published one, and those of its grid are so many times as large. Patience is half of the profile's."""
PLANTED_RATES = (1e-3, 5e-3)
"""Step sizes that the search tries there around the best point, for a model whose grid names none: with `PLANTED_LR`
these are the three of SEA's grid."""


def grid(model: str) -> list[dict]:
    """All points of a model's grid, as settings: the products of its values, then what it lacks of the published."""
    values = MODELS[model].grid
    found = [dict(zip(values, point)) for point in product(*values.values())]
    known = [_complete(model, point) for point in found]
    return found + [point for point in _published(model) if _complete(model, point) not in known]


def _published(model: str) -> list[dict]:
    """The settings that its authors chose: the defaults, and those for one dataset or another."""
    return [{name: _complete(model, {})[name] for name in _of_grid(model)}, *MODELS[model].published]


def _of_grid(model: str) -> list[str]:
    """The settings in which points of a model's grid differ."""
    return list(dict.fromkeys(name for point in (MODELS[model].grid, *MODELS[model].published) for name in point))


def _complete(model: str, point: dict) -> dict:
    return {"lr": MODELS[model].lr, **MODELS[model].settings(), **point}


def varied(model: str) -> list[str]:
    """The settings that a model's search varies, the step size last where its grid leaves it alone."""
    return list(dict.fromkeys([*_of_grid(model), *MODELS[model].around, "lr"]))


def size(model: str, dataset: str = "") -> int:
    """How many points a model's grid has, with those that are tried around the best one."""
    return len(grid(model)) + len(_around(model, dataset, {}))


def _around(model: str, dataset: str, best: dict) -> list[dict]:
    around = MODELS[model].around
    if is_planted(dataset) and model in TRAINED and "lr" not in _of_grid(model):
        around = around | {"lr": PLANTED_RATES}
    return [best | {name: value} for name, values in around.items() for value in values]


def points(model: str, dataset: str = "") -> list[dict]:
    """The points of a model's grid that its search tries first, in the grid's order.

    All of them, or `BUDGET` where there are more: the published ones, and others drawn without replacement. The
    draw has a seed of its own, so that every study tries the same points. What is tried around the best of them counts
    as a part of the budget.
    """
    found, budget = grid(model), BUDGET - len(_around(model, dataset, {}))
    if len(found) > budget:
        published = [_complete(model, point) for point in _published(model)]
        kept = [index for index, point in enumerate(found) if _complete(model, point) in published]
        others = np.setdiff1d(np.arange(len(found)), kept)
        drawn = np.random.default_rng(SEED).choice(others, max(budget - len(kept), 0), replace=False)
        found = [found[index] for index in sorted([*kept, *drawn])]
    if is_planted(dataset):
        found = [point | ({"lr": PLANTED_STEPS * point["lr"]} if "lr" in point else {}) for point in found]
    return found


def search(first: dict[str, Settings], jobs: int, root: str | Path) -> dict[str, list[Record]]:
    """By name, the runs of its search, from which `best` chooses.

    A point is scored by the mean over `SEARCH_SEEDS` seeds, if the median training with the first one took less than
    `SEARCH_SECONDS`, and always on planted worlds; else by that seed alone. Then the values `around` the best point
    are tried with the same seeds.

    Args:
        first: by name, of a model or a variant, the settings of its first run, on top of which its model's points go.
        jobs, root: as in `sea.study.study`. A name is left out if not all runs of its search are published.
    """
    tries = {name: points(one.model, one.dataset) for name, one in first.items()}
    found = _tried(first, tries, dict.fromkeys(tries, range(1)), jobs, root)
    seconds = {name: np.median([r.seconds for r in records]) for name, records in found.items() if records}
    short = {name: is_planted(first[name].dataset) or median < SEARCH_SECONDS for name, median in seconds.items()}
    seeds = {name: range(SEARCH_SEEDS if is_short else 1) for name, is_short in short.items()}
    found = _tried(first, {name: tries[name] for name in seeds}, seeds, jobs, root)
    near = {name: _around(first[name].model, first[name].dataset, best(records)) for name, records in found.items()}
    more = _tried(first, near, seeds, jobs, root)
    asked = {name: (len(tries[name]) + len(near[name])) * len(seeds[name]) for name in found}
    return {name: records + more[name] for name, records in found.items() if len(records + more[name]) == asked[name]}


def _tried(
    first: dict[str, Settings],
    tries: dict[str, list[dict]],
    seeds: dict[str, Iterable[int]],
    jobs: int,
    root: str | Path,
) -> dict[str, list[Record]]:
    settings = {
        name: [replace(adjusted(one, point), seed=one.seed + seed) for seed in seeds[name] for point in tries[name]]
        for name, one in first.items()
        if name in tries
    }
    return obtain(settings, jobs, root)


def obtain(wanted: dict[str, list[Settings]], jobs: int, root: str | Path) -> dict[str, list[Record]]:
    """The runs of several lists of settings: trained where they are missing, or those of them that are published."""
    if root == PUBLISHED:
        return {name: [record for one in found for record in _published_run(one)] for name, found in wanted.items()}
    records = iter(run_many([one for found in wanted.values() for one in found], root, jobs))
    return {name: [next(records) for _ in found] for name, found in wanted.items()}


def _published_run(settings: Settings) -> list[Record]:
    return [record for record in trainings(complete(settings)) if record.settings.seed == settings.seed]


def adjusted(settings: Settings, params: dict) -> Settings:
    """Settings with `params` on top, where "lr" is Adam's and the rest is the model's."""
    rest = {name: value for name, value in params.items() if name != "lr"}
    return replace(settings, lr=params.get("lr", settings.lr), params=settings.params | rest)


def best(records: list[Record]) -> dict:
    """The point with the best mean validation Recall@20 over its seeds, the first of equals; no value is the worst.

    Values are compared unrounded, where the framework behind the published tables rounds to four digits.
    """
    values: dict[tuple, list[float]] = {}
    for record in records:
        value = record.metrics["valid"][MONITOR] if record.metrics else -np.inf
        values.setdefault(tuple(point_of(record).items()), []).append(value)
    return dict(max(values, key=lambda point: np.mean(values[point])))


def point_of(record: Record) -> dict:
    """What a run has of the settings that its model's search varies, by name."""
    values = {"lr": record.settings.lr, **record.settings.params}
    return {name: values[name] for name in varied(record.settings.model)}
