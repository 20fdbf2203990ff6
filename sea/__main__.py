"""The command line of the notebooks: what run_all.sh calls."""

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sea.data import Dataset
    from sea.execute import Outcome

REPOSITORY = Path(__file__).parents[1]
PROFILES = ("quick", "default", "published", "paper")
ALONE = ("13_efficiency",)  # it measures time, so nothing runs beside it
FROM_RECORDS = ("00", "08", "09", "10", "11", "12", "16")
"""Notebooks that need neither features nor weights, nor a training of their own."""
FROM_PLANTED_RECORDS = ("15",)
"""The same on planted worlds, whose features are made anew, and need no file."""


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
        help="how long to train, on how many seeds, and whether to tune; quick is two epochs with one seed, on a small "
        "sample where the dataset has more than 200 users, to see that everything runs: it says nothing about models",
    )
    add("--models", default="", metavar="BPR,SEA", help="the models that are compared (default: those of the paper)")
    add("--seeds", type=_positive, default=0, metavar="N", help="number of seeds (default: the profile's)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to train (default: auto)")
    add(
        "--jobs",
        type=_positive,
        default=0,
        metavar="N",
        help="trainings at a time (default: one a core; 1 on a GPU)",
    )
    add(
        "--cluster",
        default="",
        metavar="HOST:PORT",
        help="train on a Dask cluster, whose scheduler this is, in place of this machine (extra: cluster)",
    )
    add(
        "--no-shared-files",
        action="store_true",
        help="the cluster's workers don't see this machine's files: send them the data, and bring the runs back",
    )
    add(
        "--published",
        action="store_true",
        help="redraw what can be drawn from the published runs in data/records, without data and without a training",
    )
    add("--only", type=_chosen, default=notebooks(), metavar="01,03", help="these notebooks alone")
    add("--out", type=Path, metavar="DIR", help="where to write (default: figures/DATASET, figures/DATASET-quick)")
    add(
        "--no-site",
        action="store_true",
        help="leave the book out: the site in site/ of all figures, or in DIR/site where results go elsewhere",
    )
    options = parser.parse_args(arguments)
    if options.published:
        options.profile, options.dataset = "paper", Path(options.dataset).name  # all that is published, tuned if it is
    elif options.dataset != "planted":
        folders = [Path(options.dataset), REPOSITORY / "data" / options.dataset]
        found = next((folder.resolve() for folder in folders if folder.is_dir()), None)
        if found is None:
            parser.error(f"--dataset needs to be planted, a folder or one under data/ (got {options.dataset!r})")
        options.dataset = str(found)
    suffix = "-quick" if options.profile == "quick" else ""  # a quick look leaves results alone
    apart = options.out or suffix
    options.out = (options.out or REPOSITORY / "figures" / (Path(options.dataset).name + suffix)).resolve()
    options.figures, options.site = (
        (options.out, options.out / "site") if apart else (options.out.parent, REPOSITORY / "site")
    )
    return options


def notebooks() -> list[Path]:
    """All notebooks, in reading order."""
    return sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))


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
    """Run the chosen notebooks and print what became of each; Ctrl-C and SIGTERM end it once, with 130."""
    options = parse()
    from sea.execute import interrupt_once

    with interrupt_once():
        try:
            return _run(options)
        except KeyboardInterrupt:  # before the first notebook, or between two
            print("Interrupted.")
            return 130


