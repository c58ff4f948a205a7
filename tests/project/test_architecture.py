# SPDX-License-Identifier: Apache-2.0
"""docs/architecture.md names modules, functions and tests, other pages name tests: each of them is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

PAGE = (CHECKOUT / "docs/architecture.md").read_text()
# Pages that say which test shows what they say.
PAGES = ("architecture.md", "conformance.md", "security.md")
PACKAGES = ("controller", "ha_bridge", "hoaflow", "topologies", "tools")
DOTTED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")
FILES = re.compile(r"`((?:\w+/)+(?:\w+\.(?:py|md))?)(?:::(\w+))?`")


@cache
def definitions(path: Path) -> set[str]:
    """Return the dotted names that a module defines: classes, their methods, functions and constants."""
    return set(_defined(ast.parse(path.read_text()).body, ""))


def _defined(body: list[ast.stmt], within: str) -> list[str]:
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(within + node.name)
            if isinstance(node, ast.ClassDef):
                found += _defined(node.body, f"{within}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [within + target.id for target in targets if isinstance(target, ast.Name)]
    return found


def is_there(dotted: str) -> bool:
    """Tell whether a package, a module or something that a module defines has this name."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        place = CHECKOUT.joinpath(*parts[:length])
        rest = ".".join(parts[length:])
        if place.with_suffix(".py").is_file():
            return not rest or rest in definitions(place.with_suffix(".py"))
        if place.is_dir():
            return not rest
    return False


@pytest.mark.parametrize("dotted", sorted(set(DOTTED.findall(PAGE))))
def test_what_the_page_names_is_there(dotted: str) -> None:
    assert is_there(dotted), f"docs/architecture.md names {dotted}, which is not there: name what has taken its place"


@pytest.mark.parametrize("page", PAGES)
def test_the_files_and_tests_that_a_page_names_are_there(page: str) -> None:
    named = FILES.findall((CHECKOUT / "docs" / page).read_text())
    assert any(name for _, name in named), f"{page} names no test"
    for path, name in named:
        assert (CHECKOUT / path).exists(), (
            f"docs/{page} names {path}, which is not there: name what has taken its place"
        )
        assert not name or name in definitions(CHECKOUT / path), f"docs/{page} names {path}::{name}, which is not there"


def test_whatever_an_attacker_may_try_is_tried() -> None:
    text = (CHECKOUT / "docs/security.md").read_text()
    table = text.partition("## Who can do what")[2].partition("These risks remain")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 30
    assert [row for row in rows if not FILES.search(row)] == [], "name a test that tries it"


def test_a_name_that_is_not_there_is_noticed() -> None:
    assert is_there("controller.core.offload.Offload.report")
    assert not is_there("controller.core.offload.Offload.pots")
    assert not is_there("controller.core.offloads")
