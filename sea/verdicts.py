"""The paper's claims as differences that have to be above zero, and what came out, in the words of `sea.statistics`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from sea import published, reported, statistics
from sea.analysis import parts as parts_of
from sea.data import DATA, is_planted
from sea.models import SIMPLE, TRAINED
from sea.search import PUBLISHED
from sea.statistics import CONTRADICTED, HOLDS, UNCLEAR, UNTESTED, Estimate, every
from sea.study import (
    ABLATION,
    CHOSEN,
    FLEXIBILITY,
    GENERALIZATION,
    INACTIVE,
    LOGGED,
    RELEASED,
    SWEEP,
    TWINS,
    Study,
    in_columns,
    study,
    sweep,
    with_control,
)
from sea.train import MONITOR

FIGURES = DATA.parent / "figures"
TOLD = ("planted", "ml100k", "tiktok", "baby")
"""The datasets whose results the pages tell: those with published runs of SEA by the present code."""
MODULES = {
    "distancing": ("distancing (CLUB), added to alignment", "distancing, added to alignment"),
    "alignment": ("alignment (SoloSim), added to distancing", "alignment, added to distancing"),
}
"""SEA's two modules: what the pages call the effect of each, and notebook 9."""
NO_SEARCH = "not tested (nothing was searched)"
MARKS = "<!-- results: written by python -m sea.verdicts -->", "<!-- end of the results -->"
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
    "Con. 3, parts": "14_tsne",
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

    A model that ranks worse than `Popular` has learned next to nothing, so that what improves on it says nothing.

    Args:
        pairs: by the name of the variant without, the one with the plug-in.
    """
    found = {}
    for plain, plugged in pairs.items():
        if {plain, plugged} <= set(s.records):
            one = s.estimate({plugged: 1, plain: -1}, metric)
            below = bool(s.records.get("Popular")) and s.estimate({"Popular": 1, plain: -1}, metric).difference > 0
            found[f"{plugged} - {plain}"] = statistics.untested(one, f"{plain} is below Popular") if below else one
    return found


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
    """What came out of each claim on each dataset, in words and with its effect; "" where nothing was asked.

    Args:
        tables: by dataset, as `table` makes them.

    Returns:
        A row for each claim and setting, a column for each dataset.
    """
    columns = {
        name: {(row["claim"], row["settings"]): _outcome(row) for row in found.reset_index().to_dict("records")}
        for name, found in tables.items()
    }
    rows = [pair for pair in lines(tables) if any(pair in column for column in columns.values())]
    index = pd.MultiIndex.from_tuples(rows, names=["claim", "settings"])
    return pd.DataFrame({name: [column.get(pair, "") for pair in rows] for name, column in columns.items()}, index)


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


def load(dataset: str, folder: str | Path = FIGURES) -> pd.DataFrame:
    """The claims table that the last full run on a dataset left behind, by claim.

    Raises:
        FileNotFoundError: there is none.
    """
    found = pd.read_csv(Path(folder) / dataset / "claims.csv", keep_default_na=False, na_values=["nan", ""])
    text = found.columns.intersection(["settings", "measured", "word", "the paper says"])
    found[text] = found[text].fillna("")
    return found.set_index("claim")


def readme(datasets: Iterable[str], folder: str | Path = FIGURES) -> str:
    """The README's lists and tables, in Markdown: by dataset, which claims got which word; the claims that need none;
    the others, each with what was found on an equal footing and where to look; and what CLUB adds.

    Args:
        datasets: names of folders under `folder`, each with a claims table and one of the modules' effects.
    """
    tables = {name: load(name, folder) for name in datasets}
    rows = []
    for claim in _measured():
        theirs = printed().get(claim)
        said = _said(claim) + ("" if theirs is None else f" ({theirs:+.1f} % on Baby)")
        rows.append([said, *_of_each(tables, claim, _short), _look(claim, "notebooks")])
    claims = _markdown(["the paper says", *(f"what we found, {name}" for name in tables), "look"], rows)
    gaps = {name: _gaps(name, folder, MODULES["distancing"][1]) for name in datasets}
    cells = [_effect(found.loc[_fair(found.index)]) for found in gaps.values()]
    helps = _markdown(["does it help?", *gaps], [[MODULES["distancing"][0], *cells]])
    return "\n\n".join([_words(tables), _theory(tables, "notebooks"), claims, helps])


def _words(tables: Mapping[str, pd.DataFrame]) -> str:
    """A line for each dataset: the claims by their words, at the settings of `_fair`."""
    lines = []
    for name, found in tables.items():
        claims = [claim for claim in _measured() if claim in found.index]
        rows = [(claim, found.loc[[claim]].set_index("settings")) for claim in claims]
        given = {claim: _bare(row.loc[_fair(row.index), "word"]) for claim, row in rows}
        by_word = {word: [_in_a_list(c) for c in given if given[c] == word] for word in statistics.WORDS}
        told = [f"*{word}* {', '.join(of_word)}" for word, of_word in by_word.items() if of_word]
        lines.append(f"- **{name}**: {'; '.join(told)}.")
    return "\n".join(lines)


def _in_a_list(claim: str) -> str:
    head, _, part = claim.partition(", ")
    return f"{head} ({part})" if part else head


def _fair(settings: Iterable[str]) -> str:
    """Where SEA and its rivals were treated alike: what validation chose, or as released where nothing was searched."""
    return next(one for one in ("", CHOSEN, RELEASED, LOGGED) if one in set(settings))


def results(datasets: Iterable[str], folder: str | Path = FIGURES, records: str | Path = published.RECORDS) -> str:
    """All results, in Markdown: the claims and SEA's modules at each of its settings, each model's Recall@20, and what
    was trained for them: how much of what was planned, how many runs in how many hours.

    Args:
        datasets: names of folders under `folder`, each with a claims and a comparison table, and one of the modules'
            effects.
        records: the store whose runs are counted, of every dataset in it.
    """
    tables = {name: load(name, folder) for name in datasets}
    rows = []
    for claim in _measured():
        theirs = printed().get(claim)
        rows.append([_said(claim), "" if theirs is None else f"{theirs:+.1f} %", *_of_each(tables, claim, _cell)])
    claims = _markdown(["claim", "the paper, on Baby", *tables], rows)
    modules, recall = _modules(datasets, folder), _recall(datasets, folder)
    trained = _progress({name: planned(name) for name in datasets}), _counts(records)
    return "\n\n".join([_theory(tables, "../notebooks"), claims, modules, recall, *trained])


def _measured() -> list[str]:
    return [claim for claim in SAYS if claim not in THEORY]


def _said(claim: str) -> str:
    return f"**{claim}**: {SAYS[claim]}"


def _look(claim: str, notebooks: str) -> str:
    return f"[notebook&nbsp;{int(LOOK[claim][:2])}]({notebooks}/{LOOK[claim]}.ipynb)"


def _theory(tables: Mapping[str, pd.DataFrame], notebooks: str) -> str:
    """The claims that need no dataset, as the first of the tables has them: the word, and what was computed."""
    first = next(iter(tables.values()))
    rows = [(claim, first.loc[claim]) for claim in THEORY if claim in first.index]
    told = [[_said(claim), f"{row['word']}; {row['measured']}", _look(claim, notebooks)] for claim, row in rows]
    return _markdown(["the paper says, of any data", "what we found", "look"], told)


def _of_each(tables: Mapping[str, pd.DataFrame], claim: str, cell: Callable[[pd.DataFrame], str]) -> list[str]:
    return [cell(table.loc[[claim]]) if claim in table.index else "" for table in tables.values()]


def _short(rows: pd.DataFrame) -> str:
    """A claim's word at the settings of `_fair`, and at which other settings another one was given."""
    fair = _fair(rows["settings"])
    (first,) = rows[rows["settings"] == fair].to_dict("records")
    told = {row["settings"]: _bare(row["word"]) for row in rows.to_dict("records")}
    differ = [f"{settings}: {word}" for settings, word in told.items() if word not in (UNTESTED, told[fair])]
    return "<br>".join([_outcome(first), *differ])


