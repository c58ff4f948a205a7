# SPDX-License-Identifier: Apache-2.0
"""Measure how handovers, leases and other calls fare under twice the rate of handovers that can be answered."""

import ipaddress
import time
from collections import Counter
from dataclasses import dataclass

from tools.benchmarks import switch
from tools.benchmarks.figures import Figure, median, milliseconds, percentile
from tools.benchmarks.generator import LOST, Result
from tools.benchmarks.hoaflow import Hoaflow, bridge
from tools.benchmarks.lab import ROUTER, WAITING, Lab, posts
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.workload import Population, spread

TIMES = 2  # what can be done
LONGER = 2  # times as long as other loads last
AT_ONCE = 1e6  # handovers a second: as fast as connections get free
GOAL = 2.0  # seconds
PAUSE = 0.1  # seconds between others' calls


@dataclass(frozen=True, slots=True)
class Overload:
    """Record one repetition.

    rate: handovers a second that were posted. answers: how many of each kind. latencies and others: seconds, of the
    answers and of others' calls. after: seconds from the end until the newest state was in the switch.
    """

    rate: float
    answers: Counter[str]
    latencies: list[float]
    others: list[float]
    after: float


def measure(lab: Lab) -> list[Figure]:
    """Measure `overload`: handovers posted at `TIMES` the rate at which they can be answered."""
    lapsed_before = len(lab.lapses)
    turns = [_take(lab, turn) for turn in range(lab.plan.repetitions)]
    lab.end()
    lapses = lab.lapses[lapsed_before:]
    answers = sum((turn.answers for turn in turns), Counter[str]())
    after = median([turn.after for turn in turns])
    latencies = [latency for turn in turns for latency in turn.latencies]
    others = [latency for turn in turns for latency in turn.others]
    told = ", ".join(f"{count} {name}" for name, count in sorted(answers.items()))
    return [
        Figure(
            "overload",
            f"newest state after {after:.2f} s; {len(lapses)} lapses, {answers['lost']} connections lost",
            f"{TIMES} times {median([turn.rate for turn in turns]) / TIMES:.0f} handovers/s",
            f"≤ {GOAL:g} s, 0, 0",
            after <= GOAL and not lapses and not answers["lost"],
            f"{told}; p99 {milliseconds(percentile(latencies, 99))}; others' calls p99 "
            f"{milliseconds(percentile(others, 99))}",
            {
                "rates": [turn.rate for turn in turns],
                "answers": dict(answers),
                "after": [turn.after for turn in turns],
                "others_p99": [percentile(turn.others, 99) for turn in turns],
                "lapses": lapses,
            },
        )
    ]


def _take(lab: Lab, turn: int) -> Overload:
    hoaflow, population = lab.holding(lab.plan.bindings)
    size = len(population)
    nodes = spread(size, min(size, lab.plan.singles), 2 * turn)
    population.move(nodes)
    most = lab.generate(posts(population, nodes, AT_ONCE, WAITING))
    rate = TIMES * len(nodes) / most.elapsed
    lab.settle()
    nodes = spread(size, min(size, max(1, int(rate * LONGER * lab.plan.seconds))), 2 * turn + 1)
    population.move(nodes)
    others = []
    with lab.generating(posts(population, nodes, rate, WAITING)) as generator:
        generator.wait_started()
        while (result := generator.result_within(PAUSE)) is None:
            asked = time.monotonic()
            hoaflow.rest.ask("GET", "/v1/home-agents")
            others.append(time.monotonic() - asked)
    after = _settled(lab, hoaflow, population, nodes, result)
    return Overload(rate, Counter(map(_kind, result.statuses)), result.latencies, others, after)


def _kind(status: int) -> str:
    return {200: "active", 201: "active", 202: "late", LOST: "lost"}.get(status, f"refused ({status})")


def _settled(lab: Lab, hoaflow: Hoaflow, population: Population, nodes: list[int], result: Result) -> float:
    """Return the seconds from the last answer until the switch has the newest accepted handovers."""
    ended = time.monotonic()
    taken = [node for node, status in zip(nodes, result.statuses, strict=True) if status in (200, 201, 202)]
    population.stay(set(nodes).difference(taken))
    for node in taken[-lab.plan.changes :]:
        hoaflow.activate(population.binding(node, ended))
    after = time.monotonic() - ended
    flows = "\n".join(switch.dump(lab.ovs, bridge(ROUTER)).flows)
    missing = [node for node in taken if not _leads(population, node, flows)]
    if missing:
        raise Unexpected(f"{len(missing)} of {len(taken)} handovers that were taken are not in the switch")
    return after


def _leads(population: Population, node: int, flows: str) -> bool:
    care_of_address = ipaddress.ip_address(str(population.binding(node, 0.0)["care_of_address"]))
    return f"set_field:{care_of_address}->tun_ipv6_dst" in flows
