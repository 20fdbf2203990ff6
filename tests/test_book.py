"""The book, from a small hand-made folder of figures: what it links, loads, says and hides, and how it works."""

import base64
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from test_explorers import begin

import sea.__main__ as main
import sea.book.__main__ as command
from sea import book, figures, published, verdicts
from sea.analysis import explorers
from sea.book import cells, markup

REPOSITORY = Path(__file__).parents[1]
HOSTILE = "<script>alert(1)</script> | $x^9$ ] [b](javascript:alert(1)) <img src=x onerror=alert(1)> \u202eturned\nline"
PROSE = r"""# 1. One thing

**The question.** Is $x^2$ more than *x*?

**Take away.**

- See [the other](02_other.ipynb) and [its end](02_other.ipynb#What-came-out-here), [code](../sea/train.py), <b>raw</b>.

$$\frac{a_1}{\sqrt{b}} \le \mathbb{E}\,\lVert c\rVert \tag{1}$$
"""
KEY = "0123456789abcdef"


def code(source: str, *outputs: tuple, tags: tuple = ()) -> nbformat.NotebookNode:
    made = [nbformat.v4.new_output(kind, **rest) for kind, rest in outputs]
    return nbformat.v4.new_code_cell(source, outputs=made, execution_count=1, metadata={"tags": list(tags)})


def shown(**data: str) -> tuple:
    return "display_data", {"data": {name.replace("_", "/", 1): value for name, value in data.items()}}


def write_book(path: Path, *made: nbformat.NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=list(made)), path)


def draw(folder: Path, name: str, runs: list[str], alt: str = "", dataset: str = "planted") -> None:
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1], [0, 1])
    stamp = {"dataset": dataset, "checksum": "ab" * 32, "runs": runs, "revisions": "SEA 1.1", "commit": "c" * 40}
    figures.save(fig, name, folder, pd.DataFrame({"x": [0, 1]}), stamp | {"warning": ""}, alt=alt)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Two datasets' figures, and three stored notebooks, two of them executed; the second dataset's name is odd."""
    root = tmp_path_factory.mktemp("book")
    one, two = root / "figures" / "planted", root / "figures" / "odd #1 & <b>%41"
    record = published.read(published.datasets()[0])[0]
    draw(
        one, "one_points", [f"{record.settings.model} seed 1: {record.key}", f"SEA seed 2: {KEY}"], "SEA 0.287 ± 0.005"
    )
    draw(one, "one_silent", [])
    draw(two, "other_points", [], dataset="toy")
    table = pd.DataFrame({HOSTILE: [HOSTILE, "plain"], "value": [0.5, 0.25]}, index=[HOSTILE, "b"])
    figures.save_table(table, "one_table", one, {"dataset": "planted", "warning": HOSTILE})
    shutil.copy(REPOSITORY / "figures" / "planted" / "claims.csv", one)
    png = (one / "one_points.png").read_bytes()
    explorer = explorers.angle_explorer([2, 8], 100, np.random.default_rng(0)).data
    picture = nbformat.v4.new_output(
        "display_data", {"image/png": _base64(png)}, metadata={"image/png": {"name": "one_points"}}
    )
    other = nbformat.v4.new_output("display_data", {"image/png": _base64(_square())})
    cell = code("save('one')  # zygote")
    cell.outputs = [picture, other]
    first = [
        nbformat.v4.new_markdown_cell(PROSE),
        code("seeds = 0", tags=("parameters",)),
        cell,
        code(
            '"one_points", "one_silent", "one_table"',
            shown(text_html=table.to_html(), text_plain="a table"),
            ("stream", {"name": "stdout", "text": f"{HOSTILE}\n"}),
            ("stream", {"name": "stderr", "text": "a secret warning"}),
            shown(text_html=f"<style>td {{ }}</style>{HOSTILE}<iframe srcdoc='<script>alert(2)</script>'></iframe>"),
            shown(text_markdown=HOSTILE),
            shown(text_plain=HOSTILE),
        ),
        code("explorer", shown(text_html=explorer)),
    ]
    second = [
        nbformat.v4.new_markdown_cell(
            "# 2. Another\n\n## What came out here\n\nWord: quokka $y$.\n\n## What came out here"
        )
    ]
    third = [nbformat.v4.new_markdown_cell("# 3. Not yet\n\nNothing."), code("1 + 1")]
    for name, content in (("01_one", first), ("02_other", second), ("03_none", third)):
        write_book(root / "notebooks" / f"{name}.ipynb", *content)
    for folder, names in ((one, ("01_one", "02_other")), (two, ("02_other",))):
        for name in names:
            (folder / "notebooks").mkdir(exist_ok=True)
            shutil.copy(root / "notebooks" / f"{name}.ipynb", folder / "notebooks")
    return root


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _square() -> bytes:
    found = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(found, "PNG")
    return found.getvalue()


@pytest.fixture(scope="session")
def site(made):
    with pytest.MonkeyPatch.context() as patch:
        known = published.datasets()[0]
        patch.setattr(book.published, "datasets", lambda: ["planted"])
        records = published.read(known)[:3]
        patch.setattr(book.published, "read", lambda name: records)
        book.build(made / "figures", made / "site", made / "notebooks")
    return made / "site"


def pages(site: Path) -> dict[Path, BeautifulSoup]:
    return {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in sorted(site.rglob("*.html"))
    }


def loaded(soup: BeautifulSoup) -> list[str]:
    """What a browser fetches for a page by itself."""
    found = [tag["src"] for tag in soup(src=True)] + [tag["href"] for tag in soup("link")]
    return found + [one for tag in soup(["img", "source"]) if (one := tag.get("srcset"))]


def dead_links(site: Path) -> list[str]:
    """The links and loaded files of a site that lead nowhere, of each page that is no frame of plotly's."""
    soups, dead = pages(site), []
    names = {path: {tag["id"] for tag in soup(id=True)} for path, soup in soups.items()}
    for path, soup in soups.items():
        for address in {*loaded(soup), *(tag["href"] for tag in soup("a"))}:
            file, at = urldefrag(address)
            if re.match("(https?|data):", file):
                continue
            target = (path.parent / unquote(file)).resolve() if file else path
            if not target.is_file() or (at and unquote(at) not in names[target]):
                dead.append(f"{path.relative_to(site)}: {address}")
    return dead


