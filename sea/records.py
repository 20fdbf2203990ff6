"""What a run is named by, and what it leaves behind."""

import logging
import math
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import torch

from sea.data import DATA, Dataset, load
from sea.evaluate import Ranking
from sea.files import DamagedFile, hash_of, load_json, load_tensors
from sea.machine import default_device
from sea.models import MODELS, Recommender
from sea.train import REVISION

RUNS = DATA / "runs"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers.

    Attributes:
        model: a name in `MODELS`.
        dataset: what `sea.data.load` takes: "planted", a folder, or a name under data/.
        seed: of the initial weights, the order of the pairs and the negatives; of a planted world, too.
        params: the model's settings that differ from its defaults, by name.
        lr: Adam's step size, above 0; the model's published one if None.
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
        settings: as given, with every setting of the model, `lr` and the device filled in.
        dataset, checksum, warning: name, content and warning label of the data.
        revisions: of the "training" loop and of the "model", the parts of the code that decide the numbers.
        key: start of a hash of settings, data and revisions; it ends the name of the run's folder.
        metrics: by split ("valid", "test"), then metric: means over users, unrounded, at the best epoch. Empty if
            the run diverged before there was one.
        history, best_epoch, stopped, diverged: as in `sea.train.Fit`.
        seconds_per_epoch: median, training alone.
        peak_memory: bytes, of the process on a CPU, of the tensors on a GPU.
        environment: commit, versions, machine, threads, date: what ran. Of these only the threads and the kind of
            device name the run, as settings.
        files: checksums of the files beside the record, by name.
        folder: where they lie.
    """

    settings: Settings
    dataset: str
    checksum: str
    warning: str
    revisions: dict[str, int]
    key: str
    metrics: dict[str, dict[str, float]]
    history: list[dict]
    best_epoch: int
    stopped: str
    diverged: str
    seconds_per_epoch: float
    peak_memory: int
    environment: dict
    files: dict[str, str]
    folder: Path

    @property
    def seconds(self) -> float:
        """What all epochs took, evaluation included."""
        return sum(row["seconds"] + row.get("seconds_evaluate", 0) for row in self.history)

    def data(self) -> Dataset:
        """The dataset that the run was trained on, read anew.

        Raises:
            DataError: as in `sea.data.load`.
        """
        return load(*source(self.settings))

    def ranking(self, split: str = "test") -> Ranking:
        """The hits of every evaluated user, from which all metrics follow.

        Raises:
            ValueError: the run diverged before there was a ranking.
            DamagedFile: the file does not hold what the run wrote.
        """
        tensors = self._tensors("ranking")
        kept = {name.removeprefix(f"{split}/"): x for name, x in tensors.items() if name.startswith(f"{split}/")}
        return Ranking.from_tensors(kept)

    def model(self, dataset: Dataset) -> Recommender:
        """The trained model, rebuilt on the dataset it was trained on, on the CPU.

        Raises:
            ValueError: another dataset, or the run diverged before there was a best epoch.
            DamagedFile: the file does not hold what the run wrote.
        """
        if dataset.checksum != self.checksum:
            raise ValueError(
                f"'dataset' needs to be the run's own, checksum {self.checksum[:12]}, in 'Record.model' "
                f"(got {dataset.checksum[:12]})"
            )
        model = build(self.settings, dataset)
        model.load_state_dict(self._tensors("weights"))
        return model.eval()

    def _tensors(self, kind: str) -> dict[str, torch.Tensor]:
        name = f"{kind}.safetensors"
        if name not in self.files:
            raise ValueError(
                f"{self.folder}: has no {kind}, as the training diverged in epoch {len(self.history) - 1} "
                f"({self.diverged}) before any went well"
            )
        return load_tensors(self.folder / name, self.files[name])[0]


def source(settings: Settings) -> tuple[str] | tuple[str, int]:
    """What `sea.data.load` takes for a run: on the planted world each seed has a world of its own."""
    return (settings.dataset, settings.seed) if settings.dataset == "planted" else (settings.dataset,)


def complete(settings: Settings) -> Settings:
    """Fill in the model's defaults and the device, refuse what is unknown."""
    if settings.model not in MODELS:
        raise ValueError(f"'model' needs to be one of {', '.join(MODELS)} in 'Settings' (got {settings.model!r})")
    known = MODELS[settings.model].settings()
    for name in settings.params:
        if name not in known:
            raise ValueError(
                f"'params' of {settings.model} needs names among {', '.join(known)} in 'Settings' (got {name!r})"
            )
    for name in ("batch_size", "epochs", "threads"):
        if getattr(settings, name) < 1:
            raise ValueError(f"'{name}' needs to be at least 1 in 'Settings' (got {getattr(settings, name)!r})")
    lr = MODELS[settings.model].lr if settings.lr is None else settings.lr
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"'lr' needs to be above 0 and finite in 'Settings' (got {lr!r})")
    return replace(settings, params=known | settings.params, lr=lr, device=default_device(settings.device))


def build(settings: Settings, dataset: Dataset) -> Recommender:
    """The model of a run before its training, on the CPU."""
    generator = torch.Generator().manual_seed(settings.seed)
    return MODELS[settings.model](dataset, generator=generator, **settings.params)


def place(settings: Settings, dataset: Dataset, root: str | Path) -> tuple[Path, dict[str, object]]:
    """The folder of a run with complete settings, and what names it."""
    revisions = {"training": REVISION, "model": MODELS[settings.model].revision}
    key = hash_of(asdict(settings) | {"dataset": dataset.checksum, "revisions": revisions})[:16]
    return Path(root) / f"{dataset.name}-{settings.model}-{key}", {"key": key, "revisions": revisions}


def finished(folder: Path) -> Record | None:
    """The record of a run that is done, all its files as they were written; None if it has to be done (again)."""
    if not (folder / "record.json").exists():
        return None
    try:
        record = read(folder)
        for name, checksum in record.files.items():
            load_tensors(folder / name, checksum)
    except DamagedFile as error:
        _say(f"{error}; this run is done again")
        return None
    return record


@cache
def _say(line: str) -> None:
    """Log a line, once in a process."""
    logging.getLogger(__name__).warning(line)


def read(folder: Path) -> Record:
    """The record in a run's folder.

    Raises:
        DamagedFile: it is not there, does not hold what was written, or is of another layout.
    """
    path = folder / "record.json"
    values = load_json(path)
    try:
        return Record(**values | {"settings": Settings(**values["settings"]), "folder": folder})
    except (KeyError, TypeError):
        raise DamagedFile(f"{path}: is the record of another version of this code") from None
