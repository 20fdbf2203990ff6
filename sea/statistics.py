"""From runs to a word: one estimand, one interval, and one rule for every verdict.

What is estimated is a difference of expected metrics, Σ_v w_v μ_v over variants v, with μ_v the mean of a metric over
two populations: all trainings of v, of which a study's seeds are a sample, and all users, of which the dataset's are.
On planted worlds the population is that of all worlds, each with a training and with users of its own.

A claim is cut down to one or several such differences that have to be above zero if the claim is true. `Estimate.word`
judges one of them, `every` all of a claim that says "all" or "each", `first_or_second` one that allows a second place.
The words:

    holds                            the 95 % interval is above zero; of several, each of them, or all but one where
                                     the claim allows an exception
    contradicted here                the interval is below zero; of several, one of them is, or two where one is
                                     allowed, after a correction for their number
    no difference beyond the margin  two one-sided tests place it within ± `MARGIN` of the reference's mean
    can't tell                       none of these, or fewer runs than were planned: `Estimate.few` says how many.
                                     Where all are there, `Estimate.detectable` is the smallest difference that they
                                     would have seen with a chance of `POWER`
    not tested                       there is nothing to judge by, `Estimate.untested` says why

The first three words are given once, when the runs are there that were planned. Who looks after every new run, and
stops when there is a word, finds one too often: with looks at 2 to 6 trainings in about 12 % of all cases where there
is nothing, in place of 5 %.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, stats

LEVEL, MARGIN, POWER = 0.95, 0.01, 0.8
"""Of the intervals; of "no difference", as a share of the reference's mean, about the paper's smaller effects; of what
could have been seen."""

HOLDS, CONTRADICTED, SAME = "holds", "contradicted here", "no difference beyond the margin"
UNCLEAR, UNTESTED = "can't tell", "not tested"
WORDS = (HOLDS, CONTRADICTED, SAME, UNCLEAR, UNTESTED)
TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True)
class Estimate:
    """A difference that a claim needs to be above zero.

    Attributes:
        difference: Σ w μ, estimated.
        error: its standard error; NaN where there is no telling.
        df: the degrees of freedom of Student's t that belong to it.
        reference: the mean in whose percent the difference is told.
        runs: how many trainings it rests on.
        untested: why no word can be given, "" if one can.
        few: how many runs are there of those that were planned, "" if all are. Until then nothing is decided.
    """

    difference: float
    error: float
    df: float
    reference: float
    runs: int
    untested: str = ""
    few: str = ""

    @property
    def half(self) -> float:
        """Half-width of the 95 % interval."""
        return float(stats.t.ppf(1 - TAIL, self.df) * self.error)

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.difference - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.difference + self.half

    @property
    def detectable(self) -> float:
        """The smallest difference whose interval would be above zero in a share `POWER` of all repeats.

        δ · standard error, with the standard error of these runs, and P(T > t_{.975}) = .8 for T of the noncentral t
        distribution with noncentrality δ. It is for this difference alone: a claim about several needs more.
        """
        if not self.df > 0:
            return np.nan
        limit = stats.t.ppf(1 - TAIL, self.df)
        return float(self.error * optimize.brentq(lambda d: stats.nct.sf(limit, self.df, d) - POWER, 0, 4 * limit))

    @property
    def p_below(self) -> float:
        """One-sided p-value of "not below zero": small where the difference is below."""
        return self._p(self.difference)

    @property
    def equivalent(self) -> bool:
        """Whether two one-sided tests at 5 % place the difference within the margin (Schuirmann, 1987)."""
        margin = MARGIN * abs(self.reference)
        return max(self._p(self.difference - margin), self._p(-self.difference - margin)) < 2 * TAIL

    def _p(self, difference: float) -> float:
        if self.error == 0:
            return 0.5 if difference == 0 else float(difference > 0)
        return float(stats.t.cdf(difference / self.error, self.df))

    @property
    def word(self) -> str:
        """One of `WORDS`, for a claim that needs this difference alone."""
        return every({"": self})[0]

    @property
    def told(self) -> str:
        """The effect in percent, its interval and its word, in a few words."""
        row = self.row()
        size = effect(row)
        return f"{row['word']} ({size})" if size else row["word"]

    def worded(self, word: str) -> str:
        """A word that was given, with the reason where this difference is one."""
        if word == UNTESTED:
            return f"{word} ({self.untested})"
        return f"{word}, {self.few}" if word == UNCLEAR and self.few else word

    def row(self) -> dict[str, object]:
        """What a table tells of it: absolute values, then percent of the reference's mean."""
        percent = 100 / self.reference if self.reference else np.nan
        return {
            "difference": self.difference,
            "±": self.half,
            "percent": self.difference * percent,
            "percent ±": self.half * abs(percent),
            "detectable, %": self.detectable * abs(percent),
            "runs": self.runs,
            "word": self.worded(self.word),
        }


