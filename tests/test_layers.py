# SPDX-License-Identifier: Apache-2.0
"""Who may import what: the core stays pure, parts stay apart, and one module builds OpenFlow bytes."""

import ast
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
# What knows the outside world: frameworks, sockets, the clock, the operating system.
IMPURE = {"asyncio", "eventlet", "http", "logging", "os", "requests", "ryu", "select", "socket", "subprocess"} | {
    "threading",
    "time",
    "werkzeug",
}
# Of what is impure otherwise: conversions that do nothing but compute.
COMPUTING = {"socket": {"AF_INET", "AF_INET6", "AddressFamily", "inet_ntop", "inet_pton"}}
# What the core may use of the modules that all parts share.
PURE_SHARED = {f"hoaflow.{name}" for name in ("addresses", "backoff", "errors", "sequence")}
PARTS = {"cli", "controller", "demo", "ha_bridge", "home_agent", "router", "topologies"}
# Besides itself and tunnel/, a part may use: the emulated mobile node speaks the home agent's protocol.
ALLOWED = {"topologies": {"home_agent"}, "demo": {"topologies"}}


def imported(path: Path) -> set[str]:
    """The modules that a file imports, by their full names."""
    package = ".".join(path.relative_to(CHECKOUT).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not _only_computes(node):
            found.add(package if node.level else node.module or "")
    return found


def _only_computes(node: ast.ImportFrom) -> bool:
    return {alias.name for alias in node.names} <= COMPUTING.get(node.module or "", set())


def files(folder: str) -> list[Path]:
    """The Python files below a folder of the checkout."""
    found = sorted((CHECKOUT / folder).rglob("*.py"))
    assert found, f"{folder} has no Python files"
    return found


@pytest.mark.parametrize("path", files("controller/core"), ids=lambda path: path.name)
def test_the_core_is_pure(path: Path) -> None:
    modules = imported(path)
    assert not {module.partition(".")[0] for module in modules} & IMPURE
    assert all(module.startswith("controller.core") for module in modules if module.startswith("controller"))
    assert {module for module in modules if module.startswith("hoaflow")} <= PURE_SHARED


@pytest.mark.parametrize("module", sorted(PURE_SHARED))
def test_what_the_core_shares_is_pure_as_well(module: str) -> None:
    modules = imported(CHECKOUT / f"{module.replace('.', '/')}.py")
    assert not {module.partition(".")[0] for module in modules} & IMPURE
    assert {module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names} <= PURE_SHARED


@pytest.mark.parametrize("path", sorted((CHECKOUT / "hoaflow").glob("*.py")), ids=lambda path: path.name)
def test_shared_modules_need_the_standard_library_only(path: Path) -> None:
    others = {module for module in imported(path) if module.partition(".")[0] not in sys.stdlib_module_names}
    assert all(module.count(".") == 1 and module.startswith("hoaflow.") for module in others)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_parts_do_not_reach_into_each_other(part: str) -> None:
    others = PARTS - {part} - ALLOWED.get(part, set())
    for path in files(part):
        roots = {module.partition(".")[0] for module in imported(path)}
        assert not roots & others, path


@pytest.mark.parametrize("path", files("logs"), ids=lambda path: path.name)
def test_logs_need_the_standard_library_only(path: Path) -> None:
    roots = {module.partition(".")[0] for module in imported(path)}
    assert roots <= {*sys.stdlib_module_names, "hoaflow", "logs"}


def test_one_module_builds_openflow() -> None:
    builders = {
        path.name
        for path in files("controller")
        if any(module.startswith("ryu.ofproto") and "parser" in module for module in imported(path))
        or "ofproto_v1_3_parser" in path.read_text()
    }
    # Three name the parser's types for what Ryu hands to them; the guard repairs the parser itself.
    assert builders - {"guard.py"} == {"encoder.py", "channel.py", "conversation.py", "decoder.py"}


def test_only_the_southbound_and_the_application_know_ryu() -> None:
    """So that Ryu's maintained fork can take its place by a change there alone."""
    knowing = {
        path.relative_to(CHECKOUT)
        for part in sorted(PARTS)
        for path in files(part)
        if any(module.partition(".")[0] == "ryu" for module in imported(path))
    }
    assert Path("controller/app.py") in knowing
    assert {path for path in knowing if path.parent != Path("controller/southbound")} == {Path("controller/app.py")}
