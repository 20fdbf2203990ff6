"""The pages that readers meet first: every link leads somewhere, and what they promise of Jupyter and citing is so."""

import html
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from jupyter_client.manager import KernelManager
from jupyterlab.labapp import LabApp
from traitlets.config import JSONFileConfigLoader

from sea import verdicts

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
    """What the README says of an effect, a metric or its interval is written by sea.verdicts."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    by_hand = text.split(verdicts.MARKS[0])[0] + text.split(verdicts.MARKS[1])[1]
    assert not re.search(r"±\s*\d|\d\s*%|(?<!\d)0?\.\d{2,}", by_hand)


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
