# SPDX-License-Identifier: Apache-2.0
"""Measure handovers while another home agent's snapshot is applied."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass

from tools.benchmarks.activation import activate, check
from tools.benchmarks.figures import Figure, median, milliseconds, percentile, shares
from tools.benchmarks.hoaflow import Bulk
from tools.benchmarks.lab import WAITING, Lab, Profiling, new_population, posts
from tools.benchmarks.workload import Population, spread

GOAL, TIMES_GOAL = 0.05, 10  # seconds, or times the p99 without a snapshot where that is more
OTHER_HOME_AGENT = 0x98
LONGEST = 60.0  # seconds for which there are handovers to make


@dataclass(frozen=True, slots=True)
class Turn:
    """Record one repetition: the p99 before the snapshot, the snapshot, and the latencies during it, in seconds."""

    alone: float
    bulk: Bulk
    latencies: list[float]


def measure(lab: Lab) -> list[Figure]:
    """Measure `activation_under_bulk_p99_ms`, the handovers that overlap the snapshot alone."""
    other = new_population(lab.plan.bindings, OTHER_HOME_AGENT)
    turns = [_take(lab, other, turn, nullcontext) for turn in range(lab.plan.repetitions)]
    p50s, p99s = ([percentile(turn.latencies, percent) for turn in turns] for percent in (50, 99))
    alone = median([turn.alone for turn in turns])
    goal = max(GOAL, TIMES_GOAL * alone)
    bulks = [turn.bulk for turn in turns]
    split = shares([bulk.cpu for bulk in bulks], [bulk.confirmed for bulk in bulks])
    figure = Figure(
        "activation_under_bulk_p99_ms",
        milliseconds(median(p99s)),
        f"without a snapshot {milliseconds(alone)}",
        f"≤ {milliseconds(goal)}",
        median(p99s) <= goal,
        f"p50 {milliseconds(median(p50s))}; {split}",
        {"p99": p99s, "p50": p50s, "turns": [asdict(turn) for turn in turns]},
    )
    return lab.explain([figure], "under-bulk", lambda profiling: _take(lab, other, lab.plan.repetitions, profiling))


def _take(lab: Lab, other: Population, turn: int, watched: Profiling) -> Turn:
    """Measure one repetition, then remove the other home agent's bindings."""
    size = lab.plan.bindings
    hoaflow, population = lab.holding(size)
    if other not in hoaflow.populations:
        hoaflow.add(other)
    alone = activate(lab, hoaflow, population, turn).p99
    nodes = spread(size, min(size, int(LONGEST * lab.plan.rate)), turn)
    population.move(nodes)
    with lab.generating(posts(population, nodes, lab.plan.rate, WAITING)) as generator:
        generator.wait_started()
        with watched():
            bulk = hoaflow.apply(other)
        result = generator.result(stop=True)
    check(result)
    population.stay(nodes[len(result.due) :])
    ended = bulk.started + bulk.confirmed
    sent = zip(result.due, result.latencies, strict=True)
    latencies = [latency for due, latency in sent if due <= ended and due + latency >= bulk.started]
    hoaflow.clear(other)
    lab.settle()
    return Turn(alone, bulk, latencies)
