"""Writing a dataset's files: all of them, or none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from sea.data.checks import DataError


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A folder to write into, which takes its name, `folder`, when all went well, and is removed otherwise.

    Raises:
        DataError: `folder` exists and is not an empty folder.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder}: needs to be a new or an empty folder (there is something already)")
    partial = folder.parent / f".partial-{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def one_line(texts: pd.Series) -> pd.Series:
    """The values as text, tabs and line ends within them as spaces."""
    return texts.astype(str).str.split().str.join(" ")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Tab separated, with a header, unquoted: tabs and line ends within a text become spaces."""
    texts = table.select_dtypes(exclude="number").columns
    plain = table.assign(**{name: one_line(table[name]) for name in texts})
    lines = ["\t".join(map(str, row)) for row in (plain.columns, *plain.itertuples(index=False))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
