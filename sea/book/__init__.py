"""The book: executed notebooks, figures, claims and their provenance as pages that a browser reads without a network.

Sphinx with myst-nb and pydata-sphinx-theme was tried on the same notebooks. It takes 24 more packages and 3 MB of
scripts and styles. Its search fetches each page that it finds, which browsers refuse on file://. It loses a picture's
`alt`. It would still need pages of our own for the gallery, the claims and the provenance, written in Markdown and
escaped twice.

This book uses nbconvert's Markdown, which is installed anyway, and templates of our own. They take one small package
for the formulas (latex2mathml), and load a style sheet and a script of 12 kB. The search needs no fetch. Text is
escaped by default.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import jinja2
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup

from sea import published, statistics, verdicts
from sea.book import cells, markup
from sea.book.shelf import SUFFIXES, Shelf, read
from sea.book.slides import slides
from sea.records import Record

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[2]
FIGURES, SITE, NOTEBOOKS = ROOT / "figures", ROOT / "site", ROOT / "notebooks"
SCHEMATICS = ("start_sea", "start_paradigms")
"""The pictures of the first page, which notebook 0 draws."""
UNSEARCHED = {"math", "iframe", "nav", "figcaption", "code", "files", "unsearched"}
"""Elements, and classes, that the search leaves out."""
TURNING = re.compile("[\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")
"""Characters that turn the direction of what follows; no page has one."""
SHORT = 12
"""How many characters of a checksum or a commit are shown; the JSON file has all."""


@dataclass
class Page:
    """A page of the site.

    Attributes:
        path: relative to the site, with slashes.
        title: as the contents list has it.
        template: the file in templates/ that makes its main part, and `values` what it gets.
        shelf: the dataset that it belongs to, if any.
    """

    path: str
    title: str
    template: str
    values: dict = field(default_factory=dict)
    shelf: Shelf | None = None

    @property
    def up(self) -> str:
        """The way from the page to the site's root."""
        return "../" * self.path.count("/")


def build(figures: str | Path = FIGURES, site: str | Path = SITE, notebooks: str | Path = NOTEBOOKS) -> Path:
    """Make the site anew from figures and executed notebooks. A site that was there is replaced when all is done.

    Args:
        figures: a folder of datasets' folders, or one such, as `./run_all.sh` writes them.
        notebooks: the stored notebooks, shown where there is no executed copy.

    Returns:
        The first page.

    Raises:
        ValueError: there are no figures, or `site` is a folder that this did not make. The message is one line.
    """
    figures, site, notebooks = Path(figures).resolve(), Path(site).resolve(), Path(notebooks).resolve()
    shelves = read(figures, notebooks)
    with _replaced(site) as partial:
        _write(shelves, partial)
    return site / "index.html"


@contextmanager
def _replaced(site: Path) -> Iterator[Path]:
    """A folder beside `site`. It takes the place of `site` at the end; after an error it is gone."""
    marker = site / "_static" / "book.css"
    if site.exists() and not marker.exists() and (not site.is_dir() or any(site.iterdir())):
        raise ValueError(f"--site needs to be a folder that this command made, or a new one (got {site})")
    partial, before = (site.with_name(f".{site.name}-{word}") for word in ("partial", "before"))
    for left in (partial, before):
        shutil.rmtree(left, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if site.exists():
            os.replace(site, before)
        os.replace(partial, site)
    finally:
        if before.exists() and not site.exists():
            os.replace(before, site)
        for left in (partial, before):
            shutil.rmtree(left, ignore_errors=True)


def _write(shelves: list[Shelf], site: Path) -> None:
    (site / "_static").mkdir()
    for path in (HERE / "static").iterdir():
        shutil.copyfile(path, site / "_static" / path.name)
    runs = {shelf.name: {record.key: record for record in _runs(shelf)} for shelf in shelves}
    pages = _pages(shelves, runs)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["address"] = quote
    found = []
    for number, page in enumerate(pages):
        values = _notebook_values(page, pages, site) if page.template == "notebook.html" else page.values
        around = {
            "page": page,
            "pages": pages,
            "shelves": shelves,
            "previous": pages[number - 1] if number else None,
            "next": pages[number + 1] if number + 1 < len(pages) else None,
        }
        main = environment.get_template(page.template).render(values | around)
        soup = BeautifulSoup(main, "html.parser")
        headings = _name_headings(soup)
        text = environment.get_template("page.html").render(around | {"main": Markup(soup), "headings": headings})
        path = site / page.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TURNING.sub("", text), encoding="utf-8")
        found += _entries(page, soup)
    for shelf in shelves:
        for exhibit in shelf.exhibits:
            for suffix, path in exhibit.files.items():
                (site / shelf.name / "files").mkdir(parents=True, exist_ok=True)
                content = path.read_bytes()
                copy = site / shelf.name / "files" / path.name
                copy.write_bytes(cells.fewer_colours(content) if suffix == "png" else content)
    index = TURNING.sub("", json.dumps(found, ensure_ascii=False, separators=(",", ":")))
    (site / "_static" / "search.js").write_text(f"window.bookIndex = {index};\n", encoding="utf-8")


