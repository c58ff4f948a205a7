# SPDX-License-Identifier: Apache-2.0
"""Measure a handover of one among thousands that share a care-of address, as behind a MAG, against one by itself."""

from functools import partial

from tools.benchmarks.activation import activate
from tools.benchmarks.figures import Figure, median, milliseconds
from tools.benchmarks.hoaflow import Hoaflow
from tools.benchmarks.lab import Lab, Profiling, new_population
from tools.benchmarks.workload import Population, SharedPopulation

MANY = 16_000  # behind each of two care-of addresses
GOAL = 1.5  # times one with a care-of address of its own


def measure(lab: Lab) -> list[Figure]:
    """Measure `one_of_many`: the controller's processor time for a handover, with as many bindings in both cases."""
    size = min(2 * MANY, lab.plan.bindings)
    cost: dict[str, list[float]] = {}
    for name, population in (("own", new_population(size)), ("shared", _shared(size))):
        hoaflow = _ready(lab, population)
        cost[name] = [
            activate(lab, hoaflow, population, turn).cpu["controller"] / lab.plan.changes
            for turn in range(lab.plan.repetitions)
        ]
    own, shared = median(cost["own"]), median(cost["shared"])
    figures = [
        Figure(
            "one_of_many",
            f"{milliseconds(shared)} ({shared / own:.1f} times)",
            f"each with a care-of address of its own: {milliseconds(own)}",
            f"≤ {GOAL:g} times",
            shared <= GOAL * own,
            f"processor time of the controller, with {size // 2} home addresses behind each of two care-of addresses",
            cost,
        )
    ]
    figures = lab.explain(figures, "one-of-many", partial(_again, lab, size))
    lab.end()
    return figures


def _shared(size: int) -> SharedPopulation:
    return SharedPopulation.of(new_population(size))


def _ready(lab: Lab, population: Population) -> Hoaflow:
    hoaflow = lab.fresh()
    hoaflow.add(population)
    hoaflow.apply(population)
    lab.settle()
    return hoaflow


def _again(lab: Lab, size: int, profiling: Profiling) -> None:
    population = _shared(size)
    hoaflow = _ready(lab, population)
    with profiling():
        activate(lab, hoaflow, population, 0)
