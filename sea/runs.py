"""A run: settings in, record out, cached and resumable; and many of them at once."""

import ast
import hashlib
import inspect
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy import stats
from tqdm import tqdm

from sea.data import Dataset, load
from sea.evaluate import Scores, evaluate
from sea.models import MODELS, Recommender
from sea.separate import SeparateLearning
from sea.train import fit, write_atomically

ROOT = Path(__file__).parents[1] / "data" / "runs"
SPLITS = ("valid", "test")


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers.

    Attributes:
        model: a name in `MODELS`.
        dataset: what `sea.data.load` takes: "planted", a folder, or a name under data/.
        seed: of the initial weights, the order of the pairs and the negatives.
        params: the model's settings that differ from its defaults, by name.
        lr: Adam's step size; the model's published one if None.
        batch_size, epochs, patience: as in `sea.train.fit`.
        device: "cpu", "cuda", or "auto": a GPU where there is one.
        threads: CPU threads. They change the order of sums, so they are a setting, and the number of jobs is not.
    """

    model: str
    dataset: str = "planted"
    seed: int = 999
    params: dict = field(default_factory=dict)
    lr: float | None = None
    batch_size: int = 2048
    epochs: int = 1000
    patience: int = 20
    device: str = "auto"
    threads: int = 1


PROFILES = {
    "quick": {"epochs": 3, "lr": 1e-3, "seeds": 1},
    "default": {"epochs": 200, "patience": 10, "lr": 1e-3, "seeds": 3},
    "paper": {"epochs": 1000, "patience": 20, "lr": None, "seeds": 5},
}
"""What a profile sets, the same for every model; `lr` None means each model's published one."""


def plan(models: Iterable[str], dataset: str, profile: str, seeds: int = 0, device: str = "auto") -> list[Settings]:
    """The runs of a profile: every model with every seed, 999 and on.

    Batches hold 2048 pairs as published, but 512 on the planted world, which has 8,000 in all.

    Args:
        models: names in `MODELS`.
        profile: a name in `PROFILES`.
        seeds: how many; 0 takes the profile's number.
    """
    if profile not in PROFILES:
        raise ValueError(f"'profile' needs to be one of {', '.join(PROFILES)} in 'plan' (got {profile!r})")
    chosen = dict(PROFILES[profile], batch_size=512 if dataset == "planted" else 2048)
    count = chosen.pop("seeds")
    return [
        Settings(model, dataset, seed, device=device, **chosen)
        for model in models
        for seed in range(999, 999 + (seeds or count))
    ]


@dataclass(frozen=True, eq=False)
class Record:
    """What a finished run left behind.

    Attributes:
        settings: as given, with every model parameter and the device filled in.
        dataset, checksum: name and content of the data.
        key: hash of settings, data and code, the name of the run's folder.
        code: version of the code that decides the numbers.
        metrics: by split ("valid", "test"), then metric: means over users, unrounded, at the best epoch.
        history, best_epoch, stopped: as in `sea.train.Fit`.
        seconds_per_epoch: median, training alone.
        peak_memory: bytes, of the process on a CPU, of the tensors on a GPU.
        environment: versions, machine, threads, date.
        folder: where the weights and the users' values lie.
    """

    settings: Settings
    dataset: str
    checksum: str
    key: str
    code: str
    metrics: dict[str, dict[str, float]]
    history: list[dict]
    best_epoch: int
    stopped: str
    seconds_per_epoch: float
    peak_memory: int
    environment: dict
    folder: Path

    def scores(self, split: str = "test") -> Scores:
        """Every evaluated user's metrics, for paired tests."""
        with safe_open(self.folder / "users.safetensors", "np") as file:
            values = {
                name.removeprefix(f"{split}/"): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118, not a dict
                if name.startswith(f"{split}/")
            }
        return Scores(values.pop("users"), values)

    def model(self, dataset: Dataset) -> Recommender:
        """The trained model, rebuilt on the dataset it was trained on, on the CPU."""
        if dataset.checksum != self.checksum:
            raise ValueError(
                f"'dataset' needs to be the run's own, checksum {self.checksum[:12]}, in 'Record.model' "
                f"(got {dataset.checksum[:12]})"
            )
        model = _build(self.settings, dataset)
        model.load_state_dict(load_file(self.folder / "weights.safetensors"))
        return model.eval()


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


def summary(records: Iterable[Record], split: str = "test") -> pd.DataFrame:
    """Per model: how many seeds, and the `interval` of each metric over them."""
    rows = pd.DataFrame([{"model": record.settings.model, **record.metrics[split]} for record in records])
    table = interval(rows, "model")
    table.insert(0, "seeds", rows.groupby("model", sort=False).size())
    return table


def provenance(records: Iterable[Record]) -> dict[str, object]:
    """The stamp for what was drawn from runs: data, runs (settings hash each), code, device, dates."""
    records = list(records)

    def distinct(values: Iterable[str]) -> str:
        return ", ".join(sorted(set(values)))

    return {
        "dataset": distinct(record.dataset for record in records),
        "checksum": distinct(record.checksum for record in records),
        "runs": [f"{record.settings.model} seed {record.settings.seed}: {record.key}" for record in records],
        "code": distinct(f"{record.settings.model} {record.code}" for record in records),
        "device": distinct(record.environment["device"] for record in records),
        "trained": distinct(record.environment["date"] for record in records),
    }