def test_every_link_and_every_anchor_leads_somewhere(site):
    assert len(pages(site)) == 14
    assert dead_links(site) == []


def test_nothing_is_fetched_from_elsewhere(site):
    for path, soup in pages(site).items():
        assert not [one for one in loaded(soup) if re.match(r"(?!data:,)(\w+:|//)", one)], path
        for script in soup("script"):
            assert "http" not in (script.string or "") or "cells" in path.parts  # of plotly: the address of its cloud
    for path in (REPOSITORY / "sea" / "book" / "static").iterdir():
        assert not re.search(r"https?:|url\(|@import|fetch\(", path.read_text())


def test_plotlys_script_is_there_once(site):
    frames = list(site.rglob("cells/*.html"))
    assert len(frames) == 1
    assert frames[0].stat().st_size < 200_000
    assert [path.name for path in site.rglob("*.js") if path.stat().st_size > 1_000_000] == ["plotly.min.js"]


def test_every_picture_tells_what_it_shows(site):
    found = {}
    for soup in pages(site).values():
        for picture in soup("img"):
            assert picture["alt"].strip()
            found[Path(picture["src"]).stem] = picture["alt"]
    assert found["one_points"] == "SEA 0.287 ± 0.005"
    assert found["one_silent"] == "Picture one_silent: its numbers are in one_silent.csv"
    assert len(found) == 4


def test_text_from_data_stays_text(site):
    for path, soup in pages(site).items():
        raw = path.read_text(encoding="utf-8")
        assert "\u202e" not in raw
        if "cells" in path.parts:
            continue
        assert not [s for s in soup("script") if not s.get("src") and "localStorage" not in s.string]
        assert not [tag for tag in soup(True) if any(name.startswith("on") for name in tag.attrs)]
        assert not [tag for tag in soup("a") if "script:" in tag["href"]]
        assert not [tag for tag in soup("img") if tag["src"] == "x"]
        assert not [tag for tag in soup("iframe") if not tag["src"].startswith("cells/")]
        assert not soup("style")
    notebook = (site / "planted" / "01_one.html").read_text(encoding="utf-8")
    assert notebook.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5  # a table's, two texts', Markdown's
    assert "alert(2)" not in notebook
    assert "secret" not in notebook
    gallery = pages(site)[site / "planted" / "gallery.html"]
    words = gallery.find(id="one_table").parent.get_text()
    assert "<script>alert(1)</script> | $x^9$ ]" in words
    assert "<b>raw</b>" in BeautifulSoup(notebook, "html.parser").get_text()


