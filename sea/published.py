"""Published runs: finished runs without their weights, committed, so that whoever reads a figure can open its runs.

A store holds, for each dataset, one file of runs for each model, and one file of users. Each is text, packed by gzip,
with a JSON object a line. data/README.md says what the fields are, and reads them with pandas alone.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import fields
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from sea.data import DATA, is_planted, knocked_out
from sea.files import CHECKSUM, DamagedFile, damaged, write_atomically
from sea.models import MODELS
from sea.records import Published, Record, Settings, measures, revisions, say

RECORDS = DATA / "records"
USERS = "users.jsonl.gz"
SETTINGS = tuple(field.name for field in fields(Settings))
COPIED = (
    *("key", "checksum", "warning", "revisions", "metrics", "history", "best_epoch", "stopped", "diverged"),
    *("seconds_per_epoch", "peak_memory", "environment"),
)
"""What a row has under the same name as the record."""
ALIKE = ("model", "lr", "batch_size", "epochs", "patience")
"""Settings in which runs agree that differ in the seed and in the machine alone, with those of their model's settings
that have an effect."""
RANKINGS = ',"hits":'
"""Where in a run's text the rankings begin: its last two fields, hits and recommended."""
EXACT = 1e-9
"""How far a metric may be from what the hits say: what another processor's sums may differ by."""


def publish(records: Iterable[Record], root: str | Path = RECORDS) -> dict[Path, tuple[int, int]]:
    """Add finished runs to the store; one of the same key is replaced, and no other is lost.

    A replaced run keeps what was measured of it, unless its hits changed.

    Returns:
        By file: how many of the runs are new to it, and how many it now holds.

    Raises:
        ValueError: a run's hits say something else than its metrics, or than the users in the store.
        DamagedFile: a file of the store, or a run's ranking, does not hold what was written.
        OSError: a file can't be written; one line that names it.
    """
    new = {}
    for path, group in _by_file(records, root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / "lock"):
            before = {row["key"]: row for row in _load_if_there(path)}
            rows = before | {record.key: _row(record, before.get(record.key)) for record in group}
            _save(path.parent / USERS, _with_users(path.parent / USERS, group))  # first, as the runs need them
            _save(path, sorted(rows.values(), key=lambda row: (row["seed"], row["key"])))
            new[path] = len(rows) - len(before), len(rows)
    return new


def withdraw(records: Iterable[Record], root: str | Path = RECORDS) -> None:
    """Take published runs out of the store, and the users that no other run needs.

    Raises:
        DamagedFile: a file of the store does not hold what was written.
        OSError: a file can't be written; one line that names it.
    """
    for path, group in _by_file(records, root).items():
        keys, users = {record.key for record in group}, path.parent / USERS
        with FileLock(path.parent / "lock"):
            _save(path, [row for row in _load_if_there(path) if row["key"] not in keys])
            needed = {row["checksum"] for file in _files(path.parent) for row in _load(file)}
            _save(users, [row for row in _load_if_there(users) if row["checksum"] in needed])


def stored(root: str | Path = RECORDS) -> list[str]:
    """The names of all datasets that have published runs, whole or with replaced features."""
    return sorted(folder.name for folder in Path(root).glob("*") if _files(folder))


def datasets(root: str | Path = RECORDS) -> list[str]:
    """The names of the datasets that have published runs, those with replaced features (`knocked_out`) left out."""
    return [name for name in stored(root) if not knocked_out(name)[1]]


def counts(dataset: str, root: str | Path = RECORDS) -> dict[str, int]:
    """How many published runs a dataset has of each model, by the model's name; they are counted and not read."""
    files = {path.name.removesuffix(".jsonl.gz"): path for path in _files(Path(root) / Path(dataset).name)}
    return {model: gzip.decompress(path.read_bytes()).count(b"\n") for model, path in files.items()}


def read(dataset: str, root: str | Path = RECORDS) -> list[Record]:
    """All published runs of a dataset, by model and seed; none if it has none.

    Args:
        dataset: a name, or a path that ends in it.

    Raises:
        DamagedFile: a file of the store does not hold what was written; one line that names it.
    """
    return [record for path in _files(Path(root) / Path(dataset).name) for record in _published(path)]


