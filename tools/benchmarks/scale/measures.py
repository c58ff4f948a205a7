# SPDX-License-Identifier: Apache-2.0
"""Measure a controller at growing numbers of bindings, then under a scan, and when it starts anew."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tools.benchmarks.figures import Figure, milliseconds, percentile
from tools.benchmarks.processes import Stopwatch, cpu_seconds, resident_bytes
from tools.benchmarks.scale.lab import HOME_AGENTS, ScaleLab
from tools.benchmarks.scale.packets import Scan

STEPS = (100, 10, 1)  # of these shares of all bindings, one after the other
_DROPPED = "hoaflow_packet_ins_dropped_total"
IDLE = 30.0  # seconds in which nothing is reported but signs of life
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Step:
    """What one number of bindings took: seconds of the controller's processor, and handovers' delays in seconds."""

    bindings: int
    for_binding: float  # new ones
    for_handover: float
    delays: list[float]
    snapshot: float
    memory: int

    @property
    def p99(self) -> float:
        """Return the 99th percentile of the delays, in seconds."""
        return percentile(self.delays, 99)


def alone(lab: ScaleLab) -> float:
    """Return the p99 of handovers, in seconds, with the lab's routers and few bindings."""
    lab.announce()
    lab.load(lab.plan.bindings)
    lab.connect(lab.dpids)
    lab.warm()
    lab.hand_over(0)  # flows are replaced from here on
    return percentile(lab.hand_over(1).latencies, 99)


