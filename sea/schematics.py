"""Two drawn schematics: what SEA is, and the two ways to get a unique part. Boxes, arrows and text, no data."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from sea.figures import PAGE

FONT = 9.5
PLAIN, GENERIC, UNIQUE, LOSS = "#F2F2F2", "#BBD9EC", "#F7CDB0", "#FFFFFF"
TOGETHER, APART, RANK = "#0072B2", "#B34700", "#006B4F"
"""Dark enough for text on white; each loss has a line style of its own as well."""

Place = tuple[float, float]


def sea() -> Figure:
    """SEA at a glance, the counterpart of the paper's Figure 2.

    For each modality: features, a square layer, its two halves, an encoder on the user-item graph. CLUB pushes the
    halves of one modality apart, SoloSim pulls the generic halves together, BPR ranks.
    """
    fig, ax = _canvas(4.3)
    columns, rows = (0.56, 2.3, 4.35, 5.62), {"image": 3.35, "text": 1.15}
    for (name, y), m, side in zip(rows.items(), "vt", (1, -1)):
        _box(ax, (columns[0], y), 1.0, 0.8, f"{name}\nfeatures\n$X_{m}$", PLAIN)
        generic, unique = (columns[1], y - 0.42 * side), (columns[1], y + 0.42 * side)
        _box(ax, (columns[1] + 0.12, y), 1.7, 1.6, "", LOSS)
        _box(ax, generic, 1.2, 0.5, f"generic $g_{m}$", GENERIC)
        _box(ax, unique, 1.2, 0.5, f"unique $u_{m}$", UNIQUE)
        ax.text(3.1, unique[1], f"$T_{m}$", ha="center", va="center", fontsize=FONT)
        _arrow(ax, (1.06, y), (1.57, y))
        ax.text(1.32, y + 0.1, "square\nlayer", ha="center", va="bottom", fontsize=FONT - 1.5)
        _pull(ax, generic, unique, "CLUB:\napart", APART, gap=0.25, inward=False)
        _box(ax, (columns[2] - 0.05, y), 0.95, 0.95, "MLP and\nuser-item\ngraph", PLAIN)
        _arrow(ax, (3.27, y), (3.82, y))
        _arrow(ax, (4.78, y), (5.14, 2.25 + 0.32 * side))
    _pull(ax, (2.3, 2.93), (2.3, 1.57), "SoloSim:\ntogether", TOGETHER, gap=0.25, inward=True)
    _box(ax, (columns[3], 2.25), 0.95, 1.0, "fusion\nand item\ngraph", PLAIN)
    _arrow(ax, (6.1, 2.25), (6.25, 2.25))
    _box(ax, (6.71, 2.25), 0.92, 1.0, "score of\nuser, item:\nBPR ranks", LOSS, RANK)
    loss = r"loss  =  BPR  +  $\alpha$ · SoloSim  +  $\beta$ · mean of the two CLUB terms"
    ax.text(PAGE / 2, 0.12, loss, ha="center", va="center", fontsize=FONT)
    return fig


def paradigms() -> Figure:
    """The two ways to a unique part: subtraction with an orthogonality penalty, and separate learning.

    The counterpart of the paper's Figure 1 (b), beside SEA's own way. The paper's Figure 1 (a) aligns whole modalities
    and has no unique part.
    """
    fig, ax = _canvas(3.5)
    ax.plot([PAGE / 2] * 2, [0.1, 3.4], color="0.75", lw=0.8)
    titles = ("Subtract, then ask for\northogonality", "Split, then learn\nboth halves (SEA)")
    for x, title in zip((1.8, 5.4), titles):
        ax.text(x, 3.2, title, ha="center", va="center", fontsize=FONT + 0.5, weight="bold")
    for x, m, name in ((0.8, "v", "image"), (2.8, "t", "text")):
        _box(ax, (x, 2.45), 1.2, 0.5, f"{name}, whole $x_{m}$", PLAIN, size=FONT - 1)
        _box(ax, (x, 1.5), 1.2, 0.5, f"generic $g_{m}$", GENERIC)
        _box(ax, (x, 0.45), 1.2, 0.5, f"$u_{m} = x_{m} - g_{m}$", UNIQUE)
        _arrow(ax, (x, 2.2), (x, 1.75))
        _arrow(ax, (x, 1.25), (x, 0.7))
        ax.text(x + 0.07, 0.98, "subtract", va="center", fontsize=FONT - 1.5)
    _beside(ax, (1.4, 2.2), 1.5, "align", TOGETHER, inward=True)
    _beside(ax, (1.4, 2.2), 0.45, r"$u_v \perp u_t$", APART, inward=False)
    for x, m, name in ((4.4, "v", "image"), (6.4, "t", "text")):
        _box(ax, (x, 2.45), 1.2, 0.5, f"{name}, whole $X_{m}$", PLAIN, size=FONT - 1)
        _box(ax, (x, 0.975), 1.3, 1.75, "", LOSS)
        _box(ax, (x, 1.5), 1.2, 0.5, f"generic $g_{m}$", GENERIC)
        _box(ax, (x, 0.45), 1.2, 0.5, f"unique $u_{m}$", UNIQUE)
        _arrow(ax, (x, 2.2), (x, 1.86))
        ax.text(x + 0.07, 2.03, "layer, split", va="center", fontsize=FONT - 1.5)
        _pull(ax, (x - 0.25, 1.5), (x - 0.25, 0.45), "CLUB:\napart", APART, gap=0.25, inward=False)
    _beside(ax, (5.0, 5.8), 1.5, "SoloSim:\ntogether", TOGETHER, inward=True)
    return fig


def _canvas(height: float) -> tuple[Figure, Axes]:
    """Axes that fill the page's width, with inches as coordinates."""
    fig, ax = plt.subplots(figsize=(PAGE, height), layout="constrained")
    fig.get_layout_engine().set(w_pad=0, h_pad=0)
    ax.set(xlim=(0, PAGE), ylim=(0, height))
    ax.axis("off")
    return fig, ax


