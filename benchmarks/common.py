"""What the benchmarks share: shapes and random data, options, a clock, the machine's name."""

import argparse
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from sea import graphs
from sea.data import OFFICIAL_WIDTHS, Dataset
from sea.machine import default_device, environment


class Shape(NamedTuple):
    """How large a random dataset is."""

    n_users: int
    n_items: int
    n_train: int
    widths: dict[str, int]  # columns of each modality's features


SHAPES = {
    "baby": Shape(19445, 7050, 118551, OFFICIAL_WIDTHS),
    "sports": Shape(35598, 18357, 218409, OFFICIAL_WIDTHS),
    "clothing": Shape(39387, 23033, 197338, OFFICIAL_WIDTHS),
    "small": Shape(500, 300, 5000, {"image": 64, "text": 32}),
}


def random_dataset(name: str, shape: Shape, rank: int = 0, seed: int = 0) -> Dataset:
    """Random features and distinct random pairs: all users and items are in train, each user once in valid and test.

    Args:
        rank: features are a tenth of noise on so many random directions; 0 makes them noise alone.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items, n_train, widths = shape
    user_order, item_order = rng.permutation(n_users), rng.permutation(n_items)

    def pairs(count: int, shift: int) -> np.ndarray:
        turn = np.arange(count)
        return user_order[turn % n_users] * n_items + item_order[(turn + shift) % n_items]

    cover, valid, test = pairs(max(n_users, n_items), 0), pairs(n_users, 1), pairs(n_users, 2)
    drawn = rng.choice(n_users * n_items, n_train + 2 * n_users, replace=False)
    drawn = drawn[~np.isin(drawn, np.concatenate([cover, valid, test]))][: n_train - len(cover)]
    train = rng.permutation(np.concatenate([cover, drawn]))
    splits = [np.stack(np.divmod(codes, n_items), axis=1) for codes in (train, valid, test)]
    features = {m: _features(n_items, width, rank, rng) for m, width in widths.items()}
    return Dataset(f"random-{name}", *splits, features, n_users, n_items)


def _features(n_items: int, width: int, rank: int, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal((n_items, width), dtype=np.float32)
    if not rank:
        return noise
    directions = rng.standard_normal((rank, width), dtype=np.float32)
    return rng.standard_normal((n_items, rank), dtype=np.float32) @ directions + noise / 10


def timed(device: torch.device, function: Callable, *arguments: object) -> tuple[float, object]:
    """Seconds of a call, with what it left in the device's queue, and what it returned."""
    _wait(device)
    start = time.perf_counter()
    result = function(*arguments)
    _wait(device)
    return time.perf_counter() - start, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parser(documentation: str) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have; `documentation` is the script's docstring."""
    style = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser(description=documentation, formatter_class=style)
    found.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one")
    found.add_argument("--out", type=Path, help="write the table to this CSV file as well")
    return found


def options(documentation: str) -> argparse.ArgumentParser:
    """The same, and the threads that a benchmark itself computes with."""
    found = parser(documentation)
    found.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    return found


def start(arguments: argparse.Namespace) -> tuple[torch.device, dict[str, object]]:
    """Set the threads, keep no item graph; say and return where it runs: the device, and what describes the machine."""
    torch.set_num_threads(arguments.threads)
    graphs.KEPT = None  # it would be timed once alone
    device = torch.device(default_device(arguments.device))
    machine = {"cpu": cpu(), "cores": os.cpu_count(), **environment(device)}
    machine["load"] = round(os.getloadavg()[0], 1)  # of other jobs, at the start: above 0 it blurs all that follows
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    return device, machine


def cpu() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def report(table: pd.DataFrame, title: str, out: Path | None, **stamp: object) -> None:
    """Print a table; write it to `out`, with the `stamp` in further columns, if that is a file."""
    print(f"\n{title}\n{table.to_string(float_format='{:.4g}'.format, na_rep='')}")
    if out:
        table.assign(**stamp).to_csv(out)