def _bare(word: str) -> str:
    """One of `sea.statistics.WORDS`, without the reason beside it."""
    return next(one for one in statistics.WORDS if word.startswith(one))


def _cell(rows: pd.DataFrame) -> str:
    """A claim's words on a dataset, a line for each of the settings."""
    found = rows.to_dict("records")
    return "<br>".join(f"{row['settings']}: " * bool(row["settings"]) + _outcome(row) for row in found)


def _outcome(row: Mapping[str, object]) -> str:
    """A row's word, and its effect where there is an interval."""
    effect = f" ({row['percent']:+.1f} ± {row['percent ±']:.1f} %)" if row["percent ±"] >= 0 else ""
    return f"{row['word']}{effect}"


def _modules(datasets: Iterable[str], folder: str | Path) -> str:
    """What each module adds to the other: its word and effect on each dataset, a row for each of SEA's settings."""
    rows = []
    for title, gap in MODULES.values():
        found = {name: _gaps(name, folder, gap) for name in datasets}
        for settings in dict.fromkeys(label for table in found.values() for label in table.index):
            cells = [_effect(table.loc[settings]) if settings in table.index else NO_SEARCH for table in found.values()]
            rows.append([title, settings, *cells])
    return _markdown(["does it help?", "settings", *datasets], rows)


