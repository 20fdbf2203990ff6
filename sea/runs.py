"""A run: settings in, record out, kept and resumable; and many of them at once."""

import json
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import torch
from filelock import FileLock
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from sea.cluster import Cluster, train_all
from sea.data import Dataset, load, planted
from sea.evaluate import Ranking, evaluate
from sea.files import save_json, save_tensors, write_atomically
from sea.machine import default_device, environment, peak_memory, start_memory
from sea.models import MODELS, Recommender
from sea.records import RUNS, Record, RunError, Settings, build, complete, finished, place, read, source
from sea.train import fit

HELD_OUT = ("valid", "test")
DEATHS = 3
"""Kills of its worker after which a run is given up."""


def run(settings: Settings, root: str | Path = RUNS, dataset: Dataset | None = None, progress: bool = True) -> Record:
    """Train and test one model, once: an existing record returns at once, a run that was cut off goes on.

    A run's folder under `root` is DATASET-MODEL-KEY, where the key is the start of a hash of all settings, the data's
    checksum and the revisions of the training loop and of the model. The record is written last, so a folder without
    one is not a finished run. If a file of a finished run was damaged, a line says so, and the run is done again.

    Args:
        root: where runs are kept.
        dataset: the loaded dataset, if it is at hand; `settings.dataset` is then its name alone.
        progress: show a bar, on a terminal.

    Raises:
        ValueError: an unknown model, setting or device; a value that its rule forbids.
        DataError: as in `sea.data.load`.
        OSError: a file can't be written; one line that names it.
    """
    dataset = load(*source(settings)) if dataset is None else dataset
    settings = complete(settings)
    folder, identity = place(settings, dataset, root)
    record = finished(folder)
    if record is None:
        default_device(settings.device)
        _check(settings, dataset)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"), _threads(settings.threads):
            record = finished(folder)  # by another process, while this one waited
            if record is None:
                _train(settings, dataset, folder, progress, identity)
                record = read(folder)
    return record


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_many(
    settings: Iterable[Settings],
    root: str | Path = RUNS,
    jobs: int = 1,
    progress: bool = True,
    cluster: Cluster | None = None,
) -> list[Record]:
    """Run a list, `jobs` at a time on this machine, or on a cluster; records come back in the list's order.

    All settings are checked before the first training. Whatever fails, then or later, the rest is done first. A run
    whose worker process was killed goes on in another.

    Shows a bar, and keeps a line with the time left in the file that the environment variable SEA_PROGRESS names,
    for whoever waits outside.

    Args:
        root, progress: as in `run`.
        jobs: trainings at a time on this machine; not looked at where there is a cluster.
        cluster: where to train (`sea.cluster`). None takes the one that the environment variable SEA_CLUSTER names, and
            this machine if it names none. Where a run is trained changes none of its numbers.

    Raises:
        RunError: some could not be done; it names each of them and why.
        ValueError: the cluster does not answer.
    """
    settings, datasets, cluster = list(settings), {}, cluster or Cluster.of_environment()
    known = [_look_up(one, root, datasets) for one in settings]
    outcomes = {folder: outcome for folder, outcome in known if folder}  # the same run twice is one
    waiting = {folder: one for folder, one in outcomes.items() if isinstance(one, Settings)}
    done = [one for one in outcomes.values() if isinstance(one, Record)]
    count = len(outcomes)
    with tqdm(total=count, initial=len(done), disable=None if progress else True, unit="run") as bar:
        trained = train_all(waiting, root, cluster, attempt) if cluster else _train_here(waiting, root, jobs, progress)
        with closing(trained):
            for folder, outcome, at_once in trained:
                del waiting[folder]
                outcomes[folder] = outcome
                done += [outcome] if isinstance(outcome, Record) else []
                _tell(bar, count, waiting.values(), done, at_once)
    found = [outcomes.get(folder, outcome) for folder, outcome in known]
    failures = [(one, outcome) for one, outcome in zip(settings, found) if isinstance(outcome, Exception)]
    if failures:
        reasons = "; ".join(f"{_title(one)}: {_first_line(error)}" for one, error in failures)
        cause = failures[0][1]
        raise RunError(f"{len(failures)} of {len(found)} runs failed, the others are done. {reasons}") from cause
    return found


def _look_up(settings: Settings, root: str | Path, datasets: dict[tuple, Dataset]) -> tuple[Path | None, object]:
    """Where a run belongs, and its record; its complete settings if it is to be trained; or why it can't be done."""
    try:
        if source(settings) not in datasets:
            datasets[source(settings)] = load(*source(settings))
        dataset, settings = datasets[source(settings)], complete(settings)
        folder = place(settings, dataset, root)[0]
        record = finished(folder)
        if record is None:
            _check(settings, dataset)
        return folder, record or settings
    except Exception as error:  # as in `attempt`
        return None, error


def _train_here(
    tasks: dict[Path, Settings], root: str | Path, jobs: int, progress: bool
) -> Iterator[tuple[Path, Record | Exception, int]]:
    """As `sea.cluster.train_all`, in processes of this machine.

    Which run killed the worker can't be told, so all that were under way are suspects: the others go first, then each
    suspect alone.
    """
    waiting, deaths = dict(tasks), Counter()
    while waiting:
        batch = [folder for folder in waiting if not deaths[folder]] or [min(waiting, key=deaths.__getitem__)]
        shown = progress and jobs == 1
        calls = [joblib.delayed(_named)(folder, waiting[folder], root, shown, os.getpid()) for folder in batch]
        try:
            for folder, outcome in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls):
                del waiting[folder]
                yield folder, outcome, jobs
        except TerminatedWorkerError:
            for folder in [folder for folder in batch if folder in waiting][:jobs]:
                deaths[folder] += 1
                if deaths[folder] == DEATHS:
                    del waiting[folder]
                    yield folder, RunError(f"its worker process was killed {DEATHS} times (out of memory?)"), jobs


