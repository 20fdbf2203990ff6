"""A notebook's cells as HTML: its prose, its code, and what came of it."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from nbconvert.filters.ansi import ansi2html
from nbformat import NotebookNode
from PIL import Image
from plotly.offline import get_plotlyjs

from sea.book.markup import clean, colour, markdown

SCRIPT = "plotly.min.js"


@dataclass
class Notebook:
    """A notebook that becomes a page.

    Attributes:
        path: the executed copy, or the stored one where there is none.
        executed: whether it has outputs, and `date` when they were made.
    """

    path: Path
    executed: bool
    nodes: list[NotebookNode] = field(repr=False)
    date: str = ""

    @property
    def stem(self) -> str:
        """Its name without the suffix, as "09_ablation"."""
        return self.path.stem

    @property
    def first(self) -> str:
        """The Markdown of its first cell."""
        return next((cell.source for cell in self.nodes if cell.cell_type == "markdown"), "")

    @property
    def title(self) -> str:
        """Its first heading."""
        found = re.search(r"^# +(.+)$", self.first, re.M)
        return found[1].strip() if found else self.stem

    def says(self, head: str) -> str:
        """The paragraph of the first cell that begins with `head` in bold, in Markdown, without it."""
        found = re.search(rf"^\*\*{head}\.?\*\*\.?(.+?)(?=\n\s*\n|\Z)", self.first, re.M | re.S)
        return found[1].strip() if found else ""

    @property
    def has_slides(self) -> bool:
        """Whether it was executed and says which cells are slides."""
        return self.executed and any("slideshow" in cell.metadata for cell in self.nodes)

    @property
    def code(self) -> str:
        """All its code."""
        return "\n".join(cell.source for cell in self.nodes if cell.cell_type == "code")


def read(path: Path, executed: bool) -> Notebook:
    """The notebook at `path`.

    Raises:
        ValueError: it is no notebook; one line that names it.
    """
    try:
        book = nbformat.read(path, 4)
    except Exception as error:
        raise ValueError(f"{path}: is no notebook ({error})") from None
    date = str(book.metadata.get("papermill", {}).get("end_time", ""))[:10]
    own = [cell for cell in book.cells if "navigation" not in cell.metadata.get("tags", [])]  # a page has links itself
    return Notebook(path, executed, own, date)


@dataclass
class Place:
    """Where a notebook's page may put what does not stand in the page itself, and what it may use.

    Attributes:
        site, folder: the site under construction, and the page's folder in it.
        alt: the words for a picture by its name.
        pictures: the bytes of the pictures that lie in `folder`/files, by name.
        link: what an address becomes, as for `markup.markdown`.
    """

    site: Path
    folder: str
    alt: dict[str, str]
    pictures: dict[str, bytes]
    link: Callable[[str], str | None]


def render(book: Notebook, place: Place) -> Iterator[Markup]:
    """The notebook's cells, each as HTML."""
    for number, cell in enumerate(book.nodes):
        if cell.cell_type == "markdown":
            yield Markup(markdown(cell.source, place.link))
        elif cell.cell_type == "code" and cell.source.strip():
            yield Markup(_code(cell) + "".join(_outputs(cell, place, f"{book.stem}-{number}")))


def _code(cell: NotebookNode) -> str:
    tags = cell.metadata.get("tags", [])
    shown = colour(cell.source)
    if "parameters" in tags or "injected-parameters" in tags:
        words = "Parameters of this run" if "injected-parameters" in tags else "Parameters"
        return f"<details><summary>{words}</summary>{shown}</details>"
    return shown


def _outputs(cell: NotebookNode, place: Place, name: str) -> Iterator[str]:
    printed = ""  # what is printed in several pieces is one text
    for number, output in enumerate([*cell.get("outputs", []), None]):
        if output and output.output_type == "stream":
            printed += output.text if output.name == "stdout" else ""
            continue
        yield _text(printed)
        printed = ""
        if output is None:
            return
        if output.output_type == "error":
            yield _text("\n".join(output.traceback))
        elif output.output_type in ("display_data", "execute_result"):
            yield _shown(output, place, f"{name}-{number}")


