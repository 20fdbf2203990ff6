"""The command line of runs, `python -m sea.runs`: list, show, publish, verify and remove them."""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from scipy import stats

from sea import published
from sea.data import DATA, is_planted, knocked_out, load
from sea.files import DamagedFile, load_tensors
from sea.models import MODELS
from sea.records import RUNS, Record, Settings, measures, read, revisions, source
from sea.runs import run
from sea.train import MONITOR

DEFAULTS = Settings("", device="cpu")
SHARED = ("batch_size", "epochs", "patience", "threads", "device")
"""Settings that every model has, and that `differing` names where they are not `DEFAULTS`."""
EPOCHS = 10
"""A run that was allowed fewer was a quick look, and is not published."""
DEVIATIONS, SEEDS = 3, 3
"""How far another training may be from the published one, in standard deviations over at least so many other seeds."""
DRAWN = "3"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command and its options; a wrong one is one line and exit 2."""
    roots = argparse.ArgumentParser(add_help=False)
    add = roots.add_argument
    add("--runs", type=Path, default=RUNS, metavar="DIR", help="where the local runs are (default: data/runs)")
    add("--records", type=Path, default=published.RECORDS, metavar="DIR", help="the store (default: data/records)")
    dataset = argparse.ArgumentParser(add_help=False)
    dataset.add_argument("--dataset", default="", metavar="NAME", help="those on this dataset alone")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default="", metavar="NAME", help="those of this model alone")
    parser = _Parser(prog="python -m sea.runs", description="What was trained here, and what was published.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|show|publish|verify|remove")

    def command(name: str, help: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=f"{help}.", parents=[*parents, roots])

    command("list", "A table of all runs, local and published", dataset, model)
    shown = command("show", "Everything that is known of one run")
    shown.add_argument("key", metavar="KEY", help="the start of its key")
    command("publish", "Copy the finished local runs into the store, without their weights", dataset, model)
    verified = command(
        "verify", "Look for damaged files of local runs, then train some published runs anew, and compare", dataset
    )
    verified.add_argument(
        "which",
        nargs="*",
        default=[DRAWN],
        metavar="N|KEY",
        help=f"how many are drawn, a number of up to four digits (default: {DRAWN}), or the starts of their keys",
    )
    verified.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw (default: 0)")
    removed = command("remove", "Delete local runs, or take runs out of the store")
    removed.add_argument("keys", nargs="+", metavar="KEY", help="the starts of their keys")
    removed.add_argument("--published", action="store_true", help="out of the store, in place of the local ones")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; what can't be done is one line and exit 2."""
    options = parse(arguments)
    commands = {"list": list_runs, "show": show, "publish": publish, "verify": verify, "remove": remove}
    try:
        return commands[options.command](options)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"python -m sea.runs: {error}", file=sys.stderr)
        return 2


# what there is


def local_runs(root: Path) -> tuple[list[Record], list[str]]:
    """The finished runs under `root`; and a line for each folder that is not finished, damaged, or of older code."""
    records, lines = [], []
    for folder in sorted(_folders(root).values()):
        if not (folder / "record.json").exists():
            lines.append(f"{folder}: is not finished")
            continue
        try:
            records.append(read(folder))
        except DamagedFile as error:
            lines.append(str(error))
    return records, lines


def _folders(root: Path) -> dict[str, Path]:
    """The folders of runs under `root`, by the key that ends their names."""
    found = {folder: re.fullmatch(r".+-([0-9a-f]{16})", folder.name) for folder in root.glob("*")}
    return {
        match[1]: folder for folder, match in found.items() if match and folder.is_dir() and not folder.is_symlink()
    }


def published_runs(root: Path, dataset: str = "") -> dict[str, Record]:
    """The published runs by key, of all datasets or of one."""
    names = [dataset] if dataset else published.stored(root)
    return {record.key: record for name in names for record in published.read(name, root)}


