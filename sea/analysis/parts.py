"""What a trained SEA's parts are, one run at a time, in numbers that `sea.records.measure` keeps."""

import numpy as np

from sea.analysis import probes, representations
from sea.analysis.information import information, without_part
from sea.records import Record
from sea.train import MONITOR


def composition(record: Record) -> dict[str, float]:
    """`probes.composition` of a run's parts by its world's factors, on planted worlds alone."""
    world = record.data()
    return probes.composition(representations.extract(record.model(world)), world.factors)


def shared(record: Record) -> dict[str, float]:
    """`information` between the generic and the unique part of a modality in nats, the mean over the modalities."""
    parts = representations.extract(record.model(record.data()))
    found = [information(parts["generic"][m], parts["unique"][m]) for m in parts["generic"]]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def without(record: Record) -> dict[str, float]:
    """Test Recall@20 as trained, "whole", and with one half of the transformed features the same for all items."""
    world = record.data()
    model = record.model(world)
    filled = {part: without_part(model, world, part).mean()[MONITOR] for part in ("generic", "unique", "both")}
    return {"whole": record.metrics["test"][MONITOR], **filled}
