# SPDX-License-Identifier: Apache-2.0
"""Whatever is lost, late, stopped or killed: one writer at a time, which knows all flows when it renews a gate.

``HOAFLOW_INVARIANTS=1000x100`` has so many runs of so many faults.
"""

import os

import pytest

from tests.support.mastership_actors import DPIDS
from tests.support.mastership_run import Run

RUNS, STEPS = map(int, os.environ.get("HOAFLOW_INVARIANTS", "20x30").split("x"))


def test_never_two_writers_and_in_the_end_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.core.first_reading.AT_ONCE", 1)  # mobile nodes move while a member compares
    runs = [run(seed, STEPS) for seed in range(RUNS)]
    assert sum(each.takeovers for each in runs) > RUNS * len(DPIDS), "masters have changed"
    assert sum(each.gates_renewed for each in runs) > RUNS * len(DPIDS), "gates were renewed"


def run(seed: int, steps: int) -> Run:
    """Make a run, with what has happened in its error."""
    made = Run(seed)
    try:
        for _ in range(steps):
            made.step()
        made.settle()
    except AssertionError as error:
        pytest.fail(f"seed {seed}: {error}\n" + "\n".join(made.log[-60:]))
    return made
