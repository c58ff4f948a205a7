# SPDX-License-Identifier: Apache-2.0
"""Handovers while a snapshot of another home agent is being applied."""

from dataclasses import asdict

from benchmarks.activation import check
from benchmarks.figures import Figure, median, milliseconds, percentile, shares
from benchmarks.hoaflow import Bulk
from benchmarks.lab import Lab, new_population, posts
from benchmarks.workload import spread

GOAL = 0.1  # seconds
OTHER_HOME_AGENT = 0x98
LONGEST = 60.0  # seconds for which there are handovers to make


def measure(lab: Lab) -> list[Figure]:
    """`activation_under_bulk_p99_ms`, of the handovers under way while the snapshot was being applied."""
    size = lab.plan.bindings
    count = min(size, int(LONGEST * lab.plan.rate))
    latencies: list[list[float]] = []
    bulks: list[Bulk] = []
    hoaflow, population = lab.holding(size)
    other = new_population(size, OTHER_HOME_AGENT)
    hoaflow.add(other)
    for turn in range(lab.plan.repetitions):
        nodes = spread(size, count, turn)
        population.move(nodes)
        with lab.generating(posts(population, nodes, lab.plan.rate, "?wait=active")) as generator:
            generator.wait_started()
            bulk = hoaflow.apply(other)
            result = generator.result(stop=True)
        check(result)
        population.stay(nodes[len(result.due) :])
        bulks.append(bulk)
        ended = bulk.started + bulk.confirmed
        sent = zip(result.due, result.latencies, strict=True)
        latencies.append([latency for due, latency in sent if due <= ended and due + latency >= bulk.started])
        hoaflow.clear(other)
        lab.settle()
    p99s = [percentile(each, 99) for each in latencies]
    p50s = [percentile(each, 50) for each in latencies]
    p99 = median(p99s)
    return [
        Figure(
            "activation_under_bulk_p99_ms",
            milliseconds(p99),
            "",
            f"≤ {milliseconds(GOAL)}",
            p99 <= GOAL,
            f"p50 {milliseconds(median(p50s))}; {shares([bulk.cpu for bulk in bulks], [b.confirmed for b in bulks])}",
            {"p99": p99s, "p50": p50s, "latencies": latencies, "bulks": [asdict(bulk) for bulk in bulks]},
        )
    ]
