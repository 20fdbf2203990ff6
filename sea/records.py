"""What a run is named by, and what it leaves behind."""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

from sea.data import DATA, Dataset, is_planted, load
from sea.evaluate import Ranking
from sea.files import DamagedFile, hash_of, load_json, load_tensors, save_json
from sea.machine import default_device
from sea.models import MODELS, Recommender
from sea.train import REVISION

RUNS = DATA / "runs"
MEASURES = "measures.json"


class RunError(RuntimeError):
    """Some runs of a list could not be done; the message names each with its reason, and all others are done."""


class NotPublished(ValueError):
    """A published run was asked for what only its weights can tell, and weights are not published."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers.

    Attributes:
        model: a name in `MODELS`.
        dataset: what `sea.data.load` takes: "planted", a folder, or a name under data/; whole or knocked out.
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


@dataclass(frozen=True)
class Published:
    """What a published run has in place of a folder.

    Attributes:
        tensors: reads those of its rankings, by the names that `ranking.safetensors` has for them.
        measures: as `measures` returns them.
    """

    tensors: Callable[[], dict[str, torch.Tensor]]
    measures: dict[str, object]


@dataclass(frozen=True, eq=False)
class Record:
    """What a finished run left behind, in its folder or among the published runs (`sea.published`).

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
        files: checksums of the files beside the record, by name; empty for a published run.
        folder: where they lie; None for a published run.
        published: the rankings and measures of a published run; None for one that has a folder.
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
    folder: Path | None = None
    published: Published | None = None

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
        tensors = self.published.tensors() if self.published and self.metrics else self._tensors("ranking")
        kept = {name.removeprefix(f"{split}/"): x for name, x in tensors.items() if name.startswith(f"{split}/")}
        return Ranking.from_tensors(kept)

    def model(self, dataset: Dataset) -> Recommender:
        """The trained model, rebuilt on the dataset it was trained on, on the CPU.

        Raises:
            ValueError: another dataset, or the run diverged before there was a best epoch.
            NotPublished: the run is a published one.
            DamagedFile: the file does not hold what the run wrote.
        """
        self.needs_weights("'Record.model'")
        if dataset.checksum != self.checksum:
            raise ValueError(
                f"'dataset' needs to be the run's own, checksum {self.checksum[:12]}, in 'Record.model' "
                f"(got {dataset.checksum[:12]})"
            )
        return self.model_on(dataset)

    def model_on(self, dataset: Dataset) -> Recommender:
        """As `model`, on a dataset of the same users, items and interactions, whose features may be others.

        Raises:
            RuntimeError: the dataset's sizes don't fit the weights.
            ValueError, NotPublished, DamagedFile: as in `model`, another dataset apart.
        """
        self.needs_weights("'Record.model_on'")
        model = build(self.settings, dataset)
        model.load_state_dict(self._tensors("weights"))
        return model.eval()

    def needs_weights(self, asked: str) -> None:
        """Refuse what needs the run's weights if it is a published one; `asked` says what that is.

        Raises:
            NotPublished: it is.
        """
        if self.published:
            raise NotPublished(
                f"run {self.key} ({self.settings.model}, seed {self.settings.seed}, {self.dataset}): {asked} needs its "
                "weights, which are not published; 'sea.runs.run(record.settings)' trains it, and "
                f"'python -m sea.runs verify {self.key}' says whether the same comes out"
            )

    def _tensors(self, kind: str) -> dict[str, torch.Tensor]:
        name = f"{kind}.safetensors"
        if name not in self.files:
            where = self.folder or f"run {self.key}"
            raise ValueError(
                f"{where}: has no {kind}, as the training diverged in epoch {len(self.history) - 1} "
                f"({self.diverged}) before any went well"
            )
        return load_tensors(self.folder / name, self.files[name])[0]


