# SPDX-License-Identifier: Apache-2.0
"""Measure what being in a cluster costs, and what a second member brings."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tools.benchmarks.cluster import faults
from tools.benchmarks.cluster.lab import ClusterLab, Plan
from tools.benchmarks.figures import Figure, percentile
from tools.benchmarks.hoaflow import switches
from tools.benchmarks.processes import Stopwatch, resident_bytes

TURNS = 2
LIMIT = 1.2  # times what a controller alone takes


@dataclass(frozen=True, slots=True)
class Cost:
    """What a setup takes: seconds until all was loaded, handovers' delays in seconds, the first member's memory."""

    loaded: float
    delays: list[float]
    memory: int
    cpu: dict[str, float]


def measure(directory: Path, plan: Plan) -> Iterator[Figure]:
    """Compare one member of a cluster with a controller alone, and two members with one."""
    plan = replace(plan, seconds=plan.seconds / 3)
    ones, alones = [], []
    for turn in range(TURNS):
        alones.append(_cost(directory / f"alone{turn}", plan, 1, etcd=False))
        ones.append(_cost(directory / f"one{turn}", plan, 1, etcd=True))
    two = _cost(directory / "two", plan, 2, etcd=True)
    one, alone = (min(each, key=lambda cost: sum(cost.cpu.values())) for each in (ones, alones))
    yield from [
        _compared("handover, p99", ones, alones, lambda cost: 1000 * percentile(cost.delays, 99), "ms"),
        _compared("all bindings loaded", ones, alones, lambda cost: cost.loaded, "s"),
        _compared("processor time for that", ones, alones, lambda cost: sum(cost.cpu.values()), "s"),
        _compared("memory", ones, alones, lambda cost: cost.memory / 2**20, "MiB"),
        *(
            Figure(
                f"{plan.bindings} bindings on {plan.routers} routers, {name}",
                f"{plan.bindings * plan.routers / cost.loaded:.0f} activations a second",
                reason=", ".join(f"{process} {seconds:.1f} s" for process, seconds in cost.cpu.items()),
                samples=cost.cpu,
            )
            for name, cost in (("alone", alone), ("1 member", one), ("2 members", two))
        ),
    ]


def _cost(directory: Path, plan: Plan, members: int, etcd: bool) -> Cost:
    with ClusterLab(directory, plan, members, etcd) as lab:
        pids = {member.name: member.pid for member in lab.members} | switches(lab.ovs)
        lab.connect()
        clock = Stopwatch(pids)
        loaded = lab.load()
        cpu, watch = clock.cpu(), lab.watch()
        with lab.roaming() as roaming:
            begin = time.monotonic()
            time.sleep(plan.seconds)
            delays = faults.Bench(lab, roaming, watch).delays(begin, begin + plan.seconds, lab.dpids)
        return Cost(loaded, delays, resident_bytes(lab.members[0].pid), cpu)


def _compared(name: str, ones: list[Cost], alones: list[Cost], figure: Callable[[Cost], float], unit: str) -> Figure:
    """Compare the lowest figures of all turns: whatever else goes on adds to some more than to others."""
    value, alone = min(map(figure, ones)), min(map(figure, alones))
    ratio = value / alone
    return Figure(
        f"member of a cluster: {name}",
        f"{value:.1f} {unit} ({ratio:.2f} of it alone)",
        baseline=f"alone: {alone:.1f} {unit}",
        goal=f"≤ {LIMIT} times alone",
        met=ratio <= LIMIT,
        samples={"value": list(map(figure, ones)), "alone": list(map(figure, alones))},
    )
