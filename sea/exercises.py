"""Checks for the exercises of the lesson, notebook 1.

None of them holds a stored answer: each one compares with a closed form, with a construction whose truth is known, or
with brute force. A wrong answer gets a hint that depends on the mistake.

A check prints one line. A mistake in a student's function, even an exception, never ends the notebook.
"""

import math
import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats

from sea.analysis import gaussians

Function = Callable[..., object]


class _HintError(Exception):
    """What is wrong with an answer, in one line for the student."""


def compare(guess: float | None, value: float, unit: str = "", within: float = 0.1) -> None:
    """Print the answer to a question of the lesson, and whether the guess comes close.

    Args:
        guess: the student's number; None for no guess.
        value: the answer.
        unit: what both are counted in, "degrees" for instance.
        within: the relative distance up to which the guess counts as right.
    """
    answer = f"It is {value:.4g} {unit}".rstrip() + "."
    if guess is None:
        print(answer, "You wrote no guess.")
    elif not isinstance(guess, int | float | np.number):
        print(answer, f"Your guess needs to be a number (got {guess!r}).")
    else:
        near = abs(guess - value) <= within * abs(value)
        print(answer, f"You wrote {guess:.4g}:", "right." if near else f"not within {within:.0%}.")


def check_pdf(pdf: Function) -> None:
    """Exercise 1, the density of Eq. (1): `pdf(theta, n)`, theta of shape (k,) in radians within [0, π].

    Compared with probabilities of the Beta law, cos²θ ~ Beta(1/2, (n-1)/2).
    """
    _report("pdf", _judge_pdf, pdf)


def check_effective_dimension(effective_dimension: Function) -> None:
    """Exercise 2, 1 / mean cos²: `effective_dimension(a, b)`, both of shape (N, d), row i of a with row i of b.

    Compared on pairs that are built with chosen angles and lengths.
    """
    _report("effective_dimension", _judge_effective_dimension, effective_dimension)


def check_twins(twin: Function, back: Function) -> None:
    """Exercise 3: `twin(u)` orthogonal to u row by row, and `back(twin(u))` = u; rows of an even width d."""
    _report("twin and back", _judge_twins, twin, back)


def check_club(club: Function) -> None:
    """Exercise 4, Eq. (15): `club(mu, logvar, u)` in nats, all of shape (N, d).

    Compared with the double loop over all pairs of items, which takes the normal density from SciPy.
    """
    _report("club", _judge_club, club)


def check_solosim(solosim: Function) -> None:
    """Exercise 5, Eq. (16): `solosim(text, image, tau)`, both of shape (N, d).

    Compared with a loop over items, in logarithms.
    """
    _report("solosim", _judge_solosim, solosim)


def check_broken_bound(rho: float | None, slope: float | None, variance: float | None) -> None:
    """Exercise 6: a q(y|x) = N(slope · x, variance) with which vCLUB lies below the mutual information.

    x and y are standard normal with correlation rho; the closed forms are those of `sea.analysis.gaussians`.
    """
    _report("broken bound", _judge_broken_bound, rho, slope, variance)


def _report(name: str, judge: Callable, *answers: object) -> None:
    try:
        print(f"{name}: right. {judge(*answers)}".rstrip())
    except _HintError as hint:
        print(f"{name}: {hint}")


def _need(right: bool, hint: str) -> None:
    if not right:
        raise _HintError(hint)


def _call(function: Function, *arguments: object, shape: tuple = ()) -> np.ndarray:
    """What the student's function returns, as an array of that shape; anything else is a hint."""
    copies = [one.copy() if isinstance(one, np.ndarray) else one for one in arguments]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = function(*copies)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        raise _HintError(f"your function stops with {type(error).__name__}: {lines[0]}") from None
    _need(value is not None, "no answer yet (it returns None).")
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise _HintError(f"it needs to return numbers (got a {type(value).__name__}).") from None
    wanted = f"an array of shape {shape}" if shape else "one number"
    got = f"shape {array.shape}" if array.shape else "one number"
    _need(array.shape == shape, f"it needs to return {wanted} (got {got}).")
    return array


