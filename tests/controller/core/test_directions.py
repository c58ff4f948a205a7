# SPDX-License-Identifier: Apache-2.0
"""Dependencies inside the core point one way, as docs/architecture.md says: what is asked does not know who asks."""

import ast
from functools import cache
from pathlib import Path

import pytest

CORE = Path(__file__).parents[3] / "controller/core"
# From those who ask to those who are asked.
LAYERS = (
    ("offload", "sessions", "explanation", "binding_counts", "readiness"),
    ("updates", "snapshots", "switches", "binding_states", "activation_events", "routers"),
    ("router",),
    ("gates",),
    ("reconciliation",),
    ("subject_reconciler",),
    ("desired",),
    ("registrations", "switch_state", "tunnels"),
    ("tunnel_list", "installed", "switch_work", "refused_flows", "home_agents", "flap_damping"),
    ("bindings", "flows"),
)


@cache
def imported(module: str) -> set[str]:
    """Return the modules of the core that one of them imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((CORE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "controller.core":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("controller.core."):
            found.add((node.module or "").rpartition(".")[2])
    return found


def reached(module: str) -> set[str]:
    """All modules of the core that one of them imports, directly or not."""
    found, to_follow = set[str](), [module]
    while to_follow:
        new = imported(to_follow.pop()) - found
        found |= new
        to_follow += new
    return found


@pytest.mark.parametrize(("place", "layer"), list(enumerate(LAYERS)), ids=[" ".join(layer) for layer in LAYERS])
def test_who_is_asked_does_not_know_who_asks(place: int, layer: tuple[str, ...]) -> None:
    above = {module for upper in LAYERS[:place] for module in upper}
    assert reached(LAYERS[0][0]) > {"router", "desired", "bindings"}, "imports are found"
    for module in layer:
        assert not reached(module) & above, f"{module} must not reach those who ask it"
