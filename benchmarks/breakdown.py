"""Where one batch of SEA spends its time, part by part and operation by operation, and how near it is to the machine.

    python benchmarks/breakdown.py [--shape baby] [--device auto] [--threads 2] [--out FILE]

torch.profiler watches one batch of our form, the third; on a GPU one that is not replayed. Each operation's own time,
forward or backward, counts under the part that its forward belongs to. Watching has a price, a microsecond or two an
operation, which the parts of many small ones (q's steps) pay most of. Also told, each measured without it: a batch's
seconds, the additions and multiplications of its dense products, its operations (each takes a GPU a kernel or more),
and the machine's own rates in one large product and in a copy.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import pandas as pd
import torch
from batch import Ours, batches, step
from common import SHAPES, options, random_dataset, start, timed
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sea import graphs
from sea.models import SEA
from sea.models import sea as sea_module

BACKWARD = "autograd::engine::evaluate_function: "
REST, PYTHON = "the rest", "(Python)"
SHOWN = 5  # operations of each part


@contextmanager
def ranges(form: Ours) -> Iterator[list[str]]:
    """Make the parts of a batch ranges of the profiler, for the time being; yields their names."""
    model, separate = form.model, form.model.separate
    parts = {
        "projections": [(separate, "forward")],
        "propagation": [(sea_module, "layer_sum"), (model, "_along_items")],
        "alignment": [(separate, "_align")],
        "CLUB": [(separate, "_distance")],
        "q's steps": [(model, "after_step")],
        "optimiser": [(form.optimizer, "step")],
        "negatives": [(form, "negatives")],
    }
    with ExitStack() as stack:
        for part, functions in parts.items():
            for owner, name in functions:
                stack.enter_context(mock.patch.object(owner, name, inside(part, getattr(owner, name))))
        yield [*parts, REST]


def inside(part: str, function: Callable) -> Callable:
    """The same function, in a range of the profiler."""

    def ranged(*arguments: object) -> object:
        with record_function(part):
            return function(*arguments)

    return ranged


def part_of(event: FunctionEvent, parts: list[str], forward: dict[int, str]) -> str:
    """The part that an operation is in; in the backward pass, the part of the operation that it is the backward of."""
    while event is not None and event.name not in parts:
        if event.name.startswith(BACKWARD):
            return forward.get(event.sequence_nr, REST)
        event = event.cpu_parent
    return REST if event is None else event.name


def own_seconds(event: FunctionEvent, device: torch.device) -> float:
    """Of the operation itself, less those that it calls: on a CPU its own time, on a GPU that of its kernels."""
    if device.type == "cpu":
        return event.self_cpu_time_total / 1e6
    return sum(kernel.duration for kernel in event.kernels if kernel.name != event.name) / 1e6  # not a range's own span


def shares(events: list[FunctionEvent], parts: list[str], device: torch.device) -> pd.DataFrame:
    """Seconds of the operations' own time and percent of all, by part and operation."""
    events = [event for event in events if event.device_type == torch.autograd.DeviceType.CPU]
    forward = {}  # by sequence number: its last operation is the one that the backward pass comes back to
    for event in events:
        if event.sequence_nr >= 0 and "Backward" not in event.name:
            forward[event.sequence_nr] = part_of(event, parts, {})
    rows = []
    for event in events:
        operation = PYTHON if event.name in parts else event.name.removeprefix(BACKWARD)
        rows.append((part_of(event, parts, forward), operation, own_seconds(event, device)))
    table = pd.DataFrame(rows, columns=["part", "operation", "seconds"]).groupby(["part", "operation"]).sum()
    return table.assign(percent=100 * table["seconds"] / table["seconds"].sum())


def tree(table: pd.DataFrame) -> str:
    """Each part with its longest operations below it, as text; a mark for every two percent."""
    lines = []
    for part in table.groupby("part")["seconds"].sum().sort_values(ascending=False).index:
        operations = table.loc[part].nlargest(SHOWN, "seconds")
        rows = {part: table.loc[part].sum()} | {f"  {name}": row for name, row in operations.iterrows()}
        lines += [
            f"{name:44.44}{row['seconds']:9.4f} s{row['percent']:7.1f} %  {'#' * round(row['percent'] / 2)}"
            for name, row in rows.items()
        ]
    return "\n".join(lines)


def dense_flop(form: Ours, batch: tuple[torch.Tensor, torch.Tensor]) -> int:
    """Additions and multiplications of a batch's dense products; those with the sparse graphs are passed over."""
    passed = mock.patch.object(graphs, "_product", lambda matrix, x: torch.zeros_like(x))

    def in_place(total: tuple, a: tuple, b: tuple, **_: object) -> int:  # SoloSim's and q's
        return 2 * math.prod(a) * b[-1]

    lacking = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), in_place)
    with passed, FlopCounterMode(display=False, custom_mapping=lacking) as counter:
        step(form, *batch)
    return counter.get_total_flops()


class Operations(TorchDispatchMode):
    """Counts torch's operations in its scope, less views and those that only take memory."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: torch._ops.OpOverload, types: tuple, args=(), kwargs=None) -> object:
        """Carry it out, count it if it computes."""
        name = operation._schema.name
        self.count += name.startswith("aten::") and not (operation.is_view or "empty" in name or "view" in name)
        return operation(*args, **(kwargs or {}))


def operations(form: Ours, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[int, int]:
    """How many a batch takes, and q's steps in it."""
    with Operations() as whole:
        step(form, *batch)
    form.loss(*batch, form.negatives(batch[0]))  # leaves what q is fitted on
    with Operations() as of_q:
        form.fit_q()
    return whole.count, of_q.count


def rates(device: torch.device, size: int = 4096, turns: int = 3) -> tuple[float, float]:
    """FLOP a second of a product of two square matrices, and bytes a second, read and written, of copying one."""
    a, b = (torch.ones(size, size, device=device) for _ in range(2))
    product, copy = (
        min(timed(device, function, *arguments)[0] for _ in range(turns + 1))
        for function, arguments in ((torch.mm, (a, b)), (a.copy_, (b,)))
    )
    return 2 * size**3 / product, 2 * a.nbytes / copy


def main() -> None:
    """Measure, print."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="baby")
    arguments = parser.parse_args()
    device, machine = start(arguments)
    dataset = random_dataset(arguments.shape, SHAPES[arguments.shape])
    model = SEA(dataset, generator=torch.Generator().manual_seed(0)).to(device)
    model.replays = False  # a replay has no operations to watch
    form = Ours(model, dataset)
    batch = batches(dataset, device)[0]
    flop, (flop_rate, byte_rate) = dense_flop(form, batch), rates(device)
    of_batch, of_q = operations(form, batch)
    seconds, _ = timed(device, step, form, *batch)
    print(
        f"\nOne batch at {arguments.shape}'s shape: {seconds:.4g} s\n"
        f"its dense products: {flop / 1e9:.4g} GFLOP, {flop / flop_rate:.4g} s at the machine's rate\n"
        f"its operations: {of_batch}, {of_q} of them in q's steps\n"
        f"the machine: {flop_rate / 1e9:.4g} GFLOP/s in a large product, {byte_rate / 1e9:.4g} GB/s in a copy\n"
    )
    with ranges(form) as parts, profile() as profiler, record_function(REST):
        step(form, *batch)
    table = shares(profiler.events(), parts, device)
    print(tree(table))
    if arguments.out:
        table.assign(shape=arguments.shape, **machine).to_csv(arguments.out)


if __name__ == "__main__":
    main()
