# SPDX-License-Identifier: Apache-2.0
"""Measure the controller's processor time for a handover, on the first router and on each further one."""

import time
from functools import partial

from tools.benchmarks.activation import activate, moves
from tools.benchmarks.baselines import BareRest, BareRyu
from tools.benchmarks.figures import Figure, median, milliseconds
from tools.benchmarks.hoaflow import Hoaflow
from tools.benchmarks.lab import ROUTER, Lab, Profiling, new_population
from tools.benchmarks.ports import REFERENCE_REST
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.workload import Population

COUNTS = (1, 9)  # routers
FIRST_GOAL, FURTHER_GOAL = 2.0, 1.2  # times a bare Ryu program
SHARE = 50  # of all bindings: one ovs-vswitchd has the flows of all routers


def measure(lab: Lab) -> list[Figure]:
    """Measure `handover_cost`, against a Ryu program that sends each switch the same bundle and reads its answers."""
    cost: dict[int, list[float]] = {count: [] for count in COUNTS}
    bare: dict[int, list[float]] = {count: [] for count in COUNTS}
    checked: dict[int, list[float]] = {count: [] for count in COUNTS}
    for turn in range(lab.plan.repetitions):
        for count in COUNTS:
            hoaflow, population = _ready(lab, count)
            cost[count].append(activate(lab, hoaflow, population, turn).cpu["controller"] / _moves(lab))
            lab.end()
            bare[count].append(_bare(lab, count))
            checked[count].append(_checked(lab, count, population, turn))
    first, further = _split(cost)
    bare_first, bare_further = _split(bare)
    checked_first, checked_further = _split(checked)
    one, more = first / bare_first, further / bare_further
    figures = [
        Figure(
            "handover_cost",
            f"{milliseconds(first)} ({one:.1f} times), each further router {milliseconds(further)} ({more:.1f} times)",
            f"the same bundle from bare Ryu: {milliseconds(bare_first)}, {milliseconds(bare_further)};"
            f" checking, by REST: {milliseconds(checked_first)}, {milliseconds(checked_further)}",
            f"≤ {FIRST_GOAL:g} times, ≤ {FURTHER_GOAL:g} times",
            one <= FIRST_GOAL and more <= FURTHER_GOAL,
            f"processor time of the controller, with {COUNTS[0]} and {COUNTS[-1]} routers",
            {"hoaflow": cost, "bare": bare, "checking": checked},
        )
    ]
    figures = lab.explain(figures, "handover-cost", partial(_again, lab))
    lab.end()
    return figures


def _split(costs: dict[int, list[float]]) -> tuple[float, float]:
    """Return the cost with the fewest routers and the cost of each further router, in seconds."""
    fewest, most = (median(costs[count]) for count in COUNTS)
    return fewest, (most - fewest) / (COUNTS[-1] - COUNTS[0])


def _size(lab: Lab) -> int:
    return max(lab.plan.changes, lab.plan.bindings // SHARE)


def _moves(lab: Lab) -> int:
    return lab.plan.changes


def _ready(lab: Lab, count: int) -> tuple[Hoaflow, Population]:
    hoaflow, population = lab.fresh(count), new_population(_size(lab))
    hoaflow.add(population)
    hoaflow.apply(population)
    lab.settle()
    return hoaflow, population


def _bare(lab: Lab, count: int) -> float:
    """Return the bare program's processor seconds for one handover."""
    with BareRyu(lab.ovs, lab.directory, range(ROUTER, ROUTER + count)) as ryu:
        clock = Stopwatch({"ryu": ryu.pid})
        ryu.handovers(_moves(lab), lab.plan.rate)
        return clock.cpu()["ryu"] / _moves(lab)


def _checked(lab: Lab, count: int, population: Population, turn: int) -> float:
    """Return what a handover takes of a Ryu program that gets it by REST and checks it, in processor seconds."""
    with BareRest(lab.ovs, lab.directory, range(ROUTER, ROUTER + count)) as app:
        app.report([population.report(time.monotonic())], app.CHECKED)
        lab.settle()
        clock = Stopwatch({"app": app.pid})
        moves(lab, population, turn, app.CHECKED, REFERENCE_REST)
        return clock.cpu()["app"] / _moves(lab)


def _again(lab: Lab, profiling: Profiling) -> None:
    hoaflow, population = _ready(lab, COUNTS[-1])
    with profiling():
        activate(lab, hoaflow, population, 0)