def find(settings: Settings, root: str | Path = RECORDS, checksum: str = "") -> list[Record]:
    """The published runs of the present revisions that differ from `settings` in seed, device and threads at most.

    They come by seed. A seed that was trained on two kinds of device is there twice. A line says how many were left out
    because their revisions are older.

    Args:
        settings: as `sea.records.complete` returns them. Of `settings.dataset` the last part is the dataset's name.
        checksum: of the data, if runs on other data of that name are not wanted.

    Raises:
        ValueError: the settings are not complete; or the runs are on several sets of that name, and none is chosen.
        DamagedFile: a file of the store does not hold what was written; one line that names it.
    """
    if settings.lr is None:
        raise ValueError("'settings' needs to be complete in 'find', as 'sea.records.complete' makes it (got lr None)")
    path = _file(root, settings.dataset, settings.model)
    alike = [record for record in _published(path) if _alike(record.settings, settings)] if path.exists() else []
    alike = [record for record in alike if checksum in ("", record.checksum)]
    present = [record for record in alike if record.revisions == revisions(settings.model)]
    if len(present) < len(alike):
        say(f"{path}: {len(alike) - len(present)} of {len(alike)} runs are left out, as their revisions are older")
    known = {record.checksum[:12] for record in present}
    if len(known) > 1 and not is_planted(Path(settings.dataset).name):  # where each seed has a world of its own
        raise ValueError(
            f"'checksum' needs to be given in 'find' (got none, and {path} has {', '.join(sorted(known))})"
        )
    return present


def trainings(settings: Settings) -> list[Record]:
    """What `find` returns, one run for each seed.

    A seed may be published twice: trained with another value of a setting that has no effect, or on another kind of
    device. Such runs are one training, told twice. The one with the very settings goes first.
    """
    each: dict[int, Record] = {}
    for record in sorted(find(settings), key=lambda record: record.settings.params != settings.params):
        each.setdefault(record.settings.seed, record)
    return [each[seed] for seed in sorted(each)]


def _alike(one: Settings, other: Settings) -> bool:
    if any(getattr(one, name) != getattr(other, name) for name in ALIKE):
        return False
    in_effect = MODELS[one.model].in_effect
    return in_effect(one.params) == in_effect(other.params)


def _file(root: str | Path, dataset: str, model: str) -> Path:
    return Path(root) / Path(dataset).name / f"{model}.jsonl.gz"


def _by_file(records: Iterable[Record], root: str | Path) -> dict[Path, list[Record]]:
    found: dict[Path, list[Record]] = {}
    for record in records:
        found.setdefault(_file(root, record.dataset, record.settings.model), []).append(record)
    return found


def _files(folder: Path) -> list[Path]:
    """The files of runs in a dataset's folder."""
    return sorted(path for path in folder.glob("*.jsonl.gz") if path.name != USERS)


# from a record to its row, and back


def _row(record: Record, before: dict | None) -> dict[str, object]:
    """A run as its file has it; `before` is the row that it replaces."""
    rankings = {split: record.ranking(split) for split in record.metrics}
    for split, ranking in rankings.items():
        for name, value in ranking.mean().items():
            if abs(value - record.metrics[split][name]) > EXACT:
                raise ValueError(
                    f"run {record.key}: needs hits that say its {split} {name}, {record.metrics[split][name]!r}, "
                    f"in 'publish' (got {value!r})"
                )
    history = [{name: _short(value) for name, value in row.items()} for row in record.history]
    settings = {name: getattr(record.settings, name) for name in SETTINGS} | {"dataset": record.dataset}
    row = {"key": record.key, **settings} | {name: getattr(record, name) for name in COPIED} | {"history": history}
    row["epochs_done"] = len(history)
    row["seconds"] = sum(epoch["seconds"] + epoch.get("seconds_evaluate", 0) for epoch in history)
    hits = {split: ranking.tensors()["hits"].tolist() for split, ranking in rankings.items()}
    row["measures"] = (before["measures"] if before and before["hits"] == hits else {}) | measures(record)
    row["hits"] = hits  # the first of the `RANKINGS`
    return row | {"recommended": {split: ranking.recommended.tolist() for split, ranking in rankings.items()}}


def _short(value: object) -> object:
    """A number of the history, six digits of it: as much as a curve shows, in half the bytes."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _with_users(path: Path, records: list[Record]) -> list[dict]:
    """The rows of the file of users, those of the records' data among them."""
    rows = {(row["checksum"], row["split"]): row for row in _load_if_there(path)}
    for record in records:
        for split in record.metrics:
            tensors = {name: values.tolist() for name, values in record.ranking(split).tensors().items()}
            row = {"checksum": record.checksum, "split": split, "depth": tensors["depth"][0]}
            row |= {name: tensors[name] for name in ("users", "targets")}
            if rows.setdefault((record.checksum, split), row) != row:
                raise ValueError(
                    f"run {record.key}: needs the {split} users of its dataset in 'publish', and {path} has others "
                    f"for checksum {record.checksum[:12]}"
                )
    return [rows[name] for name in sorted(rows)]