def _recognise(value: float, true: float, mistakes: dict[str, float], otherwise: str) -> None:
    """Raise the hint of the mistake whose result `value` is, unless it is the true one."""
    if math.isclose(value, true, rel_tol=1e-5, abs_tol=1e-9):
        return
    for hint, wrong in mistakes.items():
        _need(not math.isclose(value, wrong, rel_tol=1e-5), hint)
    raise _HintError(f"{otherwise} (got {value:.5g}, needs to be {true:.5g}).")


def _judge_pdf(pdf: Function) -> str:
    theta = np.linspace(0, math.pi, 20_001)
    for n in (3, 4, 8, 64):
        density = _call(pdf, theta, n, shape=theta.shape)
        inner = theta[2_000:-2_000:1_000]
        inside = _call(pdf, inner, n, shape=inner.shape)
        _need(bool(np.isfinite(inside).all()), f"some values are not finite at n = {n}.")
        _need(bool((inside >= 0).all()), f"a density is never negative, and yours is at n = {n}.")
        _need(bool((inside > 0).any()), f"your density is zero everywhere at n = {n}.")
        power = np.polyfit(np.log(np.sin(inner)), np.log(np.maximum(inside, 1e-300)), 1)[0]
        _judge_power(round(power) - n, n)
        total = np.trapezoid(density, theta)
        why = " Does θ run from 0 to π in your constant, or only to π/2?" if abs(total - 2) < 0.01 else ""
        why = " Is your density one per degree? θ is in radians." if abs(total * 180 / math.pi - 1) < 0.01 else why
        _need(abs(total - 1) < 1e-3, f"your density integrates to {total:.3g} at n = {n}.{why}")
        for angle in (2_000, 8_000, 13_000):
            got = np.trapezoid(density[: angle + 1], theta[: angle + 1])
            tail = stats.beta.sf(np.cos(theta[angle]) ** 2, 0.5, (n - 1) / 2) / 2  # P(cos θ > |c|)
            true = tail if theta[angle] < math.pi / 2 else 1 - tail
            place = f"P(θ < {theta[angle]:.3f}) at n = {n}"
            _need(abs(got - true) < 1e-3, f"{place} comes out as {got:.4f}, and needs to be {true:.4f}.")
    flat = _call(pdf, np.array([0.5, 2.0]), 2, shape=(2,))
    _need(np.allclose(flat, 1 / math.pi, rtol=1e-3), "in the plane (n = 2) every angle is equally likely: 1/π.")
    wide = _call(pdf, np.array([math.pi / 2]), 1_000, shape=(1,))[0]
    peak = stats.norm.pdf(0, scale=1_000**-0.5)
    hint = f"at n = 1000 its peak is {wide:.4g}, and needs to be {peak:.1f}. Γ overflows there: subtract logarithms, "
    _need(abs(wide - peak) < 0.01 * peak, hint + "with math.lgamma, before you take exp.")
    return "It agrees with the Beta law at n = 3, 4, 8 and 64, and is finite at n = 1000."


def _judge_power(excess: int, n: int) -> None:
    """The power of the sine needs to be n - 2, so `excess` over n needs to be -2."""
    got = f"your density goes with sin^{n + excess} θ at n = {n}, and needs sin^{n - 2} θ."
    jacobian = "That is the density of the cosine: going from c = cos θ to θ gives one more factor, |dc| = sin θ dθ."
    strips = "The points at angle θ form a sphere of n - 2 dimensions and radius sin θ."
    _need(excess == -2, f"{got} {jacobian if excess == -3 else strips}")


