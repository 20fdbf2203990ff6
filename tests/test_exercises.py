"""The checks of the lesson's exercises: solutions pass, other right answers too, and each mistake gets its own hint."""

import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
from scipy import special

from sea import exercises

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def said(capsys, check, *answers) -> str:
    check(*answers)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    return line


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_every_solution_passes_its_check(capsys):
    space = {}
    for source in code(NOTEBOOKS / "solutions" / "01_lesson.ipynb"):
        exec(source, space)
    lines = capsys.readouterr().out.splitlines()
    names = ["pdf", "effective_dimension", "twin and back", "club", "solosim", "broken bound"]
    assert [line.split(": right.")[0] for line in lines] == names


def test_every_stub_of_the_lesson_gets_one_line_and_no_traceback(capsys):
    stubs = [source for source in code(NOTEBOOKS / "01_lesson.ipynb") if "exercises.check_" in source]
    for source in stubs:
        exec(source, {"exercises": exercises})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(stubs) == 6
    assert all("no answer yet" in line for line in lines)


def right_pdf(theta, n):
    constant = special.gammaln(n / 2) - special.gammaln((n - 1) / 2) - np.log(np.pi) / 2
    return np.exp(constant) * np.sin(theta) ** (n - 2)


def pdf_by_quadrature(theta, n):  # no gamma function at all
    grid = np.linspace(0, np.pi, 100_001)
    return np.sin(theta) ** (n - 2) / np.trapezoid(np.sin(grid) ** (n - 2), grid)


def pdf_by_gamma(theta, n):
    return math.gamma(n / 2) / math.gamma((n - 1) / 2) / math.sqrt(math.pi) * np.sin(theta) ** (n - 2)


def pdf_by_gamma_in_numpy(theta, n):
    return special.gamma(n / 2) / special.gamma((n - 1) / 2) / math.sqrt(math.pi) * np.sin(theta) ** (n - 2)


def of_the_cosine(theta, n):
    grid = np.linspace(1e-6, np.pi - 1e-6, 10_001)
    shape = np.sin(theta) ** (n - 3.0)
    return shape / np.trapezoid(np.sin(grid) ** (n - 3.0), grid)


@pytest.mark.parametrize("answer", [right_pdf, pdf_by_quadrature, lambda t, n: list(right_pdf(t, n))])
def test_a_right_density_passes(capsys, answer):
    assert said(capsys, exercises.check_pdf, answer).startswith("pdf: right.")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda t, n: 2 * right_pdf(t, n), "your density integrates to 2 at n = 3. Does θ run from 0 to π"),
        (lambda t, n: np.sin(t) ** (n - 2), "your density integrates to 2 at n = 3."),
        (lambda t, n: 3 * right_pdf(t, n), "your density integrates to 3 at n = 3.\n"),
        (lambda t, n: right_pdf(t, n) * np.pi / 180, "Is your density one per degree?"),
        (of_the_cosine, "sin^0 θ at n = 3, and needs sin^1 θ. That is the density of the cosine"),
        (lambda t, n: right_pdf(t, n + 1), "sin^2 θ at n = 3, and needs sin^1 θ. The points at angle θ form a sphere"),
        (lambda t, n: right_pdf(t, n) * (1 + 0.5 * np.cos(t)), "comes out as"),
        (lambda t, n: -right_pdf(t, n), "a density is never negative"),
        (lambda t, n: right_pdf(t, n) * np.nan, "not finite at n = 3"),
        (lambda t, n: 0 * t, "zero everywhere at n = 3"),
        (lambda t, n: right_pdf(t, max(n, 3)), "in the plane (n = 2) every angle is equally likely"),
        (pdf_by_gamma, "stops with OverflowError"),
        (pdf_by_gamma_in_numpy, "at n = 1000 its peak is nan, and needs to be 12.6. Γ overflows there"),
        (lambda t, n: right_pdf(t, n) * (n < 1000), "at n = 1000 its peak is 0,"),
        (lambda t, n: 0.5, "needs to return an array of shape (20001,) (got one number)"),
        (lambda t, n: math.sin(t), "stops with TypeError"),
        (lambda t: t, "stops with TypeError"),
        (lambda t, n: "p", "needs to return numbers (got a str)"),
        (lambda t, n: None, "no answer yet"),
    ],
)
def test_a_wrong_density_gets_its_hint(capsys, answer, hint):
    line = said(capsys, exercises.check_pdf, answer)
    assert "right." not in line
    assert hint in line


def effective(a, b):
    return 1 / np.mean(np.sum(unit(a) * unit(b), axis=1) ** 2)


def effective_by_loop(a, b):
    squares = [(x @ y) ** 2 / ((x @ x) * (y @ y)) for x, y in zip(a, b)]
    return len(squares) / sum(squares)


def ratio_of_means(a, b):
    first, second = a.T @ a / len(a), b.T @ b / len(b)
    return np.trace(first) * np.trace(second) / np.trace(first @ second)


