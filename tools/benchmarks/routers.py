# SPDX-License-Identifier: Apache-2.0
"""Measure activation and snapshots on several switches, all of which hold every binding's flows."""

from dataclasses import asdict, dataclass, field
from functools import partial

from tools.benchmarks.activation import Activation, activate
from tools.benchmarks.figures import Figure, median, milliseconds, paired_ratio, shares
from tools.benchmarks.hoaflow import Bulk, Hoaflow
from tools.benchmarks.lab import Lab, Profiling, new_population
from tools.benchmarks.workload import Population

COUNTS = (1, 4, 16)
GOAL = 2.0  # times, from the fewest to the most
SHARE = 50  # of all bindings: one ovs-vswitchd has the flows of 16


@dataclass(slots=True)
class Step:
    """Collect all repetitions with one number of switches."""

    bulks: list[Bulk] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)


def measure(lab: Lab) -> list[Figure]:
    """Measure `routers`: activation on the most switches against that on one, and the snapshots' times."""
    steps = {count: Step() for count in COUNTS}
    for turn in range(lab.plan.repetitions):
        for count, step in steps.items():
            hoaflow, population = _ready(lab, count)
            step.bulks.append(hoaflow.apply(population))
            lab.settle()
            step.activations.append(activate(lab, hoaflow, population, turn))
    p99s = {count: [each.p99 for each in step.activations] for count, step in steps.items()}
    p50s = {count: [each.p50 for each in step.activations] for count, step in steps.items()}
    ratio = paired_ratio(p99s[COUNTS[-1]], p99s[COUNTS[0]])
    most = steps[COUNTS[-1]].activations
    split = shares([each.cpu for each in most], [each.elapsed for each in most])
    shown = [
        f"{count}: bulk of {_size(lab)} {median([bulk.confirmed for bulk in step.bulks]):.2f} s,"
        f" p50 {milliseconds(median(p50s[count]))}, p99 {milliseconds(median(p99s[count]))}"
        for count, step in steps.items()
    ]
    figures = [
        Figure(
            "routers",
            f"p99 {ratio:.2f} times with {COUNTS[-1]} switches",
            f"{COUNTS[0]} switch: p99 {milliseconds(median(p99s[COUNTS[0]]))}",
            f"< {GOAL:g} times",
            ratio < GOAL,
            f"{'; '.join(shown)}; with {COUNTS[-1]}, {split}",
            {
                str(count): {"bulks": [asdict(bulk) for bulk in step.bulks], "p50": p50s[count], "p99": p99s[count]}
                for count, step in steps.items()
            },
        )
    ]
    figures = lab.explain(figures, "routers", partial(_again, lab))
    lab.end()
    return figures


def _size(lab: Lab) -> int:
    return max(1, lab.plan.bindings // SHARE)


def _ready(lab: Lab, count: int) -> tuple[Hoaflow, Population]:
    """Return a controller with `count` switches, whose home agent has not reported its bindings."""
    hoaflow, population = lab.fresh(count), new_population(_size(lab))
    hoaflow.add(population)
    return hoaflow, population


def _again(lab: Lab, profiling: Profiling) -> None:
    hoaflow, population = _ready(lab, COUNTS[-1])
    hoaflow.apply(population)
    with profiling():
        activate(lab, hoaflow, population, 0)