def _pick(keys: Iterable[str], start: str, where: str) -> str:
    found = sorted(key for key in keys if key.startswith(start))
    if len(found) != 1:
        several = f", with which {', '.join(found[:3])}{' and others' if len(found) > 3 else ''} begin" if found else ""
        raise ValueError(f"'KEY' needs to be the start of one run's key among {where} (got {start!r}{several})")
    return found[0]


def _wanted(records: Iterable[Record], options: argparse.Namespace) -> list[Record]:
    return [
        record
        for record in records
        if options.dataset in ("", record.dataset) and options.model in ("", record.settings.model)
    ]


def _older(record: Record) -> bool:
    """Whether the present code computes something else; so it is for a model that it doesn't know."""
    model = record.settings.model
    return model not in MODELS or record.revisions != revisions(model)


def differing(settings: Settings) -> str:
    """What differs from the model's defaults, and from those of `Settings`, in words."""
    model = MODELS.get(settings.model)
    usual = {"lr": model.lr, **model.settings()} if model else {}
    usual |= {name: getattr(DEFAULTS, name) for name in SHARED}
    values = {"lr": settings.lr, **settings.params, **{name: getattr(settings, name) for name in SHARED}}
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != usual.get(name))


# the commands


def list_runs(options: argparse.Namespace) -> int:
    """Print a table of the runs, then a line for each folder that could not be read."""
    local, lines = local_runs(options.runs)
    here, there = {record.key: record for record in local}, published_runs(options.records)
    rows = []
    for record in _wanted((there | here).values(), options):
        where = "both" if record.key in here and record.key in there else "local" if record.key in here else "published"
        recall = f"{record.metrics['test'][MONITOR]:.4f}" if record.metrics else ""
        settings = record.settings
        named = [record.key, record.dataset, settings.model, settings.seed, differing(settings), record.stopped, recall]
        rows.append([*map(str, named), where + (", older revision" if _older(record) else "")])
    header = ["key", "dataset", "model", "seed", "differs from the defaults", "stopped", f"test {MONITOR}", "where"]
    _print_table([header, *sorted(rows, key=lambda row: (row[1], row[2], int(row[3]), row[4], row[0]))])
    for line in lines:
        print(line)
    return 0


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def show(options: argparse.Namespace) -> int:
    """Print everything of one run: the local one, where there are both."""
    here, there = {record.key: record for record in local_runs(options.runs)[0]}, published_runs(options.records)
    record = (there | here)[_pick({*here, *there}, options.key, "the local and the published ones")]
    settings, environment = record.settings, record.environment
    older = "older than the present ones" if _older(record) else "the present ones"
    places = [str(here[record.key].folder)] if record.key in here else []
    places += [f"published in {options.records}"] if record.key in there else []
    lines = {
        "run": f"{settings.model}, seed {settings.seed}, on {record.dataset}",
        "key": record.key,
        "where": ", ".join(places),
        "data": f"checksum {record.checksum}",
        "warning": record.warning,
        "revisions": ", ".join(f"{name} {number}" for name, number in record.revisions.items()) + f" ({older})",
        "differs": differing(settings),
        "lr": settings.lr,
        **settings.params,
        **{name: getattr(settings, name) for name in SHARED},
        "trained": f"{len(record.history)} epochs, the best is {record.best_epoch}, counted from 0",
        "stopped": record.stopped + (f" ({record.diverged})" if record.diverged else ""),
        "seconds": f"{record.seconds:.1f} in all, {record.seconds_per_epoch:.3f} an epoch without evaluation",
        "memory": f"{record.peak_memory / 2**20:.0f} MiB at the peak",
        **{f"ran on: {name}": value for name, value in environment.items()},
        **{f"measured: {name}": _told(value) for name, value in measures(record).items()},
    }
    _print_table([[name, str(value)] for name, value in lines.items() if value != ""])
    if record.metrics:
        print(f"\n{pd.DataFrame.from_dict(record.metrics, orient='index').to_string()}")
    print(f"\n{pd.DataFrame(record.history).set_index('epoch').to_string(float_format='{:.4g}'.format)}")
    return 0


