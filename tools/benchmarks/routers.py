# SPDX-License-Identifier: Apache-2.0
"""Measure activation and snapshots on several switches, all of which hold every binding's flows."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from functools import partial

from tools.benchmarks.activation import Activation, activate
from tools.benchmarks.bare_program import Work
from tools.benchmarks.figures import Figure, median, milliseconds, paired_ratio, percentile, shares
from tools.benchmarks.hoaflow import Bulk, Hoaflow, bridge
from tools.benchmarks.lab import Lab, Profiling, new_population
from tools.benchmarks.ryu import CHECKOUT
from tools.benchmarks.workload import Population

COUNTS = (1, 16)
GOAL = 2.0  # times the bare program, with the most
FIRST_RATE = 500.0  # a second: what the bare program brings its mobile nodes to their first link with
TIMEOUT = 120.0  # seconds
SHARE = 50  # of all bindings: one ovs-vswitchd has the flows of 16


@dataclass(slots=True)
class Step:
    """Collect all repetitions with one number of switches; `bare` is the bare program's p99 in seconds."""

    bulks: list[Bulk] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


def measure(lab: Lab) -> list[Figure]:
    """Measure `routers`: activation on the most switches, against the same handovers without a controller."""
    steps = {count: Step() for count in COUNTS}
    for turn in range(lab.plan.repetitions):
        for count, step in steps.items():
            hoaflow, population = _ready(lab, count)
            step.bulks.append(hoaflow.apply(population))
            lab.settle()
            step.activations.append(activate(lab, hoaflow, population, turn))
            hoaflow.kill()  # the flows stay
            step.bare.append(_bare(lab, hoaflow))
    p99s = {count: [each.p99 for each in step.activations] for count, step in steps.items()}
    p50s = {count: [each.p50 for each in step.activations] for count, step in steps.items()}
    ratio = paired_ratio(p99s[COUNTS[-1]], steps[COUNTS[-1]].bare)
    most = steps[COUNTS[-1]].activations
    split = shares([each.cpu for each in most], [each.elapsed for each in most])
    shown = [
        f"{count}: bulk of {_size(lab)} {median([bulk.confirmed for bulk in step.bulks]):.2f} s,"
        f" p50 {milliseconds(median(p50s[count]))}, p99 {milliseconds(median(p99s[count]))},"
        f" the bare program's {milliseconds(median(step.bare))}"
        for count, step in steps.items()
    ]
    figures = [
        Figure(
            "routers",
            f"p99 {milliseconds(median(p99s[COUNTS[-1]]))} ({ratio:.1f} times) with {COUNTS[-1]} switches",
            f"the same without a controller: p99 {milliseconds(median(steps[COUNTS[-1]].bare))}",
            f"≤ {GOAL:g} times",
            ratio <= GOAL,
            f"{'; '.join(shown)}; with {COUNTS[-1]}, {split}",
            {
                str(count): {
                    "bulks": [asdict(bulk) for bulk in step.bulks],
                    "p50": p50s[count],
                    "p99": p99s[count],
                    "bare_p99": step.bare,
                }
                for count, step in steps.items()
            },
        )
    ]
    figures = lab.explain(figures, "routers", partial(_again, lab))
    lab.end()
    return figures


def _bare(lab: Lab, hoaflow: Hoaflow) -> float:
    """Return the p99, in seconds, of handovers by the bare program on the same bridges, without the first ones."""
    sockets = [str(lab.ovs.directory / f"{bridge(dpid)}.mgmt") for dpid in hoaflow.dpids]
    latencies: list[float] = []
    for link, rate in ((1, FIRST_RATE), (2, lab.plan.rate)):
        work = Work(sockets, min(lab.plan.changes, _size(lab)), rate, link)
        latencies = json.loads(
            subprocess.run(
                [sys.executable, "-m", "tools.benchmarks.bare_program"],
                input=json.dumps(asdict(work)),
                cwd=CHECKOUT,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=TIMEOUT,
            ).stdout
        )
    return percentile(latencies, 99)


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