def run(settings: Settings, root: str | Path = ROOT, dataset: Dataset | None = None, progress: bool = True) -> Record:
    """Train and test one model, once: an existing record returns at once, a run that was cut off goes on.

    A run's folder under `root` is named by a hash of every value that reached the model, the data's checksum
    and the code's version. The record is written last, so a folder without one is not a finished run.

    Raises:
        ValueError: an unknown model, model parameter or device.
        DataError: as in `sea.data.load`.
    """
    dataset = load(settings.dataset) if dataset is None else dataset
    settings = _complete(settings)
    code = code_version(settings.model)
    identity = asdict(settings) | {"dataset": dataset.checksum, "code": code}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(root) / f"{dataset.name}-{settings.model}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"), _threads(settings.threads):
        if not (folder / "record.json").exists():
            _train(settings, dataset, folder, progress, {"key": key, "code": code})
        return _read_record(folder)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_many(
    settings: Iterable[Settings], root: str | Path = ROOT, jobs: int = 1, progress: bool = True
) -> list[Record]:
    """Run a list, `jobs` at a time; records come back in the list's order.

    Inside `joblib.parallel_config(backend=...)` the same call uses a Dask or Ray cluster.
    """
    settings = list(settings)
    bar = {"total": len(settings), "disable": None if progress else True, "unit": "run"}
    if jobs == 1:
        return [run(one, root, progress=progress) for one in tqdm(settings, **bar)]
    tasks = (joblib.delayed(run)(one, root, progress=False) for one in settings)
    return list(tqdm(joblib.Parallel(n_jobs=jobs, return_as="generator")(tasks), **bar))


def _complete(settings: Settings) -> Settings:
    """Fill in the model's defaults and the device, refuse what is unknown."""
    if settings.model not in MODELS:
        raise ValueError(f"'model' needs to be one of {', '.join(MODELS)} in 'Settings' (got {settings.model!r})")
    known = _parameters(MODELS[settings.model])
    for name in settings.params:
        if name not in known:
            raise ValueError(
                f"'params' of {settings.model} needs names among {', '.join(known)} in 'Settings' (got {name!r})"
            )
    for name in ("batch_size", "epochs", "threads"):
        if getattr(settings, name) < 1:
            raise ValueError(f"'{name}' needs to be at least 1 in 'Settings' (got {getattr(settings, name)!r})")
    return replace(
        settings,
        params=known | settings.params,
        lr=settings.lr or MODELS[settings.model].lr,
        device=default_device(settings.device),
    )


def default_device(device: str = "auto") -> str:
    """Name the device to train on: for "auto", "cuda" where there is a GPU and "cpu" elsewhere.

    Raises:
        ValueError: an unknown device, or "cuda" without a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"'device' needs to be auto, cpu or cuda (got {device!r})")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("'device' needs to be cpu or auto where there is no GPU (got 'cuda')")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _parameters(function: type) -> dict[str, object]:
    """Keyword settings of a model and their defaults, SeparateLearning's included where it takes them."""
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= _parameters(SeparateLearning)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "generator":
            found[parameter.name] = parameter.default
    return found


@cache
def code_version(model: str) -> str:
    """A hash of the code that decides a model's numbers; comments and docstrings don't count."""
    package = Path(__file__).parent
    files = ["blocks", "graphs", "losses", "separate", "evaluate", "train", "models/base"]
    own = Path(inspect.getfile(MODELS[model]))
    digest = hashlib.sha256()
    for path in [*(package / f"{name}.py" for name in files), own]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_docstring(body[0]):
                body.pop(0)
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _build(settings: Settings, dataset: Dataset) -> Recommender:
    generator = torch.Generator().manual_seed(settings.seed)
    return MODELS[settings.model](dataset, generator=generator, **settings.params)


def _train(settings: Settings, dataset: Dataset, folder: Path, progress: bool, identity: dict[str, str]) -> None:
    state, device = folder / "state.safetensors", torch.device(settings.device)
    start_memory(device)
    model = _build(settings, dataset).to(device)
    result = fit(
        model,
        dataset,
        lr=settings.lr,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        patience=settings.patience,
        generator=torch.Generator(device).manual_seed(settings.seed),
        state=state,
        progress=progress,
    )
    model.eval()
    with torch.no_grad():
        vectors = model.vectors()
    scores = {split: evaluate(*vectors, dataset, split) for split in SPLITS}
    tensors = {
        f"{split}/{name}": torch.from_numpy(values)
        for split, found in scores.items()
        for name, values in {"users": found.users, **found.values}.items()
    }
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "weights.safetensors",
    )
    save_file(tensors, folder / "users.safetensors")
    record = {
        "settings": asdict(settings),
        "dataset": dataset.name,
        "checksum": dataset.checksum,
        **identity,
        "metrics": {split: found.mean() for split, found in scores.items()},
        "history": result.history,
        "best_epoch": result.best,
        "stopped": result.stopped,
        "seconds_per_epoch": float(np.median([row["seconds"] for row in result.history])),
        "peak_memory": peak_memory(device),
        "environment": environment(device),
    }
    text = json.dumps(record, indent=1)
    write_atomically(folder / "record.json", lambda path: path.write_text(text, encoding="utf-8"))
    state.unlink(missing_ok=True)


def _read_record(folder: Path) -> Record:
    values = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return Record(**values | {"settings": Settings(**values["settings"]), "folder": folder})


def environment(device: torch.device) -> dict[str, object]:
    """Where and when: versions, device, threads, date."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def start_memory(device: torch.device) -> None:
    """Set the peak back to the present, where the system lets us (CUDA; Linux for the process's own)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak since `start_memory`: CUDA's allocator, or the process's resident set; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
