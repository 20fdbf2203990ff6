"""The paper's claims as differences that have to be above zero, and what came out, in the words of `sea.statistics`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from sea import data, reported, statistics
from sea.analysis import parts as parts_of
from sea.data import DATA, is_planted
from sea.models import SIMPLE, TRAINED
from sea.statistics import CONTRADICTED, HOLDS, UNCLEAR, UNTESTED, Estimate, every
from sea.study import CHOSEN, FLEXIBILITY, GENERALIZATION, INACTIVE, LOGGED, RELEASED, SWEEP, Study
from sea.train import MONITOR

FIGURES = DATA.parent / "figures"
ACTING = 1e-3
"""Where a plug-in's only way to the ranking is a term of less than this share of BPR's, its effect was not tested."""
SEPARATING, ALIGNING = ("MICRO", "PAMD", "MGCN"), ("MMGCN", "MMSSL", "BM3")
"""Obs. 2's methods that distinguish the generic and the unique, and its methods that don't, as the paper names them."""

SAYS = {
    "Theorem 1": "the angle of two random vectors has the density (1)",
    "Corollary 1": "its variance is about 1/n, so the angles close in on 90 degrees",
    "Question 1": "subtraction does not yield the modal-unique part",
    "Question 2": "an orthogonality constraint asks for what random vectors have anyway",
    "Theorem 2": "CLUB is an upper bound of mutual information, with a learned q too if a condition on it holds",
    "Obs. 1": "SEA is better than all baselines",
    "Obs. 2": "methods that separate are better than most that only align",
    "Obs. 3": "each module has a beneficial effect",
    "Obs. 4": "the modules combine to yield better performance",
    "Obs. 5": "performance rises with α, β and τ, then falls",
    "Con. 1": "a plug-in that improves other models",
    "Con. 2": "four combinations, each optimal or sub-optimal",
    "Con. 3, results": "better results than orthogonal constraints give",
    "Con. 3, parts": "higher quality parts (here: CLUB makes them share less, and separate the true factors)",
}
"""The claims in the paper's order, in few words."""
THEORY = ("Theorem 1", "Corollary 1", "Question 1", "Question 2", "Theorem 2")
"""Those of them that need no dataset."""

LOOK = {
    "Theorem 1": "02_orthogonality",
    "Corollary 1": "02_orthogonality",
    "Question 1": "03_subtraction",
    "Question 2": "02_orthogonality",
    "Theorem 2": "05_mutual_information",
    "Obs. 1": "08_comparison",
    "Obs. 2": "08_comparison",
    "Obs. 3": "09_ablation",
    "Obs. 4": "09_ablation",
    "Obs. 5": "10_sensitivity",
    "Con. 1": "11_generalization",
    "Con. 2": "16_claims",
    "Con. 3, results": "12_flexibility",
    "Con. 3, parts": "12_flexibility",
}
"""The notebook that measures each claim."""


def better_than_all(s: Study, reference: str = "SEA", metric: str = MONITOR) -> dict[str, Estimate]:
    """Obs. 1: SEA above each baseline."""
    return _leads(s, reference, baselines(s), metric)


def better_than_simple(s: Study, reference: str = "SEA", metric: str = MONITOR) -> dict[str, Estimate]:
    """A question that the paper does not ask: SEA above each of the models that need no training, `SIMPLE`."""
    return _leads(s, reference, [name for name in SIMPLE if s.records.get(name)], metric)


def _leads(s: Study, reference: str, names: Iterable[str], metric: str) -> dict[str, Estimate]:
    return {f"{reference} - {name}": s.estimate({reference: 1, name: -1}, metric) for name in names}


