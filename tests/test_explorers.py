"""The explorers of notebook 2 in a real browser, from the exported HTML, without a kernel and without a network."""

import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from IPython.display import HTML
from nbconvert import HTMLExporter
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
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


def exported(folder: Path, page: HTML) -> Path:
    """The explorer's cell as it stands after execution, exported as nbconvert exports a notebook."""
    output = nbformat.v4.new_output("execute_result", {"text/html": page.data}, execution_count=1)
    cell = nbformat.v4.new_code_cell("explorers.an_explorer(...)", outputs=[output], execution_count=1)
    text, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    path = folder / "explorer.html"
    path.write_text(text, encoding="utf-8")
    return path


LINE = "return document.querySelector('.scatterlayer .js-line').getAttribute('d')"
TITLE = "return document.querySelector('.gtitle').textContent"


def test_the_slider_moves_and_the_density_follows(browser, tmp_path):
    page = explorers.angle_explorer([2, 3, 8, 64], 500, np.random.default_rng(0))
    browser.get(exported(tmp_path, page).as_uri())
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


def test_the_keyboard_moves_the_spectrum_and_a_screen_reader_is_told(browser, tmp_path):
    page = explorers.spectrum_explorer([0, 1, 1.5], 64, 500, np.random.default_rng(0))
    browser.get(exported(tmp_path, page).as_uri())
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    wait = WebDriverWait(browser, 30)
    plot = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "[role=slider]"))
    seen = {}
    # 64, and 1 / E cos² of a simulation with half a million pairs, to one digit
    for key, title in ((None, "k^-0: effective n = 64.0"), (Keys.ARROW_RIGHT, "k^-1: effective n = 17.6")):
        if key:
            plot.send_keys(key)
        wait.until(lambda b, title=title: title in b.execute_script(TITLE))
        wait.until(lambda b, title=title: title in plot.get_attribute("aria-valuetext"))
        seen[title] = browser.execute_script(
            "return [...document.querySelectorAll('.scatterlayer .js-line')].at(-1).getAttribute('d')"
        )
    assert len(set(seen.values())) == 2  # the law at the effective n
    plot.send_keys(Keys.ARROW_UP)
    plot.send_keys(Keys.ARROW_UP)  # beyond the last step it stays
    wait.until(lambda b: "k^-1.5: effective n = 7.2" in b.execute_script(TITLE))
    assert plot.get_attribute("aria-valuemax") == "2"
    wait.until(lambda b: plot.get_attribute("aria-valuenow") == "2")
