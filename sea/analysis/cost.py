"""What a model costs: seconds per epoch and peak memory, each training in a process of its own (Table 5)."""

import gc
import multiprocessing
import platform
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sea.data import Dataset, load, planted
from sea.files import DamagedFile, hash_of, load_json, save_json
from sea.machine import commit, default_device, environment, peak_memory, start_memory
from sea.models import MODELS, TRAINED
from sea.records import RUNS
from sea.study import SEED, Variants
from sea.train import REVISION, fit

COLUMNS = ["seconds", "seconds min", "seconds max", "first", "peak", "baseline", "beyond"]


@dataclass(frozen=True, eq=False)
class Costs:
    """What was measured on one device.

    Attributes:
        rows: by "variant" and "round": "seconds", of training alone, the median over the process's epochs after
            its first; "first", the seconds that its first epoch took beyond that, such as PAMD's pre-training; and,
            in bytes, "peak", "baseline" and "beyond", their difference. A process of one epoch has that epoch's
            seconds, and no "first" (NaN). On a CPU the bytes are resident sets of the process: the baseline is
            what interpreter, libraries and data take before the model is built. On a GPU they are tensors alone.
            NaN where the system does not tell.
        device: its name.
        stamp: data, settings, machine.
    """

    rows: pd.DataFrame
    device: str
    stamp: dict[str, object]

    def table(self) -> pd.DataFrame:
        """Per variant: medians over the rounds, and the least and the most seconds of a round. Columns: `COLUMNS`."""
        groups = self.rows.groupby("variant", sort=False)
        table = groups.median()
        table["seconds min"], table["seconds max"] = groups["seconds"].min(), groups["seconds"].max()
        return table[COLUMNS]

    def ratios(self, pairs: Collection[tuple[str, str]], column: str = "seconds") -> pd.DataFrame:
        """For each (a, b): the median of a's value over b's in the same round, the least and the most.

        A round visits all variants in turn, so a busy quarter of an hour hits both sides of its ratios alike.
        """
        values = {name: self.rows[column].xs(name) for name in {name for pair in pairs for name in pair}}
        rows = {f"{a} / {b}": (values[a] / values[b]).agg(["median", "min", "max"]) for a, b in pairs}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("ratio")


def cost(
    variants: Variants,
    dataset: str,
    device: str = "auto",
    *,
    epochs: int = 3,
    repeats: int = 3,
    threads: int = 1,
    root: str | Path = RUNS,
) -> Costs:
    """Train every variant for some epochs and measure, one process after the other, in interleaved rounds.

    Every training has a fresh process, because a process keeps memory, and libraries, that an earlier model
    made it take. Nothing is read from the records of other trainings, which may have shared the machine. A
    finished measurement is kept as costs-HASH.json under `root`, and returned when the same is asked again of
    the same commit, data and machine; deleting that file has it measured anew.

    Args:
        variants: by label a model's name and the settings that differ from its own.
        dataset: as in `sea.data.load`.
        device: "cpu", "cuda", or "auto": a GPU where there is one.
        epochs: of each process, at least 1; the first is told apart from the others if there are any.
        repeats: rounds, at least 1.
        threads: CPU threads.
        root: where measurements are kept.

    Raises:
        ValueError: an unknown model or device, or a model that is not trained; a number below 1.
        DataError: as in `sea.data.load`.
        RuntimeError: a training failed; one line that names the variant.
    """
    for name, value in {"epochs": epochs, "repeats": repeats, "threads": threads}.items():
        if value < 1:
            raise ValueError(f"'{name}' needs to be at least 1 in 'cost' (got {value!r})")
    for model, _ in variants.values():
        if model not in TRAINED:
            raise ValueError(f"'variants' needs models among {', '.join(TRAINED)} in 'cost' (got {model!r})")
    device = default_device(device)
    world = load(dataset)
    stamp = {
        "dataset": world.name,
        "checksum": world.checksum,
        "commit": commit(),
        "revisions": {"training": REVISION} | {model: MODELS[model].revision for model, _ in variants.values()},
        "epochs": epochs,
        "rounds": repeats,
    }
    asked = {**stamp, "variants": variants, "threads": threads, "machine": [platform.node(), torch.__version__, device]}
    kept = Path(root) / f"costs-{hash_of(asked)[:16]}.json"
    try:
        found = load_json(kept)
    except DamagedFile:  # or not there
        kept.parent.mkdir(parents=True, exist_ok=True)
        found = _measure_all(variants, dataset, device, epochs, repeats, threads)
        save_json(kept, found)
    table = pd.DataFrame(found["rows"]).set_index(["variant", "round"])
    stamp |= found["machine"]
    return Costs(table, device, {"warning": world.warning, **stamp} if world.warning else stamp)


def _measure_all(
    variants: Variants, dataset: str, device: str, epochs: int, repeats: int, threads: int
) -> dict[str, object]:
    rows, machine = [], {}
    for turn in range(repeats):
        for label, (model, params) in variants.items():
            row, machine = _in_fresh_process(label, model, params, dataset, device, epochs, threads)
            rows.append({"variant": label, "round": turn, **row})
    return {"rows": rows, "machine": machine}


def _in_fresh_process(label: str, *task: object) -> tuple[dict[str, float], dict[str, object]]:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:  # a server that has imported everything and done nothing, copied for each task
        context.set_forkserver_preload(
            ["sea.analysis.cost", "torch._dynamo"]
        )  # the latter is what Adam's first step imports
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, *task).result()
        except Exception as error:  # whatever it was, its kind and first line are told
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise RuntimeError(f"{label}: the training failed in 'cost' ({type(error).__name__}: {reason})") from None


def measure(
    model: str, params: dict, dataset: str, device: str, epochs: int, threads: int
) -> tuple[dict[str, float], dict[str, object]]:
    """Train in this process, which should be a fresh one: what a row of `Costs` has, and the environment.

    Before anything is measured, the same model trains for an epoch on a toy world of 60 users, so that what the
    libraries load or reserve at first use is part of the baseline.
    """
    torch.set_num_threads(threads)
    where = torch.device(device)
    world = load(dataset)
    toy = planted(60, 40, n_factors=2, widths=dict.fromkeys(world.features, 8), mean_interactions=10)
    _train(model, params, toy, where, 1)
    gc.collect()
    start_memory(where)
    baseline = peak_memory(where) or np.nan
    seconds = _train(model, params, world, where, epochs)
    peak = peak_memory(where) or np.nan
    row = times(seconds) | {"peak": peak, "baseline": baseline, "beyond": peak - baseline}
    return row, environment(where)


def times(seconds: list[float]) -> dict[str, float]:
    """ "seconds" and "first" of a row of `Costs`, from the seconds of each epoch."""
    usual = float(np.median(seconds[1:] or seconds))
    return {"seconds": usual, "first": seconds[0] - usual if len(seconds) > 1 else np.nan}


def _train(model: str, params: dict, world: Dataset, device: torch.device, epochs: int) -> list[float]:
    built = MODELS[model](world, generator=torch.Generator().manual_seed(SEED), **params).to(device)
    generator = torch.Generator(device).manual_seed(SEED)
    result = fit(built, world, lr=built.lr, epochs=epochs, patience=epochs, generator=generator, progress=False)
    return [row["seconds"] for row in result.history]
