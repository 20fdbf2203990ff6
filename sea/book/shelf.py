"""What the book is made from: the folders of figures, one a dataset."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from sea import verdicts
from sea.book import cells
from sea.book.cells import Notebook

SUFFIXES = {"pdf": "PDF", "png": "PNG", "csv": "CSV", "tex": "LaTeX", "md": "Markdown", "json": "JSON"}
"""What can be downloaded, in the order shown."""


@dataclass
class Exhibit:
    """A picture or a table that `sea.figures` saved.

    Attributes:
        stamp: its provenance.
        files: by suffix, without the dot.
    """

    name: str
    stamp: dict
    files: dict[str, Path]

    @property
    def is_picture(self) -> bool:
        """Whether there is a picture to look at; a table otherwise."""
        return "png" in self.files

    @property
    def alt(self) -> str:
        """The words for who can't see the picture."""
        return self.stamp.get("alt") or cells.fallback(self.name)


@dataclass
class Shelf:
    """A dataset's folder of figures.

    Attributes:
        folder: where it lies; its name is the dataset's here.
        notebooks: in reading order, executed copies and, of the book's first dataset, stored ones where there is none.
    """

    folder: Path
    notebooks: list[Notebook]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @cached_property
    def dataset(self) -> str:
        """The name of the data, as most of the provenance has it."""
        names = Counter(one.stamp["dataset"] for one in self.exhibits if one.stamp.get("dataset"))
        return names.most_common(1)[0][0] if names else self.name

    @property
    def title(self) -> str:
        """What the book calls it."""
        return "Planted worlds" if self.name == "planted" else self.name

    @cached_property
    def exhibits(self) -> list[Exhibit]:
        """All pictures and tables, by name."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            beside = {suffix: path.with_suffix(f".{suffix}") for suffix in SUFFIXES}
            files = {suffix: file for suffix, file in beside.items() if file.exists()}
            if "png" in files or "md" in files:
                found.append(Exhibit(path.stem, json.loads(path.read_text(encoding="utf-8")), files))
        return found

    @cached_property
    def claims(self) -> pd.DataFrame | None:
        """The claims, judged (`sea.verdicts.load`), or None if the dataset has no such table."""
        try:
            return verdicts.load(self.name, self.folder.parent)
        except FileNotFoundError:
            return None

    def by_notebook(self) -> list[tuple[Notebook | None, list[Exhibit]]]:
        """The exhibits in reading order, with the first notebook whose code names them; None where none does."""
        left, found = {one.name: one for one in self.exhibits}, []
        for book in self.notebooks:
            named = [name for name in dict.fromkeys(re.findall(r'"(\w+)"', book.code)) if name in left]
            found.append((book, [left.pop(name) for name in named]))
        return [(book, group) for book, group in [*found, (None, list(left.values()))] if group]


def read(figures: Path, notebooks: Path) -> list[Shelf]:
    """The shelves of a folder of figures: itself, if figures lie in it, else one for each folder in it that has some.

    Args:
        figures: as `./run_all.sh` writes it.
        notebooks: the stored notebooks.

    Raises:
        ValueError: there is nothing to show, or a notebook can't be read; one line.
    """
    if (figures / "notebooks").is_dir() or list(figures.glob("*.json")):
        folders = [figures]
    else:
        folders = [path for path in sorted(figures.glob("*")) if list(path.glob("*.json"))]
        folders = [path for path in folders if not path.name.endswith("-quick")]
    if not folders:
        raise ValueError(f"--figures needs to be a folder that ./run_all.sh wrote (got {figures})")
    folders.sort(key=lambda path: path.name != "planted")
    stored = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    return [Shelf(folder, _notebooks(folder, stored, whole=folder == folders[0])) for folder in folders]


def _notebooks(folder: Path, stored: list[Path], whole: bool) -> list[Notebook]:
    executed = [folder / "notebooks" / path.name for path in stored]
    return [
        cells.read(copy if copy.exists() else path, copy.exists())
        for copy, path in zip(executed, stored)
        if whole or copy.exists()
    ]
