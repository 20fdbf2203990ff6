"""A run: settings in, record out, cached and resumable; and many of them at once."""

import hashlib
import inspect
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import joblib
import numpy as np
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from sea.data import DATA, Dataset, load
from sea.evaluate import Scores, evaluate
from sea.models import MODELS, Recommender
from sea.separate import SeparateLearning
from sea.train import fit, write_atomically
from sea.version import code_version

RUNS = DATA / "runs"
HELD_OUT = ("valid", "test")


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


@dataclass(frozen=True, eq=False)
class Record:
    """What a finished run left behind.

    Attributes:
        settings: as given, with every model parameter and the device filled in.
        dataset, checksum, warning: name, content and warning label of the data.
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
    warning: str
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


def run(settings: Settings, root: str | Path = RUNS, dataset: Dataset | None = None, progress: bool = True) -> Record:
    """Train and test one model, once: an existing record returns at once, a run that was cut off goes on.

    A run's folder under `root` is named by a hash of every value that reached the model, the data's checksum
    and the code's version. The record is written last, so a folder without one is not a finished run.

    Raises:
        ValueError: an unknown model, model parameter or device.
        DataError: as in `sea.data.load`.
    """
    dataset = load(settings.dataset) if dataset is None else dataset
    settings = _complete(settings)
    folder, identity = _place(settings, dataset, root)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"), _threads(settings.threads):
        if not (folder / "record.json").exists():
            _train(settings, dataset, folder, progress, identity)
        return _read_record(folder)


def _place(settings: Settings, dataset: Dataset, root: str | Path) -> tuple[Path, dict[str, str]]:
    """The folder of a run with complete settings, and what names it."""
    code = code_version(MODELS[settings.model], fit, evaluate)
    key = hash_of(asdict(settings) | {"dataset": dataset.checksum, "code": code})
    return Path(root) / f"{dataset.name}-{settings.model}-{key}", {"key": key, "code": code}


def hash_of(identity: dict[str, object]) -> str:
    """What a kept result is named by: a hash of all that decides it, as JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_many(
    settings: Iterable[Settings], root: str | Path = RUNS, jobs: int = 1, progress: bool = True
) -> list[Record]:
    """Run a list, `jobs` at a time; records come back in the list's order.

    Shows a bar, and keeps a line with the time left in the file that the environment variable SEA_PROGRESS
    names, for whoever waits outside. Inside `joblib.parallel_config(backend=...)` the same call uses a Dask or
    Ray cluster.
    """
    settings = [_complete(one) for one in settings]
    known = {name: load(name) for name in {one.dataset for one in settings}}
    folders = [_place(one, known[one.dataset], root)[0] for one in settings]
    missing = [not (folder / "record.json").exists() for folder in folders]
    waiting = (one for one, untrained in zip(settings, missing) if untrained)
    tasks = (joblib.delayed(run)(one, root, progress=progress and jobs == 1) for one in waiting)
    records = []
    bar = tqdm(total=len(settings), disable=None if progress else True, unit="run")
    with bar:
        trained = joblib.Parallel(n_jobs=jobs, return_as="generator")(tasks)
        for folder, untrained in zip(folders, missing):
            records.append(next(trained) if untrained else _read_record(folder))
            left = _minutes_left(settings, missing, records) / jobs
            line = f"{len(records)} of {len(settings)} trainings done, about {left:.0f} min left"
            bar.set_postfix_str(f"about {left:.0f} min left")
            bar.update()
            if "SEA_PROGRESS" in os.environ:
                path = Path(os.environ["SEA_PROGRESS"])
                write_atomically(path, lambda temporary, line=line: temporary.write_text(line, encoding="utf-8"))
    return records


def _minutes_left(settings: list[Settings], missing: list[bool], records: list[Record]) -> float:
    """What is to be trained yet takes as long as the mean of what is there, of the same model where there is one."""
    minutes = [sum(row["seconds"] + row.get("seconds_evaluate", 0) for row in r.history) / 60 for r in records]
    of_model: dict[str, list[float]] = {}
    for one, spent in zip(settings, minutes):
        of_model.setdefault(one.model, []).append(spent)
    later = list(zip(settings, missing))[len(records) :]
    waiting = [one.model for one, untrained in later if untrained]
    return sum(np.mean(of_model.get(model, minutes)) for model in waiting)


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
            found = _parameters(SeparateLearning) | found
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "generator":
            found[parameter.name] = parameter.default
    return found


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
    scores = {split: evaluate(*vectors, dataset, split) for split in HELD_OUT}
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
        "warning": dataset.warning,
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
