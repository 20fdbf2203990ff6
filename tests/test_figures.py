import csv
import json

import matplotlib.pyplot as plt
import mistune
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from sea import figures

TABLE = pd.DataFrame(
    {"seeds": [3, 1], "recall@20": [0.123456789, float("nan")]}, index=pd.Index(["A_b", "C"], name="m")
)


def test_a_table_is_written_four_times_with_its_provenance(tmp_path):
    figures.save_table(TABLE, "t", tmp_path, {"dataset": "toy"})
    again = pd.read_csv(tmp_path / "t.csv", index_col="m")
    pd.testing.assert_frame_equal(again, TABLE, check_exact=False, rtol=1e-7)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (tmp_path / "t.md").read_text().splitlines()]
    assert rows[0] == ["m", "seeds", "recall@20"]
    assert rows[2:] == [["A_b", "3", "0.1235"], ["C", "1", ""]]
    assert "A\\_b & 3 & 0.1235" in (tmp_path / "t.tex").read_text()
    assert json.loads((tmp_path / "t.json").read_text())["dataset"] == "toy"


def test_text_in_a_table_stays_text(tmp_path):
    figures.save_table(pd.DataFrame({"value": ["50", "0.20"]}, index=["a", "1e3"]), "t", tmp_path, {})
    text = (tmp_path / "t.md").read_text()
    assert " 50 " in text and " 0.20 " in text and " 1e3 " in text


@pytest.mark.parametrize("warning", ["", "toy: features are stand-ins"])
def test_a_datasets_warning_is_in_every_table_and_figure(tmp_path, warning):
    stamp = {"warning": warning} if warning else {}
    figures.save_table(TABLE, "t", tmp_path, stamp)
    for suffix in ("md", "tex"):
        assert ("stand-ins" in (tmp_path / f"t.{suffix}").read_text()) == bool(warning)
    figures.style()
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    figures.save(fig, "f", tmp_path, TABLE, stamp, alt="A line.\nIt rises.")
    assert json.loads((tmp_path / "f.json").read_text())["alt"] == "A line. It rises."
    assert fig.get_supxlabel() == warning
    if warning:
        box = fig._supxlabel.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.y1 < ax.get_window_extent().y0  # on the page, below the axes
    assert (tmp_path / "f.pdf").stat().st_size > 1000
    assert (tmp_path / "f.png").stat().st_size > 1000
    plt.close(fig)


def test_numbers_are_told_with_the_halves_of_their_intervals():
    values, half = pd.Series({"SEA": 0.28712, "BPR": 0.1, "x": -2.0}), [0.0049, np.nan, 0.0]
    assert figures.told(values, half) == "SEA 0.287 ± 0.005; BPR 0.100; x -2.000 ± 0.000"
    assert figures.told(values, digits=1) == "SEA 0.3; BPR 0.1; x -2.0"


NASTY = [
    "<script>alert(1)</script>",
    "a|b",
    "a\\|b\\",
    "[x](javascript:alert(1))",
    "**bold** __init__ _so_ ~~gone~~ `code`",
    "&lt; & &#124;",
    "from $5 to $\\frac{$",
]


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("place", ["cell", "index", "column", "name", "warning"])
def test_markdown_shows_text_from_data_letter_by_letter(tmp_path, nasty, place):
    at = {p: nasty if p == place else p for p in ("cell", "index", "column", "name", "warning")}
    table = pd.DataFrame({at["column"]: [at["cell"]]}, index=pd.Index([at["index"]], name=at["name"]))
    figures.save_table(table, "t", tmp_path, {"warning": at["warning"]})
    page = _page(tmp_path / "t.md")
    cells = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in page.find_all("tr")]
    assert cells == [[at["name"], at["column"]], [at["index"], at["cell"]]]
    assert [paragraph.get_text() for paragraph in page.find_all("p")] == [at["warning"]]
    assert {tag.name for tag in page.find_all()} == {"table", "thead", "tbody", "tr", "th", "td", "p"}
    assert "$" not in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize("warning", ["# loud", "- item", "+ item", "---", "===", "> quoted"])
