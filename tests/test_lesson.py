"""The lesson of notebook 1: its closed forms, its plan, and its slides, which ask for nothing from outside."""

import math
import re
import textwrap
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from scipy import integrate, special, stats
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_explorers import browser  # noqa: F401

import sea.runs
from sea import execute, losses
from sea.book.slides import slides

LESSON = Path(__file__).parents[1] / "notebooks" / "01_lesson.ipynb"


@pytest.fixture(scope="module")
def cells() -> list:
    return nbformat.read(LESSON, 4).cells


@pytest.fixture(scope="module")
def lesson(cells, tmp_path_factory) -> dict:
    """The names of the lesson after all its cells, as a student has them."""
    space, out = {}, tmp_path_factory.mktemp("figures")
    for cell in cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
            if "parameters" in cell.metadata.get("tags", []):
                space["out"] = out
    space["rng"] = np.random.default_rng(7)
    return space


def tail(n, eps):
    """P(|cos θ| > ε), from cos²θ ~ Beta(1/2, (n-1)/2)."""
    return stats.beta.sf(np.square(eps), 0.5, (n - 1) / 2)


@pytest.mark.parametrize("n", [3, 64])
def test_drawn_angles_have_the_exact_mean_distance_from_90_degrees(lesson, n):
    exact, _ = integrate.quad(
        lambda c: np.degrees(np.arcsin(c)) * stats.beta.pdf(c * c, 0.5, (n - 1) / 2) * 2 * c, 0, 1
    )
    distance = np.abs(lesson["angles"](n, 40_000) - 90)
    assert abs(distance.mean() - exact) < 4 * distance.std() / 200


@pytest.mark.parametrize("n", [5, 64])
def test_unit_vectors_have_length_one_and_the_proved_mean_squared_cosine(lesson, n):
    x = lesson["unit"](n, 40_000)
    assert np.allclose(np.linalg.norm(x, axis=1), 1)
    assert stats.kstest(x[:, 0] ** 2, stats.beta(0.5, (n - 1) / 2).cdf).pvalue > 1e-4
    assert stats.beta.mean(0.5, (n - 1) / 2) == pytest.approx(1 / n)


@pytest.mark.parametrize("n", [2, 3, 8, 64, 512, 5526])
def test_both_bounds_lie_above_the_exact_tail(n):
    eps = np.linspace(0.001, 1, 1000)
    assert (1 / (n * eps**2) >= tail(n, eps)).all()
    assert (2 * np.exp(-n * eps**2 / 2) >= tail(n, eps)).all()


@pytest.mark.parametrize("eps", [0.05, 0.4, 1 / math.sqrt(2), 0.8, 0.99])
def test_the_cone_over_a_cap_lies_in_the_ball_of_the_proof(eps):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 4))
    x[:, 0] = rng.uniform(eps, 1, len(x))  # points of the cap, from its rim to its pole
    x[:, 1:] *= (np.sqrt(1 - x[:, 0] ** 2) / np.linalg.norm(x[:, 1:], axis=1))[:, None]
    cone = x * rng.uniform(0, 1, (len(x), 1))
    centre, radius = (eps, math.sqrt(1 - eps**2)) if eps <= 1 / math.sqrt(2) else (1 / (2 * eps), 1 / (2 * eps))
    assert np.linalg.norm(cone - centre * np.eye(4)[0], axis=1).max() <= radius + 1e-12
    assert radius <= math.exp(-(eps**2) / 2)


def test_the_axis_vectors_have_the_mean_squared_cosine_and_another_law(lesson):
    assert (lesson["axis"] == 0).mean() == pytest.approx(1 / 64, rel=0.05)
    assert tail(64, 0.5) < 1 / 64 / 100


def test_the_point_is_on_the_sphere_and_the_jacobian_is_that_of_the_integral(lesson):
    t = lesson["t"]
    assert np.linalg.norm(lesson["point"](t)) == pytest.approx(1)
    assert np.arccos(lesson["point"](t)[0]) == pytest.approx(t[0])
    assert lesson["area"] == pytest.approx(np.sin(t[0]) ** 3 * np.sin(t[1]) ** 2 * np.sin(t[2]), rel=1e-7)
    powers = [integrate.quad(lambda s, k=k: np.sin(s) ** k, 0, np.pi)[0] for k in (3, 2, 1)]
    assert 2 * np.pi * math.prod(powers) == pytest.approx(2 * np.pi**2.5 / special.gamma(2.5))  # the sphere's area


