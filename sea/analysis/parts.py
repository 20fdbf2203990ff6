"""What a trained SEA's parts are, one run at a time, in numbers that `sea.records.measure` keeps."""

from collections.abc import Callable

import numpy as np

from sea.analysis import probes, representations
from sea.analysis.information import decomposition, gaussian, information, without_part
from sea.data import Dataset
from sea.records import Record
from sea.train import MONITOR

COMPONENTS = (2, 4, 8, 16)
INFORMATION = {
    "InfoNCE, lower bound, 4 components": "lower",
    "nearest neighbours, 4 components": "knn",
    "CLUB with a fresh q, 4 components": "upper",
    **{f"as if Gaussian, {count} components": f"{count} components" for count in COMPONENTS},
}
"""Entries of `shared`, in words."""
SHARES = (("generic", "generic"), ("own unique", "unique"), ("generic", "unique"), ("own unique", "generic"))
FACTORS = {"separation": "separation"} | {
    name: name for m in ("image", "text") for name in (f"{m}: {factor} in {part} part" for factor, part in SHARES)
}
"""Entries of `composition`: the separation, and the shares that it is made of."""
TOLD = {
    f"{half} parts: {who}": f"{half}, {entry}"
    for half in ("generic", "unique")
    for who, entry in (("both tell", "both"), ("one alone tells", "alone"))
}
"""Entries of `told`, in words."""
OF_EACH = {
    f"{half} parts, of {whose}": f"{half}, {entry}"
    for half in ("generic", "unique")
    for whose, entry in (("the generic factor", "generic"), ("their own factor", "own"))
}
"""Entries of `told_of_each`, in words."""
HALVES = {
    "as trained": "whole",
    "without the generic half": "generic",
    "without the unique half": "unique",
    "without both": "both",
}
"""Entries of `without`, in words."""


def composition(record: Record) -> dict[str, float]:
    """`probes.composition` of a run's parts by its world's factors, on planted worlds alone."""
    world = record.data()
    return probes.composition(representations.extract(record.model(world)), world.factors)


def shared(record: Record) -> dict[str, float]:
    """What a modality's generic and unique part share, in nats, the mean over the modalities.

    The entries of `information`, on four components of each part; and "2 components" and so on, `gaussian` on more or
    fewer: where a part's spectrum is flat, its first few components are as good as drawn.
    """
    parts = representations.extract(record.model(record.data()))
    found = []
    for m, generic in parts["generic"].items():
        by_count = {f"{count} components": gaussian(generic, parts["unique"][m], count) for count in COMPONENTS}
        found.append(information(generic, parts["unique"][m]) | by_count)
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def told(record: Record) -> dict[str, float]:
    """What the parts of the first two modalities tell about all factors of a planted world, in nats: the generic parts,
    and the unique ones.

    From `decomposition`, on 16 components of each: what "both" parts tell, and what one tells "alone", the mean of the
    two. What draws a user to an item is a weighted sum of its factors, of which a part can tell no more than of them.
    """
    world = record.data()
    return _told(representations.extract(record.model(world)), world.factors)


def told_of_each(record: Record) -> dict[str, float]:
    """What a part tells about the generic factor, and about its modality's own unique one, on planted worlds.

    In nats, as if Gaussian, on 16 components of the part; the mean over the modalities.
    """
    world = record.data()
    return _told_of_each(representations.extract(record.model(world)), world.factors)


def of_perfect_parts(world: Dataset) -> dict[str, float]:
    """`told` and `told_of_each` of parts without a fault: each the factor that it is for, as well as features show it.

    That is the least-squares estimate of the factor from the modality's features.
    """
    parts = {"generic": {}, "unique": {}}
    for m, values in world.features.items():
        x = values - values.mean(0)
        for half, factor in (("generic", "generic"), ("unique", m)):
            parts[half][m] = x @ np.linalg.lstsq(x, world.factors[factor], rcond=None)[0]
    return _told(parts, world.factors) | _told_of_each(parts, world.factors)


Parts = dict[str, dict[str, np.ndarray]]


def _told(parts: Parts, factors: dict[str, np.ndarray]) -> dict[str, float]:
    target, found = np.hstack(list(factors.values())), {}
    for half in ("generic", "unique"):
        first, second = list(parts[half].values())[:2]
        one = decomposition(first, second, target, COMPONENTS[-1])
        found |= {f"{half}, both": one["both"], f"{half}, alone": (one["a alone"] + one["b alone"]) / 2}
    return found


def _told_of_each(parts: Parts, factors: dict[str, np.ndarray]) -> dict[str, float]:
    def mean(half: str, factor: Callable[[str], str]) -> float:
        each = [gaussian(part, factors[factor(m)], COMPONENTS[-1]) for m, part in parts[half].items()]
        return float(np.mean(each))

    return {
        f"{half}, {entry}": mean(half, factor)
        for half in ("generic", "unique")
        for entry, factor in (("generic", lambda _: "generic"), ("own", lambda m: m))
    }


def without(record: Record) -> dict[str, float]:
    """Test Recall@20 as trained, "whole", and with one half of the transformed features the same for all items."""
    world = record.data()
    model = record.model(world)
    filled = {part: without_part(model, world, part).mean()[MONITOR] for part in ("generic", "unique", "both")}
    return {"whole": record.metrics["test"][MONITOR], **filled}