def against_all(s: Study, estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The same estimates, and one without a word for each of the paper's baselines that the study has no run of.

    One baseline can contradict a claim about all of them. But those that are here can't prove it for the others. Where
    no word but "can't tell" could come out anyway, nothing is added, so that the claim hangs on what was measured.
    """
    if every(estimates)[0] in (CONTRADICTED, UNCLEAR):
        return dict(estimates)
    return dict(estimates) | _absent(s)


def _absent(s: Study) -> dict[str, Estimate]:
    """What stands for the leads over those of the paper's baselines that a study has no run of."""
    known = {r.settings.model for found in s.records.values() for r in found}
    names = [name for name in TRAINED if "SEA" not in name and name not in known]
    return {f"a lead over {name}": statistics.missing(f"no run of {name}") for name in names}


def baselines(s: Study) -> list[str]:
    """The variants of a study whose model is in the paper and has none of SEA's losses."""
    models = {name: found[0].settings.model for name, found in s.records.items() if found}
    return [name for name, model in models.items() if "SEA" not in model and model not in SIMPLE]


def separating(s: Study, metric: str = MONITOR) -> dict[str, Estimate]:
    """Obs. 2: the methods that separate above those that align, the method being the unit; all six of them."""
    return {f"{', '.join(SEPARATING)} - {', '.join(ALIGNING)}": s.groups(SEPARATING, ALIGNING, metric)}


def each_module(s: Study, metric: str = MONITOR) -> dict[str, Estimate]:
    """Obs. 3: alignment alone, and distancing alone, above neither."""
    return {
        "alignment, added to nothing": s.estimate({"w/o Distancing": 1, "w/o All": -1}, metric),
        "distancing, added to nothing": if_active(
            s, "w/o Alignment", s.estimate({"w/o Alignment": 1, "w/o All": -1}, metric)
        ),
    }


def together(s: Study, metric: str = MONITOR) -> dict[str, Estimate]:
    """Obs. 4: both modules above each alone."""
    return {
        "alignment, added to distancing": s.estimate({"SEA": 1, "w/o Alignment": -1}, metric),
        "distancing, added to alignment": if_active(s, "SEA", s.estimate({"SEA": 1, "w/o Distancing": -1}, metric)),
    }


def interaction(s: Study, metric: str = MONITOR) -> Estimate:
    """SEA - w/o Distancing - w/o Alignment + w/o All: above zero if the modules help each other."""
    weights = {"SEA": 1, "w/o Distancing": -1, "w/o Alignment": -1, "w/o All": 1}
    return if_active(s, "SEA", s.estimate(weights, metric))


def if_active(s: Study, name: str, estimate: Estimate) -> Estimate:
    """The estimate, without a word where the distancing term was at rest in most batches of `name`, see `INACTIVE`."""
    share = s.active(name)
    if estimate.untested or not share < INACTIVE:
        return estimate
    return statistics.untested(estimate, f"the distancing of {name} is above zero in only {share:.1%} of the batches")


def rise_and_fall(s: Study, parameter: str, metric: str = MONITOR) -> dict[str, Estimate]:
    """Obs. 5: a value between the ends above both ends. The value is the one that validation prefers among them.

    Were it chosen by the same test metric, its lead would be too large by construction. Values are compared by their
    differences from the first end: on planted worlds a value may have more worlds than another, and a world moves the
    mean by more than a setting does.
    """
    names = [f"{parameter} {value:g}" for value in SWEEP[parameter]]
    names = [name if name in s.records else "released" for name in names]
    within = [name for name in names[1:-1] if s.records[name]]
    if not within:
        return {f"{parameter}: no value between the ends": statistics.missing("no run between the ends")}
    peak = max(within, key=lambda name: s.estimate({name: 1, names[0]: -1}, metric, "valid").difference)
    ends = {end: s.estimate({peak: 1, end: -1}, metric) for end in (names[0], names[-1])}
    if parameter == "beta":
        ends = {end: if_active(s, peak, one) for end, one in ends.items()}
    return {f"{peak} - {end} ({parameter})": one for end, one in ends.items()}


def plugged_in(s: Study, pairs: Mapping[str, str] = GENERALIZATION, metric: str = MONITOR) -> dict[str, Estimate]:
    """Con. 1: each model with the plug-in above the same without.

    A model that ranks worse than `Popular` has learned next to nothing, so that what improves on it says nothing. And a
    plug-in that reaches the ranking through a term of next to no size has not been tried, see `ACTING`.

    Args:
        pairs: by the name of the variant without, the one with the plug-in.
    """
    found = {}
    for plain, plugged in pairs.items():
        if {plain, plugged} <= set(s.records):
            one = s.estimate({plugged: 1, plain: -1}, metric)
            reason = _below_popular(s, plain, metric) or _cannot_act(s, plugged)
            found[f"{plugged} - {plain}"] = statistics.untested(one, reason) if reason and not one.untested else one
    return found


def _below_popular(s: Study, plain: str, metric: str) -> str:
    below = bool(s.records.get("Popular")) and s.estimate({"Popular": 1, plain: -1}, metric).difference > 0
    return f"{plain} is below Popular" if below else ""


def _cannot_act(s: Study, plugged: str) -> str:
    """Why a plug-in on FREEDOM can't act: the size of λ's term beside BPR's, the mean at the kept epochs."""
    kept = [record.history[record.best_epoch] for record in s.records[plugged] if record.metrics]
    shares = [abs(epoch["loss/content"]) / epoch["loss/rec"] for epoch in kept if "loss/content" in epoch]
    share = sum(shares) / len(shares) if shares else 1.0
    return f"{plugged} acts through a term of {share:.3%} of BPR's" if share < ACTING else ""


def combined(s: Study, combinations: Iterable[str], metric: str = MONITOR) -> dict[str, dict[str, Estimate]]:
    """Con. 2, "optimal or sub-optimal": by combination, its leads over each baseline, at most one of them below zero.

    `sea.statistics.first_or_second` judges them.
    """
    return {name: _leads(s, name, baselines(s), metric) for name in combinations}


def orthogonal(s: Study, metric: str = MONITOR) -> dict[str, Estimate]:
    """Con. 3 by its results: SEAa above subtraction and an orthogonality penalty on the same encoder."""
    weights = {"SEAa": 1, "SoloSim + orthogonal": -1}
    return {"SEAa - SoloSim + orthogonal": if_active(s, "SEAa", s.estimate(weights, metric))}


def judge(claim: str, estimates: Mapping[str, Estimate], settings: str = "") -> dict[str, object]:
    """A row of the claims table: the word for all estimates together, and the numbers of the one that it hangs on.

    Args:
        claim: a name in `SAYS`.
        settings: at which of SEA's settings.
    """
    word, label = every(estimates)
    return _row(claim, settings, label, len(estimates), estimates[label], word)


def judge_second(claim: str, s: Study, combinations: Iterable[str], settings: str = "") -> dict[str, object]:
    """A row of the claims table, as `judge` makes it, for a claim that allows a second place."""
    leads = combined(s, combinations)
    if len(baselines(s)) < 2:
        one = statistics.missing("fewer than two baselines")
        return _row(claim, settings, "the baselines", 0, one, one.word)
    word, hangs_on, label = statistics.first_or_second(leads)
    if word == HOLDS and (absent := _absent(s)):
        word, (label, hangs_on) = UNTESTED, next(iter(absent.items()))
    return _row(claim, settings, label, sum(map(len, leads.values())), hangs_on, word)


def _row(claim: str, settings: str, label: str, pairs: int, hangs_on: Estimate, word: str) -> dict[str, object]:
    head = {"claim": claim, "settings": settings, "the paper says": SAYS[claim], "measured": label, "pairs": pairs}
    return head | hangs_on.row() | {"word": hangs_on.worded(word)}


def sentence(row: Mapping[str, object], where: str) -> str:
    """What a row of `judge`, or of the claims table, says, in words.

    Args:
        where: the dataset's name.
    """
    settings = f", {row['settings']}" if row["settings"] else ""
    place = f" on {where}{settings}" if row["runs"] >= 0 else ""  # theory needs no data
    start = f"{row['claim']}{place}: {row['word']}. {row['measured']}"
    size = statistics.effect(row)
    return f"{start}: {size}." if size else f"{start}."


def table(
    compared: Mapping[str, Study],
    columns: Mapping[str, Study],
    swept: Study,
    parts: Mapping[str, Mapping[str, Estimate]],
) -> pd.DataFrame:
    """All observations and conclusions, judged, those on SEA's own variants at each of its settings.

    Args:
        compared: by settings, every model on an equal footing with SEA at these settings: tuned, if SEA is. Claims
            that are not about SEA's settings are judged by the last.
        columns: by settings, the variants of the ablation and of the four combinations.
        swept: the variants of `sea.study.sweep`.
        parts: by settings, the estimates of what CLUB does to the parts.

    Returns:
        A row for each claim and setting. "CLUB active, %" is the share of SEA's batches in which its estimate was above
        zero.
    """
    best = list(compared.values())[-1]
    rows = [judge("Obs. 2", separating(best))] if set(SEPARATING + ALIGNING) <= set(best.records) else []
    for settings, s in columns.items():
        others = compared[settings]
        both = Study({name: others.records[name] for name in baselines(others)} | s.records, {}, s.planned)
        if baselines(others) and bool(others.searched) == bool(s.searched):
            rows.append(judge("Obs. 1", against_all(both, better_than_all(both)), settings))
            rows.append(judge_second("Con. 2", both, list(FLEXIBILITY)[:4], settings))
        rows.append(judge("Obs. 3", each_module(s), settings))
        rows.append(judge("Obs. 4", together(s), settings))
        rows.append(judge("Con. 3, results", orthogonal(s), settings))
        if parts.get(settings):
            rows.append(judge("Con. 3, parts", parts[settings], settings))
    shapes = {k: e for parameter in ("alpha", "beta", "tau") for k, e in rise_and_fall(swept, parameter).items()}
    rows.append(judge("Obs. 5", shapes))
    if plugs := plugged_in(best):
        rows.append(judge("Con. 1", plugs))
    order = list(SAYS)
    found = pd.DataFrame(rows)
    active = {settings: 100 * s.active("SEA") for settings, s in columns.items()}
    found["CLUB active, %"] = found["settings"].map(active)
    return found.sort_values("claim", key=lambda names: names.map(order.index), kind="stable").set_index("claim")


def lines(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """The lines of a forest of several datasets: the claims in the paper's order, each with its settings below it.

    Args:
        tables: by dataset, as `table` makes them.

    Returns:
        Pairs of claim and settings. Each claim has first a line ("Obs. 1", "") of its own, where its words can stand.
    """
    known = {pair for found in tables.values() for pair in zip(found.index, found["settings"])}
    claims = [claim for claim in SAYS if any(claim == one for one, _ in known)]
    return [(c, s) for c in claims for s in ("", RELEASED, LOGGED, CHOSEN) if s == "" or (c, s) in known]


def side_by_side(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What came out of each claim on each dataset: the word, the effect, the smallest difference that would have been
    seen, and the number of trainings; "" where nothing was asked.

    Args:
        tables: by dataset, as `table` makes them.

    Returns:
        A row for each claim and setting, a column for each dataset.
    """
    columns = {
        name: {(row["claim"], row["settings"]): _in_full(row) for row in found.reset_index().to_dict("records")}
        for name, found in tables.items()
    }
    rows = [pair for pair in lines(tables) if any(pair in column for column in columns.values())]
    index = pd.MultiIndex.from_tuples(rows, names=["claim", "settings"])
    return pd.DataFrame({name: [column.get(pair, "") for pair in rows] for name, column in columns.items()}, index)


def outcome(row: Mapping[str, object]) -> str:
    """A row's word, and its effect where there is an interval."""
    effect = f" ({row['percent']:+.1f} ± {row['percent ±']:.1f} %)" if row["percent ±"] >= 0 else ""
    return f"{row['word']}{effect}"


def _in_full(row: Mapping[str, object]) -> str:
    seen = f", detectable {row['detectable, %']:.1f} %" if row["detectable, %"] >= 0 else ""
    return f"{outcome(row)}{seen}, {row['runs']:.0f} runs" if row["runs"] else outcome(row)


def printed() -> dict[str, float]:
    """The paper's own effects on Baby, in percent of what is subtracted, by claim; each on the least favourable pair.

    Of Obs. 3 to 5 and Con. 3 the paper prints no numbers.
    """
    two = reported.table(2).query("dataset == 'baby'").set_index("method")[MONITOR]
    three = reported.table(3).set_index("method")[MONITOR]
    four = reported.table(4).set_index("variant")[MONITOR]
    rest = two.drop("SEA").sort_values()
    kinds = two[list(SEPARATING)].mean(), two[list(ALIGNING)].mean()
    pairs = {
        "Obs. 1": (two["SEA"], rest.iloc[-1]),
        "Obs. 2": kinds,
        "Con. 1": min(
            ((three[plugged], three[plain]) for plain, plugged in GENERALIZATION.items()), key=lambda p: p[0] / p[1]
        ),
        "Con. 2": (four.min(), rest.iloc[-2]),
    }
    return {claim: 100 * (upper / lower - 1) for claim, (upper, lower) in pairs.items()}


def parts(s: Study) -> dict[str, Estimate]:
    """Con. 3 by its parts: what CLUB's weight does to them, against the same training with β = 0 (`sea.study.TWINS`).

    The information that generic and unique part share has to fall, on 16 components of each, by the estimate that is
    best on Gaussians of known information; and where the true factors are known, on planted worlds, the parts'
    separation has to rise.
    """
    fall = {"β = 0": 1, "with CLUB": -1}
    told = "fall of the information in nats, with CLUB against β = 0"
    found = {told: s.measured(fall, "shared information", parts_of.shared, "16 components")}
    if is_planted(s.dataset):
        rise = {"with CLUB": 1, "β = 0": -1}
        told = "rise of the separation, with CLUB against β = 0"
        found[told] = s.measured(rise, "composition", parts_of.composition, "separation")
    return {told: if_active(s, "with CLUB", one) for told, one in found.items()}


def changes_of_parts(s: Study) -> dict[str, dict[str, Estimate]]:
    """What CLUB does to the parts by every measure of them: with CLUB, minus the same training with β = 0.

    By kind: "information" that a modality's two parts share, in nats, which the paper needs to fall; on planted
    worlds "factors", the separation and the shares of a part's variance, and, in nats, what the parts tell "factor by
    factor" and the "decomposition" of what they tell about all; and test "recall" as trained and with a half of the
    transformed features the same for all items.
    """
    change = {"with CLUB": 1, "β = 0": -1}
    asked = {"information": ("shared information", parts_of.shared, parts_of.INFORMATION)}
    if is_planted(s.dataset):
        asked["factors"] = ("composition", parts_of.composition, parts_of.FACTORS)
        asked["factor by factor"] = ("told of each factor", parts_of.told_of_each, parts_of.OF_EACH)
        asked["decomposition"] = ("told about the factors", parts_of.told, parts_of.TOLD)
    asked["recall"] = ("without a half", parts_of.without, parts_of.HALVES)
    return {
        kind: {
            label: if_active(s, "with CLUB", s.measured(change, measure, compute, entry))
            for label, entry in entries.items()
        }
        for kind, (measure, compute, entries) in asked.items()
    }


def perfect(s: Study) -> dict[str, float]:
    """What perfect parts would tell, in the words of `changes_of_parts`: means over the worlds; empty on a real set."""
    if not is_planted(s.dataset):
        return {}
    seeds = {r.settings.seed for found in s.records.values() for r in found}
    each = pd.DataFrame([parts_of.of_perfect_parts(data.load(s.dataset, seed)) for seed in sorted(seeds)]).mean()
    return {label: float(each[entry]) for label, entry in (parts_of.TOLD | parts_of.OF_EACH).items()}


def load(dataset: str, folder: str | Path = FIGURES) -> pd.DataFrame:
    """The claims table that the last full run on a dataset left behind, by claim.

    Raises:
        FileNotFoundError: there is none.
    """
    found = pd.read_csv(Path(folder) / dataset / "claims.csv", keep_default_na=False, na_values=["nan", ""])
    text = found.columns.intersection(["settings", "measured", "word", "the paper says"])
    found[text] = found[text].fillna("")
    return found.set_index("claim")