def _pages(shelves: list[Shelf], runs: dict[str, dict[str, Record]]) -> list[Page]:
    """All pages in reading order."""
    first = shelves[0]
    judged = [shelf for shelf in shelves if shelf.claims is not None]
    answers = [_answer(claim, judged, first) for claim in verdicts.SAYS]
    drawn = {one.name: one for one in first.exhibits}
    pictures = [drawn[name] for name in SCHEMATICS if name in drawn]
    shared = {"answers": answers, "judged": judged, "words": statistics.WORDS}
    pages = [
        Page("index.html", "Start here", "index.html", shared | {"pictures": pictures, "first": first, "cells": cells}),
        Page("claims.html", "The claims", "claims.html", shared),
    ]
    for shelf in shelves:
        own = runs[shelf.name]
        rows = [
            (book, _claim(book), [one for one in answers if one["subject"] == book.stem]) for book in shelf.notebooks
        ]
        add = [Page(f"{shelf.name}/index.html", shelf.title, "dataset.html", {"rows": rows, "runs": own})]
        add += [Page(f"{shelf.name}/{b.stem}.html", b.title, "notebook.html", {"book": b}) for b in shelf.notebooks]
        add.append(
            Page(
                f"{shelf.name}/gallery.html",
                "Figures and tables",
                "gallery.html",
                {"groups": _groups(shelf), "suffixes": SUFFIXES},
            )
        )
        values = {"exhibits": [_provenance(one.stamp) | {"name": one.name} for one in shelf.exhibits]}
        values["lists"] = _lists(shelf, own)
        add.append(Page(f"{shelf.name}/provenance.html", "Where numbers come from", "provenance.html", values))
        if own:
            add.append(Page(f"{shelf.name}/runs.html", "Published runs", "runs.html", {"models": _models(own)}))
        for page in add:
            page.shelf = shelf
        pages += add
    return pages


def _answer(claim: str, judged: list[Shelf], first: Shelf) -> dict:
    """A claim, what the paper says, and what came out on each dataset."""
    theirs, subject = verdicts.printed().get(claim), verdicts.LOOK[claim]
    found = {}
    for shelf in judged:
        table = shelf.claims
        rows = table.loc[[claim]].reset_index() if claim in table.index else table.iloc[:0]
        found[shelf.name] = [row.to_dict() | {"kind": _kind(row["word"])} for _, row in rows.iterrows()]
    page = next((f"{first.name}/{book.stem}.html" for book in first.notebooks if book.stem == subject), None)
    return {
        "claim": claim,
        "says": verdicts.SAYS[claim],
        "theirs": None if theirs is None else f"{theirs:+.1f} %",
        "rows": found,
        "subject": subject,
        "page": page,
    }


def _kind(word: str) -> str:
    """A verdict's class in the style sheet."""
    return {statistics.HOLDS: "holds", statistics.CONTRADICTED: "against"}.get(word, "open")


def _claim(book: cells.Notebook) -> Markup:
    """What a notebook asks, or claims, in its first cell."""
    return Markup(markup.markdown(book.says("The question") or book.says("The claim"), lambda url: None))


def _groups(shelf: Shelf) -> list[tuple]:
    return [
        (book, [(one, None if one.is_picture else _table(one.files["md"])) for one in exhibits])
        for book, exhibits in shelf.by_notebook()
    ]


def _table(path: Path) -> Markup:
    return Markup(markup.markdown(path.read_text(encoding="utf-8"), lambda url: None))


def _provenance(stamp: dict) -> dict:
    """A figure's provenance as it is shown: long hashes in short, and the runs by the name of their list."""
    shown = {key: value for key, value in stamp.items() if key not in ("alt", "runs") and value not in ("", None)}
    for key in ("checksum", "commit"):
        if key in shown:
            shown[key] = ", ".join(part[:SHORT] for part in str(shown[key]).split(", "))
    return {"shown": shown, "list": _list_name(stamp.get("runs", []))}


def _list_name(runs: list[str]) -> str:
    return "" if not runs else f"{len(runs)} runs" if len(runs) > 1 else "1 run"


def _lists(shelf: Shelf, own: dict[str, Record]) -> list[dict]:
    """The distinct lists of runs, each with the figures that rest on it."""
    found: dict[tuple[str, ...], list[str]] = {}
    for one in shelf.exhibits:
        if one.stamp.get("runs"):
            found.setdefault(tuple(one.stamp["runs"]), []).append(one.name)
    return [
        {"names": names, "runs": [(text, key if (key := text.rpartition(": ")[2]) in own else "") for text in runs]}
        for runs, names in found.items()
    ]


