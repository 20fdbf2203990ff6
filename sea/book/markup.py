"""Markdown, formulas, code and tables as HTML: nothing that a reader's browser would run or load comes through."""

import re
from collections.abc import Callable
from html import escape

import bleach
import latex2mathml.converter
from bs4 import BeautifulSoup, Tag
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

_SPANS = ["colspan", "rowspan"]
_CLEANER = bleach.Cleaner(
    tags={
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "caption",
        "p",
        "br",
        "b",
        "strong",
        "i",
        "em",
        "code",
        "sub",
        "sup",
    },
    attributes={"th": _SPANS, "td": _SPANS},
    strip=True,
)
_NUMBER = re.compile(r"[-+−±]?[\d.,]+(e[-+]?\d+)?( ?%)?( ± [\d.]+( %)?)?|nan|NaN|")


def mathml(formula: str, display: str = "inline") -> str:
    """A LaTeX formula as a MathML element, which browsers draw by themselves.

    Args:
        display: "inline" or "block".
    """
    known = formula.strip().replace("{aligned}", "{split}")  # the converter has the same environment by one name only
    return latex2mathml.converter.convert(known, display=display)


def anchor(text: str) -> str:
    """The name by which a heading is linked, as Jupyter has it: dashes for spaces."""
    return re.sub(r"\s+", "-", text.strip())


def markdown(source: str, link: Callable[[str], str | None] = lambda url: url) -> str:
    """Markdown as HTML: HTML in it is shown as text, formulas become MathML.

    Args:
        link: what a link's address becomes; its text stands alone if that is None.
    """
    found = MarkdownWithMath(renderer=_Renderer(link)).render(source)
    return tables(BeautifulSoup(found, "html.parser"))


class Linked(IPythonRenderer):
    """nbconvert's Markdown with formulas as MathML, and links where `link` says; `escape` is of HTML in the text."""

    def __init__(self, link: Callable[[str], str | None], escape: bool = True):
        super().__init__(escape=escape, allow_harmful_protocols=False)
        self.to = link

    def inline_math(self, body: str) -> str:
        """A formula in a line."""
        return mathml(body)

    def block_math(self, body: str) -> str:
        """A formula of its own."""
        return mathml(body, "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link, or its text alone."""
        to = self.to(url)
        return text if to is None else super().link(text, to, title)


class _Renderer(Linked):
    def __init__(self, link: Callable[[str], str | None]):
        super().__init__(link, escape=False)  # an entity is a letter, and HTML is text, below

    def inline_html(self, html: str) -> str:
        return escape(html)

    def block_html(self, html: str) -> str:
        return f"<p>{escape(html)}</p>\n"

    def block_math(self, body: str) -> str:
        return f'<span class="scroll equation">{mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def heading(self, text: str, level: int, **attrs: object) -> str:
        return f"<h{level}>{text}</h{level}>\n"

    def block_code(self, code: str, info: str | None = None) -> str:
        return colour(code, "python" if info and info.startswith("python") else "text")

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return f"<em>{text}</em>"  # no picture of a notebook's prose is a part of the book


def colour(code: str, language: str = "python") -> str:
    """Code with its words in classes of Pygments, whose colours are the page's."""
    return highlight(code, get_lexer_by_name(language), HtmlFormatter(cssclass="code scroll"))


def clean(html: str) -> str:
    """The tables and plain marks of an output's HTML; scripts, styles, links, pictures and attributes are left out."""
    soup = BeautifulSoup(html, "html.parser")
    for left in soup(["script", "style", "iframe", "template", "noscript", "svg", "math"]):
        left.decompose()
    return tables(BeautifulSoup(_CLEANER.clean(str(soup)), "html.parser"))


def tables(soup: BeautifulSoup) -> str:
    """HTML with each table in a box that scrolls by itself, its text to the left and its numbers to the right."""
    for table in soup("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll table"}))
        texts = set()  # the columns with text
        for row in reversed(table("tr")):
            for column, cell in enumerate(row(["td", "th"])):
                _mark(cell, cell.find_parent("thead") is not None, column, texts)
    return str(soup)


def _mark(cell: Tag, heads: bool, column: int, texts: set[int]) -> None:
    """Say what a cell is: text or number, a header of a row or of a column; `texts` gains the columns of text."""
    words = cell.get_text(strip=True)
    del cell["style"]
    if not heads and not _NUMBER.fullmatch(words):
        texts.add(column)
        cell["class"] = "text"
    elif heads and column in texts:
        cell["class"] = "text"
    if cell.name == "th" and words:
        cell["scope"] = "col" if heads else "row"
    elif cell.name == "th":
        cell.name = "td"  # a header without a word heads nothing
