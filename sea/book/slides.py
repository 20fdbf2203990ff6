"""Slides of a notebook: one page that needs no network, by nbconvert's slide exporter.

nbconvert's own template asks other hosts for reveal.js, RequireJS, jQuery and MathJax. Here reveal.js is part of the
page (`sea/book/reveal`, version 5.2.0, MIT licence), and formulas are MathML, which browsers draw without a script. A
cell's metadata, `slideshow.slide_type`, says where it goes, as JupyterLab's property inspector writes it. A code cell
tagged `slides-no-code` shows its output alone. `jupyter nbconvert --to slides` takes the same notebooks, and needs a
network.
"""

from collections.abc import Callable
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from traitlets.config import Config

from sea.book.markup import Linked

REVEAL = Path(__file__).parent / "reveal"
NO_CODE = "slides-no-code"
LEFT_OUT = {"parameters", "injected-parameters", "navigation"}
"""Tags of cells that are no slides: they have folders of one machine, or lead to other notebooks."""
TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block header -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ nb.metadata.get('title', resources['metadata']['name']) | e }}, slides</title>
{{ self.notebook_css() }}
{% for css in resources.inlining.css %}<style>{{ css }}</style>{% endfor %}
<style>{{ resources.reveal_css }}</style>
<style>{{ resources.slides_css }}</style>
</head>
{%- endblock header -%}
{%- block footer_js -%}
<script>{{ resources.reveal_js }}</script>
<script>
Reveal.initialize({ width: 1100, height: 760, margin: 0.03, center: false, hash: true, slideNumber: "c/t",
                    navigationMode: "linear", transition: "none" });
</script>
{%- endblock footer_js -%}
"""
CSS = """
body, .reveal { background: white; color: #222; font: 22px/1.4 system-ui, sans-serif; }
.reveal .slides { text-align: left; }
.reveal h1 { font-size: 40px; line-height: 1.15; margin: 0 0 .5em; }
.reveal h2, .reveal h3 { font-size: 30px; line-height: 1.2; margin: 0 0 .5em; }
.reveal p, .reveal ul, .reveal ol { margin: .5em 0; font-size: inherit; }
.reveal .jp-RenderedHTMLCommon { font-size: 22px; line-height: 1.4; }
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt, .reveal .jp-Collapser, .anchor-link { display: none; }
.reveal .jp-Cell { padding: 2px 0; }
.reveal pre, .reveal .jp-OutputArea-output pre { font-size: 16px; line-height: 1.35; margin: 0; padding: .3em .5em; }
.reveal .jp-InputArea-editor pre { white-space: pre-wrap; }
.reveal .jp-RenderedImage img { display: block; margin: .3em auto; width: auto; max-width: 100%; max-height: 480px; }
.reveal table { font-size: 18px; margin: .3em auto; border-collapse: collapse; }
.reveal th, .reveal td { padding: .15em .8em; border-bottom: 1px solid #ccc; }
math[display=block] { margin: .5em 0; }
.reveal .slide-number { right: auto; left: 8px; }
"""


def slides(notebook: Path, out: Path, link: Callable[[str], str | None] = lambda url: url) -> None:
    """Write an executed notebook as slides: one HTML page with its pictures, its script and its style inside.

    Args:
        notebook: an executed copy, such as `figures/planted/notebooks/01_lesson.ipynb`.
        out: the page to write; its folder is made if there is none.
        link: what a link's address becomes; its text stands alone if that is None.
    """

    def markdown(source: str) -> str:
        return MarkdownWithMath(renderer=Linked(link)).render(source)

    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = {NO_CODE}
    config.TagRemovePreprocessor.remove_cell_tags = LEFT_OUT
    exporter = SlidesExporter(config=config, raw_template=TEMPLATE)
    exporter.register_filter("markdown2html", markdown)
    resources = {
        name: (REVEAL / name.replace("_", ".")).read_text(encoding="utf-8") for name in ("reveal_js", "reveal_css")
    }
    resources |= {"slides_css": CSS, "metadata": {"name": notebook.stem}}
    page, _ = exporter.from_notebook_node(nbformat.read(notebook, 4), resources)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