def _named(
    folder: Path, settings: Settings, root: str | Path, progress: bool, asker: int
) -> tuple[Path, Record | Exception]:
    if os.getpid() != asker:
        _end_with(asker)
    return folder, attempt(settings, root, progress)


@cache
def _end_with(asker: int) -> None:
    """Let this worker process end when the one that asked for it is gone: nobody would ever tell it to."""

    def watch() -> None:
        while os.getppid() == asker:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def attempt(
    settings: Settings, root: str | Path, progress: bool = False, dataset: Dataset | None = None
) -> Record | Exception:
    """As `run`, but what would be raised is returned: whatever it is, it is told at the end, when all others are done.

    It is a `RunError` of one line, with the traceback as its note.
    """
    try:
        return run(settings, root, dataset, progress)
    except Exception as error:
        failure = RunError(_first_line(error))
        failure.add_note("".join(traceback.format_exception(error)))
        return failure


def _first_line(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full; a smaller 'batch_size' needs less, and so does 'device' \"cpu\""
    line = next(iter(str(error).strip().splitlines()), "no reason given")
    return line if isinstance(error, ValueError | OSError | RunError) else f"{type(error).__name__}: {line}"


def _title(settings: Settings) -> str:
    """A run in a few words, with what was asked of it beyond the defaults."""
    asked = {"lr": settings.lr, **settings.params}
    shown = ", ".join(f"{name} {value!r}" for name, value in asked.items() if value is not None)
    return f"{settings.model} seed {settings.seed}" + (f" ({shown})" if shown else "")


def _tell(bar: tqdm, count: int, waiting: Iterable[Settings], done: list[Record], jobs: int) -> None:
    """Move the bar, and keep the line for whoever waits outside."""
    waiting = list(waiting)
    left = f"about {_minutes_left(waiting, done) / jobs:.0f} min left"
    bar.set_postfix_str(left)
    bar.update()
    if "SEA_PROGRESS" in os.environ:
        line = f"{count - len(waiting)} of {count} trainings done, {left}"
        path = Path(os.environ["SEA_PROGRESS"])
        write_atomically(path, lambda temporary: temporary.write_text(line, encoding="utf-8"))


def _minutes_left(waiting: list[Settings], done: list[Record]) -> float:
    """A waiting run takes as long as the mean of the finished ones, of the same model where there are any."""
    minutes: dict[str, list[float]] = {}
    for record in done:
        minutes.setdefault(record.settings.model, []).append(record.seconds / 60)
    every = [spent for of_model in minutes.values() for spent in of_model]
    return sum(np.mean(minutes.get(one.model, every)) for one in waiting) if every else 0.0


def _check(settings: Settings, dataset: Dataset) -> None:
    """Refuse what the model refuses, before hours of other trainings: build it on a toy, and take a batch's loss."""
    _try_out(settings.model, json.dumps(settings.params, sort_keys=True), tuple(dataset.features))


@cache
def _try_out(model: str, params: str, modalities: tuple[str, ...]) -> None:
    toy = planted(20, 300, n_factors=2, widths=dict.fromkeys(modalities, 8), mean_interactions=10)
    generator = torch.Generator().manual_seed(0)
    built = MODELS[model](toy, generator=generator, **json.loads(params))
    built.before_epoch(generator)
    users, items = torch.from_numpy(toy.train[:64]).unbind(1)
    built.loss(users, items, items.flip(0))


def _train(settings: Settings, dataset: Dataset, folder: Path, progress: bool, identity: dict[str, object]) -> None:
    for left in (*folder.glob("*.tmp"), folder / "record.json"):  # of a process that was killed; a damaged one
        left.unlink(missing_ok=True)
    state, device = folder / "state.safetensors", torch.device(settings.device)
    start_memory(device)
    model = build(settings, dataset).to(device)
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
    peak = peak_memory(device)
    rankings = _rank(model, dataset) if result.best >= 0 else {}
    files = {}
    if rankings:
        tensors = {f"{split}/{name}": x for split, found in rankings.items() for name, x in found.tensors().items()}
        kept = {"ranking.safetensors": tensors, "weights.safetensors": model.state_dict()}
        files = {name: save_tensors(folder / name, tensors) for name, tensors in kept.items()}
    record = {
        "settings": asdict(settings),
        "dataset": dataset.name,
        "checksum": dataset.checksum,
        "warning": dataset.warning,
        **identity,
        "metrics": {split: found.mean() for split, found in rankings.items()},
        "history": result.history,
        "best_epoch": result.best,
        "stopped": result.stopped,
        "diverged": result.diverged,
        "seconds_per_epoch": float(np.median([row["seconds"] for row in result.history])),
        "peak_memory": peak,
        "environment": environment(device),
        "files": files,
    }
    save_json(folder / "record.json", record)
    state.unlink(missing_ok=True)


@torch.no_grad()
def _rank(model: Recommender, dataset: Dataset) -> dict[str, Ranking]:
    vectors = model.eval().vectors()
    return {split: evaluate(*vectors, dataset, split) for split in HELD_OUT}


if __name__ == "__main__":
    import sys

    from sea.manage import main  # it imports this module by its name

    sys.exit(main())