@pytest.mark.parametrize("n", [2, 3, 8, 64])
def test_the_density_is_the_closed_form(lesson, n):
    theta = lesson["theta"]
    constant = np.exp(special.gammaln(n / 2) - special.gammaln((n - 1) / 2)) / math.sqrt(math.pi)
    assert np.allclose(lesson["density"](n), constant * np.sin(theta) ** (n - 2), atol=1e-5)
    inner = theta[(theta > 0.01) & (theta < 3.13)]
    by_cosine = stats.beta.pdf(np.cos(inner) ** 2, 0.5, (n - 1) / 2) * np.abs(np.cos(inner) * np.sin(inner))
    near = np.abs(inner - np.pi / 2) > 1e-3
    assert np.allclose(lesson["density"](n)[(theta > 0.01) & (theta < 3.13)][near], by_cosine[near], atol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 16, 17, 64, 129])
def test_the_variance_by_steps_is_half_the_trigamma_function(lesson, n):
    assert lesson["by_steps"](n) == pytest.approx(special.polygamma(1, n / 2) / 2, rel=1e-10)
    assert lesson["by_integral"](n) == pytest.approx(special.polygamma(1, n / 2) / 2, rel=1e-6)


def test_the_errors_of_the_three_values_are_of_the_order_that_the_lesson_says(lesson):
    n = 1000
    exact = special.polygamma(1, n / 2) / 2
    assert n * (1 / (n - 2) / exact - 1) == pytest.approx(1, rel=0.01)
    assert n * (1 / n / exact - 1) == pytest.approx(-1, rel=0.01)
    assert n**2 * (1 / (n - 1) / exact - 1) == pytest.approx(1 / 3, rel=0.01)
    assert np.allclose(lesson["errors"].loc[64], [0.0082, 1.62, -1.55], atol=0.01)


def test_as_many_vectors_come_before_a_close_pair_as_the_beta_law_says(lesson):
    counts = np.array([lesson["how_many"](8, 0.5) for _ in range(400)])
    p = tail(8, 0.5)
    assert abs((counts == 1).mean() - p) < 4 * math.sqrt(p * (1 - p) / 400)
    assert (counts >= 1).all()
    assert (lesson["middle"] > np.exp(lesson["dims"] / 16)).all()  # more than proved
    assert math.exp(64 / 16) < 64 < 80 < math.exp(80 / 16)  # "up to n = 64 it is even below n"


def test_the_gradient_of_the_penalty_is_that_of_autograd_and_orthogonal_to_its_vector(lesson):
    x, y = (torch.from_numpy(row) for row in lesson["unit"](32, 2))
    x.requires_grad_()
    lesson["penalty"](x, y).backward()
    cos = float(x.detach() @ y)
    assert torch.allclose(x.grad, 2 * cos * (y - cos * x.detach()))
    assert float(x.grad.norm()) == pytest.approx(2 * abs(cos) * math.sqrt(1 - cos**2))
    assert abs(float(x.grad @ x.detach())) < 1e-12


def test_the_pull_is_half_of_bprs_for_unit_vectors(lesson):
    cos = lesson["unit"](64, 200_000)[:, 0]
    pull = math.sqrt(np.mean(4 * cos**2 * (1 - cos**2)))
    assert pull == pytest.approx(math.sqrt(4 * (1 / 64 - 3 / (64 * 66))), rel=0.02)
    score = torch.zeros(1, requires_grad=True)
    losses.bpr(score, torch.zeros(1)).backward()
    assert pull / abs(float(score.grad)) == pytest.approx(0.5, abs=0.03)


def test_the_penalty_alone_moves_the_vectors_as_the_text_says(lesson):
    before, after = lesson["before"].std(), lesson["after"].std()
    assert 18 < before / after < 26  # "a factor of about twenty"
    assert lesson["value"] - lesson["last"] == pytest.approx(0.03, abs=0.003)  # "three hundredths"
    assert after == pytest.approx(before * (1 - 0.05 * 2) ** 30, rel=0.1)  # small angles: each step takes a tenth


def test_the_orthogonal_vectors_of_part_7_give_their_partner_away(lesson):
    assert np.abs((lesson["u"] * lesson["v"]).sum(1)).max() < 1e-12
    assert (lesson["table"].argmin(1) == np.arange(1000)).all()


def reading_minutes(cells) -> dict[str, float]:
    """Minutes that each part takes to read: 130 words of prose a minute, and a minute a code cell."""
    minutes, part = {}, "The plan"
    for cell in cells:
        heading = re.match(r"## (.*)", cell.source)
        part = heading[1] if heading else part
        if "Exercises" in part:
            break
        if cell.cell_type == "code":
            minutes[part] = minutes.get(part, 0) + ("parameters" not in cell.metadata.get("tags", []))
        else:
            minutes[part] = minutes.get(part, 0) + len(re.findall(r"\w+", cell.source)) / 130
    return minutes


def planned_minutes(cells) -> dict[str, int]:
    table = next(cell.source for cell in cells if cell.source.startswith("## The plan"))
    return {name: int(minutes) for name, minutes in re.findall(r"^\| (.*?) \| (\d+) \|$", table, re.MULTILINE)}


