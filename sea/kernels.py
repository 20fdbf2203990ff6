"""A GPU kernel, in Triton, for what torch would do in many small ones: the gradients of CLUB's q.

Triton comes with torch's CUDA builds on Linux. Without it, or with one that is too old, nothing here is used.
"""

import math

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
    from triton import knobs
except ImportError:
    triton = None

ROWS, WARPS = 64, 4
"""Pairs (g, u) of one program, and its warps; the fastest of twelve choices on an H100."""
PRECISION = "tf32x3"
"""Each product is taken as three TF32 products. At Baby's size the gradients' error is then 4e-7 of their norm. In
torch's own operations it is 2e-7."""
WIDTHS = (16, 32, 64, 128)
"""Widths of layers that the kernel can multiply."""


def suits(g: Tensor, hidden: int) -> bool:
    """Whether the kernel can do this: single precision on an NVIDIA GPU with TF32, and layers as wide as `WIDTHS`.

    Args:
        g: shape (heads, N, width).
        hidden: the hidden columns of both nets together.
    """
    if triton is None or not (g.is_cuda or knobs.runtime.interpret):
        return False
    if g.is_cuda and (torch.version.hip or torch.cuda.get_device_capability(g.device) < (8, 0)):
        return False
    return g.dtype == torch.float32 and g.shape[-1] in WIDTHS and hidden in WIDTHS


def q_gradients(
    g: Tensor, u: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of `ConditionalGaussian.negative_log_likelihood` for its four parameters, forward and backward in one.

    Each program adds up those of `ROWS` pairs; one sum over the programs follows, always in the same order.

    Args:
        g, u: shape (heads, N, width), contiguous.
        weight1, bias1, weight2, bias2: the parameters, shapes as there.
    """
    heads, n, width = g.shape
    parameters = weight1, bias1, weight2, bias2
    sizes = [parameter.numel() for parameter in parameters]
    programs = triton.cdiv(n, ROWS)
    partial = g.new_empty(programs, sum(sizes))
    _add_up[programs, heads](
        g,
        u,
        *parameters,
        partial,
        n,
        heads,
        math.e / n,
        HIDDEN=bias1.shape[-1] // 2,
        WIDTH=width,
        ROWS=ROWS,
        PRECISION=PRECISION,
        num_warps=WARPS,
    )
    whole = partial.sum(0).split(sizes)
    return tuple(part.view(parameter.shape) for part, parameter in zip(whole, parameters))


if triton is not None:

    @triton.jit
    def _add_up(
        g,
        u,
        weight1,
        bias1,
        weight2,
        bias2,
        partial,
        n,
        heads,
        scale,
        HIDDEN: tl.constexpr,
        WIDTH: tl.constexpr,
        ROWS: tl.constexpr,
        PRECISION: tl.constexpr,
    ):
        """One row of `partial`: the gradients of some pairs, in the formulas of `ConditionalGaussian._gradients`.

        Both nets' hidden columns lie side by side; the second layers' weights are zero for the other net's columns.
        """
        block, head = tl.program_id(0), tl.program_id(1)
        rows = block * ROWS + tl.arange(0, ROWS)
        inside = (rows < n)[:, None]
        column, unit = tl.arange(0, WIDTH), tl.arange(0, 2 * HIDDEN)
        of_mu = (unit < HIDDEN)[:, None]
        at_pair = (head * n + rows).to(tl.int64)[:, None] * WIDTH + column[None, :]
        at_first = head * WIDTH * 2 * HIDDEN + column[:, None] * (2 * HIDDEN) + unit[None, :]
        at_unit = head * 2 * HIDDEN + unit
        net = heads * (unit >= HIDDEN) + head
        at_second = net[:, None] * HIDDEN * WIDTH + (unit % HIDDEN)[:, None] * WIDTH + column[None, :]
        at_mu, at_a = head * WIDTH + column, (heads + head) * WIDTH + column

        x = tl.load(g + at_pair, mask=inside, other=0.0)
        y = tl.load(u + at_pair, mask=inside, other=0.0)
        first, second = tl.load(weight1 + at_first), tl.load(weight2 + at_second)
        to_mu, to_a = tl.where(of_mu, second, 0.0), tl.where(of_mu, 0.0, second)

        hidden = tl.dot(x, first, input_precision=PRECISION) + tl.load(bias1 + at_unit)[None, :]
        hidden = tl.maximum(hidden, 0.0)
        error = tl.dot(hidden, to_mu, input_precision=PRECISION) + tl.load(bias2 + at_mu)[None, :] - y
        a = tl.dot(hidden, to_a, input_precision=PRECISION) + tl.load(bias2 + at_a)[None, :]
        s = tl.sigmoid(2 * a)
        by_mu = tl.where(inside, error * tl.exp(-2 * s), 0.0)
        by_a = tl.where(inside, -2 * (error * by_mu - 0.36787944117144233) * s * (1 - s), 0.0)  # 1/e
        by_hidden = tl.dot(by_mu, tl.trans(to_mu), input_precision=PRECISION)
        by_hidden += tl.dot(by_a, tl.trans(to_a), input_precision=PRECISION)
        by_hidden = tl.where(hidden > 0, by_hidden, 0.0)

        units, columns = tl.trans(hidden), tl.trans(x)
        by_first = tl.dot(columns, by_hidden, input_precision=PRECISION)
        by_second_mu = tl.dot(units, by_mu, input_precision=PRECISION)
        by_second_a = tl.dot(units, by_a, input_precision=PRECISION)
        by_second = tl.where(of_mu, by_second_mu, by_second_a)

        out = partial + block.to(tl.int64) * heads * (4 * HIDDEN * WIDTH + 2 * HIDDEN + 2 * WIDTH)
        tl.store(out + at_first, scale * by_first)
        out += heads * WIDTH * 2 * HIDDEN
        tl.store(out + at_unit, scale * tl.sum(by_hidden, 0))
        out += heads * 2 * HIDDEN
        tl.store(out + at_second, scale * by_second)
        out += heads * 2 * HIDDEN * WIDTH
        tl.store(out + at_mu, scale * tl.sum(by_mu, 0))
        tl.store(out + at_a, scale * tl.sum(by_a, 0))
