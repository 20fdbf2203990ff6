"""The pages that readers meet first: every link leads somewhere, every result is that of the tables and records, and
what they promise of Jupyter and citing is so."""

import html
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from jupyter_client.manager import KernelManager
from jupyterlab.labapp import LabApp
from traitlets.config import JSONFileConfigLoader

from sea import pages, verdicts
from sea.analysis import theory
from sea.models import READERS
from sea.published import RECORDS
from sea.statistics import CONTRADICTED, HOLDS, SAME, UNCLEAR, UNTESTED, WORDS
from sea.study import Study

METRIC = "recall@20"
REPOSITORY = Path(__file__).parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("[!.]*/*.md")])
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def prose(text: str) -> str:
    """A page without its blocks of code and its code spans, in which a bracket is no link."""
    kept, fenced = [], False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        if not (fenced or fence or line.startswith("    ")):
            kept.append(line)
        fenced ^= fence
    return re.sub(r"`[^`\n]*`", lambda span: span[0].replace("](", "] ("), "\n".join(kept))


def anchors(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(text), re.M):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", html.unescape(heading)).lower()
        name = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
        if found[name]:
            found[f"{name}-{found[name]}"] = 0
    return set(found)


def dead(page: Path, root: Path = REPOSITORY) -> list[str]:
    """The relative links of a page that lead to no file, to none of the repository, or to no anchor."""
    found = []
    for link in ("".join(match) for match in LINK.findall(prose(page.read_text(encoding="utf-8")))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.is_relative_to(root):
            found.append(f"{link} leaves the repository")
        elif not path.exists():
            found.append(f"{link} is no file")
        elif path.suffix == ".md" and anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
            found.append(f"{link} is no heading")  # lines of code: tests/test_trace.py
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    assert not dead(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_picture_of_a_page_has_words_for_who_cannot_see_it(page):
    text = prose(page.read_text(encoding="utf-8"))
    assert "![](" not in text
    assert all('alt="' in picture for picture in re.findall(r"<img[^>]*>", text))


def test_a_dead_link_is_found_wherever_it_stands(tmp_path):
    (tmp_path / "there.md").write_text("# A *word*, `code` & [a link](x)\n\n## Twice\n\n## Twice\n\n```\n# none\n```\n")
    lines = {
        "[good](there.md)": True,
        "[two\nlines](there.md#twice-1)": True,
        "![](there.md#a-word-code--a-link)": True,
        "[`code`](there.md)": True,
        "`not[0](a link)`": True,
        "[out](https://example.org/nowhere.md)": True,
        "    [a block](of code)": True,
        "[bad](nowhere.md)": False,
        "[bad](there.md#thrice)": False,
        "[bad](there.md#none)": False,
        "[bad](#no-heading-here)": False,
        "[![picture](nowhere.png)](there.md)": False,
        '<img src="nowhere.png">': False,
        "[bad](../../../../../../../etc/passwd)": False,
    }
    for line, alive in lines.items():
        page = tmp_path / "page.md"
        page.write_text(f"# A page\n\n{line}\n")
        assert (not dead(page, tmp_path)) == alive, line


def test_numbers_of_runs_stand_in_generated_text_alone():
    """What the README says of an effect, a metric or its interval is written by sea.pages."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    by_hand = text.split(pages.MARKS[0])[0] + text.split(pages.MARKS[1])[1]
    assert not re.search(r"±\s*\d|\d\s*%|(?<!\d)0?\.\d{2,}", by_hand)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The folder whose pages and tables belong together: the checkout, or its last commit after `run_all.sh` alone.

    That draws tables of its own, and leaves pages and records as they are.
    """
    root = verdicts.FIGURES.parent
    status = ["git", "status", "--porcelain", "--", "figures", "data/records", *pages.PAGES]
    changed = subprocess.run(status, cwd=root, capture_output=True, text=True).stdout.splitlines()
    if not changed or not all(line[3:].startswith("figures/") for line in changed):
        return root
    folder = tmp_path_factory.mktemp("committed")
    archive = ["git", "archive", "HEAD", "figures", *pages.PAGES]
    packed = subprocess.run(archive, cwd=root, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_page_says_what_the_committed_tables_and_records_say(page, told):
    text = (told / page).read_text(encoding="utf-8")
    between = text.split(pages.MARKS[0])[1].split(pages.MARKS[1])[0]
    said = pages.PAGES[page](pages.TOLD, told / "figures")
    assert between.strip() == said, "write it anew: python -m sea.pages"


@pytest.fixture
def toys(tmp_path):
    """A folder of tables as a run leaves it: two models; Obs. 3 and 4 at two settings, where Obs. 4 has two words."""
    folder = tmp_path / "toys"
    folder.mkdir()
    rows = [
        ("Obs. 3", "as logged", 10.0, 0.5, HOLDS),
        ("Obs. 3", "as released", 10.0, 0.5, HOLDS),
        ("Obs. 4", "as released", -15.5, 0.5, CONTRADICTED),
        ("Obs. 4", "as logged", np.nan, np.nan, UNTESTED + " (no run)"),  # says nothing, and is left out
        ("Obs. 4", "chosen on validation", 13.0, 0.5, HOLDS),
    ]
    own = pd.DataFrame(rows, columns=["claim", "settings", "percent", "percent ±", "word"]).set_index("claim")
    pd.concat([theory.claims(), own]).rename_axis("claim").to_csv(folder / "claims.csv")
    recall = pd.DataFrame({METRIC: [0.25, 0.125], f"{METRIC} ±": [0.0625, np.nan]}, index=["SEA", "BPR"])
    recall.to_csv(folder / "comparison_test.csv")
    gaps = [
        ("as released", "distancing, added to alignment", 10.0, 1.0, 2.5, HOLDS),
        ("as released", "alignment, added to distancing", np.nan, np.nan, np.nan, UNTESTED + " (no run of SEA)"),
        ("as logged", "distancing, added to alignment", -1.44, 2.0, 2.76, UNCLEAR),
    ]
    columns = ["settings", "gap", "percent", "percent ±", "detectable, %", "word"]
    pd.DataFrame(gaps, columns=columns).to_csv(folder / "ablation_gaps.csv", index=False)
    return tmp_path


def test_what_a_module_adds_is_told_with_what_would_have_been_seen(toys):
    of_both = pages.results(["toys"], toys).split("\n\n")[2].splitlines()[2:]
    club, sim = "| distancing (CLUB), added to alignment |", "| alignment (SoloSim), added to distancing |"
    assert of_both == [
        f"{club} as released | holds (+10.0 ± 1.0 %) |",
        f"{club} as logged | can't tell (-1.4 ± 2.0 %); 2.8 % would have been seen |",
        f"{sim} as released | not tested (no run of SEA) |",
    ]
    (alone,) = pages.readme(["toys"], toys).split("\n\n")[3].splitlines()[2:]  # the last table has one row
    assert alone == f"{club} holds (+10.0 ± 1.0 %) |"


def test_the_cells_of_the_results_are_those_of_the_tables(toys):
    text = pages.results(["toys"], toys)
    assert "as logged: holds (+10.0 ± " in text and "<br>as released: holds (+10.0 ± " in text
    assert "| SEA | 0.250 ± 0.062 | 0.1033 |" in text
    assert "| BPR |  | 0.0575 |" in text  # one run has no interval, and is no result


def test_the_readme_tells_the_chosen_settings_or_the_released_and_where_others_have_another_word(toys):
    by_word, of_any, of_toys, _ = pages.readme(["toys"], toys).split("\n\n")
    assert by_word == "- **toys**: *holds* Obs. 3, Obs. 4."
    lines = {line.split("**")[1]: line for line in (of_any + of_toys).splitlines() if "**" in line}
    assert list(lines) == list(verdicts.SAYS)
    assert re.search(r"\| holds; 100,000 .* \| \[notebook&nbsp;2\]", lines["Theorem 1"])
    look = re.escape("[notebook&nbsp;9](notebooks/09_ablation.ipynb)")
    assert re.search(rf"\| holds \(\+10\.0 ± [0-9.]+ %\) \| {look} \|$", lines["Obs. 3"])
    assert re.search(r"\| holds \(\+[0-9. ±]+ %\)<br>as released: contradicted here \| \[", lines["Obs. 4"])
    assert "(+3.1 % on Baby) |  | [notebook&nbsp;8]" in lines["Obs. 1"]  # which these tables don't have


def test_published_runs_and_their_hours_are_those_that_pandas_reads_from_the_store(toys):
    rows = {row.split(" | ")[0][2:]: row for row in pages.results(["toys"], toys).splitlines()}
    for name in {folder.name.split("!")[0] for folder in RECORDS.iterdir() if folder.is_dir()}:
        for label, folders in ((name, [RECORDS / name]), (f"{name}, features replaced", [*RECORDS.glob(f"{name}!*")])):
            files = [file for folder in folders for file in folder.glob("*.jsonl.gz") if file.stem != "users.jsonl"]
            if files:
                runs = pd.concat(pd.read_json(file, lines=True) for file in files)
                hours = (runs.groupby("device")["seconds"].sum() / 3600).reindex(["cpu", "cuda"], fill_value=0)
                _, count, *there, models, _ = (cell.strip() for cell in rows[label].split("|")[1:])
                assert (count, there) == (str(len(runs)), [f"{number:.1f}" for number in hours])
                each = {name: int(n) for name, n in (entry.rsplit(" ", 1) for entry in models.split(", "))}
                assert each == runs["model"].value_counts().to_dict()


def test_of_more_trainings_than_planned_only_the_planned_ones_count():
    run = object()
    some = Study({"SEA": [run] * 2, "w/o All": [run] * 2, "w/o Alignment": [run] * 12, "w/o Distancing": []}, {}, 5)
    none = Study({"SEA": []}, {}, planned=5)
    assert pages._progress({"a": {"x": some}, "b": {"x": none, "y": none}}).splitlines()[2:] == [
        "| x | 9 of 20 | 0 of 5 |",
        "| y | nothing was searched | 0 of 5 |",
    ]


def test_the_paper_profile_plans_five_trainings_of_everything_that_the_claims_name():
    found = pages.planned("a set without published runs")
    numbers = {purpose: len(s.records) * s.planned for purpose, s in found.items()}
    assert not any(runs for s in found.values() for runs in s.records.values())
    assert numbers.pop("all models, documented settings") == 5 * (18 + 4)
    assert numbers.pop("sensitivity") == 5 * (1 + 3 * 6 + 2)  # released; 6 more values of 3 settings; 2 of q's steps
    assert numbers.pop("plain, transform, plug-in, documented settings") == 5 * 2 * 3
    assert sorted(numbers.values()) == [5, 5, 25, 25, 25, 25]  # at two settings: the twin, Figure 3, Table 4


def test_only_the_text_between_the_marks_is_rewritten(tmp_path):
    page, (first, last) = tmp_path / "page.md", pages.MARKS
    page.write_text(f"before\n\n{first}\n\nold\n\n{last}\n\nafter\n", encoding="utf-8")
    pages.rewrite(page, "new ±")
    assert page.read_text(encoding="utf-8") == f"before\n\n{first}\n\nnew ±\n\n{last}\n\nafter\n"


def test_what_the_pages_say_of_club_in_words_is_what_the_tables_say(told):
    """The sentences below *does it help?* in the README, and those of docs/results.md on the row of the parts."""

    def table(name):
        return pd.read_csv(told / "figures" / name)

    seen = ("planted", "ml100k", "tiktok")
    active, pull = "distancing active, share of batches", "distance, gradient / BPR's"
    terms = {name: table(f"{name}/ablation_terms.csv") for name in ("baby", *seen)}
    of_sea = {name: one[one["variant"] == "SEA"].set_index("settings") for name, one in terms.items()}
    assert (of_sea["baby"][active] < 0.1).all()
    assert (of_sea["planted"][active] > 0.9).all()
    assert all(of_sea[name].loc["as released", active] > 0.9 for name in seen[1:])
    assert all((of_sea[name][pull].dropna() < 0.01).all() for name in seen[1:])
    for name in seen:
        gaps = table(f"{name}/ablation_gaps.csv")
        words = gaps[gaps["gap"] == "distancing, added to alignment"]["word"]
        assert words.str.startswith((UNCLEAR, UNTESTED)).all()
    parts = table("planted/flexibility_parts.csv")
    words = parts.pivot_table("word", "with CLUB minus without", "settings", aggfunc="first")
    for count, word in ((2, "up"), (8, "down"), (16, "down")):
        assert set(words.loc[f"as if Gaussian, {count} components"]) == {word}
    assert set(words.loc["nearest neighbours, 4 components"]) == {"down"}
    assert words.loc["InfoNCE, lower bound, 4 components"].eq("down").sum() == 2
    assert set(words.loc["CLUB with a fresh q, 4 components"]) == {UNCLEAR}
    assert words.loc["separation"].eq("up").to_dict() == {s: s == "as logged" for s in words.columns}
    for modality in ("image", "text"):
        assert words.loc[f"{modality}: generic in generic part", "as logged"] == "up"
        assert words.loc[f"{modality}: own unique in unique part", "as logged"] == "down"
    assert set(words.loc["without the generic half"]) == {"down"}
    for factor in ("the generic factor", "their own factor"):
        assert set(words.loc[f"unique parts, of {factor}"]) == {"down"}
    assert words.loc["generic parts: both tell"].to_dict() == {
        settings: "down" if settings == "as released" else SAME for settings in words.columns
    }
    levels = parts.set_index(["with CLUB minus without", "settings"])
    of_generic, of_own = (levels.loc[f"unique parts, of {one} factor"] for one in ("the generic", "their own"))
    assert (of_generic["difference"] < of_own["difference"]).all()
    for without in (0, 1):
        each = [one["without CLUB"] + (1 - without) * one["difference"] for one in (of_generic, of_own)]
        assert ((each[0] / each[1]).between(0.85, 1)).all()
    assert (of_generic["perfect parts"] < 0.1 * of_own["perfect parts"]).all()


def test_what_the_pages_say_of_features_in_words_is_what_the_tables_say(told):
    gains = pd.read_csv(told / "figures/planted/knockout_gains.csv").set_index(["features", "model"])
    assert set(gains.loc["whole"].index) == set(READERS)
    assert "above" not in set(gains.loc["noise", "word"])
    assert (gains.loc["whole", "word"] == "above").sum() > len(READERS) / 2
    lost = gains.loc["whole", "percent"] - gains.loc["noise", "percent"]
    assert lost.idxmax() == "PAMD" and set(lost.nlargest(3).index) == {"PAMD", "SEA", "ContentKNN"}
    assert set(gains.xs("BM3", level="model")["word"]) == {"below"}
    changes = pd.read_csv(told / "figures/planted/knockout_differences.csv").set_index(["model", "replaced"])
    assert "lost" not in set(changes.loc[("BM3", "all"), "word"])


def test_what_the_pages_say_of_the_plug_in_in_words_is_what_the_table_says(told):
    table = pd.read_csv(told / "figures" / "planted" / "generalization_differences.csv")
    words = table[table["metric"] == METRIC].set_index(["model", "what"])["word"]
    assert words["VBPR", "plug-in over plain"] == words["VBPR", "transform over plain"] == HOLDS
    assert words["VBPR", "plug-in over transform"] == UNCLEAR
    assert words["FREEDOM", "plug-in over plain"] == SAME
    claims = verdicts.load("planted", told / "figures")
    assert "FREEDOM+SEA acts through a term" in claims.loc["Con. 1", "word"]
    table = pd.read_csv(told / "figures" / "ml100k" / "generalization_differences.csv").set_index(["model", "what"])
    over_plain = table.loc[("VBPR", "plug-in over plain")].set_index("metric")["word"]
    assert over_plain.eq(HOLDS).to_dict() == {metric: metric == METRIC for metric in over_plain.index}
    assert table.loc[("VBPR", "transform over plain"), "word"].str.startswith(UNTESTED).all()
    freedom = table.loc[("FREEDOM", "plug-in over plain")].set_index("metric")["word"]
    assert freedom[METRIC] == UNCLEAR == verdicts.load("ml100k", told / "figures").loc["Con. 1", "word"]


@pytest.mark.parametrize(("name", "settings"), [("planted", "chosen on validation"), ("ml100k", "as released")])
def test_the_words_that_changed_have_the_present_words(told, name, settings):
    """docs/differences.md has tables of old and new words, written by hand."""
    text = (REPOSITORY / "docs/differences.md").read_text(encoding="utf-8")
    rows = text.split(f"| {name} | first edition | now | why |")[1].split("\n\n")[0].splitlines()[2:]
    typed = {row.split(" | ")[0].strip("| "): row.split(" | ")[2] for row in rows}
    found = verdicts.load(name, told / "figures")
    found = found[found["settings"].isin(["", settings])]
    words = {claim: next(w for w in WORDS if found.loc[claim, "word"].startswith(w)) for claim in typed}
    assert typed == words and set(typed) == {claim for claim in verdicts.SAYS if claim not in verdicts.THEORY}


def test_the_citation_is_of_this_version_and_of_the_paper():
    """The keys that the schema of CFF 1.2.0 requires, and the facts behind them."""
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["title"] in project["description"] and paper["title"] in citation["abstract"]
    assert [author["family-names"] for author in paper["authors"]] == ["He", "Wang", "Yang", "Bai", "Wu"]
    assert paper["url"] in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert paper["url"].rpartition("/")[2] in paper["identifiers"][0]["value"]


@pytest.fixture
def lab(tmp_path):
    """The folder of settings in an environment that run_all.sh made."""
    line = f'. scripts/environment.sh; root=$PWD; set_up_lab "{tmp_path}"'
    subprocess.run(["bash", "-c", line], cwd=REPOSITORY, check=True)
    return tmp_path / "etc" / "jupyter"


def test_jupyterlab_opens_at_the_first_notebook(lab):
    assert str(Path(sys.prefix, "etc", "jupyter")) in LabApp().config_file_paths  # where that environment's would lie
    config = JSONFileConfigLoader("jupyter_lab_config.json", str(lab)).load_config()
    opened = LabApp(config=config).default_url
    assert opened.startswith("/lab/tree/notebooks/")
    assert opened.removeprefix("/lab/tree/") == f"notebooks/{NOTEBOOKS[0].name}"


def test_the_kernel_of_the_notebooks_is_the_python_that_runs_jupyter():
    (name,) = {json.loads(path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"] for path in NOTEBOOKS}
    assert KernelManager(kernel_name=name).format_kernel_cmd()[0] == sys.executable