def _box(
    ax: Axes, centre: Place, width: float, height: float, text: str, fill: str, edge: str = "0.3", size: float = FONT
) -> None:
    corner = centre[0] - width / 2, centre[1] - height / 2
    look = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": fill, "edgecolor": edge}
    ax.add_patch(FancyBboxPatch(corner, width, height, linewidth=1.6 if edge != "0.3" else 0.8, **look))
    ax.text(*centre, text, ha="center", va="center", fontsize=size, linespacing=1.15)


def _arrow(ax: Axes, start: Place, end: Place, colour: str = "0.3", style: str = "-|>", line: str = "-") -> None:
    look = {"arrowstyle": style, "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0, "linestyle": line}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, linewidth=1.2 if colour == "0.3" else 1.8, **look))


def _pull(ax: Axes, one: Place, other: Place, text: str, colour: str, gap: float, inward: bool) -> None:
    """Two boxes, one above the other: arrows between them that meet (inward) or part, and a word beside."""
    step = gap if one[1] < other[1] else -gap
    ends = [(one[0], one[1] + step), (other[0], other[1] - step)]
    _meet_or_part(ax, *ends, colour, inward)
    ax.text(one[0] + 0.12, (one[1] + other[1]) / 2, text, color=colour, va="center", fontsize=FONT - 0.5)


def _beside(ax: Axes, between: Place, y: float, text: str, colour: str, inward: bool) -> None:
    """Two boxes side by side: the same between their edges, with the word above."""
    _meet_or_part(ax, (between[0], y), (between[1], y), colour, inward)
    ax.text(sum(between) / 2, y + 0.1, text, color=colour, ha="center", va="bottom", fontsize=FONT - 0.5)


def _meet_or_part(ax: Axes, one: Place, other: Place, colour: str, inward: bool) -> None:
    middle = (one[0] + other[0]) / 2, (one[1] + other[1]) / 2
    for end in (one, other):
        _arrow(ax, *((end, middle) if inward else (middle, end)), colour)
