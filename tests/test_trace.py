"""The page that traces a training step: every link leads to the line where its name is defined."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "sea" / "README.md"
LINK = re.compile(r"\[`(\w+)`\]\(([\w/]+\.py)#L(\d+)\)")
LINKS = LINK.findall(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "file", "line"), LINKS, ids=lambda value: str(value))
def test_a_link_leads_to_the_definition(name, file, line):
    lines = (PAGE.parent / file).read_text(encoding="utf-8").splitlines()
    defined = [k for k, text in enumerate(lines, 1) if re.match(rf"\s*(def|class) {name}\b", text)]
    assert int(line) in defined, f"{name} is defined in line {defined} of sea/{file}"


def test_the_page_links_to_every_part_of_a_step():
    assert {"run", "build", "fit", "loss", "solosim", "club", "evaluate", "Record"} <= {name for name, *_ in LINKS}
    plain = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE.read_text(encoding="utf-8"))
    assert all((PAGE.parent / target).exists() for target in plain)
