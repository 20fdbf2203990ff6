"""Seconds of a whole training of SEA: epochs, each with an evaluation after it, as `sea.train.fit` runs them.

    python benchmarks/training.py [--shape baby] [--epochs 106] [--device auto] [--threads 2] [--out FILE]

On random data, for exactly --epochs epochs (106 is Baby's published training: the best was the 85th). One epoch of
another fit comes first, so that libraries are loaded. Every user is evaluated. Peak memory is of the training: of the
process on a CPU, of tensors on a GPU.
"""

import pandas as pd
import torch
from common import SHAPES, options, random_dataset, report, start, timed

from sea.machine import peak_memory, start_memory
from sea.models import SEA
from sea.train import Fit, fit


def train(shape: str, epochs: int, device: torch.device) -> pd.DataFrame:
    """Seconds of building the model, of its training and of its parts, and the peak in GiB: a table of one row."""
    dataset = random_dataset(shape, SHAPES[shape])

    def build() -> SEA:
        return SEA(dataset, generator=torch.Generator().manual_seed(0)).to(device)

    def run(model: SEA, epochs: int) -> Fit:
        generator = torch.Generator(device).manual_seed(0)
        return fit(model, dataset, lr=model.lr, epochs=epochs, patience=epochs, generator=generator)

    run(build(), 1)
    build_seconds, model = timed(device, build)
    start_memory(device)
    seconds, result = timed(device, run, model, epochs)
    parts = pd.DataFrame(result.history)[["seconds", "seconds_evaluate"]].sum()
    row = {"build": build_seconds, "training": seconds, "epochs": parts.iloc[0], "evaluations": parts.iloc[1]}
    table = pd.DataFrame([row], index=pd.Index([shape], name="shape")).add_suffix(" s")
    return table.assign(**{"peak GiB": peak_memory(device) / 2**30})


def main() -> None:
    """Train, print."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="baby")
    parser.add_argument("--epochs", type=int, default=106)
    arguments = parser.parse_args()
    device, machine = start(arguments)
    table = train(arguments.shape, arguments.epochs, device)
    report(table, f"{arguments.epochs} epochs of SEA", arguments.out, count=arguments.epochs, **machine)


if __name__ == "__main__":
    main()
