"""One style, and one way to leave a figure or a table behind: with its data and its provenance beside it."""

import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

STYLE = Path(__file__).parents[1] / "figures" / "sea.mplstyle"
COLUMN, PAGE = 3.5, 7.2
"""Widths of a figure in inches: one column, and the page."""


def style() -> None:
    """Use the companion's style from here on; sizes are in inches at which the figure is meant to be read."""
    plt.style.use(STYLE)


def save(fig: Figure, name: str, out: str | Path, data: pd.DataFrame, provenance: dict) -> None:
    """Write NAME.pdf, NAME.png, the plotted numbers as NAME.csv and NAME.json with the provenance into `out`."""
    folder = _stamp(name, out, provenance)
    fig.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    fig.savefig(folder / f"{name}.png", metadata={"Software": None})
    data.to_csv(folder / f"{name}.csv", float_format="%.8g")


def save_table(table: pd.DataFrame, name: str, out: str | Path, provenance: dict, digits: int = 4) -> None:
    """Write NAME.csv (eight digits), NAME.md and NAME.tex (`digits` decimals) and NAME.json into `out`."""
    folder = _stamp(name, out, provenance)
    table.to_csv(folder / f"{name}.csv", float_format="%.8g")
    text = table.astype(object).to_markdown(floatfmt=f".{digits}f")  # as objects, so that counts stay whole
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    table.to_latex(folder / f"{name}.tex", float_format=f"%.{digits}f", escape=True)


def _stamp(name: str, out: str | Path, provenance: dict) -> Path:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = {**provenance, "drawn": time.strftime("%Y-%m-%d")}
    (folder / f"{name}.json").write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    return folder
