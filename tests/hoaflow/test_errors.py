# SPDX-License-Identifier: Apache-2.0
"""All errors descend from `HoaflowError`, and its module shows them as a tree."""

import ast
import builtins
from collections import defaultdict
from functools import cache

from hoaflow import errors
from tests.support.checkout import CHECKOUT

# The top-level packages of a wheel: see the test of the wheel.
INSTALLED = ("controller", "ha_bridge", "hoaflow", "topologies")
ROOT = "HoaflowError (hoaflow.errors)"


@cache
def classes() -> dict[str, list[str]]:
    """Return the classes of all installed packages, as `Name (module)`, with their bases in the same form."""
    found = {}
    for package in INSTALLED:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            module = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
            tree = ast.parse(path.read_text())
            origin = {
                alias.asname or alias.name: f"{alias.name} ({node.module})"
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    names = [ast.unparse(base) for base in node.bases]
                    found[f"{node.name} ({module})"] = [
                        name if is_builtin_error(name) else origin.get(name, f"{name} ({module})") for name in names
                    ]
    return found


def is_builtin_error(name: str) -> bool:
    """Tell whether Python itself has an exception of this name."""
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, Exception)


def tree() -> list[str]:
    """Return the lines of the tree of all classes below `HoaflowError`."""
    below = defaultdict(list)
    for name, bases in classes().items():
        for base in bases:
            below[base].append(name)

    def branches(name: str, indent: str) -> list[str]:
        lines = []
        children = sorted(child for child in below[name] if not child.startswith("_"))
        for child in children:
            last = child == children[-1]
            lines.append(f"{indent}{'└── ' if last else '├── '}{child}")
            lines += branches(child, indent + ("    " if last else "│   "))
        return lines

    return [ROOT, *branches(ROOT, "")]


def test_every_error_descends_from_the_root() -> None:
    strays = {
        name: bases
        for name, bases in classes().items()
        if name != ROOT and any(map(is_builtin_error, bases)) and ROOT not in bases
    }
    assert not strays


def test_the_module_shows_the_tree() -> None:
    assert errors.__doc__ is not None
    shown = errors.__doc__.strip().splitlines()[2:]
    assert "\n".join(shown) == "\n".join(tree())