def effect(row: Mapping[str, object]) -> str:
    """The effect of an `Estimate.row` in percent and its interval, in words; where they can't tell, also what could
    have been seen. "" if there is no interval.
    """
    if not row["percent ±"] >= 0:
        return ""
    seen = f"; a difference of {row['detectable, %']:.1f} % would have been seen in 4 of 5 such experiments"
    return f"{row['percent']:+.1f} ± {row['percent ±']:.1f} %{seen if row['word'] == UNCLEAR else ''}"


def table(estimates: Mapping[str, Estimate]) -> pd.DataFrame:
    """The `Estimate.row` of each, by label."""
    return pd.DataFrame.from_dict({label: one.row() for label, one in estimates.items()}, orient="index")


def every(estimates: Mapping[str, Estimate]) -> tuple[str, str]:
    """The word for a claim that needs each of the differences to be above zero, and the label of the one it hangs on.

    "Holds" if every interval is above zero: an intersection-union test, which needs no correction, as all have to
    pass. "Contradicted here" if one is below zero with a p-value that Holm's correction over all of them leaves below
    2.5 %, whatever the others are. Else "not tested" if one of them can't be judged. "No difference beyond the margin"
    if each that isn't above zero is within the margin. One that has fewer runs than planned decides nothing. The claim
    hangs on the one that contradicts it most clearly, or else, of those that keep it from holding, on the one whose
    interval reaches lowest.

    Raises:
        ValueError: there is none.
    """
    if not estimates:
        raise ValueError("'estimates' needs at least one in 'every' (got none)")
    judged = {label: one for label, one in estimates.items() if not one.untested}
    corrected = holm({label: 1.0 if one.few else one.p_below for label, one in judged.items()})
    clearest = min(corrected, key=lambda label: (corrected[label], estimates[label].difference), default="")
    if corrected.get(clearest, 1) < TAIL:
        return CONTRADICTED, clearest
    for label, one in estimates.items():
        if one.untested:
            return UNTESTED, label
    open_ones = {label: one for label, one in estimates.items() if one.few or one.low <= 0}
    lowest = min(open_ones or estimates, key=lambda label: estimates[label].low)
    if not open_ones:
        return HOLDS, lowest
    same = all(one.equivalent and not one.few for one in open_ones.values())
    return (SAME if same else UNCLEAR), lowest