def test_the_search_is_told_words_and_no_marks(site):
    text = (site / "_static" / "search.js").read_text(encoding="utf-8")
    entries = json.loads(text.removeprefix("window.bookIndex = ").removesuffix(";\n"))
    where = {address for address, _, _, words in entries if "quokka" in words}
    odd = "odd%20%231%20%26%20%3Cb%3E%2541"
    assert where == {f"{folder}/02_other.html#What-came-out-here" for folder in ("planted", odd)}
    assert not [one for one in entries if "zygote" in one[3]]  # code


def tree(formula: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", markup.mathml(formula)))


def test_a_formula_is_the_tree_that_it_says():
    assert [(e.tag, e.text) for e in tree("x^2").find(".//msup")] == [("mi", "x"), ("mn", "2")]
    top, bottom = tree(r"\frac{a}{\sqrt{b}}").find(".//mfrac")
    assert "".join(top.itertext()) == "a"
    assert "".join(bottom.find(".//msqrt").itertext() if bottom.tag != "msqrt" else bottom.itertext()) == "b"


@pytest.mark.parametrize("path", main.notebooks(), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_is_drawn_by_the_browser(path):
    """Formulas are counted by their dollars alone, outside code; a command that is not known keeps its backslash."""
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            dollars = re.sub(r"```.*?```|`[^`\n]*`|\\\$", "", cell.source, flags=re.S)
            blocks = dollars.count("$$") // 2
            soup = BeautifulSoup(markup.markdown(cell.source), "html.parser")
            environments = len(re.findall(r"\\begin", re.sub(r"\$\$.*?\$\$", "", dollars, flags=re.S)))
            assert len(soup("math")) == blocks + (dollars.count("$") - 4 * blocks) // 2 + environments
            assert not [one for one in soup("math") if set("\\&") & set(one.get_text())], cell.source


def test_headings_of_one_name_have_addresses_of_their_own(site):
    soup = pages(site)[site / "planted" / "02_other.html"]
    assert [tag["id"] for tag in soup("h2")] == ["What-came-out-here", "What-came-out-here-2"]
    for path, soup in pages(site).items():
        names = [tag["id"] for tag in soup(id=True)]
        assert len(names) == len(set(names)), path


def test_links_of_a_notebook_lead_to_pages_and_names_of_files_stay_names(site):
    soup = pages(site)[site / "planted" / "01_one.html"].main
    links = {tag.get_text(): tag["href"] for tag in soup("a")}
    assert links["the other"] == "../planted/02_other.html"
    assert links["its end"] == "../planted/02_other.html#What-came-out-here"
    assert "code" not in links


def test_a_notebook_that_was_not_executed_says_so_and_another_dataset_leaves_it_out(site):
    soups = pages(site)
    assert "Not executed here" in soups[site / "planted" / "03_none.html"].get_text()
    assert "Not executed here" not in soups[site / "planted" / "02_other.html"].get_text()
    assert [path.name for path in site.glob("odd*/0*.html")] == ["02_other.html"]


def test_every_page_is_reached_by_turning_the_pages(site):
    soups, path, seen = pages(site), site / "index.html", []
    while path:
        seen.append(path)
        turn = soups[path].find("a", rel="next")
        path = (path.parent / unquote(turn["href"])).resolve() if turn else None
    assert sorted(seen) == [path for path in soups if "cells" not in path.parts]


def test_the_first_page_has_the_verdicts_of_the_claims_table(site):
    soup = pages(site)[site / "index.html"]
    rows = {row.a.get_text(): row("td")[-1] for row in soup.find(class_="answers").tbody("tr")}
    table = verdicts.load("planted")
    assert list(rows) == list(verdicts.SAYS)
    for claim, cell in rows.items():
        assert [one.get_text() for one in cell("strong")] == list(table.loc[[claim], "word"])


def test_every_claim_has_its_notebook():
    assert list(verdicts.LOOK) == list(verdicts.SAYS)
    assert set(verdicts.LOOK.values()) <= {path.stem for path in main.notebooks()}


def test_provenance_leads_to_a_published_run_and_names_another(site):
    soup = pages(site)[site / "planted" / "provenance.html"]
    runs = soup.find(class_="runs")
    (link,) = runs("a")
    record = published.read(published.datasets()[0])[0]
    assert link["href"] == f"runs.html#{record.key}"
    assert KEY in runs.get_text()
    told = soup.find(id="one_points").parent.get_text()
    assert "ab" * 6 in told
    assert "c" * 12 in told
    row = pages(site)[site / "planted" / "runs.html"].find(id=record.key).get_text(" ")
    assert f"{record.metrics['test']['recall@20']:.4f}" in row
    assert record.environment["commit"][:12] in row


def test_downloads_are_what_was_drawn(made, site):
    for suffix in ("pdf", "csv", "json"):
        copy = site / "planted" / "files" / f"one_points.{suffix}"
        assert copy.read_bytes() == (made / "figures" / "planted" / f"one_points.{suffix}").read_bytes()
    assert (site / "planted" / "files" / "one_table.tex").exists()


def test_a_picture_of_few_colours_is_the_picture(made):
    whole = (made / "figures" / "planted" / "one_points.png").read_bytes()
    few = cells.fewer_colours(whole)
    assert len(few) < len(whole) / 2
    one, other = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) for png in (whole, few))
    assert np.abs(one - other).max() <= 16
    assert Image.open(io.BytesIO(cells.fewer_colours(_square()))).convert("RGB").getpixel((0, 0)) == (255, 255, 255)


