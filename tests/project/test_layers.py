# SPDX-License-Identifier: Apache-2.0
"""Who may import what, as docs/architecture.md says: the core stays pure, layers point one way, parts stay apart.

Everything is listed that a package may import. What is not listed fails, be it of the standard library in the core.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

OWN = ("controller", "ha_bridge", "hoaflow", "tests", "tools", "topologies")
# What knows nothing of network, clock, files or threads. Of some others only what computes: `COMPUTING`.
PURE = {"bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib", "heapq"} | {
    "ipaddress",
    "itertools",
    "json",
    "math",
    "msgspec",
    "struct",
    "typing",
}
COMPUTING = {"socket": {"AF_INET", "AF_INET6", "AddressFamily", "inet_ntop", "inet_pton"}, "random": {"Random"}}

# What decides in the cluster is as pure as the core.
PURE_CLUSTER = [f"controller/cluster/{name}.py" for name in ("mastership", "placement", "records", "view")]

# Of our own packages: each may import itself and these.
PURE_SHARED = {f"hoaflow.{name}" for name in ("addresses", "backoff", "deadlines", "errors", "scope", "sequence")}
SHARED = {"hoaflow.arguments", "hoaflow.closing", "hoaflow.linux", "hoaflow.logs", "hoaflow.worker", *PURE_SHARED}
GROUND = {f"controller.{name}" for name in ("changes", "events", "lingering_close", "listening", "settings", "tls")}
MOBILITY = {"hoaflow.mobility", "hoaflow.tunnel", "hoaflow.metrics", *SHARED}
MAY_IMPORT: dict[str, set[str]] = {
    "controller.core": PURE_SHARED,
    "controller.access": {"controller.core", *GROUND, *SHARED},
    "controller.cluster": {"controller.core", "hoaflow.client", "hoaflow.etcd", *GROUND, *SHARED},
    "controller.southbound": {"controller.core", "controller.access", *GROUND, *SHARED},
    "controller.rest": {"controller.core", "controller.access", "controller.southbound", *GROUND, *SHARED}
    | {"controller.cluster", "controller.metrics", "controller.traffic_history"},
    "ha_bridge": {"hoaflow.client", "hoaflow.etcd", "hoaflow.home_agent.pods.keys", "hoaflow.metrics", *SHARED},
    "hoaflow.cli": {"hoaflow.client", *SHARED},
    "hoaflow.client": SHARED,
    "hoaflow.etcd": {"hoaflow.client", *SHARED},
    "hoaflow.foreign_agent": {"hoaflow.mobile_ipv4", *MOBILITY},
    "hoaflow.home_agent": {"hoaflow.etcd", "hoaflow.mobile_ipv4", *MOBILITY},
    "hoaflow.logs": {"hoaflow.errors"},
    "hoaflow.metrics": {"hoaflow.arguments", "hoaflow.errors"},
    "hoaflow.local_mobility_anchor": {
        "hoaflow.pmipv6",
        "hoaflow.mobility",
        "hoaflow.tunnel",
        "hoaflow.metrics",
        *SHARED,
    },
    "hoaflow.mobile_access_gateway": {
        "hoaflow.pmipv6",
        "hoaflow.mobility",
        "hoaflow.tunnel",
        "hoaflow.metrics",
        *SHARED,
    },
    "hoaflow.mobile_ipv4": MOBILITY,
    "hoaflow.mobility": {"hoaflow.metrics", "hoaflow.tunnel", *SHARED},
    "hoaflow.pmipv6": MOBILITY,
    "hoaflow.router": {"hoaflow.client", "hoaflow.tunnel", *SHARED},
    "hoaflow.tunnel": SHARED,
    "topologies": {"hoaflow.client", "hoaflow.mobile_ipv4", "hoaflow.mobility", "hoaflow.tunnel", *SHARED},
}
# Of what others have written, below the folder where it stands. `ryu` is a matter of the southbound and app.py alone.
LIBRARIES: dict[str, set[str]] = {
    "controller": {"eventlet", "msgspec", "oslo_config", "prometheus_client", "werkzeug"},
    "controller/southbound": {"ryu"},
    "controller/app.py": {"ryu"},
    "ha_bridge": {"prometheus_client", "pyroute2", "requests"},
    "hoaflow/cli": {"requests", "rich", "typer", "urllib3"},
    "hoaflow/client": {"requests", "urllib3"},
    "hoaflow/etcd": {"requests"},
    "hoaflow/foreign_agent": {"prometheus_client"},
    "hoaflow/home_agent": {"pyroute2"},
    "hoaflow/metrics": {"prometheus_client"},
    "hoaflow/local_mobility_anchor": {"prometheus_client"},
    "hoaflow/mobile_access_gateway": {"prometheus_client", "scapy"},
    "hoaflow/mobile_ipv4": {"pyroute2"},
    "hoaflow/mobility": {"prometheus_client", "pyroute2", "scapy"},
    "hoaflow/pmipv6": {"scapy"},
    "hoaflow/router": {"pyroute2", "requests"},
    "hoaflow/tunnel": {"pyroute2"},
    "topologies": {"mininet", "pyroute2"},
}


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the modules that a file imports, by their full names; of a package's own, also what is taken from it."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = path.relative_to(CHECKOUT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not _only_computes(node):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            for alias in node.names:
                inner = CHECKOUT.joinpath(*module.split("."), alias.name)
                yield f"{module}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").is_file() else module


def _only_computes(node: ast.ImportFrom) -> bool:
    return {alias.name for alias in node.names} <= COMPUTING.get(node.module or "", set())


def files(folder: str) -> list[Path]:
    """Return the Python files below a folder of the checkout."""
    found = sorted((CHECKOUT / folder).rglob("*.py"))
    assert found, f"{folder} has no Python files"
    return found


def lies_in(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    "path",
    [
        *files("controller/core"),
        *(CHECKOUT / name for name in PURE_CLUSTER),
        *(CHECKOUT / f"{name.replace('.', '/')}.py" for name in sorted(PURE_SHARED)),
    ],
    ids=lambda path: path.name,
)
def test_the_core_is_pure(path: Path) -> None:
    outside = {module for module in imported(path) if module.partition(".")[0] not in OWN}
    assert {module.partition(".")[0] for module in outside} <= PURE


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_layers_point_one_way(package: str) -> None:
    for path in files(package.replace(".", "/")):
        ours = {module for module in imported(path) if module.partition(".")[0] in OWN}
        wrong = {module for module in ours if not lies_in(module, {package, *MAY_IMPORT[package]})}
        assert not wrong, f"{path.relative_to(CHECKOUT)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", sorted((CHECKOUT / "hoaflow").glob("*.py")), ids=lambda path: path.name)
def test_shared_modules_need_nothing_of_any_part(path: Path) -> None:
    ours = {module for module in imported(path) if module.partition(".")[0] in OWN}
    assert ours <= {*PURE_SHARED, "hoaflow.linux"}


def test_every_package_has_a_layer() -> None:
    """Nothing that is installed goes unchecked. The modules at the top of controller/ put the layers together."""
    inner = {
        f"{above}.{path.parent.name}"
        for above in ("controller", "hoaflow")
        for path in (CHECKOUT / above).glob("*/__init__.py")
    }
    assert {*inner, "ha_bridge", "topologies"} == MAY_IMPORT.keys()


@pytest.mark.parametrize("folder", sorted({"controller", "ha_bridge", "hoaflow", "topologies"}))
def test_libraries_are_used_where_they_belong(folder: str) -> None:
    for path in files(folder):
        place = path.relative_to(CHECKOUT)
        allowed = set().union(*(LIBRARIES.get(str(each), set()) for each in (place, *place.parents)))
        roots = {module.partition(".")[0] for module in imported(path)} - {"_typeshed"}
        wrong = roots - {*OWN, *sys.stdlib_module_names, *allowed}
        assert not wrong, f"{place} imports {', '.join(sorted(wrong))}"


def test_one_module_builds_openflow() -> None:
    builders = {
        path.name
        for path in files("controller")
        if any(module.startswith("ryu.ofproto") and "parser" in module for module in imported(path))
        or "ofproto_v1_3_parser" in path.read_text()
    }
    # One names the parser's types for what Ryu hands to it; the guard repairs the parser itself.
    assert builders - {"guard.py"} == {"encoder.py", "conversation.py"}