def first_or_second(leads: Mapping[str, Mapping[str, Estimate]]) -> tuple[str, Estimate, str]:
    """The word for a claim that each of several methods is first or second, by its leads over n others.

    A method may be below one of the others, so the claim is about the second of its leads from below. It is below zero
    if two of them are: p = (n - 1) p_(2), where p_(k) is the k-th smallest of the n one-sided p-values of "not below
    zero", then Holm over the methods. It is above zero if all but one are: p = 2 p_(n-1), of the p-values of "not above
    zero". Which of the others come first or second is never asked, so that no chance in their order enters.

    Args:
        leads: by method, then by the label of each pair; two pairs at least.

    Returns:
        The word, "no difference" being none of them; the estimate that it hangs on, and its label: the second lead
        from below of the method that contradicts the claim most clearly, or else of the one with the least such lead.

    Source: Benjamini & Heller, Biometrics 2008, for the p-values of "at least so many of n" (by Bonferroni).
    """
    below, above, firm, seconds = {}, {}, {}, {}
    for method, found in leads.items():
        order = sorted((x for x in found if not found[x].untested), key=lambda label: found[label].p_below)
        firm[method] = [label for label in order if not found[label].few]
        p = [found[label].p_below for label in firm[method]]
        if len(order) > 1:
            below[method] = min(1.0, (len(order) - 1) * p[1]) if len(p) > 1 else 1.0
            above[method] = 2 * sorted([1.0] * (len(order) - len(p)) + [1 - one for one in p])[-2]
            few = found[order[1]].few or found[order[0]].few
            seconds[method] = replace(found[order[1]], few=few), order[1]
    corrected = holm(below)
    clearest = min(corrected, key=corrected.__getitem__, default="")
    if corrected.get(clearest, 1) < TAIL:
        label = firm[clearest][1]
        return CONTRADICTED, leads[clearest][label], label
    for label, one in ((label, one) for found in leads.values() for label, one in found.items()):
        if one.untested:
            return UNTESTED, one, label
    least = min(seconds, key=lambda method: seconds[method][0].low)
    return HOLDS if max(above.values()) < TAIL else UNCLEAR, *seconds[least]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: the k-th smallest of n p-values times n - k + 1, never below the one before.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    corrected, largest = {}, 0.0
    for rank, label in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[label]))
        corrected[label] = largest
    return {label: corrected[label] for label in p_values}


def crossed(weights: Mapping[str, float], values: Mapping[str, np.ndarray]) -> Estimate:
    """Estimate Σ w μ on one dataset: every training of a variant serves the same users, and trainings share nothing.

    With y_vsu the value of user u in training s of variant v, S_v trainings and U users,

        error² = Σ_v w_v² V_v / S_v + W / U - Σ_v w_v² R_v / (S_v U)
        V_v = var_s(ȳ_vs.)      W = var_u(Σ_v w_v ȳ_v.u)      R_v the mean square of y_vsu - ȳ_vs. - ȳ_v.u + ȳ_v..

    The last sum takes off what both of the others hold, the chance of one user in one training; the whole is at least
    as large as either of the two. Degrees of freedom by Satterthwaite. The seeds of two variants are not paired: they
    share batches and negatives, which hardly move a result, and a pairing costs degrees of freedom.

    Args:
        values: by variant, shape (S_v, U), of the variants in `weights` at least. A variant of one training leaves the
            users alone, and no word.

    Source: Cornfield & Tukey, Annals of Mathematical Statistics 1956, for the components of a crossed design.
    """
    reference, runs = _reference(weights, {v: values[v].mean() for v in weights}), sum(len(values[v]) for v in weights)
    difference = float(sum(w * values[v].mean() for v, w in weights.items()))
    users = sum(w * values[v].mean(0) for v, w in weights.items())
    components = [(users.var(ddof=1) / len(users), len(users) - 1)]
    for v, w in weights.items():
        seeds, count = values[v].shape
        if seeds > 1:
            components.append((w**2 * values[v].mean(1).var(ddof=1) / seeds, seeds - 1))
            left = values[v] - values[v].mean(1, keepdims=True) - values[v].mean(0) + values[v].mean()
            freedom = (seeds - 1) * (count - 1)
            components.append((-(w**2) * (left**2).sum() / freedom / (seeds * count), freedom))
    over_users = components[0][0]
    over_seeds = sum(part for part, _ in components[1:] if part > 0)
    variance = max(sum(part for part, _ in components), over_users, over_seeds)
    single = [v for v in weights if len(values[v]) == 1]
    untested = f"one seed of {single[0]}" if single else ""
    return Estimate(
        difference, float(np.sqrt(variance)), _satterthwaite(variance, components), reference, runs, untested
    )


