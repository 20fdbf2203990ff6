"""Execute the notebooks, each on its own, two at a time: what run_all.sh calls."""

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

ROOT = Path(__file__).parents[1]
PROFILES = ("quick", "default", "published", "paper")
EVERY = 10  # seconds between two looks at how far the trainings are
ALONE = ("10_efficiency",)  # it measures time, so nothing runs beside it


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"run_all.sh: {message} (see ./run_all.sh --help)\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the options; a wrong one is one line and exit 2. Imports nothing beyond Python itself."""
    parser = _Parser(prog="run_all.sh", description="Train what is missing and redraw every figure and table.")
    add = parser.add_argument
    add(
        "--dataset",
        default="planted",
        metavar="NAME|FOLDER",
        help="planted (default), a folder, or one under data/",
    )
    add(
        "--profile",
        default="default",
        choices=PROFILES,
        help="how long to train, on how many seeds, and whether to tune",
    )
    add("--models", default="", metavar="BPR,SEA", help="the models that are compared (default: all)")
    add("--seeds", type=_positive, default=0, metavar="N", help="number of seeds (default: the profile's)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to train (default: auto)")
    add(
        "--jobs",
        type=_positive,
        default=0,
        metavar="N",
        help="trainings at a time (default: one a core; 1 on a GPU)",
    )
    add("--only", type=_chosen, default=notebooks(), metavar="01,03", help="these notebooks alone")
    add("--out", type=Path, metavar="DIR", help="where to write (default: figures/DATASET)")
    options = parser.parse_args(arguments)
    if options.dataset != "planted":
        folders = [Path(options.dataset), ROOT / "data" / options.dataset]
        found = next((folder.resolve() for folder in folders if folder.is_dir()), None)
        if found is None:
            parser.error(f"--dataset needs to be planted, a folder or one under data/ (got {options.dataset!r})")
        options.dataset = str(found)
    options.out = (options.out or ROOT / "figures" / Path(options.dataset).name).resolve()
    return options


def notebooks() -> list[Path]:
    """All notebooks, in reading order."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs to be a whole number of at least 1 (got {text!r})")
    return int(text)


def _chosen(text: str) -> list[Path]:
    numbers = text.split(",")
    found = {path.name[:2]: path for path in notebooks()}
    for number in numbers:
        if number not in found:
            raise argparse.ArgumentTypeError(f"needs numbers among {', '.join(found)} (got {number!r})")
    return [path for number, path in found.items() if number in numbers]


def main() -> int:
    """Run the chosen notebooks and print what became of each."""
    options = parse()
    import joblib

    from sea.data import DataError, load
    from sea.runs import default_device
    from sea.study import chosen_models

    try:
        load(options.dataset)
        device = default_device(options.device)
        chosen_models(options.models)
    except (DataError, ValueError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    jobs = options.jobs or (1 if device == "cuda" else joblib.cpu_count())
    parameters = {
        "dataset": options.dataset,
        "profile": options.profile,
        "seeds": options.seeds,
        "models": options.models,
        "device": device,
        "runs": str(ROOT / "data" / "runs"),
    }
    os.environ["TQDM_DISABLE"] = "1"  # in the kernels: a bar would fill the notebook's output
    alone = [path for path in options.only if path.stem in ALONE]
    beside = [path for path in options.only if path not in alone]
    at_once = min(2, jobs)
    outcomes = _execute_all(beside, parameters | {"jobs": jobs // at_once}, options.out, at_once)
    if not any(status == "interrupted" for status, *_ in outcomes.values()):
        outcomes |= _execute_all(alone, parameters | {"jobs": jobs}, options.out, 1)
    rows = [[path.stem, *outcomes.get(path, ("not run", "", ""))] for path in options.only]
    _print_table([["notebook", "status", "minutes", "log"], *rows])
    statuses = {row[1] for row in rows}
    if "interrupted" in statuses:
        print("Interrupted. Finished trainings are kept, and the same command goes on where this one stopped.")
        return 130
    print(f"Figures and tables: {options.out}")
    return 1 if "failed" in statuses else 0


def _execute_all(paths: list[Path], parameters: dict, out: Path, at_once: int) -> dict[Path, tuple[str, str, str]]:
    """Execute notebooks, `at_once` at a time; of each that was begun its status, minutes and log.

    Ctrl-C reaches this process alone, which tells the others, so that each of them cleans up once.
    """
    waiting, running, outcomes = list(paths), {}, {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, context, initializer=_ignore_signals) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    path = waiting.pop(0)
                    running[pool.submit(_execute, path, parameters, out, EVERY)] = path
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcomes[running.pop(future)] = _outcome(future, "failed")
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            outcomes |= {path: _outcome(future, "interrupted") for future, path in running.items()}
    return outcomes


def _ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _outcome(future: Future, if_killed: str) -> tuple[str, str, str]:
    try:
        return future.result()
    except BrokenProcessPool:
        return if_killed, "", "its process was killed"


def _execute(path: Path, parameters: dict, out: Path, every: float) -> tuple[str, str, str]:
    """Execute one notebook beside its destination, and move what it made there only if all of it succeeded."""
    start = time.perf_counter()
    print(f"{path.stem} ...", flush=True)
    partial, log = out / f".partial-{path.stem}", out / "notebooks" / f"{path.stem}.log"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    log.parent.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # raises KeyboardInterrupt
    try:
        with log.open("w", encoding="utf-8") as stream, _progress(path.stem, partial / "progress", every):
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
    return status, f"{(time.perf_counter() - start) / 60:.1f}", str(log)


def _execute_beside(path: Path, parameters: dict, partial: Path, stream: TextIO) -> str:
    import papermill
    from traitlets.config import Config

    try:
        known = papermill.inspect_notebook(path)
        given = {name: value for name, value in (parameters | {"out": str(partial)}).items() if name in known}
        with TemporaryDirectory(prefix="sea-") as sockets:  # of this kernel alone: no open port
            papermill.execute_notebook(
                path,
                partial / path.name,
                given,
                cwd=path.parent,
                progress_bar=False,
                stdout_file=stream,
                stderr_file=stream,
                config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
            )
    except Exception:
        traceback.print_exc(file=stream)
        return "failed"
    return "done"


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


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
