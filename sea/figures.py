"""One style, and one way to leave a figure or a table behind: with its data and its provenance beside it."""

import json
import sys
import textwrap
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = Path(__file__).parents[1] / "figures" / "sea.mplstyle"
COLUMN, PAGE = 3.5, 7.2
"""Widths of a figure in inches: one column, and the page."""


def style() -> None:
    """Use the companion's style from here on; sizes are in inches at which the figure is meant to be read."""
    plt.style.use(STYLE)


def save(fig: Figure, name: str, out: str | Path, data: pd.DataFrame, provenance: dict) -> None:
    """Write NAME.pdf, NAME.png, the plotted numbers as NAME.csv and NAME.json with the provenance into `out`.

    In a notebook the picture that was written is shown, and the figure closed: drawing it again would take as long.
    """
    folder = _stamp(name, out, provenance)
    if provenance.get("warning"):
        lines = textwrap.fill(provenance["warning"], int(22 * fig.get_figwidth()))
        fig.supxlabel(lines, x=0.01, ha="left", fontsize=6, color="0.3")  # the layout makes room for it
    if layout := fig.get_layout_engine():
        layout.execute(fig)
    fig.set_layout_engine("none")  # one layout for both files, solved once
    fig.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    fig.savefig(folder / f"{name}.png", metadata={"Software": None})
    data.to_csv(folder / f"{name}.csv", float_format="%.8g")
    plt.close(fig)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import Image, display

        display(Image(folder / f"{name}.png", width=int(110 * fig.get_figwidth())))


def save_table(table: pd.DataFrame, name: str, out: str | Path, provenance: dict, digits: int = 4) -> None:
    """Write NAME.csv (eight digits), NAME.md and NAME.tex (`digits` decimals) and NAME.json into `out`."""
    folder = _stamp(name, out, provenance)
    table.to_csv(folder / f"{name}.csv", float_format="%.8g")
    text = table.map(lambda value: _shown(value, digits)).to_markdown(disable_numparse=True)
    warning = provenance.get("warning", "")
    text += f"\n\n{warning}" if warning else ""
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    table.to_latex(folder / f"{name}.tex", float_format=f"%.{digits}f", escape=True, caption=warning or None)


def forest(ax: Axes, rows: pd.DataFrame, shift: float = 0.0, **look: object) -> None:
    """Draw effects in percent with their intervals, a line for each row, the first on top, and a line at zero.

    Args:
        rows: with "percent" and "percent ±", as `sea.statistics.table` gives them; NaN leaves a line empty.
        shift: by how much the marks lie above their line, so that several can share it.
        look: of `Axes.errorbar`.
    """
    place = np.arange(len(rows))[::-1]
    ax.axvline(0, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.errorbar(rows["percent"], place + shift, xerr=rows["percent ±"].fillna(0), **{"fmt": "o", "ms": 4} | look)
    ax.set(yticks=place, yticklabels=rows.index, ylim=(-0.6, len(rows) - 0.4))


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
