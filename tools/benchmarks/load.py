# SPDX-License-Identifier: Apache-2.0
"""Measure snapshots of growing size: time, memory, and the latency of handovers on top of them."""

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from functools import partial

from tools.benchmarks import switch
from tools.benchmarks.activation import Activation, activate, moves
from tools.benchmarks.baselines import BareRest, BareRyu
from tools.benchmarks.figures import Figure, median, milliseconds, paired_ratio, percentile, shares
from tools.benchmarks.hoaflow import Bulk, bridge
from tools.benchmarks.lab import ROUTER, WAITING, Lab, Profiling, new_population, posts
from tools.benchmarks.ports import REFERENCE_REST
from tools.benchmarks.processes import peak_resident_bytes, resident_bytes

BULK_GOAL = 1.2  # times ovs-ofctl
P50_GOAL, P99_GOAL = 3.0, 5.0  # times a bare FlowMod with barrier
# Where the p99 of a bare one is no more than that, the p99 of a handover has to be no more than this. Seconds.
FAST, P99_FAST_GOAL = 0.001, 0.005
BYTES_GOAL = 1000
GROWTH_GOAL = 1.3  # times, per binding, from a tenth to all


@dataclass(slots=True)
class Step:
    """Collect all repetitions at one number of bindings; memory at rest and at its peak in bytes per binding."""

    bindings: int
    bulks: list[Bulk] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Return each snapshot's seconds until the last flow was confirmed."""
        return [bulk.confirmed for bulk in self.bulks]


@dataclass(frozen=True, slots=True)
class Bare:
    """Record what a repetition takes without hoaflow, in seconds.

    fill: all flows by `ovs-ofctl`. changes: single FlowMods by bare Ryu. snapshot: the same request as hoaflow's, to a
    Ryu app that only sends the flows. checked, moves: to one that also checks and keeps bindings.
    """

    fill: float
    changes: list[float]
    snapshot: float
    checked: float
    moves: list[float]


