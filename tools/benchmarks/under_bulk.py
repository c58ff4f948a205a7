# SPDX-License-Identifier: Apache-2.0
"""Measure handovers while another home agent's snapshot is applied."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TypeVar

from tools.benchmarks.activation import activate, check
from tools.benchmarks.baselines import BareRest
from tools.benchmarks.figures import Figure, median, milliseconds, percentile, shares
from tools.benchmarks.hoaflow import Bulk
from tools.benchmarks.lab import WAITING, Lab, Profiling, new_population, posts
from tools.benchmarks.ports import REFERENCE_REST, REST
from tools.benchmarks.workload import Population, spread

GOAL, TIMES_GOAL = 0.05, 10  # seconds, or times the p99 without a snapshot where that is more
OTHER_HOME_AGENT = 0x98
LONGEST = 60.0  # seconds for which there are handovers to make

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """Record one repetition: the p99 before the snapshot, the snapshot, and the latencies during it, in seconds.

    bare: those of the same requests to a Ryu app without hoaflow.
    """

    alone: float
    bulk: Bulk
    latencies: list[float]
    bare: list[float]


def measure(lab: Lab) -> list[Figure]:
    """Measure `activation_under_bulk_p99_ms`, the handovers that overlap the snapshot alone."""
    other = new_population(lab.plan.bindings, OTHER_HOME_AGENT)
    turns = [_take(lab, other, turn, nullcontext) for turn in range(lab.plan.repetitions)]
    p50s, p99s = ([percentile(turn.latencies, percent) for turn in turns] for percent in (50, 99))
    alone = median([turn.alone for turn in turns])
    bare = [percentile(turn.bare, 99) for turn in turns]
    goal = max(GOAL, TIMES_GOAL * alone)
    bulks = [turn.bulk for turn in turns]
    split = shares([bulk.cpu for bulk in bulks], [bulk.confirmed for bulk in bulks])
    figure = Figure(
        "activation_under_bulk_p99_ms",
        milliseconds(median(p99s)),
        f"without a snapshot {milliseconds(alone)}; bare Ryu with one {milliseconds(median(bare))}",
        f"≤ {milliseconds(goal)}",
        median(p99s) <= goal,
        f"p50 {milliseconds(median(p50s))}; {split}",
        {"p99": p99s, "p50": p50s, "bare_ryu": bare, "turns": [asdict(turn) for turn in turns]},
    )
    return lab.explain([figure], "under-bulk", lambda profiling: _take(lab, other, lab.plan.repetitions, profiling))


def _take(lab: Lab, other: Population, turn: int, watched: Profiling) -> Turn:
    """Measure one repetition, then remove the other home agent's bindings."""
    size = lab.plan.bindings
    hoaflow, population = lab.holding(size)
    if other not in hoaflow.populations:
        hoaflow.add(other)
    alone = activate(lab, hoaflow, population, turn).p99
    with watched():
        bulk, sent = _during(lab, population, turn, (WAITING, REST), lambda: hoaflow.apply(other))
    latencies = _overlapping(sent, bulk.started, bulk.started + bulk.confirmed)
    hoaflow.clear(other)
    lab.settle()
    return Turn(alone, bulk, latencies, _bare(lab, other, turn))


def _during(
    lab: Lab, population: Population, turn: int, to: tuple[str, int], apply: Callable[[], T]
) -> tuple[T, list[tuple[float, float]]]:
    """Move mobile nodes while `apply` goes on; return its result, and of each move when it was due and its latency.

    to: path and port to which the moves are posted.
    """
    size = len(population)
    nodes = spread(size, min(size, int(LONGEST * lab.plan.rate)), turn)
    population.move(nodes)
    with lab.generating(posts(population, nodes, lab.plan.rate, *to)) as generator:
        generator.wait_started()
        applied = apply()
        result = generator.result(stop=True)
    check(result)
    population.stay(nodes[len(result.due) :])
    return applied, list(zip(result.due, result.latencies, strict=True))


def _overlapping(sent: list[tuple[float, float]], started: float, ended: float) -> list[float]:
    """Return the latencies of those moves, each with when it was due, that overlap a time; of all if none does."""
    found = [latency for due, latency in sent if due <= ended and due + latency >= started]
    return found or [latency for _, latency in sent]


def _bare(lab: Lab, other: Population, turn: int) -> list[float]:
    """Return the latencies of such moves during such a snapshot, by a Ryu app without hoaflow."""
    population = new_population(lab.plan.bindings)
    with BareRest(lab.ovs, lab.directory) as app:
        app.report([population.report(time.monotonic())])
        lab.settle()
        snapshot = other.report(time.monotonic())

        def apply() -> tuple[float, float]:
            return time.monotonic(), app.report([snapshot])

        (started, took), sent = _during(lab, population, turn, (app.PREPARED, REFERENCE_REST), apply)
    lab.reference.clear()
    lab.settle()
    return _overlapping(sent, started, started + took)