def by_world(weights: Mapping[str, float], means: Mapping[str, Mapping[int, float]]) -> Estimate:
    """Estimate Σ w μ over worlds: each has its own training and users, and variants are paired by world.

    Args:
        means: by variant, then by world, the metric's mean over the users. Worlds that one of the variants lacks are
            left out; of one world there is no interval, and no word.
    """
    worlds = sorted(set.intersection(*(set(means[v]) for v in weights)))
    if not worlds:
        return missing("no world has all of them")
    table = np.array([[means[v][world] for world in worlds] for v in weights])
    each = np.array(list(weights.values())) @ table  # (worlds,)
    reference, runs = _reference(weights, dict(zip(weights, table.mean(1)))), table.size
    if len(worlds) == 1:
        return Estimate(float(each[0]), np.nan, np.nan, reference, runs, "one world")
    return Estimate(float(each.mean()), float(stats.sem(each)), len(worlds) - 1, reference, runs)


def groups(first: Sequence[float], second: Sequence[float], runs: int = 0) -> Estimate:
    """Estimate by how much methods of one kind exceed those of another: the method is the unit, by Welch's test.

    Args:
        first, second: the expected metric of each method. How well each is known is part of their spread.
    """
    if min(len(first), len(second)) < 2:
        return missing("fewer than two of a kind")
    parts = [(np.var(x, ddof=1) / len(x), len(x) - 1) for x in (first, second)]
    variance = sum(part for part, _ in parts)
    difference = float(np.mean(first) - np.mean(second))
    return Estimate(difference, float(np.sqrt(variance)), _satterthwaite(variance, parts), float(np.mean(second)), runs)


def missing(reason: str) -> Estimate:
    """What stands for a difference that can't be estimated."""
    return Estimate(np.nan, np.nan, np.nan, np.nan, 0, reason)


def untested(estimate: Estimate, reason: str) -> Estimate:
    """The same estimate, with the reason why it allows no word."""
    return replace(estimate, untested=reason)


def _reference(weights: Mapping[str, float], means: Mapping[str, float]) -> float:
    """The mean of what is subtracted; of a sum without a subtraction, the sum itself."""
    below = {v: -w for v, w in weights.items() if w < 0} or dict(weights)
    return float(sum(w * means[v] for v, w in below.items()) / sum(below.values()))


def _satterthwaite(variance: float, parts: Sequence[tuple[float, int]]) -> float:
    """variance² / Σ part² / freedom: the degrees of freedom of a sum of independent mean squares."""
    spread = sum(part**2 / freedom for part, freedom in parts)
    return float(variance**2 / spread) if spread else float(sum(freedom for _, freedom in parts))


def interval(rows: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """Mean of every other column over the rows that agree in `by`, each followed by its 95 % t-interval's half-width.

    The half-width's column ends in "±". One row alone has no interval: NaN.
    """
    groups = rows.groupby(by, sort=False)
    count = groups.size()
    quantile = pd.Series(stats.t.ppf(0.975, (count - 1).where(count > 1)), count.index)
    half = groups.std().mul(quantile / np.sqrt(count), axis=0)
    mean = groups.mean()
    columns = [column for name in mean.columns for column in (name, f"{name} ±")]
    return mean.join(half.add_suffix(" ±"))[columns]


def slope(x: pd.Series, y: pd.Series, group: Iterable[object]) -> tuple[float, float]:
    """Slope of y over x within groups, Σ x' y' / Σ x'², and its 95 % t-interval's half-width.

    x' and y' are the values less the mean of their group, each of which costs a degree of freedom. NaN where x does not
    change within a group, or where no degree of freedom is left.
    """
    group = np.asarray(list(group))
    x, y = (values.groupby(group).transform(lambda one: one - one.mean()).to_numpy() for values in (x, y))
    freedom = len(x) - len(set(group)) - 1
    if not (x**2).sum():
        return np.nan, np.nan
    steep = (x * y).sum() / (x**2).sum()
    if freedom < 1:
        return float(steep), np.nan
    error = np.sqrt(((y - steep * x) ** 2).sum() / freedom / (x**2).sum())
    return float(steep), float(stats.t.ppf(1 - TAIL, freedom) * error)