def _published(path: Path) -> list[Record]:
    return list(_records(path, _stamp(path)))


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced; zeros if it is not there."""
    if not path.exists():
        return 0, 0, 0
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=256)
def _records(path: Path, stamp: tuple) -> tuple[Record, ...]:
    """The runs of a file, read once in a process, and again if it changed."""
    return tuple(_record(path, text) for text in _texts(path))


def _record(path: Path, text: str) -> Record:
    """A run, all but its rankings, which are read when they are asked for: they are nine tenths of the text."""
    head, _, _ = text.rpartition(RANKINGS)
    row = json.loads(head + "}")
    try:
        settings = Settings(**{name: row[name] for name in SETTINGS})
        copied = {name: row[name] for name in COPIED}
        published = Published(partial(_tensors, path.parent / USERS, text), row["measures"])
    except KeyError:
        raise DamagedFile(f"{path}: holds runs of another version of this code") from None
    if _file(path.parents[1], settings.dataset, settings.model) != path:
        raise damaged(path, f"it holds a run of {settings.model} on {settings.dataset}")
    return Record(settings=settings, dataset=settings.dataset, **copied, files={}, published=published)


def _tensors(users: Path, text: str) -> dict[str, Tensor]:
    """The rankings of a run, as `Record.ranking` wants them, from its text and the file of users."""
    row, found = json.loads(text), {}
    for split, hits in row["hits"].items():
        known = _users(users, _stamp(users)).get((row["checksum"], split))
        if known is None or len(known["users"]) != len(hits):
            raise damaged(users, f"it lacks the {split} users of run {row['key']}, data {row['checksum'][:12]}")
        own = {"hits": _tensor(hits), "recommended": _tensor(row["recommended"][split])}
        found |= {f"{split}/{name}": values for name, values in (known | own).items()}
    return found


@lru_cache(maxsize=16)
def _users(path: Path, stamp: tuple) -> dict[tuple[str, str], dict[str, Tensor]]:
    """By checksum of the data and split: the evaluated users, their numbers of targets, and the ranking's depth."""
    return {
        (row["checksum"], row["split"]): {
            "users": _tensor(row["users"]),
            "targets": _tensor(row["targets"]),
            "depth": _tensor([row["depth"]]),
        }
        for row in _load(path)
    }


def _tensor(values: list[int]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int32))  # faster than torch.tensor by far


# files


def _load(path: Path) -> list[dict]:
    """The rows of a file; raises as `_texts`."""
    return [json.loads(text) for text in _texts(path)]


def _load_if_there(path: Path) -> list[dict]:
    """The rows of a file, none if there is no file yet; raises as `_texts`."""
    return _load(path) if path.exists() else []


def _texts(path: Path) -> list[str]:
    """The rows of a file as JSON, without their checksums, once each is known to be what was written.

    Raises:
        DamagedFile: it is not there, can't be read, or a row is not what was written.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("ascii").split("\n")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise damaged(path, error) from None
    if lines.pop() != "" or not lines:
        raise damaged(path, "it is cut off")
    texts = []
    for number, line in enumerate(lines, 1):
        text, _, checksum = line.rpartition(f',"{CHECKSUM}":"')
        texts.append(text + "}")
        if checksum != f'{_hash(texts[-1])}"}}':
            raise damaged(path, f"the checksum of line {number} differs")
    return texts


def _save(path: Path, rows: list[dict]) -> None:
    """Write the rows, if they are not there already; a file without rows is removed."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = "".join(f"{_line(row)}\n" for row in rows).encode("ascii")
    if not path.exists() or gzip.decompress(path.read_bytes()) != text:
        packed = BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
            file.write(text)
        write_atomically(path, lambda temporary: temporary.write_bytes(packed.getvalue()))


def _line(row: dict) -> str:
    """A row as one line of JSON, whose last field is the checksum of the line without it."""
    text = json.dumps(row, separators=(",", ":"), allow_nan=False)
    return f'{text[:-1]},"{CHECKSUM}":"{_hash(text)}"}}'


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