def _run(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    import joblib

    from sea.data import DataError, load
    from sea.execute import Outcome, sole_writer
    from sea.machine import default_device
    from sea.search import PUBLISHED
    from sea.study import chosen_models

    with ExitStack() as until_the_end:
        try:
            if options.published:
                _choose_published(options)
            else:
                world = load(options.dataset)
                if options.profile == "quick" and options.dataset != "planted":
                    options.dataset = _small(world, options.dataset)
            device = _prepare_cluster(options) if options.cluster else default_device(options.device)
            chosen_models(options.models)
            until_the_end.enter_context(sole_writer(options.out))
        except (DataError, ValueError) as error:
            print(f"run_all.sh: {error}", file=sys.stderr)
            return 2
        if not options.published:
            _tell_published(options)
        jobs = options.jobs or (1 if device == "cuda" else joblib.cpu_count())
        parameters = {
            "dataset": options.dataset,
            "profile": options.profile,
            "seeds": options.seeds,
            "models": options.models,
            "device": device,
            "runs": PUBLISHED if options.published else str(REPOSITORY / "data" / "runs"),
        }
        outcomes = _execute_all(options, parameters, jobs)
    found = {path.stem: outcomes.get(path, Outcome("not run")) for path in options.only}
    cpu = time.process_time() + sum(one.cpu or 0 for one in found.values())
    total = Outcome("", (time.perf_counter() - start) / 60, cpu)
    rows = [_row(name, outcome) for name, outcome in (*found.items(), ("total", total))]
    _print_table([["notebook", "status", "minutes", "CPU s", "log"], *rows])
    statuses = {outcome.status for outcome in found.values()}
    if "interrupted" in statuses:
        print("Interrupted. Finished trainings are kept, and the same command goes on where this one stopped.")
        return 130
    print(f"Figures and tables: {options.out}")
    return 1 if "failed" in statuses or not _build_book(options) else 0


def _build_book(options: argparse.Namespace) -> bool:
    """Build the site of what was drawn, unless it is not wanted; whether that went well."""
    if options.no_site:
        return True
    from sea import book

    try:
        print(f"The book: {book.build(options.figures, options.site)}")
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return False
    return True


def _execute_all(options: argparse.Namespace, parameters: dict, jobs: int) -> "dict[Path, Outcome]":
    from sea.execute import execute

    alone = [path for path in options.only if path.stem in ALONE]
    beside = [path for path in options.only if path not in alone]
    at_once = min(2, jobs)
    outcomes = execute(beside, parameters | {"jobs": jobs // at_once}, options.out, at_once)
    if not any(outcome.status == "interrupted" for outcome in outcomes.values()):
        outcomes |= execute(alone, parameters | {"jobs": jobs}, options.out, 1)
    return outcomes


def _prepare_cluster(options: argparse.Namespace) -> str:
    """See that the cluster is there, and tell the notebooks of it; the device is its workers' then.

    Raises:
        ValueError: it does not answer.
    """
    from sea.cluster import connect

    connect(options.cluster).close()
    os.environ["SEA_CLUSTER"] = options.cluster
    os.environ["SEA_NO_SHARED_FILES"] = "yes" if options.no_shared_files else ""
    return "cuda" if options.device == "cuda" else "cpu"


def _choose_published(options: argparse.Namespace) -> None:
    """Keep the notebooks that need published runs alone, and say which are left out.

    Raises:
        ValueError: the dataset has no published runs.
    """
    from sea import published
    from sea.data import is_planted

    known = published.datasets()
    if options.dataset not in known:
        rule = f"--dataset needs to have published runs, as {', '.join(known) or 'no set'} has"
        raise ValueError(f"{rule} (got {options.dataset})")
    drawn = FROM_RECORDS + (FROM_PLANTED_RECORDS if is_planted(options.dataset) else ())
    left = [path.stem for path in options.only if path.name[:2] not in drawn]
    options.only = [path for path in options.only if path.stem not in left]
    count = len(published.read(options.dataset))
    print(f"{count} published runs of {options.dataset}.")
    print(f"Left out, as they need features, weights or trainings of their own: {', '.join(left) or 'none'}")


def _tell_published(options: argparse.Namespace) -> None:
    from sea import published

    name = Path(options.dataset).name
    if name in published.datasets():
        print(f"{name} has published runs: ./run_all.sh --published --dataset {name} draws from them without training.")


def _small(world: "Dataset", folder: str) -> str:
    """The folder of a sample for a quick look, made where there is none yet; `folder` itself if the set is small."""
    from sea.study import SAMPLE_USERS, sample

    if world.n_users <= SAMPLE_USERS:
        return folder
    kept = REPOSITORY / "data" / "compact" / f"{world.name}-{world.checksum[:12]}"
    small = sample(world)
    if not kept.exists():
        small.save(kept)
    print(f"Quick look at a {small.warning} ({small.n_items:,} items, {len(small.interactions):,} interactions)")
    return str(kept)


def _row(name: str, outcome: "Outcome") -> list[str]:
    minutes = "" if outcome.minutes is None else f"{outcome.minutes:.1f}"
    return [name, outcome.status, minutes, "" if outcome.cpu is None else f"{outcome.cpu:.0f}", outcome.log]


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
