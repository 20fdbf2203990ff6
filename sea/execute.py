"""Executing notebooks: each in a process of its own, some at a time, all or nothing."""

import json
import multiprocessing
import os
import shutil
import signal
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TextIO

from sea import kernels

EVERY = 10  # seconds between two looks at how far the trainings are


class Outcome(NamedTuple):
    """What became of a notebook; `cpu` is of all processes that worked for it, and may exceed the time that passed."""

    status: str
    minutes: float | None = None
    cpu: float | None = None  # seconds
    log: str = ""
    imports: float = 0.0  # CPU seconds, spent once for all notebooks


def execute(paths: list[Path], parameters: dict, out: Path, at_once: int) -> dict[Path, Outcome]:
    """Execute notebooks, `at_once` at a time, each in a process of its own and with those parameters that it knows.

    What a notebook makes lies in `out` when all of it succeeded, its executed copy and its log in `out`/notebooks.
    Those that took longest the last time begin first, so that none of them is alone at the end.

    Ctrl-C is heard by this process alone, which tells the others, so that each of them cleans up once.

    Returns:
        For each notebook that was begun its `Outcome`, of status "done", "failed" or "interrupted".
    """
    told: dict[Path, str] = {}
    waiting = sorted(paths, key=lambda path: _seconds_before(out / "notebooks" / path.name), reverse=True)
    running, outcomes = {}, {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(kernels.PRELOAD)
    for name, value in kernels.ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # before the server of the kernels starts
    with ExitStack() as pools:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    path = waiting.pop(0)
                    print(f"{path.stem} ...", flush=True)
                    pool = pools.enter_context(ProcessPoolExecutor(1, context, initializer=_ignore_signals))
                    future = pool.submit(_execute, path, parameters, out)
                    pool.shutdown(wait=False)  # no other task: its process ends with this one
                    running[future] = path
                for future in wait(running, EVERY, FIRST_COMPLETED).done:
                    outcomes[running.pop(future)] = _outcome(future, "failed")
                for path in running.values():
                    _tell_progress(path, out, told)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            outcomes |= {path: _outcome(future, "interrupted") for future, path in running.items()}
    return outcomes


def _seconds_before(executed: Path) -> float:
    """How long an executed notebook took; 0 if it can't be told, and then, as sorting is stable, reading order."""
    try:
        return float(json.loads(executed.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _partial(out: Path, path: Path) -> Path:
    return out / f".partial-{path.stem}"


def _tell_progress(path: Path, out: Path, told: dict[Path, str]) -> None:
    """Print the line that a notebook's trainings keep about the time left, when it changed."""
    try:
        line = (_partial(out, path) / "progress").read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    if line != told.get(path):
        print(f"  {path.stem}: {line}", flush=True)
    told[path] = line


def _ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _outcome(future: Future, if_killed: str) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        return Outcome(if_killed, log="its process was killed")


def _execute(path: Path, parameters: dict, out: Path) -> Outcome:
    """Execute one notebook beside its destination, and move what it made there only if all of it succeeded."""
    start = time.perf_counter()
    partial, log = _partial(out, path), out / "notebooks" / f"{path.stem}.log"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    log.parent.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # raises KeyboardInterrupt
    try:
        with log.open("w", encoding="utf-8") as stream:
            status = _execute_beside(path, parameters, partial, stream)
    except KeyboardInterrupt:
        status = "interrupted"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    failed = log.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    if status == "failed" and (partial / path.name).exists():
        os.replace(partial / path.name, failed)
    if status == "done":
        (partial / "progress").unlink(missing_ok=True)
        for made in partial.iterdir():
            os.replace(made, (log.parent if made.suffix == ".ipynb" else out) / made.name)
    shutil.rmtree(partial)
    return Outcome(status, (time.perf_counter() - start) / 60, kernels.cpu_seconds(), str(log), kernels.IMPORTS)


def _execute_beside(path: Path, parameters: dict, partial: Path, stream: TextIO) -> str:
    import papermill

    os.environ["SEA_PROGRESS"] = str(partial / "progress")  # the kernel's, from here on
    try:
        known = papermill.inspect_notebook(path)
        given = {name: value for name, value in (parameters | {"out": str(partial)}).items() if name in known}
        with kernels.kernel(path.parent) as running:
            papermill.execute_notebook(
                path,
                partial / path.name,
                given,
                cwd=path.parent,
                progress_bar=False,
                stdout_file=stream,
                stderr_file=stream,
                km=running,
            )
    except Exception:
        traceback.print_exc(file=stream)
        return "failed"
    return "done"
