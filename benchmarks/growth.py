"""How the cost of SEA's epoch grows with the catalogue: seconds and bytes an interaction, at ever more items.

    python benchmarks/growth.py [--items 10000 20000 100000 500000] [--widths 64 32] [--sample 8192]
                                [--exact 100000] [--batches 3] [--drawn] [--device auto] [--threads 2] [--out FILE]

As many users as items, 20 interactions an item, in 58 batches as on Baby, so that the batch grows with the data.
Features have 64 and 32 columns, unless told otherwise, so that a laptop can run it: it takes .8 to 1.6 kB an
interaction, 8 GiB at half a million items, 16 at a million. Each row is measured in a fresh process: on "all" items,
exact, up to --exact items; on a "sample", with alignment and q on --sample drawn items.

An epoch is not run: it is the median of --batches batches, one to warm up aside, times 58. Memory is the largest that
those batches take, beyond what the process has before the data is drawn. "graph s" are the item graphs', built once
on the CPU: exact up to 100,000 rows, by faiss beyond, where "recall" is the share of true neighbours found, over 1,000
drawn rows, the least of the modalities. With --drawn they are not searched for: an item's neighbours are drawn, which
takes as many operations, on memory that lies further apart. Features are 16 random directions and a tenth of noise,
because a search among likely neighbours finds less of what has no structure.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from batch import Ours, batches, step
from common import SHAPES, Shape, options, random_dataset, report, start, timed

from sea import graphs
from sea.blocks import row_blocks
from sea.data import Dataset
from sea.machine import peak_memory, start_memory
from sea.models import SEA
from sea.models import sea as sea_module

PER_ITEM, BATCHES, RANK = 20, 58, 16
REFERENCE = 20_000  # items; "growth" is relative to them


def measure(
    items: int, sample: int, widths: dict[str, int], count: int, device: torch.device, threads: int, drawn: bool = False
) -> dict[str, float]:
    """A row of the table; in this process, which should be a fresh one."""
    torch.set_num_threads(threads)
    few = random_dataset("few", SHAPES["small"])
    step(build(few, sample, device), *batches(few, device)[0])  # what libraries load or reserve is no part of a peak
    start_memory(device)
    before = peak_memory(device) or np.nan

    dataset = random_dataset("growth", Shape(items, items, PER_ITEM * items, widths), RANK)
    watched: list[dict[str, float]] = []
    with mock.patch.object(sea_module, "knn", watch(drawn_knn if drawn else graphs.knn, watched)):
        form = build(dataset, sample, device)
    size = -(-PER_ITEM * items // BATCHES)
    start_memory(device)
    spent = [timed(device, step, form, *batch)[0] for batch in batches(dataset, device, size)[: count + 1]]
    taken = peak_memory(device) - before
    epoch = float(np.median(spent[1:])) * BATCHES
    built = pd.DataFrame(watched)
    return {
        "batch": size,
        "epoch s": epoch,
        "µs an interaction": 1e6 * epoch / len(dataset.train),
        "GiB": taken / 2**30,
        "bytes an interaction": taken / len(dataset.train),
        "graph s": built["seconds"].sum(),
        "recall": built["recall"].min(),
    }


def build(dataset: Dataset, sample: int, device: torch.device) -> Ours:
    """SEA on all items for `sample` 0, else its approximation on so many drawn ones."""
    generator = torch.Generator().manual_seed(0)
    return Ours(SEA(dataset, align_items=sample, q_items=sample, generator=generator).to(device), dataset)


def watch(knn: Callable, found: list[dict[str, float]]) -> Callable:
    """The same function; `found` gets its seconds, and the recall of what it returns."""

    def watched(features: torch.Tensor, k: int) -> sp.csr_array:
        seconds, graph = timed(features.device, knn, features, k)
        searched = knn is graphs.knn
        found.append({"seconds": seconds, "recall": recall(features, graph, k) if searched else np.nan})
        return graph

    return watched


def drawn_knn(features: torch.Tensor, k: int) -> sp.csr_array:
    """As `sea.graphs.knn`, with k - 1 drawn neighbours of each item, and the item itself."""
    n = len(features)
    neighbours = torch.randint(n, (n, k), generator=torch.Generator().manual_seed(0))
    neighbours[:, 0] = torch.arange(n)
    return graphs.directed(neighbours, torch.full((n, k), 1 / k))


def recall(features: torch.Tensor, graph: sp.csr_array, k: int, rows: int = 1000) -> float:
    """The share that the graph has of the nearest of some drawn rows, itself not counted; NaN where it is exact."""
    if len(features) <= graphs.EXACT:
        return np.nan
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:rows]
    unit = F.normalize(features, dim=1)
    hits = 0
    for block in row_blocks(len(chosen), len(features), features.device):
        for row, nearest in zip(chosen[block].tolist(), (unit[chosen[block]] @ unit.T).topk(k).indices):
            hits += np.isin(nearest, graph.indices[graph.indptr[row] : graph.indptr[row + 1]]).sum()
    return (hits - len(chosen)) / (len(chosen) * (k - 1))


def plan(items: list[int], sample: int, exact: int) -> list[tuple[int, int]]:
    """Items and sample (0: all) of each row."""
    return [(n, size) for n in items for size in (0, sample) if (n <= exact if size == 0 else n > size)]


def fresh(*task: object) -> dict[str, float]:
    """`measure` in a fresh process; an empty row, and a line that says why, if that fails: for want of memory, say."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, *task).result()
        except (MemoryError, RuntimeError) as error:
            print(f"failed: {type(error).__name__}: {error}", flush=True)
            return {}


def growth(rows: dict[tuple[int, str], dict[str, float]]) -> pd.DataFrame:
    """The table: a row for each (items, "all" or "sample"), its time also relative to that at `REFERENCE` items."""
    table = pd.DataFrame(rows.values(), pd.MultiIndex.from_tuples(rows, names=["items", "on"]))
    time = table["µs an interaction"]
    relative = [time[items, on] / time.get((REFERENCE, on), np.nan) for items, on in rows]
    table.insert(3, f"/ {REFERENCE} items", relative)
    return table


def main() -> None:
    """Measure one row after the other, print."""
    parser = options(__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 20_000, 100_000, 500_000])
    parser.add_argument("--widths", type=int, nargs=2, default=[64, 32], metavar=("IMAGE", "TEXT"))
    parser.add_argument("--sample", type=int, default=8192)
    parser.add_argument("--exact", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--drawn", action="store_true", help="draw the item graphs' neighbours")
    arguments = parser.parse_args()
    device, machine = start(arguments)
    widths = dict(zip(("image", "text"), arguments.widths))
    rows = {}
    for items, sample in plan(arguments.items, arguments.sample, arguments.exact):
        key = items, "sample" if sample else "all"
        print(*key, flush=True)
        rows[key] = fresh(items, sample, widths, arguments.batches, device, arguments.threads, arguments.drawn)
    stamp = {"sample": arguments.sample, "drawn": arguments.drawn, "widths": str(arguments.widths), **machine}
    title = f"SEA's epoch, {PER_ITEM} interactions an item, {BATCHES} batches, {arguments.batches} of them measured"
    report(growth(rows), title, arguments.out, **stamp)


if __name__ == "__main__":
    main()
