"""The explorer of notebook 2 in a real browser, from the exported HTML, without a kernel and without a network."""

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


def test_the_arrow_keys_move_a_native_slider_and_the_picture_follows(browser, tmp_path):
    page = explorers.fusion_explorer([-0.25, 0.0, 0.5, 1.0, 1.25])
    path = tmp_path / "fusion.html"
    path.write_text(f"<meta charset='utf-8'>{page.data}", encoding="utf-8")
    browser.get(path.as_uri())
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    wait = WebDriverWait(browser, 30)
    wait.until(lambda b: b.find_elements(By.TAG_NAME, "input") and b.find_elements(By.CLASS_NAME, "gtitle"))
    slider = browser.find_element(By.TAG_NAME, "input")
    assert "opposite ways" in browser.execute_script(TITLE)
    for key, value, tells in (
        (Keys.ARROW_RIGHT, "1", "zero vector"),
        (Keys.ARROW_RIGHT, "1.25", "same way"),
        (Keys.HOME, "-0.25", "same way"),
    ):
        slider.send_keys(key)
        wait.until(
            lambda b, tells=tells, value=value: f"= {value}: " in (now := b.execute_script(TITLE)) and tells in now
        )
        assert slider.get_attribute("aria-valuetext") == value
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