# all or nothing


@pytest.fixture
def small(tmp_path):
    """A folder of one figure, and a site that was made before."""
    draw(tmp_path / "figures" / "toy", "one", [], dataset="toy")
    (tmp_path / "none").mkdir()
    book.build(tmp_path / "figures", tmp_path / "site", tmp_path / "none")
    (tmp_path / "site" / "before").touch()
    return tmp_path


def build(small: Path) -> Path:
    return book.build(small / "figures", small / "site", small / "none")


def test_a_site_is_replaced_as_a_whole(small):
    build(small)
    assert not (small / "site" / "before").exists()
    assert sorted(path.name for path in small.iterdir()) == ["figures", "none", "site"]


@pytest.mark.parametrize("moves", [0, 1])
def test_a_build_that_is_cut_off_leaves_the_old_site(small, monkeypatch, moves):
    """At the last page, or between the two moves that put the new site in the old one's place."""

    def cut(*_):
        raise KeyboardInterrupt

    calls, replace = [], os.replace
    if moves == 0:
        monkeypatch.setattr(book.shutil, "copyfile", cut)
    else:
        monkeypatch.setattr(book.os, "replace", lambda *a: cut() if calls.append(a) or len(calls) == 2 else replace(*a))
    with pytest.raises(KeyboardInterrupt):
        build(small)
    assert (small / "site" / "before").exists()
    assert sorted(path.name for path in small.iterdir()) == ["figures", "none", "site"]


def test_ctrl_c_ends_the_command_with_130_and_one_line(monkeypatch, capsys):
    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "build", cut)
    monkeypatch.setattr(sys, "argv", ["book"])
    assert command.main() == 130
    assert capsys.readouterr().out == "Interrupted. The site is as it was.\n"


def test_a_folder_of_something_else_is_not_replaced(small):
    (small / "mine").mkdir()
    (small / "mine" / "thesis").touch()
    with pytest.raises(ValueError, match="--site needs to be a folder that this command made, or a new one"):
        book.build(small / "figures", small / "mine", small / "none")
    assert (small / "mine" / "thesis").exists()


def test_figures_that_are_none_are_one_line_and_exit_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["book", "--figures", str(tmp_path), "--site", str(tmp_path / "site")])
    assert command.main() == 2
    rule = "--figures needs to be a folder that ./run_all.sh wrote"
    assert capsys.readouterr().err == f"python -m sea.book: {rule} (got {tmp_path})\n"


def test_run_all_puts_the_book_beside_the_results_or_at_the_root():
    root = REPOSITORY / "figures"
    options = main.parse([])
    assert (options.figures, options.site, options.no_site) == (root, REPOSITORY / "site", False)
    options = main.parse(["--profile", "quick"])
    assert (options.figures, options.site) == (root / "planted-quick", root / "planted-quick" / "site")
    options = main.parse(["--out", "/there", "--no-site"])
    assert (options.figures, options.site, options.no_site) == (Path("/there"), Path("/there/site"), True)


