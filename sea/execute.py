"""Executing notebooks: each in a process of its own, some at a time, all or nothing."""

import ctypes
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NamedTuple, NoReturn, TextIO

import psutil
from filelock import FileLock, Timeout

ENDING = (signal.SIGINT, signal.SIGTERM)
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux
EVERY = 10  # seconds between two looks at how far the trainings are
GRACE = 3  # seconds that processes have to end by themselves before they are killed
ENVIRONMENT = {
    "TQDM_DISABLE": "1",  # a bar would fill the notebook's output
    "OMP_NUM_THREADS": "1",  # threads that wait for one another take CPU time; trainings say how many they want
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""What the kernels are told, unless the reader has said otherwise."""

QUIET = "--IPKernelApp.log_level=CRITICAL"  # a kernel that is told to end may call that an error of its own
LATEST = 60  # seconds until the output of a cell that is done has to be there: an explorer has megabytes


class Outcome(NamedTuple):
    """What became of a notebook; `cpu` is of all processes that worked for it, and may exceed the time that passed."""

    status: str
    minutes: float | None = None
    cpu: float | None = None  # seconds
    log: str = ""


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Within, no other command writes in `out`, and what a killed one left half-written is gone.

    The lock is this process's, so that it ends with it, however it ends.

    Raises:
        ValueError: another command is at work there, or `out` is no folder that can be written; one line.
    """
    lock = FileLock(out / ".lock", timeout=0)
    try:
        (out / "notebooks").mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
        lock.acquire()
    except Timeout:
        rule = "--out needs to be written by one command at a time"
        raise ValueError(f"{rule} (got {out}, where another one is at work)") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"--out needs to be a folder that can be written (got {out}: {reason})") from None
    try:
        for left in out.glob(".partial-*"):
            shutil.rmtree(left)
        yield
    finally:
        lock.release()


@contextmanager
def interrupt_once() -> Iterator[None]:
    """Within, the first Ctrl-C or SIGTERM raises KeyboardInterrupt; later ones don't disturb how it cleans up.

    What was ignored, as under nohup, stays so. If there was one, both are ignored from then on, to the end.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        if _stay in map(signal.getsignal, ENDING):
            _ignore_signals()  # Python takes its own handlers back before the process is gone
        else:
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    for number in ENDING:
        signal.signal(number, _stay)
    raise KeyboardInterrupt


def _stay(*_: object) -> None:
    """Hear a signal and do nothing: unlike SIG_IGN, this is no error if the signal is already waiting to be heard."""


def execute(paths: list[Path], parameters: dict, out: Path, at_once: int) -> dict[Path, Outcome]:
    """Execute notebooks, `at_once` at a time, each in a process of its own and with those parameters that it knows.

    What a notebook makes lies in `out` when all of it succeeded, its executed copy and its log in `out`/notebooks.
    Those that took longest the last time begin first, so that none of them is alone at the end.

    Ctrl-C is heard by this process alone, which tells the others, so that each of them cleans up once. If this process
    is killed, the others end within seconds. `out` is this command's alone (`sole_writer`).

    Returns:
        For each notebook that was begun its `Outcome`, of status "done", "failed" or "interrupted".
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    waiting = sorted(paths, key=lambda path: _seconds_before(out / "notebooks" / path.name), reverse=True)
    running, outcomes = {}, {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, context, initializer=_begin_worker) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    path = waiting.pop(0)
                    running[pool.submit(_execute, path, parameters, out, EVERY)] = path
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcomes[running.pop(future)] = _outcome(future, "failed")
        except KeyboardInterrupt:
            left = set(running)
            while left:  # more than once: a worker hears it only while it executes a notebook
                for process in multiprocessing.active_children():
                    process.terminate()
                left = wait(left, timeout=1).not_done
            outcomes |= {path: _outcome(future, "interrupted") for future, path in running.items()}
    return outcomes


