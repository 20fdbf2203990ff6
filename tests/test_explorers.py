"""The explorers in a real browser, from the exported HTML, without a kernel and without a network."""

import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from IPython.display import HTML
from nbconvert import HTMLExporter
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from sea.analysis import explorers


def browser_paths() -> tuple[str, str]:
    """Chromium and its driver, as the system has them."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not (found and driver):
        pytest.skip("needs chromium and chromedriver on the PATH")
    return found, driver


def begin(*more: str) -> webdriver.Chrome:
    """Chromium without a window, its console kept; `more` are arguments of its own."""
    chromium, driver = browser_paths()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", *more):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


@pytest.fixture
def browser():
    instance = begin("--window-size=1200,1400")
    yield instance
    instance.quit()


def exported(folder: Path, page: HTML) -> Path:
    """The explorer's cell as it stands after execution, exported as nbconvert exports a notebook."""
    output = nbformat.v4.new_output("execute_result", {"text/html": page.data}, execution_count=1)
    cell = nbformat.v4.new_code_cell("explorers.an_explorer(...)", outputs=[output], execution_count=1)
    text, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    path = folder / "explorer.html"
    path.write_text(text, encoding="utf-8")
    return path


TITLE = "return document.querySelector('.gtitle').textContent"
LINES = "return [...document.querySelectorAll('.scatterlayer .js-line')].map(one => one.getAttribute('d')).join()"


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (  # the 97.5 % quantile of the Beta law, as an angle
            lambda: explorers.angle_explorer([2, 3, 8, 64], 500, np.random.default_rng(0)),
            {
                Keys.HOME: ("2", "n = 2: 95 % of the angles within 85.5 degrees"),
                Keys.ARROW_RIGHT: ("3", "n = 3: 95 % of the angles within 71.8 degrees"),
                Keys.END: ("64", "n = 64: 95 % of the angles within 14.1 degrees"),
            },
        ),
        (  # 64, and 1 / E cos² of a simulation with half a million pairs, to one digit
            lambda: explorers.spectrum_explorer([0, 1, 1.5], 64, 500, np.random.default_rng(0)),
            {
                Keys.HOME: ("0", "k^-0: effective n = 64.0"),
                Keys.ARROW_UP: ("1", "k^-1: effective n = 17.6"),
                Keys.ARROW_RIGHT: ("1.5", "k^-1.5: effective n = 7.2"),
            },
        ),
        (
            lambda: explorers.fusion_explorer([-0.25, 0.0, 0.5, 1.0, 1.25]),
            {
                Keys.ARROW_RIGHT: ("1", "= 1: one unique is the zero vector"),
                Keys.END: ("1.25", "= 1.25: the uniques point the same way"),
                Keys.HOME: ("-0.25", "= -0.25: the uniques point the same way"),
            },
        ),
    ],
    ids=["angle", "spectrum", "fusion"],
)
def test_the_arrow_keys_move_the_slider_and_the_picture_follows(browser, tmp_path, make, keys):
    browser.get(exported(tmp_path, make()).as_uri())
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    wait = WebDriverWait(browser, 30)
    wait.until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "input[type=range]") and b.find_elements(By.CLASS_NAME, "gtitle")
    )
    slider, seen = browser.find_element(By.CSS_SELECTOR, "input[type=range]"), set()
    for key, (value, title) in keys.items():
        slider.send_keys(key)
        wait.until(lambda b, title=title: title in b.execute_script(TITLE))
        assert slider.get_attribute("aria-valuetext") == value
        seen.add(browser.execute_script(LINES))
    assert len(seen) == len(keys)
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in errors if "ERR_" not in entry["message"]], errors  # the page's own CDN links aside