# in a browser


@pytest.fixture(scope="module")
def browser():
    """Chromium without a network."""
    instance = begin("--window-size=1280,900", "--host-resolver-rules=MAP * ~NOTFOUND")
    yield instance
    instance.quit()


def test_every_page_opens_without_an_error_and_fits_a_phone(browser, site):
    for path in pages(site):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        )
        browser.get(path.as_uri())
        if "cells" not in path.parts:
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, path
        assert browser.get_log("browser") == [], path
        asked = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
        assert not [one for one in asked if not one.startswith(("file:", "data:"))], path
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_formulas_have_a_size(browser, site):
    browser.get((site / "planted" / "01_one.html").as_uri())
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('math')].map((one) => one.getBoundingClientRect())"
        ".map((box) => [box.width, box.height])"
    )
    assert len(sizes) == 2
    assert min(min(size) for size in sizes) > 5
    raised = "const [x, two] = document.querySelector('msup').children;"
    assert browser.execute_script(
        raised + "return two.getBoundingClientRect().bottom < x.getBoundingClientRect().bottom"
    )


def test_the_search_finds_a_word_and_leads_to_it(browser, site):
    browser.get((site / "planted" / "gallery.html").as_uri())
    box = browser.find_element(By.ID, "query")
    box.send_keys("QUOKKA word")
    wait = WebDriverWait(browser, 20)
    hits = wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#hits a"))
    assert [one.text for one in hits] == ["2. Another: What came out here"] * 2
    box.send_keys(" nowhere")
    wait.until(lambda b: b.find_element(By.ID, "count").text == "Nothing found")
    box.clear()
    box.send_keys("quokka")
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#hits a"))[0].click()
    wait.until(lambda b: b.current_url.endswith("02_other.html#What-came-out-here"))
    assert browser.get_log("browser") == []


def test_light_and_dark_follow_the_system_and_the_switch(browser, site):
    def ground() -> int:
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)))

    for scheme, dark in (("dark", True), ("light", False)):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        browser.get((site / "index.html").as_uri())
        assert (ground() < 150) == dark
        browser.find_element(By.ID, "theme").click()
        assert (ground() < 150) != dark
        browser.get((site / "claims.html").as_uri())  # it is kept
        assert (ground() < 150) != dark
        browser.execute_script("localStorage.clear()")


def test_the_keyboard_skips_to_the_text(browser, site):
    browser.get((site / "planted" / "01_one.html").as_uri())
    wait = WebDriverWait(browser, 30)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    wait.until(lambda b: b.switch_to.active_element.text == "Skip to the text")
    link = browser.switch_to.active_element
    assert link.location["x"] >= 0
    link.send_keys(Keys.ENTER)
    wait.until(lambda b: b.switch_to.active_element.get_attribute("id") == "main")


def test_the_explorer_works_with_the_shared_script(browser, site):
    browser.get((site / "planted" / "01_one.html").as_uri())
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    wait = WebDriverWait(browser, 30)
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "input[type=range]"))
    browser.find_element(By.CSS_SELECTOR, "input[type=range]").send_keys(Keys.END)
    title = "return document.querySelector('.gtitle').textContent"
    wait.until(lambda b: b.execute_script(title).startswith("n = 8:"))
    assert "within 41.8 degrees" in browser.execute_script(title)
    assert browser.get_log("browser") == []
    browser.switch_to.default_content()


def axe() -> Path:
    """axe-core's script: named in AXE, or installed by npm in the repository."""
    path = Path(os.environ.get("AXE", REPOSITORY / "node_modules" / "axe-core" / "axe.min.js"))
    if not path.is_file():
        pytest.skip("needs axe-core: AXE names its axe.min.js, or npm install axe-core has put it into node_modules")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_serious_finding(browser, site, scheme):
    script = axe().read_text(encoding="utf-8")
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    run = "axe.run(document, {iframes: false, preload: false}).then((r) => arguments[0](r.violations))"
    found = []
    for path in pages(site):
        if "cells" not in path.parts:
            browser.get(path.as_uri())
            browser.execute_script(script)
            found += [(path.name, one["id"], one["nodes"][0]["html"]) for one in browser.execute_async_script(run)]
    assert found == []