def _gaps(dataset: str, folder: str | Path, gap: str) -> pd.DataFrame:
    found = pd.read_csv(Path(folder) / dataset / "ablation_gaps.csv")
    return found[found["gap"] == gap].set_index("settings")


def _effect(row: pd.Series) -> str:
    seen = f"; {row['detectable, %']:.1f} % would have been seen" if row["word"] == UNCLEAR else ""
    return _outcome(row) + seen


def _recall(datasets: Iterable[str], folder: str | Path) -> str:
    found = {name: pd.read_csv(Path(folder) / name / "comparison_test.csv", index_col=0) for name in datasets}
    two = pd.concat([reported.table(2), reported.table(3)]).query("dataset == 'baby'").drop_duplicates("method")
    theirs = two.set_index("method")[MONITOR]
    models = list(dict.fromkeys(model for table in found.values() for model in table.index))
    rows = []
    for model in models:
        cells = []
        for table in found.values():
            value, half = (table[c].get(model, float("nan")) for c in (MONITOR, f"{MONITOR} ±"))
            cells.append(f"{value:.3f} ± {half:.3f}" if half >= 0 else "")
        rows.append([model, *cells, f"{theirs[model]:.4f}" if model in theirs else ""])
    return _markdown(["test Recall@20", *found, "the paper, Baby"], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def planned(dataset: str) -> dict[str, Study]:
    """What the *paper* profile trains on a dataset, its searches left out: by purpose, the runs that are published."""
    options = {"dataset": dataset, "profile": "paper", "root": PUBLISHED}
    by_settings = {
        "SEA without a module, or CLUB unclamped": ABLATION,
        "Table 4's combinations, the orthogonal one": FLEXIBILITY,
        "SEA with β = 0": {name: one for name, one in TWINS.items() if name == "β = 0"},
    }
    found = {"all models": study([*TRAINED, *SIMPLE], tune=False, **options)}
    for purpose, variants in by_settings.items():
        found |= {f"{purpose}, {settings}": s for settings, s in in_columns(variants, **options).items()}
    found["plug-ins, beside plain models and the transform"] = study(with_control(), tune=False, **options)
    return found | {"sensitivity": study(sweep(), tune=False, **options)}


def _progress(studies: Mapping[str, Mapping[str, Study]]) -> str:
    """How many of the planned trainings there are, for each dataset by what they are for; one may serve several."""
    purposes = list(dict.fromkeys(purpose for found in studies.values() for purpose in found))
    rows = [[purpose, *(_share(found.get(purpose)) for found in studies.values())] for purpose in purposes]
    return _markdown(["trainings that the *paper* profile plans", *studies], rows)


def _share(s: Study | None) -> str:
    if s is None:
        return "nothing was searched"
    return f"{sum(min(len(runs), s.planned) for runs in s.records.values())} of {s.planned * len(s.records)}"


def _counts(records: str | Path) -> str:
    rows = []
    for name in published.datasets(records):
        runs = published.read(name, records)
        hours = [sum(r.seconds for r in runs if r.settings.device == kind) / 3600 for kind in ("cpu", "cuda")]
        models = Counter(r.settings.model for r in runs)
        each = ", ".join(f"{model} {n}" for model, n in models.items())
        rows.append([name, str(len(runs)), *(f"{number:.1f}" for number in hours), each])
    return _markdown(["published runs of", "in all", "hours of a CPU", "hours of a GPU", "of each model"], rows)


PAGES = {"README.md": readme, "docs/results.md": results}
"""The pages with results, and what writes the text between their two marks."""


def rewrite(page: Path, text: str) -> None:
    """Put a text between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    for name, write in PAGES.items():
        rewrite(FIGURES.parent / name, write(TOLD))
