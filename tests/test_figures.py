import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

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
    figures.save(fig, "f", tmp_path, TABLE, stamp)
    assert fig.get_supxlabel() == warning
    if warning:
        box = fig._supxlabel.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.y1 < ax.get_window_extent().y0  # on the page, below the axes
    assert (tmp_path / "f.pdf").stat().st_size > 1000
    assert (tmp_path / "f.png").stat().st_size > 1000
    plt.close(fig)
