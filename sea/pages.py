"""What README.md and docs/results.md say of the results: written from figures/ and data/records, never by hand."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from sea import published, reported, statistics, verdicts
from sea.data import knocked_out
from sea.models import SIMPLE, TRAINED
from sea.records import Record
from sea.search import PUBLISHED
from sea.statistics import UNCLEAR, UNTESTED
from sea.study import (
    ABLATION,
    CHOSEN,
    FLEXIBILITY,
    LOGGED,
    RELEASED,
    TWINS,
    Study,
    in_columns,
    study,
    sweep,
    with_control,
)
from sea.train import MONITOR

TOLD = ("planted", "ml100k", "tiktok", "baby")
"""The datasets whose results the pages tell: those with published runs of SEA by the present code."""
MODULES = {
    "distancing": ("distancing (CLUB), added to alignment", "distancing, added to alignment"),
    "alignment": ("alignment (SoloSim), added to distancing", "alignment, added to distancing"),
}
"""SEA's two modules: what the pages call the effect of each, and notebook 9."""
NO_SEARCH = "not tested (nothing was searched)"
MARKS = "<!-- results: written by python -m sea.pages -->", "<!-- end of the results -->"


def readme(datasets: Iterable[str], folder: str | Path = verdicts.FIGURES) -> str:
    """The README's lists and tables, in Markdown: by dataset, which claims got which word; the claims that need none;
    the others, each with what was found on an equal footing and where to look; and what CLUB adds.

    Args:
        datasets: names of folders under `folder`, each with a claims table and one of the modules' effects.
    """
    tables = {name: verdicts.load(name, folder) for name in datasets}
    rows = []
    for claim in _measured():
        theirs = verdicts.printed().get(claim)
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


def results(
    datasets: Iterable[str], folder: str | Path = verdicts.FIGURES, records: str | Path = published.RECORDS
) -> str:
    """All results, in Markdown: the claims and SEA's modules at each of its settings, each model's Recall@20, and what
    was trained for them: how much of what was planned, how many runs in how many hours.

    Args:
        datasets: names of folders under `folder`, each with a claims and a comparison table, and one of the modules'
            effects.
        records: the store whose runs are counted, of every dataset in it.
    """
    tables = {name: verdicts.load(name, folder) for name in datasets}
    rows = []
    for claim in _measured():
        theirs = verdicts.printed().get(claim)
        rows.append([_said(claim), "" if theirs is None else f"{theirs:+.1f} %", *_of_each(tables, claim, _cell)])
    claims = _markdown(["claim", "the paper, on Baby", *tables], rows)
    modules, recall = _modules(datasets, folder), _recall(datasets, folder)
    trained = _progress({name: planned(name) for name in datasets}), _counts(records)
    return "\n\n".join([_theory(tables, "../notebooks"), claims, modules, recall, *trained])


def _measured() -> list[str]:
    return [claim for claim in verdicts.SAYS if claim not in verdicts.THEORY]


def _said(claim: str) -> str:
    return f"**{claim}**: {verdicts.SAYS[claim]}"


def _look(claim: str, notebooks: str) -> str:
    return f"[notebook&nbsp;{int(verdicts.LOOK[claim][:2])}]({notebooks}/{verdicts.LOOK[claim]}.ipynb)"


def _theory(tables: Mapping[str, pd.DataFrame], notebooks: str) -> str:
    """The claims that need no dataset, as the first of the tables has them: the word, and what was computed."""
    first = next(iter(tables.values()))
    rows = [(claim, first.loc[claim]) for claim in verdicts.THEORY if claim in first.index]
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
    return "<br>".join([verdicts.outcome(first), *differ])


def _bare(word: str) -> str:
    """One of `sea.statistics.WORDS`, without the reason beside it."""
    return next(one for one in statistics.WORDS if word.startswith(one))


def _cell(rows: pd.DataFrame) -> str:
    """A claim's words on a dataset, a line for each of the settings."""
    found = rows.to_dict("records")
    return "<br>".join(f"{row['settings']}: " * bool(row["settings"]) + verdicts.outcome(row) for row in found)


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
    return verdicts.outcome(row) + seen


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
    found = {}
    for purpose, variants in {"all models": [*TRAINED, *SIMPLE], "plain, transform, plug-in": with_control()}.items():
        chosen = study(variants, **options)
        found[f"{purpose}, documented settings"] = study(variants, tune=False, **options)
        found |= {f"{purpose}, {CHOSEN}": chosen} if chosen.searched else {}
    of_sea = {
        "SEA without a module, or CLUB unclamped": ABLATION,
        "Table 4's combinations, the orthogonal one": FLEXIBILITY,
        "SEA with β = 0": {name: one for name, one in TWINS.items() if name == "β = 0"},
    }
    for purpose, variants in of_sea.items():
        found |= {f"{purpose}, {settings}": s for settings, s in in_columns(variants, **options).items()}
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
    found: dict[str, list[Record]] = {}
    for name in published.stored(records):
        plain, replaced, _ = knocked_out(name)
        found.setdefault(f"{plain}, features replaced" if replaced else plain, []).extend(published.read(name, records))
    rows = []
    for name, runs in found.items():
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
        rewrite(verdicts.FIGURES.parent / name, write(TOLD))
