"""The version of the code behind a number: a hash of every definition that the number depends on."""

import ast
import hashlib
import importlib
import inspect
from functools import cache

Name = tuple[str, str]
"""A module's name and that of a definition in it."""


@cache
def code_version(*roots: object) -> str:
    """Hash the roots (classes or functions of this package) and all that they reach in it, definition by definition.

    So a new loss or a new model leaves the version of all others as it was, and a changed one changes the
    version of those alone that use it. Comments, docstrings and `sea.data` don't count: data has its checksum.
    """
    pending = [(root.__module__, root.__name__) for root in roots]
    found: dict[Name, str] = {}
    while pending:
        name = pending.pop()
        definitions, imported = _module(name[0])
        if name not in found and name[1] in definitions:
            node = definitions[name[1]]
            found[name] = ast.dump(node)
            pending += _reached(node, name[0], definitions, imported)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:12]


@cache
def _module(name: str) -> tuple[dict[str, ast.AST], dict[str, Name]]:
    """A module's top-level definitions, and what it imports from this package: (module, "" for all of it)."""
    tree = ast.parse(inspect.getsource(importlib.import_module(name)))
    definitions: dict[str, ast.AST] = {}
    imported: dict[str, Name] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = _without_docstrings(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            definitions |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sea":
            for alias in node.names:
                whole = node.module == "sea"
                source = (f"sea.{alias.name}", "") if whole else (node.module, alias.name)
                imported[alias.asname or alias.name] = source
    return definitions, {
        alias: source for alias, source in imported.items() if source[0].split(".")[:2] != ["sea", "data"]
    }


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body.pop(0)
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _reached(node: ast.AST, module: str, definitions: dict[str, ast.AST], imported: dict[str, Name]) -> list[Name]:
    """The package's definitions that a node names, as `name` or as `module.name`."""
    reached = []
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imported:
            source, whole = imported[part.value.id][0], imported[part.value.id][1] == ""
            reached += [(source, part.attr)] if whole else []
        elif isinstance(part, ast.Name):
            reached += [imported[part.id]] if part.id in imported else []
            reached += [(module, part.id)] if part.id in definitions else []
    return reached
