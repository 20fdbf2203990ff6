"""What a trained SEA's parts are, one run at a time, in numbers that `sea.records.measure` keeps."""

import numpy as np

from sea.analysis import probes, representations
from sea.analysis.information import decomposition, gaussian, information, without_part
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
    two. A user's taste is a weighted sum of the factors, so what is told about them is told about the tastes.
    """
    world = record.data()
    parts = representations.extract(record.model(world))
    target, found = np.hstack(list(world.factors.values())), {}
    for half in ("generic", "unique"):
        first, second = list(parts[half].values())[:2]
        one = decomposition(first, second, target, COMPONENTS[-1])
        found |= {f"{half}, both": one["both"], f"{half}, alone": (one["a alone"] + one["b alone"]) / 2}
    return found


def without(record: Record) -> dict[str, float]:
    """Test Recall@20 as trained, "whole", and with one half of the transformed features the same for all items."""
    world = record.data()
    model = record.model(world)
    filled = {part: without_part(model, world, part).mean()[MONITOR] for part in ("generic", "unique", "both")}
    return {"whole": record.metrics["test"][MONITOR], **filled}