def test_a_warning_is_a_paragraph(tmp_path, warning):
    figures.save_table(TABLE, "t", tmp_path, {"warning": warning})
    assert _page(tmp_path / "t.md").find_all(recursive=False)[-1].name == "p"
    assert _page(tmp_path / "t.md").p.get_text() == warning


def test_what_the_companion_writes_itself_stays_as_it_is(tmp_path):
    own = ["β = 0", "3.1 ± 0.2", "−1.4", "gate * (Z_m - C)", "(s_v . s_t)^2", "+ CLUB's estimate", "Recall@20 (%)"]
    figures.save_table(pd.DataFrame({"I(g_image; g_text)": own}), "t", tmp_path, {})
    lines = (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[2].strip() for line in lines] == ["I(g_image; g_text)", lines[1].split("|")[2], *own]


def test_control_and_format_characters_stay_out(tmp_path):
    bad = "one\ntwo\tthree\u2028four\r\nfive\x00\x1b\u202e\u2066\u200b\ufeff\ud800"
    table = pd.DataFrame({bad: [bad]}, index=pd.Index([bad], name=bad))
    figures.save_table(table, "t", tmp_path, {"warning": bad})
    good = "one two three four five"
    page = _page(tmp_path / "t.md")
    assert [cell.get_text() for cell in page.find_all(["th", "td"])] == [good] * 4 and page.p.get_text() == good
    assert _rows(tmp_path / "t.csv") == [[good, good], [good, good]]
    assert (tmp_path / "t.tex").read_text(encoding="utf-8").count(good) == 5
    for suffix in ("md", "csv", "tex", "json"):
        text = (tmp_path / f"t.{suffix}").read_bytes().decode()
        assert all(c.isprintable() or c == "\n" for c in text)


def test_a_spreadsheet_computes_no_text(tmp_path):
    texts = ["=1+1", "+A1", "-A1", "@SUM(1)", "\t=1", "\r=1", " =1", "a=b", "-1.5", "+3"]
    kept = ["'=1+1", "'+A1", "'-A1", "'@SUM(1)", "' =1", "' =1", "' =1", "a=b", "-1.5", "+3"]
    table = pd.DataFrame({"=text": texts, "number": [-1.5] * len(texts)}, index=pd.Index(texts, name="@name"))
    fig, _ = plt.subplots()
    figures.save_table(table, "t", tmp_path, {})
    figures.save(fig, "f", tmp_path, table, {}, alt="x")
    for name in ("t", "f"):
        rows = _rows(tmp_path / f"{name}.csv")
        assert rows == [["'@name", "'=text", "number"], *([text, text, "-1.5"] for text in kept)]


def test_numbers_in_a_mixed_column_are_written_as_they_are(tmp_path):
    table = pd.DataFrame({"mixed": [1, 2.5, "", True], "bare": [1, -2, 1 / 3, 4]}, dtype=object)
    figures.save_table(table.assign(kind=pd.Categorical(["=x", "y", "y", "y"])), "t", tmp_path, {})
    assert _rows(tmp_path / "t.csv")[1:] == [
        ["0", "1", "1", "'=x"],
        ["1", "2.5", "-2", "y"],
        ["2", "", str(1 / 3), "y"],
        ["3", "True", "4", "y"],
    ]


def test_latex_runs_no_command_from_data(tmp_path):
    bad = r"5 $ % _ & # ~ ^ \input{x}"
    table = pd.DataFrame({bad: [bad]}, index=pd.Index([bad], name=bad))
    figures.save_table(table, "t", tmp_path, {"warning": bad})
    text = (tmp_path / "t.tex").read_text()
    assert r"\input" not in text and text.count(r"5 \$ \% \_ \& \#") == 5
    assert r"\caption{5 \$ \% \_ \& \# \textasciitilde{} \textasciicircum{} \textbackslash{}input\{x\}}" in text