def measure(lab: Lab, wanted: Collection[str]) -> list[Figure]:
    """Return the figures of `bulk`, `activation` and `growth`, as far as `wanted`.

    Each repetition goes from the smaller size to the larger one and ends with the baselines, so that what else the
    machine does meets all of them alike.
    """
    largest = lab.plan.bindings
    steps = [Step(size) for size in ((largest // 10, largest) if "growth" in wanted else (largest,))]
    bare: list[Bare] = []
    for turn in range(lab.plan.repetitions):
        for step in steps:
            _take(lab, step, turn, with_activation=bool({"activation", "growth"} & set(wanted)))
        if turn == 0:
            switch.dump(lab.ovs, bridge(ROUTER)).save(lab.reference.flows)
        lab.end()
        switch.ofctl(lab.ovs, bridge(ROUTER), "del-flows")
        bare.append(_bare(lab, turn))
    figures = []
    if "bulk" in wanted:
        figures += lab.explain(_bulk(steps[-1], bare), "bulk", partial(_bulk_again, lab))
        figures.append(_memory(steps[-1]))
    if "activation" in wanted:
        figures += lab.explain(_activation(steps[-1], bare, _null(lab)), "activation", partial(_activate_again, lab))
    if "growth" in wanted:
        figures.append(_growth(steps))
    return figures


def _take(lab: Lab, step: Step, turn: int, with_activation: bool) -> None:
    """Measure one repetition with a controller and a switch that are empty at first."""
    hoaflow, population = lab.fresh(), new_population(step.bindings)
    pid = hoaflow.controller.pid
    before = resident_bytes(pid)
    hoaflow.add(population)
    step.bulks.append(hoaflow.apply(population))
    lab.settle()
    step.memory.append((resident_bytes(pid) - before) / step.bindings)
    step.peaks.append((peak_resident_bytes(pid) - before) / step.bindings)
    if with_activation:
        step.activations.append(activate(lab, hoaflow, population, turn))


def _bare(lab: Lab, turn: int) -> Bare:
    """Measure the baselines on their own bridge, with as many flows."""
    with BareRyu(lab.ovs, lab.directory) as ryu:
        lab.settle()
        fill = lab.reference.fill()
        lab.settle()
        changes = ryu.latencies(lab.plan.changes, lab.plan.rate)
    lab.reference.clear()
    population = new_population(lab.plan.bindings)
    with BareRest(lab.ovs, lab.directory) as rest:
        lab.settle()
        snapshot = rest.report([population.report(time.monotonic())])
    lab.reference.clear()
    with BareRest(lab.ovs, lab.directory) as rest:
        lab.settle()
        checked = rest.report([population.report(time.monotonic())], rest.CHECKED)
        lab.settle()
        latencies = moves(lab, population, turn, rest.CHECKED, REFERENCE_REST).latencies
    lab.reference.clear()
    lab.settle()
    return Bare(fill, changes, snapshot, checked, latencies)


def _bulk_again(lab: Lab, profiling: Profiling) -> None:
    hoaflow, population = lab.fresh(), new_population(lab.plan.bindings)
    hoaflow.add(population)
    with profiling():
        hoaflow.apply(population)


def _activate_again(lab: Lab, profiling: Profiling) -> None:
    hoaflow, population = lab.holding(lab.plan.bindings)
    with profiling():
        activate(lab, hoaflow, population, lab.plan.repetitions)


def _bulk(step: Step, bare: list[Bare]) -> list[Figure]:
    fills, snapshots = [each.fill for each in bare], [each.snapshot for each in bare]
    checked = [each.checked for each in bare]
    ratio = paired_ratio(step.seconds, fills)
    split = shares([bulk.cpu for bulk in step.bulks], step.seconds)
    answered = median([bulk.answered for bulk in step.bulks])
    return [
        Figure(
            "bulk_ratio",
            f"{ratio:.2f} ({median(step.seconds):.2f} s)",
            f"ovs-ofctl --bundle {median(fills):.2f} s; bare Ryu {paired_ratio(snapshots, fills):.2f},"
            f" checking {paired_ratio(checked, fills):.2f}",
            f"≤ {BULK_GOAL:g}",
            ratio <= BULK_GOAL,
            f"{split}; answered after {answered:.2f} s",
            {
                "hoaflow": [asdict(bulk) for bulk in step.bulks],
                "ovs_ofctl": fills,
                "bare_ryu": snapshots,
                "checking": checked,
            },
        ),
    ]


def _memory(step: Step) -> Figure:
    return Figure(
        "bytes_per_binding",
        f"{median(step.memory):.0f} B",
        "",
        f"≤ {BYTES_GOAL}",
        median(step.memory) <= BYTES_GOAL,
        f"at its peak, while the snapshot was applied, {median(step.peaks):.0f} B",
        {"at_rest": step.memory, "peak": step.peaks},
    )


def _null(lab: Lab) -> list[float]:
    """Return the latencies that the generator measures at the same rate against a server that only answers."""
    population = new_population(min(lab.plan.changes, lab.plan.bindings))
    load = posts(population, list(range(len(population))), lab.plan.rate, WAITING)
    return lab.null_result(load.requests, load.rate).latencies


def _activation(step: Step, bare: list[Bare], null: list[float]) -> list[Figure]:
    split = shares([each.cpu for each in step.activations], [each.elapsed for each in step.activations])
    figures = []
    for percent, goal in ((50, P50_GOAL), (99, P99_GOAL)):
        values = [percentile(each.latencies, percent) for each in step.activations]
        baselines = [percentile(each.changes, percent) for each in bare]
        without = [percentile(each.moves, percent) for each in bare]
        ratio = paired_ratio(values, baselines)
        is_met = ratio <= goal
        if percent == 99 and median(baselines) <= FAST:
            is_met = is_met and median(values) <= P99_FAST_GOAL
        figures.append(
            Figure(
                f"activation_p{percent}_ms",
                f"{milliseconds(median(values))} ({ratio:.1f} times)",
                f"FlowMod + barrier {milliseconds(median(baselines))}; the same by bare Ryu, checking,"
                f" {milliseconds(median(without))} ({paired_ratio(without, baselines):.1f} times)",
                f"≤ {goal:g} times",
                is_met,
                f"{split}; the generator alone takes {milliseconds(percentile(null, percent))}",
                {"hoaflow": values, "bare": baselines, "bare_rest": without, "null_server": percentile(null, percent)},
            )
        )
    return figures


def _growth(steps: list[Step]) -> Figure:
    per_binding = {step.bindings: median(step.seconds) / step.bindings for step in steps}
    fewer, all_ = sizes = sorted(per_binding)
    ratio = per_binding[all_] / per_binding[fewer]
    p99 = {step.bindings: median([each.p99 for each in step.activations]) for step in steps}
    return Figure(
        "growth",
        f"{ratio:.2f} times per binding from {fewer} to {all_}",
        "",
        f"≤ {GROWTH_GOAL:g} times",
        ratio <= GROWTH_GOAL,
        "per binding: "
        + ", ".join(f"{1e6 * per_binding[size]:.0f} µs at {size}" for size in sizes)
        + "; activation p99: "
        + ", ".join(f"{milliseconds(p99[size])} at {size}" for size in sizes),
        {
            str(step.bindings): {
                "seconds": step.seconds,
                "p50": [each.p50 for each in step.activations],
                "p99": [each.p99 for each in step.activations],
            }
            for step in steps
        },
    )