def _told(measured: object) -> object:
    """A measure in words: of a list, which may hold a number for each user, only how many there are."""
    if isinstance(measured, dict):
        return ", ".join(f"{name} {_told(value)}" for name, value in measured.items())
    return f"{len(measured)} numbers" if isinstance(measured, list) else measured


def publish(options: argparse.Namespace) -> int:
    """Copy the finished local runs into the store; say how many are new, what they take, and what was left out."""
    found, lines = local_runs(options.runs)
    wanted, kept, left = _wanted(found, options), [], dict.fromkeys(("older", "quick"), 0)
    for record in wanted:
        if _older(record):
            left["older"] += 1
        elif record.settings.epochs < EPOCHS:
            left["quick"] += 1
        else:
            try:
                for split in record.metrics:
                    record.ranking(split)
                kept.append(record)
            except DamagedFile as error:
                lines.append(str(error))
    new = published.publish(kept, options.records)
    for path, (count, runs) in sorted(new.items()):
        print(f"{path}: {count} new, {runs} in all, {path.stat().st_size / runs:,.0f} bytes a run")
    print(f"Published: {len(kept)}, new ones among them: {sum(count for count, _ in new.values())}")
    if left["older"]:
        print(f"Left out, as their revisions are older than the code's: {left['older']}")
    if left["quick"]:
        print(f"Left out as quick looks, with fewer than {EPOCHS} epochs allowed: {left['quick']}")
    for line in lines:
        print(f"Left out: {line}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Read every file of the local runs, then train some published runs anew.

    Exit 1 if a file is damaged or a run comes out different, else 2 if one could not be trained.
    """
    drawn = _drawn(options)
    code = int(bool(_damaged(options.runs)))
    for record in drawn:
        title = f"{record.key} ({record.settings.model}, seed {record.settings.seed}, {record.dataset})"
        try:
            verdict = _verdict(record, options.records)
        except (ValueError, OSError) as error:
            verdict = f"not verified: {error}"
        print(f"{title}: {verdict}", flush=True)
        code = 1 if verdict.startswith("different") else code or (2 if verdict.startswith("not") else 0)
    return code


def _damaged(root: Path) -> list[str]:
    """Say which files of local runs do not hold what was written; such a run is done again when it is asked for."""
    found, lines = local_runs(root)
    lines = [line for line in lines if not line.endswith("is not finished")]
    for record in found:
        for name, checksum in record.files.items():
            try:
                load_tensors(record.folder / name, checksum)
            except DamagedFile as error:
                lines.append(str(error))
    for line in lines:
        print(f"Damaged: {line}")
    print(f"{len(found)} local runs were read, {len(lines)} damaged files among them.", flush=True)
    return lines


def _drawn(options: argparse.Namespace) -> list[Record]:
    """The named runs; or as many as were asked for, among those of present revisions whose data are here."""
    found = published_runs(options.records, options.dataset)
    if not re.fullmatch(r"\d{1,4}", options.which[0]) or len(options.which) > 1:
        return [found[_pick(found, start, "the published ones")] for start in options.which]
    if not int(options.which[0]):
        raise ValueError("'N' needs to be at least 1 in 'verify' (got 0)")
    present = [record for record in found.values() if not _older(record)]
    here = [
        record for record in present if is_planted(record.dataset) or (DATA / knocked_out(record.dataset)[0]).is_dir()
    ]
    absent = sorted({record.dataset for record in present} - {record.dataset for record in here})
    if absent:
        print(f"Runs on {', '.join(absent)} are not among the drawn: {DATA} lacks the files of that data.")
    if not here:
        raise ValueError(f"{options.records}: has no run that can be trained here")
    here.sort(key=lambda record: record.key)
    drawn = np.random.default_rng(options.seed).permutation(len(here))[: int(options.which[0])]
    return [here[index] for index in drawn]


def _verdict(record: Record, root: Path) -> str:
    """Train a published run anew, in a folder that is gone afterwards, and compare."""
    if _older(record):
        raise ValueError(f"its revisions are older than the code's (got {record.revisions})")
    dataset = load(*source(record.settings))
    if dataset.checksum != record.checksum:
        raise ValueError(f"the {record.dataset} here is other data (checksum {dataset.checksum[:12]})")
    device = "cpu" if record.settings.device == "cpu" else "auto"  # a GPU, where there is one
    with TemporaryDirectory() as folder:
        return compare(record, run(replace(record.settings, device=device), folder, dataset), root)


def compare(record: Record, again: Record, root: Path) -> str:
    """The verdict on a published run that was trained again: same to the bit, same within the spread, or different."""
    if not record.metrics and not again.metrics:
        return f"same: both diverged, after {len(record.history)} and {len(again.history)} epochs"
    if record.metrics and again.metrics and all(_same(record, again, split) for split in record.metrics):
        return "same to the bit"
    ran, runs = (f"torch {one.environment['torch']}, {one.environment['device']}" for one in (record, again))
    where = f"trained with {ran}; here with {'the same' if runs == ran else runs}"
    if not (record.metrics and again.metrics):
        return f"different: one of the two diverged, and the other did not ({where})"
    checksum = "" if is_planted(record.dataset) else record.checksum  # there each seed has a world of its own
    others = {one.settings.seed: one for one in published.find(record.settings, root, checksum) if one.metrics}
    others.pop(record.settings.seed, None)
    values = [one.metrics["test"][MONITOR] for one in others.values()]
    before, now = (one.metrics["test"][MONITOR] for one in (record, again))
    told = f"test {MONITOR} {now:.4f}, published {before:.4f}"
    if len(values) < SEEDS:
        return f"different: {told}, and {len(values)} other seeds are too few to know a training's spread ({where})"
    deviation = float(np.std(values, ddof=1))
    beyond = 2 * stats.t.sf(DEVIATIONS / np.sqrt(2), len(values) - 1)  # of a difference between two trainings
    told += f", the standard deviation of {len(values)} other seeds {deviation:.4f}"
    if abs(now - before) <= DEVIATIONS * deviation:
        return (
            f"same within a training's spread: {told}; two honest trainings are farther apart than {DEVIATIONS} such "
            f"deviations in up to {beyond:.0%} of cases ({where})"
        )
    return f"different: {told}; two honest trainings are as far apart in up to {beyond:.0%} of cases ({where})"


def _same(one: Record, other: Record, split: str) -> bool:
    ours, theirs = one.ranking(split), other.ranking(split)
    return np.array_equal(ours.hits, theirs.hits) and np.array_equal(ours.recommended, theirs.recommended)


def remove(options: argparse.Namespace) -> int:
    """Delete runs, once all keys are known to be those of runs that can be deleted."""
    there = published_runs(options.records)
    if options.published:
        chosen = dict.fromkeys(_pick(there, start, "the published ones") for start in options.keys)
        published.withdraw([there[key] for key in chosen], options.records)
        for key in chosen:
            print(f"Removed {key} from {options.records}.")
        return 0
    folders = _folders(options.runs)
    hint = "the local ones; --published removes others"
    chosen = dict.fromkeys(folders[_pick(folders, start, hint)] for start in options.keys)
    for folder in chosen:
        _at_rest(folder)
    for folder in chosen:
        shutil.rmtree(folder)
        print(f"Removed {folder}.")
    return 0


def _at_rest(folder: Path) -> None:
    try:
        FileLock(folder / "lock", timeout=0).acquire().lock.release()
    except Timeout:
        raise ValueError(f"{folder}: needs to be at rest in 'remove' (got a run that is being trained)") from None
