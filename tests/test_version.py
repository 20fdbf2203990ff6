import shutil
import subprocess
import sys

import pytest

import sea.version
from sea.models import MODELS
from sea.version import code_version

FILES = {
    "sea/__init__.py": "",
    "sea/data/__init__.py": "from sea.data.reader import load",
    "sea/data/reader.py": "def load(): return 1",
    "sea/losses.py": """
EPSILON = 1
def used(x): return x + EPSILON
def unused(x): return x
""",
    "sea/graphs.py": """
import math
from sea import losses
from sea.losses import used as helper
from sea.data import load
from sea.data.reader import load as read
def by_attribute(x): return losses.used(math.sqrt(x))
def by_name(x): return helper(x)
def with_data(): return load() + read()
class Base: y = 1
class Model(Base):
    "A docstring."
    def forward(self, x): return by_attribute(x)
def recursive(): return recursive
""",
}


@pytest.fixture
def version(tmp_path):
    """The version of a definition in the toy package's graphs.py, after an edit of one of its files."""
    (tmp_path / "sea" / "data").mkdir(parents=True)
    shutil.copy(sea.version.__file__, tmp_path / "sea")

    def of(name="Model", file="", old="", new=""):
        for path, text in FILES.items():
            (tmp_path / path).write_text(text.replace(old, new) if path == file else text, encoding="utf-8")
        program = f"from sea import graphs, version; print(version.code_version(graphs.{name}))"
        return subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)

    return of


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sea/losses.py", "EPSILON = 1", "EPSILON = 2"),  # through losses.used, a constant
        ("sea/losses.py", "return x + EPSILON", "return EPSILON + x"),
        ("sea/graphs.py", "class Base: y = 1", "class Base: y = 2"),
        ("sea/graphs.py", "math.sqrt(x)", "math.cbrt(x)"),
        ("sea/graphs.py", "def forward(self, x)", "def forward(self, z)"),
    ],
)
def test_it_follows_what_is_used(version, file, old, new):
    first = version()
    assert version(file=file, old=old, new=new) != first


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sea/losses.py", "def unused(x): return x", "def unused(x): return 2 * x"),
        ("sea/losses.py", "EPSILON = 1", "EPSILON = 1  # a comment"),
        ("sea/graphs.py", "A docstring.", "Another."),
        ("sea/graphs.py", "return helper(x)", "return helper(2 * x)"),  # by_name is not Model's
        ("sea/data/reader.py", "return 1", "return 2"),
    ],
)
def test_it_ignores_the_rest(version, file, old, new):
    first = version()
    assert version(file=file, old=old, new=new) == first


def test_aliases_data_and_recursion(version):
    first = version("by_name")
    assert version("by_name", "sea/losses.py", "EPSILON = 1", "EPSILON = 2") != first
    first = version("with_data")
    assert version("with_data", "sea/data/reader.py", "return 1", "return 2") == first
    assert version("recursive")


def test_every_model_reaches_the_losses_it_uses():
    """On the package itself: SEA depends on SoloSim through the plug-in, BPR does not."""

    def reached(model):
        found, pending = set(), [(MODELS[model].__module__, MODELS[model].__name__)]
        while pending:
            name = pending.pop()
            definitions, imported = sea.version._module(name[0])
            if name not in found and name[1] in definitions:
                found.add(name)
                pending += sea.version._reached(definitions[name[1]], name[0], definitions, imported)
        return {name for _, name in found}

    assert {"solosim", "info_nce", "club", "knn", "row_blocks", "CELLS", "xavier", "_LogPartition"} <= reached("SEA")
    assert {"SeparateLearning", "VBPR", "embedding_norm"} <= reached("VBPR+SEA")
    assert "bpr" in reached("BPR")
    assert not {"solosim", "knn"} & reached("BPR")
    assert len({code_version(model) for model in MODELS.values()}) == len(MODELS)
