"""One style, and one way to leave a figure or a table behind: with its data and its provenance beside it."""

import html
import json
import re
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = Path(__file__).parents[1] / "figures" / "sea.mplstyle"
COLUMN, PAGE = 3.5, 7.2
"""Widths of a figure in inches: one column, and the page."""

LOOKS = (("o", "C0"), ("s", "C1"), ("D", "C2"))
"""Marker and colour of what shares a line: they differ in both, for whoever can't tell the colours."""
PAPER = "the paper, on Baby"
"""The legend's words for hollow marks: Tables 3 and 4 are on that set alone."""

LATEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)
"""What LaTeX takes as commands, each as it is printed."""


def style() -> None:
    """Use the companion's style from here on; sizes are in inches at which the figure is meant to be read.

    Tables that a notebook shows take dollar signs as text.
    """
    plt.style.use(STYLE)
    pd.set_option("display.html.use_mathjax", False)


def label(text: str) -> str:
    """A name from data as Matplotlib shows it in a title, a legend or at a tick: its dollar signs begin no formula."""
    return _clean(text).replace("$", r"\$")


def save(fig: Figure, name: str, out: str | Path, data: pd.DataFrame, provenance: dict, alt: str) -> None:
    """Write NAME.pdf, NAME.png, the plotted numbers as NAME.csv and NAME.json with the provenance into `out`.

    `alt` tells who can't see the picture what it shows, with its numbers (`told`); it is kept with the provenance.

    No text in the numbers or in the warning is taken as a formula, by a spreadsheet or by Matplotlib.

    In a notebook the picture that was written is shown, and the figure closed: drawing it again would take as long.
    """
    alt = _clean(alt)
    folder = _stamp(name, out, provenance | {"alt": alt})
    if provenance.get("warning"):
        lines = textwrap.fill(_clean(provenance["warning"]), int(22 * fig.get_figwidth()))
        look = {"ha": "left", "fontsize": 6, "color": "0.3", "parse_math": False}
        fig.supxlabel(lines, x=0.01, **look)  # the layout makes room for it
    if layout := fig.get_layout_engine():
        layout.execute(fig)
    fig.set_layout_engine("none")  # one layout for both files, solved once
    fig.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    fig.savefig(folder / f"{name}.png", metadata={"Software": None})
    _each_text(data, _plain).to_csv(folder / f"{name}.csv", float_format="%.8g")
    plt.close(fig)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import Image, display

        shown = Image(folder / f"{name}.png", width=int(110 * fig.get_figwidth()), alt=alt)
        display(shown, metadata={"image/png": {"name": name}})


def save_table(table: pd.DataFrame, name: str, out: str | Path, provenance: dict, digits: int = 4) -> None:
    """Write NAME.csv (eight digits), NAME.md and NAME.tex (`digits` decimals) and NAME.json into `out`.

    Text in cells, labels and the warning stays text: no HTML, Markdown, LaTeX or spreadsheet's formula comes of it,
    an apostrophe goes before what a spreadsheet would compute, and control and format characters are left out.
    """
    folder = _stamp(name, out, provenance)
    _each_text(table, _plain).to_csv(folder / f"{name}.csv", float_format="%.8g")
    warning = _clean(provenance.get("warning", ""))
    shown = _each_text(table.map(lambda value: _shown(value, digits)), _markdown)
    text = shown.to_markdown(disable_numparse=True)
    text += f"\n\n{re.sub('^[#+=-]', _entity, _markdown(warning))}" if warning else ""
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    caption = warning.translate(LATEX) or None  # `to_latex` escapes all but the caption
    printed = _each_text(table, _clean)
    printed.to_latex(folder / f"{name}.tex", float_format=f"%.{digits}f", escape=True, caption=caption)


