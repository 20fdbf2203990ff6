"""One style, and one way to leave a figure or a table behind: with its data and its provenance beside it."""

import html
import json
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML
from matplotlib.figure import Figure

from sea import angles

STYLE = Path(__file__).parents[1] / "figures" / "sea.mplstyle"
COLUMN, PAGE = 3.5, 7.2
"""Widths of a figure in inches: one column, and the page."""


def style() -> None:
    """Use the companion's style from here on; sizes are in inches at which the figure is meant to be read."""
    plt.style.use(STYLE)


def save(fig: Figure, name: str, out: str | Path, data: pd.DataFrame, provenance: dict) -> None:
    """Write NAME.pdf, NAME.png, the plotted numbers as NAME.csv and NAME.json with the provenance into `out`."""
    folder = _stamp(name, out, provenance)
    if provenance.get("warning"):
        lines = textwrap.fill(provenance["warning"], int(22 * fig.get_figwidth()))
        fig.supxlabel(lines, x=0.01, ha="left", fontsize=6, color="0.3")  # the layout makes room for it
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # one layout for both files and the notebook, solved once
    fig.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    fig.savefig(folder / f"{name}.png", metadata={"Software": None})
    data.to_csv(folder / f"{name}.csv", float_format="%.8g")


def save_table(table: pd.DataFrame, name: str, out: str | Path, provenance: dict, digits: int = 4) -> None:
    """Write NAME.csv (eight digits), NAME.md and NAME.tex (`digits` decimals) and NAME.json into `out`."""
    folder = _stamp(name, out, provenance)
    table.to_csv(folder / f"{name}.csv", float_format="%.8g")
    text = table.map(lambda value: _shown(value, digits)).to_markdown(disable_numparse=True)
    warning = provenance.get("warning", "")
    text += f"\n\n{warning}" if warning else ""
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    table.to_latex(folder / f"{name}.tex", float_format=f"%.{digits}f", escape=True, caption=warning or None)


def _shown(value: object, digits: int) -> str:
    """A cell of a Markdown table: numbers rounded, whole ones and text as they are, nothing for NaN."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.{digits}f}"
    return str(value)


def _stamp(name: str, out: str | Path, provenance: dict) -> Path:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = {**provenance, "drawn": time.strftime("%Y-%m-%d")}
    (folder / f"{name}.json").write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    return folder


def angle_explorer(dimensions: Iterable[int], draws: int, rng: np.random.Generator) -> HTML:
    """A slider over n: simulated angles under the exact density of Theorem 1, the band of 95 % marked.

    A page in a frame of its own with all its script inside: it needs neither a kernel nor a network, in
    JupyterLab as in an exported file.
    """
    frames = [_explorer_frame(n, draws, rng) for n in dimensions]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "args": [[frame.name], at_once], "label": frame.name} for frame in frames]
    figure = go.Figure(frames[0].data, frames[0].layout, frames)
    figure.update_layout(
        template="simple_white",
        bargap=0,
        height=430,
        sliders=[{"steps": steps, "currentvalue": {"prefix": "n = "}, "pad": {"t": 40}}],
        xaxis={"title": "angle (degrees)", "range": [0, 180], "dtick": 45},
        yaxis_title="density (per degree)",
    )
    page = html.escape(figure.to_html(include_plotlyjs=True, auto_play=False))
    frame = f'<iframe srcdoc="{page}" title="angle explorer" width="100%" height="480" style="border:0"></iframe>'
    return HTML(f"<div>{frame}</div>")


def _explorer_frame(n: int, draws: int, rng: np.random.Generator) -> go.Frame:
    drawn = np.degrees(angles.sample(n, draws, rng))
    heights, edges = np.histogram(drawn, bins=180, range=(0, 180), density=True)
    grid = np.linspace(0, np.pi, 721)
    half, top = np.degrees(angles.halfwidth(n)), float(np.radians(angles.pdf(np.pi / 2, n))) * 1.15
    sides = [90 - half, 90 - half, None, 90 + half, 90 + half]
    exact = np.radians(angles.pdf(grid, n))
    return go.Frame(
        name=str(n),
        data=[
            go.Bar(x=(edges[:-1] + edges[1:]) / 2, y=heights, name="simulated", marker_color="#cccccc"),
            go.Scatter(x=np.degrees(grid), y=exact, name="exact, Eq. (1)", line={"color": "#0072B2"}),
            go.Scatter(
                x=sides,
                y=[0, top, None, 0, top],
                name="95 % lie between",
                mode="lines",
                line={"color": "#D55E00", "dash": "dot"},
            ),
        ],
        layout={
            "title": {"text": f"n = {n}: 95 % of the angles within {half:.1f} degrees of a right angle"},
            "yaxis": {"range": [0, top]},
        },
    )