def test_the_plan_has_ninety_minutes_and_each_part_can_be_read_within_its_own(cells):
    planned, read = planned_minutes(cells), reading_minutes(cells)
    assert sum(planned.values()) == 90
    assert list(planned) == list(read)
    for part, minutes in read.items():
        assert minutes <= planned[part], (part, minutes)


def test_each_part_ends_with_a_question_that_the_next_cell_answers(cells):
    asked = [i for i, cell in enumerate(cells) if "**Question" in cell.source]
    parts = [name for name in planned_minutes(cells) if name[0].isdigit()]
    assert len(asked) == len(parts) == 7
    for number, i in enumerate(asked, 1):
        assert f"**Question {number}.**" in cells[i].source
        assert cells[i + 1].source.startswith("mine = None\n")
        assert "exercises.compare(mine, " in cells[i + 1].source


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The slides of the lesson, executed as run_all.sh does it."""
    out = tmp_path_factory.mktemp("lesson")
    outcome = execute.execute([LESSON], {}, out, at_once=1)[LESSON]
    assert outcome.status == "done", Path(outcome.log).read_text()
    slides(
        out / "notebooks" / LESSON.name, out / "slides" / "01_lesson.html", lambda url: url.replace(".ipynb", ".html")
    )
    return out / "slides" / "01_lesson.html"


def test_slides_ask_no_other_host_and_hold_formulas_pictures_and_no_folder(page, cells):
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    assert not soup.select("script[src], link[href], iframe")
    assert all(image["src"].startswith("data:image/png") and len(image["alt"]) > 40 for image in soup("img"))
    assert len(soup("img")) == 6
    for style in soup("style"):
        assert not re.search(r"@import|url\(['\"]?(?!['\"]?data:)", style.text)
    shown = [cell.source for cell in cells if cell.metadata.get("slideshow", {}).get("slide_type") != "skip"]
    inline = sum(
        len(re.findall(r"\$[^$]+\$", re.sub(r"\$\$.*?\$\$", " $x$ ", source, flags=re.DOTALL))) for source in shown
    )
    assert len(soup("math")) == inline - sum("$" in cell.source for cell in cells if cell.cell_type == "code")
    assert not soup.find(string=re.compile("# Parameters|partial-01"))
    assert {a["href"] for a in soup.select(".slides a[href$='.html']")} == {
        f"{name}.html" for name in ("02_orthogonality", "03_subtraction", "05_mutual_information")
    }


def test_slides_show_outputs_alone_where_the_code_is_tagged(page, cells):
    text = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select_one(".slides").text
    assert "def how_many" in text
    assert "ax.set(" not in text
    assert "check_pdf" not in text
    assert "You wrote no guess." in text


def test_slides_open_and_turn_by_the_keyboard(browser, page):  # noqa: F811
    browser.set_window_size(1280, 960)
    browser.get(page.as_uri())
    count = browser.execute_script("return Reveal.getTotalSlides()")
    assert count > 25
    body, seen = browser.find_element(By.TAG_NAME, "body"), {}
    for _ in range(2 * count):  # a slide with an answer takes two presses
        height, width, here = browser.execute_script(
            "const s = Reveal.getCurrentSlide(), i = Reveal.getIndices();"
            "return [s.scrollHeight, s.scrollWidth, i.h + '.' + (i.v || 0)]"
        )
        seen[here] = height <= 760 and width <= 1100
        body.send_keys(Keys.ARROW_RIGHT)
    assert len(seen) == count
    assert all(seen.values()), seen
    assert not browser.get_log("browser")
    requests = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    assert not browser.execute_script(requests)


def test_the_recipe_of_the_reproduction_exercise_works(tmp_path, monkeypatch, capsys):
    text = LESSON.with_name("README.md").read_text(encoding="utf-8")
    recipe = textwrap.dedent(re.search(r"```python\n( +from dataclasses.*?)```", text, re.DOTALL)[1])
    monkeypatch.setattr(sea.runs, "run", partial(sea.runs.run, root=tmp_path))
    exec(recipe.replace('"default"', '"quick"'), {})
    assert capsys.readouterr().out.splitlines()[-1] == "not tested (one world)"
    assert len(list(tmp_path.glob("planted-SEA-*"))) == 2


def test_the_rubric_adds_up_and_the_talk_takes_twenty_minutes():
    text = LESSON.with_name("README.md").read_text(encoding="utf-8")
    rubric = text.split("**Rubric, 20 points.**")[1]
    assert sum(int(points) for points in re.findall(r"\| (\d+) \|$", rubric, re.MULTILINE)) == 20
    pictures = re.findall(r"^\| \d \| \[(\w+)\]", text, re.MULTILINE)
    assert len(pictures) * 2.5 == 20
    folder = LESSON.parents[1] / "figures" / "planted"
    assert not [name for name in pictures if not (folder / f"{name}.png").exists()]