def _judge_effective_dimension(effective_dimension: Function) -> str:
    rng = np.random.default_rng(1)
    cosine = rng.uniform(0.05, 0.6, 400)
    frame = np.linalg.qr(rng.standard_normal((400, 6, 2)))[0]  # two orthonormal vectors of R^6 for each pair
    a = frame[:, :, 0] * rng.uniform(0.5, 2, (400, 1))
    b = (cosine[:, None] * frame[:, :, 0] + np.sqrt(1 - cosine**2)[:, None] * frame[:, :, 1]) * 3
    got = float(_call(effective_dimension, a, b))
    true = 1 / np.mean(cosine**2)
    first, second = a.T @ a / 400, b.T @ b / 400
    unit_a, unit_b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))
    everyone = (unit_a @ unit_b.T) ** 2
    mistakes = {
        "you forgot to normalise the rows: a cosine is the product of unit vectors.": 1 / ((a * b).sum(1) ** 2).mean(),
        "that is the mean squared cosine. The effective dimension is one over it.": 1 / true,
        "that is one over the squared mean. Square each cosine first, then take the mean.": 1 / cosine.mean() ** 2,
        "that is one over the mean cosine. The cosines need a square.": 1 / cosine.mean(),
        "that is the mean of 1/cos². Take the mean of cos² first, then one over it.": np.mean(cosine**-2),
        "tr(A)tr(B)/tr(AB) is a ratio of means: long rows count more. Normalise the rows, then average cos².": (
            np.trace(first) * np.trace(second) / np.trace(first @ second)
        ),
        "you averaged over all pairs of rows. Row i of a belongs to row i of b alone.": 1 / everyone.mean(),
    }
    _recognise(got, true, mistakes, "the pairs have known angles, and 1 / mean cos² is not what you return")
    return "It finds 1 / mean cos² on pairs of known angles."


def _judge_twins(twin: Function, back: Function) -> str:
    u = np.random.default_rng(2).standard_normal((200, 8))
    v = _call(twin, u, shape=u.shape)
    _need(bool(np.isfinite(v).all()), "some values of twin(u) are not finite.")
    length = np.linalg.norm(v, axis=1)
    _need(bool((length > 1e-9).all()), "the zero vector is orthogonal to everything, and says nothing of u.")
    cosine = np.abs((u * v).sum(1)) / (length * np.linalg.norm(u, axis=1))
    _need(
        cosine.max() < 1e-6,
        f"twin(u) is not orthogonal to u: the largest |cosine| is {cosine.max():.2f}. It needs to be 0 in every row.",
    )
    alone = np.concatenate([_call(twin, row[None], shape=(1, 8)) for row in u[:5]])
    hint = "twin(u) of one row is different when it is computed again or alone: it is no function of that row."
    _need(np.allclose(alone, v[:5]), hint)
    again = _call(back, v, shape=u.shape)
    hint = "back(twin(u)) is not u: something of u is lost, so the two parts do not share everything."
    _need(np.allclose(again, u), hint)
    return "Cosine 0 in every row, and each part is a function of the other."


def _judge_club(club: Function) -> str:
    rng = np.random.default_rng(3)
    g, noise = rng.standard_normal((2, 300, 4))
    u = 0.8 * g + 0.6 * noise
    mu, logvar = 0.8 * g + 0.1 * rng.standard_normal(g.shape), np.log(0.36) + 0.2 * rng.standard_normal(g.shape)
    got = float(_call(club, mu, logvar, u))
    again = float(_call(club, mu, logvar, u))
    hint = "two calls give two results. Average over all pairs (i, j) in place of one random permutation."
    _need(got == again, hint)
    pairs = stats.norm.logpdf(u, mu[:, None], np.exp(logvar / 2)[:, None]).sum(2)  # log q(u_j | g_i), (i, j)
    paired, everyone = pairs.diagonal().mean(), pairs.mean()
    others = (pairs.sum() - pairs.trace()) / (300 * 299)
    as_scale = stats.norm.logpdf(u, mu[:, None], np.exp(logvar)[:, None]).sum(2)
    true = paired - everyone
    mistakes = {
        "the sign is turned: the pairs (i, i) come first, and all pairs are subtracted.": -true,
        "that is the first expectation alone. Subtract the mean over all pairs (i, j).": paired,
        "the diagonal is missing: p(g)p(u) is over all N² pairs, i = j included.": paired - others,
        "you took the mean over the d coordinates. log q is their sum.": true / 4,
        "it is twice the right value: the exponent of a normal density has a factor ½.": 2 * true,
        "it is N times the right value: take the mean over items, not the sum.": 300 * true,
        "exp(logvar) is the variance σ², not the scale σ.": as_scale.diagonal().mean() - as_scale.mean(),
    }
    least = gaussians.mutual_information(0.8, 4)
    below = f"your bound lies below the mutual information of {least:.2f} nats. "
    below += "Did you average log q over the pairs (i, i) first, and over all (i, j) then?"
    _need(not got < least or any(math.isclose(got, wrong, rel_tol=1e-5) for wrong in mistakes.values()), below)
    _recognise(got, true, mistakes, "it is not the mean over the pairs (i, i) less the mean over all pairs")
    return "It agrees with the double loop over all pairs."


