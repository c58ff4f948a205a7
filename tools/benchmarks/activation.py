# SPDX-License-Identifier: Apache-2.0
"""Measure a handover from its POST to the switches' confirmation (`POST /v1/bindings?wait=active`)."""

from dataclasses import dataclass

from tools.benchmarks.figures import percentile
from tools.benchmarks.generator import LOST, Result
from tools.benchmarks.hoaflow import Hoaflow
from tools.benchmarks.lab import WAITING, Lab, posts
from tools.benchmarks.ports import REST
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.workload import Population, spread


@dataclass(frozen=True, slots=True)
class Activation:
    """Record one repetition: latencies and elapsed time in seconds, processor seconds by process."""

    latencies: list[float]
    elapsed: float
    cpu: dict[str, float]

    @property
    def p50(self) -> float:
        """Return the median latency in seconds."""
        return percentile(self.latencies, 50)

    @property
    def p99(self) -> float:
        """Return the 99th percentile of the latencies, in seconds."""
        return percentile(self.latencies, 99)


def activate(lab: Lab, hoaflow: Hoaflow, population: Population, turn: int) -> Activation:
    """Move mobile nodes at the plan's rate and measure until each is active. Raises Unexpected.

    `turn` chooses which ones move.
    """
    clock = Stopwatch(hoaflow.pids)
    result = moves(lab, population, turn, WAITING, REST)
    return Activation(result.latencies, clock.elapsed(), clock.cpu() | {"generator": round(result.cpu, 3)})


def moves(lab: Lab, population: Population, turn: int, path: str, port: int) -> Result:
    """Move mobile nodes at the plan's rate, post that to `path` and return the generator's result. Raises Unexpected.

    `turn` chooses which ones move.
    """
    nodes = spread(len(population), min(lab.plan.changes, len(population)), turn)
    population.move(nodes)
    result = lab.generate(posts(population, nodes, lab.plan.rate, path, port))
    check(result)
    return result


def check(result: Result) -> None:
    """Raise Unexpected if a POST was refused; 202, not active in time, is a valid answer."""
    wrong = [status for status in result.statuses if status not in (200, 201, 202)]
    if LOST in wrong:
        raise Unexpected(f"{wrong.count(LOST)} of {len(result.statuses)} POSTs lost their connection without an answer")
    if wrong:
        raise Unexpected(f"{len(wrong)} of {len(result.statuses)} POSTs were refused, the first with {wrong[0]}")