def measure(lab: ScaleLab, p99_alone: float, seconds: float = IDLE) -> Iterator[Figure]:
    """Measure everything with the lab's routers; `p99_alone`: with one, as `alone` returns it, in seconds.

    `seconds`: how long nothing happens. Raises TimeoutError, Unexpected.
    """
    plan = lab.plan
    lab.announce()
    lab.load(plan.bindings // STEPS[0])
    lab.connect(lab.dpids)
    lab.warm()
    clock = Stopwatch(lab.pids)
    time.sleep(seconds)
    idle = clock.cpu()["controller"] / clock.elapsed()
    steps = [_step(lab, plan.bindings // share, idle) for share in STEPS]
    last, switch = steps[-1], resident_bytes(lab.pids["ovs-vswitchd"])
    scale = f"{plan.routers} routers, {last.bindings} bindings"
    yield Figure(
        "resident memory of the controller",
        f"{last.memory / GIB:.2f} GiB",
        scale,
        "≤ 2.5 GB",
        last.memory <= 2.5e9,
        samples={str(step.bindings): step.memory for step in steps} | {"ovs-vswitchd": switch},
    )
    whole = last.snapshot
    yield Figure(
        f"snapshots of {HOME_AGENTS} home agents, until all are known",
        f"{whole:.1f} s of processor time",
        scale,
        f"≤ {60 * last.bindings / 1e6:g} s (60 s for a million)",
        whole <= 60 * last.bindings / 1e6,
        "all of them were sent, of which nine in ten were new",
    )
    touched = _touched(lab)
    yield Figure(
        "handover: routers touched",
        str(touched),
        f"{scale}, each home address carried by {lab.carried_by}",
        "those that carry it",
        touched == lab.carried_by,
    )
    yield Figure(
        "handover: the controller's processor time",
        milliseconds(last.for_handover),
        f"{scale}, {len(last.delays)} handovers at {plan.rate:g} a second",
        "≤ 1 ms",
        last.for_handover <= 0.001,
        f"each is sent to {lab.carried_by} switches and waited for by its reporter",
        {str(step.bindings): step.for_handover for step in steps},
    )
    yield _compared("activation p99, 1 router → all", last.p99, p99_alone, 2.0, scale)
    yield Figure(
        "nothing happens: the controller's processor time",
        f"{100 * idle:.0f} % of a core",
        f"{plan.routers} routers, {HOME_AGENTS} home agents, leases of 60 s, agents' of 300 s",
    )
    yield from _growth(steps)
    if lab.scanned:
        yield from _scanned(lab, last, idle, seconds, scale)
    started = time.monotonic()
    lab.restart()
    took, busy = time.monotonic() - started, cpu_seconds(lab.controller.pid)
    yield Figure(
        "controller restart, until all routers are in sync",
        f"{took:.0f} s, {busy:.0f} s of processor time",
        scale,
        "≤ 90 s",
        took <= 90,
        f"its own processor time was {busy:.0f} s, snapshots of all home agents included",
    )


def _step(lab: ScaleLab, bindings: int, idle: float) -> Step:
    """Hold so many bindings, and hand over active mobile nodes; `idle`: processor share while nothing happens."""
    before, clock = lab.held * HOME_AGENTS, Stopwatch(lab.pids)
    lab.load(bindings)
    snapshot = clock.cpu()["controller"] - idle * clock.elapsed()
    new = lab.held * HOME_AGENTS - before
    lab.hand_over(0)
    clock = Stopwatch(lab.pids)
    delays = lab.hand_over(1).latencies
    handovers = clock.cpu()["controller"] - idle * clock.elapsed()
    memory = resident_bytes(lab.controller.pid)
    return Step(before + new, snapshot / (new or before), handovers / len(delays), delays, snapshot, memory)


def _touched(lab: ScaleLab) -> int:
    """Return on how many routers one handover replaces flows: flows go there, which gates never do by a message."""
    before = lab.metrics("hoaflow_flow_messages_total")
    lab.hand_over_one()
    after = lab.metrics("hoaflow_flow_messages_total")
    return sum(count > before[labels] for labels, count in after.items() if 'kind="delete"' in labels)


def _growth(steps: list[Step]) -> Iterator[Figure]:
    """Compare what a new binding and a handover take with the most bindings, and with fewer."""
    first, last = steps[1], steps[-1]  # with the fewest, there were no new ones
    counts = " → ".join(str(step.bindings) for step in (first, last))
    for name, many, few in (
        ("new binding", last.for_binding, first.for_binding),
        ("handover", last.for_handover, first.for_handover),
    ):
        ratio = many / few
        yield Figure(
            f"growth {counts}: processor time for a {name}",
            f"{1e6 * few:.0f} → {1e6 * many:.0f} µs ({ratio:.2f} times)",
            "traffic is the same",
            "≤ 1.3 times",
            ratio <= 1.3,
        )


def _scanned(lab: ScaleLab, calm: Step, idle: float, seconds: float, scale: str) -> Iterator[Figure]:
    """Measure what a packet to an unknown home address takes, and handovers on others while some routers are scanned.

    `idle`: processor share while nothing happens. `seconds`: for how long there are no handovers beside.
    """
    control, prefix = lab.scanned_ovs.directory / "vswitchd.ctl", lab.populations[0].home_prefix
    before, clock = lab.metrics(_DROPPED), Stopwatch(lab.pids)
    with Scan(control, lab.scanned, prefix, lab.plan.packets) as scan:
        time.sleep(max(seconds, 1.0))
    busy = clock.cpu()["controller"] - idle * clock.elapsed()
    after = lab.metrics(_DROPPED)
    held_back = sum(count - before.get(labels, 0) for labels, count in after.items() if 'reason="meter"' in labels)
    told = max(1, scan.sent - round(held_back))
    rate = scan.sent / scan.seconds / len(lab.scanned)
    scaled = f"{scale}; {len(lab.scanned)} routers at {rate:.0f} packets a second each, all the switch took"
    yield Figure(
        "packet to an unknown home address: the controller's processor time",
        f"{1e6 * busy / told:.0f} µs, {100 * busy / clock.elapsed():.0f} % of a core",
        scaled,
        reason=f"of {scan.sent} packets the switches told {told}; the others were held back by their meters",
    )
    with Scan(control, lab.scanned, prefix, lab.plan.packets, seed=2) as scan:
        delays = lab.hand_over(2).latencies
    yield _compared("activation p99 under a scan", percentile(delays, 99), calm.p99, 1.5, scaled)


def _compared(name: str, value: float, baseline: float, limit: float, scale: str) -> Figure:
    ratio = value / baseline
    return Figure(
        name,
        f"{milliseconds(baseline)} → {milliseconds(value)} ({ratio:.1f} times)",
        scale,
        f"≤ {limit:g} times",
        ratio <= limit,
        "by the clock on the wall, and one ovs-vswitchd is all the switches",
    )
