"""What every model costs at a named shape: seconds of an epoch and peak memory, each in a process of its own.

    python benchmarks/models.py [--shape baby] [--models BPR,SEA] [--epochs 3] [--device auto]
                                [--threads 2] [--out FILE]
    python benchmarks/models.py --ratio [--rounds 3] ...

Measured by `sea.analysis.cost` on random data, every model in its own settings. Seconds are of training alone, the
median over the epochs after the first; "first" is what the first took beyond that. Memory, in GiB, is the largest
resident set of the process on a CPU, of which "baseline" is there before the model is, and that of tensors on a GPU.
With --ratio, SEA with CLUB (SEAa) and without (SEAb) in place of the models, in interleaved rounds, and the ratios of
the two.
"""

from tempfile import TemporaryDirectory

import pandas as pd
from common import SHAPES, options, random_dataset, report, start

from sea.analysis.cost import Costs, cost
from sea.study import FLEXIBILITY, Variants, chosen_models

MEMORY = ["peak", "baseline", "beyond"]
PAIR = {name: FLEXIBILITY[name] for name in ("SEAa", "SEAb")}


def each(variants: Variants, folder: str, **settings: object) -> pd.DataFrame:
    """The costs of one variant after the other, told as they come; one that fails is told, and left out."""
    tables = []
    for label, variant in variants.items():
        try:
            tables.append(cost({label: variant}, folder, repeats=1, root=folder, **settings).table())
        except RuntimeError as error:
            print(error, flush=True)
        else:
            row = tables[-1].loc[label]
            print(f"{label}: {row['seconds']:.4g} s an epoch, {row['first']:+.4g} s in the first", flush=True)
    return pd.concat(tables).sort_values("seconds")


def ratio(found: Costs) -> pd.DataFrame:
    """SEAa to SEAb within a round: median, least and most over the rounds, in seconds and in memory."""
    columns = ("seconds", "peak", "beyond")
    return pd.concat({column: found.ratios([("SEAa", "SEAb")], column) for column in columns}, names=["of"])


def main() -> None:
    """Measure, print; the ratios go to a second CSV file, FILE_ratio."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="baby")
    parser.add_argument("--models", default="", help="names separated by commas (default: all)")
    parser.add_argument("--ratio", action="store_true", help="SEAa and SEAb in place of models")
    parser.add_argument("--epochs", type=int, default=3, help="of each training (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of SEAa and SEAb (default: 3)")
    arguments = parser.parse_args()
    models = {name: (name, {}) for name in chosen_models(arguments.models)}
    device, machine = start(arguments)
    settings = {"device": device.type, "epochs": arguments.epochs, "threads": arguments.threads}
    stamp = {"shape": arguments.shape, "epochs": arguments.epochs, **machine}
    out = arguments.out
    with TemporaryDirectory() as folder:
        folder = f"{folder}/{arguments.shape}"
        random_dataset(arguments.shape, SHAPES[arguments.shape]).save(folder)
        if arguments.ratio:
            found = cost(PAIR, folder, repeats=arguments.rounds, root=folder, **settings)
            second = out and out.with_stem(f"{out.stem}_ratio")
            report(ratio(found), f"Ratios of {arguments.rounds} rounds", second, rounds=arguments.rounds, **stamp)
            table = found.table()
        else:
            table = each(models, folder, **settings)
    table[MEMORY] /= 2**30
    report(table, f"Seconds of an epoch and GiB at {arguments.shape}'s shape", out, **stamp)


if __name__ == "__main__":
    main()
