"""The explorers: notebook 2's in a real browser, from the exported HTML, without a kernel and without a network."""

import html
import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from sea.analysis import explorers, representations


def browser_paths() -> tuple[str, str]:
    """Chromium and its driver, as the system has them."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not (found and driver):
        pytest.skip("needs chromium and chromedriver on the PATH")
    return found, driver


@pytest.fixture
def browser():
    chromium, driver = browser_paths()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    instance = webdriver.Chrome(options=options, service=Service(driver))
    yield instance
    instance.quit()


def exported(folder: Path) -> Path:
    """The explorer's cell as it stands after execution, exported as nbconvert exports a notebook."""
    page = explorers.angle_explorer([2, 3, 8, 64], 500, np.random.default_rng(0))
    output = nbformat.v4.new_output("execute_result", {"text/html": page.data}, execution_count=1)
    cell = nbformat.v4.new_code_cell("explorers.angle_explorer(...)", outputs=[output], execution_count=1)
    text, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    path = folder / "explorer.html"
    path.write_text(text, encoding="utf-8")
    return path


LINE = "return document.querySelector('.scatterlayer .js-line').getAttribute('d')"
TITLE = "return document.querySelector('.gtitle').textContent"


def test_the_slider_moves_and_the_density_follows(browser, tmp_path):
    browser.get(exported(tmp_path).as_uri())
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    wait = WebDriverWait(browser, 30)
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".slider-grip-rect"))
    seen = {}
    for n, half in ((2, "85.5"), (3, "71.8"), (8, "41.8"), (64, "14.1")):  # asin sqrt of the Beta law's quantile
        labels = browser.find_elements(By.CSS_SELECTOR, ".slider-label")
        label = next(one for one in labels if one.text == str(n))
        ActionChains(browser).move_to_element(label).click().perform()
        wait.until(lambda b, n=n: b.execute_script(TITLE).startswith(f"n = {n}:"))
        assert f"within {half} degrees" in browser.execute_script(TITLE)
        seen[n] = browser.execute_script(LINE)
    assert len(set(seen.values())) == 4
    grip = browser.find_element(By.CSS_SELECTOR, ".slider-grip-rect")
    start = browser.find_element(By.CSS_SELECTOR, ".slider-label")
    ActionChains(browser).click_and_hold(grip).move_to_element(start).release().perform()  # dragged all the way back
    wait.until(lambda b: b.execute_script(TITLE).startswith("n = 2:"))
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in errors if "ERR_" not in entry["message"]], errors  # the page's own CDN links aside


def frames_of(page: str) -> list[dict]:
    """The frames that a page adds to its picture, read from its script."""
    script = html.unescape(page)
    start = script.index("[", script.rindex("Plotly.addFrames("))
    return json.JSONDecoder().raw_decode(script[start:])[0]


def trust(data, places, k=5):
    """Venna and Kaski's trustworthiness, from its definition: ranks in the data of those near in the map alone."""
    n, total = len(data), 0
    for i in range(n):
        order = [j for j in np.argsort(((data - data[i]) ** 2).sum(1), kind="stable") if j != i]
        near = [j for j in np.argsort(((places - places[i]) ** 2).sum(1), kind="stable") if j != i][:k]
        total += sum(max(0, order.index(j) + 1 - k) for j in near)
    return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))


def test_the_t_sne_explorer_has_the_maps_of_each_perplexity_as_they_are_and_centred():
    rng = np.random.default_rng(3)
    clouds = {("head", "a"): rng.standard_normal((30, 4)), ("unique", "<b>b"): rng.standard_normal((30, 4)) + 6}
    page = explorers.tsne_explorer(clouds, [4, 12]).data
    found = frames_of(page)
    assert [frame["name"] for frame in found] == ["4", "12"]
    assert {trace["name"] for trace in found[0]["data"]} == {"head, a", "unique, &lt;b&gt;b"}  # a name is no tag
    assert len(json.dumps(found)) / 240 * 4000 < 300_000  # as large as notebook 14's: 400 points in five pairs of maps
    moved = {name: cloud - cloud.mean(0) for name, cloud in clouds.items()}
    for frame, perplexity in zip(found, (4, 12)):
        told = []
        for half, given in ((frame["data"][:2], clouds), (frame["data"][2:], moved)):
            drawn = np.hstack([[trace["x"], trace["y"]] for trace in half]).T
            expected = representations.t_sne(given, perplexity=perplexity)[["x", "y"]].to_numpy()
            apart = [np.linalg.norm(one[:, None] - one, axis=2).ravel() for one in (drawn, expected)]
            assert np.corrcoef(apart)[0, 1] > 0.9999  # the same map, moved and scaled
            assert np.abs(drawn).max() == pytest.approx(1)
            told.append(trust(np.vstack(list(given.values())), expected))
        assert frame["layout"]["title"]["text"].endswith(f"{told[0]:.2f} and {told[1]:.2f}")
