"""Slides of a notebook: one page that needs no network, by nbconvert's slide exporter.

nbconvert's own template asks other hosts for reveal.js, RequireJS, jQuery and MathJax. Here reveal.js is part of the
page (`sea/reveal`, version 5.2.0, MIT licence), and formulas are MathML, which browsers draw without a script. A cell's
metadata, `slideshow.slide_type`, says where it goes, as JupyterLab's property inspector writes it. A code cell tagged
`slides-no-code` shows its output alone. `jupyter nbconvert --to slides` takes the same notebooks, and needs a network.
"""

from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

REVEAL = Path(__file__).parent / "reveal"
NO_CODE = "slides-no-code"
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
                    transition: "none" });
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
.reveal pre, .reveal .jp-OutputArea-output pre { font-size: 17px; line-height: 1.35; margin: 0; padding: .3em .5em; }
.reveal .jp-RenderedImage img { display: block; margin: .3em auto; max-width: 100%; height: auto; }
.reveal table { font-size: 18px; margin: .3em auto; border-collapse: collapse; }
.reveal th, .reveal td { padding: .15em .8em; border-bottom: 1px solid #ccc; }
math[display=block] { margin: .5em 0; }
"""


class _Renderer(IPythonRenderer):
    """Markdown as nbconvert writes it, with formulas as MathML."""

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body, display="block")


def _markdown(source: str) -> str:
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def slides(notebook: Path, out: Path) -> None:
    """Write an executed notebook as slides: one HTML page with its pictures, its script and its style inside.

    Args:
        notebook: an executed copy, such as `figures/planted/notebooks/01_lesson.ipynb`.
        out: the page to write; its folder is made if there is none.
    """
    book = nbformat.read(notebook, 4)
    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = {NO_CODE}
    exporter = SlidesExporter(config=config, raw_template=TEMPLATE)
    exporter.register_filter("markdown2html", _markdown)
    texts = {
        name: (REVEAL / name.replace("_", ".")).read_text(encoding="utf-8") for name in ("reveal_js", "reveal_css")
    }
    resources = texts | {"slides_css": CSS, "metadata": {"name": notebook.stem}}
    page, _ = exporter.from_notebook_node(book, resources)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