def test_a_figure_takes_no_text_from_data_for_a_formula(tmp_path):
    nasty = "$\\frac{$ <b> \u202e"
    fig, ax = plt.subplots()
    ax.plot([1, 2], label=figures.label(nasty))
    ax.set(title=figures.label(nasty), xticks=[0], xticklabels=[figures.label("$x$\n")])
    ax.legend()
    figures.save(fig, "f", tmp_path, TABLE, {"warning": nasty}, alt="x")
    assert (tmp_path / "f.pdf").stat().st_size > 1000 and (tmp_path / "f.png").stat().st_size > 1000
    assert fig.get_supxlabel() == "$\\frac{$ <b>"
    assert ax.get_title() == r"\$\frac{\$ <b> "


def effects(**percent):
    return pd.DataFrame({"percent": percent, "percent ±": {name: 2.0 + i for i, name in enumerate(percent)}})


def test_series_share_their_lines_and_the_papers_values_are_hollow():
    fig, ax = plt.subplots()
    series = {"one": effects(a=1.0, b=-3.0), "two": effects(a=5.0, b=6.0), "$3": effects(a=7.0, b=float("nan"))}
    figures.forests(ax, series, pd.Series({"b": 0.5, "elsewhere": 9.0}))
    marks = [bars.lines[0] for bars in ax.containers]
    assert [list(mark.get_xdata()) for mark in marks[:2]] == [[1, -3], [5, 6]]
    heights = [mark.get_ydata() for mark in marks]
    for row, line in enumerate((1, 0)):  # the first row on top
        own = [found[row] for found in heights]
        assert own == sorted(own, reverse=True) and len(set(own)) == 3  # the first series on top, none upon another
        assert all(abs(height - line) < 0.5 for height in own)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"] and list(ax.get_yticks()) == [1, 0]
    ends = [segment[:, 0].tolist() for segment in ax.containers[0].lines[2][0].get_segments()]
    assert ends == [[1 - 2, 1 + 2], [-3 - 3, -3 + 3]]
    assert len({mark.get_color() for mark in marks}) == len({mark.get_marker() for mark in marks}) == 3
    assert {"one", "two", r"\$3", figures.PAPER} == set(ax.get_legend_handles_labels()[1])
    (hollow,) = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert list(hollow.get_xdata())[1:] == [0.5] and pd.isna(hollow.get_xdata()[0])
    assert list(hollow.get_ydata()) == list(heights[0])
    plt.close(fig)


def test_one_series_lies_on_its_line_and_a_fourth_has_no_look():
    fig, ax = plt.subplots()
    figures.forests(ax, {"one": effects(a=1.0, b=2.0)})
    assert list(ax.containers[0].lines[0].get_ydata()) == [1, 0]
    assert ax.get_legend_handles_labels()[1] == ["one"]
    with pytest.raises(ValueError, match=r"'series' needs at most 3 entries in 'forests' \(got 4\)"):
        figures.forests(ax, dict.fromkeys("abcd", effects(a=1.0)))
    plt.close(fig)


def test_a_notebooks_tables_take_dollar_signs_as_text():
    figures.style()
    assert "tex2jax_ignore" in pd.DataFrame({"title": ["$x$"]})._repr_html_()


def _page(path):
    return BeautifulSoup(mistune.html(path.read_text(encoding="utf-8")), "html.parser")


def _rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_small_percents_can_be_read_beside_large_ones():
    """A lead of 400 % must not press those of 2 and 4 % into one point; and no tick may lie outside the axis."""
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.errorbar([2, 4, 430], [0, 1, 2], xerr=[1, 1, 25], fmt="o")
    limits = ax.get_xlim()
    figures.percents(ax)
    assert ax.get_xlim() == limits
    assert list(ax.get_xticks()) == [-20, -5, 0, 5, 20, 50, 200]
    two, four, most = ax.transData.transform([(2, 0), (4, 0), (430, 0)])[:, 0]
    assert (four - two) / (most - two) > 0.1
    plt.close(fig)