def source(settings: Settings) -> tuple[str] | tuple[str, int]:
    """What `sea.data.load` takes for a run: on the planted world each seed has a world of its own."""
    return (settings.dataset, settings.seed) if is_planted(settings.dataset) else (settings.dataset,)


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
    device = settings.device if settings.device == "cuda" else default_device(settings.device)  # a worker may have one
    steps = dict.fromkeys(MODELS[settings.model].step_sizes, lr)
    return replace(settings, params=known | steps | settings.params, lr=lr, device=device)


def build(settings: Settings, dataset: Dataset) -> Recommender:
    """The model of a run before its training, on the CPU."""
    generator = torch.Generator().manual_seed(settings.seed)
    return MODELS[settings.model](dataset, generator=generator, **settings.params)


def place(settings: Settings, dataset: Dataset, root: str | Path) -> tuple[Path, dict[str, object]]:
    """The folder of a run with complete settings, and what names it."""
    named = {"dataset": dataset.checksum, "revisions": revisions(settings.model)}
    key = hash_of(asdict(settings) | named)[:16]
    return Path(root) / f"{dataset.name}-{settings.model}-{key}", {"key": key, "revisions": named["revisions"]}


def revisions(model: str) -> dict[str, int]:
    """The present revisions of the training loop and of a model."""
    return {"training": REVISION, "model": MODELS[model].revision}


def finished(folder: Path) -> Record | None:
    """The record of a run that is done, all its files as they were written; None if it has to be done (again)."""
    if not (folder / "record.json").exists():
        return None
    try:
        record = read(folder)
        for name, checksum in record.files.items():
            load_tensors(folder / name, checksum)
    except DamagedFile as error:
        say(f"{error}; this run is done again")
        return None
    return record


@cache
def say(line: str) -> None:
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


def measure(record: Record, name: str, compute: Callable[[Record], object]) -> object:
    """What `compute(record)` says of a run's weights: computed once, then kept beside the run under `name`.

    A computation that changes needs another name. What is kept belongs to the weights that it was computed from: a run
    that was done again with other weights is measured again.

    Args:
        compute: returns a number, or numbers in lists and in dictionaries with text as names. NaN is a number,
            infinity is not.

    Raises:
        NotPublished: a published run has nothing under that name.
        ValueError: `compute` returns something else.
    """
    known = measures(record)
    if name not in known:
        record.needs_weights(f"the measure {name!r}")
        known = {name: _plain(compute(record), name)}
        _keep(record, known)
    return _with_nan(known[name])


def measures(record: Record) -> dict[str, object]:
    """All that was kept of a run by `measure`, by name, as JSON has it: null (None) in place of NaN."""
    if record.published:
        return record.published.measures
    path = record.folder / MEASURES
    if not path.exists():
        return {}
    try:
        content = load_json(path)
    except DamagedFile as error:
        say(f"{error}; it is measured again")
        return {}
    return content["measures"] if content["weights"] == _weights(record) else {}


def _keep(record: Record, new: dict[str, object]) -> None:
    """Add to the kept measures. Where nothing can be written, a line says so, and nothing is kept."""
    try:
        with FileLock(record.folder / "lock"):  # other processes add theirs
            content = {"weights": _weights(record), "measures": measures(record) | new}
            save_json(record.folder / MEASURES, content)
    except OSError as error:
        say(f"{record.folder}: what is measured can't be kept ({error})")


def _weights(record: Record) -> str:
    return record.files.get("weights.safetensors", "")


def _plain(value: object, name: str) -> object:
    """Numbers as JSON has them: NumPy's and torch's become Python's, and NaN becomes null."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(one, name) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, name) for one in value]
    if isinstance(value, int | float) and not math.isinf(value):
        return None if math.isnan(value) else value
    raise ValueError(
        f"'compute' needs to return finite numbers or NaN, or lists and dictionaries of them, in 'measure' of {name!r} "
        f"(got {value!r})"
    )


def _with_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nan(one) for one in value]
    return math.nan if value is None else value
