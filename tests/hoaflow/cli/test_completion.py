# SPDX-License-Identifier: Apache-2.0
"""Completion in the shells, by what the controller knows."""

import pytest

from tests.support.bench import HOME_ADDRESS, HOME_AGENT, Bench, binding
from tests.support.operator import Operator
from tests.support.operator_bench import COMPLETE, OTHER


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("hoaflow bin", ["bindings"]),
        ("hoaflow bindings s", ["show"]),
        ("hoaflow bindings show ", [HOME_ADDRESS, OTHER]),
        ("hoaflow bindings show 2001:db8:99::2", ["200"]),  # bash keeps what is before the last colon
        ("hoaflow bindings show 2001:db8:", ["99::100", "99::200"]),
        ("hoaflow bindings show --controller http://127.0.0.1:1 ", []),
        ("hoaflow --controller http://127.0.0.1:1 bindings show ", []),
        ("hoaflow bindings list --home-agent ", [HOME_AGENT]),
        ("hoaflow bindings list --state a", ["active"]),
        ("hoaflow routers show ", ["000000000000001a"]),
        ("hoaflow flows ", ["000000000000001a"]),
    ],
)
def test_bash_completes_what_the_controller_knows(
    bench: Bench, hoaflow: Operator, line: str, completed: list[str]
) -> None:
    bench.snapshot(binding(), binding(home_address=OTHER))
    assert hoaflow.shell(COMPLETE.format(line=line)) == (0, "".join(f"{word}\n" for word in completed), "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same(bench: Bench, hoaflow: Operator, shell: str) -> None:
    assert "hoaflow" in hoaflow("--show-completion", shell).out
    asking = {
        "_HOAFLOW_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "hoaflow bindings show 2001:db8:99::",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    assert "100" in hoaflow(environment=asking).out