def _seconds_before(executed: Path) -> float:
    """How long an executed notebook took; 0 if it can't be told, and then, as sorting is stable, reading order."""
    try:
        return float(json.loads(executed.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _ignore_signals() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _begin_worker() -> None:
    _ignore_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> NoReturn:
    """When the command's own process is gone, however it went, end this one and all that it started.

    The notebook is interrupted as by Ctrl-C. Kernels have a group of their own, and what they leave behind on Linux
    becomes a child of this process (`_adopt_orphans`), so that a second look finds it.
    """
    multiprocessing.parent_process().join()
    started = psutil.Process().children(recursive=True)
    os.kill(os.getpid(), signal.SIGTERM)
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(started, timeout=GRACE)
    for process in {*left, *psutil.Process().children(recursive=True)}:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(1)


def _outcome(future: Future, if_killed: str) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        return Outcome(if_killed, log="its process was killed")


def cpu_seconds() -> float:
    """CPU time of this process and of all that it started and that have ended, theirs included."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def _adopt_orphans() -> None:
    """On Linux, what a kernel leaves behind becomes a child of this process, which is told its CPU time."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def _wait_for_orphans(seconds: float) -> None:
    """Such processes end by themselves; a process's CPU time is known once somebody waited for it."""
    end = time.monotonic() + seconds
    with suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)


def _execute(path: Path, parameters: dict, out: Path, every: float) -> Outcome:
    """Execute one notebook beside its destination, and move what it made there only if all of it succeeded."""
    start, spent = time.perf_counter(), cpu_seconds()
    _adopt_orphans()
    print(f"{path.stem} ...", flush=True)
    partial, log = out / f".partial-{path.stem}", out / "notebooks" / f"{path.stem}.log"
    partial.mkdir(parents=True)
    log.parent.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with log.open("w", encoding="utf-8") as stream, _progress(path.stem, partial / "progress", every):
            status = _execute_beside(path, parameters, partial, stream)
    except KeyboardInterrupt:
        status = "interrupted"
        logging.disable()  # this process is about to end, and what was cut off in it would complain
    signal.signal(signal.SIGTERM, _stay)
    failed = log.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    if status == "failed" and (partial / path.name).exists():
        os.replace(partial / path.name, failed)
    if status == "done":
        (partial / "progress").unlink(missing_ok=True)
        for made in partial.iterdir():
            os.replace(made, (log.parent if made.suffix == ".ipynb" else out) / made.name)
    shutil.rmtree(partial)
    _wait_for_orphans(0 if status == "interrupted" else 5)
    return Outcome(status, (time.perf_counter() - start) / 60, cpu_seconds() - spent, str(log))


def _execute_beside(path: Path, parameters: dict, partial: Path, stream: TextIO) -> str:
    import papermill
    from traitlets.config import Config

    try:
        known = papermill.inspect_notebook(_verbatim(path))
        given = {name: value for name, value in (parameters | {"out": str(partial)}).items() if name in known}
        with TemporaryDirectory(prefix="sea-") as sockets:  # of this kernel alone: no open port
            papermill.execute_notebook(
                _verbatim(path),
                _verbatim(partial / path.name),
                given,
                cwd=path.parent,
                progress_bar=False,
                stdout_file=stream,
                stderr_file=stream,
                config=Config(
                    KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"},
                    NotebookClient={"extra_arguments": [QUIET], "iopub_timeout": LATEST},
                ),
            )
    except Exception:
        traceback.print_exc(file=stream)
        return "failed"
    return "done"


def _verbatim(path: Path) -> str:
    """Papermill fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextmanager
def _progress(name: str, path: Path, every: float) -> Iterator[None]:
    """Print the line that a notebook's trainings keep in `path` about the time left, when it changed."""
    done = threading.Event()
    os.environ["SEA_PROGRESS"] = str(path)

    def relay() -> None:
        seen = ""
        while not done.wait(every):
            line = path.read_text(encoding="utf-8") if path.exists() else ""
            if line != seen:
                print(f"  {name}: {line}", flush=True)
            seen = line

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield
    finally:
        del os.environ["SEA_PROGRESS"]
        done.set()
        thread.join()