@pytest.mark.parametrize("answer", [effective, effective_by_loop])
def test_a_right_effective_dimension_passes(capsys, answer):
    assert "effective_dimension: right." in said(capsys, exercises.check_effective_dimension, answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda a, b: 1 / ((a * b).sum(1) ** 2).mean(), "you forgot to normalise the rows"),
        (lambda a, b: 1 / effective(a, b), "that is the mean squared cosine"),
        (lambda a, b: 1 / (unit(a) * unit(b)).sum(1).mean() ** 2, "one over the squared mean"),
        (lambda a, b: 1 / np.abs((unit(a) * unit(b)).sum(1)).mean(), "The cosines need a square"),
        (lambda a, b: ((unit(a) * unit(b)).sum(1) ** -2.0).mean(), "the mean of 1/cos²"),
        (ratio_of_means, "a ratio of means"),
        (lambda a, b: 1 / ((unit(a) @ unit(b).T) ** 2).mean(), "all pairs of rows"),
        (lambda a, b: a.shape[1], "the pairs have known angles"),
        (lambda a, b: (unit(a) * unit(b)).sum(1), "needs to return one number (got shape (400,))"),
        (lambda a, b: a @ b, "stops with ValueError"),
    ],
)
def test_a_wrong_effective_dimension_gets_its_hint(capsys, answer, hint):
    assert hint in said(capsys, exercises.check_effective_dimension, answer)


def turn(u):
    return np.stack([-u[:, 1::2], u[:, ::2]], axis=2).reshape(u.shape)


def swap_halves(u):  # another right answer, of another length
    half = u.shape[1] // 2
    return 3 * np.concatenate([u[:, half:], -u[:, :half]], axis=1)


def swap_back(v):
    half = v.shape[1] // 2
    return np.concatenate([-v[:, half:], v[:, :half]], axis=1) / 3


def projected(u):
    w = np.arange(1.0, u.shape[1] + 1)
    return w - (unit(u) @ w)[:, None] * unit(u)


def noise(u):
    v = np.random.default_rng().standard_normal(u.shape)
    return v - (unit(u) * v).sum(1, keepdims=True) * unit(u)


@pytest.mark.parametrize(("twin", "back"), [(turn, lambda v: -turn(v)), (swap_halves, swap_back)])
def test_right_twins_pass(capsys, twin, back):
    assert "twin and back: right." in said(capsys, exercises.check_twins, twin, back)


@pytest.mark.parametrize(
    ("twin", "back", "hint"),
    [
        (lambda u: -u, lambda v: -v, "the largest |cosine| is 1.00"),
        (lambda u: np.roll(u, 1, axis=1), lambda v: np.roll(v, -1, axis=1), "twin(u) is not orthogonal to u"),
        (lambda u: 0 * u, lambda v: v, "the zero vector is orthogonal to everything"),
        (projected, lambda v: v, "something of u is lost"),
        (turn, turn, "back(twin(u)) is not u"),
        (noise, lambda v: v, "no function of that row"),
        (lambda u: turn(u) / 0, lambda v: v, "are not finite"),
        (lambda u: u[:, :4], lambda v: v, "needs to return an array of shape (200, 8) (got shape (200, 4))"),
        (turn, lambda v: None, "no answer yet"),
    ],
)
def test_wrong_twins_get_their_hint(capsys, twin, back, hint):
    assert hint in said(capsys, exercises.check_twins, twin, back)


def log_q(mu, logvar, u):
    """log q(u_j | g_i) of every pair (i, j)."""
    error = (u - mu[:, None]) ** 2 / np.exp(logvar)[:, None]
    return -(error + logvar[:, None] + np.log(2 * np.pi)).sum(2) / 2


def club(mu, logvar, u):
    pairs = log_q(mu, logvar, u)
    return np.trace(pairs) / len(u) - pairs.mean()


def club_by_moments(mu, logvar, u):
    return ((u.var(0) + (mu - u.mean(0)) ** 2 - (mu - u) ** 2) / np.exp(logvar) / 2).sum(1).mean()


def one_permutation(mu, logvar, u):
    pairs = log_q(mu, logvar, u)
    return np.trace(pairs) / len(u) - pairs[np.arange(len(u)), np.random.default_rng().permutation(len(u))].mean()


def without_diagonal(mu, logvar, u):
    pairs, n = log_q(mu, logvar, u), len(u)
    return np.trace(pairs) / n - (pairs.sum() - np.trace(pairs)) / (n * (n - 1))


