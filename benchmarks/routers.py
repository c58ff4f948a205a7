# SPDX-License-Identifier: Apache-2.0
"""Several switches that all hold every binding's flows."""

from dataclasses import asdict, dataclass, field

from benchmarks.activation import Activation, activate
from benchmarks.figures import Figure, median, milliseconds, paired_ratio, shares
from benchmarks.hoaflow import Bulk
from benchmarks.lab import Lab, new_population

COUNTS = (1, 4, 16)
GOAL = 2.0  # times, from the fewest to the most
SHARE = 50  # of all bindings: one ovs-vswitchd has the flows of 16


@dataclass(slots=True)
class Step:
    """All repetitions with so many switches."""

    bulks: list[Bulk] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)


def measure(lab: Lab) -> list[Figure]:
    """`routers`: activation on the most switches against that on one; with them, bulk times."""
    size = max(1, lab.plan.bindings // SHARE)
    steps = {count: Step() for count in COUNTS}
    for turn in range(lab.plan.repetitions):
        for count, step in steps.items():
            hoaflow, population = lab.fresh(count), new_population(size)
            hoaflow.add(population)
            step.bulks.append(hoaflow.apply(population))
            lab.settle()
            step.activations.append(activate(lab, hoaflow, population, turn))
    lab.end()
    p99s = {count: [each.p99 for each in step.activations] for count, step in steps.items()}
    p50s = {count: [each.p50 for each in step.activations] for count, step in steps.items()}
    ratio = paired_ratio(p99s[COUNTS[-1]], p99s[COUNTS[0]])
    most = steps[COUNTS[-1]].activations
    split = shares([each.cpu for each in most], [each.elapsed for each in most])
    shown = [
        f"{count}: bulk of {size} {median([bulk.confirmed for bulk in step.bulks]):.2f} s,"
        f" p50 {milliseconds(median(p50s[count]))}, p99 {milliseconds(median(p99s[count]))}"
        for count, step in steps.items()
    ]
    return [
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