def told(values: pd.Series, half: pd.Series | None = None, digits: int = 3) -> str:
    """Numbers in words, for a picture's `alt`: "SEA 0.287 ± 0.005; BPR 0.182 ± 0.010".

    Args:
        half: half-widths of the intervals, in the order of `values`; NaN leaves one out.
    """
    halves = [np.nan] * len(values) if half is None else half
    spreads = ["" if np.isnan(one) else f" ± {one:.{digits}f}" for one in halves]
    return "; ".join(f"{name} {value:.{digits}f}{spread}" for (name, value), spread in zip(values.items(), spreads))


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


def forests(ax: Axes, series: Mapping[str, pd.DataFrame], paper: pd.Series | None = None) -> None:
    """Draw up to three `forest`s on common lines, a marker and a colour for each, and the paper's values hollow.

    Args:
        series: by the name that the legend has, rows as in `forest`, with one index.
        paper: the paper's percent by row, drawn on the first one's height; NaN, or a row that is not there, has none.

    Raises:
        ValueError: more than three.
    """
    if len(series) > len(LOOKS):
        raise ValueError(f"'series' needs at most {len(LOOKS)} entries in 'forests' (got {len(series)})")
    shifts = np.linspace(0.22, -0.22, len(series)) if len(series) > 1 else [0.0]
    for (name, rows), shift, (marker, colour) in zip(series.items(), shifts, LOOKS):
        forest(ax, rows, shift, fmt=marker, color=colour, label=label(name))
        if paper is not None and shift == shifts[0]:
            place = np.arange(len(rows))[::-1] + shift
            ax.plot(paper.reindex(rows.index), place, "o", mfc="none", mec="k", ms=7, label=PAPER, zorder=3)


def percents(ax: Axes) -> None:
    """Make an x axis in percent linear between -5 and 5, and logarithmic beyond, so that small effects can be read."""
    ax.set_xscale("symlog", linthresh=5)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high)  # ticks must not widen it
    steps = [5, 20, 50, 200, 500]
    ax.set_xticks([x for x in (*(-step for step in steps[::-1]), 0, *steps) if low <= x <= high])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def _shown(value: object, digits: int) -> str:
    """A cell of a Markdown table: numbers rounded, whole ones and text as they are, nothing for NaN."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.{digits}f}"
    return str(value)


def _each_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """`table` with every text in its cells, labels and names changed; all else keeps its value and its type."""

    def changed(value: object) -> object:
        return change(value) if isinstance(value, str) else value

    def column(values: pd.Series) -> pd.Series:  # `map` would make floats of whole numbers among floats
        texts = values.dtype.kind == "O"
        return pd.Series([changed(value) for value in values], values.index, dtype=object) if texts else values

    table = table.apply(column) if len(table.columns) else table
    return table.rename(index=changed, columns=changed).rename_axis(index=changed, columns=changed)


def _clean(text: str) -> str:
    """`text` in one line, without the control and format characters that hide or turn round what follows."""
    line = " ".join(text.splitlines()).replace("\t", " ")
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def _markdown(text: str) -> str:
    """`text` so that Markdown shows it letter by letter: what it would read as a mark stands as an entity."""
    marks = r"[\\`|$\[\]~]|(?<![^\W_])_|_(?![^\W_])|\*(?=\S)|(?<=\S)\*"  # `a_b` and `a * b` are no marks
    escaped = html.escape(_clean(text).strip(), quote=False)
    return re.sub(marks, _entity, escaped)


def _entity(mark: re.Match) -> str:
    return f"&#{ord(mark[0])};"


def _plain(text: str) -> str:
    """`text` for a CSV file: with an apostrophe before what a spreadsheet would compute, unless it is a number."""
    text = _clean(text)
    try:
        float(text)
    except ValueError:
        return "'" + text if text.lstrip().startswith(("=", "+", "-", "@")) else text
    return text


def _stamp(name: str, out: str | Path, provenance: dict) -> Path:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = {**provenance, "drawn": time.strftime("%Y-%m-%d")}
    (folder / f"{name}.json").write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    return folder