def _runs(shelf: Shelf) -> list[Record]:
    return published.read(shelf.dataset) if shelf.dataset in published.datasets() else []


def _models(own: dict[str, Record]) -> list[dict]:
    """The published runs by model: the settings that all share, and for each run those in which it differs."""
    models: dict[str, list[Record]] = {}
    for record in own.values():
        models.setdefault(record.settings.model, []).append(record)
    return [_model(name, records) for name, records in models.items()]


def _model(name: str, records: list[Record]) -> dict:
    every = [{k: str(v) for k, v in _settings(record).items()} for record in records]
    shared = {k: v for k, v in every[0].items() if all(one.get(k) == v for one in every)}
    rows = [
        {
            "record": record,
            "own": ", ".join(f"{k} {v}" for k, v in one.items() if k not in shared),
            "revisions": ".".join(str(record.revisions[part]) for part in ("training", "model")),
            "recall": record.metrics.get("test", {}).get("recall@20"),
        }
        for record, one in zip(records, every)
    ]
    text = ", ".join(f"{k} {v}" for k, v in shared.items())
    return {"name": name, "shared": text, "rows": rows, "file": f"data/records/{records[0].dataset}/{name}.jsonl.gz"}


def _settings(record: Record) -> dict:
    asked = record.settings
    names = ("lr", "batch_size", "epochs", "patience", "device", "threads")
    return {**asked.params, **{name: getattr(asked, name) for name in names}}


def _notebook_values(page: Page, pages: list[Page], site: Path) -> dict:
    """What the template of a notebook's page gets; writes what the page shows from files of its own."""
    shelf, book = page.shelf, page.values["book"]
    place = cells.Place(
        site,
        shelf.name,
        {one.name: one.alt for one in shelf.exhibits},
        {one.name: one.files["png"].read_bytes() for one in shelf.exhibits if one.is_picture},
        lambda url: _link(url, page, pages),
    )
    values = {"book": book, "cells": list(cells.render(book, place)), "slides": ""}
    if book.has_slides:
        values["slides"] = f"slides/{book.stem}.html"
        slides(book.path, site / shelf.name / values["slides"], lambda url: _link(url, page, pages, "../"))
    return values


def _link(url: str, page: Page, pages: list[Page], below: str = "") -> str | None:
    """What an address in a notebook leads to: a notebook's page, a place in the page, or an address of the web.

    A file of the repository is no part of the book, so its name stands there as text. `below` is the way from the
    place of the link up to the page's folder.
    """
    if re.match(r"https?://", url) or url.startswith("#"):
        return url
    name, _, at = url.partition("#")
    stem = unquote(name).rpartition("/")[2].removesuffix(".ipynb")
    paths = {one.path for one in pages if one.template == "notebook.html"}
    own = [path for path in paths if path == f"{page.shelf.name}/{stem}.html"]
    other = sorted(path for path in paths if path.endswith(f"/{stem}.html"))
    if not name.endswith(".ipynb") or not own + other:
        return None
    return f"{below}{page.up}{quote((own + other)[0])}{'#' + at if at else ''}"


def _name_headings(soup: BeautifulSoup) -> list[tuple[str, str]]:
    """Give each heading of a page an address of its own; those of the second level, in order, with their text."""
    taken, found = {tag["id"] for tag in soup(id=True)}, []
    for tag in soup(["h1", "h2", "h3", "h4"]):
        if not tag.get("id"):
            name = wanted = markup.anchor(_words(tag)) or "section"
            count = 1
            while name in taken:
                count += 1
                name = f"{wanted}-{count}"
            tag["id"] = name
            taken.add(name)
        if tag.name == "h2":
            found.append((tag["id"], _words(tag)))
    return found


def _words(tag: Tag) -> str:
    return " ".join(tag.get_text().split())


def _entries(page: Page, soup: BeautifulSoup) -> list[list[str]]:
    """What the search finds: for each section of a page its address, the page's title, its own, and its words."""
    found = [[quote(page.path), page.title, "", []]]
    for piece in _pieces(soup):
        if isinstance(piece, Tag):
            found.append([f"{quote(page.path)}#{quote(piece['id'])}", page.title, _words(piece), []])
        else:
            found[-1][3].append(piece)
    texts = [[*head, " ".join(" ".join(parts).split())] for *head, parts in found]
    return [one for one in texts if one[2] or one[3]]


def _pieces(tag: Tag) -> Iterator[Tag | str]:
    """The headings and the texts between them that the search goes through, in their order."""
    for child in tag.children:
        if not isinstance(child, Tag):
            yield str(child)
        elif child.name in ("h1", "h2", "h3"):
            yield child
        elif child.name not in UNSEARCHED and not UNSEARCHED & set(child.get("class", [])):
            yield from _pieces(child)
