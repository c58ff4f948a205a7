# SPDX-License-Identifier: Apache-2.0
"""Measure how long a switch that was killed and started again takes to have all flows."""

import time
from functools import partial

from tests.support.waiting import wait_for
from tools.benchmarks.figures import Figure, median, shares
from tools.benchmarks.hoaflow import Bulk, Hoaflow, switches
from tools.benchmarks.lab import Lab, Profiling, new_population
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.workload import Population

GOAL = 1.5  # times the snapshot of the same run, and the switch's own start


def measure(lab: Lab) -> list[Figure]:
    """Measure `switch_restart`: the time from the start of `ovs-vswitchd` until all bindings are active again."""
    bulks: list[Bulk] = []
    starts: list[float] = []
    seconds: list[float] = []
    cpu: list[dict[str, float]] = []
    for _ in range(lab.plan.repetitions):
        hoaflow, population = lab.fresh(), new_population(lab.plan.bindings)
        hoaflow.add(population)
        bulks.append(hoaflow.apply(population))
        lab.settle()
        started = _restart(hoaflow)
        starts.append(time.monotonic() - started)
        clock = Stopwatch(hoaflow.pids)
        _wait(hoaflow, population)
        seconds.append(time.monotonic() - started)
        cpu.append(clock.cpu())
    bulk, start, taken = median([each.confirmed for each in bulks]), median(starts), median(seconds)
    limit = GOAL * bulk + start
    figures = [
        Figure(
            "switch_restart",
            f"{taken:.2f} s",
            f"the snapshot {bulk:.2f} s, the switch's own start {start:.2f} s",
            f"≤ {GOAL:g} times the snapshot, and the start: {limit:.2f} s",
            taken <= limit,
            shares(cpu, seconds),
            {"seconds": seconds, "starts": starts, "bulks": [each.confirmed for each in bulks]},
        )
    ]
    figures = lab.explain(figures, "switch-restart", partial(_again, lab))
    lab.end()
    return figures


def _restart(hoaflow: Hoaflow) -> float:
    """Kill and start the switch, bring its ports up, and return when it was started."""
    hoaflow.ovs.kill("ovs-vswitchd")
    started = time.monotonic()
    hoaflow.ovs.start_switch()
    hoaflow.switch_restarted()
    return started


def _wait(hoaflow: Hoaflow, population: Population) -> None:
    hoaflow.wait_for_flows(population)
    wait_for("the last binding is active", partial(_is_active, hoaflow, population))


def _is_active(hoaflow: Hoaflow, population: Population) -> bool:
    last = population.binding(len(population) - 1, time.monotonic())
    return bool(hoaflow.rest.ask("GET", f"/v1/bindings/{last['home_address']}")["state"] == "active")


def _again(lab: Lab, profiling: Profiling) -> None:
    hoaflow, population = lab.holding(lab.plan.bindings)
    _restart(hoaflow)
    assert switches(lab.ovs)
    with profiling():
        _wait(hoaflow, population)
