# ruff: noqa: E402
import os

for library in ("OMP", "MKL", "OPENBLAS"):  # read when NumPy and torch are imported, here and in every child
    os.environ[f"{library}_NUM_THREADS"] = "1"

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from sea.data import Dataset, planted

torch.set_num_threads(1)  # should something have imported it before
SHARED = Path(__file__).parents[2] / "shared" / "data"  # real datasets beside the checkout, where there are any


@pytest.fixture(scope="session")
def world() -> Dataset:
    """A planted world of seconds."""
    return planted(60, 40, n_factors=2, widths={"image": 12, "text": 7}, mean_interactions=12, seed=1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def start():
    """Start a process, `start(line, **options)`, with a group of its own, all of which ends with the test.

    It hears Ctrl-C, even where these tests run in the background and were told to ignore it.
    """
    started = []

    def begin(line: list, **options) -> subprocess.Popen:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits no handler, but ignoring
        try:
            started.append(subprocess.Popen(line, start_new_session=True, **options))
        finally:
            signal.signal(signal.SIGINT, before)
        return started[-1]

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


def dataset_of(train: list, valid: list, test: list, n_users: int, n_items: int) -> Dataset:
    """A hand-made dataset from lists of pairs, with random features."""
    rng = np.random.default_rng(0)
    features = {m: rng.standard_normal((n_items, 6)).astype(np.float32) for m in ("image", "text")}
    splits = [np.array(pairs, dtype=np.int64).reshape(-1, 2) for pairs in (train, valid, test)]
    return Dataset("toy", *splits, features=features, n_users=n_users, n_items=n_items)


def untimed(history: list[dict]) -> list[dict]:
    """The epochs of a training without their seconds: what has to be the same when it is done again."""
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in history]