@pytest.mark.parametrize("answer", [club, club_by_moments])
def test_a_right_club_passes(capsys, answer):
    assert "club: right." in said(capsys, exercises.check_club, answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *a: -club(*a), "the sign is turned"),
        (lambda *a: np.trace(log_q(*a)) / len(a[2]), "the first expectation alone"),
        (without_diagonal, "the diagonal is missing"),
        (lambda *a: club(*a) / 4, "you took the mean over the d coordinates"),
        (lambda *a: 2 * club(*a), "a factor ½"),
        (lambda *a: 300 * club(*a), "N times the right value"),
        (lambda mu, logvar, u: club(mu, 2 * logvar, u), "exp(logvar) is the variance"),
        (one_permutation, "in place of one random permutation"),
        (lambda mu, logvar, u: -((mu - u) ** 2).mean(), "your bound lies below the mutual information of 2.04 nats"),
        (lambda *a: 1.1 * club(*a), "it is not the mean over the pairs (i, i)"),
        (lambda mu, logvar, u: mu, "needs to return one number (got shape (300, 4))"),
        (lambda mu, logvar, u: mu @ u, "stops with ValueError"),
    ],
)
def test_a_wrong_club_gets_its_hint(capsys, answer, hint):
    assert hint in said(capsys, exercises.check_club, answer)


def solosim(text, image, tau):
    logits = unit(text) @ unit(image).T / tau
    return -np.diag(special.log_softmax(logits, axis=1)).mean()


def solosim_naively(text, image, tau):
    powers = np.exp(unit(text) @ unit(image).T / tau)
    return -np.log(np.diag(powers) / powers.sum(1)).mean()


def solosim_by_loop(text, image, tau):
    text, image = unit(text), unit(image)
    return np.mean([special.logsumexp(image @ t / tau) - t @ v / tau for t, v in zip(text, image)])


def without_itself(text, image, tau):
    powers = np.exp(unit(text) @ unit(image).T / tau)
    return -np.log(np.diag(powers) / (powers.sum(1) - np.diag(powers))).mean()


@pytest.mark.parametrize("answer", [solosim, solosim_by_loop])
def test_a_right_solosim_passes(capsys, answer):
    assert "solosim: right." in said(capsys, exercises.check_solosim, answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda t, v, tau: -np.diag(special.log_softmax(t @ v.T / tau, 1)).mean(), "you forgot to normalise the rows"),
        (without_itself, "the diagonal is missing"),
        (lambda t, v, tau: solosim(v, t, tau), "the sum runs over the texts"),
        (lambda t, v, tau: (solosim(t, v, tau) + solosim(v, t, tau)) / 2, "the mean of both directions, InfoNCE"),
        (lambda t, v, tau: solosim(t, v, 1 / tau), "you multiplied by τ"),
        (lambda t, v, tau: solosim(t, v, 1), "the temperature is missing"),
        (lambda t, v, tau: -solosim(t, v, tau), "the sign is turned"),
        (lambda t, v, tau: len(t) * solosim(t, v, tau), "the sum over items"),
        (solosim_naively, "exp overflows"),
        (lambda t, v, tau: math.inf, "it is not finite"),
        (lambda t, v, tau: 1.0, "it is not -mean log softmax"),
        (lambda t, v, tau: unit(t) @ unit(v).T, "needs to return one number (got shape (50, 50))"),
        (lambda t, v: 0, "stops with TypeError"),
    ],
)
def test_a_wrong_solosim_gets_its_hint(capsys, answer, hint):
    assert hint in said(capsys, exercises.check_solosim, answer)


@pytest.mark.parametrize("answer", [(0.5, 0.2, 0.75), (0.9, 0.9, 2), (0.5, -0.5, 0.75), (-0.3, 0.0, 1.0)])
def test_a_broken_bound_passes_where_a_simulation_sees_it_broken(capsys, answer):
    assert "broken bound: right." in said(capsys, exercises.check_broken_bound, *answer)
    rho, slope, variance = answer
    x, e = np.random.default_rng(0).standard_normal((2, 400_000))
    y = rho * x + (1 - rho**2) ** 0.5 * e
    estimate = ((np.roll(y, 1) - slope * x) ** 2 - (y - slope * x) ** 2) / (2 * variance)
    error = estimate.std() / len(x) ** 0.5
    assert estimate.mean() + 2 * error < -math.log(1 - rho**2) / 2


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((0.5, 0.5, 0.75), "Your q is the true conditional"),
        ((0.5, 0.5, 0.4), "Still an upper bound. Which way lowers"),
        ((0.0, 0.5, 1.0), "with rho = 0 nothing is shared"),
        ((1.0, 0.5, 1.0), "rho is a correlation"),
        ((0.5, 0.5, 0.0), "variance needs to be above 0"),
        (("a", 0.5, 1.0), "need to be numbers"),
        ((None, 0.5, 1.0), "no answer yet"),
    ],
)
def test_an_unbroken_bound_gets_its_hint(capsys, answer, hint):
    assert hint in said(capsys, exercises.check_broken_bound, *answer)


def test_a_guess_is_compared_within_a_tenth(capsys):
    assert said(capsys, exercises.compare, None, 7.218, "degrees") == "It is 7.218 degrees. You wrote no guess.\n"
    assert said(capsys, exercises.compare, 7.9, 7.218) == "It is 7.218. You wrote 7.9: right.\n"
    assert said(capsys, exercises.compare, 8, 7.218) == "It is 7.218. You wrote 8: not within 10%.\n"
    assert "needs to be a number (got 'x')" in said(capsys, exercises.compare, "x", 1.0)
