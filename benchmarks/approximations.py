"""What the named approximations of SEA do to its test Recall@20, and to the seconds of an epoch.

    python benchmarks/approximations.py [--dataset planted|FOLDER] [--drawn 256] [--seeds 5] [--profile default]
                                        [--jobs 1] [--device auto] [--out FILE]

SEA is trained exactly, with each approximation and with all of them, on the same seeds, a thread each; trainings are
kept under data/runs, and go on there if they were cut off. The lead of the exact form comes with a 95 % interval and a
word, as sea/statistics.py defines them. Seconds are medians of the trainings' own, which share the machine if --jobs is
above 1.
"""

import numpy as np
import pandas as pd
from common import parser, report

from sea import statistics
from sea.records import RUNS
from sea.study import PROFILES, Study, Variants, study


def variants(drawn: int) -> Variants:
    """SEA exactly, with each approximation and with all of them, on `drawn` items."""
    single = {
        "10 steps of q": {"q_steps": 10},
        f"q on {drawn} items": {"q_items": drawn},
        f"alignment on {drawn} items": {"align_items": drawn},
        "features in bfloat16": {"bfloat16": True},
    }
    together = {name: value for changed in single.values() for name, value in changed.items()}
    return {name: ("SEA", changed) for name, changed in {"exact": {}, **single, "all four": together}.items()}


def compare(found: Study) -> pd.DataFrame:
    """Per variant: Recall@20, by how much the exact form is above it, with a word, and seconds an epoch."""
    lead = statistics.table(found.against("exact")).drop(columns="runs").add_prefix("exact's lead: ")
    table = found.summary()[["runs", "recall@20", "recall@20 ±"]].join(lead)
    table["s an epoch"] = [np.median([r.seconds_per_epoch for r in records]) for records in found.records.values()]
    return table.rename_axis("SEA")


def main() -> None:
    """Train what is missing, print."""
    asks = parser(__doc__)
    asks.add_argument("--dataset", default="planted", help="planted (default) or a folder")
    asks.add_argument("--drawn", type=int, default=256, help="items that are drawn for a batch (default: 256)")
    asks.add_argument("--seeds", type=int, default=5, help="of every variant (default: 5)")
    asks.add_argument("--profile", choices=PROFILES, default="default")
    asks.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: 1)")
    options = asks.parse_args()
    asked = variants(options.drawn), options.dataset, options.profile, options.seeds, options.device
    found = study(*asked, jobs=options.jobs, root=RUNS)
    stamp = {name: found.provenance()[name] for name in ("dataset", "checksum", "device", "trained")}
    title = f"SEA on {stamp['dataset']}, {options.seeds} seeds, {options.profile} profile"
    report(compare(found), title, options.out, profile=options.profile, **stamp)


if __name__ == "__main__":
    main()
