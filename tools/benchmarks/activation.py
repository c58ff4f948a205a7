# SPDX-License-Identifier: Apache-2.0
"""How long a handover takes from its POST until the switches have confirmed it: `POST /v1/bindings?wait=active`."""

from dataclasses import dataclass

from tools.benchmarks.figures import percentile
from tools.benchmarks.generator import Result
from tools.benchmarks.hoaflow import Hoaflow
from tools.benchmarks.lab import Lab, posts
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.workload import Population, spread


@dataclass(frozen=True, slots=True)
class Activation:
    """One repetition: latencies in seconds, its duration, processor time by process."""

    latencies: list[float]
    elapsed: float
    cpu: dict[str, float]

    @property
    def p50(self) -> float:
        """The median."""
        return percentile(self.latencies, 50)

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return percentile(self.latencies, 99)


def activate(lab: Lab, hoaflow: Hoaflow, population: Population, turn: int) -> Activation:
    """Mobile nodes move at the plan's rate, others with each `turn`. Raises Unexpected when one does not get active."""
    nodes = spread(len(population), min(lab.plan.changes, len(population)), turn)
    population.move(nodes)
    clock = Stopwatch(hoaflow.pids)
    result = lab.generate(posts(population, nodes, lab.plan.rate, "?wait=active"))
    check(result)
    return Activation(result.latencies, clock.elapsed(), clock.cpu() | {"generator": round(result.cpu, 3)})


def check(result: Result) -> None:
    """Raise Unexpected unless each answer is an active binding, or one that was not active in time."""
    wrong = [status for status in result.statuses if status not in (200, 201, 202)]
    if wrong:
        raise Unexpected(f"{len(wrong)} of {len(result.statuses)} POSTs were refused, the first with {wrong[0]}")
