"""Trainings on a Dask cluster: many machines, or many jobs of a batch system. Needs the extra `cluster`."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from sea.data import Dataset, load
from sea.files import write_atomically
from sea.records import Record, RunError, Settings, complete, finished, place, source

if TYPE_CHECKING:
    from distributed import Client, Future

_log = logging.getLogger(__name__)
Attempt = Callable[[Settings, Path, bool, Dataset | None], Record | Exception]
FIRST, AGAIN = 10, 600
"""Seconds that a scheduler has to answer: at first, and after it went away."""


class Cluster(NamedTuple):
    """A Dask cluster, one thread a training.

    Attributes:
        address: HOST:PORT of its scheduler.
        shared_files: whether its workers see the folder of the runs, and the datasets, under the same paths. If not,
            datasets are sent to the workers, and what a run keeps comes back when it is finished.
    """

    address: str
    shared_files: bool = True

    @classmethod
    def of_environment(cls) -> "Cluster | None":
        """The cluster that SEA_CLUSTER names, or None. No files are shared if SEA_NO_SHARED_FILES is set."""
        address = os.environ.get("SEA_CLUSTER", "")
        return cls(address, not os.environ.get("SEA_NO_SHARED_FILES")) if address else None


def train_all(
    tasks: dict[Path, Settings], root: str | Path, cluster: Cluster, attempt: Attempt
) -> Iterator[tuple[Path, Record | Exception, int]]:
    """Records and failures as they come, with the folder of the run and the number of trainings at a time.

    The scheduler knows a run by its folder, so that a run is trained once, whichever client asks for it. A run whose
    worker died is given to another worker. With shared files it goes on from where it was, and without them it begins
    anew. A run that kills its worker even when no other run is under way is given up. If the scheduler goes away, this
    waits for it, and asks again for the runs that are not done.

    If this ends early, for example by Ctrl-C, runs that have not begun are cancelled. A run that is under way on a
    worker goes on to its end there, and is kept if files are shared.

    Args:
        attempt: does a run on a worker, as `sea.runs.attempt`.

    Raises:
        ValueError: there is no scheduler at the address, or the extra is not installed. The message is one line.
    """
    waiting, seconds = dict(tasks), FIRST
    while waiting:
        client = connect(cluster.address, seconds)
        try:
            with suppress(*_signs_of_loss()):
                for folder, outcome, at_once in _submitted(client, waiting, Path(root).resolve(), cluster, attempt):
                    del waiting[folder]
                    yield folder, outcome, at_once
        finally:
            client.close()  # the scheduler forgets what nobody else wants and has not begun
        if waiting:
            _log.warning("the scheduler at %s went away; waiting for it", cluster.address)
        seconds = AGAIN


def _signs_of_loss() -> tuple[type[Exception], ...]:
    """What a client raises while its scheduler goes away."""
    from distributed import CancelledError
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError

    return CancelledError, FutureCancelledError, CommClosedError


def connect(address: str, seconds: float = FIRST) -> "Client":
    """A client of the scheduler at an address.

    Raises:
        ValueError: there is none within `seconds`, or the extra is not installed.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("'cluster' needs the package distributed: pip install -e '.[cluster]'") from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what goes wrong is told here
    try:
        return Client(address, timeout=seconds, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        rule = "'cluster' needs to be HOST:PORT of a Dask scheduler that answers"
        raise ValueError(f"{rule} (got {address!r}: {' '.join(str(error).split())})") from None


def _submitted(
    client: "Client", tasks: dict[Path, Settings], root: Path, cluster: Cluster, attempt: Attempt
) -> Iterator[tuple[Path, Record | Exception, int]]:
    """All outcomes that this connection brings; those of tasks that were cancelled under it are missing."""
    from distributed import KilledWorker, as_completed

    shared = cluster.shared_files
    sent = {} if shared else {source(one): client.scatter(load(*source(one))) for one in tasks.values()}
    folders, suspects = {}, []
    for folder, settings in tasks.items():
        needs = {"GPU": 1} if settings.device == "cuda" else None
        call = (
            (_train, attempt, folder.name, settings, root)
            if shared
            else (_train_away, attempt, folder.name, settings, sent[source(settings)])
        )
        key = str(folder) if shared else f"{folder.name}, by value"
        folders[client.submit(*call, key=key, resources=needs)] = folder
    for future in as_completed(folders, loop=client.loop):
        if future.status == "error" and isinstance(future.exception(), KilledWorker):
            suspects.append(future)
        elif future.status != "cancelled":
            yield folders[future], _outcome(future, folders[future]), _at_once(client)
    for future in suspects:  # which of them killed the worker can't be told, so each is alone now
        future.retry()
        next(as_completed([future], loop=client.loop))
        if future.status != "cancelled":
            yield folders[future], _outcome(future, folders[future]), _at_once(client)


def _at_once(client: "Client") -> int:
    try:
        return max(1, sum(client.nthreads().values()))
    except OSError:  # the scheduler went away; what was done is kept
        return 1


def _outcome(future: "Future", folder: Path) -> Record | Exception:
    """The record of a run, kept in its folder by now; or why there is none."""
    from distributed import KilledWorker

    if future.status == "error":
        error = future.exception()
        if isinstance(error, KilledWorker):
            return RunError("its worker was killed several times, the last time with nothing beside it (memory?)")
        return error
    outcome = future.result()
    if isinstance(outcome, dict):
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(outcome, key="record.json".__eq__):  # the record is written last
            write_atomically(folder / name, lambda temporary, name=name: temporary.write_bytes(outcome[name]))
        outcome = finished(folder) or RunError("what came back from its worker is damaged")
    return outcome


def _train(
    attempt: Attempt, name: str, settings: Settings, root: Path, dataset: Dataset | None = None
) -> Record | Exception:
    """On a worker: do a run in a folder that all see. The folder's name says what code the client has."""
    dataset = load(*source(settings)) if dataset is None else dataset
    here = place(complete(settings), dataset, root)[0]
    if here.name != name:
        return RunError(f"its worker has other code or data than the client, and would train {here.name}, not {name}")
    return attempt(settings, root, False, dataset)


def _train_away(attempt: Attempt, name: str, settings: Settings, dataset: Dataset) -> dict[str, bytes] | Exception:
    """On a worker that shares no files: do a run, and return the content of its files by name."""
    with TemporaryDirectory(prefix="sea-") as root:
        outcome = _train(attempt, name, settings, Path(root), dataset)
        if isinstance(outcome, Exception):
            return outcome
        kept = [outcome.folder / file for file in ("record.json", *outcome.files)]
        return {path.name: path.read_bytes() for path in kept}