def _judge_solosim(solosim: Function) -> str:
    rng = np.random.default_rng(4)
    text = rng.standard_normal((50, 6)) * rng.uniform(0.5, 2, (50, 1))
    image = text + rng.standard_normal((50, 6))
    got = float(_call(solosim, text, image, 0.5))
    true = _contrast(_cosines(text, image) / 0.5)
    raw, cosine = text @ image.T, _cosines(text, image)
    apart = cosine / 0.5 - np.diag(np.full(50, np.inf))
    without = np.mean([np.logaddexp.reduce(apart[i]) - cosine[i, i] / 0.5 for i in range(50)])
    other_way = _contrast(cosine.T / 0.5)
    mistakes = {
        "you forgot to normalise the rows: Eq. (16) has hats, unit vectors.": _contrast(raw / 0.5),
        "the diagonal is missing: the sum over j has the item itself in it.": without,
        "the sum runs over the texts. It needs to run over the images j, for each text i.": other_way,
        "that is the mean of both directions, InfoNCE. SoloSim has one.": (true + other_way) / 2,
        "you multiplied by τ. Divide by it.": _contrast(cosine * 0.5),
        "the temperature is missing: divide the cosines by τ.": _contrast(cosine),
        "the sign is turned: a loss is minus the mean logarithm.": -true,
        "that is the sum over items. Take the mean.": 50 * true,
    }
    _need(math.isfinite(got), "it is not finite.")
    _recognise(got, true, mistakes, "it is not -mean log softmax at the item itself")
    cold = float(_call(solosim, text, image, 0.001))
    hint = "at τ = 0.001 it is not finite: exp overflows. Take the row's largest logit off first."
    _need(math.isclose(cold, _contrast(cosine / 0.001), rel_tol=1e-5), hint)
    return "It agrees with the loop over items, and is finite at τ = 0.001."


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


def _contrast(logits: np.ndarray) -> float:
    return float(np.mean([np.logaddexp.reduce(row) - row[i] for i, row in enumerate(logits)]))


def _judge_broken_bound(rho: float | None, slope: float | None, variance: float | None) -> str:
    _need(None not in (rho, slope, variance), "no answer yet.")
    try:
        rho, slope, variance = float(rho), float(slope), float(variance)
    except (TypeError, ValueError):
        raise _HintError("rho, slope and variance need to be numbers.") from None
    _need(abs(rho) < 1, f"rho is a correlation and needs to lie between -1 and 1 (got {rho:g}).")
    _need(0 < variance < math.inf and math.isfinite(slope), f"variance needs to be above 0 (got {variance:g}).")
    _need(rho != 0, "with rho = 0 nothing is shared: the mutual information is 0, and vCLUB is 0 for every q.")
    information = float(gaussians.mutual_information(rho, 1))
    bound = float(gaussians.variational_club(rho, 1, slope, math.sqrt(variance)))
    numbers = f"vCLUB is {bound:.4f} nats, the mutual information {information:.4f}."
    known = math.isclose(slope, rho) and math.isclose(variance, 1 - rho**2)
    truth = " Your q is the true conditional, and with that one CLUB is an upper bound. Make q wrong." if known else ""
    _need(bound < information, f"{numbers} Still an upper bound.{truth or ' Which way lowers slope · rho / variance?'}")
    fit = [float(kl(rho, 1, slope, math.sqrt(variance))) for kl in (gaussians.kl_product, gaussians.kl_joint)]
    condition = "Theorem 2 asks for KL(p(x)p(y) ‖ q) ≥ KL(p(x,y) ‖ q)"
    return f"{numbers} {condition}, and here they are {fit[0]:.3f} and {fit[1]:.3f}."
