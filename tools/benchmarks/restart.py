# SPDX-License-Identifier: Apache-2.0
"""Measure the restart of a killed controller while its flows stay in the switch."""

import time

from tools.benchmarks import switch
from tools.benchmarks.figures import Figure, median, shares
from tools.benchmarks.hoaflow import Bulk, bridge
from tools.benchmarks.lab import ROUTER, Lab, new_population

GOAL = 0.8  # times a snapshot to a controller and a switch that have nothing, in the same run
# A switch whose connection has lasted for so many seconds tries again after 1 s, then 2 s, and so on up to 8 s; one
# whose connection has not goes on where it was.
STEADY = 10.0
SHOWN = 3  # changed flows, of those there should be none


def measure(lab: Lab) -> list[Figure]:
    """Measure `restart_seconds`, from the process's start until the last binding is confirmed as active.

    It has to connect its switch, read its flows back, and take home agent, backend and snapshot. The same flows have
    to be in the switch afterwards, none sent again but the gates.
    """
    hoaflow, population = lab.fresh(), new_population(lab.plan.bindings)
    hoaflow.add(population)
    bulk = hoaflow.apply(population).confirmed
    seconds: list[float] = []
    listening: list[float] = []
    bulks: list[Bulk] = []
    changed: list[int] = []
    examples: list[str] = []
    connected = time.monotonic()
    for _ in range(lab.plan.repetitions):
        hoaflow.apply(population)
        lab.settle()
        before = switch.dump(lab.ovs, bridge(ROUTER))
        time.sleep(max(0.0, connected + STEADY - time.monotonic()))
        hoaflow.kill()
        started = time.monotonic()
        hoaflow.start()
        listening.append(time.monotonic() - started)
        connected = time.monotonic()
        bulks.append(hoaflow.apply(population))
        seconds.append(time.monotonic() - started)
        lab.settle()
        found = switch.dump(lab.ovs, bridge(ROUTER)).changed_since(before, started)
        changed.append(len(found))
        examples += found[:SHOWN]
    taken, goal = median(seconds), GOAL * bulk
    split = shares([bulk.cpu for bulk in bulks], [bulk.confirmed for bulk in bulks])
    reason = f"it listens after {median(listening):.2f} s; then {split}"
    return [
        Figure(
            "restart_seconds",
            f"{taken:.2f} s, {max(changed)} flows changed",
            f"the snapshot {bulk:.2f} s",
            f"≤ {GOAL:g} times the snapshot: {goal:.2f} s, 0 flows",
            taken <= goal and not any(changed),
            "; ".join([reason, *(f"changed: {flow}" for flow in examples[:SHOWN])]),
            {"seconds": seconds, "listening": listening, "changed_flows": changed},
        )
    ]
