"""Initial laws and dropout, every draw from a generator that is passed in."""

import torch
from torch import Tensor, nn


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """`nn.Linear` with its default initial law, U(-1/√inputs, 1/√inputs), drawn from `generator`."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer


def xavier(kind: str, *shape: int, generator: torch.Generator) -> nn.Parameter:
    """A table with Xavier initial values, `kind` is "normal" or "uniform"."""
    fill = {"normal": nn.init.xavier_normal_, "uniform": nn.init.xavier_uniform_}[kind]
    return nn.Parameter(fill(torch.empty(*shape), generator=generator))


def dropout(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """x with each entry zeroed with probability p, the others divided by 1 - p; the draw is the generator's.

    Args:
        x: any shape, on any device.
        p: at least 0 and below 1; 0 draws nothing.

    Raises:
        ValueError: another p.
    """
    if not 0 <= p < 1:
        raise ValueError(f"'p' needs to be at least 0 and below 1 in 'dropout' (got {p!r})")
    if not p:
        return x
    draws = torch.rand(x.shape, generator=generator, device=generator.device)
    return x * (draws >= p).to(x.device, x.dtype) / (1 - p)