def _text(text: str) -> str:
    return f'<pre class="out scroll">{ansi2html(text)}</pre>' if text.strip() else ""


def _shown(output: NotebookNode, place: Place, name: str) -> str:
    data = output.data
    if "image/png" in data:
        return _picture(base64.b64decode(data["image/png"]), output.metadata.get("image/png", {}), place, name)
    if "text/html" in data:
        html = data["text/html"]
        frame = BeautifulSoup(html, "html.parser").find("iframe", srcdoc=True) if "<iframe" in html else None
        return _explorer(frame, place, name) if frame else f'<div class="out">{clean(html)}</div>'
    if "text/markdown" in data:
        return f'<div class="out">{markdown(data["text/markdown"], place.link)}</div>'
    return _text(data.get("text/plain", ""))


def _picture(png: bytes, metadata: dict, place: Place, name: str) -> str:
    """The picture that lies in the figures' folder, with its files, or, if it is another, one beside the page."""
    known = str(metadata.get("name", ""))
    same = place.pictures.get(known) == png
    if not same:
        _write(place, f"{name}.png", fewer_colours(png))
    file = f"files/{known}.png" if same else f"cells/{name}.png"
    alt = metadata.get("alt") or place.alt.get(known) or ""
    files = {"PDF": "pdf", "CSV": "csv"} if same else {}
    return Markup(
        '<figure id="{id}"><img src="{src}" alt="{alt}" {size} style="max-width:min(100%,{shown}px)" loading="lazy">'
        "<figcaption>{links}</figcaption></figure>"
    ).format(
        id=f"picture-{known or name}",
        src=file,
        alt=alt or fallback(known or name),
        size=Markup('width="{}" height="{}"').format(*size(png)),
        shown=int(metadata.get("width", size(png)[0])),
        links=Markup(" · ").join(
            [Markup('<a href="files/{}.{}">{}</a>').format(known, suffix, label) for label, suffix in files.items()]
            + [Markup('<a href="provenance.html#{}">where it comes from</a>').format(known)] * same
        ),
    )


def fallback(name: str) -> str:
    """The words for a picture that came without."""
    return f"Picture {name}: its numbers are in {name}.csv"


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG picture in pixels."""
    return Image.open(io.BytesIO(png)).size


def fewer_colours(png: bytes) -> bytes:
    """A PNG picture in at most 256 colours, on white: a third of the bytes of ours, and it looks the same."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    found = io.BytesIO()
    white.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(found, "PNG", optimize=True)
    return found.getvalue()


def _explorer(frame: Tag, place: Place, name: str) -> str:
    """A page of plotly that a notebook shows in a frame, as a file of its own, with the one copy of plotly's script.

    Its script has to be that of the installed plotly. Nothing else that a frame holds may run in the book.
    """
    page, script = BeautifulSoup(frame["srcdoc"], "html.parser"), get_plotlyjs()
    own = next((one for one in page("script") if one.string and one.string.strip() == script.strip()), None)
    if own is None:
        return _text(
            "A page that needs scripts was shown here: it is left out, as it is not one of the installed plotly."
        )
    (place.site / "_static" / SCRIPT).write_text(script, encoding="utf-8")
    own.replace_with(page.new_tag("script", src=f"../../_static/{SCRIPT}", charset="utf-8"))
    title, height = frame.get("title", "explorer"), re.sub(r"\D", "", frame.get("height", "")) or "480"
    page.html["lang"] = "en"
    for tag, text in (("title", title), ("style", "body { margin: 0; }")):  # a margin would need a bar to scroll
        page.head.append(page.new_tag(tag, string=text))
    _write(place, f"{name}.html", str(page).encode())
    shown = '<div class="out scroll"><iframe src="cells/{}.html" title="{}" height="{}"></iframe></div>'
    return Markup(shown).format(name, title, height)


def _write(place: Place, name: str, content: bytes) -> None:
    folder = place.site / place.folder / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
